"""Serves an app on a blocking socket, and carries its blocking connections, for thread and greenlet servers.

There is no loop behind it: pings are answered, and a close is noticed, while one of the connection's verbs is
called and not otherwise. asyncio has `streams` and `transports` instead.
"""

from __future__ import annotations

import inspect
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final

from .app import checked, failure, log
from .capacity import CONNECTIONS, admit
from .conversation import Conversation, State
from .errors import Refused
from .handlers import run_blocking
from .http import Exchange, Response, host_of
from .http import State as HTTPState
from .kernel import unacknowledged
from .messages import Prepared
from .opening import Opening
from .options import Limits
from .receiver import Message
from .request import Request
from .sync import Connection

__all__ = ["SocketCarrier", "serve_socket"]

CHUNK: Final = 64 * 1024
"""Bytes that one read takes."""

LOOK: Final = 1.0
"""Seconds after which a send looks for what has come, too: a handler that only sends is to learn of a close."""

LINGER: Final = 2.0
"""Seconds for a client to read our last response and close."""


def serve_socket(sock: socket.socket, app: Callable[[Request], Response], *, limits: Limits | None = None) -> None:
    """Serve *app* on one connection of somebody's threads or greenlets, in this one, to its end.

    A `def` app and `def` handlers only: there is no event loop here. See `wsadapter.sockets` for what
    follows. The socket is closed at the end.
    """
    limits = limits or Limits()
    with sock:
        try:
            peer = host_of(sock.getpeername())
        except OSError:
            return  # the client is gone
        exchange = Exchange(
            limits=limits,
            scheme="https" if isinstance(sock, ssl.SSLSocket) else "http",
            peer=peer,
            now=time.monotonic(),
        )
        while exchange.state is not HTTPState.CLOSED:
            try:
                request = exchange.next_request()
                if request is None:
                    _receive_request(sock, exchange)
                    continue
                response = _ask(app, request)
                opening = response.opening
                if opening is not None and response.status == 101:
                    agreed = opening.limits or limits
                    admit(agreed, thread=False)
                    try:
                        log(exchange, 101)
                        early = exchange.trailing_data
                        _send(sock, exchange.switch(response), limits.write_timeout)
                        carrier = SocketCarrier(sock, opening, agreed, data=early)
                        connection = Connection(carrier, request, subprotocol=opening.subprotocol)
                        run_blocking(opening, connection)
                        carrier.finish()
                    finally:
                        CONNECTIONS.give_back()
                    return
            except Refused as refused:
                response = Response.refusal(refused)
            except OSError:
                return  # the client is gone
            log(exchange, response.status)
            try:
                _send(sock, exchange.respond(response, time.monotonic()), limits.write_timeout)
            except OSError:
                return
        _linger(sock)


def _receive_request(sock: socket.socket, exchange: Exchange) -> None:
    """Wait for more of a request."""
    at = exchange.deadline()
    try:
        sock.settimeout(None if at is None else max(0.001, at - time.monotonic()))
        exchange.receive_data(sock.recv(65536), time.monotonic())
    except TimeoutError:
        exchange.on_time(time.monotonic())


def _send(sock: socket.socket, data: bytes, timeout: float | None) -> None:
    """Send all of it to a client that takes some every *timeout* seconds; `sendall` has one timeout for the whole."""
    sock.settimeout(timeout)
    rest = memoryview(data)
    while rest:
        rest = rest[sock.send(rest[:CHUNK]) :]


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
        answer: object = app(request)
        if inspect.iscoroutine(answer):
            answer.close()
            raise TypeError("the app is an async def, and there is no event loop here: make it a def")
        response = checked(answer)
        if response.opening is not None and response.opening.asynchronous:
            raise TypeError("the handler is an async def, and there is no event loop here: make it a def")
        return response
    except Exception as error:  # noqa: BLE001  whatever an app raises is answered
        return failure(request, error)


