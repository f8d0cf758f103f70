"""What wsproto 1.3.2 gets wrong when it is used bare, right here.

The names A1 to B7 are those of the project's survey of its defects: A loses data, exhausts memory or crashes from afar,
B departs from an RFC. Should one of these fail after an update of wsproto, look there first.
"""

from __future__ import annotations

import base64
import tracemalloc
from typing import Any

import pytest
import wsproto.events

from wsadapter.closing import close_payload
from wsadapter.conversation import Conversation
from wsadapter.deflate import Parameters
from wsadapter.errors import ConnectionClosed, ProtocolError, Refused
from wsadapter.opening import prepare
from wsadapter.options import Deflate, Limits
from wsadapter.policy import choose_deflate
from wsadapter.receiver import Receiver
from wsadapter.request import Headers, Request
from wsadapter.upgrade import check

from .streams import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    TEXT,
    Told,
    cut,
    deflated,
    frame,
    frames_in,
    head,
    key_of,
    parameters,
    read,
    roles,
)

HANDSHAKE = [
    ("Host", "example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", base64.b64encode(bytes(16)).decode()),
    ("Sec-WebSocket-Version", "13"),
]


async def handler(connection: Any) -> None:
    raise NotImplementedError


def refused(*more: tuple[str, str | bytes], without: str = "", http_version: str = "1.1") -> int:
    fields = [field for field in HANDSHAKE if field[0] != without]
    request = Request(headers=Headers([*fields, *more]), http_version=http_version)
    with pytest.raises(Refused) as caught:
        check(request)
    return caught.value.status


def agreed(*offers: str, **ours: Any) -> Parameters | None:
    return choose_deflate(Headers([("Sec-WebSocket-Extensions", offer) for offer in offers]), Deflate(**ours))


def over(side: Conversation) -> Conversation:
    """*side*, after a clean closing handshake."""
    side.close(0.0, 1000)
    side.data_to_send()
    side.receive_data(frame(CLOSE, b"\x03\xe8"), 0.0)
    assert side.closed
    return side


def conversation() -> Conversation:
    return Conversation(client=False, limits=Limits(), now=0.0)


# -------------------------------------------------------------------------- A1: pings in compressed messages


@roles
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
def test_a1_a_ping_between_the_fragments_of_a_compressed_message_leaves_it_alone(opcode: int, client: bool) -> None:
    """RFC 6455 §5.4"""
    key, data = key_of(client), deflated(b"Hello, " * 1000)
    parts = [
        frame(opcode, data[:5], fin=False, rsv=4, key=key),
        frame(PING, b"?", key=key),
        frame(CONT, data[5:10], fin=False, key=key),
        frame(PING, b"!", key=key),
        frame(CONT, data[10:], key=key),
    ]
    told = read(parts * 2, client=client, deflate=parameters())
    assert told.messages == ["Hello, " * 1000 if opcode == TEXT else b"Hello, " * 1000] * 2
    assert told.controls == [("ping", b"?"), ("ping", b"!")] * 2


# ------------------------------------------------------------------------------------------ A2: no limits


def test_a2_a_frame_that_announces_too_much_is_refused_before_it_arrives() -> None:
    assert read([head(BINARY, 2**62) + b"mask"]) == Told(code=1009)


def test_a2_a_message_of_too_much_is_refused() -> None:
    assert read([frame(BINARY, bytes(700_000), fin=False), head(CONT, 400_000) + b"mask"]) == Told(code=1009)


def test_a2_a_message_of_too_many_fragments_is_refused() -> None:
    data = frame(TEXT, fin=False) + frame(CONT, fin=False) * 4096
    assert read([data]) == Told(code=1009)


def test_a2_a_message_that_inflates_too_far_is_refused_without_the_memory() -> None:
    data = frame(BINARY, deflated(bytes(200 * 2**20)), rsv=4)
    tracemalloc.start()
    try:
        assert read([data], deflate=parameters()) == Told(code=1009)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20


# --------------------------------------------------------------------- A3: data right behind the handshake


def test_a3_a_frame_that_arrives_with_the_handshake_is_not_lost() -> None:
    data = frame(TEXT, b"early")
    for chunks in ([data], [data[:3], data[3:]]):
        side = conversation()
        for chunk in chunks:
            side.receive_data(chunk, 0.0)
        assert list(side.messages) == ["early"]


