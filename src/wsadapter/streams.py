"""Serves an app on asyncio transports: HTTP until a view returns a WebSocket, `transports` from then on."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, cast

from .app import App, checked, failure, log
from .capacity import CONNECTIONS, admit, connections_limit
from .errors import Refused
from .http import Exchange, Response, State, host_of
from .kernel import unacknowledged
from .opening import is_async
from .options import Limits
from .request import Request
from .transports import TransportCarrier, half_close

__all__ = ["HTTPProtocol", "Host", "serve_stream"]

logger = logging.getLogger("wsadapter")

LINGER: Final = 2.0
"""Seconds for a client to read our last response and close, before the connection is cut."""

APP_THREADS: Final = 32
"""Calls of a `def` app at once; they last as long as a page takes, no handler is among them."""


class Host:
    """What the connections of one app share: the app, the limits, and who is there."""

    def __init__(self, app: App, limits: Limits | None = None) -> None:
        if not callable(app):
            raise TypeError(f"app={app!r}: give a function from a request to a response")
        self.limits = limits or Limits()
        self.draining = False
        """No new WebSockets are opened."""
        self.connections: set[HTTPProtocol | TransportCarrier] = set()
        """All that are not over, whatever they are by now."""
        self.exchanges = 0
        """How many of them are HTTP; the transports of the others are counted by `CONNECTIONS`."""
        self._app: Callable[[Request], Any] = app
        self._app_is_async = is_async(app)
        self._alone = asyncio.Event()
        self._seats = asyncio.Semaphore(APP_THREADS)

    async def end(self) -> None:
        """Answer what is being asked, close the WebSockets with 1001, and wait for the handlers to end.

        After `Limits.shutdown_timeout` those that still run are cancelled.
        """
        self.draining = True
        for connection in tuple(self.connections):
            connection.shut_down()
        if self.connections:
            logger.info(
                "Stopping: %d connections have %g seconds to end", len(self.connections), self.limits.shutdown_timeout
            )
        timer = asyncio.get_running_loop().call_later(self.limits.shutdown_timeout, self.abort)
        try:
            await self.wait()
        finally:
            timer.cancel()

    async def wait(self) -> None:
        """Wait until no connection is left."""
        while self.connections:
            await self._alone.wait()

    def abort(self) -> None:
        """Cut every connection, and cancel the handlers that still run."""
        for connection in tuple(self.connections):
            connection.abort()

    def take(self, connection: HTTPProtocol | TransportCarrier) -> None:
        """*connection* is one of ours."""
        self.connections.add(connection)
        self._alone.clear()

    def forget(self, connection: HTTPProtocol | TransportCarrier) -> None:
        """*connection* is over, or something else by now."""
        self.connections.discard(connection)
        if not self.connections:
            self._alone.set()

    async def answer(self, request: Request) -> Response:
        """Ask the app; what it raises is logged, and answered by a 500 that tells nothing of it."""
        try:
            if self._app_is_async:
                response = await self._app(request)
            else:
                response = await self._ask_in_thread(request)
                if inspect.isawaitable(response):
                    response = await response
            return checked(response)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # the client is gone
            return failure(request, RuntimeError("what the app awaited was cancelled"))
        except Exception as error:  # noqa: BLE001  whatever an app raises is answered
            return failure(request, error)

    async def _ask_in_thread(self, request: Request) -> Any:
        """Call a `def` app in a daemon thread: one that hangs keeps no process from its end."""
        await self._seats.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

        def take(response: Any, error: BaseException | None) -> None:
            self._seats.release()
            if not answer.done():
                answer.set_result((response, error))

        def ask() -> None:
            response, error = None, None
            try:
                response = self._app(request)
            except BaseException as raised:  # noqa: BLE001  it is raised again on the loop
                error = raised
            try:
                loop.call_soon_threadsafe(take, response, error)
            except RuntimeError:
                pass  # the loop is closed, and nobody waits

        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(ask,), name=f"wsadapter {request.path!a}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more of them
            self._seats.release()
            raise
        response, error = await answer
        if error is not None:
            raise error
        return response


class HTTPProtocol(asyncio.Protocol):
    """The HTTP of one asyncio transport, until it closes or becomes a WebSocket."""

    _transport: asyncio.Transport
    _exchange: Exchange

    def __init__(self, host: Host) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False  # nothing is read: a request is with the app, or
        self._blocked = False  # the client is not taking our answers
        self._ended = False  # the client's side is
        self._unsent = 0  # bytes that the network had not taken when the timer was set

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
        host.exchanges += 1
        if host.draining:
            self._respond(Response.refusal(Refused(503, "The server is shutting down: try again later.")))
        elif host.exchanges + CONNECTIONS.taken > connections_limit(host.limits):
            self._respond(Response.refusal(Refused(503, "Too many connections are open here: try again later.")))
            self._transport.close()  # and no lingering: there is no room for it
        self._arm()

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange.state is State.CLOSED:
            return  # but read, so that our answer is, too
        exchange.receive_data(data, self._loop.time())
        if exchange.state is State.ANSWERING or self._blocked:
            self._paused = True  # what comes behind the request at hand is to wait outside
            self._transport.pause_reading()
        else:
            self._advance()

    def eof_received(self) -> bool:
        self._ended = True
        self._exchange.receive_data(b"", self._loop.time())
        self._advance()
        # The answer that is being made still goes out, but over TLS, which knows no half.
        return self._task is not None and self._transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._leave()

    def _leave(self) -> None:
        self._host.exchanges -= 1
        self._host.forget(self)

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._read_on()

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
        if self._transport.is_closing():
            return
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
        try:
            response = await self._host.answer(request)
            self._task = None
            if not self._transport.is_closing():  # else the client has gone, and the app did not mind being cancelled
                self._begin(response)
        except Exception:
            self._transport.abort()  # nobody would look after it any more
            raise

    def _begin(self, response: Response) -> None:
        """Send *response*, or make a WebSocket of it."""
        host = self._host
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
        self._transport.write(self._exchange.switch(response))
        carrier = TransportCarrier(opening, self._transport, limits=limits, over=host.forget)
        host.take(carrier)
        self._leave()
        if self._timer is not None:
            self._timer.cancel()
        if self._paused:
            self._transport.resume_reading()
        carrier.start(early)  # which may pause it again
        if self._ended:
            carrier.eof_received()

    def _respond(self, response: Response) -> None:
        exchange = self._exchange
        log(exchange, response.status)
        self._transport.write(exchange.respond(response, self._loop.time(), keep_alive=not self._host.draining))
        if exchange.state is State.CLOSED:
            # The client may still be sending: were its bytes met by a reset, our answer could be lost.
            half_close(self._transport)
        self._arm()
        self._read_on()

    def _read_on(self) -> None:
        """Read again, and take a pipelined request that is there: once there is an answer, and it is being taken."""
        state = self._exchange.state
        if state is State.ANSWERING or (state is State.READING and self._blocked):
            return
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if state is State.READING:
            self._loop.call_soon(self._advance)

    # ----------------------------------------------------------------------------------------------- time

    def _arm(self) -> None:
        """See that the timer rings at the next deadline: the client's to take what is sent, or to send."""
        at = self._exchange.deadline()
        self._unsent = self._untaken()
        if self._unsent:
            patience = self._host.limits.write_timeout
            at = self._loop.time() + (LINGER if patience is None else patience)
        elif self._exchange.state is State.CLOSED:
            at = self._loop.time() + LINGER
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if at is None else self._loop.call_at(at, self._ring)

    def _untaken(self) -> int:
        """Bytes of our answers that the client has not taken."""
        sock = self._transport.get_extra_info("socket")
        return self._transport.get_write_buffer_size() + unacknowledged(sock)

    def _ring(self) -> None:
        exchange = self._exchange
        if self._unsent:
            if self._untaken() == self._unsent and self._host.limits.write_timeout is not None:
                self._transport.abort()
            else:
                self._arm()  # slow, but reading what we sent
        elif exchange.state is State.CLOSED:
            self._transport.abort()
        else:
            try:
                exchange.on_time(self._loop.time())
            except Refused as refused:
                self._respond(Response.refusal(refused))
            else:
                self._advance()  # to the end, unless some of a request came meanwhile
                self._arm()


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
            data = await reader.read(sys.maxsize)  # all that is there
    except OSError:  # the time is over, or the client gone
        data = b""
    if not data or transport.is_closing():
        transport.close()
        return
    protocol = HTTPProtocol(host)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    protocol.data_received(data)
    if reader.at_eof() and not protocol.eof_received():
        transport.close()
    try:
        await host.wait()
    finally:
        host.abort()
        streams.connection_lost(None)  # so that `writer.wait_closed()` ends