class SocketCarrier:
    """A conversation on a socket, and the duties of a shell done by whoever calls.

    One thread at a time waits on the socket, for all; the others wait for it to tell them. The
    conversation itself is touched under the lock only.
    """

    def __init__(
        self, sock: socket.socket, opening: Opening, limits: Limits, *, client: bool = False, data: bytes = b""
    ) -> None:
        """*data* is what came behind the request."""
        sock.setblocking(False)
        self._socket = sock
        self._limits = limits
        self._unsent = b""  # taken from the conversation, and not by the network
        self._changed = threading.Condition()
        self._pumping = False  # a thread waits on the socket
        self._writing_out = False  # a thread of our own does what a broadcast does not wait for
        self._paused = False
        self._looked_at = time.monotonic()
        self._conversation = Conversation(
            client=client,
            limits=limits,
            now=time.monotonic(),
            deflate=opening.deflate,
            receive=opening.receive,
        )
        if data:
            self._conversation.receive_data(data, time.monotonic())

    # ----------------------------------------------------------------------- what the connection calls

    @property
    def open(self) -> bool:
        return self._conversation.state is State.OPEN

    @property
    def close_code(self) -> int | None:
        return self._conversation.close_code

    @property
    def close_reason(self) -> str | None:
        return self._conversation.close_reason

    @property
    def latency(self) -> float | None:
        return self._conversation.latency

    def read(self, timeout: float | None) -> Message | None:
        messages = self._conversation.messages
        with self._changed:
            if not messages:
                self._conversation.settle()
                if not self._serve_until(lambda: bool(messages) or not self.open, timeout):
                    raise TimeoutError(f"no message within {timeout} seconds")
            return messages.popleft() if messages else None

    def send(self, message: Message, compress: bool) -> None:
        with self._changed:
            self._conversation.send(message, compress=compress)
            if time.monotonic() - self._looked_at > LOOK:
                self._look()
            self._write_out()

    def send_prepared(self, prepared: Prepared) -> None:
        with self._changed:
            self._conversation.send_prepared(prepared)
            self._write()
            if self._unsent and not self._writing_out:
                self._writing_out = True
                threading.Thread(target=self._write_in_thread, name="wsadapter broadcast", daemon=True).start()

    def flush(self) -> None:
        with self._changed:
            self._look()
            self._conversation.check_open()
            self._write_out()

    def ping(self) -> float:
        answer: list[float] = []
        with self._changed:
            self._conversation.ping(time.monotonic(), answer.append)
            # Where unread messages fill the inbox nothing more is read, the answer neither.
            in_time = self._serve_until(lambda: bool(answer) or not self.open, self._limits.ping_timeout)
            if not answer:
                self._conversation.check_open()
        if not in_time:
            raise TimeoutError(f"no answer to the ping within {self._limits.ping_timeout} seconds")
        return answer[0]

    def close(self, code: int, reason: str) -> None:
        with self._changed:
            self._conversation.close(time.monotonic(), code, reason)
            self._serve_until(lambda: self._conversation.closed, None)

    def finish(self) -> None:
        """Close the socket once all is written, when the handler has ended and the conversation is closed."""
        with self._changed:
            conversation = self._conversation
            self._serve_until(lambda: conversation.aborted or not self._unsent, None)
            if conversation.lingers and not conversation.aborted:
                try:
                    self._socket.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # the peer is gone already
                self._serve_until(lambda: conversation.aborted, None)
            self._cut()  # or a thread that still waits on it would not learn of its end
        self._socket.close()

    # ------------------------------------------------------------------------------------- moving bytes
    # Everything below is called with the lock held.

    def _write_out(self) -> None:
        """Write, and wait until the network has taken it: nobody is sure to do so later."""
        self._write()
        if self._unsent:
            self._serve_until(lambda: not self._unsent or not self.open, None)
        self._conversation.check_open()

    def _write_in_thread(self) -> None:
        with self._changed:
            self._serve_until(lambda: not self._unsent or not self.open, None)
            self._writing_out = False

    def _look(self) -> None:
        """See what has come and what is due, without waiting."""
        self._looked_at = time.monotonic()
        if not self._pumping:
            if self._conversation.wants_data:
                self._read()
            self._conversation.on_time(self._looked_at)

    def _serve_until(self, done: Callable[[], bool], timeout: float | None) -> bool:
        """Serve the connection until *done*; False when it was not within *timeout* seconds, were there none.

        The lock is free while waiting.
        """
        conversation = self._conversation
        now = time.monotonic()
        give_up_at = None if timeout is None else now + timeout
        looked = False
        while True:
            self._write()
            if done():
                return True
            if give_up_at is not None and now >= give_up_at and looked:
                return False
            looked = True
            if not self._pumping:
                self._pumping = True
                hung_up = False
                try:
                    hung_up = self._wait(now, give_up_at, reading=True)
                finally:
                    self._pumping = False
                    self._changed.notify_all()
                if conversation.wants_data or hung_up:
                    self._read()
            elif self._unsent:
                self._wait(now, give_up_at, reading=False)
            else:
                self._changed.wait(self._patience(now, give_up_at))
            now = time.monotonic()
            conversation.on_time(now)
            if conversation.aborted:
                self._cut()

    def _patience(self, now: float, give_up_at: float | None) -> float | None:
        """Seconds until something is due."""
        times = [at for at in (self._conversation.deadline(), give_up_at) if at is not None]
        return max(0.0, min(times) - now) if times else None

    def _wait(self, now: float, give_up_at: float | None, *, reading: bool) -> bool:
        """Wait for the socket or the next deadline, the lock released. True when the peer has hung up.

        Then it is read to its end even if the inbox is full: no more will come, and there is nothing else to wait for.
        """
        conversation = self._conversation
        if self._paused is conversation.wants_data:
            self._paused = not self._paused
            if self._paused:
                conversation.pause()
            else:
                conversation.resume(now)
        events = select.POLLOUT if self._unsent else 0
        if reading and not self._paused:
            if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
                return False
            events |= select.POLLIN
        patience = self._patience(now, give_up_at)
        poller = select.poll()
        poller.register(self._socket, events)
        self._changed.release()
        try:
            # Rounded up, so as not to be back a moment too early.
            ready = poller.poll(None if patience is None else patience * 1000 + 1)
        finally:
            self._changed.acquire()
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in ready)

    def _read(self) -> None:
        conversation = self._conversation
        try:
            data = self._socket.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            conversation.receive_data(data, time.monotonic())
        else:
            self._lose()

    def _write(self) -> None:
        """Write what the network takes, and keep the rest."""
        conversation = self._conversation
        data = conversation.data_to_send()
        self._unsent = self._unsent + data if self._unsent else data
        while self._unsent and not conversation.aborted:
            try:
                sent = self._socket.send(self._unsent)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, InterruptedError):
                break
            except OSError:
                self._lose()
                break
            self._unsent = self._unsent[sent:]
        conversation.report_backlog(
            len(self._unsent), time.monotonic(), unacknowledged(self._socket) if self._unsent else 0
        )
        if not self.open:
            self._changed.notify_all()

    def _lose(self) -> None:
        conversation = self._conversation
        conversation.receive_eof(time.monotonic())
        conversation.aborted = True
        self._unsent = b""

    def _cut(self) -> None:
        """End the transport, which wakes every thread that waits on it."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended
