"""An app, which is a function from request to response: what it may return, what its mistakes answer."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias, Unpack

from . import upgrade
from .errors import Refused
from .http import Exchange, Response
from .opening import Handler, Options, prepare
from .request import Request

__all__ = ["App", "checked", "failure", "is_websocket", "log", "open"]

App: TypeAlias = Callable[[Request], Response | Awaitable[Response]]
"""From request to response: an `async def`, or a `def`, which is called in a thread."""

logger = logging.getLogger("wsadapter")
access = logging.getLogger("wsadapter.access")

is_websocket = upgrade.is_websocket


def open(request: Request, handler: Handler, **options: Unpack[Options]) -> Response:
    """Answer *request* with a WebSocket: the 101, or the refusal that says what is wrong.

    *handler* does not run here: it does once the response has been sent. The options are told in `Options`.

    Raises:
        TypeError, ValueError: *handler* or an option cannot be meant.
    """
    try:
        opening = prepare(request, handler, check=upgrade.check, **options)
    except Refused as refused:
        # A browser hides the answer from the page that asked: here is where it can be read.
        logger.info("%s refused a WebSocket: %s", ascii(request.path), refused)
        return Response.refusal(refused)
    return Response(status=101, headers=opening.headers, opening=opening)


def checked(response: object) -> Response:
    """*response*, which an app returned.

    Raises:
        TypeError: It is no `Response`.
        ValueError: It cannot be sent.
    """
    if not isinstance(response, Response):
        raise TypeError(f"the app returned {response!r}: it has to return a Response")
    response.check()
    return response


def failure(request: Request, error: Exception) -> Response:
    """What answers when the app raises: logged, and nothing of it told."""
    logger.error("The app failed at %s", ascii(request.path), exc_info=error)
    return Response("The server made a mistake; it is in its log.\n", 500)


def log(exchange: Exchange, status: int) -> None:
    """One line for one answer. The query is left out: it may hold a token."""
    if access.isEnabledFor(logging.INFO):
        request = exchange.request
        asked = "-" if request is None else f"{request.method} {request.path} HTTP/{request.http_version}"
        escaped = asked.encode("unicode_escape").decode().replace('"', r"\x22")
        access.info('%s "%s" %d', exchange.peer or "-", escaped, status)
