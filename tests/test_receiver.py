"""Bytes in, messages out: whole and in order however the bytes are cut, the lanes alike, nothing above the limits."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import pytest
import wsproto.events
from hypothesis import event, given
from hypothesis import strategies as st

from wsadapter.deflate import PerMessageDeflate
from wsadapter.errors import InvalidMessage, MessageTooBig, ProtocolError
from wsadapter.options import Limits
from wsadapter.receiver import COLLECT, Receiver

from .streams import (
    BINARY,
    CLOSE,
    CONT,
    KEY,
    PING,
    PONG,
    TEXT,
    Stream,
    Told,
    cut,
    deflated,
    examples,
    frame,
    head,
    hostile_streams,
    key_of,
    lane,
    legal_streams,
    mutated,
    parameters,
    places,
    read,
    roles,
    xor,
)

NO_LIMITS = Limits(message_size=None, fragments=None)


def receiver(*, client: bool = False, deflate: bool = False, **limits: Any) -> Receiver:
    allowed = Limits(**limits)
    extension = PerMessageDeflate(parameters(), client=client, limit=allowed.message_size) if deflate else None
    return Receiver(client=client, limits=allowed, deflate=extension)


def one_by_one(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def violation(side: Receiver, data: bytes) -> ProtocolError:
    (seen,) = side.receive(data)
    assert isinstance(seen, ProtocolError)
    assert side.over
    return seen


# --------------------------------------------------------------------------------------- what is legal


@roles
def test_a_message_in_pieces_is_whole_again_with_a_ping_in_between(client: bool) -> None:
    """RFC 6455 §5.4"""
    key = key_of(client)
    parts = [frame(TEXT, b"ein", fin=False, key=key), frame(PING, b"?", key=key), frame(CONT, b"s", key=key)]
    for chunks in (parts, [b"".join(parts)], one_by_one(b"".join(parts))):
        assert read(chunks, client=client) == Told(["eins"], [("ping", b"?")])


def test_a_character_may_be_cut_between_fragments() -> None:
    """RFC 6455 §5.6"""
    parts = [frame(TEXT, "é".encode()[:1], fin=False), frame(CONT, "é".encode()[1:])]
    assert read(parts).messages == ["é"]


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
def test_a_message_of_empty_fragments_is_empty(opcode: int) -> None:
    parts = [frame(opcode, fin=False), frame(CONT, fin=False), frame(CONT)]
    assert read(parts).messages == ["" if opcode == TEXT else b""]


def test_a_frame_that_is_not_whole_yet_waits() -> None:
    side, data = receiver(), frame(TEXT, b"Hello")
    for byte in one_by_one(data[:-1]):
        assert side.receive(byte) == []
        assert not side.messages
    assert side.receive(data[-1:]) == []
    assert list(side.messages) == ["Hello"]


@roles
def test_a_close_is_told_and_ends_all(client: bool) -> None:
    """RFC 6455 §5.5.1, §7.1.5"""
    key = key_of(client)
    rest = frame(TEXT, b"late", key=key) + frame(PING, key=key)
    side = receiver(client=client)
    (seen,) = side.receive(frame(TEXT, b"x", key=key) + frame(CLOSE, b"\x03\xe9bye", key=key) + rest)
    assert isinstance(seen, wsproto.events.CloseConnection)
    assert (seen.code, seen.reason) == (1001, "bye")
    assert side.over
    assert list(side.messages) == ["x"]
    assert side.receive(rest) == []
    assert list(side.messages) == ["x"]


@roles
@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (b"", 1005, ""),
        (b"\x03\xe8", 1000, ""),
        (b"\x03\xf6", 1014, ""),
        (b"\x03\xf6\xc3\xa9", 1014, "é"),
        (b"\x03\xf6" + b"x" * 123, 1014, "x" * 123),
        (b"\x0b\xb8", 3000, ""),
        (b"\x13\x87ok", 4999, "ok"),
    ],
    ids=["none", "1000", "1014", "1014-reason", "1014-longest", "3000", "4999"],
)
def test_codes_that_may_be_sent_are_read(payload: bytes, code: int, reason: str, client: bool) -> None:
    """RFC 6455 §7.4; 1014 is registered since."""
    data = frame(CLOSE, payload, key=key_of(client))
    for chunks in ([data], one_by_one(data)):
        assert read(chunks, client=client) == Told(code=code, reason=reason)


# ------------------------------------------------------------------------------------- what is illegal


@roles
@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([(CONT, b"x")], 1002),
        ([(TEXT, b"x", {"fin": False}), (TEXT, b"x")], 1002),
        ([(TEXT, b"x", {"rsv": 4})], 1002),
        ([(TEXT, b"x", {"rsv": 2})], 1002),
        ([(TEXT, b"x", {"rsv": 1})], 1002),
        ([(0x3, b"x")], 1002),
        ([(0xB, b"x")], 1002),
        ([(PING, b"x", {"fin": False})], 1002),
        ([(PING, b"x", {"rsv": 4})], 1002),
        ([(PING, bytes(126))], 1002),
        ([(PING, b"x", {"extended": 2})], 1002),
        ([(TEXT, b"x", {"extended": 2})], 1002),
        ([(TEXT, bytes(126), {"extended": 8})], 1002),
        ([(CLOSE, b"\x03")], 1002),
        ([(CLOSE, b"\x03\xe7")], 1002),
        ([(CLOSE, b"\x03\xed")], 1002),
        ([(CLOSE, b"\x03\xee")], 1002),
        ([(CLOSE, b"\x03\xf7")], 1002),
        ([(CLOSE, b"\x03\xf8")], 1002),
        ([(CLOSE, b"\x13\x88")], 1002),
        ([(CLOSE, b"\x03\xe8\xff")], 1007),
        ([(CLOSE, b"\x03\xf6\xff")], 1007),
        ([(CLOSE, b"\x03\xf6", {"fin": False})], 1002),
        ([(CLOSE, b"\x03\xf6", {"rsv": 4})], 1002),
        ([(TEXT, b"\xff")], 1007),
        ([(TEXT, b"\xc3")], 1007),
        ([(TEXT, b"\xed\xa0\x80")], 1007),
        ([(TEXT, b"\xc3", {"fin": False}), (CONT, b"x")], 1007),
        ([(TEXT, b"x" * COLLECT + b"\xff")], 1007),
    ],
    ids=[
        "continuation-of-nothing",
        "a-message-in-a-message",
        "rsv1",
        "rsv2",
        "rsv3",
        "reserved-opcode",
        "reserved-control-opcode",
        "ping-in-fragments",
        "ping-with-rsv1",
        "long-ping",
        "ping-with-a-long-length",
        "length-in-2-bytes",
        "length-in-8-bytes",
        "close-of-1-byte",
        "close-999",
        "close-1005",
        "close-1006",
        "close-1015",
        "close-1016",
        "close-5000",
        "close-reason-not-utf8",
        "close-1014-reason-not-utf8",
        "close-1014-in-fragments",
        "close-1014-with-rsv1",
        "text-not-utf8",
        "text-ends-in-a-character",
        "surrogate",
        "text-not-utf8-across-fragments",
        "long-text-not-utf8",
    ],
)
def test_what_the_rfc_forbids_ends_all_with_its_code(frames: list[Any], code: int, client: bool) -> None:
    """RFC 6455 §5, §7.4, §8.1; the message before it is told all the same."""
    data = frame(TEXT, b"before", key=key_of(client))
    for opcode, payload, *more in frames:
        data += frame(opcode, payload, key=key_of(client), **(more[0] if more else {}))
    for chunks in ([data], cut(data, range(0, len(data), 1 + len(data) // 300))):
        assert read([*chunks, frame(TEXT, b"after", key=key_of(client))], client=client) == Told(["before"], code=code)


@roles
@pytest.mark.parametrize("opcode", [TEXT, PING, CLOSE, CONT], ids=["text", "ping", "close", "continuation"])
def test_a_frame_masked_the_wrong_way_ends_all(opcode: int, client: bool) -> None:
    """RFC 6455 §5.1"""
    data = frame(opcode, b"\x03\xf6" if opcode == CLOSE else b"xx", key=key_of(not client))
    assert read([data], client=client).code == 1002
    data = frame(BINARY, bytes(COLLECT + 1), key=key_of(not client))
    assert read([data], client=client).code == 1002


def test_text_that_is_not_utf8_fails_before_it_is_whole() -> None:
    """RFC 6455 §8.1, and Autobahn 6.4"""
    assert isinstance(violation(receiver(), frame(TEXT, b"\xff" + bytes(100))[:7]), InvalidMessage)


def test_too_long_a_control_frame_is_judged_by_its_header_alone() -> None:
    """RFC 6455 §5.5: and never taken for a Close with 1014 by what follows."""
    start = bytes((0x80 | CLOSE, 0x80 | 126)) + (126).to_bytes(2, "big")
    # Read from 126 bytes before where it is cut off, the payload would begin one byte early: with the code 1014.
    data = start + b"\0\0\0" + bytes((0x03 ^ start[3], 0xF6)) + bytes(200)
    for chunks in ([data], one_by_one(data), [data[:8], data[8:]]):
        assert read(chunks) == Told(code=1002)


def test_a_violation_is_told_in_words() -> None:
    assert str(violation(receiver(), frame(CONT, b"x"))) == "unexpected CONTINUATION"
    assert str(violation(receiver(), frame(TEXT, b"\xff"))) == "text that is not UTF-8"
    assert str(violation(receiver(), frame(CLOSE, b"\x03\xf6\xff"))) == "a close reason that is not UTF-8"
    assert str(violation(receiver(deflate=True), frame(TEXT, b"\xff", rsv=4))) == "broken compressed data"
    bomb = frame(BINARY, deflated(bytes(101)), rsv=4)
    assert (
        str(violation(receiver(deflate=True, message_size=100), bomb))
        == "a message that inflates to more than 100 bytes"
    )


# -------------------------------------------------------------------------------------------- the limits


@roles
@pytest.mark.parametrize("size", [101, 126, 65536, COLLECT + 1, 2**40, 2**63 - 1])
def test_a_frame_that_is_too_big_is_refused_by_its_header(size: int, client: bool) -> None:
    start = head(BINARY, size, masked=not client) + (b"" if client else KEY)
    side = receiver(client=client, message_size=100)
    for byte in one_by_one(start[:-1]):
        assert side.receive(byte) == []
    error = violation(side, start[-1:])
    assert isinstance(error, MessageTooBig)
    assert error.close_code == 1009
    assert str(error) == "a message of more than 100 bytes"


@pytest.mark.parametrize("limit", [0, 1, 125, 126, 65535, 65536, 65537])
def test_a_message_of_the_limit_is_taken_and_one_byte_more_is_not(limit: int) -> None:
    limits = Limits(message_size=limit)
    assert read([frame(BINARY, bytes(limit))], limits=limits) == Told([bytes(limit)])
    assert read([frame(BINARY, bytes(limit + 1))], limits=limits) == Told(code=1009)
    pieces = [frame(BINARY, fin=False), frame(CONT, bytes(limit), fin=False)]
    assert read([*pieces, frame(CONT)], limits=limits) == Told([bytes(limit)])
    assert read([*pieces, head(CONT, 1) + KEY], limits=limits) == Told(code=1009)


def test_a_length_with_its_highest_bit_set_breaks_the_protocol() -> None:
    """RFC 6455 §5.2"""
    assert read([head(BINARY, 2**63) + KEY]).code == 1002


def test_as_many_fragments_as_allowed_are_taken_and_no_more() -> None:
    limits = Limits(fragments=3)
    first, more = frame(TEXT, b"a", fin=False), frame(CONT, b"b", fin=False)
    assert read([first, more, frame(CONT, b"c")] * 2, limits=limits).messages == ["abc"] * 2
    side = receiver(fragments=3)
    side.receive(first + more * 2)
    assert str(violation(side, head(CONT, 1) + KEY)) == "a message in more than 3 fragments"


@pytest.mark.parametrize("last", [frame(CONT), frame(CONT, fin=False)], ids=["last", "not-last"])
def test_an_empty_fragment_counts(last: bytes) -> None:
    parts = [frame(TEXT, fin=False), frame(CONT, fin=False), frame(CONT, fin=False), last]
    assert read(parts, limits=Limits(fragments=3)) == Told(code=1009)


def test_control_frames_are_no_fragments() -> None:
    parts = [frame(TEXT, b"a", fin=False), *[frame(PONG)] * 10, frame(CONT, b"b")]
    assert read(parts, limits=Limits(fragments=2)).messages == ["ab"]


def test_limits_that_are_taken_away_do_not_count() -> None:
    parts = [frame(BINARY, b"", fin=False), *[frame(CONT, b"xx", fin=False)] * 5000, frame(CONT)]
    assert read([b"".join(parts)], limits=NO_LIMITS).messages == [b"xx" * 5000]
    assert read([frame(BINARY, bytes(2**21))], limits=NO_LIMITS).messages == [bytes(2**21)]
    zipped = [frame(BINARY, deflated(bytes(2**21)), rsv=4)]
    assert read(zipped, limits=NO_LIMITS, deflate=parameters()).messages == [bytes(2**21)]


def test_a_compressed_frame_that_cannot_fit_is_refused_by_its_header() -> None:
    side = receiver(deflate=True, message_size=8000)
    assert side.receive(head(BINARY, 8000 + 1000 + 1024, rsv=4) + KEY) == []
    side = receiver(deflate=True, message_size=8000)
    assert isinstance(violation(side, head(BINARY, 8000 + 1000 + 1025, rsv=4) + KEY), MessageTooBig)
    side = receiver(deflate=True, message_size=8000)
    assert isinstance(violation(side, head(BINARY, 8001) + KEY), MessageTooBig)


def test_what_does_not_compress_fits_all_the_same() -> None:
    data = bytes(i * i * 31 >> 3 & 0xFF for i in range(50_000))
    zipped = deflated(data, level=0)
    assert len(zipped) > len(data)
    limits = Limits(message_size=len(data))
    assert read([frame(BINARY, zipped, rsv=4)], limits=limits, deflate=parameters()).messages == [data]


def test_a_bomb_takes_no_more_memory_than_the_limit() -> None:
    bomb = frame(BINARY, deflated(bytes(64 * 2**20)), rsv=4)
    side = receiver(deflate=True)
    tracemalloc.start()
    try:
        events = [seen for chunk in cut(bomb, range(0, len(bomb), 16_384)) for seen in side.receive(chunk)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [str(seen) for seen in events] == ["a message that inflates to more than 1048576 bytes"]
    assert peak < 4 * 2**20


def test_many_small_messages_that_inflate_hugely_wait_their_turn() -> None:
    """One read of 64 KiB, 60 MiB in it."""
    size = 2**20
    part = frame(BINARY, deflated(bytes(size)), rsv=4)
    data = part * (65536 // len(part))
    count = len(data) // len(part)
    assert count > 50
    side, taken = receiver(deflate=True), 0
    tracemalloc.start()
    try:
        events = side.receive(data + frame(CLOSE))
        while side.stalled:
            assert events == []
            assert len(side.messages) == 1
            taken += len(side.messages.popleft())
            side.size = 0
            events = side.receive(b"")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    taken += sum(map(len, side.messages))
    assert taken == count * size
    assert [type(seen) for seen in events] == [wsproto.events.CloseConnection]
    assert peak < 6 * size


def test_what_arrives_while_it_has_stalled_comes_behind() -> None:
    side = receiver(deflate=True, inbox=10)
    big = frame(TEXT, deflated(b"a" * 100), rsv=4)
    side.receive(big + frame(TEXT, b"b", fin=False) + frame(PING))
    assert side.stalled
    assert side.receive(frame(CONT, b"c")) == []
    side.messages.clear()
    side.size = 0
    assert [type(seen) for seen in side.receive(b"")] == [wsproto.events.Ping]
    assert list(side.messages) == ["bc"]
    assert not side.stalled


def test_it_may_stall_in_the_middle_of_a_frame() -> None:
    side = receiver(deflate=True, inbox=10)
    long = frame(BINARY, b"x" * 200)
    side.receive(long[:100])
    side.messages.append("not taken yet")
    side.receive(long[100:150])
    assert side.stalled
    side.messages.clear()
    side.size = 0
    side.receive(long[150:])
    assert list(side.messages) == [b"x" * 200]


def test_without_compression_nothing_stalls() -> None:
    side = receiver(inbox=10)
    side.receive(frame(TEXT, b"a" * 100) + frame(PING) + frame(TEXT, b"b" * 100))
    assert not side.stalled
    assert side.size >= 2 * 106 + 6


def test_size_counts_what_came_and_what_it_inflated_to() -> None:
    side = receiver(deflate=True)
    data = frame(TEXT, deflated(b"a" * 1000), rsv=4)
    side.receive(data)
    assert side.size == len(data) + 1000


# ------------------------------------------------------------------------------------- what it holds


def test_the_parser_goes_when_nothing_is_half_read() -> None:
    side = receiver()
    has_parser = []
    for data in (frame(TEXT, b"x"), frame(TEXT, b"a", fin=False), frame(CONT, b"b") + frame(PING)[:3], frame(PING)[3:]):
        side.receive(data)
        has_parser.append(side._parser is not None)
    assert has_parser == [False, True, True, False], "the fast lane needs none"
    assert list(side.messages) == ["x", "ab"]


def test_the_parser_stays_where_it_holds_what_was_agreed_on() -> None:
    side = receiver(deflate=True)
    side.receive(frame(TEXT, deflated(b"x"), rsv=4))
    assert side._parser is not None


def test_a_long_frame_is_not_copied_piece_by_piece() -> None:
    size = 2**20
    data = frame(BINARY, bytes(size))
    side = receiver()
    tracemalloc.start()
    try:
        for chunk in cut(data, range(0, len(data), 4096)):
            side.receive(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert list(side.messages) == [bytes(size)]
    assert side._parser is None
    assert peak < 5 * size


# --------------------------------------------------------------------------------------------- properties


@examples(400)
@given(legal_streams(), places)
def test_legal_streams_are_told_however_they_are_cut(stream: Stream, where: list[int]) -> None:
    event("compressed" if stream.deflate else "plain")
    told = read(cut(stream.data, where), client=stream.client, deflate=stream.deflate)
    assert told == stream.told


@examples(100)
@given(legal_streams())
def test_legal_streams_are_told_byte_by_byte(stream: Stream) -> None:
    data = stream.data
    chunks = one_by_one(data) if len(data) < 5000 else cut(data, range(0, len(data), 97))
    assert read(chunks, client=stream.client, deflate=stream.deflate) == stream.told


@examples(100)
@given(legal_streams(), places, st.integers(0, 500))
def test_a_small_inbox_changes_nothing_of_what_is_told(stream: Stream, where: list[int], inbox: int) -> None:
    limits = Limits(inbox=inbox)
    assert read(cut(stream.data, where), client=stream.client, deflate=stream.deflate, limits=limits) == stream.told


def lanes_agree(
    stream: Stream, where: list[int], elsewhere: list[int], limits: Limits, collects: tuple[int, ...] = (COLLECT,)
) -> Told:
    """Read *stream* by the fast lane, and all of it through wsproto; cut in two ways."""

    def told(places: list[int]) -> Told:
        return read(cut(stream.data, places), client=stream.client, deflate=stream.deflate, limits=limits)

    with lane(scan=False, collect=math.inf):
        slow = told(where)
        assert told(elsewhere) == slow
    with lane(collect=math.inf):
        assert told(where) == told(elsewhere) == slow
    for collect in collects:
        with lane(collect=collect):
            fast = told(where)
            assert told(elsewhere) == fast
        if fast.code != slow.code:
            # A frame that is collected is judged when it is whole, and this one never is.
            assert (fast.code, slow.code) == (1006, 1007)
            fast.code = 1007
        assert fast == slow
    event(f"ends with {slow.code}")
    return slow


@examples(200)
@given(legal_streams(), places, places)
def test_the_lanes_are_equal_on_legal_streams(stream: Stream, where: list[int], elsewhere: list[int]) -> None:
    assert lanes_agree(stream, where, elsewhere, Limits(), (COLLECT, 20)) == stream.told


some_limits = st.one_of(
    st.just(Limits()),
    st.builds(Limits, message_size=st.integers(0, 300), fragments=st.integers(1, 4)),
)


@examples(300)
@given(mutated(), places, places, some_limits)
def test_the_lanes_are_equal_on_mutated_streams(
    stream: Stream, where: list[int], elsewhere: list[int], limits: Limits
) -> None:
    lanes_agree(stream, where, elsewhere, limits)


@examples(300)
@given(hostile_streams(), places, places, some_limits)
def test_the_lanes_are_equal_on_hostile_streams(
    stream: Stream, where: list[int], elsewhere: list[int], limits: Limits
) -> None:
    lanes_agree(stream, where, elsewhere, limits)


@examples(200)
@given(st.binary(max_size=200), st.booleans(), places, places, some_limits)
def test_the_lanes_are_equal_on_noise(
    data: bytes, client: bool, where: list[int], elsewhere: list[int], limits: Limits
) -> None:
    lanes_agree(Stream(client, frames=[data]), where, elsewhere, limits)


data_frames = st.builds(
    frame,
    st.sampled_from([TEXT, BINARY]),
    st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)),
    fin=st.sampled_from([True, True, False]),
)


@examples(200)
@given(st.lists(data_frames, max_size=6), st.integers(0, 30), places, places, some_limits)
def test_the_lanes_are_equal_on_frames_that_are_collected(
    frames: list[bytes], left_out: int, where: list[int], elsewhere: list[int], limits: Limits
) -> None:
    data = b"".join(frames)
    stream = Stream(client=False, frames=[data[: len(data) - left_out]])
    lanes_agree(stream, where, elsewhere, limits, (COLLECT, 20))


def test_a_length_that_is_collected_always_needs_its_eight_bytes() -> None:
    """RFC 6455 §5.2: below that, whether it is the shortest would have to be asked."""
    assert COLLECT >= 65535


@examples(100)
@given(st.one_of(mutated(), hostile_streams()), st.integers(0, 300))
def test_no_message_is_larger_than_the_limit(stream: Stream, limit: int) -> None:
    limits = Limits(message_size=limit)
    told = read([stream.data], client=stream.client, deflate=stream.deflate, limits=limits)
    for message in told.messages:
        assert len(message.encode() if isinstance(message, str) else message) <= limit


def test_the_mask_of_these_tests_is_not_the_one_under_test() -> None:
    assert xor(b"\0" * 6, KEY) == KEY + KEY[:2]
