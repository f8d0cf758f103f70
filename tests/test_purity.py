"""The sans-IO rooms know no socket, no thread and no loop; the core knows nobody but its three dependencies."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SANS_IO = [
    "closing",
    "conversation",
    "deflate",
    "errors",
    "frames",
    "messages",
    "options",
    "policy",
    "receiver",
    "request",
    "upgrade",
]
"""`opening` asks asgiref for the colour of a handler, which loads asyncio: it is no less pure, but not here."""

WORLDLY = {
    "socket",
    "asyncio",
    "threading",
    "ssl",
    "select",
    "selectors",
    "concurrent",
    "multiprocessing",
    "subprocess",
}
DEPENDENCIES = {"wsproto", "h11", "asgiref"}

_spec = importlib.util.find_spec("wsadapter")
assert _spec is not None
assert _spec.submodule_search_locations is not None
PACKAGE = Path(next(iter(_spec.submodule_search_locations)))
FILES = sorted(PACKAGE.rglob("*.py"))

# The package's own __init__ offers what runs on a loop too, so an empty one stands in for it.
PROGRAM = """
import importlib, sys, types
package = types.ModuleType("wsadapter")
package.__path__ = [sys.argv[1]]
sys.modules["wsadapter"] = package
before = set(sys.modules)
importlib.import_module("wsadapter." + sys.argv[2])
print(*sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("name", SANS_IO)
def test_a_sans_io_room_loads_nothing_that_moves_bytes_or_waits(name: str) -> None:
    command = [sys.executable, "-c", PROGRAM, str(PACKAGE), name]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {module.partition(".")[0] for module in result.stdout.split()}
    assert "wsadapter" in loaded
    assert not loaded & WORLDLY
    assert loaded <= {"wsadapter", "wsproto", "h11"} | set(sys.stdlib_module_names)


def imports(path: Path) -> set[str]:
    """The top-level names that the file at *path* imports from elsewhere, wherever in it it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module is not None
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=[path.relative_to(PACKAGE).as_posix() for path in FILES])
def test_the_core_imports_nobody_but_its_dependencies(path: Path) -> None:
    assert imports(path) <= {"wsadapter"} | DEPENDENCIES | set(sys.stdlib_module_names)


@pytest.mark.parametrize("name", [*SANS_IO, "opening"])
def test_a_sans_io_room_imports_only_sans_io_rooms(name: str) -> None:
    tree = ast.parse((PACKAGE / f"{name}.py").read_bytes())
    rooms = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            rooms |= {node.module} if node.module else {alias.name for alias in node.names}
    assert rooms <= set(SANS_IO)
