"""Installs the Autobahn test suite, which only knows Python 2.7, into .cache/autobahn and says where `wstest` is.

By hand: `python tests/autobahn/install.py`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / ".cache" / "autobahn"
NO_PYTHON = "The Autobahn test suite needs a Python 2.7: set PYTHON27= or install one with pyenv."
# wsaccel is compiled from its source, which Cython has to be there for. Without it 9.* takes eight times as long.
CYTHON = "cython==0.29.37"


def candidates() -> Iterator[str]:
    """Where a Python 2.7 may be, the most explicit first."""
    if given := os.environ.get("PYTHON27"):
        yield given
        return  # who names one does not want another
    yield "python2.7"
    roots = [os.environ.get("PYENV_ROOT"), Path.home() / ".pyenv"]
    for command in ("pyenv", "python2.7", "python3"):
        if found := shutil.which(command):
            # <root>/bin/pyenv, often a link into <root>/libexec, or <root>/shims/python3
            roots += [Path(found).parent.parent, Path(found).resolve().parent.parent]
    for root in roots:
        if root:
            yield from sorted(map(str, Path(root).glob("versions/2.7*/bin/python2.7")), reverse=True)


def runs(python: str) -> bool:
    """Whether it is a Python 2.7 that starts: pyenv leaves shims behind that only print an error."""
    try:
        found = subprocess.run(
            [python, "-c", "import sys; print(sys.version_info[:2] == (2, 7))"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.stdout.strip() == "True"


def find_python() -> str | None:
    return next(filter(runs, candidates()), None)


def install() -> Path:
    """The path of `wstest`; installed once, and again when a pin changes."""
    wstest = CACHE / "venv" / "bin" / "wstest"
    stamp = CACHE / "installed"
    recipe = b"".join((HERE / name).read_bytes() for name in ("bootstrap.txt", "requirements.txt", "install.py"))
    wanted = hashlib.sha256(recipe).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted and wstest.exists():
        return wstest
    python = find_python()
    if python is None:
        sys.exit(NO_PYTHON)
    print("Installing the Autobahn test suite (once, about 20 s)", flush=True)
    shutil.rmtree(CACHE, ignore_errors=True)
    CACHE.mkdir(parents=True)
    tool = CACHE / "tool"
    pip_install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
    call(python, *pip_install, "--target", str(tool), "-r", str(HERE / "bootstrap.txt"))
    call(python, "-m", "virtualenv", "--quiet", "--no-download", str(CACHE / "venv"), PYTHONPATH=str(tool))
    inner = str(CACHE / "venv" / "bin" / "python")
    call(inner, *pip_install, CYTHON)
    call(inner, *pip_install, "-r", str(HERE / "requirements.txt"))
    shutil.rmtree(tool)
    call(str(wstest), "-a")
    stamp.write_text(wanted)
    return wstest


def call(*argv: str, **environment: str) -> None:
    """Silent when it works, everything it said when it does not."""
    done = subprocess.run(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nThe Autobahn test suite could not be installed: `{' '.join(argv)}` failed.")


if __name__ == "__main__":
    print(install())
