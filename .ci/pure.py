"""Imports every module of wsadapter and fails if one needs, or loads, anything but its three dependencies."""

import importlib
import pkgutil
import sys

import wsadapter

ALLOWED = {"wsadapter", "wsproto", "h11", "asgiref", "__main__", *sys.stdlib_module_names}

before = set(sys.modules)  # what the virtual environment itself loads at its start is nobody's fault
names = ["wsadapter", *(module.name for module in pkgutil.walk_packages(wsadapter.__path__, "wsadapter."))]
for name in names:
    importlib.import_module(name)
strangers = {name.partition(".")[0] for name in set(sys.modules) - before} - ALLOWED
if strangers:
    sys.exit(f"wsadapter imports more than its dependencies: {', '.join(sorted(strangers))}")
if "site-packages" not in wsadapter.__path__[0]:
    sys.exit(f"this is not the installed wheel: {wsadapter.__path__[0]}")
print(f"Python {sys.version.split()[0]}: {len(names)} modules, wsproto, h11, asgiref and the standard library")
