"""The command line, as its user has it: a process that says where it is, and ends when it is asked to."""

from __future__ import annotations

import json
import os
import re
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from wsadapter import __main__ as command_line
from wsadapter import __version__

from .wire import PATIENCE, Client, get

COMMAND = (sys.executable, "-m", "wsadapter")


@contextmanager
def started(*arguments: str, cwd: Path | None = None) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """The command at work, and a client of it."""
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )
    try:
        with Client.connect(address(process)) as client:
            yield process, client
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE)


def address(process: subprocess.Popen[str]) -> tuple[str, int]:
    """Where *process* says that it is, in its first line."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
    assert ready, "it said nothing"
    line = process.stdout.readline()
    found = re.search(r"http://([\d.]+):(\d+)/", line)
    assert found, line
    return found[1], int(found[2])


def said(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What the command says when it does not serve."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE, cwd=cwd)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int | str | None, str, str]:
    """As `said`, in this process: the status, and what went to stdout and stderr."""
    status: int | str | None
    try:
        status = command_line.main(arguments)
    except SystemExit as exit_:
        status = exit_.code
    out, err = capsys.readouterr()
    return status, out, err


def ended(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> int:
    """Its exit status after *number*."""
    process.send_signal(number)
    return process.wait(PATIENCE)


# ----------------------------------------------------------------------------------------------- serving


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_the_demo_serves_a_page_and_a_chat_and_drains_when_asked_to_end(number: signal.Signals) -> None:
    """ "SIGTERM and SIGINT drain": open sockets see 1001, and the process exits 0."""
    with started("demo") as (process, client):
        assert b"<title>" in client.ask("/").body
        client.open("/chat/connect")
        client.send(json.dumps({"text": "hello"}))
        assert client.read() == '{"text":"Echo: hello"}'
        process.send_signal(number)
        assert client.read() is None
        assert client.close_code == 1001
        begun = time.monotonic()
        assert process.wait(PATIENCE) == 0
        assert time.monotonic() - begun < 2
        assert process.stderr is not None
        log = process.stderr.read()
    assert '127.0.0.1 "GET / HTTP/1.1" 200' in log
    assert '127.0.0.1 "GET /chat/connect HTTP/1.1" 101' in log
    assert "Traceback" not in log


@pytest.mark.parametrize("options", [(), ("--blocking",), ("--compress",)], ids=["async", "blocking", "compress"])
def test_echo_sends_every_message_back(options: tuple[str, ...]) -> None:
    with started("echo", *options) as (process, client):
        client.open("/anywhere", "Sec-WebSocket-Extensions: permessage-deflate")
        for message in ("hello", b"\x00\xff", "x" * 2_000_000):
            if options != ("--compress",):
                client.send(message)
                assert client.read() == message
        assert client.close() == 1000
        assert ended(process) == 0


def test_echo_agrees_to_compression_only_if_told_to() -> None:
    for options, agreed in (((), False), (("--compress",), True)):
        with started("echo", *options) as (process, client):
            key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
            offer = "Sec-WebSocket-Extensions: permessage-deflate"
            lines = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", key, offer)
            answer = client.ask("/", *lines)
            assert answer.status == 101
            assert ("sec-websocket-extensions" in answer.headers) is agreed
            client.reset()
            assert ended(process) == 0


def test_serve_serves_an_app_of_ones_own_from_where_one_is(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(
        "import wsadapter.server as websocket\n"
        "def app(request):\n"
        "    return websocket.Response(f'hello from {request.path}')\n"
    )
    with started("serve", "hello:app", cwd=tmp_path) as (process, client):
        assert client.ask("/here").body == b"hello from /here"
        assert ended(process) == 0


def test_a_def_app_that_hangs_does_not_keep_the_process_from_its_end(tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(
        "import time\ndef app(request):\n    print('asked', flush=True)\n    time.sleep(1000)\n"
    )
    with started("serve", "hanging:app", cwd=tmp_path) as (process, client):
        client.write(get())
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)  # for the two to be two
        assert ended(process) == 0


# ------------------------------------------------------------------------------------------------- help


def test_help_names_the_commands_and_each_of_them_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    """ "Useful --help" """
    status, out, _ = run(capsys, "--help")
    assert status == 0
    assert [command for command in ("demo", "serve", "echo") if command in out] == ["demo", "serve", "echo"]
    for command in ("demo", "serve", "echo"):
        status, out, _ = run(capsys, command, "--help")
        assert status == 0
        assert "--host" in out
        assert "default: 127.0.0.1" in out
        assert "--port" in out
        assert "default: 8000" in out
    assert "--compress" in out
    assert "--blocking" in out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"wsadapter {__version__}\n", "")


def test_without_a_command_the_answer_is_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys)
    assert status == 2
    assert "usage: wsadapter" in err
    assert "COMMAND" in err


@pytest.mark.parametrize("port", ["70000", "-1", "http"])
def test_what_is_no_port_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "demo", f"--port={port}")
    assert status == 2
    assert "argument --port" in err
    assert "Traceback" not in err


# --------------------------------------------------------------------------------------------- mistakes


def test_a_port_in_use_is_one_clear_line() -> None:
    """ "a port in use is one clear line" """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = said("demo", "--port", str(port))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"wsadapter: cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize(
    ("host", "reason"),
    [("192.0.2.1", "192.0.2.1:0: ."), ("host.invalid", r"host.invalid:0: [A-Z]")],
    ids=["not-ours", "unknown"],
)
def test_a_host_that_cannot_be_had_is_one_clear_line(
    host: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, "demo", "--host", host, "--port", "0")
    assert (status, out) == (2, "")
    assert re.fullmatch(rf"wsadapter: cannot listen on {reason}.*\n", err)
    assert "Unknown error" not in err
    assert "Success" not in err


MODULE = """
import functools

