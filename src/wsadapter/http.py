"""HTTP/1.1 as an embedded server needs it, with no socket and no clock: requests out, responses in.

h11 parses and writes. What is told here is what it leaves open: limits, deadlines, and which answer a head
that is slow, endless or malformed gets.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from typing import Final

import h11

from .errors import Refused
from .opening import Opening
from .options import Limits
from .policy import ExtraHeaders, header_pairs
from .request import Headers, Request
from .upgrade import accept_headers

__all__ = ["Exchange", "Response", "State", "host_of"]

BODY_SIZE: Final = 64 * 1024
"""The largest request body that is read, and dropped, before the answer."""


class Response:
    """What an app answers: a status, headers and a body of bytes, text or a file's content.

    The response that `open` returns has status 101 and no body.
    """

    __slots__ = ("body", "headers", "opening", "status")

    def __init__(
        self,
        body: str | bytes = b"",
        status: int = 200,
        *,
        content_type: str | None = None,
        headers: ExtraHeaders = (),
        opening: Opening | None = None,
    ) -> None:
        """A `str` body is plain text in UTF-8 unless *content_type* says otherwise."""
        if not isinstance(body, str | bytes):  # pyright: ignore[reportUnnecessaryIsInstance]  who calls may not be typed
            raise TypeError(f"the body of a response is str or bytes, not {type(body).__name__}")
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        if content_type is not None and isinstance(body, str) and content_type.startswith("text/"):
            content_type += "" if "charset" in content_type else "; charset=utf-8"
        if content_type is None and body:
            content_type = "text/plain; charset=utf-8" if isinstance(body, str) else "application/octet-stream"
        self.headers = [("Content-Type", content_type)] if content_type else []
        self.headers += header_pairs(headers)
        self.opening = opening
        """The WebSocket that this 101 begins."""

    def __repr__(self) -> str:
        return f"<Response {self.status}>"

    @classmethod
    def file(cls, path: str | Path) -> Response:
        """The content of the file at *path*, its type told by its name; 404 where there is none.

        The path is the program's: never make it of a request without checking where it leads.
        """
        kind, encoding = mimetypes.guess_type(str(path))
        if kind is None or encoding is not None:
            kind = "application/octet-stream"
        elif kind.startswith("text/"):
            kind += "; charset=utf-8"
        try:
            return cls(Path(path).read_bytes(), content_type=kind)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return cls("There is nothing at this address.\n", 404)

    @classmethod
    def refusal(cls, refused: Refused) -> Response:
        """The answer to a request that cannot become a WebSocket."""
        return cls(f"{refused}\n", refused.status, headers=refused.headers)

    def check(self) -> None:
        """Hold it against HTTP, before any of it is sent.

        Raises:
            ValueError: A status or a header that it cannot be sent with.
        """
        if not 200 <= self.status <= 599 and (self.status != 101 or self.opening is None):
            raise ValueError(f"{self!r}: the status of a response is from 200 to 599; a 101 is what `open` returns")
        for name, value in self.headers:
            if name.lower() in ("content-length", "transfer-encoding"):
                raise ValueError(f"{self!r}: {name} is set by the server")
            try:
                h11.Response(status_code=200, headers=_encode([(name, value)]))
            except (h11.LocalProtocolError, UnicodeEncodeError):
                raise ValueError(f"{self!r}: {name!a}: {value!a} cannot be a header") from None


class State(Enum):
    """Where one connection's HTTP is."""

    READING = "reading"
    """A request is awaited, or on its way."""
    ANSWERING = "answering"
    """A request is with the app."""
    CLOSED = "closed"
    """The last response is out: nothing more is read."""
    SWITCHED = "switched"
    """It is a WebSocket now."""


