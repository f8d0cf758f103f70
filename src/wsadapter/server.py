"""The embedded server: an app, which is a function from request to response, on sockets of its own or yours.

    import wsadapter.server as websocket

    def app(request):
        return websocket.open(request, chat)

    websocket.serve(app)

Of HTTP it does what pages and WebSockets need, no more: whole responses, keep-alive, no request bodies.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import signal
import socket
import ssl as tls
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, Unpack

from . import upgrade
from .capacity import CONNECTIONS, admit, connections_limit
from .errors import Refused
from .handlers import run_blocking
from .http import Exchange, Response, State
from .opening import Handler, Options, is_async, prepare
from .options import Limits
from .request import Request
from .sockets import SocketCarrier
from .sync import Connection as SyncConnection
from .transports import TransportCarrier

__all__ = ["App", "Request", "Response", "Server", "is_websocket", "open", "serve", "serve_socket", "serve_stream"]

App: TypeAlias = Callable[[Request], Response | Awaitable[Response]]
"""From request to response: an `async def`, or a `def`, which is called in a thread."""

LINGER: Final = 2.0
"""Seconds for a client to read our last response and close, before the connection is cut."""

APP_THREADS: Final = 32
"""Calls of a `def` app at once; they last as long as a page takes, no handler is among them."""

logger = logging.getLogger("wsadapter")
access = logging.getLogger("wsadapter.access")

is_websocket = upgrade.is_websocket


def open(request: Request, handler: Handler, **options: Unpack[Options]) -> Response:
    """Answer *request* with a WebSocket: the 101, or the refusal that says what is wrong.

    *handler* does not run here: it does once the response has been sent. The options are told in `Options`.

    Raises:
        TypeError, ValueError: *handler* or an option cannot be meant.
    """
    try:
        opening = prepare(request, handler, **options)
        upgrade.check(request)
    except Refused as refused:
        return Response.refusal(refused)
    return Response(status=101, headers=opening.headers, opening=opening)


def serve(
    app: App,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    ssl: tls.SSLContext | None = None,
    unix: str | None = None,
    limits: Limits | None = None,
) -> None:
    """Serve *app* until SIGTERM or SIGINT, then drain and return; see `Server` for the arguments.

    Raises:
        OSError: The address cannot be had; most often it is in use.
    """
    asyncio.run(Server(app, host, port, ssl=ssl, unix=unix, limits=limits).run())


class Server:
    """*app* served on an address, inside an event loop of yours.

    ``async with Server(app, port=0) as server`` listens while the block runs, and drains at its end: no new
    sockets, 1001 to all WebSockets, and `Limits.shutdown_timeout` for their handlers to end.
    """

    def __init__(
        self,
        app: App,
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        ssl: tls.SSLContext | None = None,
        unix: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        """*port* 0 takes a free one; *unix*, the path of a Unix socket, stands in for host and port.

        *limits* holds for the server, and for WebSockets that were opened with none of their own.
        """
        self.limits = limits or Limits()
        self.draining = False
        """No new WebSockets are opened."""
        self.connections: set[HTTPProtocol | TransportCarrier] = set()
        """All that are not over, whatever they are by now."""
        self._app: Callable[[Request], Any] = app
        self._app_is_async = is_async(app)
        self._address = (host, port)
        self._ssl = ssl
        self._unix = unix
        self._listener: asyncio.Server | None = None
        self._over: asyncio.Future[None] | None = None
        self._threads: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            OSError: The address cannot be had; most often it is in use.
        """
        loop = asyncio.get_running_loop()
        timeout = self.limits.handshake_timeout if self._ssl else None
        if self._unix is not None:
            self._listener = await loop.create_unix_server(
                self._protocol, self._unix, ssl=self._ssl, ssl_handshake_timeout=timeout
            )
        else:
            self._listener = await loop.create_server(
                self._protocol, *self._address, ssl=self._ssl, backlog=2048, ssl_handshake_timeout=timeout
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.drain()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._listener is not None, "the server is not listening"
        return int(self._listener.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Where it listens, as a browser would say it."""
        if self._unix is not None:
            return f"unix:{self._unix}"
        host = self._address[0]
        return f"http{'s' if self._ssl else ''}://{f'[{host}]' if ':' in host else host}:{self.port}/"

    async def run(self, started: Callable[[Server], None] | None = None) -> None:
        """Listen until SIGTERM or SIGINT, then drain; a second signal cuts that short.

        *started* is called when it listens. To be awaited in the main thread: signals go nowhere else.
        """
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, stop.set)
        try:
            async with self:
                logger.info("Listening on %s", self.url)
                if started is not None:
                    started(self)
                await stop.wait()
                for number in signals:
                    loop.add_signal_handler(number, self.abort)
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def drain(self) -> None:
        """Stop listening, answer what is being asked, close the WebSockets with 1001, and wait for the handlers.

        After `Limits.shutdown_timeout` those that still run are cancelled.
        """
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        for connection in tuple(self.connections):
            connection.shut_down()
        timer = asyncio.get_running_loop().call_later(self.limits.shutdown_timeout, self.abort)
        await self.wait()
        timer.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def wait(self) -> None:
        """Wait until no connection is left."""
        while self.connections:
            self._over = asyncio.get_running_loop().create_future()
            await self._over

    def abort(self) -> None:
        """Cut every connection, and cancel the handlers that still run."""
        for connection in tuple(self.connections):
            connection.abort()

    def take(self, connection: HTTPProtocol | TransportCarrier) -> None:
        """*connection* is one of ours."""
        self.connections.add(connection)

    def forget(self, connection: HTTPProtocol | TransportCarrier) -> None:
        """*connection* is over, or something else by now."""
        self.connections.discard(connection)
        if not self.connections and self._over is not None and not self._over.done():
            self._over.set_result(None)

    async def answer(self, request: Request) -> Response:
        """Ask the app; what it raises is logged, and answered by a 500 that tells nothing of it."""
        try:
            if self._app_is_async:
                response = await self._app(request)
            else:
                if self._threads is None:
                    self._threads = ThreadPoolExecutor(APP_THREADS, thread_name_prefix="wsadapter app")
                run = contextvars.copy_context().run
                response = await asyncio.get_running_loop().run_in_executor(self._threads, run, self._app, request)
                if inspect.isawaitable(response):
                    response = await response
            return _checked(response)
        except Exception as error:
            return _failure(request, error)

    def _protocol(self) -> HTTPProtocol:
        return HTTPProtocol(self)


class HTTPProtocol(asyncio.Protocol):
    """The HTTP of one asyncio transport, until it closes or becomes a WebSocket."""

    _transport: asyncio.Transport
    _exchange: Exchange

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._unsent = 0

    # ------------------------------------------------------------------------- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        server = self._server
        self._transport = transport
        self._exchange = Exchange(
            limits=server.limits,
            scheme="http" if transport.get_extra_info("sslcontext") is None else "https",
            peer=_host(transport.get_extra_info("peername")),
            now=self._loop.time(),
        )
        server.take(self)
        if server.draining or len(server.connections) > connections_limit(server.limits):
            self._respond(Response.refusal(Refused(503, "Too many connections are open here: try again later.")))
        self._arm()

    def data_received(self, data: bytes) -> None:
        self._exchange.receive_data(data, self._loop.time())
        if self._exchange.state is State.ANSWERING:
            self._paused = True  # what comes behind the request at hand is to wait outside
            self._transport.pause_reading()
        else:
            self._advance()

    def eof_received(self) -> bool:
        self._exchange.receive_data(b"", self._loop.time())
        self._advance()
        return self._task is not None  # the answer that is being made still goes out

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._server.forget(self)

    # ------------------------------------------------------------------------------ what the server calls

    def shut_down(self) -> None:
        """Close, once the request at hand is answered."""
        if self._task is None:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()

    # ------------------------------------------------------------------------------------------ answering

    def _advance(self) -> None:
        """Take the next request, if it is there."""
        try:
            request = self._exchange.next_request()
        except Refused as refused:
            self._respond(Response.refusal(refused))
            return
        if request is not None:
            self._task = self._loop.create_task(self._answer(request))
        elif self._exchange.state is State.CLOSED:
            self._transport.close()

    async def _answer(self, request: Request) -> None:
        server = self._server
        response = await server.answer(request)
        self._task = None
        opening = response.opening
        if opening is None or response.status != 101:
            self._respond(response)
            return
        limits = opening.limits or server.limits
        try:
            if server.draining:
                raise Refused(503, "The server is shutting down: try again later.")
            admit(limits, thread=not opening.asynchronous)
        except Refused as refused:
            self._respond(Response.refusal(refused))
            return
        _log(self._exchange, 101)
        early = self._exchange.trailing_data
        self._transport.write(self._exchange.switch(opening))
        carrier = TransportCarrier(opening, self._transport, limits=limits, over=server.forget)
        server.take(carrier)
        server.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        carrier.start(early)
        if self._paused:
            self._transport.resume_reading()

    def _respond(self, response: Response) -> None:
        exchange = self._exchange
        _log(exchange, response.status)
        self._transport.write(exchange.respond(response, self._loop.time(), keep_alive=not self._server.draining))
        if exchange.state is State.CLOSED:
            # The client may still be sending: were its bytes met by a reset, our answer could be lost.
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._arm()
        if exchange.state is State.READING:
            self._loop.call_soon(self._advance)  # a pipelined request may be there

    # ----------------------------------------------------------------------------------------------- time

    def _arm(self) -> None:
        """See that the timer rings at the next deadline."""
        at = self._exchange.deadline()
        if self._exchange.state is State.CLOSED:
            at = self._loop.time() + LINGER
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if at is None else self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        unsent = self._transport.get_write_buffer_size()
        if unsent and unsent != self._unsent:  # slow, but reading what we sent
            self._unsent = unsent
            self._timer = self._loop.call_later(self._server.limits.write_timeout or LINGER, self._ring)
        elif unsent or self._exchange.state is State.CLOSED:
            self._transport.abort()
        else:
            try:
                self._exchange.on_time(self._loop.time())
            except Refused as refused:
                self._respond(Response.refusal(refused))
            else:
                self._transport.close()


async def serve_stream(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, app: App, *, limits: Limits | None = None
) -> None:
    """Serve *app* on one connection of somebody's `asyncio.start_server`, to its end.

    The transport is taken over: *reader* and *writer* are of no use afterwards. Cancelling cuts it.
    """
    server = Server(app, limits=limits)
    transport = writer.transport
    streams = transport.get_protocol()
    try:
        async with asyncio.timeout(server.limits.handshake_timeout):
            data = await reader.read(server.limits.head_size)
    except TimeoutError:
        data = b""
    protocol = HTTPProtocol(server)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if data:
        protocol.data_received(data)
    else:
        transport.close()
    try:
        await server.wait()
    finally:
        server.abort()
        if streams is not None:
            streams.connection_lost(None)  # so that `writer.wait_closed()` ends


def serve_socket(sock: socket.socket, app: Callable[[Request], Response], *, limits: Limits | None = None) -> None:
    """Serve *app* on one connection of somebody's threads or greenlets, in this one, to its end.

    A `def` app and `def` handlers only: there is no event loop here. See `wsadapter.sockets` for what
    follows. The socket is closed at the end.
    """
    limits = limits or Limits()
    exchange = Exchange(
        limits=limits,
        scheme="https" if isinstance(sock, tls.SSLSocket) else "http",
        peer=_host(sock.getpeername()),
        now=time.monotonic(),
    )
    with sock:
        while exchange.state is not State.CLOSED:
            try:
                request = exchange.next_request()
                if request is None:
                    _receive(sock, exchange)
                    continue
                response = _ask(app, request)
                opening = response.opening
                if opening is not None and response.status == 101:
                    admit(limits, thread=False)
                    _log(exchange, 101)
                    early = exchange.trailing_data
                    sock.sendall(exchange.switch(opening))
                    carrier = SocketCarrier(sock, opening, opening.limits or limits, data=early)
                    try:
                        connection = SyncConnection(carrier, request, subprotocol=opening.subprotocol)
                        run_blocking(opening, connection)
                        carrier.finish()
                    finally:
                        CONNECTIONS.give_back()
                    return
            except Refused as refused:
                response = Response.refusal(refused)
            except OSError:
                return  # the client is gone
            _log(exchange, response.status)
            try:
                sock.settimeout(limits.write_timeout)
                sock.sendall(exchange.respond(response, time.monotonic()))
            except OSError:
                return
        _linger(sock)


def _receive(sock: socket.socket, exchange: Exchange) -> None:
    """Wait for more of a request."""
    at = exchange.deadline()
    try:
        sock.settimeout(None if at is None else max(0.001, at - time.monotonic()))
        exchange.receive_data(sock.recv(65536), time.monotonic())
    except TimeoutError:
        exchange.on_time(time.monotonic())


def _linger(sock: socket.socket) -> None:
    """Let the client read our last response and close, where it may still be sending."""
    try:
        sock.settimeout(LINGER)
        sock.shutdown(socket.SHUT_WR)
        until = time.monotonic() + LINGER
        while sock.recv(65536) and time.monotonic() < until:
            pass
    except OSError:
        pass


def _ask(app: Callable[[Request], Response], request: Request) -> Response:
    try:
        response = _checked(app(request))
        if response.opening is not None and response.opening.asynchronous:
            raise TypeError("the handler is an async def, and there is no event loop here: make it a def")
        return response
    except Exception as error:
        return _failure(request, error)


def _checked(response: object) -> Response:
    if not isinstance(response, Response):
        raise TypeError(f"the app returned {response!r}: it has to return a Response")
    return response


def _failure(request: Request, error: Exception) -> Response:
    logger.error("The app failed at %s", ascii(request.path), exc_info=error)
    return Response("The server made a mistake; it is in its log.\n", 500)


def _log(exchange: Exchange, status: int) -> None:
    """One line for one answer. The query is left out: it may hold a token."""
    if access.isEnabledFor(logging.INFO):
        request = exchange.request
        asked = "-" if request is None else f"{request.method} {request.path} HTTP/{request.http_version}"
        access.info("%s %s %d", exchange.peer or "-", ascii(asked).replace('"', r"\x22"), status)


def _host(address: Any) -> str | None:
    """The host of a socket's address; None for a Unix socket."""
    return address[0] if isinstance(address, tuple) and address else None
