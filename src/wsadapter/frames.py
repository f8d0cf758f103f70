"""The fast lane: complete, unfragmented, uncompressed data frames, read and built without an object per frame.

Nearly all traffic is of this kind. Everything else, and everything odd, is left for wsproto to judge,
so no rule of the protocol is told here. RFC 6455 §5.2 is the layout of a frame.
"""

from __future__ import annotations

import os
from collections import deque
from functools import cache
from struct import pack, unpack_from
from typing import Final

__all__ = ["BINARY", "CLOSE", "PING", "PONG", "RSV1", "TEXT", "apply_mask", "build", "scan"]

FIN: Final = 0x80
RSV1: Final = 0x40
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

MASKED: Final = 0x80

_SMALL_HEADERS: Final = {
    opcode: tuple(bytes((FIN | opcode, size)) for size in range(126))
    for opcode in (TEXT, BINARY, RSV1 | TEXT, RSV1 | BINARY, CLOSE, PING, PONG)
}


def scan(data: bytes, position: int, masked: bool, limit: int, messages: deque[str | bytes]) -> int:
    """Move the messages that are in plain frames from *position* of *data* on to *messages*.

    Stops at the first frame that is incomplete, or anything but plain and right: fragmented, compressed,
    a control frame, over *limit*, badly masked, not UTF-8. Returns the position of that frame.
    """
    flag, key_size = (MASKED, 4) if masked else (0, 0)
    end = len(data)
    while end - position >= 2:
        first = data[position]
        if first != 0x81 and first != 0x82:  # FIN and TEXT, FIN and BINARY
            break
        size = data[position + 1] ^ flag
        start = position + 2
        if size > 125:
            if size == 126 and end - start >= 2:
                size = (data[start] << 8) | data[start + 1]
                start += 2
                if size < 126:
                    break
            elif size == 127 and end - start >= 8:
                (size,) = unpack_from("!Q", data, start)
                start += 8
                if size < 65536:
                    break
            else:
                break
        start += key_size
        stop = start + size
        if stop > end or size > limit:
            break
        payload = data[start:stop]
        if masked:
            payload = apply_mask(payload, data[start - 4 : start])
        if first == 0x81:
            try:
                messages.append(payload.decode())
            except UnicodeDecodeError:
                break
        else:
            messages.append(payload)
        position = stop
    return position


def build(opcode: int, payload: bytes, masked: bool) -> bytes:
    """A whole, unfragmented frame around *payload*; *masked* with a fresh key, as clients must (§5.3).

    RSV1 in *opcode* says that *payload* is compressed (RFC 7692 §6).
    """
    size = len(payload)
    if not masked:
        if size < 126:
            return _SMALL_HEADERS[opcode][size] + payload
        if size < 65536:
            return pack("!BBH", FIN | opcode, 126, size) + payload
        return pack("!BBQ", FIN | opcode, 127, size) + payload
    key = os.urandom(4)
    if size < 126:
        header = pack("!BB", FIN | opcode, MASKED | size)
    elif size < 65536:
        header = pack("!BBH", FIN | opcode, MASKED | 126, size)
    else:
        header = pack("!BBQ", FIN | opcode, MASKED | 127, size)
    return header + key + apply_mask(payload, key)


def apply_mask(data: bytes | bytearray, key: bytes) -> bytes:
    """*data* with the four bytes of *key* laid over it again and again: masks, and unmasks (§5.3)."""
    size = len(data)
    if size < 1024:  # one big xor; above, the conversions to and from an integer cost more than four copies
        mask = int.from_bytes((key * ((size >> 2) + 1))[:size], "little")
        return (int.from_bytes(data, "little") ^ mask).to_bytes(size, "little")
    masked = bytearray(size)
    for offset in range(4):
        masked[offset::4] = data[offset::4].translate(_table(key[offset]))
    return bytes(masked)


@cache
def _table(byte: int) -> bytes:
    return bytes(value ^ byte for value in range(256))
