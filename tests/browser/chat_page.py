"""Drive the demo's chat page in a real browser: echo, a killed server, words typed meanwhile, the return.

    python tests/browser/chat_page.py http://127.0.0.1:8000/ --server "<the command that serves it there>"

Needs Playwright (`pip install playwright`) and a Chromium of the system; prints one line per check and
exits 1 if one fails. The server is started, killed without warning and started again by this script.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 20_000  # milliseconds: more than the page's longest wait between two attempts, 15 s


class Server:
    """The command under test, in a process group of its own, so that killing it kills its workers too."""

    def __init__(self, command: str, url: str) -> None:
        self.command = shlex.split(command)
        parts = urlsplit(url)
        self.address = (parts.hostname, parts.port or 80)

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, start_new_session=True)
        deadline = time.monotonic() + 10
        while True:
            try:
                return socket.create_connection(self.address, timeout=1).close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"the server does not listen on {self.address}: {shlex.join(self.command)}")
                time.sleep(0.05)

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def checks(page: Page, url: str, server: Server, errors: list[str]) -> dict[str, Callable[[], object]]:
    """What is promised, in the order in which it is tried: each builds on those before it."""
    status, composer = page.get_by_role("status"), page.get_by_label("Your message")
    echoes, waiting = page.locator("li.theirs .text"), page.get_by_text("waiting", exact=True)
    down, odd = ["first while down", "second while down"], "<b>bold</b> & “quoted” \\ 🙂"

    def say(*texts: str) -> None:
        for text in texts:
            composer.fill(text)
            composer.press("Enter")

    def open_page() -> None:
        page.goto(url)
        expect(status).to_contain_text("Connected", timeout=PATIENCE)

    def echo(text: str) -> None:
        say(text)
        expect(echoes.last).to_have_text(f"Echo: {text}")

    def lose_the_server() -> None:
        server.kill()
        expect(status).to_contain_text("Disconnected")

    def type_while_down() -> None:
        say(*down)
        expect(waiting).to_have_count(2)
        expect(composer).to_be_enabled()

    def bring_it_back() -> None:
        server.start()
        expect(status).to_contain_text("Connected", timeout=PATIENCE)
        expect(echoes).to_have_text([f"Echo: {text}" for text in ("hello", odd, *down)])
        expect(waiting).to_have_count(0)

    def fit_a_small_screen() -> None:
        page.set_viewport_size({"width": 320, "height": 568})
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, "it scrolls sideways"

    def stay_quiet() -> None:
        assert not errors, errors

    return {
        "the page connects": open_page,
        "a message sent with Enter is echoed": lambda: echo("hello"),
        "markup is shown as text": lambda: echo(odd),
        "a killed server is noticed": lose_the_server,
        "what is typed meanwhile is kept": type_while_down,
        "it is sent in order once the server is back": bring_it_back,
        "the page is no wider than 320 px": fit_a_small_screen,
        "no error on the console": stay_quiet,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--server", required=True, help="the command that serves the page at this URL")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    errors: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # Chromium itself reports every refused attempt to connect; no page can silence that.
        if message.type == "error" and not message.text.startswith("WebSocket connection to"):
            errors.append(message.text)

    server = Server(options.server, options.url)
    server.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=options.chromium, args=FLAGS)
            page = browser.new_page()
            page.on("console", note)
            page.on("pageerror", lambda error: errors.append(str(error)))
            for name, check in checks(page, options.url, server, errors).items():
                try:
                    check()
                except AssertionError as failure:
                    print(f"FAIL  {name}\n{failure}")
                    return 1
                print(f"ok    {name}")
    finally:
        server.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
