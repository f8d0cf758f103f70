"""One side of a conversation, and two joined: what is said, what is answered, what is due when."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wsadapter.conversation import GRACE, PONGS, Conversation, State
from wsadapter.deflate import Parameters
from wsadapter.errors import ConnectionClosed, OutboxFull
from wsadapter.messages import Prepared
from wsadapter.options import Deflate, Limits
from wsadapter.receiver import Message

from .streams import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Pair,
    Seen,
    Stream,
    cut,
    deflated,
    everything,
    examples,
    frame,
    frames_in,
    head,
    hostile_streams,
    key_of,
    legal_streams,
    messages,
    mutated,
    parameters,
    places,
    read,
    roles,
)

NO_DEADLINES = Limits(ping_interval=None)


def conversation(
    *, client: bool = False, deflate: Parameters | None = None, receive: bool = True, now: float = 0.0, **limits: Any
) -> Conversation:
    return Conversation(client=client, limits=Limits(**limits), now=now, deflate=deflate, receive=receive)


def waiting(side: Conversation) -> Conversation:
    """*side*, its reader having found nothing."""
    assert not side.settle()
    return side


def sent(side: Conversation) -> list[Seen]:
    return frames_in(side.data_to_send())


def closes_sent(side: Conversation) -> list[bytes]:
    return [seen.payload for seen in sent(side) if seen.opcode == CLOSE]


def code_of(payload: bytes) -> int:
    return int.from_bytes(payload[:2], "big")


def ending(side: Conversation) -> tuple[State, int | None, str | None]:
    return side.state, side.close_code, side.close_reason


# ---------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize("deflate", [None, parameters()], ids=["plain", "compressed"])
def test_both_sides_hear_what_the_other_says(deflate: Parameters | None) -> None:
    pair = Pair(deflate=deflate)
    told: list[Message] = ["", "é", b"", b"\0" * 70_000, "x" * 200]
    for message in told:
        pair.server.send(message)
        pair.client.send(message)
    pair.exchange()
    assert everything(pair.server) == everything(pair.client) == told
    assert all(type(message) in (str, bytes) for message in told)


@roles
def test_a_client_masks_and_a_server_does_not(client: bool) -> None:
    """RFC 6455 §5.1"""
    side = conversation(client=client)
    side.send("x")
    side.ping(0.0)
    side.receive_data(frame(PING, key=key_of(client)), 0.0)
    side.close(0.0)
    seen = sent(side)
    assert [one.opcode for one in seen] == [PONG, TEXT, PING, CLOSE]
    assert {one.masked for one in seen} == {client}


def test_a_frame_made_for_many_is_sent_as_it_is() -> None:
    side = conversation()
    prepared = Prepared("x")
    made = frame(TEXT, b"x", key=None)
    side.send_prepared(prepared)
    assert prepared.frame == made
    assert side.queued == len(made)
    assert side.data_to_send() == made
    assert side.queued == 0


def test_all_that_was_queued_leaves_in_one_piece_and_once() -> None:
    side = conversation()
    assert (side.has_data, side.queued, side.data_to_send()) == (False, 0, b"")
    side.send("a")
    side.send(b"b")
    assert (side.has_data, side.queued) == (True, 6)
    assert side.data_to_send() == frame(TEXT, b"a", key=None) + frame(BINARY, b"b", key=None)
    assert (side.has_data, side.queued, side.data_to_send()) == (False, 0, b"")


def test_text_that_utf8_cannot_tell_is_not_queued() -> None:
    side = conversation()
    with pytest.raises(UnicodeEncodeError):
        side.send("a\ud800")
    assert not side.has_data


def test_what_is_said_of_a_conversation() -> None:
    side = conversation()
    assert repr(side) == "<Conversation server open>"
    side.close(0.0)
    assert repr(side) == "<Conversation server closing>"
    side.receive_data(frame(CLOSE, b"\x03\xe8"), 0.0)
    assert repr(side) == "<Conversation server closed 1000>"
    assert repr(conversation(client=True)) == "<Conversation client open>"


# ------------------------------------------------------------------------------------------- compression


def test_only_messages_from_the_threshold_on_are_compressed() -> None:
    side = conversation(deflate=Parameters(ours=Deflate(threshold=10)))
    for size in (9, 10):
        side.send("x" * size)
        side.send(b"x" * size)
    assert [seen.rsv1 for seen in sent(side)] == [False, False, True, True]


def test_one_message_can_be_sent_as_it_is() -> None:
    side = conversation(deflate=parameters())
    side.send("secret" * 100, compress=False)
    side.send("x" * 600)
    plain, compressed = sent(side)
    assert (plain.rsv1, plain.payload) == (False, b"secret" * 100)
    assert compressed.rsv1
    assert len(compressed.payload) < 30


def test_nothing_is_never_compressed() -> None:
    """RFC 7692 §7.2.3.6 would have it as one octet; none is shorter."""
    side = conversation(deflate=parameters())
    side.send("")
    assert sent(side) == [Seen(TEXT, b"")]


def test_without_an_agreement_nothing_is_compressed() -> None:
    side = conversation()
    side.send("x" * 1000, compress=True)
    assert [seen.rsv1 for seen in sent(side)] == [False]


def test_a_message_that_was_not_queued_leaves_the_context_as_it_was() -> None:
    pair = Pair(deflate=parameters(), limits=Limits(outbox=1, outbox_hard=1))
    pair.server.send("one")
    with pytest.raises(OutboxFull):
        pair.server.send("two")
    pair.exchange()
    pair.server.send("three")
    pair.exchange()
    assert everything(pair.client) == ["one", "three"]


# ----------------------------------------------------------------------------------------- ping and pong


@roles
def test_a_ping_is_answered_while_a_message_is_in_pieces(client: bool) -> None:
    """RFC 6455 §5.5.2"""
    side, key = conversation(client=client), key_of(client)
    side.receive_data(frame(TEXT, b"a", fin=False, key=key) + frame(PING, b"1", key=key), 0.0)
    assert side.attention
    assert side.has_data
    assert [(seen.opcode, seen.payload) for seen in sent(side)] == [(PONG, b"1")]


def test_pings_are_answered_in_order_and_before_what_waits() -> None:
    side = conversation()
    side.send("x")
    side.receive_data(b"".join(frame(PING, bytes([i])) for i in range(3)), 0.0)
    assert [seen.payload for seen in sent(side)] == [b"\0", b"\1", b"\2", b"x"]


def test_of_too_many_pings_the_newest_is_answered_for_all() -> None:
    """RFC 6455 §5.5.3"""
    side = conversation()
    side.receive_data(b"".join(frame(PING, bytes([i])) for i in range(PONGS)), 0.0)
    assert [seen.payload for seen in sent(side)] == [bytes([i]) for i in range(PONGS)]
    side.receive_data(b"".join(frame(PING, bytes([i])) for i in range(PONGS + 2)), 0.0)
    assert [seen.payload for seen in sent(side)] == [bytes([PONGS]), bytes([PONGS + 1])]


def test_pongs_wait_here_while_the_network_takes_nothing() -> None:
    side = conversation(outbox=10)
    side.send(b"x" * 20)
    data = side.data_to_send()
    side.report_backlog(len(data), 0.0)
    for _ in range(10):
        side.receive_data(b"".join(frame(PING, b"x" * 125) for _ in range(1000)), 0.0)
        assert not side.has_data
        assert side.data_to_send() == b""
    side.report_backlog(10, 1.0)
    assert side.has_data
    assert len(sent(side)) <= PONGS


def test_a_ping_that_came_before_our_close_is_answered_before_it() -> None:
    """RFC 6455 §5.5.2"""
    side = conversation()
    side.receive_data(frame(PING, b"?"), 0.0)
    side.close(0.0)
    assert [seen.opcode for seen in sent(side)] == [PONG, CLOSE]


def test_a_ping_that_came_before_the_peers_close_is_answered_too() -> None:
    side = waiting(conversation())
    side.receive_data(frame(PING, b"?") + frame(CLOSE), 0.0)
    assert [seen.opcode for seen in sent(side)] == [PONG, CLOSE]


def test_a_ping_after_our_close_is_swallowed() -> None:
    """RFC 6455 §5.5.1: nothing follows a Close."""
    side = conversation(outbox=1)
    side.send("x")
    side.report_backlog(len(side.data_to_send()), 0.0)
    side.receive_data(frame(PING, b"held back"), 0.0)
    side.close(0.0)
    side.receive_data(frame(PING, b"late"), 0.0)
    side.report_backlog(0, 0.0)
    assert [seen.opcode for seen in sent(side)] == [CLOSE]
    assert not side.has_data


def test_the_round_trip_of_a_ping_is_told() -> None:
    """RFC 6455 §5.5.2, §5.5.3"""
    pair = Pair()
    took: list[float] = []
    pair.server.ping(pair.now, took.append)
    assert (pair.server.attention, pair.server.latency) == (True, None)
    pair.write(pair.server)
    pair.now = 0.25
    pair.exchange()
    assert (took, pair.server.latency) == ([0.25], 0.25)


def test_a_pong_answers_all_pings_before_the_one_it_names() -> None:
    """RFC 6455 §5.5.3"""
    side, took = conversation(), dict[str, float]()
    for name in ("a", "b", "c"):
        side.ping(0.0, partial(took.__setitem__, name))
    first, second, third = (seen.payload for seen in sent(side))
    side.receive_data(frame(PONG, second), 2.0)
    assert took == {"a": 2.0, "b": 2.0}
    side.receive_data(frame(PONG, first) + frame(PONG, b"unsolicited") + frame(PONG, b""), 3.0)
    assert side.latency == 2.0
    side.receive_data(frame(PONG, third), 5.0)
    assert took == {"a": 2.0, "b": 2.0, "c": 5.0}
    assert side.latency == 5.0


# --------------------------------------------------------------------------------------- the peer closes


@roles
@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999])
def test_the_peers_code_is_echoed_without_its_words(code: int, client: bool) -> None:
    """RFC 6455 §5.5.1, §7.1.5"""
    side = waiting(conversation(client=client))
    side.receive_data(frame(CLOSE, code.to_bytes(2, "big") + b"why", key=key_of(client)), 0.0)
    assert ending(side) == (State.CLOSED, code, "why")
    assert type(side.close_code) is int
    assert side.closed
    assert side.attention
    assert closes_sent(side) == [code.to_bytes(2, "big")]
    assert not side.aborted


def test_a_close_without_a_code_is_answered_by_one_without() -> None:
    """RFC 6455 §7.1.5"""
    side = waiting(conversation())
    side.receive_data(frame(CLOSE), 0.0)
    assert ending(side) == (State.CLOSED, 1005, "")
    assert closes_sent(side) == [b""]


@roles
def test_the_server_closes_the_transport_first(client: bool) -> None:
    """RFC 6455 §7.1.1: so that the client keeps no TIME_WAIT."""
    side = waiting(conversation(client=client))
    side.receive_data(frame(CLOSE, key=key_of(client)), 0.0)
    assert side.lingers is client


def test_messages_that_came_before_a_close_are_read_and_answered_first() -> None:
    side = waiting(conversation())
    side.receive_data(frame(TEXT, b"1") + frame(TEXT, b"2") + frame(CLOSE, b"\x03\xe8"), 0.0)
    assert side.state is State.OPEN
    assert side.messages.popleft() == "1"
    side.send("answer to 1")
    assert side.messages.popleft() == "2"
    side.send("answer to 2")
    assert side.settle()
    assert ending(side) == (State.CLOSED, 1000, "")
    assert [seen.payload for seen in sent(side)] == [b"answer to 1", b"answer to 2", b"\x03\xe8"]


def test_a_close_waits_for_a_reader_that_is_busy() -> None:
    side = conversation()
    side.receive_data(frame(CLOSE, b"\x03\xe8"), 0.0)
    assert side.state is State.OPEN
    assert side.settle()
    assert ending(side) == (State.CLOSED, 1000, "")


def test_a_reader_that_waited_and_was_given_a_message_is_busy_again() -> None:
    side = waiting(conversation())
    side.receive_data(frame(TEXT, b"x"), 0.0)
    side.messages.clear()
    side.receive_data(frame(CLOSE), 0.0)
    assert side.state is State.OPEN


def test_a_close_does_not_wait_for_ever() -> None:
    side = waiting(conversation())
    side.receive_data(frame(TEXT, b"x") + frame(CLOSE, b"\x03\xe8"), 5.0)
    assert side.deadline() == 5.0 + GRACE
    side.on_time(5.0 + GRACE - 0.001)
    assert side.state is State.OPEN
    side.on_time(5.0 + GRACE)
    assert ending(side) == (State.CLOSED, 1000, "")
    assert closes_sent(side) == [b"\x03\xe8"]
    assert everything(side) == ["x"], "what came before is still to be read"


def test_a_program_may_answer_the_peers_close_with_a_code_of_its_own() -> None:
    side = conversation()
    side.receive_data(frame(TEXT, b"x") + frame(CLOSE, b"\x03\xe8"), 0.0)
    side.close(0.0, 4000, "busy")
    assert ending(side) == (State.CLOSED, 1000, "")
    assert closes_sent(side) == [(4000).to_bytes(2, "big") + b"busy"]
    assert not side.messages


def test_a_conversation_that_does_not_read_answers_at_once() -> None:
    side = conversation(receive=False)
    side.receive_data(frame(TEXT, b"x") + frame(PING, b"?"), 0.0)
    assert not side.messages
    assert side.wants_data
    assert [seen.opcode for seen in sent(side)] == [PONG]
    side.receive_data(frame(TEXT, b"x") + frame(CLOSE, b"\x03\xe8"), 0.0)
    assert ending(side) == (State.CLOSED, 1000, "")
    assert not side.messages


def test_a_conversation_that_does_not_read_inflates_one_message_at_a_time() -> None:
    side = conversation(receive=False, deflate=parameters(), inbox=10)
    side.receive_data(frame(TEXT, deflated(b"x" * 100), rsv=4) * 5 + frame(CLOSE), 0.0)
    assert ending(side) == (State.CLOSED, 1005, "")
    assert not side.messages


# ---------------------------------------------------------------------------------- the peer breaks a rule


@roles
def test_a_violation_is_answered_with_its_code_and_the_words(client: bool) -> None:
    """RFC 6455 §7.1.7"""
    side = waiting(conversation(client=client))
    side.receive_data(frame(CONT, b"x", key=key_of(client)), 0.0)
    assert ending(side) == (State.CLOSED, 1002, "unexpected CONTINUATION")
    assert closes_sent(side) == [b"\x03\xeaunexpected CONTINUATION"]
    assert side.lingers, "so that the peer can read it"
    assert not side.aborted


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(TEXT, b"\xff"), 1007),
        (head(BINARY, 2**21) + b"keys", 1009),
        (frame(0x3), 1002),
    ],
    ids=["1007", "1009", "1002"],
)
def test_messages_before_a_violation_are_delivered_before_the_close(bad: bytes, code: int) -> None:
    side = waiting(conversation())
    side.receive_data(frame(TEXT, b"1") + frame(TEXT, b"2") + bad, 0.0)
    assert list(side.messages) == ["1", "2"]
    assert side.state is State.OPEN
    assert everything(side) == ["1", "2"]
    assert side.close_code == code
    assert [code_of(payload) for payload in closes_sent(side)] == [code]


def test_nothing_is_fed_after_a_failure() -> None:
    """RFC 6455 §7.1.7"""
    side = waiting(conversation())
    side.receive_data(frame(0x3), 0.0)
    sent(side)
    side.receive_data(frame(TEXT, b"x") + frame(PING) + frame(CLOSE), 1.0)
    assert not side.messages
    assert not side.has_data
    assert side.close_code == 1002


def test_a_violation_keeps_its_code_though_the_program_closes() -> None:
    """RFC 6455 §7.1.7"""
    side = conversation()
    side.receive_data(frame(TEXT, b"x") + frame(0x3), 0.0)
    side.close(0.0, 1000)
    assert side.close_code == 1002
    assert [code_of(payload) for payload in closes_sent(side)] == [1002]


def test_a_long_reason_of_ours_fits_a_control_frame() -> None:
    side = conversation()
    side.close(0.0, 1000, "é" * 100)
    (payload,) = closes_sent(side)
    assert payload[2:].decode() == "é" * 61


# ------------------------------------------------------------------------------------------------ we close


@roles
def test_we_close_and_the_peer_answers(client: bool) -> None:
    """RFC 6455 §7.1.2, §7.1.3"""
    side = conversation(client=client)
    side.send("last words")
    side.close(0.0, 4001, "done")
    assert ending(side) == (State.CLOSING, None, None)
    assert side.attention
    assert [seen.payload for seen in sent(side)] == [b"last words", (4001).to_bytes(2, "big") + b"done"]
    assert side.settle(), "nothing more comes"
    side.receive_data(frame(CLOSE, (4001).to_bytes(2, "big"), key=key_of(client)), 1.0)
    assert ending(side) == (State.CLOSED, 4001, "")
    assert not side.has_data, "it was answered already"
    assert side.lingers is client


def test_closing_twice_is_closing_once() -> None:
    side = conversation()
    side.close(0.0, 1000)
    side.close(0.0, 1011, "again")
    assert closes_sent(side) == [b"\x03\xe8"]
    side.receive_data(frame(CLOSE, b"\x03\xe8"), 0.0)
    side.close(0.0, 1011)
    assert not side.has_data


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536, -1])
def test_a_code_that_may_not_be_sent_is_a_mistake_and_changes_nothing(code: int) -> None:
    """RFC 6455 §7.4"""
    side = conversation()
    with pytest.raises(ValueError, match="may not be sent"):
        side.close(0.0, code)
    assert side.state is State.OPEN
    assert not side.has_data


def test_both_close_at_once() -> None:
    """RFC 6455 §7.1.3"""
    pair = Pair()
    pair.server.close(0.0, 4001)
    pair.client.close(0.0, 4002)
    pair.exchange()
    assert ending(pair.server) == (State.CLOSED, 4002, "")
    assert ending(pair.client) == (State.CLOSED, 4001, "")


def test_what_comes_after_our_close_is_dropped_until_the_peers() -> None:
    side = conversation()
    side.receive_data(frame(TEXT, b"unread"), 0.0)
    side.close(0.0)
    sent(side)
    side.receive_data(frame(TEXT, b"late") + frame(TEXT, b"more", fin=False), 0.0)
    assert not side.messages
    assert side.wants_data
    side.receive_data(frame(PONG) + frame(CLOSE, b"\x03\xe8"), 0.0)
    assert ending(side) == (State.CLOSED, 1000, "")


def test_a_violation_after_our_close_ends_it() -> None:
    side = conversation()
    side.close(0.0)
    sent(side)
    side.receive_data(frame(0x3), 0.0)
    assert side.close_code == 1002
    assert not side.has_data


def test_sending_on_a_conversation_that_is_over_tells_how_it_ended() -> None:
    side = conversation()
    side.close(0.0)
    acts: list[Callable[[], object]] = [
        partial(side.send, "x"),
        partial(side.send_prepared, Prepared(b"x")),
        partial(side.ping, 0.0),
        side.check_open,
    ]
    for act in acts:
        with pytest.raises(ConnectionClosed):
            act()
    side.receive_data(frame(CLOSE, b"\x0f\xa0bye"), 0.0)
    with pytest.raises(ConnectionClosed) as caught:
        side.send("x")
    assert (caught.value.code, caught.value.reason) == (4000, "bye")


def test_a_peer_that_does_not_answer_our_close_is_cut_off() -> None:
    side = conversation()
    side.close(3.0)
    side.attention = False
    assert side.deadline() == 13.0
    side.on_time(12.9)
    assert side.state is State.CLOSING
    side.on_time(13.0)
    assert ending(side) == (State.CLOSED, 1006, "no Close from the peer within 10 seconds of ours")
    assert side.aborted
    assert side.attention
    assert side.deadline() is None


def test_a_transport_that_does_not_go_is_cut_and_the_code_stays() -> None:
    side = waiting(conversation(client=True, close_timeout=2.0))
    side.receive_data(frame(CLOSE, b"\x03\xe8", key=None), 5.0)
    assert side.deadline() == 7.0
    side.on_time(7.0)
    assert side.aborted
    assert ending(side) == (State.CLOSED, 1000, "")
    assert side.deadline() is None


# ------------------------------------------------------------------------------------------------- the end


@roles
def test_an_end_without_a_close_is_1006(client: bool) -> None:
    """RFC 6455 §7.1.5"""
    side = waiting(conversation(client=client))
    side.send("never taken")
    side.receive_eof(1.0)
    assert ending(side) == (State.CLOSED, 1006, "the connection was lost without a Close")
    assert side.aborted
    assert not side.has_data
    assert side.settle()


def test_a_reason_that_is_known_is_told() -> None:
    side = conversation()
    side.receive_eof(1.0, "Connection reset by peer")
    assert side.close_reason == "Connection reset by peer"


def test_what_came_before_the_end_is_still_read() -> None:
    side = conversation()
    side.receive_data(frame(TEXT, b"x"), 0.0)
    side.receive_eof(1.0)
    assert everything(side) == ["x"]


def test_an_end_after_a_close_is_none() -> None:
    side = waiting(conversation())
    side.receive_data(frame(CLOSE, b"\x03\xe8"), 0.0)
    side.receive_eof(1.0)
    side.receive_eof(2.0)
    assert ending(side) == (State.CLOSED, 1000, "")
    assert not side.aborted


def test_an_end_behind_a_close_that_still_waits_is_that_close() -> None:
    side = conversation()
    side.receive_data(frame(TEXT, b"x") + frame(CLOSE, b"\x03\xe9"), 0.0)
    side.receive_eof(0.0)
    assert ending(side) == (State.CLOSED, 1001, "")
    assert everything(side) == ["x"]


def test_an_end_in_the_middle_of_our_closing_is_1006() -> None:
    side = conversation()
    side.close(0.0)
    side.receive_eof(1.0)
    assert side.close_code == 1006


def test_nothing_is_read_once_it_is_closed() -> None:
    side = waiting(conversation())
    side.receive_eof(1.0)
    side.receive_data(frame(TEXT, b"x") + frame(CLOSE, b"\x03\xe8"), 2.0)
    assert not side.messages
    assert side.close_code == 1006


# ------------------------------------------------------------------------------------------------ the inbox


def test_reading_pauses_while_the_inbox_is_full() -> None:
    side = conversation(inbox=100)
    wanted = []
    for act in (
        partial(side.receive_data, frame(TEXT, b"x" * 20), 0.0),
        partial(side.receive_data, frame(TEXT, b"x" * 60), 0.0),
        side.messages.popleft,
        side.messages.popleft,
        side.settle,
        partial(side.receive_data, frame(TEXT, b"x" * 20), 0.0),
    ):
        act()
        wanted.append(side.wants_data)
    assert wanted == [True, False, False, True, True, True]


def test_one_message_of_any_legal_size_fits() -> None:
    side = conversation(inbox=100)
    data = frame(BINARY, bytes(10_000))
    for chunk in cut(data, range(0, len(data), 500)):
        assert side.wants_data
        side.receive_data(chunk, 0.0)
    assert list(side.messages) == [bytes(10_000)]


def test_messages_that_inflate_beyond_the_inbox_are_read_on_when_the_reader_asks() -> None:
    side = conversation(inbox=100, deflate=parameters())
    part = frame(TEXT, deflated(b"x" * 200), rsv=4)
    side.receive_data(part * 3 + frame(PING) + frame(CLOSE, b"\x03\xe8"), 0.0)
    for _ in range(2):
        assert list(side.messages) == ["x" * 200]
        assert not side.wants_data
        side.messages.clear()
        assert not side.settle(), "there is more after all"
    side.messages.clear()
    assert side.settle()
    assert ending(side) == (State.CLOSED, 1000, "")


def test_what_had_stalled_when_the_connection_was_lost_is_still_read_to_its_end() -> None:
    side = conversation(inbox=100, deflate=parameters())
    part = frame(TEXT, deflated(b"x" * 200), rsv=4)
    side.receive_data(part * 3 + frame(PING) + frame(CLOSE, b"\x03\xe8bye"), 0.0)
    side.receive_eof(1.0)
    assert side.close_code == 1006
    assert everything(side) == ["x" * 200] * 3
    assert ending(side) == (State.CLOSED, 1000, "bye"), "it had not been lost without a Close"
    assert side.aborted
    assert not side.has_data


def test_a_close_of_ours_reads_on_what_had_stalled() -> None:
    side = conversation(inbox=100, deflate=parameters())
    side.receive_data(frame(TEXT, deflated(b"x" * 200), rsv=4) * 3 + frame(CLOSE, b"\x03\xe8"), 0.0)
    assert not side.wants_data
    side.close(0.0, 1001)
    assert ending(side) == (State.CLOSED, 1000, "")
    assert closes_sent(side) == [b"\x03\xe9"]


# ----------------------------------------------------------------------------------------------- the outbox


def test_there_is_room_until_the_outbox_is_full() -> None:
    side = conversation(outbox=100)
    frame_of_50 = b"x" * 48
    room = []
    for act in (
        partial(side.send, frame_of_50),
        partial(side.send, frame_of_50),
        side.data_to_send,
        partial(side.report_backlog, 100, 0.0),
        partial(side.report_backlog, 99, 0.0),
        partial(side.send, b""),
    ):
        act()
        room.append(side.has_room)
    assert room == [True, False, True, False, True, False]


def test_a_send_beyond_the_hard_limit_is_not_queued() -> None:
    side = conversation(outbox=100, outbox_hard=100)
    side.send(b"x" * 1000)
    acts: list[Callable[[], object]] = [partial(side.send, "more"), partial(side.send_prepared, Prepared(b"more"))]
    for act in acts:
        with pytest.raises(OutboxFull, match="1004 bytes wait for a peer that does not take them"):
            act()
    side.report_backlog(len(side.data_to_send()), 0.0)
    with pytest.raises(OutboxFull, match="1004 bytes wait"):
        side.send("more")
    side.report_backlog(100, 1.0)
    side.send("one of any size" * 1000)
    side.close(1.0)
    assert [seen.opcode for seen in sent(side)] == [TEXT, CLOSE], "a Close always has room"


def test_a_peer_that_takes_nothing_is_cut_off() -> None:
    side = conversation(ping_interval=None)
    side.send(b"x" * 100)
    side.report_backlog(0, 1.0)
    assert side.deadline() is None
    data = side.data_to_send()
    side.report_backlog(len(data), 5.0)
    assert side.deadline() == 25.0
    side.report_backlog(len(data) - 1, 10.0)
    assert side.deadline() == 30.0
    side.report_backlog(len(data) - 1, 20.0)
    assert side.deadline() == 30.0
    side.receive_data(frame(PONG), 29.0)
    side.on_time(29.9)
    assert side.state is State.OPEN
    side.on_time(30.0)
    assert ending(side) == (State.CLOSED, 1006, "the peer took nothing for 20 seconds")
    assert side.aborted
    assert side.deadline() is None


def test_writing_more_is_no_sign_of_taking() -> None:
    side = conversation(ping_interval=None)
    side.send(b"x" * 100)
    waits = len(side.data_to_send())
    side.report_backlog(waits, 0.0)
    for now in range(1, 20):
        side.send(b"x" * 100)
        waits += len(side.data_to_send())
        side.report_backlog(waits, float(now))
        assert side.deadline() == 20.0


def test_the_clock_of_writing_begins_when_something_waits() -> None:
    side = conversation(ping_interval=None)
    for now in (0.0, 100.0):
        side.send("x")
        data = side.data_to_send()
        side.report_backlog(len(data), now)
        assert side.deadline() == now + 20.0
        side.report_backlog(0, now + 1)
        assert side.deadline() is None


def test_without_a_write_timeout_nothing_is_due() -> None:
    side = conversation(ping_interval=None, write_timeout=None)
    side.send("x")
    side.report_backlog(len(side.data_to_send()), 0.0)
    assert side.deadline() is None


def test_an_answer_that_nobody_takes_does_not_change_how_it_ended() -> None:
    side = waiting(conversation(write_timeout=5.0))
    side.send(b"x" * 100)
    side.report_backlog(len(side.data_to_send()), 0.0)
    side.receive_data(frame(CLOSE, b"\x03\xe8"), 1.0)
    assert side.deadline() == 5.0
    side.on_time(5.0)
    assert side.aborted
    assert ending(side) == (State.CLOSED, 1000, "")


def test_a_close_that_waits_while_the_peer_takes_nothing_is_how_it_ended() -> None:
    side = conversation(write_timeout=5.0)
    side.send(b"x" * 100)
    side.report_backlog(len(side.data_to_send()), 0.0)
    side.receive_data(frame(TEXT, b"x") + frame(CLOSE, b"\x03\xe8"), 4.5)
    side.on_time(5.0)
    assert side.aborted
    assert ending(side) == (State.CLOSED, 1000, "")
    assert not side.has_data


# -------------------------------------------------------------------------------------------- the keepalive


def test_silence_is_answered_with_a_ping_and_more_silence_with_the_end() -> None:
    side = conversation(now=100.0)
    assert side.deadline() == 120.0
    side.on_time(119.9)
    assert not side.has_data
    side.on_time(120.0)
    assert side.attention
    assert [seen.opcode for seen in sent(side)] == [PING]
    assert side.deadline() == 140.0
    side.on_time(139.9)
    assert side.state is State.OPEN
    side.on_time(140.0)
    assert ending(side) == (State.CLOSED, 1006, "no sign of life within 20 seconds of a ping")
    assert side.aborted
    assert side.deadline() is None


@pytest.mark.parametrize("sign", [frame(PONG), frame(TEXT, b"x"), b"\x81"], ids=["pong", "message", "any-byte"])
def test_any_byte_is_a_sign_of_life(sign: bytes) -> None:
    side = conversation()
    side.receive_data(sign, 15.0)
    assert side.deadline() == 35.0
    side.on_time(35.0)
    side.receive_data(sign[:1] if sign == b"\x81" else sign, 50.0)
    assert side.deadline() == 70.0


def test_the_keepalive_measures_too() -> None:
    pair = Pair()
    pair.pass_time(20.0)
    pair.write(pair.server)
    pair.now += 0.5
    pair.exchange()
    assert pair.server.latency == 0.5


def test_two_that_say_nothing_stay_together() -> None:
    pair = Pair()
    for _ in range(100):
        pair.pass_time(10.0)
        pair.exchange()
    assert pair.server.state is pair.client.state is State.OPEN


def test_the_keepalive_asks_and_blames_nobody_while_we_do_not_read() -> None:
    """Whoever is lost is met by what is sent to it; whoever is there cannot answer."""
    side = conversation()
    side.pause()
    for at in (20.0, 40.0, 60.0):
        assert side.deadline() == at
        side.on_time(at)
        assert [seen.opcode for seen in sent(side)] == [PING]
    assert side.state is State.OPEN
    side.resume(70.0)
    assert side.deadline() == 90.0


def test_without_an_interval_nobody_is_asked_while_we_do_not_read() -> None:
    side = conversation(ping_interval=None)
    side.pause()
    assert side.deadline() is None


def test_a_slow_peer_that_takes_what_waits_for_it_is_alive() -> None:
    """The ping is behind what waits, and the answer behind the ping."""
    side = conversation()
    side.send(b"x" * 1000)
    size = len(side.data_to_send())
    side.report_backlog(size, 0.0)
    side.on_time(19.0)
    for at in range(15, 200, 15):
        size -= 10
        side.report_backlog(size, float(at))
        side.on_time(float(at))
        assert side.state is State.OPEN


def test_what_the_kernel_holds_is_not_taken_by_the_peer() -> None:
    side = conversation(ping_interval=None)
    side.send(b"x" * 1000)
    side.report_backlog(len(side.data_to_send()) - 500, 0.0, 500)
    side.report_backlog(500, 10.0, 400)
    assert side.deadline() == 30.0
    side.report_backlog(400, 20.0, 500)
    assert side.deadline() == 30.0


def test_a_ping_that_was_out_when_we_stopped_reading_is_not_held_against_the_peer() -> None:
    side = conversation()
    side.on_time(20.0)
    side.pause()
    assert side.deadline() == 40.0
    side.on_time(60.0)
    side.resume(60.0)
    assert side.deadline() == 80.0
    assert side.state is State.OPEN


def test_writing_has_its_clock_while_we_do_not_read() -> None:
    side = conversation()
    side.pause()
    side.send("x")
    side.report_backlog(len(side.data_to_send()), 0.0)
    assert side.deadline() == 20.0


def test_closing_has_its_clock_while_we_do_not_read() -> None:
    side = conversation()
    side.pause()
    side.close(5.0)
    assert side.deadline() == 15.0


def test_without_an_interval_nobody_is_asked() -> None:
    assert conversation(ping_interval=None).deadline() is None


def test_without_a_timeout_nobody_is_given_up() -> None:
    side = conversation(ping_timeout=None)
    side.on_time(20.0)
    assert [seen.opcode for seen in sent(side)] == [PING]
    assert side.deadline() is None
    side.receive_data(b"\x81", 500.0)
    assert side.deadline() == 520.0


def test_pings_that_are_never_answered_do_not_pile_up() -> None:
    side, took = conversation(), list[float]()
    side.ping(0.0, took.append)
    (asked,) = sent(side)
    for now in range(0, 4000, 20):
        side.receive_data(frame(PONG, b"something else"), float(now))
        side.on_time(now + 20.0)
        sent(side)
    assert len(side._pings) == 2, "the keepalive's newest, and the one that somebody waits for"
    side.receive_data(frame(PONG, asked.payload), 4001.0)
    assert took == [4001.0]


def test_two_things_due_at_once_are_done_once() -> None:
    side = conversation(ping_timeout=20.0, write_timeout=40.0)
    side.send("x")
    side.report_backlog(len(side.data_to_send()), 0.0)
    side.on_time(20.0)
    side.on_time(40.0)
    assert side.close_reason == "no sign of life within 20 seconds of a ping"


def test_a_close_that_is_answered_late_is_due_once() -> None:
    side = conversation(write_timeout=GRACE)
    side.send("x")
    side.report_backlog(len(side.data_to_send()), 0.0)
    side.receive_data(frame(TEXT, b"x") + frame(CLOSE, b"\x03\xe8"), 0.0)
    side.on_time(GRACE)
    assert ending(side) == (State.CLOSED, 1000, "")
    assert side.aborted
    side = conversation(write_timeout=GRACE)
    side.send("x")
    side.receive_data(frame(TEXT, b"x") + frame(CLOSE, b"\x03\xe8"), 0.0)
    due = side._due()
    side.settle()
    for _, act in due:
        act()
    assert ending(side) == (State.CLOSED, 1000, "")


def test_deadlines_do_not_stay_behind_once_all_is_cut() -> None:
    """Or whoever sleeps until the deadline never sleeps again."""
    for how in ("eof", "keepalive", "closing", "lingering"):
        side = waiting(conversation())
        match how:
            case "eof":
                side.receive_eof(0.0)
            case "closing":
                side.close(0.0)
            case "lingering":
                side.receive_data(frame(0x3), 0.0)
        for now in range(0, 100, 5):
            side.on_time(float(now))
        assert side.closed
        assert side.deadline() is None, how


# ---------------------------------------------------------------------------------------------- properties


@examples(300)
@given(legal_streams(), places, st.booleans())
def test_every_message_of_a_legal_stream_is_read(stream: Stream, where: list[int], ends: bool) -> None:
    side = Conversation(client=stream.client, limits=NO_DEADLINES, now=0.0, deflate=stream.deflate)
    told: list[Message] = []
    for chunk in cut(stream.data, where):
        side.receive_data(chunk, 0.0)
        told += everything(side)
    if ends:
        side.receive_eof(0.0)
    assert told + everything(side) == stream.told.messages
    assert side.close_code == (stream.told.code if ends or stream.told.code != 1006 else None)


@examples(300)
@given(
    st.one_of(mutated(), hostile_streams(), legal_streams()),
    places,
    st.lists(
        st.sampled_from(["settle", "take", "send", "ping", "close", "time", "write", "pause", "resume"]), max_size=12
    ),
    st.booleans(),
)
def test_whatever_a_peer_says_is_answered_by_what_a_peer_may_read(
    stream: Stream, where: list[int], acts: list[str], receive: bool
) -> None:
    limits = Limits(message_size=300, inbox=100, outbox=10_000, outbox_hard=10_000)
    side = Conversation(client=stream.client, limits=limits, now=0.0, deflate=stream.deflate, receive=receive)
    now, said = 0.0, list[bytes]()
    for i, chunk in enumerate(cut(stream.data, where)):
        side.receive_data(chunk, now)
        match acts[i] if i < len(acts) else "settle":
            case "settle":
                everything(side)
            case "take":
                side.messages.clear()
            case "send" if side.state is State.OPEN:
                side.send("hello" * 50)
            case "ping" if side.state is State.OPEN:
                side.ping(now)
            case "close":
                side.close(now, 4000)
            case "time":
                now += 15.0
                side.on_time(now)
            case "pause":
                side.pause()
            case "resume":
                side.resume(now)
            case _:
                said.append(side.data_to_send())
        assert side.deadline() is None or side.state is not State.OPEN or not side.aborted
    side.receive_eof(now)
    everything(side)
    said.append(side.data_to_send())
    assert side.closed
    assert side.close_code in {1005, 1006, *range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
    heard = read(said, client=not stream.client, deflate=stream.deflate)
    frames = frames_in(b"".join(said))
    closes = [i for i, seen in enumerate(frames) if seen.opcode == CLOSE]
    assert closes in ([], [len(frames) - 1]), "nothing follows our Close"
    if not closes:
        assert heard.code == 1006, "what we say is legal"
    else:
        payload = frames[-1].payload
        assert heard.code == (code_of(payload) if payload else 1005)


class Talk(RuleBasedStateMachine):
    """Two conversations over a wire that delivers when it likes, in pieces as it likes, and a clock that runs."""

    @initialize(
        agreed=st.one_of(st.none(), st.builds(parameters, server_no_context_takeover=st.booleans())),
        inbox=st.sampled_from([0, 50, 65536]),
    )
    def begin(self, agreed: Parameters | None, inbox: int) -> None:
        self.pair = Pair(deflate=agreed, limits=Limits(inbox=inbox, outbox=100, outbox_hard=2000))
        self.sides = [self.pair.server, self.pair.client]
        self.said: dict[Conversation, list[Message]] = {side: [] for side in self.sides}
        self.heard: dict[Conversation, list[Message]] = {side: [] for side in self.sides}
        self.codes: dict[Conversation, int] = {}

    def take(self, side: Conversation) -> None:
        self.heard[side] += everything(side)

    @rule(which=st.integers(0, 1), message=messages, compress=st.booleans())
    def send(self, which: int, message: Message, compress: bool) -> None:
        side = self.sides[which]
        if side.state is not State.OPEN:
            with pytest.raises(ConnectionClosed):
                side.send(message, compress=compress)
        elif side.queued > 2000:
            with pytest.raises(OutboxFull):
                side.send(message, compress=compress)
        else:
            side.send(message, compress=compress)
            self.said[side].append(message)

    @rule(which=st.integers(0, 1))
    def ping(self, which: int) -> None:
        side = self.sides[which]
        if side.state is State.OPEN:
            side.ping(self.pair.now, lambda seconds: note(f"{seconds} s"))

    @rule(which=st.integers(0, 1), size=st.one_of(st.none(), st.integers(1, 300)))
    def move(self, which: int, size: int | None) -> None:
        side = self.sides[which]
        self.pair.write(self.pair.other(side))
        if side.wants_data:
            self.pair.deliver(side, size)

    @rule(which=st.integers(0, 1))
    def read(self, which: int) -> None:
        self.take(self.sides[which])

    @rule(seconds=st.sampled_from([0.1, 1.0, 15.0]))
    def wait(self, seconds: float) -> None:
        self.pair.pass_time(seconds)

    @rule(which=st.integers(0, 1), code=st.sampled_from([1000, 1001, 4000]))
    def close(self, which: int, code: int) -> None:
        side = self.sides[which]
        if side.state is State.OPEN:
            self.codes[side] = code
        side.close(self.pair.now, code)
        assert side.state is not State.OPEN

    @precondition(lambda self: any(side.closed for side in self.sides))
    @rule()
    def hang_up(self) -> None:
        for side in self.sides:
            if side.closed:
                side.receive_eof(self.pair.now)

    @invariant()
    def nothing_is_made_up_or_out_of_order(self) -> None:
        for side in getattr(self, "sides", []):
            told = self.said[self.pair.other(side)]
            assert self.heard[side] == told[: len(self.heard[side])]

    @invariant()
    def every_end_has_a_code(self) -> None:
        for side in getattr(self, "sides", []):
            assert (side.close_code is None) is (side.state is not State.CLOSED)
            assert side.closed or not side.aborted

    def teardown(self) -> None:
        if not hasattr(self, "sides"):
            return
        for side in self.sides:
            self.take(side)
        self.pair.exchange()
        for side in self.sides:
            self.take(side)
            if not self.codes and not any(one.aborted for one in self.sides):
                assert self.heard[side] == self.said[self.pair.other(side)]
        self.sides[0].close(self.pair.now)
        self.pair.exchange()
        for side in self.sides:
            self.take(side)
        self.pair.exchange()
        self.pair.pass_time(60.0)
        assert all(side.closed for side in self.sides)


TestTalk = Talk.TestCase
TestTalk.settings = examples(100)
