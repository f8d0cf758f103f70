"""The connection as `async def` handlers have it, on whatever carries it.

Reading ends, sending raises: `read` and iteration simply end when the conversation does, however it ended;
sending on a finished conversation raises `ConnectionClosed`.
"""

from __future__ import annotations

import asyncio
from _thread import get_ident
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import suppress
from threading import Lock
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from .closing import check_close
from .door import Door
from .errors import ConcurrencyError, ConnectionClosed, InvalidMessage, OutboxFull
from .messages import BytesLike, Prepared, as_binary, as_message, as_text, decode_json, encode_json
from .options import Limits
from .receiver import Message
from .request import Request

__all__ = ["Carrier", "Connection", "Sent", "broadcast"]


class Carrier(Protocol):
    """What a connection stands on: the smallest thing that a carrier of bytes and one of messages both give.

    Its methods are called on the loop's thread, but for the two checks, and none of them waits. Its properties are
    plain reads, and messages are taken one at a time, from any thread. It tells the connection what happened by
    `Connection.wake_reader` and `Connection.wake_waiters`.
    """

    messages: deque[Message]
    """What has come and was not read."""

    @property
    def open(self) -> bool:
        """Whether there is somebody to send to."""
        ...

    @property
    def closed(self) -> bool:
        """Whether all is over, the closing handshake included."""
        ...

    @property
    def close_code(self) -> int | None: ...

    @property
    def close_reason(self) -> str | None: ...

    @property
    def latency(self) -> float | None: ...

    @property
    def has_room(self) -> bool:
        """Whether less waits for the peer than `Limits.outbox`, and a turn of the loop is not overdue."""
        ...

    paused: bool
    """The inbox is full, and what the peer sends is not read: call `read_on` when messages were taken."""

    def check_open(self) -> None:
        """Raise `ConnectionClosed` unless there is somebody to send to."""
        ...

    def check_room(self, more: int) -> None:
        """Raise `ConnectionClosed` or `OutboxFull` unless a message can be sent, while *more* bytes come before it.

        Any thread may call it.
        """
        ...

    def send(self, message: Message, compress: bool, *, admitted: bool = False) -> bool:
        """Queue a message, after `check_room` unless it was *admitted* by that; returns `has_room`."""
        ...

    def send_prepared(self, prepared: Prepared, *, admitted: bool = False) -> None:
        """Queue a message that goes to many, likewise."""
        ...

    def read_on(self) -> None:
        """Read what the peer sends again, if the inbox has room."""
        ...

    def flush(self) -> None:
        """Hand everything queued to the transport."""
        ...

    def settle(self) -> bool:
        """The reader finds nothing: write, and read on. True when nothing more will come."""
        ...

    def ping(self, answered: Callable[[float], None]) -> None:
        """Send a ping, or raise `Unsupported`."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""
        ...


class Reader(Protocol):
    """Who waits for a message: a future of the loop, or a thread's signal."""

    def done(self) -> bool: ...

    def set_result(self, result: None, /) -> None: ...


