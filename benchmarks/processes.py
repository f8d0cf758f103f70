"""The processes of a benchmark: a server on its core, the load client on the other, each ended whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmarks.machine import pin
from benchmarks.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from benchmarks.machine import Cores
    from benchmarks.servers import EchoServer

START_TIMEOUT = 15.0
STOP_TIMEOUT = 5.0
LOAD_TIMEOUT = 60.0  # beyond the seconds the load is asked for: it gives up by itself before
COMPILER_FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra")


class BenchmarkError(Exception):
    """A run gave no figure, and the message says why."""


def end(process: subprocess.Popen[str]) -> None:
    """Ask the process to end, then make it; returns when it has."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


# --- The server -------------------------------------------------------------------------------------------------------


class ServerProcess:
    """One echo server in a process of its own, accepting connections on entering the context and gone after it."""

    def __init__(self, server: EchoServer, loop: str, cores: Cores) -> None:
        self.server = server
        self.loop = loop
        self.cores = cores
        self.port = free_port()

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # closed in __exit__
        self._process = subprocess.Popen(
            (sys.executable, "-m", "benchmarks.servers", self.server.name, str(self.port), "--loop", self.loop),
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            text=True,
        )
        try:
            pin(self._process.pid, self.cores.server)
            self._await_port()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        end(self._process)
        self._log.close()

    def _await_port(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise BenchmarkError(f"the server ended at once: {self.last_words()}")
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise BenchmarkError(f"the server did not listen within {START_TIMEOUT:.0f} s: {self.last_words()}")

    def last_words(self) -> str:
        """The last line that the server logged. For a server that has failed: reading disturbs its writing."""
        self._log.seek(0)
        lines = self._log.read().split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it logged nothing")

    def memory(self) -> Memory:
        """What the server holds now, in bytes."""
        sizes = {}
        for line in Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, value, *_ = line.split()
            sizes[name.rstrip(":")] = int(value) * 1024
        return Memory(sizes["Rss"], sizes["Pss"])


@dataclass(frozen=True)
class Memory:
    """Bytes of a process: all its pages that are in memory, and the same with shared ones divided among their users."""

    resident: int
    proportional: int

    def growth_since(self, before: Memory, connections: int) -> Memory:
        """What has been added, per connection."""
        return Memory(
            (self.resident - before.resident) // connections, (self.proportional - before.proportional) // connections
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


# --- The load ---------------------------------------------------------------------------------------------------------


class LoadClient:
    """The compiled load client of load.c, aimed at one server at a time."""

    def __init__(self, program: Path, cores: Cores) -> None:
        self.program = program
        self.cores = cores

    @classmethod
    def compile(cls, cores: Cores) -> Self:
        """Compile load.c, unless this very source has been compiled before."""
        source = Path(__file__).with_name("load.c")
        compiler = shlex.split(os.environ.get("CC", "cc"))
        if shutil.which(compiler[0]) is None:
            raise BenchmarkError(f"the load client is written in C, and there is no C compiler ({compiler[0]}) here")
        command = (*compiler, *COMPILER_FLAGS)
        key = sha256(source.read_bytes() + "\0".join(command).encode()).hexdigest()[:16]
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsadapter-benchmarks"
        program = cache / f"load-{key}"
        if not program.exists():
            cache.mkdir(parents=True, exist_ok=True)
            unfinished = program.with_suffix(f".{os.getpid()}")  # two runs at once do not spoil each other's
            result = subprocess.run(
                (*command, "-o", unfinished, source), stderr=subprocess.PIPE, text=True, check=False
            )
            if result.returncode:
                raise BenchmarkError(f"the load client did not compile:\n{result.stderr}")
            unfinished.rename(program)
        return cls(program, cores)

    def run(self, mode: str, server: ServerProcess, seconds: float, *options: str) -> dict[str, Any]:
        """Run a load for so many seconds and return its result."""
        with self._start(mode, server, seconds, *options) as process:
            try:
                output, errors = process.communicate(timeout=seconds + LOAD_TIMEOUT)
            except subprocess.TimeoutExpired:
                raise BenchmarkError(f"the load did not end within {seconds + LOAD_TIMEOUT:.0f} s") from None
        return self._result(process, output, errors)

    @contextlib.contextmanager
    def hold(self, server: ServerProcess, connections: int, seconds: float) -> Iterator[HeldConnections]:
        """Keep idle connections open, answering pings, for the context or at most so many seconds."""
        with self._start("idle", server, seconds, "--connections", str(connections)) as process:
            assert process.stdout is not None
            if not process.stdout.readline():
                self._result(process, *process.communicate())
            held = HeldConnections()
            yield held
            output, errors = process.communicate()  # which closes its standard input
            held.result = self._result(process, output, errors)

    @contextlib.contextmanager
    def _start(
        self, mode: str, server: ServerProcess, seconds: float, *options: str
    ) -> Iterator[subprocess.Popen[str]]:
        if server.server.masked_replies:
            options += ("--masked-replies",)
        process = subprocess.Popen(
            (self.program, mode, "--port", str(server.port), "--seconds", str(seconds), *options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            pin(process.pid, self.cores.load)
            yield process
        finally:
            end(process)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    @staticmethod
    def _result(process: subprocess.Popen[str], output: str, errors: str) -> dict[str, Any]:
        if process.returncode or not output:
            raise BenchmarkError(errors.strip() or f"the load client ended with status {process.returncode}")
        result: dict[str, Any] = json.loads(output)
        return result


class HeldConnections:
    """Connections that the load client keeps open; `result` is there when they are no longer."""

    result: dict[str, Any]
