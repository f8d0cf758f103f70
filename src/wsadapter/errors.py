"""Every exception of wsadapter; each one knows the close code or the HTTP status that it means.

WebSocketError
├── ConnectionClosed        sending on a conversation that is over; carries its code and reason
├── ProtocolError           the peer broke a rule; carries the code to close with
│   ├── MessageTooBig       it said more than `Limits` allows (1009)
│   └── InvalidMessage      what it said is not what it was read as (1007)
├── OutboxFull              the peer reads too slowly for what is being sent to it
├── ConcurrencyError        two readers at once: a mistake in the program
├── Unsupported             this host cannot do what was asked, and says which host it is
└── Refused                 the handshake was not one; carries the HTTP answer

Python's own `TypeError`, `ValueError` and `TimeoutError` stay what they are.
"""

from __future__ import annotations

__all__ = [
    "ConcurrencyError",
    "ConnectionClosed",
    "InvalidMessage",
    "MessageTooBig",
    "OutboxFull",
    "ProtocolError",
    "Refused",
    "Unsupported",
    "WebSocketError",
]


class WebSocketError(Exception):
    """The base of all: catch it, and you have every error that wsadapter raises of its own."""

    close_code: int = 1011
    """The code to close the connection with when this error ends its handler (RFC 6455 §7.4)."""

    status: int = 500
    """The HTTP status to answer with when this error is raised before the handshake."""


class ConnectionClosed(WebSocketError):
    """Something was sent, or a ping awaited, on a conversation that is over.

    Reading never raises it: reading ends. A handler need not catch it either: when it ends a
    handler by way of that handler's own connection, nobody is told. `connection` says whose it is.
    """

    def __init__(self, code: int, reason: str, connection: object = None) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.connection = connection

    def __str__(self) -> str:
        return f"the conversation is over: {self.code}" + (f" ({self.reason})" if self.reason else "")


class ProtocolError(WebSocketError):
    """The peer broke a rule of the protocol, or a limit; the connection is closed with `close_code`.

    It is never raised to a handler: reading ends.
    """

    status = 400

    def __init__(self, message: str, close_code: int = 1002) -> None:
        super().__init__(message)
        self.close_code = close_code


class MessageTooBig(ProtocolError):
    """A message is bigger, or in more pieces, than `Limits` allows."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 1009)


class InvalidMessage(ProtocolError):
    """A message's content is not what it was read as, such as JSON that is none."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 1007)


class OutboxFull(WebSocketError):
    """More than `Limits.outbox_hard` bytes wait for a peer that does not take them.

    The message was not queued. Await the sends, or `flush()`, to go at the peer's pace.
    """

    close_code = 1013


class ConcurrencyError(WebSocketError):
    """A second reader came while one was reading: which of them a message is for, nobody knows."""


class Unsupported(WebSocketError):
    """The host of this connection cannot do what was asked; the message names the host."""

    status = 501


class Refused(WebSocketError):
    """The request cannot become a WebSocket: the HTTP answer that says why and what to do.

    `status` and `headers` are for the response; ``str()`` of it is one plain sentence for its body.
    """

    def __init__(self, status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
