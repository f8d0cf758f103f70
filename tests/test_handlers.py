"""Running a handler: its colour, its context, and what its end means to the peer."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import markcoroutinefunction

from wsadapter import sync
from wsadapter.capacity import CONNECTIONS, THREADS
from wsadapter.connection import Connection
from wsadapter.errors import ConnectionClosed, OutboxFull, ProtocolError, Refused
from wsadapter.messages import Prepared
from wsadapter.opening import Handler, is_async

from .carriers import KIB, MIB, Line, connect, in_loop, pass_time, turns, until
from .streams import CLOSE, PING, frame


def closed_with(line: Line) -> list[tuple[int, bytes]]:
    """The codes and reasons of the Close frames that we sent."""
    return [(int.from_bytes(payload[:2], "big"), payload[2:]) for payload in line.frames_of(CLOSE)]


def records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "wsadapter"]


# ------------------------------------------------------------------------------------------------ the colour


async def echo(connection: Connection) -> None:
    async for message in connection:
        await connection.send(f"echo: {message!r}")


def echo_blocking(connection: sync.Connection) -> None:
    for message in connection:
        connection.send(f"echo: {message!r}")


async def echo_with(greeting: str, connection: Connection) -> None:
    connection.send(greeting)
    await echo(connection)


def echo_blocking_with(greeting: str, connection: sync.Connection) -> None:
    connection.send(greeting)
    echo_blocking(connection)


class Methods:
    async def asynchronous(self, connection: Connection) -> None:
        await echo(connection)

    def blocking(self, connection: sync.Connection) -> None:
        echo_blocking(connection)

    @staticmethod
    async def static(connection: Connection) -> None:
        await echo(connection)

    @classmethod
    async def of_class(cls, connection: Connection) -> None:
        await echo(connection)


class AsyncCall:
    async def __call__(self, connection: Connection) -> None:
        await echo(connection)


class BlockingCall:
    def __call__(self, connection: sync.Connection) -> None:
        echo_blocking(connection)


def marked(connection: Connection) -> Any:
    return echo(connection)


markcoroutinefunction(marked)

COLOURS: dict[str, tuple[Handler, bool]] = {
    "async def": (echo, True),
    "def": (echo_blocking, False),
    "lambda": (lambda connection: connection.send(f"echo: {connection.read()!r}"), False),
    "async method": (Methods().asynchronous, True),
    "method": (Methods().blocking, False),
    "static async method": (Methods.static, True),
    "async method of a class": (Methods.of_class, True),
    "object with async __call__": (AsyncCall(), True),
    "object with __call__": (BlockingCall(), False),
    "bound async __call__": (AsyncCall().__call__, True),
    "marked function": (marked, True),
    "partial of async def": (functools.partial(echo_with, "hello"), True),
    "partial of def": (functools.partial(echo_blocking_with, "hello"), False),
    "partial of an object": (functools.partial(AsyncCall()), True),
    "partial of a partial": (functools.partial(functools.partial(echo_with), "hello"), True),
    "partial of a method": (functools.partial(Methods().asynchronous), True),
    "partial of a marked function": (functools.partial(marked), True),
}


@pytest.mark.parametrize(("handler", "asynchronous"), COLOURS.values(), ids=COLOURS)
@in_loop
async def test_a_handler_of_either_colour_runs_as_what_it_is(handler: Handler, asynchronous: bool) -> None:
    """Colour: async functions, partials, bound methods, objects with an async `__call__`, marked functions."""
    assert is_async(handler) is asynchronous
    line = connect(handler)
    assert THREADS.taken == (0 if asynchronous else 1)
    line.say("x")
    await until(lambda: "echo: 'x'" in line.heard)
    line.close()
    await until(lambda: line.over)
    assert closed_with(line) == [(1000, b"")]
    assert THREADS.taken == 0


# ------------------------------------------------------------------------------------------------- how it ends


@in_loop
async def test_a_handler_that_returns_closes_with_1000() -> None:
    async def greet(connection: Connection) -> None:
        await connection.send("hello")

    line = connect(greet)
    await until(lambda: line.over)
    assert line.heard == ["hello"]
    assert closed_with(line) == [(1000, b"")]


@in_loop
async def test_a_def_handler_that_returns_closes_with_1000() -> None:
    line = connect(lambda connection: connection.send("hello"))
    await until(lambda: line.over)
    assert line.heard == ["hello"]
    assert closed_with(line) == [(1000, b"")]


def failing(error: BaseException) -> list[Handler]:
    """A handler of each colour that raises *error*."""

    async def asynchronous(connection: Connection) -> None:
        raise error

    def blocking(connection: sync.Connection) -> None:
        raise error

    return [asynchronous, blocking]


colours = pytest.mark.parametrize("colour", [0, 1], ids=["async def", "def"])


@colours
def test_a_handler_that_raises_closes_with_1011_is_logged_once_and_tells_the_peer_nothing(
    colour: int, caplog: pytest.LogCaptureFixture
) -> None:
    handler = failing(KeyError("secret"))[colour]

    @in_loop
    async def run() -> None:
        line = connect(handler)
        await until(lambda: line.over)
        assert closed_with(line) == [(1011, b"")]
        assert b"secret" not in b"".join(line.wire.writes)

    run()
    (record,) = records(caplog)
    assert record.levelno == logging.ERROR
    assert handler.__qualname__ in record.getMessage()
    assert "'/chat'" in record.getMessage()
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "'secret'"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OutboxFull("too slow"), 1013),
        (ProtocolError("not our protocol", 1003), 1003),
        (ConnectionClosed(1000, "of somebody else", object()), 1011),
        (ConnectionClosed(1000, "of nobody"), 1011),
        (Refused(403, "no"), 1011),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
@colours
def test_an_error_of_ours_closes_with_the_code_it_means(
    error: Exception, code: int, colour: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Each error knows the close code it means; another's `ConnectionClosed` is an ordinary error."""

    @in_loop
    async def run() -> None:
        line = connect(failing(error)[colour])
        await until(lambda: line.over)
        assert closed_with(line) == [(code, b"")]

    run()
    assert len(records(caplog)) == 1


