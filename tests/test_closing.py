"""Close codes and reasons (RFC 6455 §7.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.closing import ABNORMAL, NO_STATUS, check_close, close_payload

from .streams import examples

SENDABLE = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


def test_only_codes_that_an_endpoint_may_send_pass() -> None:
    """RFC 6455 §7.4.1, §7.4.2"""
    for code in range(-1, 65537):
        if code in SENDABLE:
            check_close(code, "")
        else:
            with pytest.raises(ValueError, match=f"close code {code} may not be sent"):
                check_close(code, "")
    assert not SENDABLE & {NO_STATUS, ABNORMAL}


def test_a_reason_is_text() -> None:
    with pytest.raises(TypeError, match="a close reason is a str, not bytes"):
        check_close(1000, b"bye")  # type: ignore[arg-type]


def test_a_close_without_a_code_is_empty() -> None:
    """RFC 6455 §7.1.5"""
    assert close_payload(1005) == close_payload(1005, "never told") == b""


def test_a_code_is_two_bytes_and_the_reason_follows() -> None:
    """RFC 6455 §5.5.1"""
    assert close_payload(1000) == b"\x03\xe8"
    assert close_payload(4999, "é") == b"\x13\x87\xc3\xa9"


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 123),
        ("x" * 122 + "é", "x" * 122),
        ("x" * 121 + "é", "x" * 121 + "é"),
        ("x" * 120 + "😀", "x" * 120),
        ("😀" * 40, "😀" * 30),
    ],
    ids=["fits", "one-too-long", "two-byte-character-cut", "two-byte-character-fits", "four-bytes-cut", "all-of-four"],
)
def test_a_long_reason_is_cut_on_a_character_boundary(reason: str, kept: str) -> None:
    """RFC 6455 §5.5.1: a control frame holds 125 bytes, and the reason is UTF-8."""
    assert close_payload(1000, reason)[2:].decode() == kept


def test_a_lone_surrogate_in_a_reason_does_not_raise() -> None:
    assert close_payload(1000, "a\ud800b") == b"\x03\xe8a?b"


@examples(300)
@given(st.sampled_from(sorted(SENDABLE)), st.text(st.characters(exclude_categories=[]), max_size=200))
def test_every_payload_fits_a_control_frame(code: int, reason: str) -> None:
    payload = close_payload(code, reason)
    assert len(payload) <= 125
    assert int.from_bytes(payload[:2], "big") == code
    assert reason.encode("utf-8", "replace").decode().startswith(payload[2:].decode())
