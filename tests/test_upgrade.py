"""The opening handshake: each sentence of RFC 6455 §4.2.1, kept and broken."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.errors import Refused
from wsadapter.request import Headers, Request
from wsadapter.upgrade import accept_headers, accept_key, check, is_websocket

from .streams import examples

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
FIELDS = {
    "Host": "server.example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def request(
    *more: tuple[str, str], without: str = "", method: str = "GET", http_version: str = "1.1", **changed: str
) -> Request:
    """The handshake of RFC 6455 §1.2, with fields left out, changed or put behind it."""
    fields = {
        name: changed.get(name.replace("-", "_").lower(), value) for name, value in FIELDS.items() if name != without
    }
    return Request(method=method, headers=Headers([*fields.items(), *more]), http_version=http_version)


def refusal(of: Request) -> Refused:
    with pytest.raises(Refused) as caught:
        check(of)
    return caught.value


def test_the_example_of_the_rfc_is_answered_as_there() -> None:
    """RFC 6455 §1.3"""
    check(request())
    assert accept_headers(request()) == [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ]
    assert accept_key(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    "good",
    [
        request(upgrade="WebSocket"),
        request(upgrade="h2c, websocket"),
        request(("Upgrade", "websocket"), upgrade="h2c"),
        request(connection="keep-alive, UPGRADE"),
        request(("Connection", "upgrade"), connection="keep-alive"),
        request(("Content-Length", "0")),
        request(sec_websocket_key=base64.b64encode(b"\xff" * 16).decode()),
        request(sec_websocket_key=f" {KEY}\t"),
    ],
    ids=[
        "upgrade-in-any-case",
        "upgrade-in-a-list",
        "upgrade-in-a-second-field",
        "connection-in-a-list",
        "connection-in-a-second-field",
        "an-empty-body",
        "any-16-bytes",
        "white-space-around-the-key",
    ],
)
def test_what_the_rfc_allows_is_let_through(good: Request) -> None:
    """RFC 6455 §4.2.1"""
    assert is_websocket(good)
    check(good)


@pytest.mark.parametrize(
    ("bad", "status", "says"),
    [
        (request(without="Upgrade"), 426, "open it with a WebSocket client"),
        (request(upgrade="h2c"), 426, "open it with a WebSocket client"),
        (request(upgrade="websocket2"), 426, "open it with a WebSocket client"),
        (request(method="POST"), 405, "opened with GET"),
        (request(method="get"), 405, "opened with GET"),
        (request(http_version="1.0"), 426, "over HTTP/1.1"),
        (request(http_version="2"), 426, "over HTTP/1.1"),
        (request(without="Host"), 400, "one Host"),
        (request(("Host", "other")), 400, "one Host"),
        (request(without="Connection"), 400, "'Connection: Upgrade' is missing"),
        (request(connection="close"), 400, "'Connection: Upgrade' is missing"),
        (request(without="Sec-WebSocket-Version"), 426, "version 13"),
        (request(sec_websocket_version="8"), 426, "version 13"),
        (request(sec_websocket_version="013"), 426, "version 13"),
        (request(("Sec-WebSocket-Version", "8")), 426, "version 13"),
        (request(("Sec-WebSocket-Version", "13")), 426, "version 13"),
        (request(without="Sec-WebSocket-Key"), 400, "16 bytes"),
        (request(("Sec-WebSocket-Key", KEY)), 400, "16 bytes"),
        (request(sec_websocket_key=""), 400, "16 bytes"),
        (request(sec_websocket_key="!!!"), 400, "16 bytes"),
        (request(sec_websocket_key="dGhl IHNhbXBsZSBub25jZQ=="), 400, "16 bytes"),
        (request(sec_websocket_key=KEY[:-1]), 400, "16 bytes"),
        (request(sec_websocket_key="="), 400, "16 bytes"),
        (request(sec_websocket_key=base64.b64encode(bytes(15)).decode()), 400, "16 bytes"),
        (request(sec_websocket_key=base64.b64encode(bytes(17)).decode()), 400, "16 bytes"),
        (request(sec_websocket_key=f"{KEY},{KEY}"), 400, "16 bytes"),
        (request(sec_websocket_key="ÿ" * 24), 400, "16 bytes"),
        (request(sec_websocket_key="€" * 24), 400, "16 bytes"),
        (request(("Content-Length", "11")), 400, "without a body"),
        (request(("Content-Length", "0"), ("Content-Length", "1")), 400, "without a body"),
        (request(("Content-Length", "x")), 400, "without a body"),
        (request(("Transfer-Encoding", "chunked")), 400, "without a body"),
    ],
    ids=[
        "no-upgrade",
        "another-upgrade",
        "nearly-websocket",
        "post",
        "get-in-lower-case",
        "http-1.0",
        "http-2",
        "no-host",
        "two-hosts",
        "no-connection",
        "another-connection",
        "no-version",
        "version-8",
        "version-with-a-zero",
        "versions-13-and-8",
        "version-13-twice",
        "no-key",
        "two-keys",
        "empty-key",
        "key-not-base64",
        "space-in-the-key",
        "padding-missing",
        "padding-alone",
        "key-of-15-bytes",
        "key-of-17-bytes",
        "two-keys-in-a-list",
        "key-not-ascii",
        "key-not-latin-1",
        "a-body",
        "a-body-and-none",
        "a-body-of-no-length",
        "a-chunked-body",
    ],
)
def test_what_the_rfc_forbids_is_refused_in_plain_words(bad: Request, status: int, says: str) -> None:
    """RFC 6455 §4.2.1"""
    refused = refusal(bad)
    assert refused.status == status
    assert says in str(refused)


def test_refusals_carry_the_headers_that_say_what_to_do() -> None:
    """RFC 6455 §4.4 and RFC 9110 §10.2.1, §15.5.22"""
    assert refusal(request(sec_websocket_version="12")).headers == (
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
    )
    assert refusal(request(method="POST")).headers == (("Allow", "GET"),)
    assert refusal(request(without="Upgrade")).headers == (("Upgrade", "websocket"),)
    assert refusal(request(http_version="1.0")).headers == (("Upgrade", "websocket"),)


def test_a_request_in_the_wrong_way_is_still_one_for_a_websocket() -> None:
    assert is_websocket(request(sec_websocket_version="8", method="POST"))
    assert not is_websocket(request(upgrade=""))


names = st.sampled_from([name.encode() for name in FIELDS] + [b"content-length", b"transfer-encoding", b"\xff", b""])
values = st.one_of(st.sampled_from([value.encode() for value in FIELDS.values()]), st.binary(max_size=40))


@examples(500)
@given(
    st.lists(st.tuples(names, values), max_size=12),
    st.booleans(),
    st.sampled_from(["GET", "POST", "\xff", ""]),
    st.sampled_from(["1.1", "1.0", "2", ""]),
)
def test_every_request_gets_an_answer(fields: list[Any], complete: bool, method: str, version: str) -> None:
    if complete:
        fields = [*FIELDS.items(), *fields]
    asked = Request(method=method, headers=Headers(fields), http_version=version)
    refused = None
    try:
        check(asked)
    except Refused as answer:
        refused = answer
    if refused is not None:
        assert refused.status in (400, 405, 426)
        assert str(refused).isascii()
        assert str(refused).rstrip(")").endswith(".")
    else:
        assert is_websocket(asked)
        assert (method, version) == ("GET", "1.1")
        assert all(value.isascii() and value.isprintable() for _, value in accept_headers(asked))