# ------------------------------------------------------------------------------- A4: hostile handshakes raise


@pytest.mark.parametrize(
    "field",
    [
        ("Sec-WebSocket-Protocol", b"\xff"),
        ("Sec-WebSocket-Extensions", b"\xff"),
        ("Connection", b"\xff"),
        ("Host", b"\xff"),
        ("Host", b"xn--a-ecp.ru"),
        ("Origin", b"\xff://\xff"),
        ("Sec-WebSocket-Key", b"\xff"),
        ("Sec-WebSocket-Extensions", b"permessage-deflate; client_max_window_bits=abc"),
        ("Sec-WebSocket-Extensions", b'permessage-deflate; client_max_window_bits="10"'),
        ("Sec-WebSocket-Extensions", b'permessage-deflate; client_max_window_bits="1,0"'),
        ("Sec-WebSocket-Extensions", b"permessage-deflate; server_max_window_bits=8"),
    ],
    ids=lambda field: f"{field[0]}: {field[1].decode('ascii', 'backslashreplace')}",
)
def test_a4_a_hostile_handshake_is_answered_and_raises_nothing_else(field: tuple[str, bytes]) -> None:
    fields: list[tuple[str | bytes, str | bytes]] = [pair for pair in HANDSHAKE if pair[0] != field[0]]
    request = Request(headers=Headers([*fields, field]))
    try:
        check(request)
        prepare(request, handler, protocols=["a"], compression=Deflate())
        status = 101
    except Refused as answer:
        status = answer.status
    assert status in (101, 400, 403)


# ---------------------------------------------------------------------------- A5: a body behind the handshake


@pytest.mark.parametrize(
    "field", [("Content-Length", "11"), ("Transfer-Encoding", "chunked")], ids=["length", "chunked"]
)
def test_a5_a_handshake_with_a_body_is_refused_so_that_it_is_never_read_as_frames(field: tuple[str, str]) -> None:
    assert refused(field) == 400


# -------------------------------------------------------------------------------- A6: agreements not kept


def test_a6_the_offer_that_is_answered_is_the_one_that_is_kept() -> None:
    parameters = agreed(
        "permessage-deflate; client_max_window_bits=9; unknown, permessage-deflate", client_max_window_bits=15
    )
    assert parameters is not None
    assert parameters.client_max_window_bits is None
    text = bytes(i * i * 31 >> 3 & 0xFF for i in range(20_000)) * 2
    parts = [frame(BINARY, deflated(text, bits=15), rsv=4)] * 2
    assert read(parts, deflate=parameters).messages == [text] * 2


def test_a6_a_window_that_the_client_did_not_offer_is_not_taken_for_agreed() -> None:
    parameters = agreed("permessage-deflate", client_max_window_bits=9)
    text = bytes(i * i * 31 >> 3 & 0xFF for i in range(20_000)) * 2
    assert "client" not in str(parameters)
    assert read([frame(BINARY, deflated(text, bits=15), rsv=4)] * 2, deflate=parameters).messages == [text] * 2


def test_a6_an_offer_of_large_windows_does_not_override_ours() -> None:
    offer = "permessage-deflate; client_max_window_bits=15; server_max_window_bits=15"
    answer = "permessage-deflate; server_max_window_bits=10; client_max_window_bits=10"
    assert str(agreed(offer, server_max_window_bits=10, client_max_window_bits=10)) == answer


# ----------------------------------------------------------------------------------- A7: after a parse error


def test_a7_nothing_is_kept_of_what_arrives_after_a_violation() -> None:
    side = Receiver(client=False, limits=Limits())
    side.receive(frame(0x3))
    assert side.over
    chunk = bytes(2**16)
    tracemalloc.start()
    try:
        for _ in range(64):
            assert side.receive(chunk) == []
        assert tracemalloc.get_traced_memory()[1] < 2**16
    finally:
        tracemalloc.stop()


def test_a7_a_violation_is_told_apart_from_a_close_with_the_same_code() -> None:
    (violation,) = Receiver(client=False, limits=Limits()).receive(frame(0x3))
    assert isinstance(violation, ProtocolError)
    (close,) = Receiver(client=False, limits=Limits()).receive(frame(CLOSE, b"\x03\xea"))
    assert isinstance(close, wsproto.events.CloseConnection)
    assert violation.close_code == close.code == 1002


# ------------------------------------------------------------------------------------------ B1: final blocks


