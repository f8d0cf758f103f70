"""Running a handler on its connection, in either colour, and what its end means to the peer.

Returning closes with 1000. Raising closes with 1011, is logged once, and tells the peer nothing. What its own
finished conversation raised ends a handler in silence: the peer went, and that is no error.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from .capacity import THREADS
from .connection import Connection
from .errors import ConnectionClosed, OutboxFull, WebSocketError
from .opening import Opening
from .options import Limits
from .sync import Connection as SyncConnection
from .sync import Inbox

__all__ = ["Session", "close_code", "run_blocking"]

logger = logging.getLogger("wsadapter")


class Session:
    """A handler at work on its connection, on an event loop; hosts start one once the handshake is done."""

    __slots__ = ("_disconnected", "_done", "_limits", "_opening", "_task", "connection", "ended")

    def __init__(self, opening: Opening, connection: Connection, limits: Limits, done: Callable[[], None]) -> None:
        """*done* is called on the loop when the handler has `ended`."""
        self.connection = connection
        self.ended = False
        self._limits = limits
        self._opening = opening
        self._done = done
        self._task: asyncio.Task[None] | None = None
        self._disconnected = False

    def start(self) -> None:
        """Run the handler: an `async def` as a task of this loop, a `def` in a thread of its own.

        `capacity.admit` must have let it in: the place of a thread is given back at its end.
        """
        opening = self._opening
        context = contextvars.copy_context() if opening.context is None else opening.context  # an empty one is false
        loop = asyncio.get_running_loop()
        if opening.asynchronous:
            self._task = loop.create_task(self._run(), context=context)
            self._task.add_done_callback(self._task_ended)
            return
        inbox = Inbox(self.connection, self._limits)
        connection = SyncConnection(inbox, opening.request, subprotocol=opening.subprotocol)
        thread = threading.Thread(
            target=context.run,
            args=(self._run_in_thread, connection),
            name=f"wsadapter {opening.request.path!a}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more of them
            THREADS.give_back()
            self.connection.close(close_code(error, self.connection, opening))
            self._end()

    def disconnect(self) -> None:
        """The peer has gone: cancel the handler, if it was opened so."""
        if self._opening.cancel_on_disconnect and self._task is not None:
            self._disconnected = True
            self._task.cancel()

    def cancel(self) -> None:
        """The time to end is over. A thread cannot be cancelled, and is waited for no longer."""
        if self._task is not None:
            self._task.cancel()
        elif not self.ended:
            self._end()

    async def _run(self) -> None:
        connection = self.connection
        code = 1000
        try:
            await self._opening.handler(connection)
        except asyncio.CancelledError:
            if not self._disconnected:
                raise
        except Exception as error:  # noqa: BLE001  whatever a handler raises ends its connection alone
            code = close_code(error, connection, self._opening)
        await connection.close(code)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        # Only what was cancelled, maybe before its first step, or ended by no Exception, has not closed by now.
        if task.cancelled():
            self.connection.close(1001, "the server is going away")
        else:
            self.connection.close(1011)
        self._end()

    def _run_in_thread(self, connection: SyncConnection) -> None:
        try:
            run_blocking(self._opening, connection)
        finally:
            THREADS.give_back()
            self.connection.post(self._end)

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self._done()


def run_blocking(opening: Opening, connection: SyncConnection) -> None:
    """Run a `def` handler in this thread, to its end and that of its connection."""
    code = 1011  # where SystemExit and the like go past us
    try:
        result = opening.handler(connection)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError(
                f"the handler {_name(opening.handler)} is a def that returned an awaitable: make it an"
                " async def, or mark it with inspect.markcoroutinefunction"
            )
        code = 1000
    except Exception as error:  # noqa: BLE001  whatever a handler raises ends its connection alone
        code = close_code(error, connection, opening)
    finally:
        connection.close(code)


def close_code(error: Exception, connection: object, opening: Opening) -> int:
    """What to close with after *error* ended a handler; logged, unless it is its own conversation's end."""
    if _is_own_end(error, connection):
        return 1000
    name, path = _name(opening.handler), ascii(opening.request.path)
    if isinstance(error, OutboxFull):  # one line: it is a peer's doing, who could fill the log with tracebacks
        logger.warning("The handler %s of %s was stopped: %s", name, path, error)
    else:
        logger.error("The handler %s of %s failed", name, path, exc_info=error)
    return error.close_code if isinstance(error, WebSocketError) else 1011


def _is_own_end(error: BaseException, connection: object) -> bool:
    if isinstance(error, BaseExceptionGroup):  # of a task group: silent if nothing else is in it
        parts = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return all(_is_own_end(part, connection) for part in parts)
    return isinstance(error, ConnectionClosed) and error.connection is connection


def _name(handler: Any) -> str:
    while isinstance(handler, partial):  # whose arguments may be secrets
        handler = handler.func
    return getattr(handler, "__qualname__", None) or type(handler).__qualname__
