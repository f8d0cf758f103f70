"""permessage-deflate: what is agreed on is kept, memory is bounded, and zlib is only there when it is used."""

from __future__ import annotations

import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import CloseReason, FrameDecoder, Opcode, RsvBits

from wsadapter.deflate import STREAMS, Parameters, PerMessageDeflate
from wsadapter.options import Deflate

from .streams import TAIL, Deflater, agreements, deflated, examples, parameters, roles

DECODER = FrameDecoder(client=False)  # which every hook is given, and no hook looks at
COMPRESSED, PLAIN = RsvBits(True, False, False), RsvBits(False, False, False)
UNKNOWN = parameters()


def extension(agreed: Parameters = UNKNOWN, *, client: bool = False, limit: int | None = None) -> PerMessageDeflate:
    return PerMessageDeflate(agreed, client=client, limit=limit)


def inflate(side: PerMessageDeflate, *fragments: bytes, rsv: RsvBits = COMPRESSED) -> bytes | CloseReason:
    """What the hooks make of one message, called as wsproto calls them."""
    whole = b""
    for i, fragment in enumerate(fragments):
        opcode, bits = (Opcode.CONTINUATION, PLAIN) if i else (Opcode.BINARY, rsv)
        assert side.frame_inbound_header(DECODER, opcode, bits, len(fragment)) == (PLAIN if i else COMPRESSED)
        for piece in (
            side.frame_inbound_payload_data(DECODER, fragment),
            side.frame_inbound_complete(DECODER, i == len(fragments) - 1),
        ):
            if isinstance(piece, CloseReason):
                return piece
            whole += piece or b""
    return whole


def contexts(side: PerMessageDeflate) -> tuple[bool, bool]:
    """Whether there is a compressor, and whether there is a decompressor."""
    return side._compressor is not None, side._decompressor is not None


@pytest.mark.parametrize(
    ("agreed", "value"),
    [
        (Parameters(), "permessage-deflate; server_max_window_bits=15"),
        (
            Parameters(
                server_no_context_takeover=True,
                client_no_context_takeover=True,
                server_max_window_bits=9,
                client_max_window_bits=8,
            ),
            (
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover;"
                " server_max_window_bits=9; client_max_window_bits=8"
            ),
        ),
    ],
    ids=["defaults", "all-four"],
)
def test_an_agreement_is_told_as_a_header(agreed: Parameters, value: str) -> None:
    """RFC 7692 §7.1"""
    assert str(agreed) == value


def test_the_handshake_is_not_left_to_wsproto() -> None:
    side = extension()
    assert side.name == "permessage-deflate"
    assert side.enabled()
    assert side.offer() is False


def test_the_example_of_the_rfc_is_inflated() -> None:
    """RFC 7692 §7.2.3.1, §7.2.3.2"""
    whole = bytes.fromhex("f248cdc9c90700")
    assert inflate(extension(), whole) == b"Hello"
    assert inflate(extension(), whole[:3], whole[3:]) == b"Hello"
    side = extension()
    assert [inflate(side, whole), inflate(side, bytes.fromhex("f200110000"))] == [b"Hello", b"Hello"]


def test_a_stored_block_is_inflated() -> None:
    """RFC 7692 §7.2.3.3"""
    assert inflate(extension(), bytes.fromhex("000500faff48656c6c6f00")) == b"Hello"


def test_a_final_block_ends_a_stream_and_no_conversation() -> None:
    """RFC 7692 §7.2.3.4"""
    side = extension()
    final = bytes.fromhex("f348cdc9c9070000")
    assert [inflate(side, final), inflate(side, final), inflate(side, deflated(b"more"))] == [
        b"Hello",
        b"Hello",
        b"more",
    ]


def test_a_final_block_may_be_anywhere_in_a_message() -> None:
    """RFC 7692 §7.2.3.4, §7.2.3.5"""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    first = compressor.compress(b"one, ") + compressor.flush(zlib.Z_FINISH)
    side = extension()
    assert inflate(side, first + deflated(b"two")) == b"one, two"
    assert inflate(side, first, deflated(b"two")) == b"one, two"


@pytest.mark.parametrize(
    "fragments", [[b"\x03\x00"], [b""], [b"", b""]], ids=["final-block", "nothing", "no-fragments"]
)
def test_a_message_that_leaves_nothing_for_the_tail_does_not_spoil_the_next(fragments: list[bytes]) -> None:
    """RFC 7692 §7.2.3.4 asks for an octet more, which some forget."""
    side = extension()
    assert inflate(side, *fragments) == b""
    assert inflate(side, deflated(b"Hello")) == b"Hello"


