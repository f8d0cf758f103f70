"""Starts the demo as its reader would, and sees that it answers: the page, and one message through its WebSocket.

python .ci/demo.py make demo "ARGS=--port 0"
"""

import base64
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

PATIENCE = 120  # seconds: the first start sets the environment up
SETTLING = 10


def address(process: subprocess.Popen[str]) -> tuple[str, int]:
    """Where the demo says that it is."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            print("  " + line, end="", flush=True)
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            line = lines.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            sys.exit(f"the demo printed no address in {PATIENCE} s")
        if line is None:
            sys.exit("the demo ended before it printed an address")
        if found := re.search(r"http://([\w.-]+):(\d+)", line):
            return found[1], int(found[2])


def fetch(host: str, port: int) -> str:
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=SETTLING) as response:
        page: str = response.read().decode()
    if response.status != 200 or "WebSocket" not in page:
        sys.exit(f"the page is not the demo's: status {response.status}, {len(page)} characters")
    return page


def greet(host: str, port: int, path: str) -> bytes:
    """One message over the wire, by hand, and the frame that comes back."""
    key = base64.b64encode(os.urandom(16)).decode()
    head = (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: http://{host}:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
    payload = b'{"text": "ci"}'
    mask = os.urandom(4)
    frame = bytes([0x81, 0x80 | len(payload)]) + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    with socket.create_connection((host, port), timeout=SETTLING) as connection:
        connection.sendall(head.encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += chunk(connection, received)
        answer, _, received = received.partition(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 101 "):
            sys.exit(f"no WebSocket at {path}: {answer.splitlines()[0].decode()}")
        connection.sendall(frame)
        while b"ci" not in received:
            received += chunk(connection, received)
    return received


def chunk(connection: socket.socket, before: bytes) -> bytes:
    if data := connection.recv(65536):
        return data
    sys.exit(f"the demo closed the connection after {before!r}")


def main() -> None:
    argv = sys.argv[1:]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        host, port = address(process)
        page = fetch(host, port)
        found = re.search(r"""new URL\(["']([^"':]+)["']""", page)
        path = "/" + (found[1].lstrip("/") if found else "chat/connect")
        greet(host, port, path)
        print(f"the demo answers: page of {len(page)} characters, one message at {path} and back")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)  # its own process group: make, and what make started
            try:
                process.wait(SETTLING)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                sys.exit(f"the demo still ran {SETTLING} s after it was asked to end")


if __name__ == "__main__":
    main()
