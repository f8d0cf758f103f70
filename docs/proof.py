"""What the hidden blocks of these pages prove the visible ones with. No page needs it to be understood."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import wsadapter.server as websocket
from wsadapter.conformance import Client

DOCS = Path(__file__).parent
HANDSHAKE = ("Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version")


class Site:
    """An address that is served."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.origin = f"http://{address[0]}:{address[1]}"

    def connect(self, target: str, **how: Any) -> Client:
        """Ask for a WebSocket."""
        return Client(self.address, target, **how)

    def get(self, target: str, **how: Any) -> Client:
        """Ask for a page."""
        with Client(self.address, target, without=HANDSHAKE, **how) as client:
            return client


@contextmanager
def loop_in_thread(main: Callable[[asyncio.Event, Callable[[tuple[str, int]], None]], Any]) -> Iterator[Site]:
    """Run *main* in a loop of another thread; it says its address, and ends at the event."""
    told: list[tuple[str, int]] = []
    ready = threading.Event()
    stops: list[Callable[[], object]] = []

    def listening(address: tuple[str, int]) -> None:
        told.append(address[:2])
        ready.set()

    async def run() -> None:
        stop = asyncio.Event()
        stops.append(partial(asyncio.get_running_loop().call_soon_threadsafe, stop.set))
        await main(stop, listening)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert ready.wait(10), "the server did not start"
    try:
        yield Site(told[0])
    finally:
        stops[0]()
        thread.join()


@contextmanager
def serving(app: websocket.App, **options: Any) -> Iterator[Site]:
    """Serve *app* on the embedded server."""

    async def main(stop: asyncio.Event, listening: Callable[[tuple[str, int]], None]) -> None:
        async with websocket.Server(app, port=0, **options) as server:
            listening(("127.0.0.1", server.port))
            await stop.wait()

    with loop_in_thread(main) as site:
        yield site


@contextmanager
def logged(name: str = "wsadapter", level: int = logging.INFO) -> Iterator[list[str]]:
    """What the logger *name* says meanwhile."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(name)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def page(name: str) -> str:
    """The text of a page, without its hidden blocks."""
    return re.sub(r"<!---.*?-->", "", (DOCS / name).read_text("utf-8"), flags=re.DOTALL)


def table(name: str, first: str) -> list[list[str]]:
    """The rows of the tables of page *name* whose first heading is *first*, code marks taken off."""
    rows: list[list[str]] = []
    inside = False
    for line in page(name).splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[0] == first:
            inside = True
        elif inside and not re.fullmatch(r":?-+:?", cells[0]):
            rows.append(cells)
    assert rows, f"{name} has no table of {first!r}"
    return rows