def test_an_empty_message_is_one_octet() -> None:
    """RFC 7692 §7.2.3.6"""
    side = extension()
    assert [inflate(side, b"\x00"), inflate(side, deflated(b"x"))] == [b"", b"x"]


def test_a_message_that_is_not_compressed_passes_as_it_is() -> None:
    """RFC 7692 §6.2"""
    side = extension()
    assert inflate(side, b"as ", b"it is", rsv=PLAIN) == b"as it is"
    assert contexts(side) == (False, False)


def test_a_control_frame_in_a_message_leaves_its_state_alone() -> None:
    """RFC 6455 §5.4"""
    side, data = extension(), deflated(b"Hello" * 100)
    assert side.frame_inbound_header(DECODER, Opcode.TEXT, COMPRESSED, 4) == COMPRESSED
    whole = [side.frame_inbound_payload_data(DECODER, data[:4]), side.frame_inbound_complete(DECODER, False)]
    assert side.frame_inbound_header(DECODER, Opcode.PING, PLAIN, 4) == PLAIN
    assert side.frame_inbound_payload_data(DECODER, b"ping") == b"ping"
    assert side.frame_inbound_complete(DECODER, True) is None
    assert side.frame_inbound_header(DECODER, Opcode.CONTINUATION, PLAIN, 4) == PLAIN
    whole += [side.frame_inbound_payload_data(DECODER, data[4:]), side.frame_inbound_complete(DECODER, True)]
    assert b"".join(piece for piece in whole if isinstance(piece, bytes)) == b"Hello" * 100


@pytest.mark.parametrize(
    "broken", [b"\xff\xff", b"\x07", bytes.fromhex("000500faf048656c6c6f00")], ids=["noise", "no-such-block", "length"]
)
def test_what_is_not_deflate_is_invalid(broken: bytes) -> None:
    assert inflate(extension(), broken) is CloseReason.INVALID_FRAME_PAYLOAD_DATA


def test_a_message_inflates_to_the_limit_and_no_byte_further() -> None:
    assert inflate(extension(limit=1000), deflated(bytes(1000))) == bytes(1000)
    assert inflate(extension(limit=1000), deflated(bytes(1001))) is CloseReason.MESSAGE_TOO_BIG
    assert inflate(extension(limit=0), deflated(b"")) == b""
    assert inflate(extension(limit=0), deflated(b"x")) is CloseReason.MESSAGE_TOO_BIG
    side = extension(limit=1000)
    assert [inflate(side, deflated(bytes(1000))) for _ in range(3)] == [bytes(1000)] * 3
    data = deflated(bytes(1001))
    assert inflate(side, *(data[i : i + 1] for i in range(len(data)))) is CloseReason.MESSAGE_TOO_BIG


def test_a_bomb_is_not_inflated_beyond_the_limit() -> None:
    bomb = deflated(bytes(64 * 2**20))
    side = extension(limit=2**20)
    tracemalloc.start()
    try:
        assert inflate(side, bomb) is CloseReason.MESSAGE_TOO_BIG
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def test_without_a_limit_everything_is_inflated() -> None:
    assert inflate(extension(limit=None), deflated(bytes(10**7))) == bytes(10**7)


def test_a_message_of_countless_streams_is_too_big() -> None:
    """Each costs us a new window, and the peer two bytes."""
    empty = b"\x03\x00"
    assert inflate(extension(limit=100), empty * STREAMS) == b""
    assert inflate(extension(limit=100), empty * (STREAMS + 1)) is CloseReason.MESSAGE_TOO_BIG
    side = extension(limit=100)
    assert [inflate(side, empty * STREAMS) for _ in range(3)] == [b""] * 3


# ---------------------------------------------------------------------------------------------- contexts


@roles
def test_contexts_are_made_when_the_first_message_needs_them(client: bool) -> None:
    side = extension(client=client)
    assert contexts(side) == (False, False)
    side.deflate(b"x")
    assert contexts(side) == (True, False)
    inflate(side, deflated(b"x"))
    assert contexts(side) == (True, True)


@roles
@pytest.mark.parametrize("taker", ["server", "client"])
def test_a_context_that_is_not_to_be_kept_is_dropped_after_each_message(taker: str, client: bool) -> None:
    """RFC 7692 §7.1.1"""
    agreed: dict[str, Any] = {f"{taker}_no_context_takeover": True}
    side = extension(parameters(**agreed), client=client)
    sent = [side.deflate(b"Hello" * 10) for _ in range(2)]
    received = [inflate(side, deflated(b"Hello" * 10)) for _ in range(2)]
    assert received == [b"Hello" * 10] * 2
    ours_forgets = (taker == "client") is client
    assert (sent[0] == sent[1]) is ours_forgets
    assert contexts(side) == (not ours_forgets, ours_forgets)


