"""The opening handshake of HTTP/1.1 as RFC 6455 §4.2 asks for it: is this request one, and what answers it?

For hosts that are handed the HTTP/1 request themselves.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from .errors import Refused
from .request import Headers, Request

__all__ = ["accept_headers", "accept_key", "check", "is_websocket"]

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
UPGRADE = ("Upgrade", "websocket")
VERSION = ("Sec-WebSocket-Version", "13")


def is_websocket(request: Request) -> bool:
    """Whether the client asks for a WebSocket, be it in the right way or not."""
    return _lists(request.headers, "upgrade", "websocket")


def check(request: Request) -> None:
    """Hold the request against RFC 6455 §4.2.1.

    Raises:
        Refused: It is not a WebSocket request (426), or not a valid one (400, 405, 426).
    """
    headers = request.headers
    if not is_websocket(request):
        raise Refused(
            426,
            "This address speaks WebSocket: open it with a WebSocket client. (Behind a proxy, see that"
            " it passes the Upgrade and Connection headers on.)",
            (UPGRADE,),
        )
    if request.method != "GET":
        raise Refused(405, "A WebSocket is opened with GET.", (("Allow", "GET"),))
    if request.http_version != "1.1":
        raise Refused(426, "A WebSocket is opened over HTTP/1.1; a proxy may be speaking HTTP/1.0 to us.", (UPGRADE,))
    if len(headers.get_all("host")) != 1:
        raise Refused(400, "A request has exactly one Host header.")
    if not _lists(headers, "connection", "upgrade"):
        raise Refused(400, "The header 'Connection: Upgrade' is missing; a proxy may have removed it.")
    if headers.get_all("sec-websocket-version") != ["13"]:
        raise Refused(426, "Only version 13 of the WebSocket protocol is spoken here.", (UPGRADE, VERSION))
    if not _is_key(headers.get_all("sec-websocket-key")):
        raise Refused(400, "A request has exactly one Sec-WebSocket-Key, the base64 of 16 bytes.")
    if "transfer-encoding" in headers or any(length != "0" for length in headers.get_all("content-length")):
        raise Refused(400, "A WebSocket is opened by a request without a body.")


def accept_headers(request: Request) -> list[tuple[str, str]]:
    """The headers that make a 101 the answer to *request* (RFC 6455 §4.2.2), once `check` let it pass."""
    key = accept_key(request.headers["sec-websocket-key"])
    return [UPGRADE, ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", key)]


def accept_key(key: str) -> str:
    """The value of Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 §4.2.2, item 5.4)."""
    return base64.b64encode(hashlib.sha1(key.encode("latin-1") + GUID, usedforsecurity=False).digest()).decode()


def _lists(headers: Headers, name: str, token: str) -> bool:
    return any(element.lower() == token for element in headers.get_list(name))


def _is_key(keys: list[str]) -> bool:
    try:
        return len(keys) == 1 and len(base64.b64decode(keys[0].encode("ascii", "replace"), validate=True)) == 16
    except binascii.Error:
        return False
