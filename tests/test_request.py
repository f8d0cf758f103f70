"""The record of a request: header fields as they came, whatever bytes they are, and the target taken apart."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.request import TOKEN, Headers, Request

from .streams import examples


def test_names_are_found_without_regard_to_case() -> None:
    headers = Headers([("Host", "a"), (b"X-Thing", b"1")])
    assert headers.get("hOST") == "a"
    assert headers["x-THING"] == "1"
    assert "HOST" in headers
    assert list(headers) == [("host", "a"), ("x-thing", "1")]


def test_repeated_fields_are_kept_in_order() -> None:
    headers = Headers([("a", "1"), ("b", "2"), ("A", "3")])
    assert headers.get("a") == "1"
    assert headers.get_all("a") == ["1", "3"]
    assert len(headers) == 3


def test_a_missing_field_is_none_or_the_default_or_a_key_error() -> None:
    headers = Headers()
    assert headers.get("a") is None
    assert headers.get("a", "x") == "x"
    assert headers.get_all("a") == []
    assert headers.get_list("a") == []
    assert "a" not in headers
    assert 1 not in headers
    with pytest.raises(KeyError, match="Missing"):
        headers["Missing"]


def test_white_space_around_a_value_is_no_part_of_it() -> None:
    """RFC 9110 §5.5"""
    assert Headers([("a", " \tx y\t ")])["a"] == "x y"


def test_a_list_joins_repeated_fields_and_leaves_out_empty_elements() -> None:
    """RFC 9110 §5.6.1"""
    headers = Headers([("Connection", "keep-alive,\tUpgrade ,"), ("connection", ", ,x")])
    assert headers.get_list("Connection") == ["keep-alive", "Upgrade", "x"]


def test_headers_are_values() -> None:
    one, same, other = Headers([("A", "1")]), Headers([(b"a", b" 1")]), Headers([("A", "2")])
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != [("a", "1")]
    assert repr(one) == "Headers([('a', '1')])"


@examples(300)
@given(st.lists(st.tuples(st.binary(), st.binary())))
def test_any_bytes_have_a_value(fields: list[tuple[bytes, bytes]]) -> None:
    """RFC 9110 §5.5: what is not ASCII is opaque."""
    headers = Headers(fields)
    assert [value.encode("latin-1") for _, value in headers] == [value.strip(b" \t") for _, value in fields]
    for name, _ in fields:
        assert headers[name.decode("latin-1")] in headers.get_all(name.decode("latin-1"))


@pytest.mark.parametrize("text", ["a", "X-Y_z.9", "!#$%&'*+-.^_`|~"])
def test_a_token_is_a_token(text: str) -> None:
    """RFC 9110 §5.6.2"""
    assert TOKEN.fullmatch(text)


@pytest.mark.parametrize("text", ["", " ", "a b", "a\n", "a,b", "a;b", 'a"', "é", "a/b", "(a)", "a\0"])
def test_what_is_no_token_is_none(text: str) -> None:
    assert not TOKEN.fullmatch(text)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/a%20b/%C3%A9?x=%20&y=?", "/a b/é", "x=%20&y=?"),
        ("/a?", "/a", ""),
        ("/%", "/%", ""),
        ("/%FF", "/�", ""),
    ],
    ids=["root", "encoded", "empty-query", "lone-percent", "not-utf8"],
)
def test_the_target_is_taken_apart(target: str, path: str, query: str) -> None:
    request = Request.from_target("GET", target, Headers(), scheme="https", peer="::1", http_version="1.1")
    assert (request.path, request.query) == (path, query)
    assert (request.method, request.scheme, request.peer, request.http_version) == ("GET", "https", "::1", "1.1")


def test_a_request_is_frozen_and_has_defaults() -> None:
    request = Request()
    assert request == Request(method="GET", path="/", query="", headers=Headers(), scheme="http", http_version="1.1")
    assert request.peer is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.path = "/other"  # type: ignore[misc]
