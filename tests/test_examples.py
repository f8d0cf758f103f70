"""Every example is started as its first lines say, talked to, and ended."""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .wire import PATIENCE, Client

EXAMPLES = Path(__file__).parent.parent / "examples"


@contextmanager
def started(name: str, *arguments: str) -> Iterator[tuple[str, int]]:
    """Where the example *name* listens. It has to end without a complaint at Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / name, "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], PATIENCE)[0], "it said nothing"
        line = process.stdout.readline()
        found = re.search(r"http://([\d.]+):(\d+)/", line)
        assert found, line
        yield found[1], int(found[2])
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=PATIENCE)
        assert (process.returncode, complaints) == (0, "")
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("name", "path", "arguments"),
    [("threads.py", "/", ()), ("threads.py", "/", ("--compress",)), ("streams.py", "/echo", ())],
    ids=["threads", "threads-compress", "streams"],
)
def test_an_example_says_every_message_back(name: str, path: str, arguments: tuple[str, ...]) -> None:
    with started(name, *arguments) as address, Client.connect(address) as one, Client.connect(address) as two:
        for client in (one, two):
            client.open(path)
        for client in (one, two):
            client.send("hello", b"\x00" * 100_000)
            assert (client.read(), client.read()) == ("hello", b"\x00" * 100_000)
        assert one.close() == 1000


def test_the_streams_example_has_a_page() -> None:
    with started("streams.py") as address, Client.connect(address) as client:
        assert client.ask("/").body == b"Open a WebSocket at /echo.\n"


def test_everybody_in_the_chat_hears_what_anybody_says() -> None:
    with started("chat.py") as address, Client.connect(address) as one, Client.connect(address) as two:

        def heard(client: Client) -> tuple[str, str]:
            message = client.read()
            assert message is not None
            told = json.loads(message)
            return told["name"], told["said"]

        page = one.ask("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert b'"room"' in page.body
        one.open("/room")
        assert heard(one) == ("Guest 1", "hello")
        two.open("/room")
        assert heard(one) == heard(two) == ("Guest 2", "hello")
        two.send(b"not for people", "how <b>are</b> you?")
        assert heard(one) == heard(two) == ("Guest 2", "how <b>are</b> you?")
        assert two.close() == 1000
        assert heard(one) == ("Guest 2", "goodbye")


def test_every_example_is_among_these() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"chat.py", "streams.py", "threads.py"}
