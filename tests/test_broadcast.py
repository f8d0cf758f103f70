"""One message to many: one encoding, and nobody waits for the slowest."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import wsadapter
from wsadapter import messages, sync
from wsadapter.connection import broadcast
from wsadapter.frames import build
from wsadapter.receiver import Message

from .carriers import KIB, MIB, connect, in_loop, turns, until
from .streams import BINARY, TEXT, parameters


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The payloads that a frame was built of for many."""
    payloads: list[bytes] = []

    def count(opcode: int, payload: bytes, masked: bool) -> bytes:
        payloads.append(payload)
        return build(opcode, payload, masked)

    monkeypatch.setattr(messages, "build", count)
    return payloads


def test_it_is_a_verb_of_the_package() -> None:
    assert wsadapter.broadcast is broadcast


@pytest.mark.parametrize(
    ("message", "opcode", "payload"),
    [("ä", TEXT, "ä".encode()), (b"\xff", BINARY, b"\xff"), (bytearray(b"x"), BINARY, b"x")],
    ids=["str", "bytes", "bytearray"],
)
@in_loop
async def test_one_encoding_goes_to_all(
    built: list[bytes], message: str | bytes | bytearray, opcode: int, payload: bytes
) -> None:
    lines = [connect() for _ in range(5)]
    assert broadcast((line.connection for line in lines), message) == []
    await turns()
    assert [line.frames_of(opcode) for line in lines] == [[payload]] * 5
    assert built == [payload]


@in_loop
async def test_it_keeps_its_place_among_what_each_connection_sends() -> None:
    line = connect()
    line.connection.send("before")
    broadcast([line.connection], "to all")
    line.connection.send("after")
    await turns()
    assert line.heard == ["before", "to all", "after"]
    assert len(line.wire.writes) == 1


@in_loop
async def test_it_never_waits_for_the_slowest_and_tells_whom_it_left_out() -> None:
    slow, full, gone, good = (connect() for _ in range(4))
    for line in (slow, full):
        line.wire.stuck = True
    slow.connection.send(b"x" * 512 * KIB)
    full.connection.send(b"x" * 2 * MIB)
    gone.vanish()
    connections = [line.connection for line in (slow, full, gone, good)]
    assert broadcast(connections, "news") == [full.connection, gone.connection]
    await turns()
    assert good.heard == ["news"]
    assert full.connection.close_code is None
    for line in (slow, full):
        line.wire.take()
    assert slow.heard[1:] == ["news"]
    assert full.heard[1:] == []


@in_loop
async def test_the_connections_may_come_and_go_meanwhile() -> None:
    room: set[Any] = set()

    class Leaving:
        def send_prepared(self, prepared: object) -> None:
            room.discard(self)

    room |= {Leaving() for _ in range(5)}
    assert broadcast(room, "x") == []
    assert room == set()


@pytest.mark.parametrize("message", [1, None, ["x"]], ids=repr)
@in_loop
async def test_what_is_no_message_goes_to_nobody(message: Any) -> None:
    line = connect()
    with pytest.raises(TypeError):
        broadcast([line.connection], message)
    await turns()
    assert line.heard == []


@in_loop
async def test_text_with_a_lone_surrogate_goes_to_nobody() -> None:
    lines = [connect(), connect()]
    with pytest.raises(UnicodeEncodeError):
        broadcast([line.connection for line in lines], "\ud800")
    await turns()
    assert [line.heard for line in lines] == [[], []]


@in_loop
async def test_it_is_not_compressed() -> None:
    line = connect(deflate=parameters())
    broadcast([line.connection], "x" * 1000)
    await turns()
    assert [seen.rsv1 for seen in line.frames()] == [False]
    assert line.heard == ["x" * 1000]


@in_loop
async def test_a_client_masks_for_itself() -> None:
    """RFC 6455 §5.3: "The masking key needs to be unpredictable", so no frame is for many."""
    lines = [connect(client=True) for _ in range(2)]
    broadcast([line.connection for line in lines], "x")
    await turns()
    assert [line.heard for line in lines] == [["x"], ["x"]]
    assert all(seen.masked for line in lines for seen in line.frames())


@in_loop
async def test_it_may_be_called_from_any_thread_with_one_encoding(built: list[bytes]) -> None:
    lines = [connect() for _ in range(3)]
    gone = connect()
    gone.vanish()
    connections = [line.connection for line in (*lines, gone)]
    assert await asyncio.to_thread(broadcast, connections, "x") == [gone.connection]
    await turns()
    assert [line.heard for line in lines] == [["x"]] * 3
    assert built == [b"x"]


@in_loop
async def test_from_another_thread_a_connection_that_is_full_misses_it() -> None:
    line = connect()
    line.wire.stuck = True
    line.connection.send(b"x" * 2 * MIB)
    await asyncio.to_thread(broadcast, [line.connection], "x")
    await turns()
    line.wire.take()
    assert line.heard == [b"x" * 2 * MIB]
    assert not line.connection.closed


@in_loop
async def test_connections_of_both_colours_may_be_in_a_room() -> None:
    room: list[Any] = []
    ready = threading.Barrier(2)

    def blocking(connection: sync.Connection) -> None:
        room.append(connection)
        ready.wait(10)
        for message in connection:
            broadcast(room, message)

    first, second = connect(blocking), connect()
    room.append(second.connection)
    await asyncio.to_thread(ready.wait, 10)
    expected: list[Message] = []
    for number in range(3):
        first.say(str(number))
        expected.append(str(number))
        await until(lambda: first.heard == second.heard == expected)
    broadcast(room, "from the loop")
    await until(lambda: first.heard == second.heard == [*expected, "from the loop"])
