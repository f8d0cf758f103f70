"""The command line: ``wsadapter demo``, ``wsadapter serve module:app``, ``wsadapter echo``."""

from __future__ import annotations

import argparse
import importlib
import inspect
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import wsadapter.server as websocket
from wsadapter import Connection, Deflate, Limits, __version__, sync

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format=websocket.LOG_FORMAT)
    try:
        return options.run(options)  # type: ignore[no-any-return]
    except _Mistake as mistake:
        print(f"wsadapter: {mistake}", file=sys.stderr)
        return 2


class _Mistake(Exception):
    """Something that the caller can mend, told in one line."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wsadapter", description="WebSockets for every Python web app.")
    parser.add_argument("--version", action="version", version=f"wsadapter {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="serve a chat page to try in a browser", parents=[_address()])
    demo.set_defaults(run=_demo)

    serve = commands.add_parser(
        "serve",
        help="serve an app of your own on the embedded server",
        description="Serve an app: a function from wsadapter.server.Request to wsadapter.server.Response."
        " Frameworks' apps are served by their own servers, which the error names.",
        parents=[_address()],
    )
    serve.add_argument("app", metavar="MODULE:APP", help="where the app is, such as chat:app for app in chat.py")
    serve.set_defaults(run=_serve)

    echo = commands.add_parser("echo", help="send every message back, to test clients", parents=[_address()])
    echo.add_argument("--compress", action="store_true", help="agree to permessage-deflate")
    echo.add_argument("--blocking", action="store_true", help="by a def handler, in a thread for each socket")
    echo.set_defaults(run=_echo)
    return parser


def _address() -> argparse.ArgumentParser:
    address = argparse.ArgumentParser(add_help=False)
    address.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    address.add_argument("--port", default=8000, type=_port, help="the port; 0 takes a free one (default: %(default)s)")
    return address


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not from 0 to 65535")
    return port


_port.__name__ = "port"  # what argparse calls it


def _demo(options: argparse.Namespace) -> int:
    from wsadapter.demo import app

    return _run(app, options, "Open {url} in a browser. Ctrl-C stops.")


def _serve(options: argparse.Namespace) -> int:
    return _run(_load(options.app), options, "Serving on {url}. Ctrl-C stops.")


def _echo(options: argparse.Namespace) -> int:
    compression = Deflate() if options.compress else None
    # Whoever tests a client sends messages that a server on the internet would refuse.
    limits = Limits(message_size=64 * 1024 * 1024, fragments=None)

    async def echo(connection: Connection) -> None:
        async for message in connection:
            await connection.send(message)

    def blocking_echo(connection: sync.Connection) -> None:
        for message in connection:
            connection.send(message)

    async def app(request: websocket.Request) -> websocket.Response:
        handler = blocking_echo if options.blocking else echo
        return websocket.open(request, handler, compression=compression, limits=limits)

    return _run(app, options, "Echoing on {url}. Ctrl-C stops.")


def _load(name: str) -> websocket.App:
    """The app that ``module:app`` names."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute or module_name.startswith("."):
        raise _Mistake(f"{name!r} does not say where the app is: write MODULE:APP, such as chat:app")
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and misses another
        raise _Mistake(f"there is no module {error.name!r} (looked in {os.getcwd()} first)") from None
    app: Any = getattr(module, attribute, None)
    if app is None:
        raise _Mistake(f"the module {module_name} has no {attribute!r}")
    if not callable(app):
        raise _Mistake(f"{name} is not an app: {app!r} cannot be called")
    if advice := _other_server(app, name):
        raise _Mistake(advice)
    return app  # type: ignore[no-any-return]


def _other_server(app: Callable[..., Any], name: str) -> str | None:
    """Which server to run in place of this one, when *app* is not for it."""
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return None
    if _takes(signature, 1):
        return None
    if _takes(signature, 3):
        return f"{name} is an ASGI app: serve it by an ASGI server, such as: uvicorn {name}"
    if _takes(signature, 2):
        return f"{name} is a WSGI app: serve it by a WSGI server, such as: gunicorn {name}"
    return f"{name} is not an app: it has to take one argument, the request"


def _takes(signature: inspect.Signature, count: int) -> bool:
    """Whether it can be called with so many arguments."""
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _run(app: websocket.App, options: argparse.Namespace, greeting: str) -> int:
    import asyncio

    server = websocket.Server(app, options.host, options.port)

    def started(server: websocket.Server) -> None:
        print(greeting.format(url=server.url), flush=True)

    try:
        asyncio.run(server.run(started))
    except OSError as error:
        # asyncio tells it at length, or without a number; a name that cannot be resolved has numbers of its own.
        number = None if isinstance(error, socket.gaierror) else error.errno
        reason = error.strerror or error if number is None else os.strerror(number)
        raise _Mistake(f"cannot listen on {options.host}:{options.port}: {reason}") from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
