"""The same verbs inside an `asyncio.start_server` of your own, which keeps what else it does.

    python examples/streams.py --port 8000

Every message comes back at /echo; at / there is a page.
"""

import argparse
import asyncio

import wsadapter.server as websocket
from wsadapter import Connection


async def app(request: websocket.Request) -> websocket.Response:
    if request.path == "/echo":
        return websocket.open(request, echo)
    return websocket.Response("Open a WebSocket at /echo.\n")


async def echo(connection: Connection) -> None:
    async for message in connection:
        await connection.send(message)


async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await websocket.serve_stream(reader, writer, app)
    except asyncio.CancelledError:
        pass  # Ctrl-C; Python 3.11 would complain of it


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()

    server = await asyncio.start_server(connected, "127.0.0.1", options.port)
    print(f"Serving on http://127.0.0.1:{server.sockets[0].getsockname()[1]}/. Ctrl-C stops.", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