def test_b1_messages_after_one_with_a_final_block_are_read_too() -> None:
    """RFC 7692 §7.2.3.4"""
    parts = [frame(TEXT, deflated(b"Hello", final=True), rsv=4)] * 3 + [frame(TEXT, deflated(b"Hello"), rsv=4)]
    assert read(parts, deflate=parameters()).messages == ["Hello"] * 4


# ------------------------------------------------------------------------------------- B2: close codes out


@pytest.mark.parametrize("code", [999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535, 65536, -1])
def test_b2_a_code_that_may_not_be_sent_raises_and_is_not_rewritten(code: int) -> None:
    """RFC 6455 §7.4"""
    side = conversation()
    with pytest.raises(ValueError, match=str(code)):
        side.close(0.0, code)
    assert not side.has_data


def test_b2_a_reason_is_cut_on_a_character_boundary_and_never_raises() -> None:
    assert close_payload(1000, "é" * 100)[2:].decode() == "é" * 61
    assert close_payload(1000, "\ud800")[2:] == b"?"


# --------------------------------------------------------------------------------------- B3: close codes in


@roles
def test_b3_a_close_with_1014_is_a_close(client: bool) -> None:
    data = frame(CLOSE, b"\x03\xf6bad gateway", key=key_of(client))
    assert read([data], client=client) == Told(code=1014, reason="bad gateway")
    assert read(cut(data, range(20)), client=client) == Told(code=1014, reason="bad gateway")


# ------------------------------------------------------------------------------ B4: what is let through


def test_b4_http_1_0_is_refused() -> None:
    assert refused(http_version="1.0") == 426


@pytest.mark.parametrize(
    "key", ["", "!!!", base64.b64encode(bytes(15)).decode()], ids=["empty", "no-base64", "15-bytes"]
)
def test_b4_a_bad_key_is_refused(key: str) -> None:
    assert refused(("Sec-WebSocket-Key", key), without="Sec-WebSocket-Key") == 400


def test_b4_two_keys_are_refused() -> None:
    assert refused(("Sec-WebSocket-Key", base64.b64encode(b"x" * 16).decode())) == 400


def test_b4_another_version_beside_13_is_refused() -> None:
    assert refused(("Sec-WebSocket-Version", "8")) == 426


# ------------------------------------------------------------------------------ B5: what is not let through


@pytest.mark.parametrize("order", [1, -1], ids=["last", "first"])
def test_b5_any_of_several_connection_headers_counts(order: int) -> None:
    """RFC 9110 §5.3"""
    fields = [*HANDSHAKE, ("Connection", "keep-alive")][::order]
    check(Request(headers=Headers(fields)))


def test_b5_websocket_may_be_one_of_several_upgrades() -> None:
    fields = [field for field in HANDSHAKE if field[0] != "Upgrade"]
    check(Request(headers=Headers([*fields, ("Upgrade", "websocket, foo")])))


# ---------------------------------------------------------------------------------- B6: bad parameters


@pytest.mark.parametrize(
    "parameter",
    [
        "unknown",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover=1",
        "client_no_context_takeoverXYZ",
        "server_max_window_bits",
        "server_max_window_bits=1_0",
    ],
)
def test_b6_an_offer_with_a_bad_parameter_is_declined(parameter: str) -> None:
    """RFC 7692 §7.1"""
    assert agreed(f"permessage-deflate; {parameter}") is None


# --------------------------------------------------------------------------------------- B7: after the end


def test_b7_the_end_of_the_transport_after_a_clean_close_changes_nothing() -> None:
    """RFC 6455 §7.1.4"""
    side = over(conversation())
    side.receive_eof(1.0)
    assert (side.close_code, side.aborted) == (1000, False)


def test_b7_data_after_the_end_is_dropped_and_raises_nothing() -> None:
    side = over(conversation())
    side.receive_data(frame(TEXT, b"late") + b"noise", 1.0)
    assert not side.messages
    assert not side.has_data


def test_b7_a_ping_after_our_close_is_swallowed() -> None:
    """RFC 6455 §5.5.1"""
    side = conversation()
    side.close(0.0)
    assert [seen.opcode for seen in frames_in(side.data_to_send())] == [CLOSE]
    side.receive_data(frame(PING, b"?"), 0.0)
    assert not side.has_data
    with pytest.raises(ConnectionClosed):
        side.ping(0.0)
