"""What may be sent and how JSON is told, the same in both colours."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, NoReturn, TypeAlias

from .errors import InvalidMessage
from .frames import BINARY, TEXT, build
from .receiver import Message

__all__ = ["BytesLike", "Prepared", "as_binary", "as_message", "as_text", "decode_json", "encode_json"]

BytesLike: TypeAlias = bytes | bytearray | memoryview


def as_text(text: str) -> str:
    """*text*, which is for `send_text`; anything but a `str` raises `TypeError`."""
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  who calls may not be typed
        raise TypeError(f"send_text() takes a str, not {type(text).__name__}; bytes go by send_binary()")
    return text


def as_binary(data: BytesLike) -> bytes:
    """A copy of *data* that nobody changes; anything but bytes raises `TypeError`."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance]
        return bytes(data)
    raise TypeError(f"send_binary() takes bytes, not {type(data).__name__}; a str goes by send_text()")


def as_message(message: str | BytesLike) -> Message:
    """A `str` is text, bytes are binary; anything else raises `TypeError`."""
    if isinstance(message, str):
        return message
    if isinstance(message, bytes | bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance]
        return bytes(message)
    raise TypeError(f"send() takes str or bytes, not {type(message).__name__}; values go by send_json()")


def encode_json(value: Any) -> str:
    """*value* as JSON on one line; what JSON cannot tell raises `TypeError` or `ValueError`, NaN included."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can tell and UTF-8 cannot
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    return value if isfinite(value) else _refuse(number)


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def decode_json(message: Message) -> Any:
    """The value that *message* is the JSON of, in UTF-8 (RFC 8259 §8.1).

    Raises:
        InvalidMessage: It is not JSON, as NaN and 1e999 are not, or nested more deeply than Python can follow.
    """
    try:
        return _DECODER.decode(message if isinstance(message, str) else message.decode())
    except (ValueError, RecursionError):
        raise InvalidMessage("the message is not JSON") from None


class Prepared:
    """One message on its way to many connections: made into a frame once, and only if one wants a frame."""

    __slots__ = ("_frame", "message")

    def __init__(self, message: str | BytesLike) -> None:
        self.message = as_message(message)
        self._frame: bytes | None = None

    @property
    def frame(self) -> bytes:
        """The frame that a server sends it in, uncompressed (RFC 6455 §5.2)."""
        if self._frame is None:
            message = self.message
            if isinstance(message, str):
                self._frame = build(TEXT, message.encode(), False)
            else:
                self._frame = build(BINARY, message, False)
        return self._frame
