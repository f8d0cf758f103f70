"""HTTP on asyncio transports over real sockets, and the same in somebody's `asyncio.start_server`."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import wsadapter.server as websocket
from wsadapter import Connection, Limits, sync
from wsadapter.capacity import CONNECTIONS
from wsadapter.streams import HTTPProtocol
from wsadapter.transports import TransportCarrier

from .wire import PATIENCE, Client, Running, get, handshake, in_thread, serving, tls_server, wait_until

MIB = 2**20


async def echo(connection: Connection) -> None:
    async for message in connection:
        await connection.send(message)


async def app(request: websocket.Request) -> websocket.Response:
    """Pages that say their path, and an echo."""
    if websocket.is_websocket(request):
        return websocket.open(request, echo)
    return websocket.Response(f"{request.method} {request.path}")


def of(answer: object) -> websocket.App:
    """An app that answers so."""

    async def app(request: websocket.Request) -> Any:
        return answer

    return app


def small_send_buffers(running: Running) -> None:
    """Let the system hold little of what is sent, so that what a client does not take is soon noticed."""
    listener = running.server._listener
    assert listener is not None
    listener.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # which accepted ones inherit


def protocol(running: Running) -> HTTPProtocol:
    """That of the only connection."""
    wait_until(lambda: len(running.server.connections) == 1)
    [connection] = running.server.connections
    assert isinstance(connection, HTTPProtocol)
    return connection


# ---------------------------------------------------------------------------------------------- requests


def test_a_connection_is_kept_from_request_to_request() -> None:
    with serving(app) as running, running.connect() as client:
        for path in ("/1", "/2", "/3"):
            answer = client.ask(path)
            assert (answer.status, answer.body) == (200, f"GET {path}".encode())


def test_pipelined_requests_are_answered_in_order() -> None:
    """RFC 9112 §9.3.2: "the corresponding responses" are sent "in the same order that the requests were received"."""

    async def app(request: websocket.Request) -> websocket.Response:
        await asyncio.sleep(0.02 if request.path == "/1" else 0)
        return websocket.Response(request.path)

    with serving(app) as running, running.connect() as client:
        client.write(get("/1") + get("/2") + get("/3"))
        assert [client.answer().body for _ in range(3)] == [b"/1", b"/2", b"/3"]


def test_requests_that_come_while_the_app_answers_wait_outside() -> None:
    released = asyncio.Event()

    async def app(request: websocket.Request) -> websocket.Response:
        await released.wait()
        return websocket.Response(request.path)

    with serving(app) as running, running.connect() as client:
        client.write(get("/1"))
        wait_until(lambda: protocol(running)._task is not None)
        client.write(get("/2") + get("/3"))
        wait_until(lambda: protocol(running)._paused)
        running.loop.call_soon_threadsafe(released.set)
        assert [client.answer().body for _ in range(3)] == [b"/1", b"/2", b"/3"]


def test_head_gets_the_length_and_no_body() -> None:
    with serving(app) as running, running.connect() as client:
        assert client.ask("/page", method="HEAD").headers["content-length"] == "10"
        assert client.ask("/page").body == b"GET /page"


def test_a_body_is_dropped_and_the_connection_kept() -> None:
    with serving(app) as running, running.connect() as client:
        client.write(get("/form", "Content-Length: 1000", method="POST") + bytes(1000))
        assert client.answer().body == b"POST /form"
        assert client.ask("/next").body == b"GET /next"


def test_a_client_that_sends_too_large_a_body_to_its_end_can_read_the_413() -> None:
    """Closing while it sends would reset the connection, and the answer be lost (RFC 9112 §9.6)."""
    with serving(app) as running, running.connect() as client:
        client.write(get("/form", f"Content-Length: {8 * MIB}", method="POST"))
        for _ in range(64):
            client.write(bytes(MIB // 8))
        assert client.answer().status == 413
        assert client.rest() == b""


def test_a_client_that_sends_on_after_the_last_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsadapter.streams.LINGER", 0.05)

    def send_on() -> None:
        while True:
            client.write(bytes(1000))

    with serving(app) as running, running.connect() as client:
        client.write(get("/", "Connection: close"))
        assert client.answer().status == 200
        with pytest.raises(ConnectionError):
            send_on()


def test_http_1_0_is_answered_and_closed() -> None:
    with serving(app) as running, running.connect() as client:
        assert client.ask("/old", version="1.0").body == b"GET /old"
        assert client.rest() == b""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (get("http://localhost/"), 400),
        (get("/page#part"), 400),
        (get("/", *["X: y"] * 100), 431),
        (get("/", "X: " + "x" * 17000), 431),
    ],
    ids=["malformed", "absolute", "fragment", "many-headers", "large-head"],
)
def test_what_is_no_request_for_us_is_answered(data: bytes, status: int) -> None:
    with serving(app) as running, running.connect() as client:
        client.write(data)
        assert client.answer().status == status


# ------------------------------------------------------------------------------------------------- time


def test_a_slow_head_is_answered_with_408() -> None:
    with serving(app, limits=Limits(handshake_timeout=0.05)) as running, running.connect() as client:
        client.write(b"GET / HTTP/1.1\r\n")
        assert client.answer().status == 408
        assert client.rest() == b""


def test_an_idle_connection_is_closed_in_silence() -> None:
    with serving(app, limits=Limits(handshake_timeout=0.05)) as running:
        with running.connect() as client:
            assert client.rest() == b""
        with running.connect() as client:
            assert client.ask().status == 200
            assert client.rest() == b""


def test_a_head_that_begins_late_has_its_time_from_its_first_byte() -> None:
    timeout = 0.3
    with serving(app, limits=Limits(handshake_timeout=timeout)) as running, running.connect() as client:
        time.sleep(timeout * 0.7)
        client.write(get()[:-2])
        time.sleep(timeout * 0.7)  # by now the connection has been there for longer
        client.write(b"\r\n")
        assert client.answer().status == 200


def test_an_app_may_take_longer_than_a_head() -> None:
    timeout = 0.05

    async def app(request: websocket.Request) -> websocket.Response:
        await asyncio.sleep(timeout * 3)
        return websocket.Response("at last")

    with serving(app, limits=Limits(handshake_timeout=timeout)) as running, running.connect() as client:
        assert client.ask().body == b"at last"


@pytest.mark.parametrize("handshake_timeout", [10.0, None], ids=["default", "no-idle-timeout"])
@pytest.mark.parametrize("lines", [(), ("Connection: close",)], ids=["kept", "last"])
def test_a_client_that_never_reads_its_response_is_cut(handshake_timeout: float | None, lines: tuple[str, ...]) -> None:
    limits = Limits(write_timeout=0.1, handshake_timeout=handshake_timeout)
    with serving(of(websocket.Response(bytes(8 * MIB))), limits=limits) as running:
        small_send_buffers(running)
        with running.connect(receive_buffer=4096) as client:
            client.write(get("/", *lines))
            protocol(running)
            wait_until(lambda: not running.server.connections)
            assert len(client.rest()) < 4 * MIB


@pytest.mark.parametrize("lines", [(), ("Connection: close",)], ids=["kept", "last"])
def test_a_client_that_reads_slowly_is_not_cut(lines: tuple[str, ...]) -> None:
    patience = 0.25
    limits = Limits(write_timeout=patience, handshake_timeout=0.05)
    with serving(of(websocket.Response(bytes(4 * MIB))), limits=limits) as running:
        small_send_buffers(running)
        with running.connect(receive_buffer=4096) as client:
            client.write(get("/", *lines))
            until = time.monotonic() + 3 * patience
            while time.monotonic() < until:
                client._fill()
                time.sleep(0.01)
            assert len(client.buffer) < 4 * MIB
            assert len(client.answer().body) == 4 * MIB


def test_without_a_timeout_a_client_may_take_any_time_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsadapter.streams.LINGER", 0.02)
    with serving(of(websocket.Response(bytes(4 * MIB))), limits=Limits(write_timeout=None)) as running:
        small_send_buffers(running)
        with running.connect(receive_buffer=4096) as client:
            client.write(get())
            time.sleep(0.2)
            assert len(client.answer().body) == 4 * MIB


def test_a_client_that_asks_and_asks_and_reads_nothing_is_not_answered_on_and_on() -> None:
    asked = 0

    async def app(request: websocket.Request) -> websocket.Response:
        nonlocal asked
        asked += 1
        return websocket.Response(bytes(MIB))

    with serving(app, limits=Limits(write_timeout=0.2)) as running:
        small_send_buffers(running)
        with running.connect(receive_buffer=4096) as client:
            client.write(get() * 500)
            protocol(running)
            wait_until(lambda: not running.server.connections)
    assert asked == 1


def test_a_client_that_asks_much_and_reads_it_gets_it_all() -> None:
    with serving(of(websocket.Response(bytes(MIB // 8)))) as running:
        small_send_buffers(running)
        with running.connect(receive_buffer=4096) as client:
            client.write(get() * 30)
            wait_until(lambda: protocol(running)._blocked)
            client.write(get() * 10)  # read once the client has caught up
            wait_until(lambda: protocol(running)._paused)
            for _ in range(40):
                assert len(client.answer().body) == MIB // 8


# -------------------------------------------------------------------------------------------------- apps


def raises(error: BaseException) -> websocket.App:
    async def app(request: websocket.Request) -> websocket.Response:
        raise error

    return app


def raises_in_a_thread(error: BaseException) -> websocket.App:
    def app(request: websocket.Request) -> websocket.Response:
        raise error

    return app


async def awaits_what_was_cancelled(request: websocket.Request) -> websocket.Response:
    future: asyncio.Future[websocket.Response] = asyncio.get_running_loop().create_future()
    future.cancel()
    return await future


@pytest.mark.parametrize(
    ("app", "logged"),
    [
        (raises(ValueError("a secret")), "a secret"),
        (raises_in_a_thread(ValueError("a secret")), "a secret"),
        (raises_in_a_thread(StopIteration("a secret")), "a secret"),
        (awaits_what_was_cancelled, "what the app awaited was cancelled"),
        (of(None), "the app returned None: it has to return a Response"),
        (of("a secret"), "it has to return a Response"),
        (of(websocket.Response(status=101)), "a 101 is what `open` returns"),
        (of(websocket.Response(headers=[("X", "a\nsecret: b")])), "cannot be a header"),
    ],
    ids=["raises", "raises-in-a-thread", "stops", "cancelled", "none", "text", "status", "header"],
)
def test_an_app_that_fails_answers_500_and_tells_the_log_alone(
    app: websocket.App, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(app) as running, running.connect() as client:
        answer = client.ask()
        assert answer.status == 500
        assert b"secret" not in answer.body
        assert client.ask().status == 500, "the connection is as good as before"
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert logged in caplog.text


def test_a_def_app_runs_in_a_thread_of_its_own_with_the_context_of_the_server() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("set")
    names: list[str] = []
    context = contextvars.copy_context()

    def app(request: websocket.Request) -> websocket.Response:
        names.append(threading.current_thread().name)
        assert threading.current_thread().daemon
        return websocket.Response(variable.get())

    async def main() -> None:
        async with websocket.Server(app, port=0) as server:
            client = await asyncio.to_thread(Client.connect, ("127.0.0.1", server.port))
            answer = await asyncio.to_thread(client.ask, "/page")
            assert answer.body == b"set"
            client.sock.close()

    context.run(asyncio.run, main())
    assert names == ["wsadapter '/page'"]


def test_a_def_app_may_return_what_is_to_be_awaited() -> None:
    """As a decorator's `def` around an `async def` does."""

    def app(request: websocket.Request) -> Awaitable[websocket.Response]:
        async def answer() -> websocket.Response:
            return websocket.Response(threading.current_thread().name)

        return answer()

    with serving(app) as running, running.connect() as client:
        assert not client.ask().body.startswith(b"wsadapter")


