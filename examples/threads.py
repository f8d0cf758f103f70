"""The same verbs in a thread server of the standard library: one thread for each connection.

    python examples/threads.py --port 8000
"""

import argparse
import socketserver
from functools import partial
from typing import Any

import wsadapter.server as websocket
from wsadapter import Deflate, Limits
from wsadapter.sync import Connection


def echo(connection: Connection) -> None:
    for message in connection:
        connection.send(message)


def app(request: websocket.Request, **options: Any) -> websocket.Response:
    return websocket.open(request, echo, **options)


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        websocket.serve_socket(self.request, self.server.app)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, app):
        super().__init__(address, Handler)
        self.app = app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--compress", action="store_true")
    options = parser.parse_args()
    # As large as the test suites of the protocol send.
    limits = Limits(message_size=64 * 1024 * 1024, fragments=None)
    compression = Deflate() if options.compress else None
    with Server(("127.0.0.1", options.port), partial(app, compression=compression, limits=limits)) as server:
        print(f"Echoing on http://127.0.0.1:{server.server_address[1]}/. Ctrl-C stops.", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
