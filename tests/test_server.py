"""The embedded server: where it listens, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wsadapter.server as websocket
from wsadapter import Connection, Limits, broadcast, sync

from .wire import PATIENCE, Client, get, handshake, serving, tls_server, wait_until


async def echo(connection: Connection) -> None:
    async for message in connection:
        await connection.send(message)


async def app(request: websocket.Request) -> websocket.Response:
    """Pages that say how they were asked for, and an echo."""
    if websocket.is_websocket(request):
        return websocket.open(request, echo)
    return websocket.Response(f"{request.scheme} {request.peer}")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def speaks(client: Client) -> bool:
    """Whether it gets its words back over a WebSocket."""
    client.open()
    client.send("hello")
    assert client.read() == "hello"
    return client.close() == 1000


# ------------------------------------------------------------------------------------------ where it is


def test_it_listens_while_the_block_runs() -> None:
    async def main() -> None:
        server = websocket.Server(app, port=0)
        with pytest.raises(AssertionError, match="not listening"):
            assert server.port
        async with server:
            address = ("127.0.0.1", server.port)
            assert server.url == f"http://127.0.0.1:{server.port}/"
            client = await asyncio.to_thread(Client.connect, address)
            assert (await asyncio.to_thread(client.ask)).body == b"http 127.0.0.1"
            client.sock.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(Client.connect, address)

    asyncio.run(main())


def test_a_port_that_is_taken_raises() -> None:
    async def main() -> None:
        async with websocket.Server(app, port=0) as server:
            with pytest.raises(OSError, match="in use"):
                async with websocket.Server(app, port=server.port):
                    raise AssertionError

    asyncio.run(main())


def test_a_server_that_never_listened_drains_at_once() -> None:
    asyncio.run(websocket.Server(app).drain())


@pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")
def test_it_listens_on_ipv6() -> None:
    with serving(app, "::1") as running:
        port = running.server.port
        assert running.server.url == f"http://[::1]:{port}/"
        with Client.connect(("::1", port)) as client:
            assert client.ask().body == b"http ::1"
            assert speaks(client)


def test_it_listens_on_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with serving(app, unix=path) as running, Client.connect(path) as client:
        assert running.server.url == f"unix:{path}"
        assert client.ask().body == b"http None"
        assert speaks(client)


def test_it_speaks_tls() -> None:
    with serving(app, ssl=tls_server()) as running, running.connect(tls=True) as client:
        assert running.server.url.startswith("https://127.0.0.1:")
        assert client.ask().body == b"https 127.0.0.1"
        assert speaks(client)


def test_over_tls_the_last_answer_is_read_to_its_end() -> None:
    async def app(request: websocket.Request) -> websocket.Response:
        return websocket.Response(bytes(2**20))

    with serving(app, ssl=tls_server()) as running, running.connect(tls=True) as client:
        assert len(client.ask("/", "Connection: close").body) == 2**20
        assert client.rest() == b""


def test_over_tls_a_client_that_leaves_while_the_app_answers_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    asked = threading.Event()

    async def app(request: websocket.Request) -> websocket.Response:
        asked.set()
        await asyncio.sleep(PATIENCE)
        return websocket.Response()

    with serving(app, ssl=tls_server()) as running:
        with running.connect(tls=True) as client:
            client.write(get())
            assert asked.wait(PATIENCE)
        wait_until(lambda: not running.server.connections)
    assert not caplog.records


def test_a_client_that_does_not_finish_its_tls_handshake_is_cut() -> None:
    with serving(app, ssl=tls_server(), limits=Limits(handshake_timeout=0.05)) as running:
        client = running.connect()
        assert client.rest() == b""
        client.sock.close()


# ------------------------------------------------------------------------------------------- how it ends


def test_draining_closes_open_websockets_with_1001_and_waits_for_their_handlers() -> None:
    """ "shutdown: no new sockets (503), reading ends, 1001 to all, a deadline" """
    ended: list[object] = []

    async def handler(connection: Connection) -> None:
        ended.append(await connection.read())
        await asyncio.sleep(0.05)
        ended.append("async")

    def blocking_handler(connection: sync.Connection) -> None:
        ended.append(connection.read())
        time.sleep(0.05)
        ended.append("def")

    async def app(request: websocket.Request) -> websocket.Response:
        return websocket.open(request, handler if request.path == "/async" else blocking_handler)

    with serving(app) as running, running.connect() as one, running.connect() as two:
        one.open("/async")
        two.open("/def")
        running.stop()
        for client in (one, two):
            assert client.read() is None
            assert client.close_code == 1001
    assert ended[:2] == [None, None]
    assert sorted(map(str, ended[2:])) == ["async", "def"]


def test_draining_closes_idle_connections_and_listens_no_longer() -> None:
    with serving(app) as running, running.connect() as client:
        address = running.address
        client.ask()
        running.call(running.server.drain())
        assert client.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            Client.connect(address)


def test_draining_lets_the_request_at_hand_be_answered() -> None:
    asked, released = threading.Event(), asyncio.Event()

    async def app(request: websocket.Request) -> websocket.Response:
        asked.set()
        await released.wait()
        return websocket.open(request, echo) if websocket.is_websocket(request) else websocket.Response("done")

    with serving(app) as running, running.connect() as page, running.connect() as socket_:
        page.write(get())
        assert asked.wait(PATIENCE)
        asked.clear()
        socket_.write(handshake())
        assert asked.wait(PATIENCE)
        running.stop()
        wait_until(lambda: running.server.draining)
        running.loop.call_soon_threadsafe(released.set)
        answer = page.answer()
        assert (answer.body, answer.headers["connection"]) == (b"done", "close")
        assert page.rest() == b""
        assert socket_.answer().status == 503, "no new WebSockets"


def test_a_connection_that_comes_while_draining_is_answered_with_503() -> None:
    with serving(app) as running:
        running.server.draining = True
        with running.connect() as client:
            client.write(get())
            answer = client.answer()
            assert (answer.status, b"shutting down" in answer.body) == (503, True)


def test_handlers_that_do_not_end_in_time_are_cancelled() -> None:
    """`Limits.shutdown_timeout`"""
    cancelled = threading.Event()
    released = threading.Event()

    async def handler(connection: Connection) -> None:
        try:
            await asyncio.sleep(PATIENCE * 10)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def blocking_handler(connection: sync.Connection) -> None:
        assert released.wait(PATIENCE)

    async def app(request: websocket.Request) -> websocket.Response:
        if not websocket.is_websocket(request):
            await asyncio.sleep(PATIENCE * 10)
        return websocket.open(request, handler if request.path == "/async" else blocking_handler)

    begun = time.monotonic()
    with (
        serving(app, limits=Limits(shutdown_timeout=0.1)) as running,
        running.connect() as one,
        running.connect() as two,
        running.connect() as page,
    ):
        one.open("/async")
        two.open("/def")
        page.write(get())
        wait_until(lambda: len(running.server.connections) == 3)
        running.stop()
        assert page.rest() == b""
        assert cancelled.wait(PATIENCE)
    assert time.monotonic() - begun < PATIENCE / 2
    released.set()


def test_draining_twice_at_once_ends_both() -> None:
    async def drain_twice(server: websocket.Server) -> None:
        await asyncio.gather(server.drain(), server.drain())

    with serving(app) as running, running.connect() as client:
        client.open()
        draining = asyncio.run_coroutine_threadsafe(drain_twice(running.server), running.loop)
        assert client.read() is None
        draining.result(PATIENCE)


def test_a_broadcast_reaches_all() -> None:
    room: set[Connection] = set()

    async def handler(connection: Connection) -> None:
        room.add(connection)
        async for message in connection:
            assert broadcast(room, message) == []

    async def app(request: websocket.Request) -> websocket.Response:
        return websocket.open(request, handler)

    with serving(app) as running, running.connect() as one, running.connect() as two:
        one.open()
        two.open()
        wait_until(lambda: len(room) == 2)
        one.send("to all")
        assert (one.read(), two.read()) == ("to all", "to all")


# ---------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_drains(number: signal.Signals) -> None:
    """ "SIGTERM and SIGINT drain" """
    before = signal.getsignal(number)
    seen: list[object] = []

    async def main() -> None:
        server = websocket.Server(app, port=0)
        loop = asyncio.get_running_loop()

        def visit() -> None:
            with Client.connect(("127.0.0.1", server.port)) as client:
                client.open()
                os.kill(os.getpid(), number)
                seen.extend([client.read(), client.close_code])

        visits: list[asyncio.Future[None]] = []
        await server.run(lambda server: visits.append(loop.run_in_executor(None, visit)))
        await visits[0]

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert seen == [None, 1001]
    assert signal.getsignal(number) is before


def test_a_second_signal_cuts() -> None:
    stubborn = threading.Event()
    seen: list[object] = []

    async def handler(connection: Connection) -> None:
        await connection.read()
        stubborn.set()
        await asyncio.sleep(PATIENCE * 10)

    async def app(request: websocket.Request) -> websocket.Response:
        return websocket.open(request, handler)

    async def main() -> None:
        server = websocket.Server(app, port=0, limits=Limits(shutdown_timeout=PATIENCE * 10))
        loop = asyncio.get_running_loop()

        def visit() -> None:
            with Client.connect(("127.0.0.1", server.port)) as client:
                client.open()
                os.kill(os.getpid(), signal.SIGTERM)
                assert stubborn.wait(PATIENCE)
                os.kill(os.getpid(), signal.SIGTERM)
                seen.append(client.read())

        visits: list[asyncio.Future[None]] = []
        await server.run(lambda server: visits.append(loop.run_in_executor(None, visit)))
        await visits[0]

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert seen == [None]


class Told(logging.Handler):
    """Calls when the log says something."""

    def __init__(self, call: Callable[[str], object]) -> None:
        super().__init__()
        self.call = call

    def emit(self, record: logging.LogRecord) -> None:
        self.call(record.getMessage())


def test_serve_returns_when_it_has_drained(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wsadapter")
    path = str(tmp_path / "socket")
    handler = Told(lambda message: os.kill(os.getpid(), signal.SIGTERM))
    logger = logging.getLogger("wsadapter")
    logger.addHandler(handler)
    try:
        websocket.serve(app, unix=path, limits=Limits(shutdown_timeout=1))
    finally:
        logger.removeHandler(handler)
    assert caplog.messages == [f"Listening on unix:{path}"]


def test_serve_raises_where_it_cannot_listen() -> None:
    before: Any = signal.getsignal(signal.SIGTERM)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        websocket.serve(app, port=taken.getsockname()[1])
    assert signal.getsignal(signal.SIGTERM) is before
