"""An app, and the blocking connection, on blocking sockets: real ones, the far end of each in the test's hands."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

import wsadapter.server as websocket
from wsadapter import ConnectionClosed, Limits, Request, broadcast
from wsadapter.capacity import CONNECTIONS
from wsadapter.errors import OutboxFull
from wsadapter.opening import prepare
from wsadapter.sockets import SocketCarrier
from wsadapter.sync import Connection

from .wire import PATIENCE, Client, get, handshake, in_thread, tls_client, tls_server, wait_until

MIB = 2**20
KIB = 1024
T = TypeVar("T")


@contextmanager
def pair(*, small: bool = False) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A server's socket and its client's; *small*: the system holds little of what is sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if small:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with socket.socket() as client:
            if small:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(listener.getsockname())
            server, _ = listener.accept()
            with server:
                yield server, client


@contextmanager
def serving(
    app: Callable[[websocket.Request], websocket.Response],
    limits: Limits | None = None,
    *,
    small: bool = False,
) -> Iterator[Client]:
    """*app* on one socket, in a thread that ends when the block has closed the client's end."""
    with (
        pair(small=small) as (server, client),
        in_thread(lambda: websocket.serve_socket(server, app, limits=limits)),
        Client(client) as talker,
    ):
        yield talker


def handled_by(
    handler: Callable[[Connection], object], **options: Any
) -> Callable[[websocket.Request], websocket.Response]:
    """An app that is one WebSocket."""
    return lambda request: websocket.open(request, handler, **options)


def echo(connection: Connection) -> None:
    for message in connection:
        connection.send(message)


def app(request: websocket.Request) -> websocket.Response:
    """Pages that say how they were asked for, and an echo."""
    if websocket.is_websocket(request):
        return websocket.open(request, echo)
    return websocket.Response(f"{request.scheme} {request.peer} {request.method} {request.path}")


class Began:
    """A handler that hands its connection to the test, and ends when the test says so."""

    def __init__(self) -> None:
        self._connections: list[Connection] = []
        self._here = threading.Event()
        self.over = threading.Event()

    def __call__(self, connection: Connection) -> None:
        self._connections.append(connection)
        self._here.set()
        assert self.over.wait(PATIENCE)

    @property
    def connection(self) -> Connection:
        assert self._here.wait(PATIENCE)
        return self._connections[0]

    @property
    def carrier(self) -> SocketCarrier:
        carrier = self.connection._carrier
        assert isinstance(carrier, SocketCarrier)
        return carrier


@contextmanager
def begun(limits: Limits | None = None, *, small: bool = False) -> Iterator[tuple[Connection, Client]]:
    """A connection in the hands of the test, and the client at its other end."""
    began = Began()
    with serving(handled_by(began), limits, small=small) as client:
        client.open()
        try:
            yield began.connection, client
        finally:
            began.over.set()
            try:
                while client.read() is not None:
                    pass
            except OSError:
                pass  # the test has closed it


class Later:
    """A call in a thread of its own, and how it ended."""

    def __init__(self, call: Callable[..., object], *args: Any) -> None:
        self.result: object = None
        self.error: BaseException | None = None
        self._call = (call, args)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        call, args = self._call
        try:
            self.result = call(*args)
        except BaseException as error:
            self.error = error

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()

    def get(self) -> object:
        """What it returned, or raised."""
        self._thread.join(PATIENCE)
        assert not self.waits
        if self.error is not None:
            raise self.error
        return self.result


def pumping(connection: Connection) -> Callable[[], bool]:
    """Whether a thread waits for bytes."""
    carrier = connection._carrier
    assert isinstance(carrier, SocketCarrier)
    return lambda: carrier._pumping


def settled(client: Client) -> None:
    """Wait until all that the client wrote has arrived."""
    time.sleep(0.05)  # nothing tells; what comes later makes the tests easier, never harder


# ------------------------------------------------------------------------------------------------- HTTP