def test_def_apps_that_hang_keep_others_waiting_only_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsadapter.streams.APP_THREADS", 2)
    released = threading.Event()
    hanging = threading.Semaphore(0)

    def app(request: websocket.Request) -> websocket.Response:
        if request.path == "/hang":
            hanging.release()
            assert released.wait(PATIENCE)
        return websocket.Response()

    with serving(app) as running, running.connect() as a, running.connect() as b, running.connect() as c:
        a.write(get("/hang"))
        assert hanging.acquire(timeout=PATIENCE)
        assert b.ask().status == 200
        b.write(get("/hang"))
        assert hanging.acquire(timeout=PATIENCE)
        c.write(get())
        b.reset()  # which frees no thread
        c.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            c.answer()
        released.set()
        c.sock.settimeout(PATIENCE)
        assert c.answer().status == 200
        assert a.answer().status == 200


def test_where_the_system_has_no_thread_the_answer_is_500(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("wsadapter.streams.APP_THREADS", 1)
    with serving(lambda request: websocket.Response()) as running, running.connect() as client:
        with monkeypatch.context() as patch:
            patch.setattr("wsadapter.streams.threading.Thread.start", raises_in_a_thread(RuntimeError("no thread")))
            assert client.ask().status == 500
        assert client.ask().status == 200
    assert "no thread" in caplog.text


def test_a_def_app_that_outlives_its_loop_harms_nobody() -> None:
    released, asked, ended = threading.Event(), threading.Event(), threading.Event()

    def app(request: websocket.Request) -> websocket.Response:
        asked.set()
        assert released.wait(PATIENCE)
        threading.Timer(0.0, ended.set).start()
        return websocket.Response()

    with serving(app, limits=Limits(shutdown_timeout=0.05)) as running, running.connect() as client:
        client.write(get())
        assert asked.wait(PATIENCE)
    released.set()
    assert ended.wait(PATIENCE)


# ----------------------------------------------------------------------------------- clients that leave


def test_a_client_that_closes_its_side_after_the_request_is_answered() -> None:
    async def app(request: websocket.Request) -> websocket.Response:
        await asyncio.sleep(0.05)
        return websocket.Response("here")

    with serving(app) as running, running.connect() as client:
        client.write(get("/1") + get("/2"))
        client.write_eof()
        assert client.answer().body == b"here"
        assert client.answer().body == b"here"
        assert client.rest() == b""


def test_a_client_that_closes_inside_its_head_is_told_so() -> None:
    with serving(app) as running, running.connect() as client:
        client.write(get()[:-2])
        client.write_eof()
        assert client.answer().status == 400
        assert client.rest() == b""


def test_a_client_that_is_gone_is_answered_no_further() -> None:
    started, cancelled = threading.Event(), threading.Event()

    async def app(request: websocket.Request) -> websocket.Response:
        started.set()
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return websocket.Response()

    with serving(app) as running, running.connect() as client:
        client.write(get())
        assert started.wait(PATIENCE)
        client.reset()
        assert cancelled.wait(PATIENCE)
        wait_until(lambda: not running.server.connections)


def test_what_was_pipelined_by_a_client_that_is_gone_is_not_asked() -> None:
    asked: list[str] = []
    released = asyncio.Event()

    async def app(request: websocket.Request) -> websocket.Response:
        asked.append(request.path)
        await released.wait()
        return websocket.Response(bytes(MIB))

    with serving(app) as running, running.connect() as client:
        client.write(get("/1"))
        wait_until(lambda: asked == ["/1"])
        client.write(handshake("/2"))
        wait_until(lambda: protocol(running)._paused)  # so that the end is noticed by the write only
        client.reset()
        running.loop.call_soon_threadsafe(released.set)
        wait_until(lambda: not running.server.connections)
    assert asked == ["/1"]


# -------------------------------------------------------------------------------------------- upgrades


def test_a_page_and_then_a_websocket_come_over_one_connection() -> None:
    with serving(app) as running, running.connect() as client:
        assert client.ask("/page").body == b"GET /page"
        client.open("/chat")
        client.send("hello", b"\x00" * 100_000)
        assert client.read() == "hello"
        assert client.read() == b"\x00" * 100_000
        assert client.close(4000) == 4000


def test_a_refused_handshake_leaves_a_connection_for_pages() -> None:
    with serving(app) as running, running.connect() as client:
        client.write(handshake("/", "Origin: http://elsewhere.example"))
        assert client.answer().status == 403
        assert client.ask().status == 200


def test_a_header_that_the_view_adds_to_the_101_is_sent() -> None:
    async def app(request: websocket.Request) -> websocket.Response:
        response = websocket.open(request, echo, headers=[("X-Room", "1")])
        response.headers.append(("Set-Cookie", "seen=1"))
        return response

    with serving(app) as running, running.connect() as client:
        client.write(handshake())
        answer = client.answer()
        assert (answer.headers["x-room"], answer.headers["set-cookie"]) == ("1", "seen=1")


def test_a_view_may_make_a_page_of_its_websocket() -> None:
    async def app(request: websocket.Request) -> websocket.Response:
        response = websocket.open(request, echo)
        response.status = 418
        return response

    with serving(app) as running, running.connect() as client:
        client.write(handshake())
        assert client.answer().status == 418


def test_bytes_that_arrive_with_the_handshake_are_frames() -> None:
    """ "bytes that arrive with the handshake are frames and are not lost" """
    with serving(app) as running, running.connect() as client:
        client.open(early=client.frames("one", "two") + client.frames("three")[:3])
        client.write(b"")
        assert (client.read(), client.read()) == ("one", "two")


def test_frames_that_arrive_while_the_app_answers_are_not_lost_and_stay_within_the_inbox() -> None:
    """`Limits.inbox`: "Bytes of messages that may wait for the handler before reading from the peer pauses." """
    released, asked = asyncio.Event(), threading.Event()
    reading = asyncio.Event()

    async def handler(connection: Connection) -> None:
        await reading.wait()
        await echo(connection)

    async def app(request: websocket.Request) -> websocket.Response:
        asked.set()
        await released.wait()
        return websocket.open(request, handler, limits=Limits(inbox=1000))

    with serving(app) as running, running.connect() as client:
        client.write(handshake())
        assert asked.wait(PATIENCE)
        messages = [bytes([i]) * 50_000 for i in range(4)]
        client.write(client.frames(*messages))
        wait_until(lambda: protocol(running)._paused)
        running.loop.call_soon_threadsafe(released.set)
        assert client.answer().status == 101
        client.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):  # nothing is read any more, whatever the system holds
            client.write(client.frames(bytes(MIB)) * 64)
        [carrier] = running.server.connections
        assert isinstance(carrier, TransportCarrier)
        assert sum(map(len, carrier.messages)) < MIB
        client.sock.settimeout(PATIENCE)
        running.loop.call_soon_threadsafe(reading.set)
        for message in messages:
            assert client.read() == message


