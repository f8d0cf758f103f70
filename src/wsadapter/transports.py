"""Carries a connection over an asyncio transport: bytes come in by the loop, and go out once a turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar, Final
from weakref import WeakKeyDictionary

from .capacity import CONNECTIONS
from .connection import Connection
from .conversation import Conversation, State
from .handlers import Session
from .kernel import unacknowledged
from .messages import Prepared
from .opening import Opening
from .options import Limits
from .receiver import Message

__all__ = ["TransportCarrier", "half_close"]


READ_SIZE: Final = 64 * 1024
"""Bytes that one read takes at most: what they hold is worked off in one turn of the loop."""


class Turn:
    """What the carriers of one loop share: who has something to write at the end of its turn, and a buffer."""

    __slots__ = ("_carriers", "buffer")

    _of_loops: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Turn]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._carriers: list[TransportCarrier] = []
        self.buffer = memoryview(bytearray(READ_SIZE))
        """What arrives is read into it."""

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Turn:
        """The one of *loop*."""
        turn = cls._of_loops.get(loop)
        if turn is None:
            turn = cls._of_loops[loop] = cls()  # without the loop, which it would keep alive
        return turn

    def add(self, carrier: TransportCarrier, loop: asyncio.AbstractEventLoop) -> None:
        """Let *carrier* write at the end of this turn."""
        if not self._carriers:
            loop.call_soon(self._end)
        self._carriers.append(carrier)

    def _end(self) -> None:
        carriers, self._carriers = self._carriers, []
        for carrier in carriers:
            carrier.end_turn()


def half_close(transport: asyncio.Transport) -> None:
    """Say that no more will come, and let the peer read to the end; where that cannot be, close."""
    try:
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()
    except OSError:  # the peer is gone, and the loop does not know it yet
        transport.abort()


class TransportCarrier(asyncio.BufferedProtocol):
    """The protocol of a transport whose handshake is done, and the carrier of the connection on it.

    It decides nothing: `Conversation` does. It moves bytes, keeps one timer, and wakes who waits.
    """

    __slots__ = (
        "_blocked",
        "_closed_here",
        "_closing",
        "_conversation",
        "_in_turn",
        "_loop",
        "_over",
        "_peer_ended",
        "_timer",
        "_transport",
        "_turn",
        "_turn_is_due",
        "connection",
        "messages",
        "paused",
        "session",
    )

    def __init__(
        self,
        opening: Opening,
        transport: asyncio.Transport,
        *,
        client: bool = False,
        limits: Limits,
        over: Callable[[TransportCarrier], None],
    ) -> None:
        """*over* is called when the transport is gone and the handler has ended."""
        loop = asyncio.get_running_loop()
        self._conversation = Conversation(
            client=client,
            limits=limits,
            now=loop.time(),
            deflate=opening.deflate,
            receive=opening.receive,
        )
        self.messages = self._conversation.messages
        self.connection = Connection(self, opening.request, subprotocol=opening.subprotocol, limits=limits, loop=loop)
        self.session = Session(opening, self.connection, limits, self._end_if_over)
        self._transport: asyncio.Transport | None = transport
        self._loop = loop
        self._over = over
        self._turn = Turn.of(loop)
        self._in_turn = False  # `_turn` has us
        self._turn_is_due = False  # much was sent in this turn: whoever waits for room waits for its end
        self._blocked = False  # the transport holds more than it likes
        self.paused = False
        self._closed_here = False
        self._peer_ended = False  # its side of the transport is closed: there is nothing to linger for
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        transport.set_write_buffer_limits(high=limits.outbox)

    def start(self, data: bytes) -> None:
        """Take the transport over, with the bytes that came behind the request, and run the handler."""
        assert self._transport is not None
        self._transport.set_protocol(self)
        self.session.start()
        self._arm()
        if data:
            self.data_received(data)

    # ------------------------------------------------------------------------- what the transport calls

    def get_buffer(self, sizehint: int) -> memoryview:
        # One buffer for all: between this call and the next nothing else runs. A plain protocol is given new
        # bytes by every read, of 256 KiB to be shrunk, which costs several times what the read itself does.
        return self._turn.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(self._turn.buffer[:nbytes].tobytes())

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        conversation = self._conversation
        conversation.receive_data(data, self._loop.time())
        if self.messages:
            self.connection.wake_reader()
            if not conversation.wants_data:
                self._pause()
        if conversation.attention:
            self._attend()

    def eof_received(self) -> bool:
        assert self._transport is not None
        stays = self._conversation.owes_answer and self._transport.can_write_eof()
        if not stays:
            self._conversation.receive_eof(self._loop.time())
            self._attend()
        self._peer_ended = True
        return stays

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._conversation.receive_eof(self._loop.time())
        self._attend()
        if self._timer is not None:
            self._timer.cancel()
        CONNECTIONS.give_back()
        self._end_if_over()

    def pause_writing(self) -> None:
        self._blocked = True
        self._report()
        self._arm()

    def resume_writing(self) -> None:
        self._blocked = False
        self._report()
        self.flush()
        self.connection.wake_waiters()

    # ----------------------------------------------------------------------- what the connection calls

    @property
    def open(self) -> bool:
        return self._conversation.state is State.OPEN

    @property
    def closed(self) -> bool:
        return self._conversation.closed

    @property
    def close_code(self) -> int | None:
        return self._conversation.close_code

    @property
    def close_reason(self) -> str | None:
        return self._conversation.close_reason

    @property
    def latency(self) -> float | None:
        return self._conversation.latency

    @property
    def has_room(self) -> bool:
        return not self._turn_is_due and self._conversation.has_room

    def check_open(self) -> None:
        self._conversation.check_open()

    def check_room(self, more: int) -> None:
        self._conversation.check_room(more)

    def send(self, message: Message, compress: bool, *, admitted: bool = False) -> bool:
        self._conversation.send(message, compress=compress, admitted=admitted)
        return self._has_sent()

    def send_prepared(self, prepared: Prepared, *, admitted: bool = False) -> None:
        self._conversation.send_prepared(prepared, admitted=admitted)
        self._has_sent()

    def flush(self) -> None:
        if self._transport is not None and (data := self._conversation.data_to_send()):
            self._transport.write(data)
            if self._blocked:
                self._report()

    def settle(self) -> bool:
        over = self._conversation.settle()
        self.read_on()
        if self._conversation.attention:
            self._attend()
        else:
            self.flush()
        return over

    def ping(self, answered: Callable[[float], None]) -> None:
        self._conversation.ping(self._loop.time(), answered)
        self.read_on()  # or the answer would not come
        self._attend()

    def close(self, code: int, reason: str) -> None:
        self._closed_here = self._closed_here or self.open
        self._conversation.close(self._loop.time(), code, reason)
        if self.paused:
            self._resume()
        self._attend()

    # ---------------------------------------------------------------------------- what the server calls

    def shut_down(self) -> None:
        """The server stops: reading ends, the peer is told, and a handler opened so is cancelled."""
        self.close(1001, "the server is shutting down")
        self.session.disconnect()

    def abort(self) -> None:
        """The time to end is over: cut the transport, and cancel the handler."""
        if self._transport is not None:
            self._transport.abort()
        self.session.cancel()

    # ------------------------------------------------------------------------------------- moving bytes

    def _has_sent(self) -> bool:
        """At the end of this turn it is written, or now if it is much; returns `has_room`."""
        if not self._in_turn:
            self._in_turn = True
            self._turn.add(self, self._loop)
        if not self._conversation.has_room:
            self._turn_is_due = True
            self.flush()
        return not self._turn_is_due

    def end_turn(self) -> None:
        """The turn of the loop in which something was sent is at its end."""
        self._in_turn = False
        self.flush()
        if self._turn_is_due:
            self._turn_is_due = False
            self.connection.wake_waiters()

    def _attend(self) -> None:
        """Do what the conversation asks for, and tell whom it concerns."""
        conversation = self._conversation
        conversation.attention = False
        self.flush()
        if not self.open:
            self.connection.wake_reader()
            self.connection.wake_waiters()
        if conversation.closed:
            self._close_transport()
        self._arm()

    def _close_transport(self) -> None:
        transport = self._transport
        if not self._closing:
            self._closing = True
            if not self._closed_here:
                self.session.disconnect()
            if transport is not None and not self._conversation.aborted:
                if self.paused:
                    self._resume()
                if self._conversation.lingers and not self._peer_ended:
                    half_close(transport)
                else:
                    transport.close()
        if transport is not None and self._conversation.aborted:
            transport.abort()

    def _pause(self) -> None:
        if not self.paused and not self._closing and self._transport is not None:
            self.paused = True
            self._conversation.pause()
            self._transport.pause_reading()

    def read_on(self) -> None:
        if self.paused and self._conversation.wants_data:
            self._resume()

    def _resume(self) -> None:
        self.paused = False
        self._conversation.resume(self._loop.time())
        if self._transport is not None:
            self._transport.resume_reading()
        self._arm()  # the keepalive may have a nearer deadline now

    def _report(self) -> None:
        assert self._transport is not None
        size = self._transport.get_write_buffer_size()
        sent = unacknowledged(self._transport.get_extra_info("socket"))
        self._conversation.report_backlog(size, self._loop.time(), sent)

    # --------------------------------------------------------------------------------------------- time

    def _arm(self) -> None:
        """See that the timer rings no later than the conversation's next deadline."""
        at = None if self._transport is None else self._conversation.deadline()
        if at is None or (self._timer is not None and self._timer.when() <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._report()  # what was left when the transport asked for more may have gone by now
        self._conversation.on_time(self._loop.time())
        self._attend()

    def _end_if_over(self) -> None:
        if self._transport is None and self.session.ended:
            self._over(self)
