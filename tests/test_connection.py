"""The connection in `async def` handlers: reading ends, sending raises, writes coalesce, and nobody starves."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

import wsadapter
from wsadapter.connection import Connection, Sent
from wsadapter.errors import ConcurrencyError, ConnectionClosed, OutboxFull, Unsupported
from wsadapter.messages import Prepared
from wsadapter.options import Limits
from wsadapter.receiver import Message
from wsadapter.request import Request

from .carriers import KIB, MIB, Line, Silent, clock, connect, in_loop, pass_time, turns, until
from .streams import BINARY, CLOSE, PING, PONG, TEXT, frame, parameters

Ending = Callable[[Line], None]


def a_goodbye(line: Line) -> None:
    line.wire.receive(frame(CLOSE, (1000).to_bytes(2, "big") + b"bye"))


def a_code_of_its_own(line: Line) -> None:
    line.wire.receive(frame(CLOSE, (4000).to_bytes(2, "big")))


def a_close_without_a_code(line: Line) -> None:
    line.wire.receive(frame(CLOSE))


def no_close_at_all(line: Line) -> None:
    line.vanish()


def an_end_of_the_stream(line: Line) -> None:
    line.wire.receive_eof()


def a_violation(line: Line) -> None:
    line.wire.receive(frame(0x3))


ENDINGS: list[tuple[Ending, int]] = [
    (a_goodbye, 1000),
    (a_code_of_its_own, 4000),
    (a_close_without_a_code, 1005),
    (no_close_at_all, 1006),
    (an_end_of_the_stream, 1006),
    (a_violation, 1002),
]

endings = pytest.mark.parametrize(("end", "code"), ENDINGS, ids=[end.__name__ for end, _ in ENDINGS])


def task_of(awaitable: Awaitable[Any]) -> asyncio.Task[Any]:
    async def wait() -> Any:
        return await awaitable

    return asyncio.get_running_loop().create_task(wait())


# ------------------------------------------------------------------------------------------------ reading


@in_loop
async def test_read_returns_the_messages_in_order_as_str_and_bytes() -> None:
    line = connect()
    line.say("one", b"two", "", b"")
    assert [await line.connection.read() for _ in range(4)] == ["one", b"two", "", b""]


@in_loop
async def test_read_waits_for_a_message() -> None:
    line = connect()
    reading = task_of(line.connection.read())
    await turns()
    assert not reading.done()
    line.say("")
    assert await reading == ""  # "Test `is None`: an empty string is a message."


@endings
@in_loop
async def test_reading_ends_however_the_conversation_does(end: Ending, code: int) -> None:
    """ "Reading ends": `read` and iteration simply end at any close, normal or not."""
    line = connect()
    reading = task_of(line.connection.read())
    await turns()
    end(line)
    assert await reading is None
    assert await line.connection.read() is None
    assert [message async for message in line.connection] == []
    assert await line.connection.read_json() is None
    assert line.connection.closed
    assert line.connection.close_code == code


@endings
@in_loop
async def test_iteration_delivers_what_came_before_the_end(end: Ending, code: int) -> None:
    line = connect()
    line.say("one", "two")
    end(line)
    assert [message async for message in line.connection] == ["one", "two"]
    assert line.connection.close_code == code


@in_loop
async def test_iteration_waits_for_messages_one_by_one() -> None:
    line = connect()
    messages = aiter(line.connection)
    for text in ("one", "two"):
        reading = task_of(anext(messages))
        await turns()
        line.say(text)
        assert await reading == text
    line.close()
    with pytest.raises(StopAsyncIteration):
        await anext(messages)


@in_loop
async def test_messages_that_came_before_a_close_can_be_answered_before_the_close_is() -> None:
    """RFC 6455 §5.5.1: "An endpoint MAY delay sending a Close frame until its current message is sent." """
    line = connect()
    line.say("one", "two")
    line.close(4001)
    assert not line.connection.closed
    async for message in line.connection:
        await line.connection.send(f"re: {message!r}")
    assert [(seen.opcode, seen.payload) for seen in line.frames()] == [
        (TEXT, b"re: 'one'"),
        (TEXT, b"re: 'two'"),
        (CLOSE, (4001).to_bytes(2, "big")),
    ]


@in_loop
async def test_a_close_is_answered_soon_though_nobody_reads() -> None:
    """RFC 6455 §5.5.1: the Close is to be answered "as soon as practical"."""
    line = connect()
    line.say("unread")
    line.close()
    await turns()
    assert line.frames() == []
    await pass_time(1)
    assert line.frames_of(CLOSE) == [(1000).to_bytes(2, "big")]
    assert line.connection.closed
    assert await line.connection.read() == "unread"
    assert await line.connection.read() is None


@pytest.mark.parametrize("messages", [(), ("waiting",)], ids=["empty", "with a message"])
@in_loop
async def test_a_second_reader_is_an_error_and_does_the_first_no_harm(messages: tuple[str, ...]) -> None:
    """One reader at a time."""
    line = connect()
    reading = task_of(line.connection.read())
    await turns()
    line.say(*messages)
    for verb in (line.connection.read, line.connection.read_json, line.connection.__anext__):
        with pytest.raises(ConcurrencyError, match="another task is reading"):
            await verb()
    line.say("for the first")
    assert await reading == (*messages, "for the first")[0]


@in_loop
async def test_a_cancelled_read_loses_no_message() -> None:
    line = connect()
    for _ in range(2):
        reading = task_of(line.connection.read())
        await turns()
        reading.cancel()
        line.say("here")  # in the same turn: the reader is woken, and cancelled
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await line.connection.read() == "here"


@in_loop
async def test_a_read_that_timed_out_leaves_the_connection_usable() -> None:
    line = connect()
    reading = task_of(asyncio.wait_for(line.connection.read(), 1))
    await turns()
    await pass_time(1)
    with pytest.raises(TimeoutError):
        await reading
    line.say("late")
    assert await line.connection.read() == "late"


@in_loop
async def test_read_json_decodes_the_next_message() -> None:
    line = connect()
    line.say('{"text": ["ä", 1.5, null]}', b"[true]", "null")
    assert await line.connection.read_json() == {"text": ["ä", 1.5, None]}
    assert await line.connection.read_json() == [True]
    assert await line.connection.read_json() is None
    assert not line.connection.closed  # which tells a `null` from the end


@pytest.mark.parametrize(
    "message",
    ["{", "", "NaN", "Infinity", b"\xff", "[" * 100_000],
    ids=["broken", "empty", "nan", "infinity", "not utf-8", "too deep"],
)
@in_loop
async def test_what_is_not_json_closes_the_peer_with_1007_and_ends_reading(message: Message) -> None:
    """RFC 6455 §7.4.1: 1007 is "data within a message that was not consistent with the type of the message"."""
    line = connect()
    line.say(message, '"behind it"')
    assert await line.connection.read_json() is None
    assert await line.connection.read_json() is None
    await turns()
    assert line.connection.closed
    assert [payload[:2] for payload in line.frames_of(CLOSE)] == [(1007).to_bytes(2, "big")]


# ------------------------------------------------------------------------------------------------- the inbox


@in_loop
async def test_a_full_inbox_pauses_reading_until_it_is_read() -> None:
    """Inbox 64 KiB, then reading pauses."""
    line = connect()
    line.say(*[b"x" * KIB] * 59)
    assert line.wire.is_reading()
    line.say(b"x" * KIB, b"x" * KIB)
    assert not line.wire.is_reading(), "each counts for a little more than its bytes"
    line.say("behind")
    for _ in range(61):
        assert await line.connection.read() == b"x" * KIB
    assert await line.connection.read() == "behind"
    assert line.wire.is_reading()


@in_loop
async def test_one_message_of_any_legal_size_fits_the_inbox() -> None:
    line = connect()
    line.say(b"x" * MIB, b"y" * MIB)
    assert await line.connection.read() == b"x" * MIB
    assert await line.connection.read() == b"y" * MIB


@in_loop
async def test_a_handler_that_ignores_everything_costs_no_more_than_an_inbox() -> None:
    line = connect()
    for _ in range(200):
        line.say(b"x" * 16 * KIB)
    held = sum(len(message) for message in line.carrier.messages)
    assert held <= 64 * KIB + 16 * KIB
    assert len(line.wire.incoming) > 2 * MIB, "the rest waits outside"


@in_loop
async def test_the_keepalive_blames_nobody_while_we_do_not_read_and_goes_on_when_we_do() -> None:
    """ "While *we* have paused reading the keepalive clock stands still": it asks, for who is lost is met by that."""
    line = connect(silent=True)
    line.say(b"x" * 64 * KIB)
    assert not line.wire.is_reading()
    for _ in range(5):
        await pass_time(30)
    assert len(line.frames_of(PING)) == 5
    assert not line.connection.closed
    assert await line.connection.read() == b"x" * 64 * KIB
    reading = task_of(line.connection.read())
    await turns()
    await pass_time(20)
    assert len(line.frames_of(PING)) == 6
    await pass_time(20)
    assert await reading is None
    assert line.connection.close_code == 1006


@in_loop
async def test_closing_reads_on_and_discards() -> None:
    """`close()` resumes reading and discards."""
    line = connect(silent=True)
    line.say(*[b"x" * 64 * KIB] * 3)
    assert not line.wire.is_reading()
    closing = task_of(line.connection.close())
    await turns()
    assert line.wire.is_reading()
    assert not line.carrier.messages
    line.close()
    await closing
    assert await line.connection.read() is None


@in_loop
async def test_a_send_only_handler_has_messages_discarded_and_control_frames_served() -> None:
    """`receive=False` declares a send-only handler."""
    line = connect(receive=False)
    reading = task_of(line.connection.read())
    for _ in range(100):
        line.say(b"x" * 16 * KIB)
    line.wire.receive(frame(PING, b"there?"))
    await turns()
    assert line.wire.is_reading()
    assert not line.carrier.messages
    assert line.frames_of(PONG) == [b"there?"]
    assert not reading.done()
    line.close()
    assert await reading is None


# ------------------------------------------------------------------------------------------------- sending


@in_loop
async def test_each_verb_sends_one_message_of_its_kind() -> None:
    line = connect()
    connection = line.connection
    connection.send_text("a")
    connection.send_binary(bytearray(b"b"))
    connection.send(memoryview(b"c"))
    connection.send("d")
    connection.send_json({"e": [1, "ä"]})
    connection.send_prepared(Prepared("f"))
    await connection.flush()
    assert line.heard == ["a", b"b", b"c", "d", '{"e":[1,"ä"]}', "f"]


@in_loop
async def test_what_is_sent_is_copied_at_the_call() -> None:
    line = connect()
    data = bytearray(b"before")
    line.connection.send_binary(data)
    data[:] = b"after!"
    await line.connection.flush()
    assert line.heard == [b"before"]


SendVerb = Callable[[Connection], object]

MISTAKES: list[tuple[str, SendVerb, type[Exception]]] = [
    ("bytes as text", lambda c: c.send_text(b"x"), TypeError),  # type: ignore[arg-type]
    ("text as binary", lambda c: c.send_binary("x"), TypeError),  # type: ignore[arg-type]
    ("a number", lambda c: c.send(1), TypeError),  # type: ignore[arg-type]
    ("an object as json", lambda c: c.send_json(object()), TypeError),
    ("nan", lambda c: c.send_json(float("nan")), ValueError),
    ("infinity", lambda c: c.send_json([float("-inf")]), ValueError),
    ("a lone surrogate", lambda c: c.send_text("\ud800"), UnicodeEncodeError),
    ("a lone surrogate by send", lambda c: c.send("\ud800"), UnicodeEncodeError),
    ("a lone surrogate to many", lambda c: c.send_prepared(Prepared("\ud800")), UnicodeEncodeError),
]
mistakes = pytest.mark.parametrize(("send", "error"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])


@mistakes
@in_loop
async def test_a_wrong_value_raises_at_the_call_and_harms_nothing(send: SendVerb, error: type[Exception]) -> None:
    """ "A send checks and queues at the call." """
    line = connect()
    with pytest.raises(error):
        send(line.connection)
    line.connection.send("right")
    await line.connection.flush()
    assert line.heard == ["right"]


@mistakes
@in_loop
async def test_a_wrong_value_raises_at_the_call_in_another_thread_too(send: SendVerb, error: type[Exception]) -> None:
    line = connect()

    def elsewhere() -> None:
        with pytest.raises(error):
            send(line.connection)
        line.connection.send("right")

    await asyncio.to_thread(elsewhere)
    await turns()
    assert line.heard == ["right"]


SENDS: list[tuple[str, SendVerb]] = [
    ("send", lambda c: c.send("x")),
    ("send_text", lambda c: c.send_text("x")),
    ("send_binary", lambda c: c.send_binary(b"x")),
    ("send_json", lambda c: c.send_json([])),
    ("send_prepared", lambda c: c.send_prepared(Prepared("x"))),
]
sends = pytest.mark.parametrize("send", [row[1] for row in SENDS], ids=[row[0] for row in SENDS])


@sends
@in_loop
async def test_a_send_raises_when_the_conversation_is_over(send: SendVerb) -> None:
    """Sending on a finished conversation raises `ConnectionClosed`: `code`, `reason` and its `connection`."""
    line = connect()
    line.close(4001, "tea time")
    assert await line.connection.read() is None
    with pytest.raises(ConnectionClosed) as caught:
        send(line.connection)
    error = caught.value
    assert (error.code, error.reason, error.connection) == (4001, "tea time", line.connection)

    def elsewhere() -> None:
        with pytest.raises(ConnectionClosed) as caught:
            send(line.connection)
        assert caught.value.connection is line.connection

    await asyncio.to_thread(elsewhere)


@pytest.mark.parametrize("verb", [Connection.flush, Connection.ping], ids=["flush", "ping"])
@in_loop
async def test_flush_and_ping_raise_when_the_conversation_is_over(
    verb: Callable[[Connection], Coroutine[Any, Any, Any]],
) -> None:
    line = connect()
    line.close(4001, "tea time")
    await line.connection.read()
    with pytest.raises(ConnectionClosed, match=r"4001 \(tea time\)") as caught:
        await verb(line.connection)
    assert caught.value.connection is line.connection


@in_loop
async def test_a_send_raises_once_we_are_closing() -> None:
    """RFC 6455 §5.5.1: "The application MUST NOT send any more data frames after sending a Close frame." """
    line = connect(silent=True)
    line.connection.close()
    with pytest.raises(ConnectionClosed):
        line.connection.send("x")


@in_loop
async def test_a_message_can_be_left_uncompressed() -> None:
    line = connect(deflate=parameters())
    line.connection.send("a" * 100)
    line.connection.send("b" * 100, compress=False)
    line.connection.send_prepared(Prepared("c" * 100))
    await line.connection.flush()
    assert [seen.rsv1 for seen in line.frames()] == [True, False, False]
    assert line.heard == ["a" * 100, "b" * 100, "c" * 100]


# --------------------------------------------------------------------------------------------- writes coalesce


async def at_a_read_that_waits(line: Line) -> None:
    reading = task_of(line.connection.read())
    await until(lambda: line.wire.writes)
    reading.cancel()


async def at_a_flush(line: Line) -> None:
    await line.connection.flush()


async def at_the_end_of_the_turn(line: Line) -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("when", [at_a_read_that_waits, at_a_flush, at_the_end_of_the_turn])
@in_loop
async def test_a_burst_of_fifty_replies_is_one_write(when: Callable[[Line], Awaitable[None]]) -> None:
    """ "At the next `read()` that has to wait, at `flush()`, or at the end of the turn, whichever comes first." """
    line = connect()
    for number in range(50):
        line.connection.send_json(number)
    assert line.wire.writes == []
    await when(line)
    assert len(line.wire.writes) == 1
    await turns()
    assert len(line.wire.writes) == 1
    assert line.heard == [str(number) for number in range(50)]


@in_loop
async def test_fifty_pipelined_requests_are_answered_by_one_write_when_the_reader_waits_again() -> None:
    async def echo(connection: Connection) -> None:
        async for message in connection:
            await connection.send(message)

    line = connect(echo)
    await turns()
    line.say(*map(str, range(50)))
    await turns()
    assert len(line.wire.writes) == 1
    assert line.heard == [str(number) for number in range(50)]


@in_loop
async def test_a_read_that_does_not_have_to_wait_writes_nothing() -> None:
    line = connect()
    line.say("one", "two")
    await line.connection.read()
    line.connection.send("reply")
    await line.connection.read()
    assert line.wire.writes == []
    await asyncio.sleep(0)
    assert len(line.wire.writes) == 1


@in_loop
async def test_flush_has_written_by_the_time_it_waits() -> None:
    line = connect()
    line.connection.send("now")
    flushing = line.connection.flush()
    flushing.send(None)
    assert line.heard == ["now"]
    flushing.close()


@in_loop
async def test_every_connection_writes_once_at_the_end_of_a_turn() -> None:
    lines = [connect() for _ in range(5)]
    for line in lines * 3:
        line.connection.send("x")
    await asyncio.sleep(0)
    assert [len(line.wire.writes) for line in lines] == [1] * 5


# ---------------------------------------------------------------------------------------------- what is returned


@in_loop
async def test_one_shared_instance_serves_while_there_is_room() -> None:
    line = connect()
    first, second = line.connection.send("x"), line.connection.send("y")
    assert first is second
    assert isinstance(first, Sent)


def with_room(line: Line) -> Sent:
    return line.connection.send("x")


def without_room(line: Line) -> Sent:
    return line.connection.send(b"x" * 64 * KIB)


rooms = pytest.mark.parametrize("send", [with_room, without_room])


@rooms
@in_loop
async def test_what_a_send_returns_may_be_dropped_without_a_warning(send: Callable[[Line], Sent]) -> None:
    line = connect()
    send(line)
    line.connection.close()
    gc.collect()  # warnings are errors here
    await turns()
    assert len(line.heard) == 1


async def by_await(sent: list[Sent]) -> None:
    for each in sent:
        await each


async def by_gather(sent: list[Sent]) -> None:
    await asyncio.gather(*sent)


async def by_wait_for(sent: list[Sent]) -> None:
    for each in sent:
        await asyncio.wait_for(each, 10)


async def by_create_task(sent: list[Sent]) -> None:
    for task in [asyncio.create_task(each) for each in sent]:
        await task


async def by_a_task_group(sent: list[Sent]) -> None:
    async with asyncio.TaskGroup() as group:
        for each in sent:
            group.create_task(each)


async def by_hand(sent: list[Sent]) -> None:
    for each in sent:
        try:
            while True:
                each.send(None)
                await asyncio.sleep(0)
        except StopIteration:
            each.close()


@rooms
@pytest.mark.parametrize("wait", [by_await, by_gather, by_wait_for, by_create_task, by_a_task_group, by_hand])
@in_loop
async def test_what_a_send_returns_may_be_awaited_every_way(
    send: Callable[[Line], Sent], wait: Callable[[list[Sent]], Awaitable[None]]
) -> None:
    """A class of its own, on `collections.abc.Coroutine`."""
    line = connect()
    await wait([send(line) for _ in range(3)])
    await turns()
    assert len(line.heard) == 3


@in_loop
async def test_what_a_send_returns_may_be_awaited_again() -> None:
    line = connect()
    sent = without_room(line)
    await sent
    await sent


@rooms
@in_loop
async def test_an_error_thrown_into_a_wait_that_has_not_begun_comes_out(send: Callable[[Line], Sent]) -> None:
    line = connect()
    sent = send(line)
    with pytest.raises(KeyError):
        sent.throw(KeyError())
    with pytest.raises(LookupError, match="this one"):
        sent.throw(LookupError, LookupError("this one"))
    sent.close()


@in_loop
async def test_an_error_thrown_into_a_wait_comes_out() -> None:
    line = connect()
    sent = without_room(line)
    sent.send(None)
    with pytest.raises(LookupError, match="this one"):
        sent.throw(LookupError, LookupError("this one"))


@in_loop
async def test_a_wait_can_be_given_up_half_way() -> None:
    line = connect()
    sent = without_room(line)
    sent.send(None)
    sent.close()
    await turns()
    assert len(line.heard) == 1


@in_loop
async def test_awaiting_a_send_waits_for_room() -> None:
    """Backpressure: outbox 64 KiB soft, awaiting waits."""
    line = connect()
    line.wire.stuck = True
    waiting = task_of(line.connection.send(b"x" * 80 * KIB))
    await turns()
    assert not waiting.done()
    line.wire.take(60 * KIB)
    await turns()
    assert not waiting.done(), "the transport has more than a quarter of its limit still"
    line.wire.take(10 * KIB)
    await waiting
    line.wire.take()


@endings
@in_loop
async def test_awaiting_a_send_raises_if_the_conversation_ends_meanwhile(end: Ending, code: int) -> None:
    line = connect()
    line.wire.stuck = True
    waiting = task_of(line.connection.send(b"x" * 80 * KIB))
    reading = task_of(line.connection.read())
    await turns()
    end(line)
    with pytest.raises(ConnectionClosed) as caught:
        await waiting
    assert (caught.value.code, caught.value.connection) == (code, line.connection)
    assert await reading is None


@in_loop
async def test_cancelling_a_send_does_not_unsend() -> None:
    line = connect()
    line.wire.stuck = True
    waiting = task_of(line.connection.send(b"x" * 80 * KIB))
    await turns()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(line.connection.send("and"), 0)
    line.wire.stuck = False
    line.wire.take()
    await line.connection.send("on")
    await turns()
    assert line.heard == [b"x" * 80 * KIB, "and", "on"]


# --------------------------------------------------------------------------------------------------- the outbox


@in_loop
async def test_awaiting_yields_a_turn_of_the_loop_per_64_kib_though_there_is_room() -> None:
    """ "A firehose must not starve keepalive and neighbours." """
    line, neighbour = connect(), connect()
    at_turns: list[int] = []
    sent = 0

    async def firehose() -> None:
        nonlocal sent
        while sent < 4 * MIB:
            await line.connection.send(b"x" * 1000)
            sent += 1000

    hose = task_of(firehose())
    line.wire.receive(frame(PING, b"alive?"))
    neighbour.say("hello")
    while not hose.done():
        at_turns.append(sent)
        await asyncio.sleep(0)
    between = [after - before for before, after in pairwise(at_turns)]
    assert max(between) <= 66 * KIB
    assert line.frames_of(PONG) == [b"alive?"]
    assert await neighbour.connection.read() == "hello"


@in_loop
async def test_a_firehose_for_ever_leaves_the_keepalive_its_turn() -> None:
    line = connect(silent=True)

    async def firehose() -> None:
        while True:
            await line.connection.send(b"x" * 1000)

    hose = task_of(firehose())
    await pass_time(20)
    assert len(line.frames_of(PING)) == 1
    await pass_time(20)
    with pytest.raises(ConnectionClosed, match="no sign of life"):
        await hose


@in_loop
async def test_a_message_beyond_the_hard_limit_is_not_queued() -> None:
    """1 MiB hard: raises `OutboxFull`."""
    line = connect()
    line.wire.stuck = True
    for number in range(32):
        line.connection.send(b"%032d" % number * KIB)
    with pytest.raises(OutboxFull, match="await the sends"):
        line.connection.send("too much")
    with pytest.raises(OutboxFull):
        line.connection.send_prepared(Prepared("nor that"))
    line.wire.stuck = False
    line.wire.take()
    await line.connection.send("but that")
    await turns()
    assert line.heard == [*(b"%032d" % number * KIB for number in range(32)), "but that"]


@in_loop
async def test_the_hard_limit_never_counts_the_last_message() -> None:
    line = connect()
    line.wire.stuck = True
    line.connection.send(b"x" * 5 * MIB)
    with pytest.raises(OutboxFull):
        line.connection.send("more")
    line.wire.take()
    assert line.heard == [b"x" * 5 * MIB]


@in_loop
async def test_the_hard_limit_counts_only_what_the_transport_could_not_take() -> None:
    line = connect()
    for _ in range(100):
        line.connection.send(b"x" * 100 * KIB)  # nobody waits, and the network takes it
    await turns()
    assert len(line.heard) == 100


@in_loop
async def test_flush_waits_until_there_is_room() -> None:
    line = connect()
    line.wire.stuck = True
    line.connection.send(b"x" * 80 * KIB)
    flushing = task_of(line.connection.flush())
    await turns()
    assert not flushing.done()
    line.wire.take()
    await flushing


@in_loop
async def test_a_cancelled_flush_leaves_the_connection_usable() -> None:
    line = connect()
    line.wire.stuck = True
    line.connection.send(b"x" * 80 * KIB)
    flushing = task_of(line.connection.flush())
    await turns()
    flushing.cancel()
    await turns()
    line.wire.stuck = False
    line.wire.take()
    await line.connection.flush()
    line.say("still here")
    assert await line.connection.read() == "still here"


# --------------------------------------------------------------------------------------------------------- pings


@in_loop
async def test_ping_returns_the_seconds_it_took() -> None:
    """RFC 6455 §5.5.2"""
    line = connect(silent=True)
    pinging = task_of(line.connection.ping())
    await turns()
    assert len(line.frames_of(PING)) == 1
    clock().now += 0.25
    line.deliver()
    line.wire.receive(frame(PONG, line.frames_of(PING)[0]))
    assert await pinging == 0.25
    assert line.connection.latency == 0.25


@endings
@in_loop
async def test_ping_raises_when_the_peer_goes_meanwhile(end: Ending, code: int) -> None:
    line = connect(silent=True)
    reading = task_of(line.connection.read())
    pinging = task_of(line.connection.ping())
    await turns()
    end(line)
    with pytest.raises(ConnectionClosed) as caught:
        await pinging
    assert (caught.value.code, caught.value.connection) == (code, line.connection)
    await reading


@in_loop
async def test_a_cancelled_ping_leaves_the_connection_usable() -> None:
    line = connect(silent=True)
    pinging = task_of(line.connection.ping())
    await turns()
    pinging.cancel()
    await turns()
    line.silent = False
    line.deliver()
    assert await line.connection.ping() == 0.0


@in_loop
async def test_ping_is_answered_though_a_long_message_had_stopped_the_reading() -> None:
    line = connect()
    line.say(b"x" * 100 * KIB)
    assert await line.connection.read() == b"x" * 100 * KIB
    assert await line.connection.ping() == 0.0


@in_loop
async def test_every_ping_of_the_peer_is_answered_in_order() -> None:
    """RFC 6455 §5.5.2"""
    line = connect()
    line.wire.receive(b"".join(frame(PING, b"%d" % number) for number in range(10)))
    assert line.frames_of(PONG) == [b"%d" % number for number in range(10)]


@in_loop
async def test_pings_without_end_from_a_peer_that_takes_nothing_cost_a_bounded_answer() -> None:
    """Beyond 64 unsent pongs the newest replaces the rest."""
    line = connect()
    line.wire.stuck = True
    line.connection.send(b"x" * 80 * KIB)
    await turns()
    for number in range(1000):
        line.wire.receive(frame(PING, b"%d" % number))
    line.wire.stuck = False
    line.wire.take()
    await turns()
    pongs = line.frames_of(PONG)
    assert len(pongs) <= 64
    assert pongs[-1] == b"999"


@in_loop
async def test_the_keepalive_asks_after_silence_and_waits_for_any_byte() -> None:
    """Ping after 20 s of silence, 20 s to answer, any inbound byte counts."""
    line = connect(silent=True)
    reading = task_of(line.connection.read())
    await pass_time(19)
    line.say("not silent")
    assert await reading == "not silent"
    await pass_time(19)
    assert line.frames_of(PING) == []
    await pass_time(1)
    assert len(line.frames_of(PING)) == 1
    await pass_time(19)
    line.wire.receive(frame(TEXT, b"half a message")[:3])
    await pass_time(19)
    assert not line.connection.closed
    await pass_time(1)
    await pass_time(20)
    assert line.connection.close_code == 1006
    assert line.wire.aborted
    assert await line.connection.read() is None


@in_loop
async def test_a_keepalive_that_is_answered_tells_the_latency() -> None:
    line = connect()
    assert line.connection.latency is None
    await pass_time(20)
    assert line.connection.latency == 0.0


# ------------------------------------------------------------------------------------------------------- closing


@in_loop
async def test_closing_begins_at_the_call_and_awaiting_waits_for_the_peer() -> None:
    """RFC 6455 §7.1.2"""
    line = connect(silent=True)
    line.connection.send("last words")
    closing = line.connection.close(4000, "tea time")
    assert line.connection.closed
    assert [seen.opcode for seen in line.frames()] == [TEXT, CLOSE]
    assert line.frames_of(CLOSE) == [(4000).to_bytes(2, "big") + b"tea time"]
    waiting = task_of(closing)
    await turns()
    assert not waiting.done()
    assert repr(line.connection) == "<Connection '/chat' closed>", "with no code yet"
    line.peer.settle()
    line.deliver()
    await waiting
    assert (line.connection.close_code, line.connection.close_reason) == (4000, "")


@in_loop
async def test_closing_defaults_to_1000() -> None:
    line = connect()
    await line.connection.close()
    assert line.frames_of(CLOSE) == [(1000).to_bytes(2, "big")]


@in_loop
async def test_closing_again_does_nothing() -> None:
    line = connect()
    line.connection.close(4000)
    line.connection.close(4001)
    await line.connection.close(4002)
    await line.connection.close(4003)
    await asyncio.to_thread(line.connection.close, 4004)
    await turns()
    assert line.frames_of(CLOSE) == [(4000).to_bytes(2, "big")]


@in_loop
async def test_closing_is_bounded_by_the_close_timeout() -> None:
    line = connect(silent=True, close_timeout=5.0)
    closing = task_of(line.connection.close())
    await pass_time(4.9)
    assert not closing.done()
    await pass_time(0.2)
    await closing
    assert line.wire.aborted
    assert (line.connection.close_code, line.connection.close_reason) == (
        1006,
        "no Close from the peer within 5 seconds of ours",
    )


@in_loop
async def test_closing_is_bounded_though_the_peer_takes_nothing_and_talks_on() -> None:
    line = connect(silent=True)
    line.wire.stuck = True
    line.connection.send(b"x" * 80 * KIB)
    closing = task_of(line.connection.close())
    for _ in range(12):
        line.say("blah" * KIB)
        await pass_time(1)
    await closing
    assert line.wire.aborted


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, -1])
@in_loop
async def test_a_code_that_may_not_be_sent_raises_and_closes_nothing(code: int) -> None:
    """RFC 6455 §7.4"""
    line = connect()
    with pytest.raises(ValueError, match=f"close code {code} may not be sent"):
        line.connection.close(code)
    assert not line.connection.closed


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 3000, 4999])
@in_loop
async def test_a_code_that_may_be_sent_is(code: int) -> None:
    """RFC 6455 §7.4"""
    line = connect()
    await line.connection.close(code)
    assert line.connection.close_code == code


@in_loop
async def test_a_reason_that_is_no_text_raises_and_closes_nothing() -> None:
    line = connect()
    with pytest.raises(TypeError):
        line.connection.close(1000, b"bye")  # type: ignore[arg-type]
    assert not line.connection.closed


@in_loop
async def test_a_long_reason_is_cut_between_characters() -> None:
    """RFC 6455 §5.5: the payload of a control frame has 125 bytes at most."""
    line = connect()
    await line.connection.close(1000, "ä" * 100)
    assert line.frames_of(CLOSE) == [(1000).to_bytes(2, "big") + "ä".encode() * 61]


@in_loop
async def test_closing_ends_reading_at_once_and_drops_what_is_unread() -> None:
    line = connect(silent=True)
    reading = task_of(line.connection.read())
    await turns()
    line.connection.close()
    assert await reading is None
    line.say("too late")
    assert await line.connection.read() is None


@in_loop
async def test_what_is_unread_is_dropped_by_closing() -> None:
    line = connect(silent=True)
    line.say("unread")
    line.connection.close()
    assert await line.connection.read() is None


@in_loop
async def test_closing_answers_a_close_that_waits_for_the_reader_with_our_code() -> None:
    line = connect()
    line.say("unread")
    line.close(1000)
    await line.connection.close(4002)
    assert line.frames_of(CLOSE) == [(4002).to_bytes(2, "big")]
    assert line.connection.close_code == 1000


@in_loop
async def test_a_cancelled_close_closes_all_the_same() -> None:
    line = connect(silent=True)
    closing = task_of(line.connection.close())
    await turns()
    closing.cancel()
    await turns()
    line.peer.settle()
    line.deliver()
    await line.connection.close()
    assert line.connection.close_code == 1000


# --------------------------------------------------------------------------------------------------------- facts


@in_loop
async def test_the_facts_of_a_conversation_that_lasts() -> None:
    line = connect(subprotocol="chat")
    connection = line.connection
    assert connection.request == Request(path="/chat")
    assert connection.subprotocol == "chat"
    assert (connection.closed, connection.close_code, connection.close_reason) == (False, None, None)
    assert connection.latency is None
    assert repr(connection) == "<Connection '/chat' open>"


@in_loop
async def test_the_facts_of_a_conversation_that_is_over() -> None:
    """RFC 6455 §7.1.5, §7.1.6"""
    line = connect()
    line.close(4000, "tea time")
    await line.connection.read()
    connection = line.connection
    assert (connection.closed, connection.close_code, connection.close_reason) == (True, 4000, "tea time")
    assert repr(connection) == "<Connection '/chat' closed 4000>"


@in_loop
async def test_the_repr_of_a_conversation_that_we_are_closing() -> None:
    line = connect(silent=True)
    line.connection.close()
    assert repr(line.connection) == "<Connection '/chat' closed>"


# ------------------------------------------------------------------------------------------------ other threads


@in_loop
async def test_sends_from_other_threads_arrive_whole_and_in_order() -> None:
    line = connect()
    connection = line.connection

    def talk(who: str) -> None:
        for number in range(200):
            connection.send(f"{who} {number} " + "x" * number)

    await asyncio.gather(*(asyncio.to_thread(talk, who) for who in "abc"))
    await turns()
    assert len(line.heard) == 600
    for who in "abc":
        mine = [message for message in line.heard if isinstance(message, str) and message.startswith(who)]
        assert mine == [f"{who} {number} " + "x" * number for number in range(200)]


@in_loop
async def test_sends_from_another_thread_leave_together() -> None:
    line = connect()

    def talk() -> None:
        for number in range(50):
            line.connection.send(str(number))

    thread = threading.Thread(target=talk)
    thread.start()
    thread.join()  # which the loop waits for, so all of it is there at its next turn
    await turns()
    assert len(line.wire.writes) == 1


@in_loop
async def test_a_close_from_another_thread_follows_what_was_sent_there() -> None:
    line = connect()

    def talk() -> None:
        line.connection.send("last words")
        line.connection.close(4000)

    await asyncio.to_thread(talk)
    await until(lambda: line.carrier.closed)
    assert line.heard == ["last words"]
    assert line.peer.close_code == 4000


@in_loop
async def test_a_close_from_another_thread_checks_at_the_call() -> None:
    line = connect()
    with pytest.raises(ValueError, match="1006"):
        await asyncio.to_thread(line.connection.close, 1006)


@in_loop
async def test_sending_from_another_thread_raises_when_the_loop_is_too_busy_to_come() -> None:
    line = connect()

    def talk() -> None:
        for _ in range(9):  # a full MiB and the last, in bytes of UTF-8
            line.connection.send("ä" * 64 * KIB)
        with pytest.raises(OutboxFull, match="bytes wait for a peer"):
            line.connection.send("too much")

    thread = threading.Thread(target=talk)
    thread.start()
    thread.join()  # so the loop is busy
    assert line.connection.posted == 9 * 128 * KIB
    await turns()
    assert len(line.heard) == 9
    assert line.connection.posted == 0


@in_loop
async def test_sending_from_another_thread_raises_when_the_outbox_is_full() -> None:
    """ "A send checks and queues at the call." """
    line = connect()
    line.wire.stuck = True
    line.connection.send(b"x" * 2 * MIB)
    with pytest.raises(OutboxFull):
        await asyncio.to_thread(line.connection.send, "too much")
    with pytest.raises(OutboxFull):
        await asyncio.to_thread(line.connection.send_prepared, Prepared("too much"))


@in_loop
async def test_what_another_thread_sent_goes_out_though_the_outbox_was_filled_meanwhile() -> None:
    """ "Queue one message, whole and in order, from any thread." """
    line = connect()
    line.wire.stuck = True

    def talk() -> None:
        line.connection.send("admitted")
        line.connection.send_prepared(Prepared("as well"))

    thread = threading.Thread(target=talk)
    thread.start()
    thread.join()
    line.connection.send(b"x" * 2 * MIB)
    await turns()
    line.wire.stuck = False
    line.wire.take()
    await turns()
    assert line.heard == [b"x" * 2 * MIB, "admitted", "as well"]


@in_loop
async def test_a_send_from_another_thread_may_cross_with_the_end() -> None:
    line = connect()

    def talk() -> None:
        line.connection.send("x")
        line.connection.send_prepared(Prepared("y"))

    thread = threading.Thread(target=talk)
    thread.start()
    thread.join()
    line.vanish()
    await turns()
    assert line.connection.posted == 0
    assert line.heard == []


@in_loop
async def test_sends_and_closes_may_be_awaited_on_another_loop() -> None:
    line = connect()
    line.wire.stuck = True
    connection = line.connection
    stages: list[str] = []

    async def talk() -> None:
        sent = connection.send(b"x" * 80 * KIB)
        stages.append("sent")
        await sent
        stages.append("room")
        await connection.close()
        stages.append("closed")

    elsewhere = task_of(asyncio.to_thread(asyncio.run, talk()))
    await until(lambda: line.wire.writes)
    await turns()
    assert stages == ["sent"]
    line.wire.stuck = False
    line.wire.take()
    await elsewhere
    assert stages == ["sent", "room", "closed"]


def test_sending_from_another_thread_raises_when_the_loop_is_closed() -> None:
    connections: list[Connection] = []

    @in_loop
    async def run() -> None:
        line = connect()
        connections.append(line.connection)
        # The line is cut before the loop is closed, as any is: this one's carrier does not know it.
        line.connection.carrier = Silent()

    run()

    def elsewhere() -> None:
        for _ in range(2):
            with pytest.raises(ConnectionClosed, match="the event loop is closed") as caught:
                connections[0].send("x")
            assert caught.value.connection is connections[0]
        assert connections[0].posted == 0
        connections[0].close()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()


# -------------------------------------------------------------------------------------------- carriers of messages


@in_loop
async def test_what_a_carrier_cannot_do_it_says() -> None:
    """Over ASGI `ping()` raises `Unsupported` naming the host, `latency` is None."""
    connection = Connection(Silent(), Request(), loop=asyncio.get_running_loop())
    with pytest.raises(Unsupported, match="asgi-x"):
        await connection.ping()
    assert connection.latency is None


@in_loop
async def test_being_woken_for_nothing_is_no_message() -> None:
    connection = Connection(Silent(), Request(), limits=Limits(), loop=asyncio.get_running_loop())
    connection.wake_reader()
    reading = task_of(connection.read())
    await turns()
    connection.wake_reader()
    connection.wake_reader()
    await turns()
    assert not reading.done()
    reading.cancel()


@in_loop
async def test_who_waits_no_longer_does_not_take_the_place_of_who_does() -> None:
    line = connect()
    first, second = (asyncio.get_running_loop().create_future() for _ in range(2))
    line.connection.await_message(second)
    line.connection.forget_reader(first)
    line.say("for the second")
    assert second.done()
    assert not first.done()


# ------------------------------------------------------------------------------------------------------ rooms


@in_loop
async def test_in_a_room_of_three_one_vanishes_and_the_other_two_talk_on() -> None:
    room: set[Connection] = set()

    async def chat(connection: Connection) -> None:
        room.add(connection)
        try:
            async for message in connection:
                wsadapter.broadcast(room - {connection}, message)
        finally:
            room.discard(connection)

    alice, bob, carol = connect(chat), connect(chat), connect(chat)
    await turns()
    bob.say("I am")
    await turns()
    bob.vanish()
    alice.say("Bob?")
    await turns()
    carol.say("gone")
    await turns()
    assert (alice.heard, carol.heard) == (["I am", "gone"], ["I am", "Bob?"])
    assert len(room) == 2
    assert alice.connection.close_code is None


@in_loop
async def test_binary_messages_are_binary_frames() -> None:
    """RFC 6455 §5.6"""
    line = connect()
    line.connection.send(b"\x00\xff")
    await turns()
    assert line.frames_of(BINARY) == [b"\x00\xff"]


@in_loop
async def test_a_ping_that_is_not_answered_in_time_raises() -> None:
    line = connect(silent=True)
    pinging = task_of(line.connection.ping())
    await turns()
    await pass_time(20)
    with pytest.raises(TimeoutError, match="no answer to the ping within 20"):
        await pinging
    assert not line.connection.closed


def test_waiting_on_another_loop_ends_when_the_connections_own_is_closed() -> None:
    connections: list[Connection] = []

    @in_loop
    async def run() -> None:
        line = connect()
        connections.append(line.connection)
        line.connection.carrier = Silent()  # which does not know of the end

    async def wait() -> None:
        await connections[0].close()

    run()
    with pytest.raises(ConnectionClosed, match="the event loop is closed"):
        asyncio.run(wait())