def test_pages_and_then_a_websocket_come_over_one_connection() -> None:
    with serving(app) as client:
        assert client.ask("/page?q").body == b"http 127.0.0.1 GET /page"
        client.write(get("/1") + get("/2"))
        assert (client.answer().body[-2:], client.answer().body[-2:]) == (b"/1", b"/2")
        assert client.ask("/head", method="HEAD").status == 200
        client.open("/chat", early=client.frames("early"))
        client.send("hello")
        assert (client.read(), client.read()) == ("early", "hello")
        assert client.close(4001) == 4001
        assert client.rest() == b""


def test_the_last_answer_is_followed_by_the_end() -> None:
    with serving(app) as client:
        assert client.ask("/", "Connection: close").status == 200
        assert client.rest() == b""


def test_a_client_that_sends_too_large_a_body_to_its_end_can_read_the_413() -> None:
    with serving(app) as client:
        client.write(get("/", f"Content-Length: {4 * MIB}", method="POST") + bytes(4 * MIB))
        assert client.answer().status == 413
        assert client.rest() == b""


def test_a_client_that_does_not_close_is_waited_for_no_longer_than_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsadapter.sockets.LINGER", 0.05)
    with pair() as (server, client), in_thread(lambda: websocket.serve_socket(server, app)) as thread:
        talker = Client(client)
        assert talker.ask("/", "Connection: close").status == 200
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (get("/", *["X: y"] * 100), 431),
        (get(), 426),
        (handshake("/", "Origin: http://b"), 403),
    ],
    ids=["malformed", "many-headers", "no-websocket", "foreign-page"],
)
def test_what_is_no_request_for_us_is_answered(data: bytes, status: int) -> None:
    with serving(handled_by(echo)) as client:
        client.write(data)
        assert client.answer().status == status


def test_a_slow_head_is_answered_with_408() -> None:
    with serving(app, Limits(handshake_timeout=0.05)) as client:
        client.write(b"GET /")
        assert client.answer().status == 408
        assert client.rest() == b""


def test_an_idle_connection_is_closed_in_silence() -> None:
    with serving(app, Limits(handshake_timeout=0.05)) as client:
        assert client.rest() == b""


def test_without_a_timeout_a_client_has_all_the_time_it_takes() -> None:
    with serving(app, Limits(handshake_timeout=None)) as client:
        time.sleep(0.05)
        assert client.ask().status == 200


def test_a_client_that_never_reads_its_response_is_cut() -> None:
    limits = Limits(write_timeout=0.1)
    with serving(lambda request: websocket.Response(bytes(8 * MIB)), limits, small=True) as client:
        client.write(get())
        time.sleep(0.3)
        assert len(client.rest()) < 4 * MIB


def test_a_client_that_reads_slowly_is_not_cut() -> None:
    patience = 0.25
    limits = Limits(write_timeout=patience)
    with serving(lambda request: websocket.Response(bytes(4 * MIB)), limits, small=True) as client:
        client.write(get())
        until = time.monotonic() + 3 * patience
        while time.monotonic() < until:
            client._fill()
            time.sleep(0.01)
        assert len(client.buffer) < 4 * MIB
        assert len(client.answer().body) == 4 * MIB


@pytest.mark.parametrize("data", [b"", b"GET /", get()], ids=["silent", "inside-a-head", "asking"])
def test_a_client_that_vanishes_is_no_error(data: bytes) -> None:
    asked = threading.Event()
    gone = threading.Event()

    def app(request: websocket.Request) -> websocket.Response:
        asked.set()
        assert gone.wait(PATIENCE)
        return websocket.Response(bytes(MIB))

    with serving(app) as client:
        client.write(data)
        if data == get():
            assert asked.wait(PATIENCE)
        client.reset()
        gone.set()


