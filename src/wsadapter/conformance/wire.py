"""A raw client: what the exam says is exactly what goes over the wire, right or wrong."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterable
from struct import pack, unpack
from types import TracebackType
from typing import NamedTuple, Self

from wsadapter.frames import BINARY, CLOSE, PING, PONG, TEXT, apply_mask
from wsadapter.request import Headers
from wsadapter.upgrade import accept_key

__all__ = ["Client", "Frame", "frame"]

TIMEOUT = 10.0
"""Seconds that any one answer may take."""


class Frame(NamedTuple):
    """One frame as it came (RFC 6455 §5.2)."""

    opcode: int
    payload: bytes
    fin: bool = True
    compressed: bool = False


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True) -> bytes:
    """A frame as a client sends it."""
    flag, size = 0x80 if masked else 0, len(payload)
    head = bytes((opcode | (0x80 if fin else 0),))
    if size < 126:
        head += pack("!B", flag | size)
    elif size < 65536:
        head += pack("!BH", flag | 126, size)
    else:
        head += pack("!BQ", flag | 127, size)
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + apply_mask(payload, key)


class Client:
    """One connection, its opening request sent and its answer read.

    `status`, `headers` and `body` are the answer; after a 101, `send` and `receive` speak frames.
    """

    def __init__(
        self,
        address: tuple[str, int],
        target: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        without: Iterable[str] = (),
        method: str = "GET",
        early: bytes = b"",
        receive_buffer: int | None = None,
    ) -> None:
        """*headers* come beside those of a good request, *without* leaves some of those out; *early* is sent
        right behind the request; *receive_buffer* makes a slow reader of the socket."""
        self._data = b""
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(TIMEOUT)
        self._socket.connect(address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        usual = {
            "Host": f"{address[0]}:{address[1]}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Version": "13",
        }
        lines = [f"{name}: {value}" for name, value in usual.items() if name not in set(without)]
        lines += [f"{name}: {value}" for name, value in headers]
        request = "\r\n".join((f"{method} {target} HTTP/1.1", *lines, "", ""))
        self._socket.sendall(request.encode("latin-1") + early)
        self._read_answer()
        if self.status == 101:
            assert self.headers.get("sec-websocket-accept") == accept_key(key), "the 101 answers another key"

    def _read_answer(self) -> None:
        while b"\r\n\r\n" not in self._data:
            self._receive_more()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        status, *fields = head.decode("latin-1").split("\r\n")
        self.status = int(status.split(" ")[1])
        self.headers = Headers((name, value) for name, _, value in (field.partition(":") for field in fields))
        self.body = b""
        if self.status != 101:
            self.body = self._exactly(int(self.headers.get("content-length") or 0))

    def send(self, message: str | bytes) -> None:
        """Send a message in one frame."""
        text = isinstance(message, str)
        self.send_frames(frame(TEXT if text else BINARY, message.encode() if isinstance(message, str) else message))

    def send_frames(self, *frames: bytes) -> None:
        """Send bytes as they are, in one write."""
        self._socket.sendall(b"".join(frames))

    def receive(self) -> str | bytes:
        """Receive a message; a Close or the end in its place is a failure."""
        got = self.receive_frame()
        pieces = [got.payload]
        assert got.opcode in (TEXT, BINARY), f"a message was to come, and {got} came"
        opcode = got.opcode
        while not got.fin:
            got = self.receive_frame()
            pieces.append(got.payload)
        payload = b"".join(pieces)
        return payload.decode() if opcode == TEXT else payload

    def receive_frame(self) -> Frame:
        """Receive the next frame, keepalive pings answered and passed over; no more bytes raise EOFError."""
        while True:
            first, second = self._exactly(2)
            assert not second & 0x80, "a server does not mask (RFC 6455 §5.1)"
            size = second & 0x7F
            if size > 125:
                (size,) = unpack("!H" if size == 126 else "!Q", self._exactly(2 if size == 126 else 8))
            got = Frame(first & 0x0F, self._exactly(size), bool(first & 0x80), bool(first & 0x40))
            if got.opcode != PING:
                return got
            self.send_frames(frame(PONG, got.payload))

    def receive_close(self) -> tuple[int, str]:
        """Receive a Close: its code, 1005 where it has none, and its reason."""
        got = self.receive_frame()
        assert got.opcode == CLOSE, f"a Close was to come, and {got} came"
        if not got.payload:
            return 1005, ""
        return unpack("!H", got.payload[:2])[0], got.payload[2:].decode()

    def close(self, code: int = 1000, reason: str = "") -> tuple[int, str]:
        """The closing handshake: send a Close, and return the one that answers it."""
        self.send_frames(frame(CLOSE, pack("!H", code) + reason.encode()))
        return self.receive_close()

    def wait_for_end(self) -> bytes:
        """Receive until the server closes the transport: what came until then."""
        while True:
            try:
                self._receive_more()
            except (EOFError, ConnectionError):
                return self._data

    def end(self) -> None:
        """Say that no more will come, and go on receiving."""
        self._socket.shutdown(socket.SHUT_WR)

    def drop(self) -> None:
        """Vanish: no Close, and a reset in place of an orderly end."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        pieces = [self._data]
        have = len(self._data)
        while have < size:
            piece = self._socket.recv(1 << 16)
            if not piece:
                raise EOFError("the server closed the connection")
            pieces.append(piece)
            have += len(piece)
        data = b"".join(pieces)
        self._data = data[size:]
        return data[:size]

    def _receive_more(self) -> None:
        data = self._socket.recv(1 << 16)
        if not data:
            raise EOFError("the server closed the connection")
        self._data += data