def test_a_client_that_closes_its_side_with_the_handshake_ends_the_reading() -> None:
    read: list[object] = []
    released = asyncio.Event()

    async def handler(connection: Connection) -> None:
        read.extend([await connection.read(), await connection.read(), connection.close_code])

    async def app(request: websocket.Request) -> websocket.Response:
        await released.wait()
        return websocket.open(request, handler)

    with serving(app) as running, running.connect() as client:
        client.write(handshake() + client.frames("last words"))
        client.write_eof()
        wait_until(lambda: protocol(running)._ended)
        running.loop.call_soon_threadsafe(released.set)
        client.rest()
        wait_until(lambda: not running.server.connections)
    assert read == ["last words", None, 1006]


# ------------------------------------------------------------------------------------------------- caps


def test_beyond_the_connections_of_a_server_the_answer_is_503() -> None:
    """`Limits.connections`"""
    with serving(app, limits=Limits(connections=1)) as running:
        with running.connect() as first:
            first.open()
            with running.connect() as second:
                second.write(handshake())
                assert second.answer().status == 503
                assert second.rest() == b""
            first.send("still here")
            assert first.read() == "still here"
            first.close()
        wait_until(lambda: not running.server.connections)
        with running.connect() as third:
            third.open()
            third.close()


def test_a_handler_that_outlives_its_client_takes_no_place() -> None:
    """`Limits.connections` bounds what is open."""
    end = threading.Event()

    async def deaf(connection: Connection) -> None:
        while not end.is_set():  # noqa: ASYNC110  another thread sets it
            await asyncio.sleep(0.01)

    async def app(request: websocket.Request) -> websocket.Response:
        return websocket.open(request, deaf if request.path == "/deaf" else echo)

    with serving(app, limits=Limits(connections=1)) as running:
        with running.connect() as first:
            first.open("/deaf")
        wait_until(lambda: not CONNECTIONS.taken)
        assert len(running.server.connections) == 1
        with running.connect() as second:
            second.open()
            second.close()
        end.set()


