"""The connection in `def` handlers: the same verbs, blocking, over one that lives on a loop."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from wsadapter import connection as asynchronous
from wsadapter import sync
from wsadapter.errors import ConcurrencyError, ConnectionClosed, OutboxFull
from wsadapter.messages import Prepared
from wsadapter.options import Limits
from wsadapter.receiver import Message
from wsadapter.request import Request
from wsadapter.sync import Connection, Inbox

from .carriers import KIB, MIB, Line, Silent, clock, connect, in_loop, pass_time, turns, until
from .streams import BINARY, CLOSE, PING, TEXT, frame


class Desk:
    """A `def` handler that does, in its thread, what the test asks for."""

    def __init__(self) -> None:
        self._asked = threading.Semaphore(0)
        self._job: Callable[[Connection], Any] | None = None
        self._done: asyncio.Future[Any] | None = None

    def __call__(self, connection: Connection) -> None:
        while self._asked.acquire() and self._job is not None:
            assert self._done is not None
            try:
                result, error = self._job(connection), None
            except BaseException as failure:
                result, error = None, failure
            if not self.loop.is_closed():
                self.loop.call_soon_threadsafe(self._tell, self._done, result, error)

    def ask(self, job: Callable[[Connection], Any]) -> asyncio.Future[Any]:
        """Have it done; what comes of it is in the future."""
        self.loop = asyncio.get_running_loop()
        self._job, self._done = job, self.loop.create_future()
        self._asked.release()
        return self._done

    def leave(self) -> None:
        """Return."""
        self._job = None
        self._asked.release()

    @staticmethod
    def _tell(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)


class Seat:
    """A line with a `Desk` at our end."""

    def __init__(self, **options: Any) -> None:
        self.desk = Desk()
        self.line = connect(self.desk, **options)
        self.ask = self.desk.ask

    async def __aenter__(self) -> tuple[Callable[[Callable[[Connection], Any]], asyncio.Future[Any]], Line]:
        return self.ask, self.line

    async def __aexit__(self, *error: object) -> None:
        self.line.vanish()
        self.desk.leave()
        await until(lambda: self.line.over)


# ------------------------------------------------------------------------------------------------------- twins

VERBS = (
    "read",
    "read_json",
    "send",
    "send_text",
    "send_binary",
    "send_json",
    "send_prepared",
    "flush",
    "ping",
    "close",
)
FACTS = ("closed", "close_code", "close_reason", "latency")
FOR_HOSTS = {"carrier", "post", "posted", "await_message", "forget_reader", "wake_reader", "wake_waiters"}


def public(of: type) -> set[str]:
    return {name for name in dir(of) if not name.startswith("_")}


def test_both_colours_have_the_same_names() -> None:
    """ "The same verbs in two colours." """
    assert public(sync.Connection) == {*VERBS, *FACTS, "request", "subprotocol"}
    assert public(asynchronous.Connection) == public(sync.Connection) | FOR_HOSTS


@pytest.mark.parametrize("verb", VERBS)
def test_both_colours_take_the_same_parameters(verb: str) -> None:
    """But for `timeout`, which an `async def` has `asyncio.timeout` for."""
    blocking = inspect.signature(getattr(sync.Connection, verb)).parameters
    ours = inspect.signature(getattr(asynchronous.Connection, verb)).parameters
    assert [parameter for name, parameter in blocking.items() if name != "timeout"] == list(ours.values())
    assert ("timeout" in blocking) is verb.startswith("read")


@pytest.mark.parametrize("fact", FACTS)
def test_both_colours_tell_the_same_of_a_fact(fact: str) -> None:
    assert getattr(sync.Connection, fact).__doc__ == getattr(asynchronous.Connection, fact).__doc__


@pytest.mark.parametrize("verb", [*VERBS, "__iter__"])
def test_both_colours_say_what_a_verb_does(verb: str) -> None:
    """The first words at least."""
    ours = getattr(asynchronous.Connection, {"__iter__": "__aiter__"}.get(verb, verb)).__doc__
    assert getattr(sync.Connection, verb).__doc__.split()[:2] == ours.split()[:2]


# ------------------------------------------------------------------------------------------------------- reading


@in_loop
async def test_read_returns_the_messages_in_order_as_str_and_bytes() -> None:
    async with Seat() as (ask, line):
        line.say("one", b"two", "")
        assert await ask(lambda c: [c.read() for _ in range(3)]) == ["one", b"two", ""]


@in_loop
async def test_read_waits_for_a_message() -> None:
    async with Seat() as (ask, line):
        reading = ask(lambda c: c.read())
        await turns(100)
        assert not reading.done()
        line.say("here")
        assert await reading == "here"


@in_loop
async def test_a_thread_that_reads_one_by_one_misses_none() -> None:
    async with Seat() as (ask, line):
        reading = ask(list)
        sent = [str(number) for number in range(300)]
        for number in sent:
            line.say(number)
            await turns(int(number) % 5)
        line.close()
        assert await reading == sent


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda line: line.close(4000), 4000),
        (lambda line: line.vanish(), 1006),
        (lambda line: line.wire.receive(frame(0x3)), 1002),
        (lambda line: line.wire.receive(frame(CLOSE)), 1005),
    ],
    ids=["close", "lost", "violation", "close without a code"],
)
@in_loop
async def test_reading_ends_however_the_conversation_does(end: Callable[[Line], None], code: int) -> None:
    async with Seat() as (ask, line):
        reading = ask(list)
        line.say("last")
        end(line)
        assert await reading == ["last"]
        assert await ask(lambda c: (c.read(), c.read(timeout=0), c.read_json(), c.closed)) == (None, None, None, True)
        assert await ask(lambda c: c.close_code) == code


@in_loop
async def test_a_read_that_waits_is_ended_by_the_end() -> None:
    async with Seat() as (ask, line):
        reading = ask(lambda c: c.read())
        await turns(100)
        line.vanish()
        assert await reading is None


@in_loop
async def test_messages_that_came_before_a_close_can_be_answered_before_the_close_is() -> None:
    """RFC 6455 §5.5.1"""

    def echo(connection: Connection) -> None:
        for message in connection:
            connection.send(message)

    async with Seat() as (ask, line):
        answering = ask(echo)
        line.say("one", "two")
        line.close()
        await answering
        assert [seen.opcode for seen in line.frames()] == [TEXT, TEXT, CLOSE]


@in_loop
async def test_a_message_and_a_close_that_come_while_a_thread_sits_down_to_wait_are_told_apart() -> None:
    """The Close is not answered before the thread has had the message, however their ways cross."""
    line = connect()
    inbox = Inbox(line.connection, Limits())
    got: list[Message | None] = []

    def echo() -> None:
        got.append(inbox.read(None))
        inbox.send("reply", True)
        got.append(inbox.read(None))

    posted = threading.Event()
    post = asynchronous.Connection.post

    def tell(connection: asynchronous.Connection, *args: Any, **kwargs: Any) -> bool:
        try:
            return post(connection, *args, **kwargs)
        finally:
            posted.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asynchronous.Connection, "post", tell)
        thread = threading.Thread(target=echo)
        thread.start()
        posted.wait(10)  # on this thread: the loop does not turn before both have come
        line.say("message")
        line.close()
        await until(lambda: not thread.is_alive())
    assert got == ["message", None]
    assert [seen.opcode for seen in line.frames()] == [TEXT, CLOSE]


@in_loop
async def test_read_json_decodes_the_next_message() -> None:
    async with Seat() as (ask, line):
        line.say('{"a": 1}')
        assert await ask(lambda c: c.read_json()) == {"a": 1}


@in_loop
async def test_what_is_not_json_closes_the_peer_with_1007_and_ends_reading() -> None:
    async with Seat() as (ask, line):
        line.say("{", "[]")
        assert await ask(lambda c: (c.read_json(), c.read_json())) == (None, None)
        assert [payload[:2] for payload in line.frames_of(CLOSE)] == [(1007).to_bytes(2, "big")]


@pytest.mark.parametrize("timeout", [0, 0.01, -1, -5.5])
@pytest.mark.parametrize("verb", [Connection.read, Connection.read_json], ids=["read", "read_json"])
@in_loop
async def test_a_timeout_leaves_the_connection_as_good_as_before(
    verb: Callable[[Connection, float], object], timeout: float
) -> None:
    async with Seat() as (ask, line):
        with pytest.raises(TimeoutError, match=f"no message within {timeout} seconds"):
            await ask(lambda c: verb(c, timeout))
        line.say("1", "2", "3")
        assert await ask(lambda c: [c.read(timeout), c.read(10), c.read_json(timeout=10)]) == ["1", "2", 3]


@in_loop
async def test_a_second_reader_is_an_error_and_does_the_first_no_harm() -> None:
    async with Seat() as (ask, line):
        connection: Connection = await ask(lambda c: c)
        reading = ask(lambda c: c.read())
        await until(connection._reading.locked)
        for verb in (connection.read, connection.read_json, lambda: next(iter(connection))):
            with pytest.raises(ConcurrencyError, match="another thread is reading"):
                await asyncio.to_thread(verb)
        line.say("for the first")
        assert await reading == "for the first"


# ------------------------------------------------------------------------------------------------------- sending


@in_loop
async def test_each_verb_sends_one_message_of_its_kind() -> None:
    def talk(connection: Connection) -> None:
        connection.send_text("a")
        connection.send_binary(bytearray(b"b"))
        connection.send(memoryview(b"c"))
        connection.send("d")
        connection.send_json({"e": [1, "ä"]})
        connection.send_prepared(Prepared("f"))
        connection.flush()

    async with Seat() as (ask, line):
        await ask(talk)
        assert line.heard == ["a", b"b", b"c", "d", '{"e":[1,"ä"]}', "f"]


MISTAKES: list[tuple[str, Callable[[Connection], None], type[Exception]]] = [
    ("bytes as text", lambda c: c.send_text(b"x"), TypeError),  # type: ignore[arg-type]
    ("text as binary", lambda c: c.send_binary("x"), TypeError),  # type: ignore[arg-type]
    ("a number", lambda c: c.send(1), TypeError),  # type: ignore[arg-type]
    ("an object as json", lambda c: c.send_json(object()), TypeError),
    ("nan", lambda c: c.send_json(float("nan")), ValueError),
    ("a lone surrogate", lambda c: c.send_text("\ud800"), UnicodeEncodeError),
    ("a code", lambda c: c.close(1006), ValueError),
    ("a reason", lambda c: c.close(1000, b"x"), TypeError),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("mistake", "error"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
@in_loop
async def test_a_wrong_value_raises_at_the_call_and_harms_nothing(
    mistake: Callable[[Connection], None], error: type[Exception]
) -> None:
    async with Seat() as (ask, line):
        with pytest.raises(error):
            await ask(mistake)
        await ask(lambda c: c.send("right"))
        await ask(Connection.flush)
        assert line.heard == ["right"]


@pytest.mark.parametrize(
    "verb",
    [
        lambda c: c.send("x"),
        lambda c: c.send_text("x"),
        lambda c: c.send_binary(b"x"),
        lambda c: c.send_json([]),
        lambda c: c.send_prepared(Prepared("x")),
        lambda c: c.flush(),
        lambda c: c.ping(),
    ],
    ids=["send", "send_text", "send_binary", "send_json", "send_prepared", "flush", "ping"],
)
@in_loop
async def test_a_verb_raises_when_the_conversation_is_over(verb: Callable[[Connection], object]) -> None:
    """`ConnectionClosed` carries `code`, `reason` and its `connection`: the one that the handler has."""
    async with Seat() as (ask, line):
        line.close(4000, "tea time")
        await ask(lambda c: c.read())
        with pytest.raises(ConnectionClosed) as caught:
            await ask(verb)
        error = caught.value
        assert (error.code, error.reason) == (4000, "tea time")
        assert error.connection is await ask(lambda c: c)


@in_loop
async def test_a_send_waits_for_room() -> None:
    async with Seat() as (ask, line):
        line.wire.stuck = True
        sending = ask(lambda c: c.send(b"x" * 80 * KIB))
        await until(lambda: line.wire.writes)
        await turns(100)
        assert not sending.done()
        line.wire.take()
        await sending


@in_loop
async def test_a_flush_waits_for_room() -> None:
    async with Seat() as (ask, line):
        line.wire.stuck = True
        line.connection.send(b"x" * 80 * KIB)
        flushing = ask(lambda c: c.flush())
        await turns(100)
        assert not flushing.done()
        line.wire.take()
        await flushing


@in_loop
async def test_a_thread_that_sends_for_ever_runs_no_further_ahead_than_the_outbox() -> None:
    ahead: list[int] = []

    def firehose(connection: Connection) -> None:
        for _ in range(2000):
            connection.send(b"x" * KIB)
            ahead.append(seat.line.connection.posted)

    seat = Seat()
    async with seat as (ask, line):
        await ask(firehose)
        await turns()
        assert len(line.heard) == 2000
        assert max(ahead) <= 65 * KIB


@in_loop
async def test_a_send_that_waits_raises_if_the_conversation_ends_meanwhile() -> None:
    async with Seat() as (ask, line):
        line.wire.stuck = True
        sending = ask(lambda c: c.send(b"x" * 80 * KIB))
        await until(lambda: line.wire.writes)
        line.vanish()
        with pytest.raises(ConnectionClosed, match="1006"):
            await sending


@in_loop
async def test_many_threads_may_send_and_none_is_turned_away_or_loses_a_message() -> None:
    """It waits until there is room, however much the others have sent."""
    async with Seat() as (ask, line):
        line.wire.stuck = True
        connection: Connection = await ask(lambda c: c)
        messages = [bytes([number]) * 2 * MIB for number in range(5)]
        sending = [asyncio.ensure_future(asyncio.to_thread(connection.send, message)) for message in messages]
        await until(lambda: line.wire.writes)
        await turns(100)
        assert not any(task.done() for task in sending)
        line.wire.stuck = False
        line.wire.take()
        await asyncio.gather(*sending)
        await turns()
        assert sorted(line.heard) == messages


@in_loop
async def test_on_the_loops_own_thread_nothing_waits() -> None:
    """A task may send to a `def` handler's connection: it gets what an `async def` that does not await gets."""
    async with Seat(silent=True) as (ask, line):
        connection: Connection = await ask(lambda c: c)
        line.wire.stuck = True
        connection.send(b"x" * 2 * MIB)
        for verb in (connection.flush, connection.ping):
            with pytest.raises(RuntimeError, match="would block the event loop"):
                verb()
        with pytest.raises(OutboxFull):
            connection.send("x")
        connection.close(4000)
        assert connection.closed


