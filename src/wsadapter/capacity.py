"""How many WebSockets and handler threads this process has, and how many it may have."""

from __future__ import annotations

import threading

from .errors import Refused
from .options import Limits

__all__ = ["CONNECTIONS", "THREADS", "Capacity", "admit", "connections_limit"]


class Capacity:
    """A count that is taken from and given back to, from any thread."""

    def __init__(self) -> None:
        self.taken = 0
        self._lock = threading.Lock()

    def take(self, limit: int) -> bool:
        """Take one, unless *limit* are taken."""
        with self._lock:
            if self.taken >= limit:
                return False
            self.taken += 1
            return True

    def give_back(self) -> None:
        """Give one back."""
        with self._lock:
            self.taken -= 1


RETRY = (("Retry-After", "10"),)

CONNECTIONS = Capacity()
"""The open WebSockets of this process, on whatever host."""

THREADS = Capacity()
"""The `def` handlers at work in this process."""


def admit(limits: Limits, *, thread: bool) -> None:
    """Take the place of a WebSocket in this process, and that of a thread where its handler needs one.

    Whoever closes the transport gives the one back, whoever ends the thread the other.

    Raises:
        Refused: 503, when there is none.
    """
    if not CONNECTIONS.take(connections_limit(limits)):
        raise Refused(503, "Too many WebSockets are open here: try again later.", RETRY)
    if thread and not THREADS.take(limits.threads):
        CONNECTIONS.give_back()
        raise Refused(503, "Too many handlers are at work here: try again later.", RETRY)


def connections_limit(limits: Limits) -> int:
    """`Limits.connections`, or 80 % of the file descriptors that the system allows this process."""
    if limits.connections is not None:
        return limits.connections
    try:
        import resource  # not on Windows
    except ImportError:
        return 8192 * 8 // 10
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1_000_000 if soft == resource.RLIM_INFINITY else soft * 8 // 10
