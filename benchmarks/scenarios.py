"""The scenarios: what is asked of every server, and what counts as the figure."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.processes import LoadClient, ServerProcess
    from benchmarks.servers import EchoServer


@dataclass(frozen=True)
class Sample:
    """What one run against one server gave: the figure that is compared, and further ones that are shown."""

    figure: float
    details: Mapping[str, float] = field(default_factory=dict)
    client_cpu: float | None = None  # the load client's share of its core; near 1 the client is the bound


@dataclass(frozen=True)
class Scenario(ABC):
    """One thing that is measured."""

    name: str
    title: str
    seconds: float  # of one run, without its warm-up

    unit: ClassVar[str]
    details: ClassVar[tuple[str, ...]]  # the names of the further figures, in the order of their columns
    higher_is_better: ClassVar[bool] = True
    every_round: ClassVar[bool] = True

    def excludes(self, server: EchoServer) -> str | None:
        """Why the server cannot take part, if it cannot."""
        return None

    @property
    def time_needed(self) -> float:
        """A guess of the seconds that one run takes, the server's start included."""
        return self.seconds + 1.2

    @abstractmethod
    def measure(self, server: ServerProcess, client: LoadClient) -> Sample:
        """Put the load on a server that has just been started."""


@dataclass(frozen=True)
class Echo(Scenario):
    """Messages that come back."""

    connections: int = 10
    window: int = 1
    size: int = 32
    details = ("messages/s", "MB/s", "p50 µs", "p90 µs", "p99 µs")

    def excludes(self, server: EchoServer) -> str | None:
        if server.most_connections is not None and server.most_connections < self.connections:
            return f"it is given no more than {server.most_connections} connections"
        return None

    def measure(self, server: ServerProcess, client: LoadClient) -> Sample:
        options = ["--connections", str(self.connections), "--window", str(self.window), "--size", str(self.size)]
        result = client.run("echo", server, self.seconds, *options)
        details = {
            "messages/s": result["messages_per_second"],
            "MB/s": result["megabytes_per_second"],
            "p50 µs": result["rtt_p50_us"],
            "p90 µs": result["rtt_p90_us"],
            "p99 µs": result["rtt_p99_us"],
        }
        return Sample(details[self.unit], details, result["cpu_seconds"] / result["seconds"])


class Throughput(Echo):
    """Echoes of small messages: how many a second."""

    unit = "messages/s"


class RoundTrip(Echo):
    """Echoes, one in flight on each connection: how long the median one takes."""

    unit = "p50 µs"
    higher_is_better = False


class Bandwidth(Echo):
    """Echoes of large messages: megabytes of payload a second, in each direction."""

    unit = "MB/s"


@dataclass(frozen=True)
class Handshakes(Scenario):
    """Connections opened and closed."""

    concurrency: int = 16
    unit = "handshakes/s"
    details = ("p50 µs", "p99 µs", "failed")

    def measure(self, server: ServerProcess, client: LoadClient) -> Sample:
        options = ["--concurrency", str(self.concurrency)]
        result = client.run("handshakes", server, self.seconds, *options)
        return Sample(
            result["handshakes_per_second"],
            {"p50 µs": result["rtt_p50_us"], "p99 µs": result["rtt_p99_us"], "failed": result["failed"]},
            result["cpu_seconds"] / result["seconds"],
        )


@dataclass(frozen=True)
class IdleMemory(Scenario):
    """Memory that an open connection takes in the server while nothing is said on it.

    Measured once for each server and not in every round: it does not depend on how busy the machine is.
    """

    connections: int = 5000
    keepalive_seconds: float = 0.0  # how long to wait for the pings, which come after 20 s in most servers; 0: not
    unit = "RSS KB/connection"
    higher_is_better = False
    details = ("PSS KB/connection", "RSS KB after keepalive", "pings", "dropped", "connections")
    every_round = False

    @property
    def time_needed(self) -> float:
        return self.seconds * 2 + 3 + self.keepalive_seconds

    def measure(self, server: ServerProcess, client: LoadClient) -> Sample:
        connections = min(self.connections, server.server.most_connections or self.connections)
        # The first connections load and cache what all share: that is none of theirs.
        with client.hold(server, 10, seconds=60):
            pass
        time.sleep(self.seconds)
        before = server.memory()

        with client.hold(server, connections, seconds=self.keepalive_seconds + 120) as held:
            time.sleep(self.seconds)
            growth = server.memory().growth_since(before, connections)
            details = {"PSS KB/connection": growth.proportional / 1000, "connections": float(connections)}
            if self.keepalive_seconds:
                time.sleep(self.keepalive_seconds)
                later_growth = server.memory().growth_since(before, connections)
                details["RSS KB after keepalive"] = later_growth.resident / 1000
        details["dropped"] = held.result["dropped"]
        if self.keepalive_seconds:
            details["pings"] = held.result["pings"]
        return Sample(growth.resident / 1000, details)


def all_scenarios(*, quick: bool, seconds: float | None, most_connections: int) -> dict[str, Scenario]:
    """By name; `quick` ones are short and small, for a machine that only has to see that everything runs."""
    seconds = seconds or (0.5 if quick else 2.0)
    crowd = min(500 if quick else 2000, most_connections)
    idle = min(500 if quick else 5000, most_connections)
    scenarios: tuple[Scenario, ...] = (
        Throughput(
            "pipelined", "Pipelined echo: 10 connections, 50 messages of 32 bytes in flight on each", seconds, window=50
        ),
        RoundTrip("ping-pong", "Ping-pong: 10 connections, one message of 32 bytes in flight on each", seconds),
        Throughput("crowd", f"Ping-pong of a crowd: {crowd:,} connections", seconds, connections=crowd),
        Bandwidth(
            "large",
            "Large messages: 2 connections, one message of 1 MiB in flight on each",
            seconds,
            connections=2,
            size=1 << 20,
        ),
        Handshakes("handshakes", "Handshakes: 16 connections at a time, opened and closed", seconds),
        IdleMemory(
            "idle",
            f"Memory of {idle:,} idle connections, measured once",
            seconds=0.3 if quick else 1.0,
            connections=idle,
            keepalive_seconds=0.0 if quick else 23.0,
        ),
    )
    return {scenario.name: scenario for scenario in scenarios}
