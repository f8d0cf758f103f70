"""The connection as `def` handlers have it: the same verbs as `wsadapter.Connection`, blocking.

Two things can carry it. An `Inbox` over a connection that lives on an event loop: pings are answered and closes
noticed by the loop, whatever the handler does. Or a blocking socket (`wsadapter.sockets`), where that happens
inside the verbs, so only while one of them is called.
"""

from __future__ import annotations

import asyncio
import threading
from _thread import get_ident
from collections.abc import Coroutine, Generator, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar

from .closing import check_close
from .connection import Connection as AsyncConnection
from .connection import Sent
from .errors import ConcurrencyError, ConnectionClosed, InvalidMessage, OutboxFull
from .messages import BytesLike, Prepared, as_binary, as_message, as_text, decode_json, encode_json
from .options import Limits
from .receiver import Message
from .request import Request

__all__ = ["Carrier", "Connection", "Inbox"]

T = TypeVar("T")


class Carrier(Protocol):
    """What a blocking connection stands on. Its methods may wait, and may be called from any thread."""

    @property
    def open(self) -> bool:
        """Whether there is somebody to send to."""
        ...

    @property
    def close_code(self) -> int | None: ...

    @property
    def close_reason(self) -> str | None: ...

    @property
    def latency(self) -> float | None: ...

    def read(self, timeout: float | None) -> Message | None:
        """Wait for a message; None at the end; `TimeoutError` when none came in time."""
        ...

    def send(self, message: Message, compress: bool) -> None:
        """Queue a message, and wait until there is room for more."""
        ...

    def send_prepared(self, prepared: Prepared) -> None:
        """Queue a message that goes to many, without waiting."""
        ...

    def flush(self) -> None:
        """Hand everything queued to the transport, and wait until there is room for more."""
        ...

    def ping(self) -> float:
        """Send a ping and wait for its answer."""
        ...

    def close(self, code: int, reason: str) -> None:
        """The closing handshake."""
        ...