# ---------------------------------------------------------------------------------------------- pings and closing


@in_loop
async def test_ping_returns_the_seconds_it_took() -> None:
    async with Seat() as (ask, line):
        assert await ask(lambda c: c.ping()) == 0.0
        assert await ask(lambda c: c.latency) == 0.0
        assert len(line.frames_of(PING)) == 1


@in_loop
async def test_closing_waits_for_the_peer() -> None:
    async with Seat(silent=True) as (ask, line):
        closing = ask(lambda c: c.close(4000, "tea time"))
        await until(lambda: line.wire.writes)
        await turns(100)
        assert not closing.done()
        assert line.frames_of(CLOSE) == [(4000).to_bytes(2, "big") + b"tea time"]
        line.peer.settle()
        line.deliver()
        await closing
        assert await ask(lambda c: (c.close_code, c.close_reason)) == (4000, "")
        await ask(Connection.close)


@in_loop
async def test_closing_is_bounded_by_the_close_timeout() -> None:
    async with Seat(silent=True, close_timeout=5.0) as (ask, line):
        closing = ask(lambda c: c.close())
        await until(lambda: line.wire.writes)
        await turns()
        await pass_time(5.1)
        await closing
        assert line.connection.close_code == 1006


@in_loop
async def test_closing_from_another_thread_ends_a_read_that_waits() -> None:
    async with Seat() as (ask, _):
        connection: Connection = await ask(lambda c: c)
        reading = ask(lambda c: c.read())
        await turns(100)
        await asyncio.to_thread(connection.close)
        assert await reading is None


