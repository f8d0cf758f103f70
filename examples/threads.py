"""The same verbs in a thread server of the standard library: one thread for each connection.

    python examples/threads.py --port 8000

Every message comes back, on any path. There is no event loop: pings are answered, and a close is noticed, while
one of the connection's verbs is called. `--compress` agrees to permessage-deflate.
"""

import argparse
import socketserver
from collections.abc import Callable

import wsadapter.server as websocket
from wsadapter import Deflate, Limits
from wsadapter.sync import Connection

App = Callable[[websocket.Request], websocket.Response]


def echo(connection: Connection) -> None:
    for message in connection:
        connection.send(message)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True  # an open WebSocket does not keep the process
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], app: App) -> None:
        self.app = app
        super().__init__(address, Handler)


class Handler(socketserver.BaseRequestHandler):
    server: Server

    def handle(self) -> None:
        websocket.serve_socket(self.request, self.server.app)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--compress", action="store_true")
    options = parser.parse_args()

    compression = Deflate() if options.compress else None
    limits = Limits(message_size=64 * 1024 * 1024, fragments=None)  # as large as those who test clients send

    def app(request: websocket.Request) -> websocket.Response:
        return websocket.open(request, echo, compression=compression, limits=limits)

    with Server(("127.0.0.1", options.port), app) as server:
        print(f"Echoing on http://127.0.0.1:{server.server_address[1]}/. Ctrl-C stops.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
