"""What a caller may set, each with its unit and the reason for its default: `Limits` and `Deflate`."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Deflate", "Limits"]

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one peer may cost, and how long it may take. Sizes in bytes, times in seconds.

    Every default is safe for a server on the open internet. ``None`` takes a limit away, where the
    type allows it: say so only when something else keeps it.

    Raises:
        ValueError: A size or a time below zero.
    """

    message_size: int | None = 1 * MIB
    """The largest message accepted, after inflation: what most servers take. Beyond it: 1009."""

    fragments: int | None = 4096
    """The most fragments of one message: a million empty ones cost a peer nothing. Beyond it: 1009."""

    inbox: int = 64 * KIB
    """Bytes of messages that may wait for the handler before reading from the peer pauses. One
    message of any legal size always fits."""

    outbox: int = 64 * KIB
    """Bytes that may wait for the peer before awaiting a send waits as well."""

    outbox_hard: int = 1 * MIB
    """Bytes that may wait for the peer before a send raises `OutboxFull`: the bound on what a slow
    reader costs when nobody awaits. The last message never counts, so one of any size can be sent."""

    write_timeout: float | None = 20.0
    """Seconds without the peer accepting a byte of what waits for it, then the connection is cut."""

    handshake_timeout: float | None = 10.0
    """Seconds for a request to arrive from its first byte on, for the next one to begin, and for the handshake
    of TLS: one byte a second holds nothing open."""

    head_size: int = 16 * KIB
    """The largest request head: more than any browser sends, cookies included. Beyond it: 431."""

    headers: int = 100
    """The most header lines in a request. Beyond it: 431."""

    ping_interval: float | None = 20.0
    """Seconds of silence after which the peer is asked for a sign of life: below the 30 to 60
    seconds after which proxies drop an idle connection."""

    ping_timeout: float | None = 20.0
    """Seconds for that sign of life, which any byte is, then the connection is cut."""

    close_timeout: float = 10.0
    """Seconds for the closing handshake, then the connection is cut."""

    connections: int | None = None
    """WebSockets open at once in this process, and connections of one server, then 503. ``None``: 80 % of the file
    descriptors that the system allows, so that the rest of the application keeps some."""

    threads: int = 256
    """`def` handlers running at once in this process, each in a thread of its own, then 503."""

    shutdown_timeout: float = 10.0
    """Seconds for the handlers to end once a server stops, then they are cancelled."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value < 0:
                raise ValueError(f"Limits({field.name}={value!r}): must not be below zero")
        if not 0 < self.outbox <= self.outbox_hard:
            raise ValueError(f"Limits(outbox={self.outbox!r}): must be above zero, and not above outbox_hard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deflate:
    """Compression of messages, permessage-deflate (RFC 7692): pass one as ``compression=``.

    Off unless asked for: it costs memory on every connection that uses it, time on every message,
    and where secrets and a stranger's words share a message it can give the secrets away by their
    length (send such a message with ``compress=False``).

    With the defaults, a connection that has talked both ways takes 52 KiB more, and 80 where the client has not
    offered to let its window be set, as browsers do; zlib's own settings would take 300.

    Raises:
        ValueError: A window outside 9 to 15 bits (zlib cannot make raw streams of 8), a memory level
            outside 1 to 9, a level outside -1 to 9, or a threshold below zero.
    """

    server_max_window_bits: int = 12
    """The largest window of what the server sends, 9 to 15 bits; the offer may ask for less."""

    client_max_window_bits: int = 12
    """The largest window of what the client sends, 9 to 15 bits; asked for where the offer allows it."""

    server_no_context_takeover: bool = False
    """Forget the window after each message the server sends: less memory, less compression."""

    client_no_context_takeover: bool = False
    """Ask the client to forget its window after each message."""

    level: int = 6
    """zlib's effort, 0 to 9; -1 is zlib's own choice."""

    memory_level: int = 5
    """zlib's memory for compressing, 1 to 9."""

    threshold: int = 128
    """Messages below this many bytes are sent as they are: they would hardly shrink."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("server_max_window_bits", 9, 15),
            ("client_max_window_bits", 9, 15),
            ("level", -1, 9),
            ("memory_level", 1, 9),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"Deflate({name}={getattr(self, name)!r}): must be from {low} to {high}")
        if self.threshold < 0:
            raise ValueError(f"Deflate(threshold={self.threshold!r}): must not be below zero")
