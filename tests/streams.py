"""Bytes as a peer would write them, made without a line of wsadapter, and two conversations joined.

`frame` writes one frame by the letter of RFC 6455 §5.2, right or wrong. `legal_streams` are whole conversations of one
side with all that is to come of them; `mutated` and `hostile_streams` are what nobody should say.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import wsproto.events
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from wsadapter import receiver as receiver_module
from wsadapter.conversation import Conversation
from wsadapter.deflate import Parameters, PerMessageDeflate
from wsadapter.errors import ProtocolError
from wsadapter.options import Deflate, Limits
from wsadapter.receiver import Message, Receiver

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
TAIL = b"\x00\x00\xff\xff"
KEY = b"\x5a\x01\xfe\x80"

roles = pytest.mark.parametrize("client", [False, True], ids=["server", "client"])


def examples(count: int) -> settings:
    """So many examples of a property; WSADAPTER_EXAMPLES multiplies them for a long run."""
    factor = float(os.environ.get("WSADAPTER_EXAMPLES", "1"))
    return settings(
        max_examples=max(1, int(count * factor)),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


# ------------------------------------------------------------------------------------------------ frames


def xor(data: bytes, key: bytes) -> bytes:
    """The mask of RFC 6455 §5.3, octet by octet as it is told there."""
    return bytes(byte ^ key[i % 4] for i, byte in enumerate(data))


def head(
    opcode: int, size: int, *, fin: bool = True, rsv: int = 0, masked: bool = True, extended: int | None = None
) -> bytes:
    """A header up to the masking key; *extended* forces the number of bytes that the length takes (0, 2 or 8)."""
    if extended is None:
        extended = 0 if size < 126 else 2 if size < 65536 else 8
    short = {0: size, 2: 126, 8: 127}[extended]
    return bytes((fin << 7 | rsv << 4 | opcode, masked << 7 | short)) + size.to_bytes(8, "big")[8 - extended :]


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    key: bytes | None = KEY,
    extended: int | None = None,
) -> bytes:
    """One frame as a client sends it; with ``key=None`` as a server does."""
    start = head(opcode, len(payload), fin=fin, rsv=rsv, masked=key is not None, extended=extended)
    return start + payload if key is None else start + key + xor(payload, key)


def key_of(client: bool) -> bytes | None:
    """The masking key of what a *client* or a server is to receive."""
    return None if client else KEY


def deflated(data: bytes, *, bits: int = 15, level: int = 6, final: bool = False) -> bytes:
    """The payload of one compressed message of its own context (RFC 7692 §7.2.1, §7.2.3.4 for *final*)."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -bits)
    if final:
        return compressor.compress(data) + compressor.flush(zlib.Z_FINISH) + b"\x00"
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


@dataclass
class Seen:
    """One frame that was sent."""

    opcode: int
    payload: bytes
    rsv1: bool = False
    masked: bool = False


def frames_in(data: bytes) -> list[Seen]:
    """Take apart what a conversation sent, which is whole frames of the shortest form (RFC 6455 §5.2)."""
    seen = []
    while data:
        first, second = data[0], data[1]
        assert first & 0xB0 == 0x80, "FIN, and neither RSV2 nor RSV3"
        size, position = second & 0x7F, 2
        if size > 125:
            width = 2 if size == 126 else 8
            position += width
            size = int.from_bytes(data[2:position], "big")
            assert size > (125 if width == 2 else 65535), "the shortest length"
        key = data[position : position + 4] if second & 0x80 else b""
        position += len(key)
        payload = data[position : position + size]
        assert len(payload) == size, "a whole frame"
        seen.append(Seen(first & 0x0F, xor(payload, key) if key else payload, bool(first & 0x40), bool(key)))
        data = data[position + size :]
    return seen


# ----------------------------------------------------------------------------------------------- reading


@dataclass
class Told:
    """What a stream tells: its messages, and its control frames in order. `code` as the reader has it at the end."""

    messages: list[Message] = field(default_factory=list)
    controls: list[tuple[str, bytes]] = field(default_factory=list)
    code: int = 1006
    reason: str = ""


def read(
    chunks: Iterable[bytes],
    *,
    client: bool = False,
    deflate: Parameters | None = None,
    limits: Limits = Limits(),
) -> Told:
    """What a `Receiver` makes of *chunks*."""
    extension = None if deflate is None else PerMessageDeflate(deflate, client=client, limit=limits.message_size)
    receiver = Receiver(client=client, limits=limits, deflate=extension)
    told = Told()
    for chunk in chunks:
        events = receiver.receive(chunk)
        while True:
            told.messages += receiver.messages
            receiver.messages.clear()
            receiver.size = 0
            for event in events:
                match event:
                    case wsproto.events.Ping():
                        told.controls.append(("ping", bytes(event.payload)))
                    case wsproto.events.Pong():
                        told.controls.append(("pong", bytes(event.payload)))
                    case wsproto.events.CloseConnection():
                        told.code, told.reason = event.code, event.reason or ""
                    case ProtocolError():
                        told.code = event.close_code
            if not receiver.stalled:
                break
            events = receiver.receive(b"")
    return told


