"""One WebSocket conversation with no socket, no thread and no clock of its own.

Bytes in, messages out; messages in, bytes out; time in, deadlines out. What a shell owes it:

* what arrives goes to `receive_data` or `receive_eof`;
* a reader takes from `messages`, and calls `settle` when it finds none and is about to wait;
* what `data_to_send` has is written; `on_time` is called no later than `deadline`. `attention` says that
  there is something to write at once, or a nearer deadline, or the end: whoever sees it sets it to False;
* while `wants_data` is false nothing is read; `pause` and `resume` tell when that begins and ends;
* `report_backlog` is told what the network has not taken;
* once `closed`, the transport goes: cut, if `aborted`; when the peer has closed its side, if it `lingers`;
  otherwise when all is written.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final

from wsproto.events import CloseConnection, Ping, Pong

from .closing import ABNORMAL, check_close, close_payload
from .deflate import Parameters, PerMessageDeflate
from .errors import ConnectionClosed, OutboxFull
from .frames import BINARY, CLOSE, PING, PONG, RSV1, TEXT, build
from .messages import Prepared
from .options import Limits
from .receiver import Event, Message, Receiver

__all__ = ["Conversation", "State"]

GRACE: Final = 1.0
"""Seconds that the peer's Close may wait for the messages that came before it to be read and answered."""

PONGS: Final = 64
"""Unsent pongs that are kept; of more, the newest answers for all (RFC 6455 §5.5.3)."""


class State(Enum):
    """Where a conversation is (RFC 6455 §7.1)."""

    OPEN = "open"
    CLOSING = "closing"
    """Our Close is sent, the peer's has not come."""
    CLOSED = "closed"


class _End:
    """How the peer ended it: what is to be known of it, and the Close that answers it."""

    __slots__ = ("answer", "at", "code", "lingers", "reason")

    def __init__(self, code: int, reason: str, answer: bytes, at: float, lingers: bool) -> None:
        self.code = code
        self.reason = reason
        self.answer = answer
        self.at = at
        self.lingers = lingers


