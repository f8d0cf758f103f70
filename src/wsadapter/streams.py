"""Serves an app on asyncio transports: HTTP until a view returns a WebSocket, `transports` from then on."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, cast

from .app import App, checked, failure, log
from .capacity import admit, connections_limit
from .errors import Refused
from .http import Exchange, Response, State, host_of
from .opening import is_async
from .options import Limits
from .request import Request
from .transports import TransportCarrier

__all__ = ["HTTPProtocol", "Host", "serve_stream"]

LINGER: Final = 2.0
"""Seconds for a client to read our last response and close, before the connection is cut."""

APP_THREADS: Final = 32
"""Calls of a `def` app at once; they last as long as a page takes, no handler is among them."""


class Host:
    """What the connections of one app share: the app, the limits, and who is there."""

    def __init__(self, app: App, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.draining = False
        """No new WebSockets are opened."""
        self.connections: set[HTTPProtocol | TransportCarrier] = set()
        """All that are not over, whatever they are by now."""
        self._app: Callable[[Request], Any] = app
        self._app_is_async = is_async(app)
        self._over: asyncio.Future[None] | None = None
        self._threads: ThreadPoolExecutor | None = None

    async def end(self) -> None:
        """Answer what is being asked, close the WebSockets with 1001, and wait for the handlers to end.

        After `Limits.shutdown_timeout` those that still run are cancelled.
        """
        self.draining = True
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
                context = contextvars.copy_context()
                response = await asyncio.get_running_loop().run_in_executor(
                    self._threads, lambda: context.run(self._app, request)
                )
                if inspect.isawaitable(response):
                    response = await response
            return checked(response)
        except Exception as error:  # noqa: BLE001  whatever an app raises is answered
            return failure(request, error)


class HTTPProtocol(asyncio.Protocol):
    """The HTTP of one asyncio transport, until it closes or becomes a WebSocket."""

    _transport: asyncio.Transport
    _exchange: Exchange

    def __init__(self, host: Host) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._unsent = 0

    # ------------------------------------------------------------------------- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        host = self._host
        self._transport = cast("asyncio.Transport", transport)  # which uvloop's is not a subclass of
        self._exchange = Exchange(
            limits=host.limits,
            scheme="http" if transport.get_extra_info("sslcontext") is None else "https",
            peer=host_of(transport.get_extra_info("peername")),
            now=self._loop.time(),
        )
        host.take(self)
        if host.draining or len(host.connections) > connections_limit(host.limits):
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
        self._host.forget(self)

    # -------------------------------------------------------------------------------- what the host calls

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
        host = self._host
        response = await host.answer(request)
        self._task = None
        opening = response.opening
        if opening is None or response.status != 101:
            self._respond(response)
            return
        limits = opening.limits or host.limits
        try:
            if host.draining:
                raise Refused(503, "The server is shutting down: try again later.")
            admit(limits, thread=not opening.asynchronous)
        except Refused as refused:
            self._respond(Response.refusal(refused))
            return
        log(self._exchange, 101)
        early = self._exchange.trailing_data
        self._transport.write(self._exchange.switch(opening))
        carrier = TransportCarrier(opening, self._transport, limits=limits, over=host.forget)
        host.take(carrier)
        host.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        carrier.start(early)
        if self._paused:
            self._transport.resume_reading()

    def _respond(self, response: Response) -> None:
        exchange = self._exchange
        log(exchange, response.status)
        self._transport.write(exchange.respond(response, self._loop.time(), keep_alive=not self._host.draining))
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
            self._timer = self._loop.call_later(self._host.limits.write_timeout or LINGER, self._ring)
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
    host = Host(app, limits=limits)
    transport = writer.transport
    streams = transport.get_protocol()
    try:
        async with asyncio.timeout(host.limits.handshake_timeout):
            data = await reader.read(host.limits.head_size)
    except TimeoutError:
        data = b""
    protocol = HTTPProtocol(host)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if data:
        protocol.data_received(data)
    else:
        transport.close()
    try:
        await host.wait()
    finally:
        host.abort()
        streams.connection_lost(None)  # so that `writer.wait_closed()` ends