def test_beyond_the_websockets_of_a_process_the_answer_is_503() -> None:
    async def app(request: websocket.Request) -> websocket.Response:
        return websocket.open(request, echo, limits=Limits(connections=1))

    with serving(app) as running, running.connect() as first, running.connect() as second:
        first.open()
        second.write(handshake())
        answer = second.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "10")
        first.close()
        wait_until(lambda: len(running.server.connections) == 1)
        second.open()
        second.close()


def test_beyond_the_threads_of_a_process_the_answer_is_503() -> None:
    """`Limits.threads`"""

    def handler(connection: sync.Connection) -> None:
        for message in connection:
            connection.send(message)

    async def app(request: websocket.Request) -> websocket.Response:
        return websocket.open(request, handler)

    with serving(app, limits=Limits(threads=1)) as running, running.connect() as first, running.connect() as second:
        first.open()
        second.write(handshake())
        assert second.answer().status == 503
        first.close()
        wait_until(lambda: len(running.server.connections) == 1)
        second.open()
        second.send("a thread is free")
        assert second.read() == "a thread is free"
        second.close()


# -------------------------------------------------------------------------------------------- the log


def test_every_answer_has_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wsadapter.access")
    with serving(app) as running, running.connect() as client:
        client.ask("/page?token=secret")
        client.write(b"hello\r\n\r\n")
        client.answer()
        with running.connect() as other:
            other.open("/chat?token=secret")
            other.close()
    assert caplog.messages == [
        '127.0.0.1 "GET /page HTTP/1.1" 200',
        '127.0.0.1 "-" 400',
        '127.0.0.1 "GET /chat HTTP/1.1" 101',
    ]


