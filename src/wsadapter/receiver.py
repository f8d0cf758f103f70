"""The receiving side of a conversation: bytes in, messages and control frames out, nothing above the limits.

The fast lane (`frames`) takes what it can; wsproto takes and judges the rest, frame by frame. It is wsproto
that says what breaks the protocol; what is ours is told here: sizes and counts, before anything is buffered.
"""

from __future__ import annotations

import sys
from collections import deque
from struct import unpack_from
from typing import Final, NamedTuple, TypeAlias, cast

from wsproto.connection import Connection as FrameParser
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from .closing import BAD_GATEWAY
from .deflate import PerMessageDeflate
from .errors import InvalidMessage, MessageTooBig, ProtocolError
from .frames import apply_mask, scan
from .options import Limits

__all__ = ["Event", "Message", "Receiver"]

Message: TypeAlias = str | bytes
"""One message: text is `str`, binary is `bytes`."""

Event: TypeAlias = Ping | Pong | CloseConnection | ProtocolError
"""What is no message: a control frame of the peer's, or how it broke the protocol. The last two end all."""

COLLECT: Final = 64 * 1024
"""Above this many bytes the payload of a plain frame is collected here: wsproto would copy it piece by piece."""


OVERHEAD: Final = 64
"""Bytes that a message counts for beside its own: what Python takes for a small one."""


class _Header(NamedTuple):
    first: int  # FIN, RSV1-3 and the opcode (RFC 6455 §5.2)
    masked: bool
    size: int  # of the payload
    end: int  # where in the data the payload starts


