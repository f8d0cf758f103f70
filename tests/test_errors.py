"""One tree, one base, and each error knows its close code or its HTTP status."""

from __future__ import annotations

import pytest

from wsadapter import errors
from wsadapter.errors import (
    ConcurrencyError,
    ConnectionClosed,
    InvalidMessage,
    MessageTooBig,
    OutboxFull,
    ProtocolError,
    Refused,
    Unsupported,
    WebSocketError,
)

EVERY: list[tuple[WebSocketError, type[Exception], int, int]] = [
    (WebSocketError("x"), Exception, 1011, 500),
    (ConnectionClosed(1000, ""), WebSocketError, 1011, 500),
    (ProtocolError("x"), WebSocketError, 1002, 400),
    (ProtocolError("x", 1003), WebSocketError, 1003, 400),
    (MessageTooBig("x"), ProtocolError, 1009, 400),
    (InvalidMessage("x"), ProtocolError, 1007, 400),
    (OutboxFull("x"), WebSocketError, 1013, 500),
    (ConcurrencyError("x"), WebSocketError, 1011, 500),
    (Unsupported("x"), WebSocketError, 1011, 501),
    (Refused(403, "x"), WebSocketError, 1011, 403),
]


@pytest.mark.parametrize(
    ("error", "base", "close_code", "status"), EVERY, ids=[f"{type(row[0]).__name__}-{row[2]}" for row in EVERY]
)
def test_an_error_knows_its_base_its_close_code_and_its_status(
    error: WebSocketError, base: type[Exception], close_code: int, status: int
) -> None:
    assert type(error).__bases__ == (base,)
    assert (error.close_code, error.status) == (close_code, status)


def test_every_error_is_exported_and_under_the_one_base() -> None:
    assert sorted(errors.__all__) == sorted({type(row[0]).__name__ for row in EVERY})
    assert all(issubclass(getattr(errors, name), WebSocketError) for name in errors.__all__)


def test_connection_closed_tells_how_and_whose() -> None:
    closed = ConnectionClosed(1001, "tea time", connection := object())
    assert (closed.code, closed.reason, closed.connection) == (1001, "tea time", connection)
    assert str(closed) == "the conversation is over: 1001 (tea time)"
    assert str(ConnectionClosed(1006, "")) == "the conversation is over: 1006"


def test_a_refusal_is_an_http_answer() -> None:
    refused = Refused(426, "Only version 13.", (("Sec-WebSocket-Version", "13"),))
    assert (refused.status, str(refused), refused.headers) == (
        426,
        "Only version 13.",
        (("Sec-WebSocket-Version", "13"),),
    )
    assert Refused(400, "No.").headers == ()