def test_a_handler_is_logged_by_name_and_without_its_arguments(caplog: pytest.LogCaptureFixture) -> None:
    """They may be secrets."""

    async def chat(token: str, connection: Connection) -> None:
        raise KeyError

    handler = functools.partial(chat, "a secret")

    @in_loop
    async def run() -> None:
        line = connect(handler)
        await until(lambda: line.over)

    run()
    assert "chat of '/chat' failed" in records(caplog)[0].getMessage()
    assert "secret" not in records(caplog)[0].getMessage()


async def sends_for_ever(connection: Connection) -> None:
    while True:
        await connection.send(b"x" * KIB)


def sends_for_ever_blocking(connection: sync.Connection) -> None:
    while True:
        connection.send(b"x" * KIB)


async def waits_for_pongs(connection: Connection) -> None:
    while True:
        await connection.ping()
        await connection.flush()


def waits_for_pongs_blocking(connection: sync.Connection) -> None:
    while True:
        connection.ping()
        connection.flush()


async def in_a_task_group(connection: Connection) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(sends_for_ever(connection))
        group.create_task(waits_for_pongs(connection))


async def in_nested_task_groups(connection: Connection) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(in_a_task_group(connection))
        group.create_task(sends_for_ever(connection))


async def in_a_broadcast_of_its_own(connection: Connection) -> None:
    while True:
        connection.send_prepared(Prepared("x"))
        await asyncio.sleep(0)


OWN_ENDS: list[Handler] = [
    sends_for_ever,
    sends_for_ever_blocking,
    waits_for_pongs,
    waits_for_pongs_blocking,
    in_a_task_group,
    in_nested_task_groups,
    in_a_broadcast_of_its_own,
]