# ---------------------------------------------------------------------------- somebody's start_server


@contextmanager
def start_server(
    app: websocket.App,
    limits: Limits | None = None,
    before: Callable[[], Awaitable[object]] | None = None,
    ended: Callable[[BaseException | None], object] = lambda error: None,
    **options: Any,
) -> Iterator[tuple[str, int]]:
    """*app* on `asyncio.start_server`; *before* is awaited before it, *ended* told how each connection ends."""
    addresses: list[tuple[str, int]] = []
    complaints: list[dict[str, Any]] = []
    ready, stops = threading.Event(), []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if before is not None:
                await before()
            await websocket.serve_stream(reader, writer, app, limits=limits)
        except asyncio.CancelledError:
            return  # which Python 3.11 cannot stand here
        except Exception as error:
            ended(error)
            raise
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass  # as those who use streams know, that tells how it was lost
        ended(None)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        stop = asyncio.Event()
        stops.append(lambda: loop.call_soon_threadsafe(stop.set))
        server = await asyncio.start_server(connected, "127.0.0.1", 0, **options)
        addresses.append(server.sockets[0].getsockname())
        ready.set()
        await stop.wait()
        server.close()

    with in_thread(lambda: asyncio.run(main())):
        try:
            assert ready.wait(PATIENCE)
            yield addresses[0]
        finally:
            stops[0]()
    assert not complaints


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_the_verbs_work_inside_start_server(tls: bool) -> None:
    ends: list[BaseException | None] = []
    options: dict[str, Any] = {"ssl": tls_server()} if tls else {}
    with start_server(app, ended=ends.append, **options) as address:
        with Client.connect(address, tls=tls) as client:
            assert client.ask("/page").body == b"GET /page"
            assert client.ask("/next").body == b"GET /next"
            client.open("/chat", early=client.frames("early"))
            client.send("hello")
            assert (client.read(), client.read()) == ("early", "hello")
            assert client.close() == 1000
        wait_until(lambda: ends == [None])