# --------------------------------------------------------------------------------------------------------- facts


@in_loop
async def test_the_facts_of_a_conversation() -> None:
    async with Seat(subprotocol="chat") as (ask, line):
        connection: Connection = await ask(lambda c: c)
        assert connection.request == Request(path="/chat")
        assert connection.subprotocol == "chat"
        assert (connection.closed, connection.close_code, connection.close_reason) == (False, None, None)
        assert connection.latency is None
        assert repr(connection) == "<sync.Connection '/chat' open>"
        line.close(4000, "tea time")
        await ask(lambda c: c.read())
        assert (connection.closed, connection.close_code, connection.close_reason) == (True, 4000, "tea time")
        assert repr(connection) == "<sync.Connection '/chat' closed 4000>"


# ------------------------------------------------------------------------------------------------ without a loop


class Full(Silent):
    """One with no room, for ever."""

    has_room = False


async def unattended(carrier: Silent) -> Connection:
    """A connection of the running loop, which nobody will tell when the loop ends."""
    loop = asyncio.get_running_loop()
    return Connection(Inbox(asynchronous.Connection(carrier, Request(), loop=loop), Limits()), Request())


def test_when_the_loop_is_closed_reading_has_ended_and_sending_raises() -> None:
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(unattended(Silent()))
    loop.close()
    outcomes: list[object] = []

    def use() -> None:
        outcomes.extend([connection.read(), connection.read(timeout=0)])
        connection.close()
        for verb in (lambda: connection.send("x"), connection.flush, connection.ping):
            try:
                outcomes.append(verb())
            except ConnectionClosed as error:
                outcomes.append((error.code, error.reason, error.connection is connection))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join(10)
    assert outcomes == [None, None] + [(1006, "the event loop is closed", True)] * 3


