"""What may be set, and what may not be meant."""

from __future__ import annotations

import dataclasses
import gc
import random
import tracemalloc
from typing import Any

import pytest

from wsadapter.deflate import Parameters
from wsadapter.options import Deflate, Limits

from .streams import Pair, everything


def test_the_defaults_are_those_that_are_documented() -> None:
    limits = Limits()
    assert dataclasses.asdict(limits) == {
        "message_size": 2**20,
        "fragments": 4096,
        "inbox": 2**16,
        "outbox": 2**16,
        "outbox_hard": 2**20,
        "write_timeout": 20.0,
        "handshake_timeout": 10.0,
        "head_size": 2**14,
        "headers": 100,
        "ping_interval": 20.0,
        "ping_timeout": 20.0,
        "close_timeout": 10.0,
        "connections": None,
        "threads": 256,
        "shutdown_timeout": 10.0,
    }


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
def test_no_limit_is_below_zero(name: str) -> None:
    zero: dict[str, Any] = {name: 0}
    below: dict[str, Any] = {name: -1}
    if not name.startswith("outbox"):
        assert getattr(Limits(**zero), name) == 0
    with pytest.raises(ValueError, match=rf"Limits\({name}=-1\): must not be below zero"):
        Limits(**below)


@pytest.mark.parametrize(("outbox", "hard"), [(0, 10), (11, 10)])
def test_the_outbox_has_room_and_its_hard_limit_more(outbox: int, hard: int) -> None:
    with pytest.raises(ValueError, match=f"outbox={outbox}"):
        Limits(outbox=outbox, outbox_hard=hard)


@pytest.mark.parametrize(
    "name", ["message_size", "fragments", "write_timeout", "handshake_timeout", "ping_interval", "ping_timeout"]
)
def test_none_takes_a_limit_away(name: str) -> None:
    without: dict[str, Any] = {name: None}
    assert getattr(Limits(**without), name) is None


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("server_max_window_bits", 9, 15),
        ("client_max_window_bits", 9, 15),
        ("level", -1, 9),
        ("memory_level", 1, 9),
    ],
)
def test_deflate_takes_what_zlib_can_do(name: str, low: int, high: int) -> None:
    for value in (low, high):
        settings: dict[str, Any] = {name: value}
        assert getattr(Deflate(**settings), name) == value
    for value in (low - 1, high + 1):
        settings = {name: value}
        with pytest.raises(ValueError, match=rf"Deflate\({name}={value}\): must be from {low} to {high}"):
            Deflate(**settings)


def test_the_threshold_is_not_below_zero() -> None:
    assert Deflate(threshold=0).threshold == 0
    with pytest.raises(ValueError, match=r"Deflate\(threshold=-1\)"):
        Deflate(threshold=-1)


def test_options_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().inbox = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Deflate().level = 1  # type: ignore[misc]


def test_a_connection_that_has_talked_both_ways_takes_what_deflate_says() -> None:
    ours = Deflate()
    agreed = Parameters(
        server_max_window_bits=ours.server_max_window_bits,
        client_max_window_bits=ours.client_max_window_bits,
        ours=ours,
    )
    text = bytes(random.Random(6).choices(b"abcdefgh ", k=20_000))
    pairs = [Pair(deflate=agreed) for _ in range(20)]
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for pair in pairs:
            pair.server.send(text)
            pair.client.send(text)
            pair.exchange()
            assert everything(pair.server) == everything(pair.client) == [text]
        gc.collect()
        size = (tracemalloc.get_traced_memory()[0] - before) / len(pairs) / 2
    finally:
        tracemalloc.stop()
    assert 30 * 1024 < size < 56 * 1024, f"{size / 1024:.1f} KiB"
