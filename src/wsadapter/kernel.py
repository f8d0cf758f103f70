"""What the kernel knows of a socket, and Python does not tell."""

from __future__ import annotations

from struct import unpack
from typing import Protocol

__all__ = ["unacknowledged"]


class HasDescriptor(Protocol):
    """A socket, or what a transport has for one."""

    def fileno(self) -> int: ...


def unacknowledged(sock: HasDescriptor | None) -> int:
    """Bytes that the kernel took to send, and the peer has not acknowledged; 0 where nobody knows.

    The kernel takes much at once, and then for long nothing: this is how a slow peer differs from a lost one.
    """
    if sock is None:
        return 0
    try:
        from fcntl import ioctl
        from termios import TIOCOUTQ

        return int(unpack("i", ioctl(sock.fileno(), TIOCOUTQ, bytes(4)))[0])
    except (ImportError, OSError, ValueError):  # not this system, or not this kind of socket
        return 0
