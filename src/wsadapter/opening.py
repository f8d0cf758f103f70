"""Opening a WebSocket from a view: the checks and agreements that every host's `open` makes, in one place.

Nothing runs here. What comes out is either an `Opening`, to be begun by the host once the 101 has been sent,
or a `Refused`, whose status, headers and sentence the host makes its framework's response of.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, TypedDict

from asgiref.sync import iscoroutinefunction

from . import policy
from .deflate import Parameters
from .options import Deflate, Limits
from .policy import ExtraHeaders, Origins
from .request import Request

__all__ = ["Handler", "Opening", "Options", "is_async", "prepare"]

Handler: TypeAlias = Callable[[Any], Any]
"""An `async def` of a `Connection`, or a `def` of a `wsadapter.sync.Connection`."""


class Options(TypedDict, total=False):
    """What every host's `open` takes beside the request and the handler."""

    protocols: Sequence[str]
    """The subprotocols that the handler speaks, the preferred one first."""
    require_protocol: bool
    """Refuse a client that offers none of them."""
    origins: Origins
    """Pages of which other sites may connect: origins such as ``"https://example.com"``, a function of one,
    or ``"*"`` for all. Without it, those of the same site only."""
    headers: ExtraHeaders
    """Headers to send with the 101, such as cookies."""
    compression: Deflate | None
    """Compress messages with clients that can."""
    limits: Limits | None
    """In place of the host's, all of them: what one does not name has its default again."""
    receive: bool
    """False: the handler only sends. What the client says is dropped, so that it can never fill the inbox."""
    cancel_on_disconnect: bool
    """Cancel an `async def` handler when its client is gone, wherever it is waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A WebSocket that was agreed on and has not begun: who handles it, and all it was opened with."""

    request: Request
    handler: Handler
    asynchronous: bool
    subprotocol: str | None
    deflate: Parameters | None
    headers: tuple[tuple[str, str], ...]
    """For the 101: the subprotocol and extensions agreed on, and the program's own."""
    limits: Limits | None
    """None: the host's."""
    receive: bool
    cancel_on_disconnect: bool
    context: Context | None = field(default=None, compare=False)
    """What the handler's `contextvars` are; None: a copy of the host's."""


def prepare(
    request: Request,
    handler: Handler,
    *,
    protocols: Sequence[str] = (),
    require_protocol: bool = False,
    origins: Origins = None,
    headers: ExtraHeaders = (),
    compression: Deflate | None = None,
    limits: Limits | None = None,
    receive: bool = True,
    cancel_on_disconnect: bool = False,
    context: Context | None = None,
    check: Callable[[Request], None] | None = None,
) -> Opening:
    """Check and agree; the arguments are those of `open`, and what the host's kind of request is to be held against.

    The program's own mistakes raise whatever the request, so that the first visit shows them.

    Raises:
        Refused: 400 or 403; the client is at fault, or comes from a page that may not. Or what *check* raises.
        TypeError: *handler* is not callable, or an argument is of the wrong type.
        ValueError: An argument that cannot be meant.
    """
    if not callable(handler):
        raise TypeError(f"handler={handler!r}: give the function itself, with arguments by functools.partial")
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise TypeError(f"handler={handler!r}: it has a yield in it, so calling it would run nothing")
    asynchronous = is_async(handler)
    if cancel_on_disconnect and not asynchronous:
        raise ValueError("cancel_on_disconnect=True: only an async def handler can be cancelled")
    names = policy.check_protocols(protocols)
    if require_protocol and not names:
        raise ValueError("require_protocol=True: name some in protocols=")
    known = policy.check_origins(origins)
    extra = policy.check_headers(headers)

    if check is not None:
        check(request)
    policy.check_origin(request, known)
    subprotocol = policy.choose_protocol(request.headers, names, required=require_protocol)
    deflate = None if compression is None else policy.choose_deflate(request.headers, compression)
    agreed: list[tuple[str, str]] = []
    if subprotocol is not None:
        agreed.append(("Sec-WebSocket-Protocol", subprotocol))
    if deflate is not None:
        agreed.append(("Sec-WebSocket-Extensions", str(deflate)))
    return Opening(
        request=request,
        handler=handler,
        asynchronous=asynchronous,
        subprotocol=subprotocol,
        deflate=deflate,
        headers=(*agreed, *extra),
        limits=limits,
        receive=receive,
        cancel_on_disconnect=cancel_on_disconnect,
        context=context,
    )


def is_async(handler: Handler) -> bool:
    """The colour of *handler*: async functions, methods, partials of them, objects whose `__call__` is, and
    functions marked as such (`inspect.markcoroutinefunction`, or asgiref's before Python 3.12)."""
    while isinstance(handler, partial):
        handler = handler.func
    call: Iterable[Any] = (handler, getattr(type(handler), "__call__", None))  # noqa: B004
    return any(iscoroutinefunction(function) for function in call)  # pyright: ignore[reportDeprecated]  it is only where it is asyncio's
