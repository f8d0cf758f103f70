"""A server under test in a thread of its own, and a blocking client that speaks to it byte by byte.

Every wait is bounded by `PATIENCE`: what takes longer has failed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import wsadapter.server as websocket
from wsadapter import Limits
from wsadapter.conversation import Conversation
from wsadapter.receiver import Message

T = TypeVar("T")
Address = tuple[str, int] | str
"""Of a socket: host and port, or the path of a Unix socket."""

PATIENCE: Final = 10.0
CERTIFICATE: Final = Path(__file__).with_name("localhost.pem")
OPEN_ENDED: Final = Limits(
    message_size=None, inbox=2**40, outbox_hard=2**40, ping_interval=None, close_timeout=PATIENCE
)


def get(target: str = "/", *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    """A request, with *lines* of further headers."""
    return "\r\n".join((f"{method} {target} HTTP/{version}", "Host: localhost", *lines, "\r\n")).encode("latin-1")


def handshake(target: str = "/", *lines: str) -> bytes:
    """The request that asks for a WebSocket (RFC 6455 §4.1)."""
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    return get(target, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", key, *lines)


def tls_server() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def tls_client() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)  # which a bare self-signed certificate is not for
    return context


@dataclass(frozen=True)
class Answer:
    """What a server answered; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def parse(cls, head: bytes, body: bytes = b"") -> Self:
        start, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        version, status, _ = start.split(" ", 2)
        assert version == "HTTP/1.1"
        pairs = (line.partition(": ") for line in lines)
        return cls(int(status), {name.lower(): value for name, _, value in pairs}, body)


class Client:
    """A client on a blocking socket: HTTP byte by byte, and a WebSocket once `open` has been called."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        self.sock = sock
        self.buffer = b""
        self.conversation = Conversation(client=True, limits=OPEN_ENDED, now=0.0)

    @classmethod
    def connect(cls, address: Address, *, tls: bool = False, receive_buffer: int | None = None) -> Self:
        """A small *receive_buffer* makes a client that takes little without reading."""
        family = (
            socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        )
        sock = socket.socket(family)
        sock.settimeout(PATIENCE)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        if tls:
            sock = tls_client().wrap_socket(sock, server_hostname="localhost")
        return cls(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    # -------------------------------------------------------------------------------------------- HTTP

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def write_eof(self) -> None:
        """No more will come from here; what the server says is still read."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanish: the server sees the connection reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _fill(self) -> bytes:
        data = self.sock.recv(65536)
        self.buffer += data
        return data

    def answer(self, *, body: bool = True) -> Answer:
        """Read one response; ``body=False`` where it has none whatever its length says, as for HEAD."""
        while b"\r\n\r\n" not in self.buffer:
            assert self._fill(), f"the server closed after {self.buffer!r}"
        end = self.buffer.index(b"\r\n\r\n") + 4
        answer = Answer.parse(self.buffer[:end])
        size = int(answer.headers.get("content-length", "0")) if body else 0
        while len(self.buffer) < end + size:
            assert self._fill(), "the server closed inside a body"
        answer = Answer(answer.status, answer.headers, self.buffer[end : end + size])
        self.buffer = self.buffer[end + size :]
        return answer

    def ask(self, target: str = "/", *lines: str, method: str = "GET", version: str = "1.1") -> Answer:
        self.write(get(target, *lines, method=method, version=version))
        return self.answer(body=method != "HEAD")

    def rest(self) -> bytes:
        """What comes until the server closes, be it with a reset."""
        try:
            while self._fill():
                pass
        except (ConnectionError, ssl.SSLError):
            pass
        rest, self.buffer = self.buffer, b""
        return rest

    # --------------------------------------------------------------------------------------- WebSocket

    def open(self, target: str = "/", *lines: str, early: bytes = b"") -> Self:
        """Ask for a WebSocket, with the frames *early* behind the request, and have it."""
        self.write(handshake(target, *lines) + early)
        answer = self.answer()
        assert answer.status == 101, answer
        self.conversation.receive_data(self.buffer, 0.0)
        self.buffer = b""
        return self

    def send(self, *messages: Message) -> None:
        self.write(self.frames(*messages))

    def frames(self, *messages: Message) -> bytes:
        """*messages* as the bytes that would be sent."""
        for message in messages:
            self.conversation.send(message)
        return self.conversation.data_to_send()

    def read(self) -> Message | None:
        """The next message; None at the end, after which `close_code` tells which it was."""
        conversation = self.conversation
        while not conversation.messages:
            if conversation.settle() and conversation.closed:
                self.pump()
                return None
            self.pump()
            try:
                data = self.sock.recv(65536)
            except (ConnectionError, ssl.SSLError):
                data = b""
            if data:
                conversation.receive_data(data, 0.0)
            else:
                conversation.receive_eof(0.0)
        self.pump()
        return conversation.messages.popleft()

    def pump(self) -> None:
        """Send what the protocol has to say, such as pongs and the answer to a Close."""
        data = self.conversation.data_to_send()
        try:
            self.sock.sendall(data)
        except OSError:
            pass  # the server is gone already

    def close(self, code: int = 1000) -> int | None:
        """The closing handshake; returns the server's code."""
        self.conversation.close(0.0, code)
        assert self.read() is None
        return self.close_code

    @property
    def close_code(self) -> int | None:
        return self.conversation.close_code


class Running:
    """A server at work on its loop, in its thread."""

    def __init__(self, server: websocket.Server, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
        self.server = server
        self.loop = loop
        self._stop = stop

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.server.port)

    def connect(self, **how: Any) -> Client:
        return Client.connect(self.address, **how)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What *coroutine* returns on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    def stop(self) -> None:
        """Have it drain; the end of the ``with`` waits for that."""
        try:
            self.loop.call_soon_threadsafe(self._stop.set)
        except RuntimeError:
            pass  # it has, and its loop is closed


@contextmanager
def serving(app: websocket.App, host: str = "127.0.0.1", **options: Any) -> Iterator[Running]:
    """*app* on a `Server`. What its loop complains of is a failure."""
    found: list[Running] = []
    complaints: list[dict[str, Any]] = []
    ready = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        stop = asyncio.Event()
        async with websocket.Server(app, host, 0, **options) as server:
            found.append(Running(server, loop, stop))
            ready.set()
            await stop.wait()

    with in_thread(lambda: asyncio.run(main())):
        try:
            assert ready.wait(PATIENCE)
            yield found[0]
        finally:
            found[0].stop()
    assert not complaints


@contextmanager
def in_thread(call: Callable[[], object]) -> Iterator[threading.Thread]:
    """*call* in a thread, which has to end, and to end well, when the block has."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(PATIENCE)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def wait_until(done: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    until = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.001)