class Sent(Coroutine[Any, Any, None]):
    """What sending returns: drop it, or await it to wait until there is room for more.

    Awaiting raises `ConnectionClosed` if the conversation ends meanwhile. Cancelling the wait does not
    unsend. It is a coroutine to all who ask, so `gather`, `wait_for` and task groups take it; but dropping
    it warns of nothing, neither at run time nor in a type checker.
    """

    __slots__ = ("_wait", "_waiting")

    def __init__(self, wait: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        self._wait = wait
        self._waiting: Coroutine[Any, Any, None] | None = None

    def __await__(self) -> Generator[Any, Any, None]:
        if self._wait is not None:
            yield from self._wait().__await__()

    def send(self, value: Any, /) -> Any:
        if self._wait is None:
            raise StopIteration
        if self._waiting is None:
            self._waiting = self._wait()
        return self._waiting.send(value)

    def throw(
        self,
        typ: Any,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> Any:
        error: Any = typ if val is None else val
        if self._waiting is None:
            raise error
        return self._waiting.throw(error)

    def close(self) -> None:
        if self._waiting is not None:
            self._waiting.close()


_making_a_door = Lock()
"""Two threads that come at once go in by one door."""

_SENT = Sent()
"""Serves every send while there is room."""


class Connection:
    """One WebSocket conversation, for `async def` handlers.

    Made by a host, never by hand. Sending and closing are for any thread; everything else is for tasks of
    the connection's own event loop. Messages are whole, and plain `str` and `bytes`.
    """

    __slots__ = (
        "__weakref__",
        "_door",
        "_limits",
        "_loop",
        "_reader",
        "_thread",
        "_waiters",
        "carrier",
        "request",
        "subprotocol",
    )

    def __init__(
        self,
        carrier: Carrier,
        request: Request,
        *,
        subprotocol: str | None = None,
        limits: Limits | None = None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.request = request
        """What the client asked for when the conversation began."""
        self.subprotocol = subprotocol
        """What was agreed on, or None."""
        self.carrier = carrier
        """What carries it; for hosts."""
        self._limits = limits or Limits()
        self._loop = loop
        self._thread = get_ident()
        self._reader: Reader | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._door: Door | None = None

    def __repr__(self) -> str:
        state = "open" if not self.closed else f"closed {self.close_code or ''}".rstrip()
        return f"<Connection {self.request.path!a} {state}>"

    # ------------------------------------------------------------------------------------------ facts

    @property
    def closed(self) -> bool:
        """Whether sending would raise: the conversation is over, or closing."""
        return not self.carrier.open

    @property
    def close_code(self) -> int | None:
        """How the conversation ended: the peer's code, 1005 for a Close without one, 1006 for none at all, or
        ours where the peer broke the protocol. None while it lasts (RFC 6455 §7.1.5)."""
        return self.carrier.close_code

    @property
    def close_reason(self) -> str | None:
        """The words that came with `close_code`, maybe none; None while the conversation lasts."""
        return self.carrier.close_reason

    @property
    def latency(self) -> float | None:
        """Seconds that the newest answered ping took, the keepalive's included; None before the first."""
        return self.carrier.latency

    # ---------------------------------------------------------------------------------------- reading

    async def read(self) -> Message | None:
        """Read the next message: `str` or `bytes`, or None when the conversation is over.

        Test ``is None``: an empty string is a message. Cancelling loses none.

        Raises:
            ConcurrencyError: Somebody else is reading this connection.
        """
        carrier = self.carrier
        if (not carrier.messages or self._reader is not None) and not await self._wait_for_message():
            return None
        message = carrier.messages.popleft()
        if carrier.paused:
            carrier.read_on()
        return message

    def __aiter__(self) -> Self:
        """Iterate over the messages until the conversation ends."""
        return self

    async def __anext__(self) -> Message:
        carrier = self.carrier
        if (not carrier.messages or self._reader is not None) and not await self._wait_for_message():
            raise StopAsyncIteration
        message = carrier.messages.popleft()
        if carrier.paused:
            carrier.read_on()
        return message

    async def read_json(self) -> Any:
        """Read the next message and decode it as JSON; None when the conversation is over.

        A message that is not JSON closes the peer with 1007 and ends reading. A peer's ``null`` is None too:
        where that matters, `closed` tells the two apart.

        Raises:
            ConcurrencyError: Somebody else is reading this connection.
        """
        message = await self.read()
        if message is None:
            return None
        try:
            return decode_json(message)
        except InvalidMessage as error:
            self.close(error.close_code, str(error))
            return None

    async def _wait_for_message(self) -> bool:
        """Wait until there is one to take; False when none will come."""
        if self._reader is not None:
            raise ConcurrencyError("another task is reading this connection: let one read and hand on")
        carrier = self.carrier
        while True:
            over = carrier.settle()
            if carrier.messages:
                await asyncio.sleep(0)  # what had stalled inflates piece by piece: others have a turn in between
            elif over:
                return False
            else:
                self._reader = waiter = self._loop.create_future()
                try:
                    await waiter
                finally:
                    self._reader = None
            if carrier.messages:
                return True

    # ---------------------------------------------------------------------------------------- sending

    def send_text(self, text: str, *, compress: bool = True) -> Sent:
        """Send *text* as one message: queued at the call, whole and in order.

        ``compress=False`` sends this one as it is, where compression was agreed on.

        Raises:
            ConnectionClosed: The conversation is over.
            OutboxFull: The peer is too slow, and nobody waited; the message is not queued.
            TypeError: *text* is no `str`.
            UnicodeEncodeError: *text* has a lone surrogate.
        """
        return self._send(as_text(text), compress)

    def send_binary(self, data: BytesLike, *, compress: bool = True) -> Sent:
        """Send *data* as one message; see `send_text`. What is not `bytes` is copied at the call."""
        return self._send(as_binary(data), compress)

    def send(self, message: str | BytesLike, *, compress: bool = True) -> Sent:
        """Send *message*, text or binary by its type; see `send_text`."""
        return self._send(as_message(message), compress)

    def send_json(self, value: Any, *, compress: bool = True) -> Sent:
        """Send *value* as a text message of JSON; see `send_text`.

        Raises:
            TypeError, ValueError: JSON cannot tell *value*.
        """
        return self._send(encode_json(value), compress)

    def _send(self, message: Message, compress: bool) -> Sent:
        if get_ident() != self._thread:
            return self._send_from_elsewhere(message, compress)
        try:
            has_room = self.carrier.send(message, compress)
        except ConnectionClosed as error:
            error.connection = self
            raise
        return _SENT if has_room else Sent(self._wait_for_room)

    def send_prepared(self, prepared: Prepared) -> None:
        """Send a message that goes to many and was made ready once; `broadcast` is what calls it.

        Raises:
            ConnectionClosed, OutboxFull: As `send_text` does.
        """
        if get_ident() != self._thread:
            self._post_to_send(self._send_posted_prepared, prepared, size=len(prepared.frame))
            return
        try:
            self.carrier.send_prepared(prepared)
        except ConnectionClosed as error:
            error.connection = self
            raise

    async def flush(self) -> None:
        """Hand all that was sent to the transport now, and wait until there is room for more.

        Rarely needed: what is sent in one turn of the loop leaves together at its end at the latest.

        Raises:
            ConnectionClosed: The conversation is over, or ends meanwhile.
        """
        self._check_open()
        self.carrier.flush()
        await self._wait_for_room()

    async def ping(self) -> float:
        """Send a ping and wait for its answer: the seconds it took (RFC 6455 §5.5.2).

        The host pings by itself (`Limits.ping_interval`); this is for measuring.

        Raises:
            ConnectionClosed: The conversation is over, or ends meanwhile.
            TimeoutError: No answer within `Limits.ping_timeout`; where unread messages fill the inbox, it is not read.
            Unsupported: The host does not let us ping.
        """
        answer: list[float] = []

        def answered(seconds: float) -> None:
            answer.append(seconds)
            self.wake_waiters()

        self._check_open()
        self.carrier.ping(answered)
        try:
            async with asyncio.timeout(self._limits.ping_timeout):
                await self._wait(lambda: bool(answer) or self.closed)
        except TimeoutError:
            raise TimeoutError(f"no answer to the ping within {self._limits.ping_timeout} seconds") from None
        if not answer:
            self._check_open()
        return answer[0]

    def close(self, code: int = 1000, reason: str = "") -> Sent:
        """Close the conversation: begun at the call; await it to wait until the peer has closed too.

        Reading ends at once, and what came unread is dropped. The wait is bounded by `Limits.close_timeout`.
        Closing again does nothing. *reason* is cut at 123 bytes of UTF-8.

        Raises:
            ValueError: *code* may not be sent: 1000 to 1003, 1007 to 1014 and 3000 to 4999 may (RFC 6455 §7.4).
        """
        check_close(code, reason)
        if get_ident() == self._thread:
            self.carrier.close(code, reason)
        else:
            self.post(self.carrier.close, code, reason)
        return Sent(self._wait_until_closed)

    # ---------------------------------------------------------------------------- from other threads

    def post(self, call: Callable[..., object], *args: Any, size: int = 0) -> bool:
        """Have *call* made on the connection's loop, in the order of the posts; for hosts, from any thread.

        False when that loop is closed, and nobody will.
        """
        with _making_a_door:
            if self._door is None:
                self._door = Door(self._loop)
        return self._door.post(call, *args, size=size)

    @property
    def posted(self) -> int:
        """Bytes of messages sent from other threads that have not reached the loop."""
        return 0 if self._door is None else self._door.size

    def _send_from_elsewhere(self, message: Message, compress: bool) -> Sent:
        size = len(message.encode()) if isinstance(message, str) else len(message)
        self._post_to_send(self._send_posted, message, compress, size=size)
        return Sent(self._wait_for_room)

    def _post_to_send(self, call: Callable[..., None], *args: Any, size: int) -> None:
        try:
            self.carrier.check_room(self.posted)
        except ConnectionClosed as error:
            error.connection = self
            raise
        if not self.post(call, *args, size=size):
            raise ConnectionClosed(1006, "the event loop is closed", self)

    def _send_posted(self, message: Message, compress: bool) -> None:
        with suppress(ConnectionClosed):  # it went since the call: as if the message had been lost on the way
            self.carrier.send(message, compress, admitted=True)

    def _send_posted_prepared(self, prepared: Prepared) -> None:
        with suppress(ConnectionClosed):
            self.carrier.send_prepared(prepared, admitted=True)

    # ---------------------------------------------------------------------------------------- waiting

    def await_message(self, reader: Reader) -> None:
        """Wake *reader* when there is a message or the end; for a reader in another thread, on the loop."""
        carrier = self.carrier
        # Settling would answer the peer's Close, which is to wait for what came before it.
        if carrier.messages or carrier.settle() or carrier.messages:
            reader.set_result(None)
        else:
            self._reader = reader

    def forget_reader(self, reader: Reader) -> None:
        """*reader* waits no longer."""
        if self._reader is reader:
            self._reader = None

    def wake_reader(self) -> None:
        """The carrier has messages, or the end, for whoever waits in `read`."""
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(None)

    def wake_waiters(self) -> None:
        """The carrier has room, an answer or the end for whoever waits for those."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def _wait_for_room(self) -> None:
        await asyncio.sleep(0)  # once per 64 KiB at least, so that a firehose starves nobody
        await self._wait(lambda: self.carrier.has_room or self.closed)
        self._check_open()

    async def _wait_until_closed(self) -> None:
        await self._wait(lambda: self.carrier.closed)

    async def _wait(self, done: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            waiting = self._wait(done)
            try:
                there = asyncio.run_coroutine_threadsafe(waiting, self._loop)
            except RuntimeError:
                waiting.close()
                raise ConnectionClosed(1006, "the event loop is closed", self) from None
            await asyncio.wrap_future(there)
            return
        while not done():
            waiter = loop.create_future()
            self._waiters.append(waiter)
            await waiter  # one that is cancelled stays in the list until the next waking, and does no harm

    def _check_open(self) -> None:
        try:
            self.carrier.check_open()
        except ConnectionClosed as error:
            error.connection = self
            raise


class Broadcastable(Protocol):
    """A connection of either colour."""

    def send_prepared(self, prepared: Prepared) -> None: ...


C = TypeVar("C", bound=Broadcastable)


def broadcast(connections: Iterable[C], message: str | BytesLike) -> list[C]:
    """Send *message* to many connections, encoded once, and wait for none of them.

    Returns those that it did not go to: the ones that are closed, and the ones so slow that their
    outbox is full (`Limits.outbox_hard`). It is not compressed.

    Raises:
        TypeError: *message* is neither `str` nor bytes; then it went to nobody.
    """
    prepared = Prepared(message)
    missed: list[C] = []
    for connection in tuple(connections):
        try:
            connection.send_prepared(prepared)
        except (ConnectionClosed, OutboxFull):
            missed.append(connection)
    return missed