def test_inside_start_server_all_that_came_is_taken_over() -> None:
    """More than one read of the stream could be behind the handshake."""
    released: list[asyncio.Event] = []

    async def before() -> None:
        released.append(asyncio.Event())
        await released[0].wait()

    with start_server(app, before=before) as address, Client.connect(address) as client:
        messages = [bytes([i]) * 20_000 for i in range(5)]
        client.write(handshake() + client.frames(*messages))
        wait_until(lambda: bool(released))
        time.sleep(0.05)  # for the bytes to be in the reader, which nothing tells
        released[0]._loop.call_soon_threadsafe(released[0].set)  # type: ignore[attr-defined]
        assert client.answer().status == 101
        client.conversation.receive_data(client.buffer, 0.0)
        for message in messages:
            assert client.read() == message


def test_inside_start_server_a_client_that_says_nothing_is_closed_in_silence() -> None:
    with start_server(app, Limits(handshake_timeout=0.05)) as address, Client.connect(address) as client:
        assert client.rest() == b""


@pytest.mark.parametrize("delay", [0, 0.05], ids=["as-it-comes", "all-there"])
def test_inside_start_server_a_client_that_closes_its_side_is_answered(delay: float) -> None:
    with start_server(app, before=lambda: asyncio.sleep(delay)) as address:
        with Client.connect(address) as client:
            client.write(get("/page"))
            client.write_eof()
            assert client.answer().body == b"GET /page"
            assert client.rest() == b""
        with Client.connect(address) as client:
            client.write(get()[:-2])
            client.write_eof()
            assert client.answer().status == 400


