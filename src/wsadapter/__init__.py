"""One WebSocket endpoint for every Python web app: an ordinary view returns a WebSocket."""

from .connection import Connection, Sent, broadcast
from .errors import (
    ConcurrencyError,
    ConnectionClosed,
    InvalidMessage,
    MessageTooBig,
    OutboxFull,
    ProtocolError,
    Refused,
    Unsupported,
    WebSocketError,
)
from .options import Deflate, Limits
from .request import Headers, Request

__all__ = [
    "ConcurrencyError",
    "Connection",
    "ConnectionClosed",
    "Deflate",
    "Headers",
    "InvalidMessage",
    "Limits",
    "MessageTooBig",
    "OutboxFull",
    "ProtocolError",
    "Refused",
    "Request",
    "Sent",
    "Unsupported",
    "WebSocketError",
    "__version__",
    "broadcast",
]

__version__ = "0.1.0.dev0"