@pytest.mark.parametrize("handler", OWN_ENDS, ids=[handler.__name__ for handler in OWN_ENDS])
def test_the_end_of_its_own_conversation_ends_a_handler_in_silence(
    handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    """ "Silent only for its own connection's `ConnectionClosed`", in an `ExceptionGroup` too."""

    @in_loop
    async def run() -> None:
        line = connect(handler)
        await until(lambda: line.wire.writes)
        line.vanish()
        await until(lambda: line.over)
        assert line.connection.close_code == 1006

    run()
    assert records(caplog) == []


@colours
def test_the_end_of_anothers_conversation_is_an_ordinary_error(colour: int, caplog: pytest.LogCaptureFixture) -> None:
    """ "A chat's Alice must not vanish because Bob did." """

    @in_loop
    async def run() -> None:
        bob = connect()
        bob.vanish()

        async def asynchronous(connection: Connection) -> None:
            await bob.connection.send("hello Bob")

        def blocking(connection: sync.Connection) -> None:
            bob.connection.send("hello Bob")

        handlers: list[Handler] = [asynchronous, blocking]
        alice = connect(handlers[colour])
        await until(lambda: alice.over)
        assert closed_with(alice) == [(1011, b"")]

    run()
    assert len(records(caplog)) == 1


def test_a_group_with_another_error_in_it_is_an_ordinary_error(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(connection: Connection) -> None:
        await connection.read()
        raise ExceptionGroup("both", [ConnectionClosed(1006, "", connection), KeyError()])

    @in_loop
    async def run() -> None:
        line = connect(handler)
        await turns()
        line.vanish()
        await until(lambda: line.over)

    run()
    assert len(records(caplog)) == 1


def coroutine_function(connection: sync.Connection) -> Any:
    return echo(None)  # type: ignore[arg-type]


class Awaitable:
    def __await__(self) -> Any:
        raise AssertionError("nobody awaits it")


@pytest.mark.parametrize(
    "handler", [coroutine_function, lambda connection: Awaitable()], ids=["coroutine", "other awaitable"]
)
def test_a_def_that_returns_an_awaitable_is_an_error_that_names_the_cure(
    handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    @in_loop
    async def run() -> None:
        line = connect(handler)
        await until(lambda: line.over)
        assert closed_with(line) == [(1011, b"")]

    run()
    gc.collect()  # "never awaited" would be an error
    (record,) = records(caplog)
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], TypeError)
    assert "make it an async def, or mark it with inspect.markcoroutinefunction" in str(record.exc_info[1])


def test_an_async_handler_that_cannot_be_awaited_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    def handler(connection: Connection) -> None: ...

    markcoroutinefunction(handler)

    @in_loop
    async def run() -> None:
        line = connect(handler)
        await until(lambda: line.over)
        assert closed_with(line) == [(1011, b"")]

    run()
    assert len(records(caplog)) == 1


@in_loop
async def test_a_handler_that_has_closed_is_not_closed_again() -> None:
    async def handler(connection: Connection) -> None:
        await connection.close(4000, "done")

    line = connect(handler)
    await until(lambda: line.over)
    assert closed_with(line) == [(4000, b"done")]


@in_loop
async def test_the_end_of_a_handler_waits_for_the_peer_no_longer_than_the_close_timeout() -> None:
    async def handler(connection: Connection) -> None: ...

    line = connect(handler, silent=True, close_timeout=3.0)
    await turns()
    await pass_time(2)
    assert not line.carrier.session.ended
    await pass_time(2)
    assert line.over


class Stop(BaseException):
    """What is no `Exception`, such as those of other frameworks that cancel by one."""


@in_loop
async def test_a_task_that_ends_by_what_is_no_exception_does_not_leave_its_connection_open() -> None:
    line = connect(failing(Stop())[0])
    await until(lambda: line.over)
    assert closed_with(line) == [(1011, b"")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # threading minds no SystemExit
@in_loop
async def test_a_thread_that_exits_does_not_leave_its_connection_open() -> None:
    line = connect(lambda connection: sys.exit())
    await until(lambda: line.over)
    assert closed_with(line) == [(1011, b"")]


# ------------------------------------------------------------------------------------------------------- threads


@in_loop
async def test_def_handlers_run_in_a_daemon_thread_each() -> None:
    """ "Never asgiref's or a loop's shared pool: measured, 6 of 20 sessions served." """
    threads: list[threading.Thread] = []

    def handler(connection: sync.Connection) -> None:
        threads.append(threading.current_thread())
        echo_blocking(connection)

    lines = [connect(handler) for _ in range(40)]
    for line in lines:
        line.say("all at once")
    await until(lambda: all(line.heard for line in lines))
    assert len(set(threads)) == 40 == THREADS.taken
    assert all(thread.daemon for thread in threads)
    assert {thread.name for thread in threads} == {"wsadapter '/chat'"}
    assert threading.current_thread() not in threads


@in_loop
async def test_beyond_the_cap_of_threads_there_is_no_place() -> None:
    """Capped, then 503."""
    connect(echo_blocking, threads=1)
    with pytest.raises(Refused) as caught:
        connect(echo_blocking, threads=1)
    assert caught.value.status == 503
    connect(echo, threads=1)


def test_a_thread_that_the_system_does_not_have_ends_the_connection_and_takes_no_place(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    @in_loop
    async def run() -> None:
        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            line = connect(echo_blocking)
        assert THREADS.taken == 0
        await until(lambda: line.over)
        assert closed_with(line) == [(1011, b"")]

    run()
    assert "echo_blocking" in records(caplog)[0].getMessage()


@in_loop
async def test_pings_are_answered_and_a_close_is_noticed_whatever_a_def_handler_does() -> None:
    go = threading.Event()
    line = connect(lambda connection: go.wait(10))
    line.wire.receive(frame(PING, b"there?"))
    assert [seen.payload for seen in line.frames()] == [b"there?"]
    line.close()
    await pass_time(1)
    assert line.carrier.closed
    go.set()
    await until(lambda: line.over)


# ------------------------------------------------------------------------------------------------------- context

USER = contextvars.ContextVar("USER", default="nobody")


def who(seen: list[str]) -> list[Handler]:
    async def asynchronous(connection: Connection) -> None:
        seen.append(USER.get())
        USER.set("changed by the handler")

    def blocking(connection: sync.Connection) -> None:
        seen.append(USER.get())
        USER.set("changed by the handler")

    return [asynchronous, blocking]


@colours
@in_loop
async def test_a_handler_has_a_copy_of_the_hosts_context(colour: int) -> None:
    seen: list[str] = []
    USER.set("alice")
    line = connect(who(seen)[colour])
    USER.set("bob")
    await until(lambda: line.over)
    assert seen == ["alice"]
    assert USER.get() == "bob"


@colours
@in_loop
async def test_a_handler_has_the_context_that_the_face_chose(colour: int) -> None:
    """ "The face decides, the host does not." """
    seen: list[str] = []
    context = contextvars.copy_context()
    context.run(USER.set, "of the view")
    USER.set("of the host")
    line = connect(who(seen)[colour], context=context)
    await until(lambda: line.over)
    assert seen == ["of the view"]


@colours
@in_loop
async def test_an_empty_context_is_one_too(colour: int) -> None:
    seen: list[str] = []
    USER.set("of the host")
    line = connect(who(seen)[colour], context=contextvars.Context())
    await until(lambda: line.over)
    assert seen == ["nobody"]


# --------------------------------------------------------------------------------------------------- cancelling


Leave = Callable[[Line], None]


def by_a_close(line: Line) -> None:
    line.close()


def by_vanishing(line: Line) -> None:
    line.vanish()


@pytest.mark.parametrize("leave", [by_a_close, by_vanishing])
@in_loop
async def test_cancel_on_disconnect_cancels_a_handler_that_waits_elsewhere(leave: Leave) -> None:
    cleaned: list[str] = []

    async def handler(connection: Connection) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    line = connect(handler, cancel_on_disconnect=True)
    await turns()
    leave(line)
    await pass_time(1)
    await until(lambda: line.over)
    assert cleaned == ["up"]


def test_cancel_on_disconnect_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    @in_loop
    async def run() -> None:
        line = connect(cancel_on_disconnect=True)
        await turns()
        line.vanish()
        await until(lambda: line.over)

    run()
    assert caplog.records == []


@in_loop
async def test_without_it_a_handler_that_waits_elsewhere_waits_on() -> None:
    line = connect()
    await turns()
    line.vanish()
    await turns()
    assert not line.carrier.session.ended


@in_loop
async def test_cancel_on_disconnect_leaves_a_handler_that_closes_itself_alone() -> None:
    done: list[str] = []

    async def handler(connection: Connection) -> None:
        await connection.close()
        await asyncio.sleep(0)
        done.append("after closing")

    line = connect(handler, cancel_on_disconnect=True)
    await until(lambda: line.over)
    assert done == ["after closing"]


@in_loop
async def test_a_client_that_is_gone_before_the_handler_begins_leaves_nothing_behind() -> None:
    line = connect(cancel_on_disconnect=True)
    line.vanish()
    await turns()
    assert line.over == 1


@in_loop
async def test_a_handler_that_is_cut_off_before_it_begins_leaves_nothing_behind() -> None:
    line = connect()
    line.carrier.abort()
    await turns()
    assert line.over == 1


@in_loop
async def test_a_handler_that_is_cancelled_closes_with_1001() -> None:
    async def handler(connection: Connection) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await connection.read()

    line = connect(handler)
    await until(lambda: line.over)
    assert closed_with(line) == [(1001, b"the server is going away")]


@in_loop
async def test_a_handler_may_outlast_its_cancelling() -> None:
    async def handler(connection: Connection) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await connection.send("one moment")

    line = connect(handler)
    await turns()
    line.carrier.session.cancel()
    await until(lambda: line.over)
    assert line.heard == ["one moment"]
    assert closed_with(line) == [(1000, b"")]


# ----------------------------------------------------------------------------------------------------- drain


@in_loop
async def test_draining_closes_with_1001_and_ends_reading() -> None:
    ended: list[str] = []

    async def asynchronous(connection: Connection) -> None:
        async for _ in connection:
            pass
        ended.append("async def")

    def blocking(connection: sync.Connection) -> None:
        for _ in connection:
            pass
        ended.append("def")

    lines = [connect(asynchronous), connect(blocking)]
    await turns()
    for line in lines:
        line.carrier.shut_down()
    await until(lambda: all(line.over for line in lines))
    assert [closed_with(line) for line in lines] == [[(1001, b"the server is shutting down")]] * 2
    assert sorted(ended) == ["async def", "def"]


@in_loop
async def test_a_deadline_cancels_a_task_and_waits_no_longer_for_a_thread() -> None:
    go = threading.Event()
    task, thread = connect(), connect(lambda connection: go.wait(10))
    await turns()
    for line in (task, thread):
        line.carrier.shut_down()
        line.carrier.abort()
        line.carrier.session.cancel()
    await turns()
    assert (task.over, thread.over) == (1, 1)
    assert THREADS.taken == 1
    go.set()
    await until(lambda: THREADS.taken == 0)
    await turns()
    assert (task.over, thread.over) == (1, 1)


@in_loop
async def test_the_place_of_a_connection_is_given_back_when_the_transport_is_gone() -> None:
    before = CONNECTIONS.taken
    line = connect()
    assert CONNECTIONS.taken == before + 1
    line.vanish()
    assert CONNECTIONS.taken == before


# ------------------------------------------------------------------------------------------------ floods


@in_loop
async def test_a_handler_that_ignores_everything_is_flooded_at_a_bounded_cost() -> None:
    line = connect()
    for _ in range(500):
        line.say(b"x" * 16 * KIB)
        line.wire.receive(frame(PING, b"flood"))
        await asyncio.sleep(0)
    assert sum(len(message) for message in line.carrier.messages) <= 80 * KIB
    assert len(line.wire.incoming) > 7 * MIB
