"""The hosts of the core under the conformance exam."""

from __future__ import annotations

import asyncio
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

import wsadapter.server as websocket
from wsadapter.conformance import Client, Conformance, View
from wsadapter.conformance.wire import frame
from wsadapter.frames import CLOSE, PING, PONG, TEXT
from wsadapter.upgrade import accept_key

Address = tuple[str, int]
App = Callable[[websocket.Request], websocket.Response]


def app_of(views: Mapping[str, View]) -> App:
    def app(request: websocket.Request) -> websocket.Response:
        view = views.get(request.path)
        if view is None:
            return websocket.Response("There is nothing at this address.\n", 404)
        return websocket.open(request, view.handler, **view.options)

    return app


@contextmanager
def on_a_loop(serve: Callable[[asyncio.Event, Callable[[Address], None]], Any]) -> Iterator[Address]:
    """Run *serve* on an event loop in a thread; it says its address, and ends at the event."""
    started: list[Address] = []
    ready = threading.Event()
    stops: list[Callable[[], object]] = []

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stops.append(partial(loop.call_soon_threadsafe, stop.set))

        def listening(address: Address) -> None:
            started.append(address)
            ready.set()

        await serve(stop, listening)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield started[0]
    finally:
        stops[0]()
        thread.join()


class TestServer(Conformance):
    """The embedded server, `async def` handlers."""

    @classmethod
    def serve(cls, views: Mapping[str, View]) -> Any:
        async def serve(stop: asyncio.Event, listening: Callable[[Address], None]) -> None:
            async with websocket.Server(app_of(views), port=0) as server:
                listening(("127.0.0.1", server.port))
                await stop.wait()

        return on_a_loop(serve)


class TestServerWithThreads(TestServer):
    """The embedded server, `def` handlers."""

    colour = "def"


class TestStreams(Conformance):
    """Somebody's `asyncio.start_server`."""

    @classmethod
    def serve(cls, views: Mapping[str, View]) -> Any:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await websocket.serve_stream(reader, writer, app_of(views))
            writer.close()
            await writer.wait_closed()

        async def serve(stop: asyncio.Event, listening: Callable[[Address], None]) -> None:
            server = await asyncio.start_server(connected, "127.0.0.1", 0)
            listening(server.sockets[0].getsockname())
            await stop.wait()
            server.close()

        return on_a_loop(serve)


class TestStreamsWithThreads(TestStreams):
    """Somebody's `asyncio.start_server`, `def` handlers."""

    colour = "def"


class TestThreads(Conformance):
    """Somebody's `socketserver` of threads: the blocking socket."""

    colour = "def"

    @classmethod
    @contextmanager
    def serve(cls, views: Mapping[str, View]) -> Iterator[Address]:
        app = app_of(views)

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                websocket.serve_socket(self.request, app)

        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            server.request_queue_size = 128
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield ("127.0.0.1", server.server_address[1])
            finally:
                server.shutdown()
                thread.join()


@contextmanager
def a_host_that_says(*frames: bytes) -> Iterator[tuple[Client, bytearray]]:
    """A client of a host that opens a WebSocket, says *frames* and hears what comes back until its end."""
    heard = bytearray()

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as host:
            head = b""
            while b"\r\n\r\n" not in head:
                head += host.recv(4096)
            key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0].decode()
            answer = f"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
            host.sendall(answer.encode())
            for said in frames:
                host.sendall(said)
            host.shutdown(socket.SHUT_WR)
            while data := host.recv(4096):
                heard.extend(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with Client(listener.getsockname(), "/") as client:
            yield client, heard
        thread.join()


def test_the_exams_client_puts_fragments_together_and_answers_pings_in_between() -> None:
    fragments = (
        frame(TEXT, b"a" * 70_000, fin=False, masked=False),
        frame(PING, b"?", masked=False),
        frame(0, b"b", masked=False),
    )
    with a_host_that_says(*fragments) as (client, heard):
        assert client.receive() == "a" * 70_000 + "b"
    assert heard[:2] == bytes((0x80 | PONG, 0x80 | 1))


def test_the_exams_client_says_what_came_in_place_of_a_message() -> None:
    with a_host_that_says(frame(CLOSE, masked=False)) as (client, _):
        with pytest.raises(AssertionError, match="a message was to come"):
            client.receive()
        with pytest.raises(EOFError):
            client.receive_frame()


def test_the_exams_client_says_what_came_in_place_of_a_close() -> None:
    said = a_host_that_says(frame(TEXT, b"a" * 200, masked=False))
    with said as (client, _), pytest.raises(AssertionError, match="a Close was to come"):
        client.receive_close()


def test_a_host_says_how_it_is_served() -> None:
    with pytest.raises(NotImplementedError, match="says how it is served"):
        Conformance.setup_class()
