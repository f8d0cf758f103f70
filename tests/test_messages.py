"""What may be sent, and JSON both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.errors import InvalidMessage
from wsadapter.messages import Prepared, as_binary, as_message, as_text, decode_json, encode_json

from .streams import BINARY, TEXT, examples, frame


def test_text_is_a_str() -> None:
    assert as_text("é") == "é"
    for wrong in (b"x", None, 1):
        with pytest.raises(TypeError, match=rf"send_text\(\) takes a str, not {type(wrong).__name__}"):
            as_text(wrong)  # type: ignore[arg-type]


def test_binary_is_bytes_of_any_kind() -> None:
    assert as_binary(b"x") == as_binary(bytearray(b"x")) == as_binary(memoryview(b"x")) == b"x"
    for wrong in ("x", None, [1]):
        with pytest.raises(TypeError, match=rf"send_binary\(\) takes bytes, not {type(wrong).__name__}"):
            as_binary(wrong)  # type: ignore[arg-type]


def test_a_message_is_either() -> None:
    assert as_message("x") == "x"
    assert as_message(b"x") == as_message(bytearray(b"x")) == as_message(memoryview(b"x")) == b"x"
    wrongs: list[Any] = [{}, None, 1]
    for wrong in wrongs:
        with pytest.raises(TypeError, match=rf"takes str or bytes, not {type(wrong).__name__}; values go by send_json"):
            as_message(wrong)


@pytest.mark.parametrize("convert", [as_binary, as_message])
def test_what_is_changed_after_it_was_sent_is_sent_as_it_was(convert: Any) -> None:
    buffer = bytearray(b"before")
    sent = convert(buffer)
    buffer[:] = b"after!"
    assert sent == b"before"
    assert type(convert(memoryview(buffer)[::2])) is bytes


def test_json_is_on_one_line_without_needless_space() -> None:
    assert encode_json({"a": [1, "é\n"], "b": None}) == '{"a":[1,"é\\n"],"b":null}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_json_cannot_tell_is_not_sent(value: float) -> None:
    """RFC 8259 §6"""
    with pytest.raises(ValueError, match="JSON"):
        encode_json([value])


def test_what_is_no_json_value_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="object"):
        encode_json(object())


@pytest.mark.parametrize("message", ['{"a": "é"}', '{"a": "é"}'.encode()], ids=["text", "binary"])
def test_json_is_read_from_text_and_binary(message: str | bytes) -> None:
    assert decode_json(message) == {"a": "é"}


@pytest.mark.parametrize(
    "message",
    [
        "",
        b"",
        "{",
        "NaN",
        "[Infinity]",
        "-Infinity",
        "'a'",
        "1 2",
        b"\xff",
        "\ufeff1",
        '{"a":1}'.encode("utf-16"),
        "[" * 200_000,
    ],
    ids=[
        "nothing",
        "no-bytes",
        "half",
        "nan",
        "infinity",
        "minus-infinity",
        "single-quotes",
        "two-values",
        "not-utf8",
        "byte-order-mark",
        "utf-16",
        "too-deep",
    ],
)
def test_what_is_not_json_closes_with_1007(message: str | bytes) -> None:
    """RFC 8259 §2, §8.1"""
    with pytest.raises(InvalidMessage, match="not JSON") as caught:
        decode_json(message)
    assert caught.value.close_code == 1007
    assert caught.value.__suppress_context__


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda values: st.one_of(st.lists(values, max_size=4), st.dictionaries(st.text(), values, max_size=4)),
    max_leaves=10,
)


@examples(300)
@given(json_values)
def test_what_is_encoded_is_decoded_again(value: Any) -> None:
    assert decode_json(encode_json(value)) == value
    assert "\n" not in encode_json(value)


@examples(300)
@given(st.one_of(st.text(), st.binary(), json_values.map(json.dumps)))
def test_any_message_is_json_or_an_invalid_message(message: str | bytes) -> None:
    try:
        decode_json(message)
    except InvalidMessage:
        pass


def test_a_prepared_message_is_made_into_a_frame_once() -> None:
    text, binary = Prepared("é"), Prepared(bytearray(b"x" * 200))
    assert text.frame == frame(TEXT, "é".encode(), key=None)
    assert text.frame is text.frame
    assert binary.frame == frame(BINARY, b"x" * 200, key=None)
    assert (text.message, binary.message) == ("é", b"x" * 200)
    with pytest.raises(TypeError):
        Prepared(1)  # type: ignore[arg-type]


def test_json_tells_a_lone_surrogate_that_utf8_cannot() -> None:
    """RFC 8259 §8.2: a peer may have sent one, and it goes back as it came."""
    assert encode_json({"é": "\ud800"}) == '{"\\u00e9":"\\ud800"}'
    assert encode_json("é") == '"é"'


@pytest.mark.parametrize("number", ["1e999", "-1e999", "Infinity", "NaN"])
def test_a_number_that_is_none_is_not_json(number: str) -> None:
    with pytest.raises(InvalidMessage):
        decode_json(number)
    assert decode_json("1.5e3") == 1500.0
