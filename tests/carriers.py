"""Connections with no network: a transport that a test looks into, a peer behind it, and a clock that stands still.

`in_loop` runs an `async def` test on a `Clock`; `connect` makes it a `Line`: a connection of ours, the wire it writes
to, and the peer that hears it. Nothing waits for real time, and at the end nothing may be left over.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, ParamSpec, cast

from wsadapter.capacity import CONNECTIONS, THREADS, admit
from wsadapter.conversation import Conversation
from wsadapter.deflate import Parameters
from wsadapter.errors import Unsupported
from wsadapter.messages import Prepared
from wsadapter.opening import Handler, Opening, is_async
from wsadapter.options import Limits
from wsadapter.receiver import Message
from wsadapter.request import Request
from wsadapter.transports import TransportCarrier

from .streams import Seen, frames_in

P = ParamSpec("P")

KIB = 1024
MIB = 1024 * KIB


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time moves only when a test says so, and which remembers the lines and the errors on it."""

    now = 1000.0

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []
        self.errors: list[dict[str, Any]] = []
        self.set_exception_handler(lambda loop, context: self.errors.append(context))

    def time(self) -> float:
        return self.now


def clock() -> Clock:
    """The one that the test runs on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Clock)
    return loop


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an `async def` test on a `Clock`, and see that no connection, thread or error is left of it."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        before = CONNECTIONS.taken, THREADS.taken
        with asyncio.Runner(loop_factory=Clock) as runner:
            runner.run(_tidily(test(*args, **kwargs)))
        for thread in threading.enumerate():
            if thread.name.startswith("wsadapter "):
                thread.join(10)
        assert (CONNECTIONS.taken, THREADS.taken) == before

    return run


async def _tidily(test: Coroutine[Any, Any, None]) -> None:
    loop = clock()
    try:
        await test
    finally:
        for line in loop.lines:
            line.carrier.abort()
        await until(lambda: all(line.over for line in loop.lines))
    assert [line.over for line in loop.lines] == [1] * len(loop.lines)
    assert not loop.errors, loop.errors


async def turns(count: int = 10) -> None:
    """Let the loop turn some times: more than anything here takes that waits for nothing else."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something holds that a thread or another task is about to bring."""
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up, "what was waited for never came"
        await asyncio.sleep(0)