@pytest.mark.parametrize(
    ("verb", "outcome"),
    [
        (Connection.flush, "the conversation is over: 1006 (the event loop was shut down)"),
        (lambda connection: connection.send("x"), "the conversation is over: 1006 (the event loop was shut down)"),
        (Connection.close, "None"),
    ],
    ids=["flush", "send", "close"],
)
def test_when_the_loop_is_shut_down_who_waits_is_told(verb: Callable[[Connection], None], outcome: str) -> None:
    """`asyncio.run` cancels what is left, and a thread that waited for it is not to be left waiting."""
    outcomes: list[str] = []
    threads: list[threading.Thread] = []

    def use(connection: Connection) -> None:
        try:
            outcomes.append(str(verb(connection)))  # type: ignore[func-returns-value]
        except Exception as error:
            outcomes.append(str(error))

    async def main() -> None:
        threads.append(threading.Thread(target=use, args=(await unattended(Full()),)))
        threads[0].start()
        await until(lambda: len(asyncio.all_tasks()) > 1)

    asyncio.run(main())
    threads[0].join(10)
    assert outcomes == [outcome]


def outcome_of(verb: Callable[[], object]) -> list[str]:
    """What comes of *verb* in a thread while the loop does not turn."""
    outcomes: list[str] = []

    def use() -> None:
        try:
            outcomes.append(str(verb()))
        except ConnectionClosed as error:
            outcomes.append(str(error))

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(10)
    return outcomes


