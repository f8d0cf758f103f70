"""What `open` checks and agrees to before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

import pytest
from asgiref.sync import markcoroutinefunction
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.deflate import Parameters
from wsadapter.errors import Refused
from wsadapter.opening import Opening, is_async, prepare
from wsadapter.options import Deflate, Limits
from wsadapter.request import Headers, Request

from .streams import examples


async def chat(connection: Any, user: str = "") -> None:
    raise NotImplementedError


def blocking_chat(connection: Any, user: str = "") -> None:
    raise NotImplementedError


class Room:
    async def enter(self, connection: Any) -> None:
        raise NotImplementedError

    def look(self, connection: Any) -> None:
        raise NotImplementedError


class AsyncDoor:
    async def __call__(self, connection: Any) -> None:
        raise NotImplementedError


class BlockingDoor:
    def __call__(self, connection: Any) -> None:
        raise NotImplementedError


def returns_a_coroutine(connection: Any) -> Any:
    return chat(connection)


marked = markcoroutinefunction(partial(returns_a_coroutine).func)


@pytest.mark.parametrize(
    ("handler", "asynchronous"),
    [
        (chat, True),
        (partial(chat, user="Alice"), True),
        (partial(partial(chat), user="Alice"), True),
        (Room().enter, True),
        (partial(Room().enter), True),
        (AsyncDoor(), True),
        (partial(AsyncDoor()), True),
        (marked, True),
        (blocking_chat, False),
        (partial(blocking_chat, user="Alice"), False),
        (Room().look, False),
        (BlockingDoor(), False),
        (lambda connection: None, False),
        (AsyncDoor, False),
        (len, False),
    ],
    ids=[
        "async-def",
        "partial",
        "partial-of-a-partial",
        "async-method",
        "partial-of-an-async-method",
        "object-with-an-async-call",
        "partial-of-such-an-object",
        "marked",
        "def",
        "partial-of-a-def",
        "method",
        "object-with-a-call",
        "lambda",
        "class",
        "builtin",
    ],
)
def test_the_colour_of_a_handler_is_known_before_it_runs(handler: Callable[..., Any], asynchronous: bool) -> None:
    assert is_async(handler) is asynchronous
    assert prepare(Request(), handler).asynchronous is asynchronous


def test_an_opening_holds_what_was_agreed_on_and_what_was_asked_for() -> None:
    request = Request(
        headers=Headers(
            [
                ("Sec-WebSocket-Protocol", "v1, v2"),
                ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
            ]
        )
    )
    ours, limits, context = Deflate(), Limits(inbox=1), copy_context()
    assert prepare(
        request,
        chat,
        protocols=["v2", "v1"],
        require_protocol=True,
        origins="*",
        headers={"X-A": "1"},
        compression=ours,
        limits=limits,
        receive=False,
        cancel_on_disconnect=True,
        context=context,
    ) == Opening(
        request=request,
        handler=chat,
        asynchronous=True,
        subprotocol="v2",
        deflate=Parameters(server_max_window_bits=12, client_max_window_bits=12, ours=ours),
        headers=(
            ("Sec-WebSocket-Protocol", "v2"),
            ("Sec-WebSocket-Extensions", "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"),
            ("X-A", "1"),
        ),
        limits=limits,
        receive=False,
        cancel_on_disconnect=True,
        context=context,
    )


def test_nothing_is_agreed_on_unless_asked_for() -> None:
    headers = [("Sec-WebSocket-Protocol", "v1"), ("Sec-WebSocket-Extensions", "permessage-deflate")]
    opening = prepare(Request(headers=Headers(headers)), chat)
    assert (opening.subprotocol, opening.deflate, opening.headers) == (None, None, ())
    assert opening.limits is None  # the host has its own
    assert (opening.receive, opening.cancel_on_disconnect, opening.context) == (True, False, None)


def test_compression_that_was_not_offered_is_not_used() -> None:
    opening = prepare(Request(), chat, compression=Deflate())
    assert (opening.deflate, opening.headers) == (None, ())


@pytest.mark.parametrize(
    ("fields", "arguments", "status"),
    [
        ([("Host", "a"), ("Origin", "https://b")], {}, 403),
        ([("Sec-WebSocket-Protocol", "a b")], {}, 400),
        ([], {"protocols": ["a"], "require_protocol": True}, 400),
    ],
    ids=["origin", "protocols", "no-protocol"],
)
def test_a_client_at_fault_is_refused(fields: list[tuple[str, str]], arguments: dict[str, Any], status: int) -> None:
    with pytest.raises(Refused) as caught:
        prepare(Request(headers=Headers(fields)), chat, **arguments)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("handler", "arguments", "error", "says"),
    [
        (None, {}, TypeError, r"give the function itself, with arguments by functools\.partial"),
        ("chat", {}, TypeError, r"handler='chat'"),
        (blocking_chat, {"cancel_on_disconnect": True}, ValueError, "only an async def handler can be cancelled"),
        (chat, {"protocols": "chat"}, ValueError, "give a sequence"),
        (chat, {"protocols": ["a b"]}, ValueError, "is not a token"),
        (chat, {"require_protocol": True}, ValueError, "name some in protocols="),
        (chat, {"origins": "example.com"}, ValueError, "an origin is like"),
        (chat, {"headers": {"Upgrade": "x"}}, ValueError, "set by the handshake"),
    ],
    ids=["no-handler", "a-name", "cancel-a-def", "protocols-str", "protocols", "require", "origins", "headers"],
)
def test_a_mistake_in_the_program_is_told_whatever_the_request(
    handler: Any, arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    foreign = Request(headers=Headers([("Host", "a"), ("Origin", "https://b"), ("Sec-WebSocket-Protocol", "a b")]))
    for request in (Request(), foreign):
        with pytest.raises(error, match=says):
            prepare(request, handler, **arguments)


names = st.sampled_from(
    [b"host", b"origin", b"sec-fetch-site", b"sec-websocket-protocol", b"sec-websocket-extensions", b"\xff"]
)


@examples(300)
@given(st.lists(st.tuples(names, st.binary(max_size=40)), max_size=8))
def test_every_request_is_opened_or_refused(fields: list[tuple[bytes, bytes]]) -> None:
    opening, status = None, 101
    try:
        opening = prepare(Request(headers=Headers(fields)), chat, protocols=["a", "b"], compression=Deflate())
    except Refused as refused:
        status = refused.status
    assert status in (101, 400, 403)
    if opening is not None:
        assert all(value.isascii() and value.isprintable() for _, value in opening.headers)


async def yields(connection: Any) -> Any:
    yield connection


def yields_too(connection: Any) -> Any:
    yield connection


@pytest.mark.parametrize("handler", [yields, yields_too])
def test_a_handler_with_a_yield_in_it_would_never_run(handler: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="it has a yield in it"):
        prepare(Request(), handler)
