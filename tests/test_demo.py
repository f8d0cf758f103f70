"""The demo: the page, and the chat that echoes what is said there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from wsadapter.demo import PAGE, app

from .wire import Client, serving


@pytest.fixture
def client() -> Iterator[Client]:
    with serving(app) as running, running.connect() as client:
        yield client


def test_the_page_is_served(client: Client) -> None:
    answer = client.ask("/")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.body == PAGE.read_bytes()


def test_the_page_talks_to_the_chat(client: Client) -> None:
    [target] = re.findall(r'new URL\("([^"]+)", location\.href\)', client.ask("/").body.decode())
    assert target == "chat/connect"
    assert client.ask(f"/{target}").status == 426


def test_what_is_said_is_echoed(client: Client) -> None:
    """ "the chat page and `/chat/connect`, JSON {"text": …} echoed as {"text": "Echo: …"}" """
    client.open("/chat/connect")
    for text in ("hello", "", "grüße ☃ \u202e", "<b>", "x" * 100_000):
        client.send(json.dumps({"text": text}))
        message = client.read()
        assert isinstance(message, str)
        assert json.loads(message) == {"text": f"Echo: {text}"}
    assert client.close() == 1000


@pytest.mark.parametrize(
    "message",
    ["hello", "{}", "[]", "null", b"\xff", "[" * 100_000],
    ids=["no-json", "no-text", "list", "null", "no-utf-8", "deep"],
)
def test_what_is_not_said_right_ends_that_chat_alone(
    client: Client, message: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client.open("/chat/connect")
    client.send(message)
    assert client.read() is None
    assert client.close_code == 1008
    assert client.conversation.close_reason
    assert not caplog.records


def test_who_talks_and_never_listens_is_held_back(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """The echo waits for its reader, who is no error of the server's."""
    client.open("/chat/connect")
    client.sock.settimeout(0.3)
    message = client.frames(json.dumps({"text": "x" * 100_000}))
    with pytest.raises(TimeoutError):
        client.write(message * 500)
    assert not caplog.records


def test_pages_of_other_sites_may_not_chat(client: Client) -> None:
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    assert client.ask("/chat/connect", *upgrade, key, "Origin: http://elsewhere.example").status == 403


def test_there_is_nothing_else(client: Client) -> None:
    assert client.ask("/favicon.ico").status == 404
