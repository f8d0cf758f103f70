"""permessage-deflate (RFC 7692) as an extension of wsproto that inflates no further than the limit.

Contexts are made when the first message needs them: a connection that never compresses pays nothing.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from .options import Deflate

__all__ = ["Parameters", "PerMessageDeflate"]

TAIL = b"\x00\x00\xff\xff"
"""What every flush ends with, left off on the wire (RFC 7692 §7.2.1)."""

STREAMS = 64
"""How many deflate streams one message may hold, where one is usual: each costs a new window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What both sides agreed on (RFC 7692 §7.1), and our own settings beside it."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int | None = None
    """None: not agreed on, so the client may use 15."""
    ours: Deflate = Deflate()

    def __str__(self) -> str:
        """The value of Sec-WebSocket-Extensions that says so."""
        words = ["permessage-deflate"]
        if self.server_no_context_takeover:
            words.append("server_no_context_takeover")
        if self.client_no_context_takeover:
            words.append("client_no_context_takeover")
        words.append(f"server_max_window_bits={self.server_max_window_bits}")
        if self.client_max_window_bits is not None:
            words.append(f"client_max_window_bits={self.client_max_window_bits}")
        return "; ".join(words)


class PerMessageDeflate(Extension):
    """One connection's compression, both ways.

    A control frame between the fragments of a message leaves the message's state alone (RFC 6455 §5.4).
    """

    name = "permessage-deflate"

    def __init__(self, parameters: Parameters, *, client: bool, limit: int | None) -> None:
        """*client*: which side we are. *limit*: bytes that one message may inflate to; None: any."""
        ours = (parameters.client_no_context_takeover, parameters.client_max_window_bits or 15)
        theirs = (parameters.server_no_context_takeover, parameters.server_max_window_bits)
        if not client:
            ours, theirs = theirs, ours
        self._deflate_afresh, deflate_bits = ours
        self._inflate_afresh, inflate_bits = theirs
        # zlib makes a raw window of 8 bits into one of 9, and inflates with a larger one just as well.
        self._deflate_bits = max(deflate_bits, 9)
        self._inflate_bits = max(inflate_bits, 9)
        self._level = parameters.ours.level
        self._memory_level = parameters.ours.memory_level
        self._limit = limit
        self._compressor: zlib._Compress | None = None  # pyright: ignore[reportPrivateUsage]
        self._decompressor: zlib._Decompress | None = None  # pyright: ignore[reportPrivateUsage]
        self._control = False  # the frame being read is a control frame
        self._compressed = False  # the message being read is compressed
        self._unfinished = False  # something of the message being read awaits the tail
        self._size = 0  # what the message being read has inflated to
        self._streams = 0  # the deflate streams that the message being read has ended

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool | str:
        return False  # the handshake is ours: `policy` speaks for us

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        self._control = opcode.iscontrol()
        if self._control or opcode is Opcode.CONTINUATION:
            return RsvBits(False, False, False)
        self._compressed = rsv.rsv1
        self._size = self._streams = 0
        self._unfinished = False
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        if self._control or not self._compressed:
            return data
        return self._inflate(data)

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        if self._control or not self._compressed or not fin:
            return None
        # With nothing before it, the tail would be taken for the start of the next message.
        rest = self._inflate(TAIL) if self._unfinished else None
        self._compressed = False
        if self._inflate_afresh:
            self._decompressor = None
        return rest

    def deflate(self, data: bytes) -> bytes:
        """The payload of a whole message, compressed; *data* is not empty (RFC 7692 §7.2.1)."""
        if self._compressor is None:
            self._compressor = zlib.compressobj(self._level, zlib.DEFLATED, -self._deflate_bits, self._memory_level)
        data = self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        if self._deflate_afresh:
            self._compressor = None
        return data.removesuffix(TAIL)

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        inflated: list[bytes] = []
        while data:
            self._unfinished = True
            if self._decompressor is None:
                self._decompressor = zlib.decompressobj(-self._inflate_bits)
            try:
                # One byte more than there is room for: zlib takes 0 for "all of it".
                room = 0 if self._limit is None else self._limit - self._size + 1
                piece = self._decompressor.decompress(data, room)
            except zlib.error:
                return CloseReason.INVALID_FRAME_PAYLOAD_DATA
            self._size += len(piece)
            if self._limit is not None and self._size > self._limit:
                return CloseReason.MESSAGE_TOO_BIG
            inflated.append(piece)
            if not self._decompressor.eof:
                break
            # The stream ended with a final block (RFC 7692 §7.2.3.4): another one follows it.
            data = self._decompressor.unused_data
            self._decompressor = None
            self._unfinished = False
            self._streams += 1
            if self._streams > STREAMS:
                return CloseReason.MESSAGE_TOO_BIG
        return b"".join(inflated)
