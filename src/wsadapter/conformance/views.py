"""The views of the exam: each a handler in either colour, and what it is opened with."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import parse_qs

from wsadapter import sync
from wsadapter.connection import Connection
from wsadapter.errors import ConnectionClosed
from wsadapter.opening import Options
from wsadapter.options import Deflate
from wsadapter.request import Request

__all__ = ["COOKIES", "FLOOD", "View", "views"]

COOKIES: Final = (("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/"), ("X-Exam", "yes"))
"""What the 101 of ``/headers`` carries."""

FLOOD: Final = (200, 40_000)
"""How many messages ``/flood`` sends, and of how many bytes: more than any buffer on the way holds."""


class View(NamedTuple):
    """What to call `open` with at one path."""

    handler: Callable[[Any], Any]
    options: Options


def views(colour: Literal["async", "def"]) -> Mapping[str, View]:
    """The views of the exam by path, with handlers of one *colour*."""
    handlers = _ASYNC if colour == "async" else _DEF
    options: dict[str, Options] = {
        "/subprotocol": {"protocols": ["exam.v2", "exam.v1"]},
        "/required": {"protocols": ["exam.v2"], "require_protocol": True},
        "/headers": {"headers": COOKIES},
        "/compressed": {"compression": Deflate()},
        "/friends": {"origins": ["https://friend.example"]},
        "/send-only": {"receive": False},
    }
    return {path: View(handler, options.get(path, {})) for path, handler in handlers.items()}


def _asked(request: Request, name: str, default: str = "") -> str:
    return parse_qs(request.query).get(name, [default])[0]


# What the handlers of this process noticed, by the token that their client chose. A host of several processes
# keeps one client's connections together, or answers these questions from one of them.
_noticed: dict[str, dict[str, Any]] = {}
_news = threading.Condition()


def _notice(connection: Connection | sync.Connection, **facts: Any) -> None:
    token = _asked(connection.request, "token")
    with _news:
        _noticed[token] = facts | {"code": connection.close_code, "reason": connection.close_reason}
        _news.notify_all()


async def _echo(connection: Connection) -> None:
    async for message in connection:
        connection.send(message)


def _echo_def(connection: sync.Connection) -> None:
    for message in connection:
        connection.send(message)


async def _subprotocol(connection: Connection) -> None:
    await connection.send_json(connection.subprotocol)


def _subprotocol_def(connection: sync.Connection) -> None:
    connection.send_json(connection.subprotocol)


def _describe(request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "x-exam": request.headers.get_all("x-exam"),
        "peer": request.peer,
    }


async def _request(connection: Connection) -> None:
    await connection.send_json(_describe(connection.request))


def _request_def(connection: sync.Connection) -> None:
    connection.send_json(_describe(connection.request))


async def _greet(connection: Connection) -> None:
    await connection.send_text("welcome")
    await _echo(connection)


def _greet_def(connection: sync.Connection) -> None:
    connection.send_text("welcome")
    _echo_def(connection)


async def _close(connection: Connection) -> None:
    await connection.close(int(_asked(connection.request, "code")), _asked(connection.request, "reason"))


def _close_def(connection: sync.Connection) -> None:
    connection.close(int(_asked(connection.request, "code")), _asked(connection.request, "reason"))


async def _fail(connection: Connection) -> None:
    raise LookupError("a secret of the program's")


def _fail_def(connection: sync.Connection) -> None:
    raise LookupError("a secret of the program's")


async def _record(connection: Connection) -> None:
    read = [message async for message in connection]
    _notice(connection, read=read)


def _record_def(connection: sync.Connection) -> None:
    read = list(connection)
    _notice(connection, read=read)


async def _noticed_by(connection: Connection) -> None:
    token = _asked(connection.request, "token")
    async with asyncio.timeout(5):
        while token not in _noticed:  # noqa: ASYNC110  handlers on other loops and in threads notice, too
            await asyncio.sleep(0.01)
    await connection.send_json(_noticed.pop(token))


def _noticed_by_def(connection: sync.Connection) -> None:
    token = _asked(connection.request, "token")
    with _news:
        _news.wait_for(lambda: token in _noticed, 5)
    connection.send_json(_noticed.pop(token, None))


async def _flood(connection: Connection) -> None:
    count, size = FLOOD
    for number in range(count):
        await connection.send_binary(number.to_bytes(4, "big") * (size // 4))


def _flood_def(connection: sync.Connection) -> None:
    count, size = FLOOD
    for number in range(count):
        connection.send_binary(number.to_bytes(4, "big") * (size // 4))


async def _send_only(connection: Connection) -> None:
    while not connection.closed:
        await connection.send_text("tick")
        await asyncio.sleep(0.01)
    _notice(connection)


def _send_only_def(connection: sync.Connection) -> None:
    try:
        while True:
            connection.send_text("tick")
            connection.flush()
            time.sleep(0.01)
    except ConnectionClosed:
        _notice(connection)


_ASYNC: dict[str, Callable[[Connection], Any]] = {
    "/echo": _echo,
    "/friends": _echo,
    "/compressed": _echo,
    "/headers": _echo,
    "/subprotocol": _subprotocol,
    "/required": _subprotocol,
    "/request": _request,
    "/greet": _greet,
    "/close": _close,
    "/fail": _fail,
    "/record": _record,
    "/noticed": _noticed_by,
    "/flood": _flood,
    "/send-only": _send_only,
}

_DEF: dict[str, Callable[[sync.Connection], Any]] = {
    "/echo": _echo_def,
    "/friends": _echo_def,
    "/compressed": _echo_def,
    "/headers": _echo_def,
    "/subprotocol": _subprotocol_def,
    "/required": _subprotocol_def,
    "/request": _request_def,
    "/greet": _greet_def,
    "/close": _close_def,
    "/fail": _fail_def,
    "/record": _record_def,
    "/noticed": _noticed_by_def,
    "/flood": _flood_def,
    "/send-only": _send_only_def,
}