async def pass_time(seconds: float) -> None:
    """Let time pass, and what is due happen."""
    clock().now += seconds
    await turns()


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and holds it back from the peer while it is `stuck`."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        """What each call of `write` was given."""
        self.stuck = False
        self.half_close = True
        """Whether it can do that; TLS cannot."""
        self.broken = False
        """The peer has reset the connection, and the loop has not seen it yet."""
        self.eof_written = False
        self.closing = False
        self.aborted = False
        self.lost = False
        self.incoming = b""
        """What the peer has sent while reading was paused."""
        self.protocol: asyncio.BufferedProtocol | None = None
        self._line = line
        self._buffer = b""
        self._reading = True
        self._over = False
        self._high = 64 * KIB

    # ---------------------------------------------------------------------------------------- as asyncio has it

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = cast("asyncio.BufferedProtocol", protocol)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._high = high

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert self.protocol is not None
        assert not self.eof_written
        if self.aborted or self.lost:
            return
        assert not self.closing
        self.writes.append(bytes(data))
        self._buffer += data
        if not self.stuck:
            self.take()
        elif len(self._buffer) > self._high and not self._over:
            self._over = True
            self.protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return self.half_close

    def write_eof(self) -> None:
        assert not self.closing
        if self.broken:
            raise OSError("not connected")
        self.eof_written = True
        self._line.ended()

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        assert self._reading
        self._reading = False

    def resume_reading(self) -> None:
        assert not self._reading
        self._reading = True
        asyncio.get_running_loop().call_soon(self._read)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            if not self._buffer:
                asyncio.get_running_loop().call_soon(self.lose)

    def abort(self) -> None:
        self.closing = self.aborted = True
        self._buffer = b""
        asyncio.get_running_loop().call_soon(self.lose)

    # ----------------------------------------------------------------------------------- as the network does it

    def take(self, size: int | None = None) -> None:
        """Let the peer have what waits for it, or the first *size* bytes of that."""
        data, self._buffer = self._buffer[:size], b"" if size is None else self._buffer[size:]
        if data:
            self._line.hear(data)
        if self._over and len(self._buffer) <= self._high // 4:
            self._over = False
            assert self.protocol is not None
            self.protocol.resume_writing()
        if self.closing and not self._buffer:
            self.lose()

    def receive(self, data: bytes) -> None:
        """Bring *data* from the peer."""
        self.incoming += data
        self._read()

    def receive_eof(self) -> None:
        """The peer has closed its side."""
        assert self.protocol is not None
        if not self.lost and not self.protocol.eof_received():
            self.close()

    def lose(self, error: Exception | None = None) -> None:
        """The connection is gone; once."""
        if not self.lost:
            self.lost = self.closing = True
            assert self.protocol is not None
            self.protocol.connection_lost(error)

    def _read(self) -> None:
        while self.incoming and self._reading and not self.closing:
            assert self.protocol is not None
            buffer = cast("memoryview", self.protocol.get_buffer(-1))
            size = min(len(buffer), len(self.incoming))
            buffer[:size], self.incoming = self.incoming[:size], self.incoming[size:]
            self.protocol.buffer_updated(size)


def opening_of(handler: Handler, **options: Any) -> Opening:
    """What `open` makes of *handler*, when the client asked for ``/chat``."""
    defaults: dict[str, Any] = {
        "subprotocol": None,
        "deflate": None,
        "headers": (),
        "limits": None,
        "receive": True,
        "cancel_on_disconnect": False,
    }
    return Opening(
        request=Request(path="/chat"), handler=handler, asynchronous=is_async(handler), **(defaults | options)
    )


class Line:
    """A connection of ours with its wire, and the peer at the other end, who does by itself what a good client does."""

    def __init__(self, handler: Handler | None, *, client: bool, silent: bool, limits: Limits, **opening: Any) -> None:
        self.heard: list[Message] = []
        """The messages that the peer has got."""
        self.silent = silent
        """The peer answers nothing, and does not close when we do."""
        self.over = 0
        """How often we were told that all is over."""
        self.wire = Wire(self)
        self.peer = Conversation(
            client=not client,
            limits=Limits(ping_interval=None, message_size=None, inbox=64 * MIB, outbox_hard=64 * MIB),
            now=clock().now,
            deflate=opening.get("deflate"),
        )
        self.carrier = TransportCarrier(
            opening_of(handler or self._wait, **opening),
            self.wire,
            client=client,
            limits=limits,
            over=lambda carrier: self._count(),
        )
        self.connection = self.carrier.connection

    def say(self, *messages: Message) -> None:
        """The peer sends messages, in one piece."""
        for message in messages:
            self.peer.send(message)
        self.deliver()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """The peer closes."""
        self.peer.close(clock().now, code, reason)
        self.deliver()

    def vanish(self) -> None:
        """The peer goes without a word."""
        self.wire.lose(ConnectionResetError())

    def deliver(self) -> None:
        """What the peer has to send arrives."""
        if (data := self.peer.data_to_send()) and not self.wire.closing:
            self.wire.receive(data)

    def hear(self, data: bytes) -> None:
        """What we sent arrives."""
        self.peer.receive_data(data, clock().now)
        self.heard += self.peer.messages
        self.peer.messages.clear()
        if not self.silent:
            self.peer.settle()
            asyncio.get_running_loop().call_soon(self.deliver)

    def ended(self) -> None:
        """Our side is closed: the peer closes its own."""
        if not self.silent:
            asyncio.get_running_loop().call_soon(self.wire.receive_eof)

    def frames(self) -> list[Seen]:
        """All frames that we sent."""
        return frames_in(b"".join(self.wire.writes))

    def frames_of(self, opcode: int) -> list[bytes]:
        """The payloads of those of one kind."""
        return [seen.payload for seen in self.frames() if seen.opcode == opcode]

    async def _wait(self, connection: object) -> None:
        await asyncio.get_running_loop().create_future()

    def _count(self) -> None:
        self.over += 1


def connect(
    handler: Handler | None = None,
    *,
    limits: Limits | None = None,
    client: bool = False,
    silent: bool = False,
    receive: bool = True,
    cancel_on_disconnect: bool = False,
    subprotocol: str | None = None,
    deflate: Parameters | None = None,
    context: Context | None = None,
    data: bytes = b"",
    **limit: Any,
) -> Line:
    """Open a connection and run *handler* on it; without one it is the test that talks. *limit* is one of `Limits`."""
    limits = limits or Limits(**limit)
    line = Line(
        handler,
        client=client,
        silent=silent,
        limits=limits,
        receive=receive,
        cancel_on_disconnect=cancel_on_disconnect,
        subprotocol=subprotocol,
        deflate=deflate,
        context=context,
    )
    admit(limits, thread=not is_async(handler or line._wait))
    clock().lines.append(line)
    line.carrier.start(data)
    return line


class Silent:
    """The least that a connection can stand on: a carrier of messages that nobody answers on, and without pings."""

    open = True
    closed = False
    close_code = close_reason = latency = None
    has_room = True

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()

    paused = False

    def check_open(self) -> None: ...

    def check_room(self, more: int) -> None: ...

    def send(self, message: Message, compress: bool, *, admitted: bool = False) -> bool:
        return True

    def send_prepared(self, prepared: Prepared, *, admitted: bool = False) -> None: ...

    def flush(self) -> None: ...

    def settle(self) -> bool:
        return False

    def read_on(self) -> None: ...

    def ping(self, answered: Callable[[float], None]) -> None:
        raise Unsupported("ping: the server asgi-x frames for us, and has no verb for it")

    def close(self, code: int, reason: str) -> None: ...
