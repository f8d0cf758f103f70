"""What the kernel knows of a socket."""

from __future__ import annotations

import socket
import sys
import tempfile

import pytest

from wsadapter.kernel import unacknowledged


@pytest.mark.parametrize("family", ["tcp", "pair"])
def test_nothing_is_unacknowledged_before_anything_is_sent(family: str) -> None:
    if family == "pair":
        one, other = socket.socketpair()
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        with listener:
            one = socket.create_connection(listener.getsockname())
            other = listener.accept()[0]
    with one, other:
        assert unacknowledged(one) == 0


def test_what_a_peer_has_no_room_for_is_unacknowledged() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with socket.create_connection(listener.getsockname()) as one, listener.accept()[0]:
            one.setblocking(False)
            sent = one.send(bytes(1 << 20))
            assert sys.platform != "linux" or 0 < unacknowledged(one) <= sent


def test_nobody_knows_of_what_is_no_socket() -> None:
    assert unacknowledged(None) == 0
    with tempfile.TemporaryFile() as file:
        assert unacknowledged(file) == 0
    closed = socket.socket()
    closed.close()
    assert unacknowledged(closed) == 0