class Conversation:
    """One side of a WebSocket conversation, from the end of the handshake on."""

    __slots__ = (
        "_accepted",
        "_backlog",
        "_client",
        "_close_at",
        "_deflate",
        "_discard",
        "_end",
        "_heard_at",
        "_limits",
        "_ours",
        "_out",
        "_paused",
        "_pinged_at",
        "_pings",
        "_pongs",
        "_progress_at",
        "_reader_waits",
        "_receiver",
        "_threshold",
        "_written",
        "aborted",
        "attention",
        "close_code",
        "close_reason",
        "latency",
        "lingers",
        "messages",
        "now",
        "queued",
        "state",
    )

    def __init__(
        self,
        *,
        client: bool,
        limits: Limits,
        now: float,
        deflate: Parameters | None = None,
        receive: bool = True,
    ) -> None:
        """*client*: which side we are. ``receive=False``: what the peer says is checked and dropped."""
        self.state = State.OPEN
        self.close_code: int | None = None
        """The peer's code, or 1006 and the like; None while the conversation lasts (RFC 6455 §7.1.5)."""
        self.close_reason: str | None = None
        self.latency: float | None = None
        """Seconds that the newest answered ping took, the keepalive's included."""
        self.aborted = False
        self.lingers = False
        self.attention = False
        self.queued = 0
        """Bytes that `data_to_send` has ready, pongs aside."""
        self.now = now
        """The time of the latest call that told it."""

        self._client = client
        self._limits = limits
        self._deflate: PerMessageDeflate | None = None
        self._threshold = 0
        if deflate is not None:
            self._deflate = PerMessageDeflate(deflate, client=client, limit=limits.message_size)
            self._threshold = max(1, deflate.ours.threshold)  # nothing cannot be compressed
        self._receiver = Receiver(client=client, limits=limits, deflate=self._deflate)
        self.messages: deque[Message] = self._receiver.messages
        """What has come and was not read yet."""
        self._discard = not receive
        self._paused = False
        self._reader_waits = False
        self._ours = ABNORMAL, ""  # what our Close said, while it is not answered
        self._end: _End | None = None  # come, and waiting for the messages before it to be read

        self._out: list[bytes] = []
        self._pongs: deque[bytes] | None = None
        self._pings: dict[bytes, tuple[float, Callable[[float], None] | None]] = {}
        self._written = 0  # bytes handed out by `data_to_send`,
        self._backlog = 0  # what of them the network has not taken,
        self._accepted = 0  # and what it has,
        self._progress_at = now  # with the time that it last took some

        self._heard_at = now
        self._pinged_at: float | None = None  # when the keepalive asked, and was not answered yet
        self._close_at = 0.0  # when our Close was sent, or all was over

    def __repr__(self) -> str:
        side = "client" if self._client else "server"
        code = "" if self.close_code is None else f" {self.close_code}"
        return f"<Conversation {side} {self.state.value}{code}>"

    @property
    def closed(self) -> bool:
        """Both sides have closed, or the connection is lost: nothing goes either way any more."""
        return self.state is State.CLOSED

    # ---------------------------------------------------------------------------------------- reading

    def receive_data(self, data: bytes, now: float) -> None:
        """Take what has arrived, and put the messages in it into `messages`."""
        self.now = self._heard_at = now
        self._pinged_at = None
        if self.state is State.CLOSED:
            return
        events = self._receiver.receive(data)
        if self.messages:
            self._reader_waits = False
        if events or self._discard:
            self._take(events)

    def receive_eof(self, now: float, reason: str = "the connection was lost without a Close") -> None:
        """The peer has closed its side of the transport, or it is lost: *reason* says what is known."""
        self.now = now
        if self._end is not None:
            self._finish(self._end)
        if self.state is not State.CLOSED:
            self._abort(reason)

    @property
    def owes_answer(self) -> bool:
        """The peer has ended in order, and the messages before that are still to be read and answered: an end of its
        side of the transport is no loss yet."""
        return self._end is not None

    def settle(self) -> bool:
        """The reader finds nothing: answer a Close that waited for that. True when nothing more will come.

        When False, `messages` may have some after all: what had stalled is read on.
        """
        self._receiver.size = 0
        if self._receiver.stalled:
            self._take(self._receiver.receive(b""))
            if self.messages:
                return False
        self._reader_waits = True
        if self._end is not None:
            self._finish(self._end)
        return self.state is not State.OPEN

    @property
    def wants_data(self) -> bool:
        """Whether the inbox has room. It has when it is empty, so a message of any legal size fits."""
        return self._receiver.size <= self._limits.inbox or not self.messages

    def pause(self) -> None:
        """The shell stops reading: what follows is our silence, and the keepalive asks but blames nobody."""
        self._paused = True

    def resume(self, now: float) -> None:
        """The shell reads again: the keepalive begins anew."""
        self.now = self._heard_at = now
        self._pinged_at = None
        self._paused = False

    def _take(self, events: list[Event]) -> None:
        """Act on what came beside the messages."""
        while self._discard:
            self.messages.clear()
            self._receiver.size = 0
            if not self._receiver.stalled:
                break
            events += self._receiver.receive(b"")
        for event in events:
            self.attention = True
            match event:
                case Ping():
                    self._answer(bytes(event.payload))
                case Pong():
                    self._take_pong(bytes(event.payload))
                case CloseConnection():
                    # The answer repeats the code (RFC 6455 §5.5.1), not the words.
                    code = int(event.code)
                    self._end_with(code, event.reason or "", close_payload(code))
                case _:
                    code, reason = event.close_code, str(event)
                    self._end_with(code, reason, close_payload(code, reason), lingers=True)

    def _end_with(self, code: int, reason: str, answer: bytes, *, lingers: bool = False) -> None:
        end = _End(code, reason, answer, self.now + GRACE, lingers)
        if self.state is State.CLOSING or self._discard or (self._reader_waits and not self.messages):
            self._finish(end)
        else:
            self._end = end

    def _finish(self, end: _End) -> None:
        """Answer the peer's end, and be over."""
        self._end = None
        if self.state is State.OPEN:
            self._queue_pongs()
            self._queue(CLOSE, end.answer)
        # The server closes the transport first, so that the client keeps no TIME_WAIT (RFC 6455 §7.1.1).
        self._be_closed(end.code, end.reason, lingers=end.lingers or self._client)

    # ---------------------------------------------------------------------------------------- writing

    def send(self, message: Message, *, compress: bool = True, admitted: bool = False) -> None:
        """Queue one message; *admitted* says that `check_room` has let it pass.

        Raises:
            ConnectionClosed: The conversation is over, or closing.
            OutboxFull: `Limits.outbox_hard` is reached; the message is not queued.
            UnicodeEncodeError: A lone surrogate, which UTF-8 cannot tell; the message is not queued.
        """
        if self.state is not State.OPEN:
            self.check_open()
        if self._backlog + self.queued > self._limits.outbox_hard and not admitted:
            self.check_room()
        opcode, payload = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
        if self._deflate is not None and compress and len(payload) >= self._threshold:
            opcode, payload = RSV1 | opcode, self._deflate.deflate(payload)
        frame = build(opcode, payload, self._client)
        self._out.append(frame)
        self.queued += len(frame)

    def send_prepared(self, prepared: Prepared, *, admitted: bool = False) -> None:
        """Queue one message that goes to many, uncompressed; a server's frame is the same for all (RFC 6455 §5.3).

        Raises:
            ConnectionClosed, OutboxFull: As `send` does.
        """
        if self._client:  # whose every frame has a mask of its own
            self.send(prepared.message, compress=False, admitted=admitted)
            return
        self.check_open()
        if not admitted:
            self.check_room()
        self._out.append(prepared.frame)
        self.queued += len(prepared.frame)

    def ping(self, now: float, answered: Callable[[float], None] | None = None) -> None:
        """Send a ping; *answered* is called with the seconds it took, if the answer comes (RFC 6455 §5.5.2).

        Raises:
            ConnectionClosed: The conversation is over, or closing.
        """
        self.check_open()
        payload = os.urandom(4)
        self._pings[payload] = (now, answered)
        self._queue(PING, payload)
        self.attention = True

    def data_to_send(self) -> bytes:
        """Everything that is to be written now, once; empty when there is nothing."""
        out = self._out
        self._queue_pongs()
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self.queued = 0
        self._written += len(data)
        return data

    @property
    def has_data(self) -> bool:
        """Whether `data_to_send` has anything."""
        return bool(self._out or (self._pongs and self._backlog <= self._limits.outbox))

    @property
    def has_room(self) -> bool:
        """Whether less than `Limits.outbox` waits for the peer."""
        return self.waiting < self._limits.outbox

    @property
    def waiting(self) -> int:
        """Bytes that wait for the peer to take them."""
        return self._backlog + self.queued

    def report_backlog(self, size: int, now: float, unacknowledged: int = 0) -> None:
        """Tell how many bytes of what was written the network has not taken.

        *unacknowledged* are those that it has and the peer has not, where that is known: what the peer takes
        is a sign of its life, though it may be long in coming to the ping behind it.
        """
        self.now = now
        accepted = self._written - size - unacknowledged
        if accepted > self._accepted or not self._backlog:
            self._progress_at = now
        if accepted > self._accepted and self._backlog:
            self._heard_at = now
            self._pinged_at = None
        self._accepted = accepted
        self._backlog = size

    def check_open(self) -> None:
        """Raise `ConnectionClosed` unless there is somebody to send to."""
        if self.state is not State.OPEN:
            code, reason = self._ours if self.close_code is None else (self.close_code, self.close_reason or "")
            raise ConnectionClosed(code, reason)

    def check_room(self, more: int = 0) -> None:
        """Raise `ConnectionClosed` or `OutboxFull` unless one more message can be sent.

        *more* bytes are on their way here. The message to come does not count: one of any size can be sent.
        """
        self.check_open()
        if self.waiting + more > self._limits.outbox_hard:
            raise OutboxFull(
                f"{self.waiting + more} bytes wait for a peer that does not take them:"
                " await the sends, or flush(), to go at its pace"
            )

    def _queue(self, opcode: int, payload: bytes) -> None:
        frame = build(opcode, payload, self._client)
        self._out.append(frame)
        self.queued += len(frame)

    def _queue_pongs(self) -> None:
        # Before what waits: whoever asked is measuring. They stay apart while the network takes nothing.
        if self._pongs and self._backlog <= self._limits.outbox:
            self._out[:0] = [build(PONG, payload, self._client) for payload in self._pongs]
            self._pongs = None

    def _answer(self, payload: bytes) -> None:
        if self.state is not State.OPEN:
            return  # nothing may follow our Close (RFC 6455 §5.5.1)
        if self._pongs is None:
            self._pongs = deque()
        elif len(self._pongs) >= PONGS:
            self._pongs.clear()
        self._pongs.append(payload)

    def _take_pong(self, payload: bytes) -> None:
        # The peer may answer the newest for all, or say one that nobody asked for (RFC 6455 §5.5.3).
        while payload in self._pings:
            sent_at, answered = self._pings.pop(next(iter(self._pings)))
            self.latency = self.now - sent_at
            if answered is not None:
                answered(self.latency)

    # ---------------------------------------------------------------------------------------- closing

    def close(self, now: float, code: int = 1000, reason: str = "") -> None:
        """Begin the closing handshake, or end the peer's; reading ends. Once is enough (RFC 6455 §7.1.2).

        Raises:
            ValueError: A code that may not be sent.
        """
        check_close(code, reason)
        self.now = now
        if self.state is not State.OPEN:
            return
        self.messages.clear()
        if self._end is not None:
            if not self._end.lingers:  # a violation is answered with its own code (RFC 6455 §7.1.7)
                self._end.answer = close_payload(code, reason)
            self._finish(self._end)
            return
        self._queue_pongs()
        self._queue(CLOSE, close_payload(code, reason))
        self._ours = code, reason
        self.state = State.CLOSING
        self.attention = True
        self._close_at = now
        self._discard = True
        self._pongs = None
        self._pings.clear()
        self._take([])  # what had stalled is read on: the peer's Close may be in it

    def _abort(self, reason: str) -> None:
        """Have the transport cut; *reason* tells why, unless the peer had ended it before."""
        if self._end is not None:
            self._finish(self._end)
        if self.state is not State.CLOSED:
            self._be_closed(ABNORMAL, reason)
        self.aborted = self.attention = True
        self._out.clear()
        self.queued = 0

    def _be_closed(self, code: int, reason: str, *, lingers: bool = False) -> None:
        self.state = State.CLOSED
        self.attention = True
        self.close_code = code
        self.close_reason = reason
        self.lingers = lingers
        self._close_at = self.now
        self._pongs = None
        self._pings.clear()

    # ------------------------------------------------------------------------------------------- time

    def deadline(self) -> float | None:
        """When `on_time` is to be called if nothing happens before; None: never."""
        return min((at for at, _ in self._due()), default=None)

    def on_time(self, now: float) -> None:
        """Do what is due."""
        self.now = now
        for at, act in list(self._due()):
            if at <= now:
                act()

    def _due(self) -> list[tuple[float, Callable[[], None]]]:
        """What will be due if nothing happens, and what is to be done then."""
        limits = self._limits
        due: list[tuple[float, Callable[[], None]]] = []
        if self.aborted:
            return due
        if self.state is not State.OPEN:
            due.append((self._close_at + limits.close_timeout, self._give_up_closing))
        elif self._end is not None:
            due.append((self._end.at, self._finish_anyway))
        elif self._paused:
            # No answer can come, but a peer that is lost is met by what is sent to it.
            if limits.ping_interval is not None:
                due.append((max(self._heard_at, self._pinged_at or 0.0) + limits.ping_interval, self._ask))
        elif self._pinged_at is None:
            if limits.ping_interval is not None:
                due.append((self._heard_at + limits.ping_interval, self._ask))
        elif limits.ping_timeout is not None:
            due.append((self._pinged_at + limits.ping_timeout, self._give_up))
        if self._backlog and limits.write_timeout is not None:
            due.append((self._progress_at + limits.write_timeout, self._give_up_writing))
        return due

    def _ask(self) -> None:
        # Earlier ones that nobody waits for go: a peer may talk for days and answer none.
        self._pings = {payload: ping for payload, ping in self._pings.items() if ping[1] is not None}
        self.ping(self.now)
        self._pinged_at = self.now

    def _finish_anyway(self) -> None:
        if self._end is not None:
            self._finish(self._end)

    def _give_up(self) -> None:
        self._abort(f"no sign of life within {self._limits.ping_timeout:g} seconds of a ping")

    def _give_up_writing(self) -> None:
        self._abort(f"the peer took nothing for {self._limits.write_timeout:g} seconds")

    def _give_up_closing(self) -> None:
        self._abort(f"no Close from the peer within {self._limits.close_timeout:g} seconds of ours")
