"""The way into an event loop from other threads: calls go in by one door, in order, woken once for many."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["Door"]


class Door:
    """Calls to be made on one event loop, from any thread and in the order they came."""

    __slots__ = ("_calls", "_lock", "_loop", "_open", "size")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.size = 0
        """Bytes on the way in, as told by `post`."""
        self._loop = loop
        self._lock = threading.Lock()
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...], int]] = deque()
        self._open = False  # the loop has been told to come and look

    def post(self, call: Callable[..., object], *args: Any, size: int = 0) -> bool:
        """Have the loop make *call* soon. False when the loop is closed, and nobody will."""
        with self._lock:
            self._calls.append((call, args, size))
            self.size += size
            if self._open and not self._loop.is_closed():
                return True
            self._open = True
        try:
            self._loop.call_soon_threadsafe(self._let_in)
        except RuntimeError:  # the loop is closed
            with self._lock:
                self._calls.clear()
                self.size = 0
            return False
        return True

    def _let_in(self) -> None:
        with self._lock:
            self._open = False
            calls, self._calls = self._calls, deque()
        for call, args, size in calls:
            try:
                call(*args)
            except Exception as error:  # noqa: BLE001  it must not keep the others out
                message = f"{call!r}, which another thread asked for, failed"
                self._loop.call_exception_handler({"message": message, "exception": error})
            with self._lock:
                self.size -= size  # it has been on the way until now
