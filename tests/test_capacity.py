"""How many WebSockets and handler threads a process has: a count that no thread can get wrong."""

from __future__ import annotations

import resource
import sys
import threading

import pytest

from wsadapter import capacity
from wsadapter.capacity import Capacity, admit, connections_limit
from wsadapter.errors import Refused
from wsadapter.options import Limits


@pytest.fixture(autouse=True)
def counts(monkeypatch: pytest.MonkeyPatch) -> tuple[Capacity, Capacity]:
    """Counts of the test's own: connections and threads."""
    connections, threads = Capacity(), Capacity()
    monkeypatch.setattr(capacity, "CONNECTIONS", connections)
    monkeypatch.setattr(capacity, "THREADS", threads)
    return connections, threads


def test_one_is_taken_until_the_limit_is() -> None:
    count = Capacity()
    assert [count.take(2) for _ in range(3)] == [True, True, False]
    assert count.taken == 2
    count.give_back()
    assert count.take(2)


def test_threads_take_no_more_than_there_is() -> None:
    count = Capacity()
    got: list[bool] = []

    def take() -> None:
        got.extend(count.take(100) for _ in range(50))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == count.taken == 100


@pytest.mark.parametrize(("thread", "taken"), [(False, (1, 0)), (True, (1, 1))], ids=["async def", "def"])
def test_admitting_takes_a_place_and_for_a_def_handler_a_thread(
    thread: bool, taken: tuple[int, int], counts: tuple[Capacity, Capacity]
) -> None:
    admit(Limits(), thread=thread)
    assert (counts[0].taken, counts[1].taken) == taken


def test_beyond_the_connections_it_is_503(counts: tuple[Capacity, Capacity]) -> None:
    limits = Limits(connections=1)
    admit(limits, thread=False)
    with pytest.raises(Refused, match="Too many WebSockets are open here") as caught:
        admit(limits, thread=True)
    assert (caught.value.status, caught.value.headers) == (503, (("Retry-After", "10"),))
    assert (counts[0].taken, counts[1].taken) == (1, 0)


def test_beyond_the_threads_it_is_503_and_no_place_stays_taken(counts: tuple[Capacity, Capacity]) -> None:
    """Capped (default 256, then 503)."""
    assert Limits().threads == 256
    limits = Limits(threads=1)
    admit(limits, thread=True)
    with pytest.raises(Refused, match="Too many handlers are at work here") as caught:
        admit(limits, thread=True)
    assert (caught.value.status, caught.value.headers) == (503, (("Retry-After", "10"),))
    assert (counts[0].taken, counts[1].taken) == (1, 1)
    admit(limits, thread=False)


def test_the_limit_of_connections_is_what_is_said() -> None:
    assert connections_limit(Limits(connections=7)) == 7


@pytest.mark.parametrize(("soft", "limit"), [(1024, 819), (-1, 1_000_000)], ids=["1024", "no limit"])
def test_the_limit_of_connections_is_four_fifths_of_the_descriptors(
    monkeypatch: pytest.MonkeyPatch, soft: int, limit: int
) -> None:
    """Sockets per process: 80 % of `RLIMIT_NOFILE`."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: {resource.RLIMIT_NOFILE: (soft, soft)}[which])
    assert connections_limit(Limits()) == limit


def test_where_the_system_tells_no_limit_one_is_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert connections_limit(Limits()) == 6553