@pytest.mark.parametrize("data", [b"", get()], ids=["silent", "asking"])
def test_inside_start_server_a_client_that_is_gone_is_no_error(data: bytes) -> None:
    ends: list[BaseException | None] = []
    here = threading.Event()

    async def before() -> None:
        here.set()
        await asyncio.sleep(0.05)

    with start_server(app, before=before, ended=ends.append) as address:
        with Client.connect(address) as client:
            client.write(data)
            assert here.wait(PATIENCE)
            client.reset()
        wait_until(lambda: ends == [None])


def test_inside_start_server_a_client_that_came_and_went_is_answered_or_not_but_over() -> None:
    """Its bytes and its end are both there before anybody looks."""
    ends: list[BaseException | None] = []

    async def before() -> None:
        await asyncio.sleep(0.05)

    with start_server(app, before=before, ended=ends.append) as address:
        with Client.connect(address) as client:
            client.write(get())
        wait_until(lambda: ends == [None])


def test_cancelling_cuts_what_start_server_began() -> None:
    tasks: list[asyncio.Task[None]] = []
    cancelled = threading.Event()

    async def before() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)

    async def handler(connection: Connection) -> None:
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def app(request: websocket.Request) -> websocket.Response:
        return websocket.open(request, handler)

    with start_server(app, before=before) as address, Client.connect(address) as client:
        client.open()
        tasks[0].get_loop().call_soon_threadsafe(tasks[0].cancel)
        client.rest()
        assert cancelled.wait(PATIENCE)


def test_what_is_no_app_is_said_before_anything_listens() -> None:
    with pytest.raises(TypeError, match="give a function from a request to a response"):
        websocket.Server("nope")  # type: ignore[arg-type]