def test_a_client_that_was_gone_before_anybody_looked_is_no_error() -> None:
    with pair() as (server, client):
        talker = Client(client)
        talker.reset()
        settled(talker)
        websocket.serve_socket(server, app)
        assert server.fileno() == -1


def test_a_client_that_vanishes_instead_of_becoming_a_websocket_gives_its_place_back() -> None:
    before = CONNECTIONS.taken
    asked, gone = threading.Event(), threading.Event()

    def app(request: websocket.Request) -> websocket.Response:
        asked.set()
        assert gone.wait(PATIENCE)
        return websocket.open(request, echo)

    with serving(app) as client:
        client.write(handshake())
        assert asked.wait(PATIENCE)
        client.reset()
        gone.set()
    assert CONNECTIONS.taken == before


def test_beyond_the_websockets_of_a_process_the_answer_is_503() -> None:
    with serving(handled_by(echo, limits=Limits(connections=0))) as client:
        client.write(handshake())
        answer = client.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "10")


async def async_handler(connection: object) -> None:
    raise AssertionError("there is no loop to run it on")


async def async_app(request: websocket.Request) -> websocket.Response:
    raise AssertionError("there is no loop to run it on")


def raises(request: websocket.Request) -> websocket.Response:
    raise ValueError("a secret")