class Exchange:
    """One connection's requests and responses, in turn."""

    def __init__(self, *, limits: Limits, scheme: str, peer: str | None, now: float) -> None:
        self.state = State.READING
        self.request: Request | None = None
        """The one that is with the app."""
        self.peer = peer
        self._limits = limits
        self._scheme = scheme
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_size)
        self._waits_since = now
        self._begun = False  # some of a request has come
        self._head: h11.Request | None = None
        self._body_size = 0

    def receive_data(self, data: bytes, now: float) -> None:
        """Take what has arrived; empty at the end of what comes."""
        if self.state is not State.CLOSED:
            if data and not self._begun:
                self._begun = True
                self._waits_since = now
            self._h11.receive_data(data)

    def next_request(self) -> Request | None:
        """The next request that is there as a whole; None while it is not.

        Raises:
            Refused: It is malformed, too big, or not for us; `respond` to it, which closes.
        """
        if self.state is not State.READING:
            return None
        try:
            return self._next_request()
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == 431:
                raise self._head_too_big() from None
            self._begin_answer(None)
            raise Refused(error.error_status_hint, f"That is not HTTP/1.1: {str(error)!a}.") from None

    def _next_request(self) -> Request | None:
        size = len(self.trailing_data) if self._head is None else 0
        while True:
            match self._h11.next_event():
                case h11.Request() as head:
                    self._head = head
                    self._body_size = 0
                    if size - len(self.trailing_data) > self._limits.head_size:  # h11 lets it pass if it came at once
                        raise self._head_too_big()
                    if self._h11.they_are_waiting_for_100_continue:  # a body that would be dropped (RFC 9110 §10.1.1)
                        self._begin_answer(None)
                        raise Refused(417, "Send the body at once: nobody is told to continue here.")
                case h11.Data(data=data):
                    self._body_size += len(data)
                    if self._body_size > BODY_SIZE:
                        self._begin_answer(None)
                        raise Refused(413, "No request with so large a body is read here.")
                case h11.EndOfMessage():
                    assert self._head is not None
                    return self._read(self._head)
                case h11.ConnectionClosed():
                    self.state = State.CLOSED
                    return None
                case _:  # NEED_DATA and PAUSED
                    return None

    def _read(self, head: h11.Request) -> Request:
        request = Request.from_target(
            head.method.decode(),
            head.target.decode(),
            Headers(head.headers),
            scheme=self._scheme,
            peer=self.peer,
            http_version=head.http_version.decode(),
        )
        self._begin_answer(request)
        if len(request.headers) > self._limits.headers:
            raise Refused(431, f"A request may have {self._limits.headers} headers here.")
        if request.http_version not in ("1.0", "1.1"):
            raise Refused(505, "HTTP/1.1 is spoken here.")
        if request.method == "CONNECT":  # whose 2xx would make a tunnel of this
            raise Refused(501, "There is no proxy here.")
        if "transfer-encoding" in request.headers and "content-length" in request.headers:
            self.request = None  # so that it closes: one of the two hides another request (RFC 9112 §6.1)
            raise Refused(400, "A request has one length: Content-Length or Transfer-Encoding.")
        if not head.target.startswith(b"/") or b"#" in head.target:
            raise Refused(400, "The target of a request is a path here, such as /chat?room=1.")
        return request

    def _head_too_big(self) -> Refused:
        self._begin_answer(None)
        return Refused(431, f"The head of a request may have {self._limits.head_size} bytes here.")

    def _begin_answer(self, request: Request | None) -> None:
        self.request = request
        self.state = State.ANSWERING
        self._begun = False

    def switch(self, response: Response) -> bytes:
        """The 101 that ends HTTP here; what came behind the request is in `trailing_data`."""
        assert response.opening is not None
        headers = [*accept_headers(response.opening.request), *response.headers]
        self.state = State.SWITCHED
        lines = [f"{name}: {value}" for name, value in headers]  # which `check` has let pass
        return "\r\n".join(("HTTP/1.1 101 Switching Protocols", *lines, "", "")).encode("latin-1")

    @property
    def trailing_data(self) -> bytes:
        """What came behind the request that is being answered."""
        return self._h11.trailing_data[0]

    def respond(self, response: Response, now: float, *, keep_alive: bool = True) -> bytes:
        """The bytes of *response* to the current request; `state` tells whether another one may come."""
        head = self._head
        headers = [*response.headers, ("Date", formatdate(usegmt=True))]
        if any(name.lower() == "upgrade" for name, _ in response.headers):
            headers.append(("Connection", "Upgrade"))  # it goes with the other (RFC 9110 §7.8)
        if response.status not in (204, 304):
            headers.append(("Content-Length", str(len(response.body))))
        if not keep_alive or self.request is None:
            headers.append(("Connection", "close"))
        start = h11.Response(status_code=response.status, headers=_encode(headers), reason=_phrase(response.status))
        parts = [self._h11.send(start)]
        if response.body and not (head is not None and head.method == b"HEAD") and response.status not in (204, 304):
            parts.append(self._h11.send(h11.Data(data=response.body)))
        parts.append(self._h11.send(h11.EndOfMessage()))
        self.request = self._head = None
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            self.state = State.READING
        else:
            self.state = State.CLOSED
        self._waits_since = now
        self._begun = bool(self._h11.trailing_data[0])
        return b"".join(part for part in parts if part)

    def deadline(self) -> float | None:
        """When `on_time` is to be called; None: never."""
        timeout = self._limits.handshake_timeout
        if timeout is None or self.state in (State.ANSWERING, State.SWITCHED):
            return None
        return self._waits_since + timeout

    def on_time(self, now: float) -> None:
        """The deadline has come.

        Raises:
            Refused: 408, when a part of a request has come; `respond` to it.
        """
        deadline = self.deadline()
        if deadline is None or now < deadline:
            return
        if self.state is State.READING and self._begun:
            self._begin_answer(None)
            raise Refused(408, "The request took too long to arrive.")
        self.state = State.CLOSED


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def _encode(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def host_of(address: tuple[str, int] | tuple[str, int, int, int] | str | None) -> str | None:
    """The host of a socket's address; None for a Unix socket."""
    return address[0] if isinstance(address, tuple) else None
