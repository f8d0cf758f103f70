"""A connection on an asyncio transport: bytes in and out, one timer, and an end in every state."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from wsadapter.capacity import CONNECTIONS, admit
from wsadapter.connection import Connection
from wsadapter.errors import ConnectionClosed
from wsadapter.opening import Handler
from wsadapter.options import Limits
from wsadapter.transports import TransportCarrier, Turn

from .carriers import KIB, MIB, Line, clock, connect, in_loop, opening_of, pass_time, turns, until
from .streams import BINARY, CLOSE, PING, PONG, TEXT, deflated, frame, parameters, roles

CLOSE_1000 = (1000).to_bytes(2, "big")


async def echo(connection: Connection) -> None:
    async for message in connection:
        await connection.send(message)


# --------------------------------------------------------------------------------------------------- taking over


@in_loop
async def test_what_came_behind_the_request_is_read_first() -> None:
    line = connect(echo, data=frame(TEXT, b"early"))
    line.wire.receive(frame(TEXT, b"later"))
    await turns()
    assert line.heard == ["early", "later"]


@roles
@in_loop
async def test_either_side_talks_and_closes(client: bool) -> None:
    line = connect(echo, client=client)
    line.say("text", b"binary")
    await turns()
    assert line.heard == ["text", b"binary"]
    assert {seen.masked for seen in line.frames()} == {client}
    line.close(4000, "bye")
    await turns()
    assert (line.connection.close_code, line.connection.close_reason) == (4000, "bye")
    assert line.over == 1


@in_loop
async def test_what_was_agreed_on_is_the_connections() -> None:
    line = connect(subprotocol="chat", deflate=parameters())
    assert line.connection.subprotocol == "chat"
    line.wire.receive(frame(TEXT, deflated(b"x" * 1000), rsv=4))
    assert await line.connection.read() == "x" * 1000


@in_loop
async def test_what_inflates_to_more_than_an_inbox_is_read_piece_by_piece() -> None:
    line = connect(deflate=parameters())
    line.wire.receive(b"".join(frame(BINARY, deflated(b"%d" % n * 50 * KIB), rsv=4) for n in range(9)))
    assert len(line.carrier.messages) < 9
    assert [await line.connection.read() for _ in range(9)] == [b"%d" % n * 50 * KIB for n in range(9)]


@in_loop
async def test_more_than_one_read_takes_is_read_by_several() -> None:
    line = connect()
    line.wire.receive(frame(BINARY, b"x" * MIB))
    assert await line.connection.read() == b"x" * MIB


# ---------------------------------------------------------------------------------------------------- closing


@in_loop
async def test_a_server_closes_the_transport_when_both_have_closed() -> None:
    """RFC 6455 §7.1.1: the server is to close the TCP connection first."""
    line = connect(echo)
    await turns()
    line.close()
    assert line.frames_of(CLOSE) == [CLOSE_1000]
    assert line.wire.closing
    assert not line.wire.aborted
    assert not line.wire.eof_written


@in_loop
async def test_a_client_waits_for_the_server_to_close_the_transport() -> None:
    """RFC 6455 §7.1.1: "a client SHOULD wait for the server to close the connection but MAY close" it in time."""
    line = connect(echo, client=True, silent=True)
    await turns()
    line.close()
    assert line.wire.eof_written
    assert not line.wire.closing
    line.wire.receive_eof()
    await turns()
    assert line.over == 1
    assert not line.wire.aborted


@in_loop
async def test_after_a_violation_the_peer_gets_our_close_and_time_to_read_it() -> None:
    """RFC 6455 §7.1.7: fail the connection. A reset, which unread bytes bring about, could overtake our Close."""
    line = connect(echo, silent=True)
    await turns()
    line.wire.receive(frame(0x3))
    assert [payload[:2] for payload in line.frames_of(CLOSE)] == [(1002).to_bytes(2, "big")]
    assert line.wire.eof_written
    assert not line.wire.closing
    assert line.wire.is_reading()
    for _ in range(100):
        line.say("what is all this?" * KIB)  # is read, and dropped
    assert line.wire.is_reading()
    assert not line.carrier.messages
    line.wire.receive_eof()
    await turns()
    assert line.over == 1
    assert not line.wire.aborted
    assert line.connection.close_code == 1002


@in_loop
async def test_after_a_violation_a_peer_that_talks_on_is_cut_off_in_time() -> None:
    line = connect(echo, silent=True, close_timeout=5.0)
    await turns()
    line.wire.receive(frame(0x3))
    for _ in range(6):
        line.say("what is all this?")
        await pass_time(1)
    assert line.wire.aborted
    assert line.over == 1


@in_loop
async def test_after_a_violation_all_is_read_though_the_inbox_is_full() -> None:
    line = connect(silent=True)
    line.wire.receive(frame(BINARY, b"x" * 80 * KIB) + frame(0x3) + b"more" * KIB)
    assert not line.wire.is_reading()
    await pass_time(1)
    assert line.wire.eof_written
    line.wire.receive(b"and more")
    assert line.wire.is_reading()
    assert line.wire.incoming == b""
    assert await line.connection.read() == b"x" * 80 * KIB
    assert await line.connection.read() is None


@in_loop
async def test_where_one_side_cannot_be_closed_the_transport_is() -> None:
    """TLS has no half-close in asyncio."""
    line = connect(echo, silent=True)
    line.wire.half_close = False
    await turns()
    line.wire.receive(frame(0x3))
    await turns()
    assert line.wire.closing
    assert not line.wire.aborted
    assert line.over == 1


@in_loop
async def test_where_the_peer_is_gone_already_there_is_nobody_to_wait_for() -> None:
    line = connect(echo, silent=True)
    line.wire.broken = True
    await turns()
    line.wire.receive(frame(0x3))
    await turns()
    assert line.wire.aborted
    assert line.over == 1
    assert line.connection.close_code == 1002


@in_loop
async def test_a_close_that_the_peer_does_not_take_is_waited_for_no_longer_than_the_close_timeout() -> None:
    line = connect(echo, close_timeout=5.0)
    await turns()
    line.wire.stuck = True
    line.close()
    assert line.wire.closing
    await pass_time(4)
    assert line.over == 0
    await pass_time(2)
    assert line.wire.aborted
    assert line.over == 1


@in_loop
async def test_the_end_of_the_stream_without_a_close_is_1006() -> None:
    """RFC 6455 §7.1.5"""
    line = connect(echo)
    line.wire.receive_eof()
    await turns()
    assert (line.connection.close_code, line.connection.close_reason) == (
        1006,
        "the connection was lost without a Close",
    )
    assert line.over == 1


@in_loop
async def test_the_end_of_the_stream_right_behind_a_close_still_gets_its_answer() -> None:
    line = connect()
    line.say("question")
    line.close()
    line.wire.receive_eof()
    assert await line.connection.read() == "question"
    line.connection.send("answer")
    assert await line.connection.read() is None
    assert line.frames_of(TEXT) == [b"answer"]
    assert line.frames_of(CLOSE) == [CLOSE_1000]
    assert line.connection.close_code == 1000


@in_loop
async def test_nobody_lingers_for_a_peer_that_has_ended_its_side_behind_a_violation() -> None:
    line = connect()
    line.say("right")
    line.wire.receive(b"\x81\x01a")  # unmasked
    line.wire.receive_eof()
    assert await line.connection.read() == "right"
    assert await line.connection.read() is None
    assert [payload[:2] for payload in line.frames_of(CLOSE)] == [(1002).to_bytes(2, "big")]
    assert line.wire.closing


@in_loop
async def test_the_end_of_the_stream_behind_a_close_that_nobody_reads_up_to_is_answered_after_the_grace() -> None:
    line = connect()
    line.say("unread")
    line.close()
    line.wire.receive_eof()
    assert line.frames_of(CLOSE) == []
    await pass_time(1)
    assert line.frames_of(CLOSE) == [CLOSE_1000]
    assert line.connection.close_code == 1000


State = Callable[[Line], None]


def when_open(line: Line) -> None: ...


def when_closing(line: Line) -> None:
    line.connection.close()


def when_a_close_waits(line: Line) -> None:
    line.say("unread")
    line.close()


def when_closed(line: Line) -> None:
    line.connection.close()
    line.close()


def when_lingering(line: Line) -> None:
    line.wire.receive(frame(0x3))


def when_reading_is_paused(line: Line) -> None:
    line.say(b"x" * 80 * KIB, "behind")


def when_writing_is_paused(line: Line) -> None:
    line.wire.stuck = True
    line.connection.send(b"x" * 80 * KIB)


def when_something_waits_for_the_end_of_the_turn(line: Line) -> None:
    line.connection.send("x")


def when_cut(line: Line) -> None:
    line.carrier.abort()


@pytest.mark.parametrize(
    "state",
    [
        when_open,
        when_closing,
        when_a_close_waits,
        when_closed,
        when_lingering,
        when_reading_is_paused,
        when_writing_is_paused,
        when_something_waits_for_the_end_of_the_turn,
        when_cut,
    ],
)
@in_loop
async def test_the_connection_may_be_lost_at_any_time(state: State) -> None:
    line = connect(silent=True)
    await turns()
    state(line)
    line.vanish()
    assert line.carrier.closed
    assert line.connection.close_code is not None
    with pytest.raises(ConnectionClosed):
        line.connection.send("x")
    await line.connection.close()
    while await line.connection.read() is not None:
        pass
    await pass_time(100)
    line.carrier.shut_down()
    line.carrier.abort()
    await turns()
    assert line.over == 1


@in_loop
async def test_a_server_that_stops_tells_the_peer() -> None:
    line = connect(echo)
    line.carrier.shut_down()
    assert line.frames_of(CLOSE) == [(1001).to_bytes(2, "big") + b"the server is shutting down"]
    await turns()
    assert line.over == 1


# -------------------------------------------------------------------------------------------------------- time


@in_loop
async def test_a_peer_that_takes_nothing_is_cut_off() -> None:
    """20 s without a byte accepted → aborted, 1006."""
    line = connect()
    line.wire.stuck = True
    waiting = asyncio.ensure_future(line.connection.send(b"x" * 500 * KIB))
    for _ in range(19):
        line.say("I am here!")  # so the keepalive is content
        await pass_time(1)
    assert not waiting.done()
    await pass_time(1)
    with pytest.raises(ConnectionClosed, match="the peer took nothing for 20 seconds"):
        await waiting
    assert line.wire.aborted


@in_loop
async def test_a_peer_that_takes_little_is_not() -> None:
    line = connect()
    line.wire.stuck = True
    line.connection.send(b"x" * 500 * KIB)
    for _ in range(20):
        line.say("I am here!")
        line.wire.take(10)
        await pass_time(19)
    assert not line.connection.closed


@in_loop
async def test_a_peer_that_was_slow_once_and_took_all_is_not() -> None:
    line = connect()
    reading = asyncio.ensure_future(echo(line.connection))
    line.wire.stuck = True
    line.connection.send(b"x" * 80 * KIB)
    await turns()
    line.wire.take(70 * KIB)
    line.wire.stuck = False
    line.wire.take()
    for _ in range(50):
        line.say("I am here!")
        await pass_time(1)
    assert not line.connection.closed
    line.close()
    await reading


@in_loop
async def test_one_timer_serves_all_and_none_is_left() -> None:
    line = connect(echo)
    for _ in range(100):
        line.say("x")
        line.wire.receive(frame(PING))
        await pass_time(0.5)
    timers: list[object] = getattr(clock(), "_scheduled")  # noqa: B009
    assert len(timers) == 1
    line.vanish()
    await pass_time(100)
    assert timers == []


@in_loop
async def test_a_nearer_deadline_sets_the_timer_anew() -> None:
    line = connect(silent=True, close_timeout=1.0)
    line.connection.close()
    await pass_time(1.1)
    assert line.wire.aborted


@in_loop
async def test_without_a_limit_in_time_there_is_no_timer() -> None:
    connect(ping_interval=None)
    assert getattr(clock(), "_scheduled") == []  # noqa: B009


# -------------------------------------------------------------------------------------------------------- room


@in_loop
async def test_pongs_wait_apart_while_the_peer_takes_nothing() -> None:
    line = connect()
    line.wire.stuck = True
    line.connection.send(b"x" * 80 * KIB)
    line.wire.receive(frame(PING, b"there?"))
    assert line.frames_of(PONG) == []
    line.wire.take()
    assert line.frames_of(PONG) == [b"there?"]


@in_loop
async def test_a_loop_that_is_done_with_is_freed() -> None:
    def run() -> weakref.ref[asyncio.AbstractEventLoop]:
        loop = asyncio.new_event_loop()
        Turn.of(loop)
        assert Turn.of(loop) is Turn.of(loop)
        loop.close()
        return weakref.ref(loop)

    gone = run()
    gc.collect()
    assert gone() is None


# ----------------------------------------------------------------------------------------------- real transports


class Waiting(asyncio.Protocol):
    """The protocol of a transport before the handshake."""


@asynccontextmanager
async def real(handler: Handler, limits: Limits) -> AsyncIterator[tuple[socket.socket, TransportCarrier]]:
    """A handler on one end of a socket pair, and the other end."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with theirs:
        transport, _ = await loop.create_connection(Waiting, sock=ours)
        transport.pause_reading()
        over = loop.create_future()
        admit(limits, thread=False)
        carrier = TransportCarrier(opening_of(handler), transport, limits=limits, over=over.set_result)
        carrier.start(b"")
        transport.resume_reading()
        yield theirs, carrier
        theirs.close()
        assert await over is carrier


