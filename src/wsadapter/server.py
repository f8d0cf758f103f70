"""The embedded server: an app, which is a function from request to response, on sockets of its own or yours.

    import wsadapter.server as websocket

    def app(request):
        return websocket.open(request, chat)

    websocket.serve(app)

Of HTTP it does what pages and WebSockets need, no more: whole responses, keep-alive, no request bodies.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl as tls
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from .app import App, is_websocket, open
from .http import Response
from .options import Limits
from .request import Request
from .sockets import serve_socket
from .streams import Host, HTTPProtocol, serve_stream

__all__ = ["App", "Request", "Response", "Server", "is_websocket", "open", "serve", "serve_socket", "serve_stream"]

logger = logging.getLogger("wsadapter")

BACKLOG: Final = 128
"""Connections that wait to be accepted, and that one turn of the loop accepts: where descriptors run out, asyncio
tries and logs each of them."""

LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(message)s"


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

    It logs to stderr, unless the program has set logging up.

    Raises:
        OSError: The address cannot be had; most often it is in use.
    """
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)  # nothing where the program has set it up
    asyncio.run(Server(app, host, port, ssl=ssl, unix=unix, limits=limits).run())


class Server(Host):
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
        super().__init__(app, limits)
        self._address = (host, port)
        self._ssl = ssl
        self._unix = unix
        self._listener: asyncio.Server | None = None

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
                self._protocol, *self._address, ssl=self._ssl, backlog=BACKLOG, ssl_handshake_timeout=timeout
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

        *started* is called when it listens; without it, the log says so. To be awaited in the main thread:
        signals go nowhere else.
        """
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number in signals:
            loop.add_signal_handler(number, stop.set)
        try:
            async with self:
                if started is None:
                    logger.info("Listening on %s", self.url)
                else:
                    started(self)
                await stop.wait()
                for number in signals:
                    loop.add_signal_handler(number, self.abort)
        finally:
            for number, before in signals.items():
                loop.remove_signal_handler(number)
                signal.signal(number, before or signal.SIG_DFL)

    async def drain(self) -> None:
        """Stop listening, answer what is being asked, close the WebSockets with 1001, and wait for the handlers.

        After `Limits.shutdown_timeout` those that still run are cancelled.
        """
        if self._listener is not None:
            self._listener.close()
        await self.end()

    def _protocol(self) -> HTTPProtocol:
        return HTTPProtocol(self)
