"""The demo: a chat page, and the endpoint that echoes what is said there."""

from __future__ import annotations

import json
from pathlib import Path

import wsadapter.server as websocket
from wsadapter import Connection

__all__ = ["app", "chat"]

PAGE = Path(__file__).with_name("chat.html")


async def app(request: websocket.Request) -> websocket.Response:
    """The page at ``/``, the chat at ``/chat/connect``."""
    match request.path:
        case "/":
            return websocket.Response.file(PAGE)
        case "/chat/connect":
            return websocket.open(request, chat)
        case _:
            return websocket.Response("There is nothing at this address.\n", 404)


async def chat(connection: Connection) -> None:
    """Say back what was said."""
    async for message in connection:
        try:
            text = json.loads(message)["text"]
        except (ValueError, LookupError, TypeError, RecursionError):
            connection.close(1008, 'say it like this: {"text": "hello"}')
            return
        await connection.send_json({"text": f"Echo: {text}"})