@contextmanager
def lane(*, scan: bool = True, collect: float | None = None) -> Iterator[None]:
    """Read with the fast lane or without, and with another size from which long frames are collected."""
    with pytest.MonkeyPatch.context() as patch:
        if not scan:
            patch.setattr(receiver_module, "scan", lambda data, position, masked, limit, messages: position)
        if collect is not None:
            patch.setattr(receiver_module, "COLLECT", collect)
        yield


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """*data* in pieces, cut at *places*."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


places = st.lists(st.integers(0, 2**20), max_size=12)
"""Where to cut, whatever the length."""


# --------------------------------------------------------------------------------------------- strategies

keys = st.binary(min_size=4, max_size=4)
control_payloads = st.one_of(st.binary(max_size=8), st.binary(min_size=120, max_size=125))
codes = st.one_of(st.sampled_from([*range(1000, 1004), *range(1007, 1015)]), st.integers(3000, 4999))
reasons = st.text(max_size=30)

_long = st.builds(
    lambda seed, size: (seed * (size // len(seed) + 1))[:size],
    st.binary(min_size=1, max_size=7),
    st.sampled_from([124, 125, 126, 127, 128, 300, 1023, 1024, 5000, 65535, 65536, 65537]),
)
texts = st.one_of(st.text(max_size=20), st.text(min_size=1, max_size=5).map(lambda text: text * 60))
binaries = st.one_of(st.binary(max_size=40), st.binary(max_size=40), _long)
messages: st.SearchStrategy[Message] = st.one_of(texts, binaries)


def parameters(**ours: Any) -> Parameters:
    """An agreement for tests, our settings being such that all is compressed."""
    return Parameters(ours=Deflate(threshold=0), **ours)


agreements = st.builds(
    parameters,
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
    server_max_window_bits=st.integers(9, 15),
    client_max_window_bits=st.one_of(st.none(), st.integers(9, 15)),
)


@dataclass
class Stream:
    """What one side says from the handshake to the end, and what is to come of it."""

    client: bool
    """Which side reads it."""
    deflate: Parameters | None = None
    frames: list[bytes] = field(default_factory=list)
    told: Told = field(default_factory=Told)

    @property
    def data(self) -> bytes:
        return b"".join(self.frames)


class Deflater:
    """The sender's end of an agreement, which does all that RFC 7692 §7.2 lets a sender do."""

    def __init__(self, agreed: Parameters, *, client: bool) -> None:
        """*client*: which side reads."""
        if client:
            self._bits, self._afresh = agreed.server_max_window_bits, agreed.server_no_context_takeover
        else:
            self._bits, self._afresh = agreed.client_max_window_bits or 15, agreed.client_no_context_takeover
        self._compressor: Any = None

    def compress(self, data: bytes, level: int, final: bool, flush_at: int) -> bytes:
        if self._compressor is None:
            self._compressor = zlib.compressobj(level, zlib.DEFLATED, -self._bits)
        if not data:
            return b"\x00"  # RFC 7692 §7.2.3.6
        middle = flush_at % (len(data) + 1)
        out: bytes = self._compressor.compress(data[:middle])
        if middle:
            out += self._compressor.flush(zlib.Z_SYNC_FLUSH)  # more than one block: §7.2.3.5
        out += self._compressor.compress(data[middle:])
        out += self._compressor.flush(zlib.Z_FINISH if final else zlib.Z_SYNC_FLUSH)
        if self._afresh or final:
            self._compressor = None
        return out + b"\x00" if final else out.removesuffix(TAIL)


def _pieces(payload: bytes, places: Sequence[int]) -> list[bytes]:
    """As `cut`, but a place may come twice: fragments may be empty."""
    ends = [0, *sorted(place % (len(payload) + 1) for place in places), len(payload)]
    return [payload[start:end] for start, end in itertools.pairwise(ends)]