class Connection:
    """One WebSocket conversation, for `def` handlers.

    Made by a host, never by hand. One thread reads; sending and closing are for any thread. Messages are
    whole, and plain `str` and `bytes`.
    """

    __slots__ = ("__weakref__", "_carrier", "_reading", "request", "subprotocol")

    def __init__(self, carrier: Carrier, request: Request, *, subprotocol: str | None = None) -> None:
        self.request = request
        """What the client asked for when the conversation began."""
        self.subprotocol = subprotocol
        """What was agreed on, or None."""
        self._carrier = carrier
        self._reading = threading.Lock()

    def __repr__(self) -> str:
        state = "open" if not self.closed else f"closed {self.close_code or ''}".rstrip()
        return f"<sync.Connection {self.request.path!a} {state}>"

    # ------------------------------------------------------------------------------------------ facts

    @property
    def closed(self) -> bool:
        """Whether sending would raise: the conversation is over, or closing."""
        return not self._carrier.open

    @property
    def close_code(self) -> int | None:
        """How the conversation ended: the peer's code, 1005 for a Close without one, 1006 for none at all, or
        ours where the peer broke the protocol. None while it lasts (RFC 6455 §7.1.5)."""
        return self._carrier.close_code

    @property
    def close_reason(self) -> str | None:
        """The words that came with `close_code`, maybe none; None while the conversation lasts."""
        return self._carrier.close_reason

    @property
    def latency(self) -> float | None:
        """Seconds that the newest answered ping took, the keepalive's included; None before the first."""
        return self._carrier.latency

    # ---------------------------------------------------------------------------------------- reading

    def read(self, timeout: float | None = None) -> Message | None:
        """Read the next message: `str` or `bytes`, or None when the conversation is over.

        Test ``is None``: an empty string is a message. *timeout* is in seconds; None waits for ever.

        Raises:
            TimeoutError: No message came in time; the connection is as good as before.
            ConcurrencyError: Another thread is reading this connection.
        """
        if not self._reading.acquire(blocking=False):
            raise ConcurrencyError("another thread is reading this connection: let one read and hand on")
        try:
            return self._carrier.read(timeout)
        finally:
            self._reading.release()

    def __iter__(self) -> Iterator[Message]:
        """Iterate over the messages until the conversation ends."""
        while (message := self.read()) is not None:
            yield message

    def read_json(self, timeout: float | None = None) -> Any:
        """Read the next message and decode it as JSON; None when the conversation is over.

        A message that is not JSON closes the peer with 1007 and ends reading. A peer's ``null`` is None too:
        where that matters, `closed` tells the two apart.

        Raises:
            TimeoutError, ConcurrencyError: As `read` does.
        """
        message = self.read(timeout)
        if message is None:
            return None
        try:
            return decode_json(message)
        except InvalidMessage as error:
            self.close(error.close_code, str(error))
            return None

    # ---------------------------------------------------------------------------------------- sending

    def send_text(self, text: str, *, compress: bool = True) -> None:
        """Send *text* as one message, whole and in order, and wait until there is room for more.

        ``compress=False`` sends this one as it is, where compression was agreed on.

        Raises:
            ConnectionClosed: The conversation is over.
            TypeError: *text* is no `str`.
            UnicodeEncodeError: *text* has a lone surrogate.
        """
        self._send(as_text(text), compress)

    def send_binary(self, data: BytesLike, *, compress: bool = True) -> None:
        """Send *data* as one message; see `send_text`."""
        self._send(as_binary(data), compress)

    def send(self, message: str | BytesLike, *, compress: bool = True) -> None:
        """Send *message*, text or binary by its type; see `send_text`."""
        self._send(as_message(message), compress)

    def send_json(self, value: Any, *, compress: bool = True) -> None:
        """Send *value* as a text message of JSON; see `send_text`.

        Raises:
            TypeError, ValueError: JSON cannot tell *value*.
        """
        self._send(encode_json(value), compress)

    def send_prepared(self, prepared: Prepared) -> None:
        """Send a message that goes to many and was made ready once, without waiting; `broadcast` calls it.

        Raises:
            ConnectionClosed: The conversation is over.
            OutboxFull: The peer is too slow; the message is not queued.
        """
        with self._own():
            self._carrier.send_prepared(prepared)

    def flush(self) -> None:
        """Hand all that was sent to the transport now, and wait until there is room for more.

        Raises:
            ConnectionClosed: The conversation is over, or ends meanwhile.
        """
        with self._own():
            self._carrier.flush()

    def ping(self) -> float:
        """Send a ping and wait for its answer: the seconds it took (RFC 6455 §5.5.2).

        Raises:
            ConnectionClosed: The conversation is over, or ends meanwhile.
            TimeoutError: No answer within `Limits.ping_timeout`; where unread messages fill the inbox, it is not read.
            Unsupported: The host does not let us ping.
        """
        with self._own():
            return self._carrier.ping()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the conversation, and wait until the peer has closed too (`Limits.close_timeout`).

        Reading ends at once, and what came unread is dropped. Closing again does nothing more. *reason* is
        cut at 123 bytes of UTF-8.

        Raises:
            ValueError: *code* may not be sent: 1000 to 1003, 1007 to 1014 and 3000 to 4999 may (RFC 6455 §7.4).
        """
        check_close(code, reason)
        self._carrier.close(code, reason)

    def _send(self, message: Message, compress: bool) -> None:
        with self._own():
            self._carrier.send(message, compress)

    @contextmanager
    def _own(self) -> Generator[None, None, None]:
        try:
            yield
        except ConnectionClosed as error:
            error.connection = self
            raise


class Inbox:
    """Carries a `def` handler, which is in a thread, on a connection that lives on an event loop."""

    def __init__(self, connection: AsyncConnection, limits: Limits) -> None:
        """To be made on the loop."""
        self._connection = connection
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._loop_thread = get_ident()

    @property
    def open(self) -> bool:
        return not self._connection.closed

    @property
    def close_code(self) -> int | None:
        return self._connection.close_code

    @property
    def close_reason(self) -> str | None:
        return self._connection.close_reason

    @property
    def latency(self) -> float | None:
        return self._connection.latency

    def read(self, timeout: float | None) -> Message | None:
        connection = self._connection
        messages = connection.carrier.messages
        while True:
            try:
                message = messages.popleft()
            except IndexError:
                pass  # the loop may empty it under our hands, so there is no looking before
            else:
                if connection.carrier.paused:
                    connection.post(connection.carrier.read_on)
                return message
            signal = _Signal()
            if not connection.post(connection.await_message, signal):
                return None  # the loop is closed
            # Once it is over, nobody knows how long the loop still turns.
            if not connection.closed and not signal.wait(timeout):
                connection.post(connection.forget_reader, signal)
                if not connection.closed:
                    raise TimeoutError(f"no message within {timeout} seconds")
            if connection.closed and not messages:
                return None

    def send(self, message: Message, compress: bool) -> None:
        connection = self._connection
        sent = self._send(message, compress)
        if connection.posted > self._limits.outbox or not connection.carrier.has_room:
            self._wait_elsewhere(sent)

    def _send(self, message: Message, compress: bool) -> Sent:
        while True:
            try:
                return self._connection.send(message, compress=compress)
            except OutboxFull:  # by what others have sent
                if get_ident() == self._loop_thread:
                    raise
                self._wait(self._connection.flush())

    def send_prepared(self, prepared: Prepared) -> None:
        self._connection.send_prepared(prepared)

    def flush(self) -> None:
        self._wait(self._connection.flush())

    def ping(self) -> float:
        return self._wait(self._connection.ping())

    def close(self, code: int, reason: str) -> None:
        closing = self._connection.close(code, reason)
        with suppress(ConnectionClosed):  # as it should be
            self._wait_elsewhere(closing)

    def _wait_elsewhere(self, sent: Sent) -> None:
        """Wait for *sent*, which has begun already; but not on the loop's own thread."""
        if get_ident() != self._loop_thread:
            self._wait(sent)

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait in this thread for what is done on the loop.

        Raises:
            ConnectionClosed: The conversation is over, or the loop is closed, or was while we waited.
            RuntimeError: This is the loop's own thread, which would wait for itself.
        """
        if get_ident() == self._loop_thread:
            coroutine.close()
            raise RuntimeError("this would block the event loop that it waits for: call it in another thread")
        carrier = self._connection.carrier
        if self._is_over():
            coroutine.close()
            raise ConnectionClosed(carrier.close_code or 1006, carrier.close_reason or "")
        try:
            waiting = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise ConnectionClosed(1006, "the event loop is closed") from None
        if self._is_over():
            waiting.cancel()  # nobody knows how long the loop still turns
        try:
            return waiting.result()
        except CancelledError:
            reason = carrier.close_reason or "the event loop was shut down"
            raise ConnectionClosed(carrier.close_code or 1006, reason) from None

    def _is_over(self) -> bool:
        return self._connection.carrier.closed


class _Signal:
    """Wakes one thread, once; a future without the rest of it."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def done(self) -> bool:
        return not self._lock.locked()

    def set_result(self, result: None, /) -> None:
        self._lock.release()

    def wait(self, timeout: float | None) -> bool:
        return self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
