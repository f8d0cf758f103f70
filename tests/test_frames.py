"""The fast lane alone: what it takes, what it leaves, and that it writes what it reads."""

from __future__ import annotations

import sys
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.frames import BINARY, CLOSE, PING, PONG, RSV1, TEXT, apply_mask, build, scan

from .streams import CONT, KEY, examples, frame, frames_in, head, key_of, messages, roles, xor

SIZES = [0, 1, 125, 126, 127, 1023, 1024, 65535, 65536]


def scanned(data: bytes, *, client: bool = False, limit: int = sys.maxsize) -> tuple[list[str | bytes], int]:
    """The messages that `scan` takes, and how much it leaves."""
    taken: deque[str | bytes] = deque()
    position = scan(data, 0, not client, limit, taken)
    return list(taken), len(data) - position


@roles
@pytest.mark.parametrize("size", SIZES)
def test_a_plain_frame_of_any_length_is_taken(size: int, client: bool) -> None:
    """RFC 6455 §5.2"""
    data = frame(TEXT, b"t" * size, key=key_of(client)) + frame(BINARY, b"b" * size, key=key_of(client))
    assert scanned(data, client=client) == (["t" * size, b"b" * size], 0)


@roles
@pytest.mark.parametrize("size", SIZES)
def test_an_incomplete_frame_is_left_wherever_it_ends(size: int, client: bool) -> None:
    data = frame(BINARY, b"b" * size, key=key_of(client))
    for end in {*range(min(len(data), 20)), len(data) - 1}:
        assert scanned(data[:end], client=client) == ([], end)


@roles
@pytest.mark.parametrize(
    "odd",
    [
        {"opcode": CLOSE},
        {"opcode": PING},
        {"opcode": PONG},
        {"opcode": CONT},
        {"opcode": 0x3},
        {"opcode": TEXT, "fin": False},
        {"opcode": TEXT, "rsv": 4},
        {"opcode": TEXT, "rsv": 1},
        {"opcode": BINARY, "extended": 2},
        {"opcode": BINARY, "extended": 8},
        {"opcode": TEXT, "payload": b"\xff"},
    ],
    ids=[
        "close",
        "ping",
        "pong",
        "continuation",
        "reserved",
        "fragment",
        "rsv1",
        "rsv3",
        "length-in-2-bytes",
        "length-in-8-bytes",
        "not-utf8",
    ],
)
def test_the_first_odd_frame_and_all_behind_it_is_left(odd: dict[str, int | bytes], client: bool) -> None:
    key = key_of(client)
    plain = frame(TEXT, b"plain", key=key)
    rest = frame(**{"payload": b"odd", "key": key, **odd}) + plain  # type: ignore[arg-type]
    assert scanned(plain + rest, client=client) == (["plain"], len(rest))


@roles
def test_a_frame_masked_the_wrong_way_is_left(client: bool) -> None:
    """RFC 6455 §5.1"""
    for size in (5, 126, 65536):
        data = frame(BINARY, bytes(size), key=key_of(not client))
        assert scanned(data, client=client) == ([], len(data))


def test_a_length_in_eight_bytes_that_fits_two_is_left() -> None:
    """RFC 6455 §5.2: the minimal number of bytes."""
    data = frame(BINARY, bytes(65535), extended=8)
    assert scanned(data) == ([], len(data))
    data = frame(BINARY, bytes(125), extended=2)
    assert scanned(data) == ([], len(data))


def test_a_frame_over_the_limit_is_left() -> None:
    data = frame(BINARY, b"12345")
    assert scanned(data, limit=5) == ([b"12345"], 0)
    assert scanned(data, limit=4) == ([], len(data))


def test_scanning_begins_where_it_is_told() -> None:
    taken: deque[str | bytes] = deque()
    data = b"\xff\xff" + frame(TEXT, b"x")
    assert scan(data, 2, True, 10, taken) == len(data)
    assert list(taken) == ["x"]


@pytest.mark.parametrize(
    "opcode", [TEXT, BINARY, RSV1 | TEXT, RSV1 | BINARY], ids=["text", "binary", "zipped-text", "zipped-binary"]
)
@pytest.mark.parametrize("size", SIZES)
def test_a_server_sends_frames_without_a_mask(size: int, opcode: int) -> None:
    """RFC 6455 §5.1, §5.2"""
    payload = b"p" * size
    assert build(opcode, payload, False) == frame(opcode & 0x0F, payload, rsv=4 if opcode & RSV1 else 0, key=None)


@pytest.mark.parametrize("size", SIZES)
def test_a_client_masks_each_frame_with_a_fresh_key(size: int) -> None:
    """RFC 6455 §5.3"""
    payload = b"p" * size
    one, two = build(BINARY, payload, True), build(BINARY, payload, True)
    start = head(BINARY, size)
    keys = [data[len(start) : len(start) + 4] for data in (one, two)]
    assert keys[0] != keys[1]
    assert [one, two] == [frame(BINARY, payload, key=key) for key in keys]


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG], ids=["close", "ping", "pong"])
@roles
def test_control_frames_are_built_alike(client: bool, opcode: int) -> None:
    (seen,) = frames_in(build(opcode, b"\x03\xe8", client))
    assert (seen.opcode, seen.payload, seen.masked) == (opcode, b"\x03\xe8", client)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 1022, 1023, 1024, 1025, 1026, 1027, 70000])
def test_the_mask_is_that_of_the_rfc(size: int) -> None:
    """RFC 6455 §5.3"""
    data = bytes(i * 7 & 0xFF for i in range(size))
    assert apply_mask(data, KEY) == apply_mask(bytearray(data), KEY) == xor(data, KEY)
    assert apply_mask(apply_mask(data, KEY), KEY) == data


@examples(300)
@given(st.lists(messages, max_size=8), st.booleans())
def test_what_is_built_is_scanned_again(told: list[str | bytes], client: bool) -> None:
    data = b"".join(
        build(TEXT, message.encode(), not client) if isinstance(message, str) else build(BINARY, message, not client)
        for message in told
    )
    assert scanned(data, client=client) == (told, 0)