async def asgi(scope, receive, send): ...
def wsgi(environ, start_response): ...
class Framework:
    def __call__(self, environ, start_response): ...
framework = Framework()
class Asynchronous:
    async def __call__(self, scope, receive, send): ...
asynchronous = Asynchronous()
def none(): ...
def four(a, b, c, d): ...
def keyword(request, *, needed): ...
number = 7

def one(request): ...
def default(request, room=1): ...
def optional(request=None): ...
def decorated(*args, **kwargs): ...
bound = functools.partial(four, 1, 2, 3)
builtin = dict.fromkeys
unknown = type("Unknown", (), {"__call__": lambda self, request: None, "__signature__": 7})()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "some_module.py").write_text(MODULE)
    (tmp_path / "needy_module.py").write_text("import a_module_that_nobody_has\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("some_module", None)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("some_module:asgi", "is an ASGI app: serve it by an ASGI server, such as: uvicorn some_module:asgi"),
        ("some_module:asynchronous", "such as: uvicorn some_module:asynchronous"),
        ("some_module:wsgi", "is a WSGI app: serve it by a WSGI server, such as: gunicorn some_module:wsgi"),
        ("some_module:framework", "such as: gunicorn some_module:framework"),
        ("some_module:none", "is not an app: it has to take one argument, the request"),
        ("some_module:four", "is not an app: it has to take one argument, the request"),
        ("some_module:keyword", "is not an app: it has to take one argument, the request"),
        ("some_module:number", "some_module:number is not an app: 7 cannot be called"),
        ("some_module:missing", "the module some_module has no 'missing'"),
        ("no_such_module:app", "there is no module 'no_such_module' (looked in"),
        ("some_module", "write MODULE:APP, such as chat:app"),
        (":app", "write MODULE:APP, such as chat:app"),
        ("./some_module.py:app", "write MODULE:APP, such as chat:app"),
    ],
)
def test_what_cannot_be_served_is_one_line_that_says_what_to_do(
    module: Path, name: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """ "given an ASGI or WSGI app it says which server to run instead" """
    status, out, err = run(capsys, "serve", name)
    assert (status, out) == (2, "")
    assert err.startswith("wsadapter: ")
    assert err.count("\n") == 1
    assert line in err


@pytest.mark.parametrize("name", ["one", "default", "optional", "decorated", "bound", "builtin", "unknown"])
def test_what_can_be_called_with_a_request_is_an_app(
    module: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Any] = []

    def serve(app: Any, options: Any, greeting: str) -> int:
        served.append(app)
        return 0

    monkeypatch.setattr(command_line, "_run", serve)
    assert run(capsys, "serve", f"some_module:{name}") == (0, "", "")
    assert len(served) == 1


def test_it_runs_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["wsadapter", "--version"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(os.fspath(Path(command_line.__file__)), run_name="__main__")
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"wsadapter {__version__}\n"


def test_a_module_that_misses_another_says_where(module: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
        command_line.main(["serve", "needy_module:app"])
