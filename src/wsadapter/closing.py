"""Close codes and reasons: which a program may send, and how long a reason may be (RFC 6455 §7.4)."""

from __future__ import annotations

from struct import pack
from typing import Final

__all__ = ["ABNORMAL", "NO_STATUS", "check_close", "close_payload"]

NO_STATUS: Final = 1005
"""The peer's Close had no code (RFC 6455 §7.1.5); never sent."""

ABNORMAL: Final = 1006
"""The connection ended without a Close (RFC 6455 §7.1.5); never sent."""

BAD_GATEWAY: Final = 1014
"""Registered after RFC 6455; wsproto takes it for a violation, so the conversation reads it itself."""

_SENDABLE = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014))

REASON_SIZE = 123
"""Bytes of UTF-8 that a reason has room for in a control frame, behind the code (RFC 6455 §5.5)."""


def check_close(code: int, reason: str) -> None:
    """Hold what a program wants to close with against RFC 6455 §7.4.

    Raises:
        ValueError: A code that no endpoint may send, such as 1006.
        TypeError: A reason that is no `str`.
    """
    if code not in _SENDABLE and not 3000 <= code <= 4999:
        raise ValueError(f"close code {code!r} may not be sent: 1000 to 1003, 1007 to 1014 and 3000 to 4999 may")
    if not isinstance(reason, str):  # pyright: ignore[reportUnnecessaryIsInstance]  who calls may not be typed
        raise TypeError(f"a close reason is a str, not {type(reason).__name__}")


def close_payload(code: int, reason: str = "") -> bytes:
    """The body of a Close frame; a long reason is cut on a character boundary (RFC 6455 §5.5.1)."""
    if code == NO_STATUS:
        return b""
    encoded = reason.encode("utf-8", "replace")
    if len(encoded) > REASON_SIZE:
        encoded = encoded[:REASON_SIZE].decode("utf-8", "ignore").encode()
    return pack("!H", code) + encoded
