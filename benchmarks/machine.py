"""What the figures were taken on: the cores, the versions of all that took part, and how busy the machine was."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path

DISTRIBUTIONS = ("wsadapter", "wsproto", "h11", "websockets", "aiohttp", "picows", "aiofastnet", "uvloop")


@dataclass(frozen=True)
class Cores:
    """The core for the servers and the core for the load, which are different ones or not set at all."""

    server: int | None = None
    load: int | None = None

    @classmethod
    def choose(cls) -> Cores:
        if not hasattr(os, "sched_setaffinity"):
            return cls()
        available = sorted(os.sched_getaffinity(0))
        return cls(available[0], available[-1]) if len(available) > 1 else cls()

    def __str__(self) -> str:
        if self.server is None:
            return "servers and load not pinned: there are no two cores to choose from"
        return f"servers on core {self.server}, load on core {self.load}"


def pin(pid: int, core: int | None) -> None:
    """Keep a process on one core; its threads, started later, stay there too."""
    if core is not None:
        with contextlib.suppress(ProcessLookupError):  # it has ended already: whoever waits for it says why
            os.sched_setaffinity(pid, {core})


def load_average() -> tuple[float, float, float]:
    """The mean number of processes that wanted to run, over 1, 5 and 15 minutes."""
    return os.getloadavg()


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def versions() -> dict[str, str]:
    """What is installed, by the name of its distribution; what is not is left out."""
    found = {
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.system()} {platform.release()}",
        "processor": f"{processor()}, {os.cpu_count()} cores",
    }
    for name in DISTRIBUTIONS:
        version = distribution_version(name)
        if version is not None:
            found[name] = version
    return found


def distribution_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
    # A checkout on the module search path, which no installer has seen.
    try:
        return f"{getattr(importlib.import_module(name), '__version__', 'unknown')} (not installed)"
    except ImportError:
        return None
