"""A chat room: a page, and everybody who has it open hears what anybody says.

python examples/chat.py --port 8000
"""

import argparse
import asyncio
import itertools
import json

import wsadapter.server as websocket
from wsadapter import Connection, broadcast

PAGE = """<!doctype html>
<html lang="en">
<title>Chat</title>
<ul id="said"></ul>
<form><label>Say <input id="text" autofocus autocomplete="off"></label> <button>Send</button></form>
<script>
const socket = new WebSocket(new URL("room", location.href).href.replace(/^http/, "ws"));
const text = document.getElementById("text");
socket.onmessage = ({ data }) => {
  const { name, said } = JSON.parse(data);
  const item = document.createElement("li");
  item.textContent = `${name}: ${said}`;  // text, never markup: it comes from strangers
  document.getElementById("said").append(item);
};
document.querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  socket.send(text.value);
  text.value = "";
};
</script>
"""

room: set[Connection] = set()
numbers = itertools.count(1)


async def app(request: websocket.Request) -> websocket.Response:
    if request.path == "/room":
        return websocket.open(request, chat)
    return websocket.Response(PAGE, content_type="text/html; charset=utf-8")


async def chat(connection: Connection) -> None:
    name = f"Guest {next(numbers)}"
    room.add(connection)
    try:
        tell(name, "hello")
        async for message in connection:
            if isinstance(message, str):
                tell(name, message)
    finally:
        room.remove(connection)
        tell(name, "goodbye")


def tell(name: str, said: str) -> None:
    broadcast(room, json.dumps({"name": name, "said": said}))  # it waits for nobody: who does not listen misses it


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    server = websocket.Server(app, port=parser.parse_args().port)
    await server.run(lambda server: print(f"The room is at {server.url}. Ctrl-C stops.", flush=True))


if __name__ == "__main__":
    asyncio.run(main())