@roles
def test_each_side_keeps_to_its_own_window(client: bool) -> None:
    """RFC 7692 §7.1.2: what repeats farther back than the window cannot be referred to."""
    noise = bytes(i * i * 31 >> 3 & 0xFF for i in range(600))
    text = noise + bytes(range(256)) * 8 + noise
    for bits in (9, 15):
        other = 24 - bits
        agreed = parameters(
            server_max_window_bits=other if client else bits, client_max_window_bits=bits if client else other
        )
        data = extension(agreed, client=client).deflate(text)
        assert zlib.decompressobj(-bits).decompress(data + TAIL) == text
        assert inflate(extension(agreed, client=client), deflated(text, bits=other)) == text


def test_a_client_window_of_8_bits_is_kept_within() -> None:
    """RFC 7692 §7.1.2.2: zlib makes it one of 9, and never refers farther back than 250 bytes in it."""
    agreed = parameters(client_max_window_bits=8)
    text = bytes(i * i * 31 >> 3 & 0xFF for i in range(255)) * 5
    data = extension(agreed, client=True).deflate(text)
    assert len(data) > 4 * 255, "255 bytes back is out of reach"
    assert inflate(extension(agreed), data) == text
    near = extension(agreed, client=True).deflate(text[:240] * 5)
    assert len(near) < 2 * 255, "240 bytes back is not"


@pytest.mark.parametrize("level", [-1, 0, 1, 9])
@pytest.mark.parametrize("memory_level", [1, 9])
def test_level_and_memory_are_as_set(level: int, memory_level: int) -> None:
    agreed = Parameters(ours=Deflate(level=level, memory_level=memory_level))
    data = extension(agreed).deflate(b"Hello" * 1000)
    assert (len(data) > 5000) is (level == 0)
    assert inflate(extension(agreed, client=True), data) == b"Hello" * 1000


@pytest.mark.parametrize(
    ("ours", "low", "high"), [(12, 44, 56), (None, 72, 84)], ids=["client-window-of-12", "client-window-not-offered"]
)
def test_both_contexts_of_a_server_take_what_the_documentation_says(ours: int | None, low: int, high: int) -> None:
    agreed = Parameters(server_max_window_bits=12, client_max_window_bits=ours)
    data = deflated(bytes(range(256)) * 300, bits=ours or 15)
    tracemalloc.start()
    try:
        sides = [extension(agreed) for _ in range(10)]
        for side in sides:
            side.deflate(b"Hello" * 100)
            inflate(side, data)
        size = tracemalloc.get_traced_memory()[0] / len(sides) / 1024
    finally:
        tracemalloc.stop()
    assert low < size < high, f"{size:.1f} KiB"


payloads = st.lists(
    st.one_of(st.binary(min_size=1, max_size=60), st.binary(min_size=1, max_size=9).map(lambda b: b * 400)), max_size=6
)


@examples(200)
@given(agreements, st.booleans(), payloads)
def test_one_side_inflates_what_the_other_deflates(agreed: Parameters, client: bool, told: list[bytes]) -> None:
    sender, reader = extension(agreed, client=client), extension(agreed, client=not client)
    for payload in told:
        data = sender.deflate(payload)
        assert not data.endswith(TAIL)
        assert inflate(reader, data[: len(data) // 2], data[len(data) // 2 :]) == payload


@examples(200)
@given(
    agreements,
    st.booleans(),
    st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 9), st.booleans(), st.integers(0, 300)), max_size=6),
)
def test_whatever_a_sender_may_do_is_inflated(
    agreed: Parameters, client: bool, told: list[tuple[bytes, int, bool, int]]
) -> None:
    """RFC 7692 §7.2.1: several blocks, of any kind, final ones too."""
    sender, reader = Deflater(agreed, client=client), extension(agreed, client=client)
    for payload, level, final, flush_at in told:
        assert inflate(reader, sender.compress(payload, level, final, flush_at)) == payload


@examples(300)
@given(st.lists(st.lists(st.binary(max_size=30), min_size=1, max_size=3), max_size=4), st.integers(0, 100))
def test_any_bytes_are_inflated_or_told_to_be_wrong(told: list[list[bytes]], limit: int) -> None:
    side = extension(limit=limit)
    for fragments in told:
        whole = inflate(side, *fragments)
        if isinstance(whole, CloseReason):
            assert whole in (CloseReason.INVALID_FRAME_PAYLOAD_DATA, CloseReason.MESSAGE_TOO_BIG)
            return
        assert len(whole) <= limit