class Receiver:
    """Takes bytes however they are cut, and ends for good at a Close or the first violation."""

    __slots__ = (
        "_client",
        "_collected",
        "_compressed",
        "_deflate",
        "_fragments",
        "_limits",
        "_missing",
        "_parser",
        "_pieces",
        "_plain",
        "_size",
        "_size_limit",
        "_tail",
        "messages",
        "over",
        "size",
        "stalled",
    )

    def __init__(self, *, client: bool, limits: Limits, deflate: PerMessageDeflate | None = None) -> None:
        """*client*: which side we are. *deflate*: what was agreed on, if anything was."""
        self.messages: deque[Message] = deque()
        """What has come and was not taken yet: take from the left at any time."""
        self.over = False
        """A Close or a violation has come: whatever else arrives is dropped."""
        self.size = 0
        """Bytes that came since there was nothing to take, and 64 for each message: what waits is at most this."""
        self.stalled = False
        """What came inflates to more than the inbox holds: take the messages, then `receive` nothing."""
        self._client = client
        self._limits = limits
        self._size_limit = sys.maxsize if limits.message_size is None else limits.message_size
        self._deflate = deflate
        self._parser: FrameParser | None = None
        self._plain = True  # between two messages and with nothing held back: the fast lane has the next read
        self._tail = b""  # the start of a frame that cannot be judged yet: a header, or a whole control frame
        self._missing = 0  # bytes to come of the frame being read
        self._collected: _Collected | None = None  # the frame being read, where it is us who collect it
        self._fragments = 0  # frames of the message that wsproto is reading
        self._size = 0  # bytes they announced
        self._compressed = False
        self._pieces: list[Message] = []  # what wsproto has made of them

    def receive(self, data: bytes) -> list[Event]:
        """Take *data*; its messages go to `messages`, and what else it holds is returned in order."""
        if self.over:
            return []
        position = 0
        self.size = len(data) + (self.size if self.messages else 0)
        if self._plain:
            before = len(self.messages)
            position = scan(data, 0, not self._client, self._size_limit, self.messages)
            self.size += OVERHEAD * (len(self.messages) - before)
            if position == len(data):
                return []
        elif self._tail:
            data, self._tail = self._tail + data, b""
        self.stalled = False
        events: list[Event] = []
        try:
            self._read(data, position, events)
        except ProtocolError as violation:
            events.append(violation)
            self.over = True
        return events

    def _read(self, data: bytes, position: int, events: list[Event]) -> None:
        end = len(data)
        while position < end and not self.over:
            if self._deflate is not None and self.size > self._limits.inbox and self.messages:
                self.stalled = True
                self._tail = data[position:]
                break
            if self._missing:
                payload = data[position : position + self._missing]
                self._missing -= len(payload)
                position += len(payload)
                if self._collected is None:
                    self._parse(payload, events)
                else:
                    self._collect(payload)
                continue
            if not self._fragments:
                position = scan(data, position, not self._client, self._size_limit, self.messages)
            header = _header(data, position)
            if header is None or (header.first & 0x08 and header.size <= 125 and header.end + header.size > end):
                self._tail = data[position:]
                break
            if header.first & 0x08:
                # Too long a control frame breaks the protocol: its header is all that is ever looked at.
                stop = header.end + min(header.size, 125)
                self._control(header, data[position:stop], events)
                position = stop
            elif not self._fragments and self._is_collected(header):
                self._collected = _Collected(header, data)
                self._missing = header.size
                position = header.end
            else:
                self._begin(header, data[position : header.end], events)
                position = header.end
        self._plain = not (self._tail or self._missing or self._fragments)
        if self._plain and self._deflate is None:
            self._parser = None  # it holds nothing now, and an idle connection is to be small

    def _control(self, header: _Header, frame: bytes, events: list[Event]) -> None:
        if header.first == 0x88 and header.masked is not self._client and 2 <= header.size <= 125:
            payload = frame[-header.size :]
            if header.masked:
                payload = apply_mask(payload, frame[-header.size - 4 : -header.size])
            if unpack_from("!H", payload) == (BAD_GATEWAY,):
                events.append(CloseConnection(BAD_GATEWAY, _reason(payload[2:])))
                self.over = True
                return
        self._parse(frame, events)

    def _begin(self, header: _Header, head: bytes, events: list[Event]) -> None:
        """Begin a data frame that wsproto is to read; refuse it before its payload is taken."""
        if header.first & 0x0F:  # not a continuation; where one had to come, wsproto says so
            self._fragments = self._size = 0
            self._compressed = bool(header.first & 0x40)
        self._fragments += 1
        self._size += header.size
        self._missing = header.size
        fragments, limit = self._limits.fragments, self._limits.message_size
        if fragments is not None and self._fragments > fragments:  # before an empty one can end the message
            raise MessageTooBig(f"a message in more than {fragments} fragments")
        self._parse(head, events)
        # What does not compress grows a little. The extension holds what it inflates to against the limit.
        if limit is not None and self._size > (limit + limit // 8 + 1024 if self._compressed else limit):
            raise MessageTooBig(f"a message of more than {limit} bytes")

    def _parse(self, data: bytes, events: list[Event]) -> None:
        """Let wsproto read *data*, which is part of one frame."""
        if self._parser is None:
            side = ConnectionType.CLIENT if self._client else ConnectionType.SERVER
            self._parser = FrameParser(side, [] if self._deflate is None else [self._deflate])
        parser = self._parser
        parser.receive_data(data)
        for event in parser.events():
            match event:
                case TextMessage() | BytesMessage():
                    self._pieces.append(cast("Message", event.data))  # never a bytearray, whatever its type says
                    if event.message_finished:
                        self._finish()
                case CloseConnection() if parser.state is ConnectionState.OPEN:
                    raise self._violation(event)
                case CloseConnection():
                    events.append(event)
                    self.over = True
                case _:  # nothing else is left of what wsproto has
                    events.append(cast("Ping | Pong", event))

    def _finish(self) -> None:
        pieces = self._pieces
        # The pieces of one message are of one kind: wsproto sees to it.
        message: Message = (
            "".join(cast("list[str]", pieces)) if isinstance(pieces[0], str) else b"".join(cast("list[bytes]", pieces))
        )
        self.messages.append(message)
        self.size += len(message)
        self._pieces = []
        self._fragments = self._size = 0

    def _violation(self, event: CloseConnection) -> ProtocolError:
        """What wsproto reports as a Close, though the peer sent none: told apart by its state."""
        match event.code:
            case 1009:
                return MessageTooBig(f"a message that inflates to more than {self._limits.message_size} bytes")
            case 1007:
                return InvalidMessage(
                    "text that is not UTF-8" if event.reason != "error in extension" else "broken compressed data"
                )
            case _:
                return ProtocolError(event.reason or "")

    def _is_collected(self, header: _Header) -> bool:
        plain = header.first in (0x81, 0x82) and header.masked is not self._client
        return plain and COLLECT < header.size <= self._size_limit

    def _collect(self, payload: bytes) -> None:
        frame = self._collected
        assert frame is not None
        frame.payload += payload
        if not self._missing:
            self._collected = None
            message = frame.message()
            self.messages.append(message)
            self.size += len(message)


class _Collected:
    """A long plain frame on its way in."""

    __slots__ = ("key", "payload", "text")

    def __init__(self, header: _Header, data: bytes) -> None:
        self.text = header.first == 0x81
        self.key = data[header.end - 4 : header.end] if header.masked else b""
        self.payload = bytearray()

    def message(self) -> Message:
        payload = apply_mask(self.payload, self.key) if self.key else bytes(self.payload)
        try:
            return payload.decode() if self.text else payload
        except UnicodeDecodeError:
            raise InvalidMessage("text that is not UTF-8") from None


def _header(data: bytes, position: int) -> _Header | None:
    """The header at *position*, or None while it is incomplete (RFC 6455 §5.2)."""
    if len(data) - position < 2:
        return None
    first, second = data[position], data[position + 1]
    size, masked = second & 0x7F, second > 0x7F
    extended = 2 if size == 126 else 8 if size == 127 else 0
    end = position + 2 + extended + (4 if masked else 0)
    if len(data) < end:
        return None
    if extended:
        (size,) = unpack_from("!H" if extended == 2 else "!Q", data, position + 2)
    return _Header(first, masked, size, end)


def _reason(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise InvalidMessage("a close reason that is not UTF-8") from None
