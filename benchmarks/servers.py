"""The echo servers that are compared, each started as ``python -m benchmarks.servers NAME PORT [--loop uvloop]``.

Every server is written the way its own documentation writes an echo, without compression, and with its defaults for
all else: limits, keepalive, buffers. A peer is imported by its own function, so that those which are installed run.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HOST = "127.0.0.1"
LOOPS = ("asyncio", "uvloop")


async def serve_tcp(port: int) -> None:
    """The bound: a bare asyncio protocol, which answers any request with a fixed 101 and sends back the bytes it gets.

    It looks at no frame, so its echoes are masked, which the load client has to be told. No WebSocket server in Python
    on the same event loop can be expected to be faster.
    """
    # The answer to the fixed key that the load client sends.
    switching_protocols = (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    # A buffered protocol, with one buffer for all: for any other, asyncio allocates 256 KiB anew for every read.
    buffer = memoryview(bytearray(256 * 1024))

    class Echo(asyncio.BufferedProtocol):
        transport: asyncio.Transport
        is_open = False

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.Transport", transport)  # uvloop's is none, but does what one does

        def get_buffer(self, sizehint: int) -> memoryview:
            return buffer

        def buffer_updated(self, nbytes: int) -> None:
            if not self.is_open:
                self.is_open = True
                self.transport.write(switching_protocols)
                return
            data = bytes(buffer[:nbytes])
            self.transport.write(data)
            if nbytes == 8 and data[0] == 0x88:  # a close frame with a code and nothing else
                self.transport.close()

    server = await asyncio.get_running_loop().create_server(Echo, HOST, port)
    await server.serve_forever()


async def serve_wsadapter(port: int) -> None:
    """Ours, with an ``async def`` handler."""
    # By name, and untyped, like every peer: the type checker need not have any of them.
    websocket: Any = importlib.import_module("wsadapter.server")

    async def echo(connection: Any) -> None:
        async for message in connection:
            connection.send(message)

    async def app(request: Any) -> Any:
        return websocket.open(request, echo)

    await websocket.Server(app, HOST, port).run()


async def serve_wsadapter_def(port: int) -> None:
    """Ours, with a blocking handler, which runs in a thread of its own for every connection."""
    websocket: Any = importlib.import_module("wsadapter.server")

    def echo(connection: Any) -> None:
        for message in connection:
            connection.send(message)

    async def app(request: Any) -> Any:
        return websocket.open(request, echo)

    await websocket.Server(app, HOST, port).run()


async def serve_websockets(port: int) -> None:
    """``websockets``, its asyncio server."""
    websockets: Any = importlib.import_module("websockets.asyncio.server")

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async with websockets.serve(echo, HOST, port, compression=None) as server:
        await server.serve_forever()


async def serve_aiohttp(port: int) -> None:
    """``aiohttp``'s WebSocketResponse."""
    web: Any = importlib.import_module("aiohttp.web")
    text = importlib.import_module("aiohttp").WSMsgType.TEXT

    async def echo(request: Any) -> Any:
        response = web.WebSocketResponse(compress=False)
        await response.prepare(request)
        async for message in response:
            if message.type is text:
                await response.send_str(message.data)
            else:
                await response.send_bytes(message.data)
        return response

    app = web.Application()
    app.router.add_get("/", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    await asyncio.Event().wait()


async def serve_picows(port: int) -> None:
    """``picows``, whose interface is a callback for each frame, written in Cython: no queue, no task, no ``await``."""
    picows: Any = importlib.import_module("picows")
    close = picows.WSMsgType.CLOSE

    class Echo(picows.WSListener):  # type: ignore[misc]  # its base is Any here
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == close:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_memoryview())

    server = await picows.ws_create_server(lambda request: Echo(), HOST, port)
    await server.serve_forever()


@dataclass(frozen=True)
class EchoServer:
    """One of the servers: what it is called, what has to be installed for it, and what holds for it alone."""

    name: str
    serve: Callable[[int], Awaitable[None]]
    module: str | None = None
    masked_replies: bool = False
    most_connections: int | None = None

    def missing(self) -> str | None:
        """The module that is needed and is not there."""
        return None if self.module is None or is_installed(self.module) else self.module


SERVERS = {
    server.name: server
    for server in (
        EchoServer("tcp", serve_tcp, masked_replies=True),
        EchoServer("wsadapter", serve_wsadapter, "wsadapter.server"),
        # A thread for each connection: at most 256 by default, and the next ones are refused.
        EchoServer("wsadapter-def", serve_wsadapter_def, "wsadapter.server", most_connections=200),
        EchoServer("websockets", serve_websockets, "websockets"),
        EchoServer("aiohttp", serve_aiohttp, "aiohttp"),
        EchoServer("picows", serve_picows, "picows"),
    )
}


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package that contains it
        return False


def raise_open_files_limit() -> int:
    """Allow as many open files as the system lets this process have, which children inherit; how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 20 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def settle_allocator() -> None:
    """Give every server the memory allocator of a process that has been running for a while.

    asyncio allocates 256 KiB for every read of a plain protocol. glibc asks the kernel for so much at a time, and gives
    it back at once, until a block of that size has been freed for the first time: before, a read costs several times as
    much. Whether that happens while a server is being imported is chance, and must not decide a comparison.
    """
    bytearray(1 << 20)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers", description="Run one echo server.")
    parser.add_argument("name", choices=SERVERS)
    parser.add_argument("port", type=int)
    parser.add_argument("--loop", choices=LOOPS, default="asyncio")
    arguments = parser.parse_args()

    raise_open_files_limit()
    settle_allocator()
    new_event_loop = importlib.import_module(arguments.loop).new_event_loop

    async def serve() -> None:
        await SERVERS[arguments.name].serve(arguments.port)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            runner.run(serve())
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
