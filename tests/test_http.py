"""The embedded server's HTTP, of bytes and numbers only: every answer, and when."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.app import open
from wsadapter.errors import Refused
from wsadapter.http import BODY_SIZE, Exchange, Response, State, host_of
from wsadapter.options import Limits
from wsadapter.request import Request

from .streams import examples
from .wire import Answer, get, handshake


def begin(**limits: Any) -> Exchange:
    """A connection that was made at 0."""
    return Exchange(limits=Limits(**limits), scheme="http", peer="192.0.2.7", now=0.0)


def taken(exchange: Exchange, data: bytes, now: float = 0.0) -> Request:
    """The request that *data* completes."""
    exchange.receive_data(data, now)
    request = exchange.next_request()
    assert request is not None
    return request


def refused(exchange: Exchange, data: bytes) -> Refused:
    """Why *data* is no request."""
    exchange.receive_data(data, 0.0)
    with pytest.raises(Refused) as caught:
        exchange.next_request()
    assert exchange.state is State.ANSWERING
    return caught.value


def answered(exchange: Exchange, response: Response, now: float = 0.0, **how: bool) -> Answer:
    head, end, body = exchange.respond(response, now, **how).partition(b"\r\n\r\n")
    return Answer.parse(head + end, body)


def websocket(exchange: Exchange, *lines: str, behind: bytes = b"") -> Response:
    """The 101 for a good handshake, with *behind* behind it."""
    return open(taken(exchange, handshake("/chat", *lines) + behind), lambda connection: None)


# --------------------------------------------------------------------------------------------- responses


@pytest.mark.parametrize(
    ("response", "body", "kind"),
    [
        (Response("grüße"), "grüße".encode(), "text/plain; charset=utf-8"),
        (Response(b"\x00"), b"\x00", "application/octet-stream"),
        (Response("<p>", content_type="text/html"), b"<p>", "text/html; charset=utf-8"),
        (Response(), b"", None),
        (Response(""), b"", None),
    ],
    ids=["text", "bytes", "with-a-type", "nothing", "no-text"],
)
def test_a_response_has_a_body_of_a_type(response: Response, body: bytes, kind: str | None) -> None:
    assert response.body == body
    assert dict(response.headers).get("Content-Type") == kind
    assert response.status == 200
    assert response.opening is None


def test_a_response_tells_its_status() -> None:
    assert repr(Response(status=404)) == "<Response 404>"


@pytest.mark.parametrize("body", [None, {"text": "hello"}, bytearray(b"hello")], ids=["none", "dict", "bytearray"])
def test_a_body_of_another_type_raises_where_it_is_given(body: Any) -> None:
    with pytest.raises(TypeError, match=f"the body of a response is str or bytes, not {type(body).__name__}"):
        Response(body)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("page.html", "text/html; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("picture.png", "image/png"),
        ("archive.tar.gz", "application/octet-stream"),
        ("unknown", "application/octet-stream"),
    ],
)
def test_a_file_is_served_with_the_type_of_its_name(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    for path in (tmp_path / name, str(tmp_path / name)):
        response = Response.file(path)
        assert (response.status, response.body) == (200, b"content")
        assert response.headers == [("Content-Type", kind)]


@pytest.mark.parametrize("name", ["missing.html", ".", "page.html/more"], ids=["missing", "folder", "below-a-file"])
def test_where_there_is_no_file_the_answer_is_404(tmp_path: Path, name: str) -> None:
    (tmp_path / "page.html").touch()
    response = Response.file(tmp_path / name)
    assert response.status == 404
    assert str(tmp_path) not in response.body.decode()


def test_a_refusal_is_a_response_with_its_sentence_and_headers() -> None:
    response = Response.refusal(Refused(405, "A WebSocket is opened with GET.", (("Allow", "GET"),)))
    assert (response.status, response.body) == (405, b"A WebSocket is opened with GET.\n")
    assert ("Allow", "GET") in response.headers


@pytest.mark.parametrize(
    "response",
    [Response("x"), Response(status=599), Response("", 204), Response(headers=[("Set-Cookie", "a=1; Path=/")])],
    ids=["200", "599", "204", "cookie"],
)
def test_a_response_that_can_be_sent_passes(response: Response) -> None:
    response.check()


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (Response(status=101), "a 101 is what `open` returns"),
        (Response(status=199), "from 200 to 599"),
        (Response(status=600), "from 200 to 599"),
        (Response(headers=[("Content-Length", "7")]), "Content-Length is set by the server"),
        (Response(headers=[("transfer-encoding", "chunked")]), "transfer-encoding is set by the server"),
        (Response(headers=[("X", "a\r\nSet-Cookie: b=2")]), "cannot be a header"),
        (Response(headers=[("X Y", "a")]), "cannot be a header"),
        (Response(headers=[("X", "☃")]), "cannot be a header"),
        (Response("x", content_type="text/html\n"), "cannot be a header"),
    ],
    ids=["101", "199", "600", "length", "chunked", "injection", "name", "unicode", "type"],
)
def test_a_response_that_cannot_be_sent_says_why(response: Response, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        response.check()


# ---------------------------------------------------------------------------------------------- requests


def test_a_request_is_read_as_it_came() -> None:
    exchange = begin()
    request = taken(exchange, get("/a%20b?q=%20&r", "Cookie: a=1", "cookie: b=2"))
    assert request is exchange.request
    assert exchange.state is State.ANSWERING
    assert (request.method, request.path, request.query) == ("GET", "/a b", "q=%20&r")
    assert (request.scheme, request.peer, request.http_version) == ("http", "192.0.2.7", "1.1")
    assert request.headers.get_all("Cookie") == ["a=1", "b=2"]


def test_a_request_may_come_byte_by_byte() -> None:
    exchange = begin()
    data = get("/slowly")
    for i in range(len(data) - 1):
        exchange.receive_data(data[i : i + 1], float(i))
        assert exchange.next_request() is None
        assert exchange.state is State.READING
    assert taken(exchange, data[-1:]).path == "/slowly"


def test_a_connection_is_kept_for_further_requests() -> None:
    """RFC 9112 §9.3: HTTP/1.1 connections are persistent by default."""
    exchange = begin()
    for path in ("/1", "/2", "/3"):
        assert taken(exchange, get(path)).path == path
        answer = answered(exchange, Response(path))
        assert (answer.status, answer.body) == (200, path.encode())
        assert "connection" not in answer.headers
        assert exchange.state is State.READING
        assert exchange.request is None


@pytest.mark.parametrize(
    "request_",
    [get("/", "Connection: close"), get("/", version="1.0"), get("/", "Connection: keep-alive", version="1.0")],
    ids=["asked-to-close", "http-1.0", "http-1.0-keep-alive"],
)
def test_a_connection_that_is_not_to_be_kept_closes(request_: bytes) -> None:
    """RFC 9112 §9.3, §9.6"""
    exchange = begin()
    taken(exchange, request_)
    assert answered(exchange, Response("bye")).headers["connection"] == "close"
    assert exchange.state is State.CLOSED
    assert exchange.next_request() is None


def test_a_server_that_ends_keeps_no_connection() -> None:
    exchange = begin()
    taken(exchange, get())
    assert answered(exchange, Response(), keep_alive=False).headers["connection"] == "close"
    assert exchange.state is State.CLOSED


def test_after_the_last_answer_nothing_is_read() -> None:
    exchange = begin()
    taken(exchange, get("/", "Connection: close"))
    exchange.respond(Response(), 0.0)
    exchange.receive_data(get(), 0.0)
    exchange.receive_data(b"", 0.0)
    assert exchange.next_request() is None


def test_a_pipelined_request_waits_for_the_answer_to_the_one_before() -> None:
    """RFC 9112 §9.3.2"""
    exchange = begin()
    assert taken(exchange, get("/1") + get("/2") + get("/3")[:-2]).path == "/1"
    assert exchange.next_request() is None
    assert exchange.trailing_data == get("/2") + get("/3")[:-2]
    exchange.respond(Response(), 0.0)
    second = exchange.next_request()
    assert second is not None
    assert second.path == "/2"
    exchange.respond(Response(), 0.0)
    assert exchange.next_request() is None
    assert taken(exchange, get("/3")[-2:]).path == "/3"


def test_head_is_answered_with_the_length_and_no_body() -> None:
    """RFC 9110 §9.3.2"""
    exchange = begin()
    assert taken(exchange, get(method="HEAD")).method == "HEAD"
    answer = answered(exchange, Response("twelve bytes"))
    assert (answer.headers["content-length"], answer.body) == ("12", b"")
    assert exchange.state is State.READING


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_is_sent_without_one(status: int) -> None:
    """RFC 9110 §15.3.5, §15.4.5"""
    exchange = begin()
    taken(exchange, get())
    answer = answered(exchange, Response("what should not be here", status))
    assert answer.body == b""
    assert answer.headers.get("content-length", "0") == "0"
    assert exchange.state is State.READING


def test_a_response_says_when_it_was_made_and_what_its_status_means() -> None:
    """RFC 9110 §6.6.1"""
    exchange = begin()
    taken(exchange, get())
    data = exchange.respond(Response(status=404), 0.0)
    assert data.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert parsedate_to_datetime(Answer.parse(data).headers["date"]).tzinfo is not None


def test_a_status_that_has_no_name_has_an_empty_one() -> None:
    exchange = begin()
    taken(exchange, get())
    assert exchange.respond(Response(status=299), 0.0).startswith(b"HTTP/1.1 299 \r\n")


def test_a_response_with_upgrade_has_it_in_connection_too() -> None:
    """RFC 9110 §7.8: "A sender of Upgrade MUST also send an "Upgrade" connection option"."""
    exchange = begin()
    answer = answered(exchange, open(taken(exchange, get()), lambda connection: None))
    assert answer.status == 426
    assert (answer.headers["upgrade"], answer.headers["connection"]) == ("websocket", "Upgrade")


# ------------------------------------------------------------------------------------------------ bodies


@pytest.mark.parametrize(
    "data",
    [
        get("/", f"Content-Length: {BODY_SIZE}", method="POST") + bytes(BODY_SIZE),
        get("/", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
        get("/", "Content-Length: 0", method="POST"),
    ],
    ids=["length", "chunked", "empty"],
)
def test_a_body_is_read_and_dropped(data: bytes) -> None:
    exchange = begin()
    assert taken(exchange, data + get("/next")).method == "POST"
    exchange.respond(Response(), 0.0)
    request = exchange.next_request()
    assert request is not None
    assert request.path == "/next"


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (f"Content-Length: {BODY_SIZE + 1}", bytes(BODY_SIZE + 1)),
        ("Transfer-Encoding: chunked", b"%x\r\n" % (BODY_SIZE + 1) + bytes(BODY_SIZE + 1)),
    ],
    ids=["length", "chunked"],
)
def test_a_body_beyond_the_bound_is_answered_with_413(line: str, body: bytes) -> None:
    exchange = begin()
    refusal = refused(exchange, get("/", line, method="POST") + body)
    assert refusal.status == 413
    assert answered(exchange, Response.refusal(refusal)).headers["connection"] == "close"
    assert exchange.state is State.CLOSED


def test_a_body_that_waits_to_be_asked_for_is_refused_with_417() -> None:
    """RFC 9110 §10.1.1: an "immediate response with a final status code", or 100."""
    exchange = begin()
    refusal = refused(exchange, get("/", "Content-Length: 5", "Expect: 100-continue", method="POST"))
    assert refusal.status == 417
    assert answered(exchange, Response.refusal(refusal)).headers["connection"] == "close"


# ---------------------------------------------------------------------------------- what is no request


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/one\r\n\r\n",
        b"G(T / HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        get("/", "Host: elsewhere"),
        get("/", "Name : value"),
        get("/", "Name: a\0b"),
        get("/", "no colon"),
        get("/", "Content-Length: -1"),
        get("/", "Content-Length: 1", "Content-Length: 2"),
        get("/", "Transfer-Encoding: chunked") + b"no size\r\n",
    ],
    ids=[
        "tls",
        "no-request-line",
        "nothing",
        "two-blanks",
        "version",
        "method",
        "target",
        "no-host",
        "two-hosts",
        "blank-before-colon",
        "nul",
        "no-colon",
        "length",
        "two-lengths",
        "chunk",
    ],
)
def test_what_is_malformed_is_answered_with_400(data: bytes) -> None:
    """RFC 9112 §3, §3.2, §5.1, §6.3"""
    exchange = begin()
    refusal = refused(exchange, data)
    assert refusal.status == 400
    assert str(refusal).isascii()
    assert "\n" not in str(refusal)
    answer = answered(exchange, Response.refusal(refusal))
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert exchange.state is State.CLOSED


def test_an_encoding_that_is_not_known_is_answered_with_501() -> None:
    """RFC 9112 §6.1"""
    assert refused(begin(), get("/", "Transfer-Encoding: gzip")).status == 501


@pytest.mark.parametrize("target", ["localhost:80", "/"])
def test_a_tunnel_is_refused(target: str) -> None:
    """RFC 9110 §9.3.6: a 2xx would make one of this connection."""
    exchange = begin()
    refusal = refused(exchange, get(target, method="CONNECT"))
    assert refusal.status == 501
    assert answered(exchange, Response.refusal(refusal)).status == 501


def test_a_request_with_two_lengths_is_refused_and_closed() -> None:
    """RFC 9112 §6.1"""
    exchange = begin()
    two = "Content-Length: 3", "Transfer-Encoding: chunked"
    refusal = refused(exchange, get("/", *two, method="POST") + b"0\r\n\r\n")
    assert refusal.status == 400
    answered(exchange, Response.refusal(refusal))
    assert exchange.state is State.CLOSED


def test_another_version_of_http_is_refused() -> None:
    refusal = refused(begin(), b"GET / HTTP/9.9\r\nHost: a\r\n\r\n")
    assert refusal.status == 505


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "http://localhost/"),
        ("GET", "/page#part"),
        ("OPTIONS", "*"),
        ("GET", "page"),
    ],
    ids=["absolute", "fragment", "asterisk", "relative"],
)
def test_a_target_that_is_no_path_is_answered_with_400(method: str, target: str) -> None:
    """RFC 9112 §3.2: of the forms a target has, only the origin form is one of ours."""
    exchange = begin()
    refusal = refused(exchange, get(target, method=method))
    assert (refusal.status, "path" in str(refusal)) == (400, True)
    assert answered(exchange, Response.refusal(refusal)).status == 400
    assert exchange.state is State.READING
    assert taken(exchange, get("/next")).path == "/next"


@pytest.mark.parametrize("pieces", [1, 8], ids=["at-once", "in-pieces"])
def test_a_head_that_is_too_large_is_answered_with_431(pieces: int) -> None:
    """RFC 6585 §5; `Limits.head_size`"""
    exchange = begin(head_size=1000)
    data = get("/", "Cookie: " + "c" * 1000)
    for _ in range(1, pieces):
        exchange.receive_data(data[:100], 0.0)
        assert exchange.next_request() is None
        data = data[100:]
    refusal = refused(exchange, data)
    assert refusal.status == 431
    assert "1000 bytes" in str(refusal)
    assert answered(exchange, Response.refusal(refusal)).headers["connection"] == "close"


def test_a_head_as_large_as_may_be_is_read() -> None:
    data = get("/", "Cookie: " + "c" * 1000)
    assert taken(begin(head_size=len(data)), data + bytes(9000)).headers["cookie"] == "c" * 1000
    assert refused(begin(head_size=len(data) - 1), data).status == 431


def test_a_head_that_never_ends_is_cut_off_with_431() -> None:
    exchange = begin()
    exchange.receive_data(get()[:-2], 0.0)
    for _ in range(15):
        exchange.receive_data(b"X: %s\r\n" % (b"x" * 1024), 0.0)
        assert exchange.next_request() is None
    assert refused(exchange, b"X: %s\r\n" % (b"x" * 1024)).status == 431


def test_too_many_headers_are_answered_with_431() -> None:
    """RFC 6585 §5; `Limits.headers`"""
    exchange = begin(headers=10)
    assert taken(exchange, get("/", *["X: y"] * 9)).path == "/"
    exchange.respond(Response(), 0.0)
    refusal = refused(exchange, get("/", *["X: y"] * 10))
    assert refusal.status == 431
    assert "10 headers" in str(refusal)


# -------------------------------------------------------------------------------------------- the end


def test_a_client_that_closes_between_requests_gets_no_answer() -> None:
    exchange = begin()
    taken(exchange, get())
    exchange.respond(Response(), 0.0)
    exchange.receive_data(b"", 0.0)
    assert exchange.next_request() is None
    assert exchange.state is State.CLOSED


def test_a_client_that_closes_right_after_its_request_is_answered() -> None:
    exchange = begin()
    taken(exchange, get())
    exchange.receive_data(b"", 0.0)
    assert exchange.next_request() is None
    assert answered(exchange, Response("here")).body == b"here"
    assert exchange.next_request() is None
    assert exchange.state is State.CLOSED


def test_a_client_that_closes_inside_a_head_is_answered_with_400() -> None:
    exchange = begin()
    exchange.receive_data(get()[:-1], 0.0)
    assert refused(exchange, b"").status == 400


# --------------------------------------------------------------------------------------------- upgrades


def test_a_websocket_is_begun_by_a_101_with_the_headers_of_its_response() -> None:
    """RFC 6455 §4.2.2"""
    exchange = begin()
    response = websocket(exchange)
    response.headers.append(("Set-Cookie", "seen=1"))
    answer = Answer.parse(exchange.switch(response))
    assert answer.status == 101
    assert (answer.headers["upgrade"], answer.headers["connection"]) == ("websocket", "Upgrade")
    assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert answer.headers["set-cookie"] == "seen=1"
    assert exchange.state is State.SWITCHED
    assert exchange.next_request() is None
    assert exchange.deadline() is None


def test_bytes_behind_the_handshake_are_kept() -> None:
    """RFC 6455 §4.1: a client may send as soon as the connection is open; what is early is no HTTP."""
    exchange = begin()
    response = websocket(exchange, behind=b"\x81\x85 and")
    exchange.receive_data(b" more", 0.0)
    assert exchange.trailing_data == b"\x81\x85 and more"
    exchange.switch(response)
    assert exchange.trailing_data == b"\x81\x85 and more"


def test_a_handshake_that_is_answered_with_a_page_is_an_ordinary_request() -> None:
    exchange = begin()
    websocket(exchange, behind=get("/next"))
    assert answered(exchange, Response("a page")).body == b"a page"
    request = exchange.next_request()
    assert request is not None
    assert request.path == "/next"


# ------------------------------------------------------------------------------------------------- time


def test_a_slow_head_is_answered_with_408() -> None:
    """RFC 9110 §15.5.9; `Limits.handshake_timeout`"""
    exchange = begin(handshake_timeout=10)
    assert exchange.deadline() == 10
    exchange.receive_data(b"G", 4.0)
    exchange.receive_data(b"E", 13.0)
    assert exchange.deadline() == 14, "counted from the first byte, and no further byte moves it"
    exchange.on_time(13.9)
    with pytest.raises(Refused) as caught:
        exchange.on_time(14.0)
    assert caught.value.status == 408
    assert answered(exchange, Response.refusal(caught.value)).headers["connection"] == "close"
    assert exchange.state is State.CLOSED


def test_a_slow_body_is_answered_with_408() -> None:
    exchange = begin(handshake_timeout=10)
    exchange.receive_data(get("/", "Content-Length: 5", method="POST") + b"ab", 1.0)
    assert exchange.next_request() is None
    with pytest.raises(Refused, match="took too long"):
        exchange.on_time(11.0)


def test_an_idle_connection_ends_in_silence() -> None:
    exchange = begin(handshake_timeout=10)
    taken(exchange, get(), 9.0)
    exchange.respond(Response(), 20.0)
    assert exchange.deadline() == 30
    exchange.on_time(30.0)
    assert exchange.state is State.CLOSED


def test_a_pipelined_head_has_its_time_from_the_answer_before_it() -> None:
    exchange = begin(handshake_timeout=10)
    taken(exchange, get() + b"GET", 0.0)
    exchange.respond(Response(), 20.0)
    assert exchange.deadline() == 30
    with pytest.raises(Refused, match="took too long"):
        exchange.on_time(30.0)


def test_an_app_has_all_the_time_it_takes() -> None:
    exchange = begin(handshake_timeout=10)
    taken(exchange, get())
    assert exchange.deadline() is None
    exchange.on_time(1000.0)
    assert exchange.state is State.ANSWERING


def test_without_a_timeout_nothing_is_due() -> None:
    exchange = begin(handshake_timeout=None)
    exchange.receive_data(b"G", 0.0)
    assert exchange.deadline() is None
    exchange.on_time(1e9)
    assert exchange.state is State.READING


# ------------------------------------------------------------------------------------------- properties

REQUESTS = [
    get("/page?q"),
    get("/head", method="HEAD"),
    get("/body", "Content-Length: 3", method="POST") + b"abc",
    get("/chunks", "Transfer-Encoding: chunked", method="POST") + b"1\r\na\r\n0\r\n\r\n",
    handshake("/chat"),
]


def conversed(pieces: list[bytes]) -> list[str]:
    """What a server makes of *pieces*: the path of each request, the status of a refusal."""
    exchange = begin(head_size=400)
    seen: list[str] = []
    for piece in [*pieces, b""]:
        exchange.receive_data(piece, 0.0)
        while True:
            try:
                request = exchange.next_request()
            except Refused as refusal:
                seen.append(str(refusal.status))
                exchange.respond(Response.refusal(refusal), 0.0)
                continue
            if request is None:
                break
            seen.append(request.path)
            exchange.respond(Response("x"), 0.0)
        if exchange.state is State.CLOSED:
            break
    return seen


@given(st.lists(st.sampled_from(REQUESTS), max_size=4), st.lists(st.integers(0, 500), max_size=5))
@examples(100)
def test_however_requests_are_cut_they_are_the_same(requests: list[bytes], cuts: list[int]) -> None:
    data = b"".join(requests)
    at = sorted({cut for cut in cuts if 0 < cut < len(data)})
    pieces = [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True) if end > start]
    assert conversed(pieces) == [request.split()[1].decode().partition("?")[0] for request in requests]


@given(st.lists(st.sampled_from(REQUESTS) | st.binary(max_size=600), max_size=4).map(b"".join), st.integers(1, 700))
@examples(200)
def test_whatever_comes_gets_an_answer_or_none_but_raises_nothing_else(data: bytes, size: int) -> None:
    conversed([data[i : i + size] for i in range(0, len(data), size)])


@pytest.mark.parametrize(
    ("address", "host"),
    [(("127.0.0.1", 80), "127.0.0.1"), (("::1", 80, 0, 0), "::1"), ("", None), ("/path", None), (None, None)],
    ids=["ipv4", "ipv6", "unix", "unix-path", "unknown"],
)
def test_the_host_of_an_address_is_known_where_it_has_one(address: Any, host: str | None) -> None:
    assert host_of(address) == host


def test_the_text_of_a_response_says_that_it_is_utf8() -> None:
    assert Response("é", content_type="text/html").headers == [("Content-Type", "text/html; charset=utf-8")]
    assert Response("é", content_type="text/html; charset=x").headers == [("Content-Type", "text/html; charset=x")]
    assert Response(b"a", content_type="text/html").headers == [("Content-Type", "text/html")]


def test_the_headers_of_a_response_are_a_mapping_or_pairs() -> None:
    assert Response(headers={"A": "b"}).headers == Response(headers=[("A", "b")]).headers == [("A", "b")]