@in_loop
async def test_once_it_is_over_nobody_waits_for_a_loop_that_may_have_made_its_last_turn() -> None:
    line = connect()
    connection = Connection(Inbox(line.connection, Limits()), Request())
    line.say("unread")
    line.vanish()
    over = ["the conversation is over: 1006 (the connection was lost without a Close)"]
    assert outcome_of(connection.read) == ["unread"]
    assert outcome_of(connection.read) == ["None"]
    assert outcome_of(connection.close) == ["None"]
    assert (
        outcome_of(connection.flush) == outcome_of(connection.ping) == outcome_of(lambda: connection.send("")) == over
    )


@pytest.mark.parametrize("verb", ["read", "close", "flush"])
@in_loop
async def test_nor_where_it_is_over_just_when_a_thread_sits_down_to_wait(verb: str) -> None:
    line = connect()
    connection = Connection(Inbox(line.connection, Limits()), Request())
    ring = clock().call_soon_threadsafe

    def vanish_behind(*args: Any, **options: Any) -> Any:
        try:
            return ring(*args, **options)
        finally:
            clock_of_the_test.call_soon_threadsafe = ring  # type: ignore[method-assign]
            line.vanish()

    clock_of_the_test = clock()
    clock_of_the_test.call_soon_threadsafe = vanish_behind  # type: ignore[method-assign, assignment]
    expected = "the conversation is over: 1006 (the connection was lost without a Close)" if verb == "flush" else "None"
    assert outcome_of(getattr(connection, verb)) == [expected]


@in_loop
async def test_the_end_that_comes_with_the_timeout_is_the_end() -> None:
    line = connect()
    connection = Connection(Inbox(line.connection, Limits()), Request())

    post = asynchronous.Connection.post

    def vanish_meanwhile(of: asynchronous.Connection, call: Callable[..., object], *args: Any) -> bool:
        if call == of.forget_reader:
            line.vanish()
        return post(of, call, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asynchronous.Connection, "post", vanish_meanwhile)
        assert outcome_of(lambda: connection.read(timeout=0)) == ["None"]


def test_a_handler_whose_loop_was_shut_down_ends_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    @in_loop
    async def run() -> None:
        line = connect(Connection.ping, silent=True)
        await until(lambda: line.frames_of(PING))
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        line.silent = False
        await until(lambda: line.over)

    run()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@in_loop
async def test_binary_messages_are_binary_frames() -> None:
    async with Seat() as (ask, line):
        await ask(lambda c: c.send_binary(b"\xff"))
        await ask(Connection.flush)
        assert line.frames_of(BINARY) == [b"\xff"]