def real_time(test: Callable[[], object]) -> Callable[[], None]:
    """Run an `async def` test on an ordinary loop."""

    def run() -> None:
        before = CONNECTIONS.taken
        asyncio.run(asyncio.wait_for(test(), 20))  # type: ignore[arg-type]
        assert CONNECTIONS.taken == before

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await asyncio.get_running_loop().sock_recv(sock, 65536)
        assert more
        data += more
    return data


@real_time
async def test_a_handler_talks_over_a_real_socket() -> None:
    loop = asyncio.get_running_loop()
    async with real(echo, Limits()) as (sock, _):
        await loop.sock_sendall(sock, frame(TEXT, b"hello") + frame(BINARY, b"x" * 300 * KIB))
        expected = frame(TEXT, b"hello", key=None) + frame(BINARY, b"x" * 300 * KIB, key=None)
        assert await receive(sock, len(expected)) == expected
        await loop.sock_sendall(sock, frame(CLOSE, CLOSE_1000))
        assert await receive(sock, 4) == frame(CLOSE, CLOSE_1000, key=None)
        assert await loop.sock_recv(sock, 1) == b""


@real_time
async def test_a_flood_into_a_handler_that_does_not_read_stops_at_the_socket() -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    async def deaf(connection: Connection) -> None:
        await done.wait()

    async with real(deaf, Limits()) as (sock, carrier):
        data = frame(BINARY, b"x" * 16 * KIB)
        flood = loop.create_task(loop.sock_sendall(sock, data * 1000))
        await until(lambda: carrier.messages)
        held = -1
        while sum(map(len, carrier.messages)) != held:
            held = sum(map(len, carrier.messages))
            await turns(100)
        assert held <= 64 * KIB + 256 * KIB
        assert not flood.done()
        done.set()  # the handler returns: what is unread is read and dropped, and the peer's Close comes through
        await flood
        await loop.sock_sendall(sock, frame(CLOSE, CLOSE_1000))
        assert await receive(sock, 4) == frame(CLOSE, CLOSE_1000, key=None)


@real_time
async def test_a_peer_that_does_not_read_stops_the_sender_and_is_cut_off() -> None:
    errors: list[ConnectionClosed] = []

    async def firehose(connection: Connection) -> None:
        try:
            while True:
                await connection.send(b"x" * 16 * KIB)
        except ConnectionClosed as error:
            errors.append(error)

    async with real(firehose, Limits(write_timeout=0.05)) as (_, carrier):
        await until(lambda: errors)
        assert carrier.close_reason == "the peer took nothing for 0.05 seconds"
        assert errors[0].code == 1006


@real_time
async def test_our_close_reaches_a_peer_that_broke_the_protocol_and_sent_much_more() -> None:
    loop = asyncio.get_running_loop()
    async with real(echo, Limits()) as (sock, _):
        await loop.sock_sendall(sock, frame(0x3) + b"x" * 300 * KIB)
        start = await receive(sock, 4)
        assert (start[0], start[2:4]) == (0x88, (1002).to_bytes(2, "big"))
        while await loop.sock_recv(sock, 65536):
            pass  # to its end, and no ConnectionResetError