@st.composite
def legal_streams(draw: st.DrawFn, compressed: bool | None = None) -> Stream:
    """Legal streams for either side: fragments, control frames between them, and with a Close at the end or none."""
    client = draw(st.booleans())
    agreed = draw(agreements) if (draw(st.booleans()) if compressed is None else compressed) else None
    stream = Stream(client, agreed)
    deflater = None if agreed is None else Deflater(agreed, client=client)

    def say(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> None:
        stream.frames.append(frame(opcode, payload, fin=fin, rsv=rsv, key=None if client else draw(keys)))

    def interject() -> None:
        for name in draw(st.lists(st.sampled_from(["ping", "pong"]), max_size=2)):
            payload = draw(control_payloads)
            say(PING if name == "ping" else PONG, payload)
            stream.told.controls.append((name, payload))

    for message in draw(st.lists(messages, max_size=6)):
        opcode, payload = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
        stream.told.messages.append(message)
        rsv = 0
        if deflater is not None and draw(st.booleans()):
            rsv = 4
            level, final, flush_at = draw(st.integers(0, 9)), draw(st.booleans()), draw(st.integers(0, 2**17))
            payload = deflater.compress(payload, level, final, flush_at)
        pieces = _pieces(payload, draw(st.one_of(st.just([]), st.lists(st.integers(0, 2**17), max_size=4))))
        for i, piece in enumerate(pieces):
            say(CONT if i else opcode, piece, fin=i == len(pieces) - 1, rsv=0 if i else rsv)
            interject()
    if draw(st.booleans()):
        code, reason = draw(st.one_of(st.none(), codes)), draw(reasons)
        say(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason.encode())
        stream.told.code, stream.told.reason = (1005, "") if code is None else (code, reason)
    return stream


@st.composite
def mutated(draw: st.DrawFn) -> Stream:
    """A legal stream with some bytes changed, left out, put in or cut off, mostly in headers; nothing is told of it."""
    stream = draw(legal_streams())
    frames = [bytearray(part) for part in stream.frames] or [bytearray(2)]
    for _ in range(draw(st.integers(1, 4))):
        part = draw(st.sampled_from(frames))
        place = draw(st.one_of(st.integers(0, 3), st.integers(0, 2**17))) % (len(part) + 1)
        match draw(st.sampled_from(["flip", "set", "drop", "insert", "cut", "again"])):
            case "flip":
                part[place : place + 1] = bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in part[place : place + 1])
            case "set":
                part[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case "drop":
                del part[place : place + draw(st.integers(1, 5))]
            case "insert":
                part[place:place] = draw(st.binary(min_size=1, max_size=5))
            case "cut":
                del part[place:]
            case _:
                frames.insert(draw(st.integers(0, len(frames))), bytearray(part))
    return Stream(stream.client, stream.deflate, [bytes(part) for part in frames])


@st.composite
def hostile_streams(draw: st.DrawFn) -> Stream:
    """Frames of any header, some of them lying about their length, and plain noise."""
    client = draw(st.booleans())
    parts = []
    for _ in range(draw(st.integers(0, 8))):
        payload = draw(st.one_of(st.binary(max_size=10), st.binary(min_size=120, max_size=130), texts.map(str.encode)))
        first = draw(
            st.one_of(st.sampled_from([0x01, 0x02, 0x00, 0x80, 0x81, 0x82, 0x88, 0x89, 0xC1]), st.integers(0, 255))
        )
        if first & 0x0F == CLOSE and draw(st.booleans()):
            payload = draw(st.one_of(codes, st.integers(0, 65535))).to_bytes(2, "big") + payload[:123]
        size = draw(st.one_of(st.just(len(payload)), st.integers(0, 300), st.integers(0, 2**64 - 1)))
        shortest = 0 if size < 126 else 2 if size < 65536 else 8
        extended = draw(st.sampled_from([width for width in (0, 2, 8) if width >= shortest]))
        masked = draw(st.sampled_from([not client, not client, not client, client]))
        start = bytes((first,)) + head(0, size, masked=masked, extended=extended)[1:]
        key = draw(keys) if masked else b""
        parts.append(start + key + (xor(payload, key) if key else payload))
        if draw(st.integers(0, 9)) == 0:
            parts.append(draw(st.binary(max_size=20)))
    return Stream(client, draw(st.one_of(st.none(), agreements)), parts)


# --------------------------------------------------------------------------------------------------- pairs


class Pair:
    """A server and a client with a wire between them, and a clock that only `pass_time` moves."""

    def __init__(self, *, deflate: Parameters | None = None, limits: Limits = Limits()) -> None:
        self.now = 0.0
        self.server = Conversation(client=False, limits=limits, now=0.0, deflate=deflate)
        self.client = Conversation(client=True, limits=limits, now=0.0, deflate=deflate)
        self.wire: dict[Conversation, bytearray] = {self.server: bytearray(), self.client: bytearray()}
        """What is on its way to each."""

    def other(self, side: Conversation) -> Conversation:
        return self.client if side is self.server else self.server

    def write(self, side: Conversation) -> None:
        """Put on the wire what *side* has to send."""
        self.wire[self.other(side)] += side.data_to_send()

    def deliver(self, side: Conversation, size: int | None = None) -> None:
        """Hand to *side* what is on the wire for it, or the first *size* bytes."""
        wire = self.wire[side]
        data = bytes(wire[:size])
        del wire[:size]
        if data:
            side.receive_data(data, self.now)

    def exchange(self) -> None:
        """Let all arrive that is said, and all that is said to it."""
        while True:
            for side in (self.server, self.client):
                self.write(side)
            if not any(self.wire.values()):
                return
            for side in (self.server, self.client):
                self.deliver(side)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, both sides doing what is due when it is."""
        end = self.now + seconds
        while True:
            deadlines = [at for side in (self.server, self.client) if (at := side.deadline()) is not None]
            self.now = min([end, *(at for at in deadlines if at > self.now)])
            for side in (self.server, self.client):
                side.on_time(self.now)
            if self.now >= end:
                return


def everything(side: Conversation) -> list[Message]:
    """What the reader of *side* gets until it has to wait, or all is over."""
    taken: list[Message] = []
    while True:
        taken += side.messages
        side.messages.clear()
        if side.settle() or not side.messages:
            return taken
