"""What an app may answer, what its mistakes answer, and the line that the log has of each."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from wsadapter import Limits, Request
from wsadapter.app import checked, failure, is_websocket, log, open
from wsadapter.http import Exchange, Response

from .wire import get, handshake


def asked(data: bytes, peer: str | None = "192.0.2.7") -> Exchange:
    """An exchange with the request that *data* is."""
    exchange = Exchange(limits=Limits(), scheme="http", peer=peer, now=0.0)
    exchange.receive_data(data, 0.0)
    exchange.next_request()
    return exchange


def request(data: bytes) -> Request:
    found = asked(data).request
    assert found is not None
    return found


def handler(connection: object) -> None:
    raise AssertionError("no handler runs here")


def test_open_answers_a_handshake_with_the_101_and_runs_nothing() -> None:
    """ "`open` runs nothing. It checks the request and returns the host framework's own plain response"."""
    response = open(request(handshake("/", "Sec-WebSocket-Protocol: chat")), handler, protocols=["chat"])
    assert (response.status, response.body) == (101, b"")
    assert response.opening is not None
    assert response.opening.handler is handler
    assert response.headers == [("Sec-WebSocket-Protocol", "chat")]
    assert checked(response) is response


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get(), 426),
        (handshake("/", "Origin: http://elsewhere.example"), 403),
        (handshake().replace(b"GET", b"POST"), 405),
        (handshake().replace(b"Version: 13", b"Version: 8"), 426),
        (handshake("/", "Content-Length: 1") + b"x", 400),
    ],
    ids=["no-websocket", "foreign-page", "post", "version", "body"],
)
def test_open_answers_anything_else_with_the_refusal(data: bytes, status: int) -> None:
    response = open(request(data), handler)
    assert (response.status, response.opening) == (status, None)
    assert response.body.endswith(b"\n")


def test_a_mistake_in_the_call_of_open_raises() -> None:
    with pytest.raises(TypeError, match="give the function itself"):
        open(request(get()), "handler")  # type: ignore[arg-type]


def test_one_route_can_tell_a_websocket_from_a_page() -> None:
    assert is_websocket(request(handshake()))
    assert not is_websocket(request(get()))


@pytest.mark.parametrize("answer", [None, "hello", 200], ids=["none", "text", "status"])
def test_what_is_no_response_is_an_error_that_says_so(answer: object) -> None:
    with pytest.raises(TypeError, match=f"the app returned {answer!r}: it has to return a Response"):
        checked(answer)


def test_a_response_that_cannot_be_sent_is_an_error() -> None:
    with pytest.raises(ValueError, match="from 200 to 599"):
        checked(Response(status=101))


def test_an_app_that_fails_is_logged_and_nothing_of_it_told(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("a secret")
    response = failure(request(get("/a%0Ab?token")), error)
    assert response.status == 500
    assert b"secret" not in response.body
    [record] = caplog.records
    assert (record.name, record.levelname) == ("wsadapter", "ERROR")
    assert record.getMessage() == r"The app failed at '/a\nb'"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (get("/chat/connect"), '192.0.2.7 "GET /chat/connect HTTP/1.1" 200'),
        (get("/chat?token=secret"), '192.0.2.7 "GET /chat HTTP/1.1" 200'),
        (get("/", method="HEAD", version="1.0"), '192.0.2.7 "HEAD / HTTP/1.0" 200'),
        (get("/%0D%0Aforged"), r'192.0.2.7 "GET /\r\nforged HTTP/1.1" 200'),
        (get("/%1B[31m%00"), r'192.0.2.7 "GET /\x1b[31m\x00 HTTP/1.1" 200'),
        (get("/%C3%A9%E2%80%AE%F0%9F%92%A5"), r'192.0.2.7 "GET /\xe9\u202e\U0001f4a5 HTTP/1.1" 200'),
        (get("/%FF"), r'192.0.2.7 "GET /\ufffd HTTP/1.1" 200'),
        (get("/it's"), """192.0.2.7 "GET /it's HTTP/1.1" 200"""),
        (get("/%22%20200%20%22"), r'192.0.2.7 "GET /\x22 200 \x22 HTTP/1.1" 200'),
        (get("/%5Cn%25s"), r'192.0.2.7 "GET /\\n%s HTTP/1.1" 200'),
        (b"\x16\x03\x01\r\n\r\n", '192.0.2.7 "-" 200'),
    ],
    ids=[
        "plain",
        "query",
        "head",
        "newline",
        "escape",
        "unicode",
        "no-utf-8",
        "quote",
        "double-quote",
        "backslash",
        "no-request",
    ],
)
def test_the_access_log_has_one_line_for_an_answer(caplog: pytest.LogCaptureFixture, data: bytes, line: str) -> None:
    """ "one access-log line each through `logging`, hostile bytes escaped" """
    caplog.set_level(logging.INFO, "wsadapter.access")
    exchange = Exchange(limits=Limits(), scheme="http", peer="192.0.2.7", now=0.0)
    exchange.receive_data(data, 0.0)
    try:
        exchange.next_request()
    except Exception:
        assert exchange.request is None
    log(exchange, 200)
    [record] = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == ("wsadapter.access", "INFO", line)


def test_the_access_log_does_without_the_address_of_a_unix_socket(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wsadapter.access")
    log(asked(get(), peer=None), 404)
    assert caplog.messages == ['- "GET / HTTP/1.1" 404']


def test_an_access_log_that_nobody_wants_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "wsadapter.access")
    hostile: Any = object()
    log(hostile, 200)
    assert not caplog.records


def test_why_a_websocket_was_refused_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A browser hides the answer from the page that asked."""
    caplog.set_level(logging.INFO, "wsadapter")
    open(Request(path="/chat\n"), lambda connection: None)
    assert caplog.messages[0].startswith("'/chat\\n' refused a WebSocket: This address speaks WebSocket")
