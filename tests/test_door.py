"""The way into a loop from other threads: in order, woken once for many, and shut when the loop is."""

from __future__ import annotations

import asyncio
import threading

from wsadapter.door import Door

from .carriers import clock, in_loop, turns, until


class Bell:
    """A loop's `call_soon_threadsafe` with a count of how often it was rung."""

    def __init__(self) -> None:
        self.rung = 0
        loop = asyncio.get_running_loop()
        ring = loop.call_soon_threadsafe

        def count(*args: object, **kwargs: object) -> object:
            self.rung += 1
            return ring(*args, **kwargs)  # type: ignore[arg-type]

        loop.call_soon_threadsafe = count  # type: ignore[method-assign, assignment]


@in_loop
async def test_calls_of_one_thread_are_made_in_order() -> None:
    door = Door(asyncio.get_running_loop())
    made: list[tuple[str, int]] = []

    def post(who: str) -> None:
        for number in range(500):
            assert door.post(made.append, (who, number))

    threads = [threading.Thread(target=post, args=(who,)) for who in "abc"]
    for thread in threads:
        thread.start()
    await until(lambda: len(made) == 1500)
    for thread in threads:
        thread.join()
    for who in "abc":
        assert [call for call in made if call[0] == who] == [(who, number) for number in range(500)]


@in_loop
async def test_calls_are_made_on_the_loop_and_not_at_once() -> None:
    door = Door(asyncio.get_running_loop())
    made: list[int] = []
    door.post(lambda: made.append(threading.get_ident()))
    assert made == []
    await turns()
    assert made == [threading.get_ident()]


@in_loop
async def test_the_loop_is_woken_once_for_many_calls() -> None:
    bell = Bell()
    door = Door(asyncio.get_running_loop())
    for _ in range(3):
        for _ in range(10):
            door.post(int)
        await turns()
    assert bell.rung == 3


@in_loop
async def test_a_call_may_post_another_which_waits_for_the_next_time() -> None:
    door = Door(asyncio.get_running_loop())
    made: list[str] = []
    door.post(lambda: door.post(made.append, "second"))
    door.post(made.append, "first")
    await turns()
    assert made == ["first", "second"]


@in_loop
async def test_the_size_of_what_is_on_its_way_in_is_known() -> None:
    door = Door(asyncio.get_running_loop())
    door.post(int, size=3)
    door.post(int, size=4)
    assert door.size == 7
    await turns()
    assert door.size == 0


@in_loop
async def test_a_call_that_raises_does_not_keep_the_others_out() -> None:
    door = Door(asyncio.get_running_loop())
    made: list[str] = []
    door.post(int, "no number")
    door.post(made.append, "behind")
    await turns()
    assert made == ["behind"]
    (context,) = clock().errors
    assert "which another thread asked for, failed" in context["message"]
    assert isinstance(context["exception"], ValueError)
    clock().errors.clear()


def test_nobody_comes_to_the_door_of_a_closed_loop() -> None:
    loop = asyncio.new_event_loop()
    door = Door(loop)
    loop.close()
    for _ in range(3):
        assert not door.post(int, size=5)
        assert door.size == 0


def test_nobody_comes_any_more_when_the_loop_was_closed_with_calls_at_its_door() -> None:
    loop = asyncio.new_event_loop()
    door = Door(loop)
    assert door.post(int, size=5)
    loop.close()
    assert not door.post(int, size=5)
    assert door.size == 0