@pytest.mark.parametrize(
    ("app", "logged"),
    [
        (raises, "a secret"),
        (lambda request: None, "the app returned None: it has to return a Response"),
        (handled_by(async_handler), "the handler is an async def, and there is no event loop here: make it a def"),
        (async_app, "the app is an async def, and there is no event loop here: make it a def"),
        (lambda request: websocket.Response(status=101), "a 101 is what `open` returns"),
    ],
    ids=["raises", "none", "async-handler", "async-app", "status"],
)
def test_an_app_that_fails_answers_500_and_tells_the_log_alone(
    app: Any, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(app) as client:
        client.write(handshake())
        answer = client.answer()
        assert answer.status == 500
        assert b"secret" not in answer.body
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert logged in caplog.text


def test_every_answer_has_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wsadapter.access")
    with serving(app) as client:
        client.ask("/page?token=secret")
        client.open("/chat?token=secret")
        client.close()
    assert caplog.messages == ['127.0.0.1 "GET /page HTTP/1.1" 200', '127.0.0.1 "GET /chat HTTP/1.1" 101']


def test_a_unix_socket_has_no_peer_to_tell() -> None:
    server, client = socket.socketpair()
    with in_thread(lambda: websocket.serve_socket(server, app)), Client(client) as talker:
        assert talker.ask("/page").body == b"http None GET /page"


@pytest.mark.parametrize("chunk", [64 * 1024, 1000], ids=["whole-records", "parts-of-records"])
def test_pages_and_a_websocket_come_over_tls(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsadapter.sockets.CHUNK", chunk)

    def serve() -> None:
        websocket.serve_socket(tls_server().wrap_socket(server, server_side=True), app)

    with pair() as (server, client), in_thread(serve):
        talker = Client(client)
        talker.sock = tls_client().wrap_socket(client, server_hostname="localhost")
        assert talker.ask("/page").body == b"https 127.0.0.1 GET /page"
        talker.open("/chat")
        message = bytes(range(256)) * 1024  # records of TLS, whose second half poll does not see
        talker.send(message, "hello", message)
        assert (talker.read(), talker.read(), talker.read()) == (message, "hello", message)
        assert talker.close() == 1000
        talker.sock.close()


# ---------------------------------------------------------------------------------------------- reading


def test_a_handler_that_returns_closes_with_1000() -> None:
    with serving(handled_by(lambda connection: connection.send("bye"))) as client:
        client.open()
        assert (client.read(), client.read(), client.close_code) == ("bye", None, 1000)
        assert client.rest() == b""


def test_a_handler_that_raises_closes_with_1011_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def handler(connection: Connection) -> None:
        raise ValueError("a secret")

    with serving(handled_by(handler)) as client:
        client.open()
        assert (client.read(), client.close_code) == (None, 1011)
        assert client.conversation.close_reason == ""
    assert "a secret" in caplog.text


def test_reading_ends_with_the_code_of_the_peer() -> None:
    ended: list[object] = []

    def handler(connection: Connection) -> None:
        ended.extend([*connection, connection.close_code, connection.close_reason, connection.closed])

    with serving(handled_by(handler)) as client:
        client.open()
        client.send("one", b"two")
        client.conversation.close(0.0, 4000, "enough")
        assert client.read() is None
    assert ended == ["one", b"two", 4000, "enough", True]


def test_read_gives_up_after_its_timeout_and_the_connection_is_as_good_as_before() -> None:
    with begun() as (connection, client):
        with pytest.raises(TimeoutError, match=r"no message within 0\.01 seconds"):
            connection.read(timeout=0.01)
        client.send("late")
        assert connection.read(timeout=PATIENCE) == "late"
        client.send("later")
        assert connection.read() == "later"


def test_read_without_time_takes_what_is_there() -> None:
    with begun() as (connection, client):
        with pytest.raises(TimeoutError):
            connection.read(timeout=0)
        client.send("one", "two")
        settled(client)
        assert (connection.read(timeout=0), connection.read(timeout=0)) == ("one", "two")


def test_a_violation_of_the_protocol_is_answered_and_ends_the_reading() -> None:
    """RFC 6455 §7.1.7"""
    with begun() as (connection, client):
        client.write(b"\xff\x80\0\0\0\0")
        assert connection.read() is None
        assert connection.close_code == 1002
        assert client.read() is None
        assert client.close_code == 1002


def test_control_frames_are_served_inside_the_verbs() -> None:
    """ "control frames are served inside the verbs" """
    with begun() as (connection, client):
        answered: list[float] = []
        client.conversation.ping(0.0, answered.append)
        client.pump()
        client.conversation.send("behind the ping")
        client.pump()
        assert connection.read() == "behind the ping"
        connection.send("behind the pong")
        assert client.read() == "behind the pong"
        assert answered


def test_a_peer_that_is_silent_is_pinged_and_then_lost() -> None:
    """`Limits.ping_interval`, `Limits.ping_timeout`"""
    with begun(Limits(ping_interval=0.02, ping_timeout=0.02)) as (connection, client):
        assert connection.read() is None
        assert connection.close_code == 1006
        assert client.rest().startswith(b"\x89")


def test_a_peer_that_answers_the_keepalive_is_kept() -> None:
    with begun(Limits(ping_interval=0.02, ping_timeout=PATIENCE)) as (connection, client):
        reading = Later(connection.read)
        while connection.latency is None:
            client.conversation.receive_data(client.sock.recv(1000), 0.0)
            client.pump()
        client.send("still here")
        assert reading.get() == "still here"


def test_a_full_inbox_pauses_the_reading_and_loses_nothing() -> None:
    """`Limits.inbox`"""
    messages = [bytes([i]) * 10_000 for i in range(200)]
    with begun(Limits(inbox=30_000)) as (connection, client):
        sending = Later(client.send, *messages)
        assert connection.read() == messages[0]
        connection.send("something in between")
        for message in messages[1:]:
            assert connection.read() == message
        sending.get()


# ---------------------------------------------------------------------------------------------- sending


def test_partial_writes_lose_and_mix_nothing() -> None:
    """With a tiny send buffer, a slow reader, and two threads that send."""
    messages = {letter: [letter * size for size in (1, 70_000, 300_000, 5)] for letter in "ab"}
    with begun(small=True) as (connection, client):
        sendings = [Later(lambda own: list(map(connection.send, own)), own) for own in messages.values()]
        seen: dict[str, list[object]] = {"a": [], "b": []}
        for _ in range(8):
            message = client.read()
            assert isinstance(message, str)
            seen[message[0]].append(message)
        for sending in sendings:
            sending.get()
        assert seen == messages


def test_all_that_was_sent_is_written_when_send_returns() -> None:
    """Nobody may call another verb for long; "whole and in order"."""
    with begun(small=True) as (connection, client):
        sending = Later(connection.send, bytes(50_000))  # less than the outbox, more than the system holds
        assert client.read() == bytes(50_000)
        assert sending.get() is None
        connection.flush()


def test_a_thread_sends_while_another_reads() -> None:
    with begun(small=True) as (connection, client):
        reading = Later(connection.read)
        wait_until(pumping(connection))
        sending = Later(connection.send, bytes(300_000))
        assert client.read() == bytes(300_000)
        assert sending.get() is None
        connection.flush()
        assert reading.waits
        client.send("and back")
        assert reading.get() == "and back"


def test_reading_goes_on_while_a_send_waits() -> None:
    """Two that only send would wait for each other for ever."""
    with begun(small=True) as (connection, client):
        sending = Later(connection.send, bytes(300_000))
        wait_until(pumping(connection))
        client.send("hello")
        assert client.read() == bytes(300_000)
        sending.get()
        assert connection.read() == "hello"


def test_a_handler_that_only_sends_answers_pings_and_notices_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsadapter.sockets.LOOK", 0.0)
    answered: list[float] = []
    with begun() as (connection, client):
        client.conversation.ping(0.0, answered.append)
        client.pump()
        settled(client)
        connection.send("a")
        connection.send("b")
        assert (client.read(), client.read()) == ("a", "b")
        assert answered
        client.reset()
        settled(client)
        wait_until(lambda: broadcast([connection], "is anybody there?") == [connection])
        with pytest.raises(ConnectionClosed):
            connection.send("is anybody there?")


def test_sending_does_not_read_beyond_a_full_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsadapter.sockets.LOOK", 0.0)
    messages = [bytes([i]) * 10_000 for i in range(100)]
    with begun(Limits(inbox=15_000)) as (connection, client):
        sending = Later(client.send, *messages)
        conversation = connection._carrier._conversation  # type: ignore[attr-defined]

        def full() -> bool:
            connection.flush()
            return not conversation.wants_data

        wait_until(full)
        for _ in range(20):
            connection.send("and on")
        assert len(conversation.messages) < 50
        assert [connection.read() for _ in messages] == messages
        sending.get()


def test_a_peer_that_takes_nothing_is_cut() -> None:
    """`Limits.write_timeout`"""
    with begun(Limits(write_timeout=0.05), small=True) as (connection, _):
        with pytest.raises(ConnectionClosed) as caught:
            connection.send(bytes(8 * MIB))
        assert (caught.value.code, caught.value.connection) == (1006, connection)
        assert "took nothing" in caught.value.reason


def test_sending_on_a_finished_conversation_raises() -> None:
    with begun() as (connection, client):
        later = Later(client.close)
        assert connection.read() is None
        later.get()
        for verb in (lambda: connection.send("x"), connection.flush, connection.ping):
            with pytest.raises(ConnectionClosed):
                verb()
        assert broadcast([connection], "x") == [connection]
        assert connection.read() is None
        connection.close()


# -------------------------------------------------------------------------------------------- broadcast


def test_a_broadcast_waits_for_nobody_and_reaches_a_slow_reader_all_the_same() -> None:
    with begun(small=True) as (connection, client):
        assert broadcast([connection], bytes(300_000)) == []
        assert broadcast([connection], "behind it") == []
        assert client.read() == bytes(300_000)
        assert client.read() == "behind it"
        wait_until(lambda: not connection._carrier._writing_out)  # type: ignore[attr-defined]
        assert broadcast([connection], bytes(300_000)) == []
        assert client.read() == bytes(300_000)


def test_a_broadcast_goes_on_while_a_thread_reads() -> None:
    with begun(small=True) as (connection, client):
        reading = Later(connection.read)
        wait_until(pumping(connection))
        assert broadcast([connection], bytes(300_000)) == []
        assert client.read() == bytes(300_000)
        client.send("thanks")
        assert reading.get() == "thanks"


def test_a_broadcast_leaves_out_who_is_too_slow() -> None:
    """`Limits.outbox_hard`"""
    with begun(Limits(outbox_hard=100_000), small=True) as (connection, client):
        assert broadcast([connection], bytes(300_000)) == []
        assert broadcast([connection], "too much") == [connection]
        with pytest.raises(OutboxFull):
            connection.send("too much as well")
        assert client.read() == bytes(300_000)


# ------------------------------------------------------------------------------------------------- ping


def test_a_ping_is_answered_and_measured() -> None:
    """RFC 6455 §5.5.2"""
    with begun() as (connection, client):
        pinging = Later(connection.ping)
        client.send("before the answer")
        answering = Later(client.read)
        seconds = pinging.get()
        assert isinstance(seconds, float)
        assert 0 < seconds < PATIENCE
        assert connection.latency == seconds
        assert connection.read() == "before the answer"
        connection.send("over")
        assert answering.get() == "over"


def test_a_thread_pings_while_another_reads() -> None:
    with begun() as (connection, client):
        reading = Later(connection.read)
        wait_until(pumping(connection))
        pinging = Later(connection.ping)
        client.conversation.receive_data(client.sock.recv(1000), 0.0)
        client.pump()
        assert isinstance(pinging.get(), float)
        assert reading.waits
        client.send("hello")
        assert reading.get() == "hello"


def test_a_ping_that_is_not_answered_gives_up() -> None:
    with begun(Limits(ping_timeout=0.02)) as (connection, client):
        with pytest.raises(TimeoutError, match=r"no answer to the ping within 0\.02 seconds"):
            connection.ping()
        client.send("I am here all the same")
        assert connection.read() == "I am here all the same"


def test_a_ping_behind_a_full_inbox_gives_up_or_is_answered_but_loses_nothing() -> None:
    messages = [bytes([i]) * 10_000 for i in range(10)]
    with begun(Limits(inbox=15_000, ping_timeout=0.05)) as (connection, client):
        client.send(*messages)
        settled(client)
        try:
            connection.ping()
        except TimeoutError:
            pass
        assert [connection.read() for _ in messages] == messages


# ------------------------------------------------------------------------------------------------ close


def test_closing_ends_the_reading_of_another_thread() -> None:
    with begun() as (connection, client):
        reading = Later(connection.read)
        wait_until(pumping(connection))
        closing = Later(connection.close, 4000, "enough")
        assert client.read() is None
        assert (client.close_code, client.conversation.close_reason) == (4000, "enough")
        assert closing.get() is None
        assert reading.get() is None
        assert connection.close_code == 4000


def test_closing_is_bounded() -> None:
    """`Limits.close_timeout`: "Seconds for the closing handshake, then the connection is cut." """
    with begun(Limits(close_timeout=0.05)) as (connection, client):
        connection.close()
        assert connection.close_code == 1006
        assert client.rest().startswith(b"\x88")


def test_closing_is_bounded_while_another_thread_reads() -> None:
    """That thread went to sleep before there was anything to wait for."""
    with begun(Limits(close_timeout=0.05, ping_interval=None)) as (connection, _):
        reading = Later(connection.read)
        wait_until(pumping(connection))
        closing = Later(connection.close)
        assert closing.get() is None
        assert reading.get() is None
        assert connection.close_code == 1006


def test_closing_twice_is_closing_once() -> None:
    with begun() as (connection, client):
        closings = [Later(connection.close, code) for code in (4000, 4001)]
        assert client.read() is None
        assert client.close_code in (4000, 4001)
        for closing in closings:
            closing.get()


def test_a_handler_may_end_while_a_thread_of_its_own_still_reads() -> None:
    readings: list[Later] = []

    def handler(connection: Connection) -> None:
        readings.append(Later(connection.read))
        wait_until(pumping(connection))

    with serving(handled_by(handler), Limits(close_timeout=0.05, ping_interval=None)) as client:
        client.open()
        assert client.rest().startswith(b"\x88")
        assert readings[0].get() is None


def test_after_a_violation_the_connection_lingers_for_the_answer_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reset could overtake the Close that says what was wrong (RFC 6455 §7.1.1)."""
    with serving(handled_by(echo)) as client:
        client.open()
        client.write(b"\xff\x80\0\0\0\0" + bytes(MIB))
        assert client.read() is None
        assert client.close_code == 1002


def test_a_peer_that_does_not_wait_for_the_answer_to_its_violation_is_no_error() -> None:
    with begun() as (connection, client):
        client.write(b"\xff\x80\0\0\0\0")
        assert connection.read() is None
        client.reset()
        settled(client)


def test_a_client_is_carried_as_well_and_masks_its_broadcasts() -> None:
    """RFC 6455 §5.3: each frame of a client has a mask of its own."""
    request = Request()
    with pair() as (server, sock), in_thread(lambda: websocket.serve_socket(server, app)):
        Client(sock).open()
        carrier = SocketCarrier(sock, prepare(request, echo), Limits(), client=True)
        connection = Connection(carrier, request)
        assert broadcast([connection], "hello") == []
        assert connection.read() == "hello"
        connection.close()
        carrier.finish()
    assert connection.close_code == 1000


# ------------------------------------------------------------------------------- peers that vanish


@pytest.mark.parametrize("how", ["reset", "closed"])
def test_a_peer_that_vanishes_ends_the_reading(how: str) -> None:
    with begun() as (connection, client):
        reading = Later(connection.read)
        wait_until(pumping(connection))
        client.reset() if how == "reset" else client.sock.close()
        assert reading.get() is None
        assert connection.close_code == 1006


@pytest.mark.parametrize("verb", ["send", "flush", "ping", "close"])
def test_a_peer_that_vanishes_ends_every_verb(verb: str) -> None:
    with begun(small=True) as (connection, client):
        if verb == "flush":
            assert broadcast([connection], bytes(MIB)) == []
        args = (bytes(8 * MIB),) if verb == "send" else ()
        waiting = Later(getattr(connection, verb), *args)
        wait_until(pumping(connection))
        client.reset()
        if verb == "close":
            assert waiting.get() is None
        else:
            with pytest.raises(ConnectionClosed):
                waiting.get()
        assert connection.close_code == 1006


def test_a_send_that_meets_the_end_raises() -> None:
    with begun() as (connection, client):
        client.reset()
        settled(client)
        with pytest.raises(ConnectionClosed) as caught:
            connection.send("is anybody there?")
        assert caught.value.code == 1006


def test_a_peer_that_vanishes_behind_a_full_inbox_ends_a_ping_at_once_and_loses_no_message() -> None:
    messages = [bytes([i]) * 10_000 for i in range(10)]
    with begun(Limits(inbox=15_000)) as (connection, client):
        client.send(*messages)
        settled(client)
        pinging = Later(connection.ping)
        wait_until(pumping(connection))
        client.write_eof()
        client.reset()
        with pytest.raises(ConnectionClosed):
            pinging.get()
        assert connection.read() == messages[0]


def test_a_broadcast_to_a_peer_that_vanishes_is_no_error() -> None:
    with begun(small=True) as (connection, client):
        assert broadcast([connection], bytes(MIB)) == []
        client.reset()
        wait_until(lambda: connection.closed)
        assert broadcast([connection], "x") == [connection]


def test_the_peer_may_close_its_side_without_a_word() -> None:
    with begun() as (connection, client):
        client.send("last words")
        client.write_eof()
        assert connection.read() == "last words"
        assert connection.read() is None
        assert connection.close_code == 1006
