"""What we agree to: origins, subprotocols, compression, headers of the program's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.deflate import Parameters
from wsadapter.errors import Refused
from wsadapter.options import Deflate
from wsadapter.policy import (
    check_headers,
    check_origin,
    check_origins,
    check_protocols,
    choose_deflate,
    choose_protocol,
)
from wsadapter.request import Headers, Request

from .streams import examples


def asked(*fields: tuple[str, str]) -> Request:
    return Request(headers=Headers(fields))


# ----------------------------------------------------------------------------------------------- origins

HOST = ("Host", "example.com")


@pytest.mark.parametrize(
    ("fields", "origins"),
    [
        ([HOST], None),
        ([HOST, ("Origin", "https://example.com")], None),
        ([HOST, ("Origin", "http://example.com")], None),
        ([HOST, ("Origin", "https://EXAMPLE.com")], None),
        ([("Host", "Example.COM"), ("Origin", "https://example.com")], None),
        ([("Host", "example.com:443"), ("Origin", "https://example.com")], None),
        ([HOST, ("Origin", "https://example.com:443")], None),
        ([("Host", "example.com:8000"), ("Origin", "http://example.com:8000")], None),
        ([("Host", "[::1]:8000"), ("Origin", "http://[::1]:8000")], None),
        ([("Host", "inside"), ("Origin", "https://example.com"), ("Sec-Fetch-Site", "same-origin")], None),
        ([HOST, ("Origin", "https://example.com"), ("Sec-Fetch-Site", "cross-site")], None),
        ([HOST, ("Origin", "https://other.com")], ["https://other.com"]),
        ([HOST, ("Origin", "https://other.com")], "https://other.com"),
        ([HOST, ("Origin", "https://Other.com")], {"https://other.com"}),
        ([HOST, ("Origin", "https://other.com")], "*"),
        ([HOST, ("Origin", "null")], "*"),
        ([HOST, ("Origin", "null")], ["null"]),
        ([HOST, ("Origin", "https://a.other.com")], lambda origin: origin.endswith(".other.com")),
    ],
    ids=[
        "no-browser",
        "our-own-page",
        "our-own-page-without-tls",
        "origin-in-any-case",
        "host-in-any-case",
        "host-with-the-default-port",
        "origin-with-the-default-port",
        "same-port",
        "same-address",
        "the-browser-says-same-origin-behind-a-proxy",
        "the-browser-says-cross-site-but-the-host-says-otherwise",
        "named",
        "named-alone",
        "named-in-another-case",
        "everybody",
        "null-with-everybody",
        "null-named",
        "by-a-function",
    ],
)
def test_pages_of_ours_and_those_we_name_come_in(fields: list[tuple[str, str]], origins: Any) -> None:
    """RFC 6455 §10.2"""
    check_origin(asked(*fields), check_origins(origins))


@pytest.mark.parametrize(
    ("fields", "origins"),
    [
        ([HOST, ("Origin", "https://other.com")], None),
        ([HOST, ("Origin", "https://other.com")], []),
        ([HOST, ("Origin", "https://other.com")], ["https://another.com", "http://other.com"]),
        ([HOST, ("Origin", "https://a.other.com")], ["https://other.com"]),
        ([HOST, ("Origin", "https://other.com.evil")], "https://other.com"),
        ([HOST, ("Origin", "https://other.com")], lambda origin: False),
        ([HOST, ("Origin", "https://example.com:8443")], None),
        ([("Host", "example.com:80"), ("Origin", "https://example.com")], None),
        ([HOST, ("Origin", "null")], None),
        ([HOST, ("Origin", "")], None),
        ([HOST, ("Origin", "example.com")], None),
        ([("Origin", "https://example.com")], None),
        ([("Host", ""), ("Origin", "https://")], None),
        ([HOST, ("Origin", "https://example.com"), ("Origin", "https://example.com")], "*"),
        ([HOST, ("Origin", "https://other.com"), ("Sec-Fetch-Site", "same-site")], None),
        ([HOST, ("Origin", "https://other.com"), ("Sec-Fetch-Site", "none")], None),
        ([HOST, ("Origin", "https://\xff\xfe")], None),
    ],
    ids=[
        "from-elsewhere",
        "none-named",
        "not-the-ones-named",
        "a-subdomain-of-one-named",
        "one-that-begins-like-one-named",
        "not-by-a-function",
        "another-port",
        "the-default-port-of-another-scheme",
        "null",
        "empty",
        "no-scheme",
        "no-host",
        "all-empty",
        "two-origins",
        "the-browser-says-same-site",
        "the-browser-says-none",
        "not-ascii",
    ],
)
def test_pages_from_elsewhere_are_refused(fields: list[tuple[str, str]], origins: Any) -> None:
    """RFC 6455 §4.2.2, item 4"""
    with pytest.raises(Refused, match=r"may not open this WebSocket\. If they should") as caught:
        check_origin(asked(*fields), check_origins(origins))
    assert caught.value.status == 403
    assert str(caught.value).isascii()


def test_a_long_origin_is_told_in_part() -> None:
    with pytest.raises(Refused) as caught:
        check_origin(asked(HOST, ("Origin", "https://" + "a" * 10_000)), None)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "wrong",
    [
        "example.com",
        "https://example.com/",
        "https://example.com/chat",
        "https://Example.com",
        "https://example.com?x",
        "https://exa\nmple.com",
        "https://",
        "//example.com",
        "",
        "http://[",
    ],
)
def test_an_origin_that_no_page_has_is_a_mistake(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"origins=|Invalid"):
        check_origins(wrong)
    with pytest.raises(ValueError, match=r"origins=|Invalid"):
        check_origins(["https://example.com", wrong])


def test_what_is_said_of_origins_is_kept() -> None:
    def by_name(origin: str) -> bool:
        return False

    def some() -> Iterator[str]:
        yield "https://a.b"
        yield "http://localhost:3000"

    assert check_origins(None) is None
    assert check_origins(by_name) is by_name
    assert check_origins("*") == {"*"}
    assert check_origins(some()) == {"https://a.b", "http://localhost:3000"}


# ------------------------------------------------------------------------------------------ subprotocols


def offering(*values: str) -> Headers:
    return Headers([("Sec-WebSocket-Protocol", value) for value in values])


@pytest.mark.parametrize(
    ("offered", "ours", "chosen"),
    [
        ([], [], None),
        ([], ["a"], None),
        (["a"], [], None),
        (["a"], ["b"], None),
        (["b, a"], ["a", "b"], "a"),
        (["b", "a"], ["a", "b"], "a"),
        (["b ,\tc"], ["a", "c", "b"], "c"),
        (["A"], ["a"], None),
        ([""], ["a"], None),
        ([",,a,"], ["a"], "a"),
    ],
    ids=[
        "nothing-of-both",
        "nothing-offered",
        "none-of-ours",
        "none-in-common",
        "the-first-of-ours",
        "offered-in-two-fields",
        "the-first-in-common",
        "case-counts",
        "an-empty-offer",
        "empty-elements",
    ],
)
def test_the_first_of_ours_that_was_offered_is_chosen(offered: list[str], ours: list[str], chosen: str | None) -> None:
    """RFC 6455 §4.2.2, item 5"""
    assert choose_protocol(offering(*offered), ours) == chosen


@pytest.mark.parametrize("offered", [[], ["c"]], ids=["nothing", "another"])
def test_a_required_subprotocol_that_was_not_offered_is_asked_for(offered: list[str]) -> None:
    with pytest.raises(Refused, match=r"Offer one of these subprotocols: a, b\.") as caught:
        choose_protocol(offering(*offered), ["a", "b"], required=True)
    assert caught.value.status == 400


def test_a_required_subprotocol_that_was_offered_is_chosen() -> None:
    assert choose_protocol(offering("b"), ["a", "b"], required=True) == "b"


@pytest.mark.parametrize("offered", ["a b", 'a, "b"', "a;b", "\xff", "a\0", "a/b"])
def test_an_offer_that_is_no_list_of_tokens_is_refused(offered: str) -> None:
    """RFC 6455 §4.1, item 10"""
    for ours in ([], ["a"]):
        with pytest.raises(Refused, match="comma-separated list of tokens") as caught:
            choose_protocol(offering(offered), ours)
        assert caught.value.status == 400


def test_our_own_subprotocols_are_held_against_the_grammar() -> None:
    assert check_protocols(["a", "v2.chat"]) == ("a", "v2.chat")
    assert check_protocols(()) == ()
    with pytest.raises(ValueError, match=r"give a sequence of names, such as \['chat'\]"):
        check_protocols("chat")
    for wrong in ("", "a b", "a,b", "é", "a\n"):
        with pytest.raises(ValueError, match="is not a token"):
            check_protocols(["a", wrong])


# ------------------------------------------------------------------------------------------- compression


def agreed(*offers: str, **ours: Any) -> Parameters | None:
    headers = Headers([("Sec-WebSocket-Extensions", offer) for offer in offers])
    return choose_deflate(headers, Deflate(**ours))


PMD = "permessage-deflate"
TWELVE = f"{PMD}; server_max_window_bits=12"


@pytest.mark.parametrize(
    ("offer", "ours", "answer"),
    [
        (PMD, {}, TWELVE),
        (PMD, {"server_max_window_bits": 15}, f"{PMD}; server_max_window_bits=15"),
        (f"{PMD}; client_max_window_bits", {}, f"{TWELVE}; client_max_window_bits=12"),
        (f"{PMD}; client_max_window_bits=15", {}, f"{TWELVE}; client_max_window_bits=12"),
        (f"{PMD}; client_max_window_bits=10", {}, f"{TWELVE}; client_max_window_bits=10"),
        (f"{PMD}; client_max_window_bits=8", {}, f"{TWELVE}; client_max_window_bits=8"),
        (PMD, {"client_max_window_bits": 9}, TWELVE),
        (f"{PMD}; server_max_window_bits=15", {}, TWELVE),
        (f"{PMD}; server_max_window_bits=9", {}, f"{PMD}; server_max_window_bits=9"),
        (f'{PMD}; server_max_window_bits="10"', {}, f"{PMD}; server_max_window_bits=10"),
        (f"{PMD}; server_no_context_takeover", {}, f"{PMD}; server_no_context_takeover; server_max_window_bits=12"),
        (f"{PMD}; client_no_context_takeover", {}, f"{PMD}; client_no_context_takeover; server_max_window_bits=12"),
        (PMD, {"server_no_context_takeover": True}, f"{PMD}; server_no_context_takeover; server_max_window_bits=12"),
        (PMD, {"client_no_context_takeover": True}, f"{PMD}; client_no_context_takeover; server_max_window_bits=12"),
        (
            (
                f"{PMD};server_no_context_takeover\t; client_no_context_takeover ;server_max_window_bits = 11;"
                "client_max_window_bits"
            ),
            {},
            (
                f"{PMD}; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=11;"
                " client_max_window_bits=12"
            ),
        ),
    ],
    ids=[
        "bare",
        "our-window",
        "client-window-offered",
        "client-window-of-15-offered",
        "client-window-of-10-offered",
        "client-window-of-8-offered",
        "client-window-not-offered-is-not-asked-for",
        "server-window-of-15-asked-for",
        "server-window-of-9-asked-for",
        "a-quoted-value",
        "server-takeover-declined",
        "client-takeover-declined",
        "we-forget",
        "we-ask-the-client-to-forget",
        "all-four-in-odd-spacing",
    ],
)
def test_an_offer_that_we_can_keep_is_answered_to_the_letter(offer: str, ours: dict[str, Any], answer: str) -> None:
    """RFC 7692 §7.1"""
    parameters = agreed(offer, **ours)
    assert str(parameters) == answer
    assert parameters is not None
    assert parameters.ours == Deflate(**ours)


BAD_OFFERS = [
    f"{PMD}; unknown",
    f"{PMD}; unknown=1",
    f"{PMD}; Server_No_Context_Takeover",
    f"{PMD}; server_no_context_takeoverXYZ",
    f"{PMD}; server_no_context_takeover; server_no_context_takeover",
    f"{PMD}; client_max_window_bits; client_max_window_bits=10",
    f"{PMD}; client_no_context_takeover=1",
    f"{PMD}; server_no_context_takeover=true",
    f"{PMD}; server_max_window_bits",
    f"{PMD}; server_max_window_bits=8",
    f"{PMD}; server_max_window_bits=7",
    f"{PMD}; server_max_window_bits=16",
    f"{PMD}; server_max_window_bits=010",
    f"{PMD}; server_max_window_bits=1_0",
    f"{PMD}; server_max_window_bits=+9",
    f"{PMD}; client_max_window_bits=abc",
    f"{PMD}; client_max_window_bits=0",
    f"{PMD}; client_max_window_bits=7",
    f"{PMD}; client_max_window_bits=16",
    f"{PMD}; client_max_window_bits=-1",
    f'{PMD}; client_max_window_bits="1.0"',
    "permessage-bzip2",
    "x-webkit-deflate-frame",
    "Permessage-Deflate",
]


@pytest.mark.parametrize("bad", BAD_OFFERS)
def test_an_offer_that_we_cannot_keep_is_declined_and_the_next_one_looked_at(bad: str) -> None:
    """RFC 7692 §5.1, §7.1"""
    assert agreed(bad) is None
    for offers in ([f"{bad}, {PMD}"], [bad, PMD], [f"{bad},,{PMD};client_max_window_bits"]):
        parameters = agreed(*offers)
        assert str(parameters).startswith(TWELVE)


def test_the_first_offer_that_we_can_keep_counts() -> None:
    """RFC 7692 §5.1: they are in the client's order of preference."""
    one, two = f"{PMD}; client_max_window_bits=9", f"{PMD}; server_no_context_takeover"
    assert str(agreed(f"{one}, {two}")) == f"{TWELVE}; client_max_window_bits=9"
    assert str(agreed(two, one)) == f"{PMD}; server_no_context_takeover; server_max_window_bits=12"


@pytest.mark.parametrize(
    "header",
    [
        "",
        ",",
        ";",
        f"{PMD};",
        f"{PMD}; =",
        f"{PMD}; server_max_window_bits=",
        f'{PMD}; server_max_window_bits="',
        f'{PMD}; server_max_window_bits=""',
        f'{PMD}; server_max_window_bits="1 0"',
        f"{PMD} {PMD}",
        f"{PMD}; client_max_window_bits 10",
        f"{PMD}, \xff",
        f'{PMD}, "quoted, commas"',
        f"{PMD}, a;b=\0",
        f"{PMD}\n",
        f"{PMD}, (comment)",
    ],
)
def test_a_header_that_is_not_by_the_grammar_offers_nothing(header: str) -> None:
    """RFC 6455 §9.1"""
    assert agreed(header) is None


def test_no_header_is_no_offer() -> None:
    assert agreed() is None


@pytest.mark.parametrize(
    "header",
    [
        "a" + " ;b" * 5000 + '"',
        "a" + ";b =c \t" * 2000 + '"',
        "a" + " " * 8000 + ";" + " " * 8000 + '"',
        "a," * 8000 + '"',
        "," * 16000,
        "a" * 16000 + '"',
        f"{PMD}," * 800,
        f"{PMD}; unknown," * 500,
    ],
    ids=["parameters", "values", "white-space", "extensions", "commas", "a-name", "offers", "bad-offers"],
)
def test_a_hostile_header_takes_no_longer_than_it_is_long(header: str) -> None:
    """With two ways to read one space, 40 parameters would take longer than the pytest timeout."""
    assert agreed(header) is None or header.startswith(f"{PMD},")


names = st.sampled_from(
    [
        "server_no_context_takeover",
        "client_no_context_takeover",
        "server_max_window_bits",
        "client_max_window_bits",
        "unknown",
    ]
)
values = st.one_of(st.none(), st.integers(6, 17).map(str), st.sampled_from(["abc", "08", "1_0", "true"]))


@examples(500)
@given(
    st.lists(st.lists(st.tuples(names, values), max_size=4), max_size=4),
    st.builds(
        Deflate,
        server_max_window_bits=st.integers(9, 15),
        client_max_window_bits=st.integers(9, 15),
        server_no_context_takeover=st.booleans(),
        client_no_context_takeover=st.booleans(),
    ),
)
def test_the_agreement_keeps_both_sides_bounds(offers: list[list[tuple[str, str | None]]], ours: Deflate) -> None:
    """RFC 7692 §7.1.1, §7.1.2"""
    words = [
        PMD + "".join(f"; {name}" + ("" if value is None else f"={value}") for name, value in offer) for offer in offers
    ]
    parameters = choose_deflate(Headers([("Sec-WebSocket-Extensions", ", ".join(words))]), ours)

    windows = {str(bits) for bits in range(8, 16)}
    for offer in offers:
        asked = dict(offer)
        legal = (
            len(asked) == len(offer)
            and asked.keys()
            <= {"server_no_context_takeover", "client_no_context_takeover"} | {name for name in asked if "bits" in name}
            and asked.get("server_no_context_takeover") is None
            and asked.get("client_no_context_takeover") is None
            and asked.get("server_max_window_bits", "15") in windows - {"8"}
            and (asked.get("client_max_window_bits") or "15") in windows
        )
        if legal:
            break
    else:
        assert parameters is None
        return
    assert parameters is not None
    assert parameters.server_max_window_bits == min(
        ours.server_max_window_bits, int(asked.get("server_max_window_bits") or 15)
    )
    if "client_max_window_bits" in asked:
        limit = int(asked["client_max_window_bits"] or 15)
        assert parameters.client_max_window_bits == min(ours.client_max_window_bits, limit)
    else:
        assert parameters.client_max_window_bits is None
    for name in ("server_no_context_takeover", "client_no_context_takeover"):
        assert getattr(parameters, name) == (name in asked or getattr(ours, name))


# ----------------------------------------------------------------------------------------- extra headers


def test_extra_headers_are_kept_in_order_and_may_repeat() -> None:
    assert check_headers(()) == ()
    assert check_headers({"X-A": "1", "Server": "tea\tpot é"}) == (("X-A", "1"), ("Server", "tea\tpot é"))
    assert check_headers([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]) == (
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    )


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\r\nSet-Cookie: x=1", "\0", "a\n", "\x7f", "\x1f", "€"])
def test_no_value_can_start_a_header_of_its_own(value: str) -> None:
    """RFC 9110 §5.5"""
    with pytest.raises(ValueError, match="a character that no header may have"):
        check_headers({"X-A": value})


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\n", "a\n", "é", "a\0"])
def test_a_name_is_a_token(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a header"):
        check_headers([(name, "x")])


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "UPGRADE",
        "Sec-WebSocket-Accept",
        "sec-websocket-protocol",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-Version",
        "Content-Length",
        "Transfer-Encoding",
    ],
)
def test_what_the_handshake_says_is_not_for_the_program_to_say(name: str) -> None:
    with pytest.raises(ValueError, match="is set by the handshake itself"):
        check_headers({name: "x"})


# ------------------------------------------------------------------------------------------- all of them

fields = st.sampled_from(
    [b"host", b"origin", b"sec-fetch-site", b"sec-websocket-protocol", b"sec-websocket-extensions", b"cookie"]
)
words = st.sampled_from(
    [b"permessage-deflate", b"; ", b", ", b"=", b'"', b"client_max_window_bits", b"chat", b"https://", b"example.com"]
)
said = st.one_of(st.binary(max_size=30), st.lists(st.one_of(words, st.binary(max_size=3)), max_size=10).map(b"".join))


@examples(500)
@given(
    st.lists(st.tuples(fields, said), max_size=8), st.sampled_from([None, "*", ("https://example.com",)]), st.booleans()
)
def test_whatever_a_client_says_is_answered(lines: list[tuple[bytes, bytes]], origins: Any, required: bool) -> None:
    request = Request(headers=Headers(lines))
    chosen, refused = None, None
    try:
        check_origin(request, check_origins(origins))
        chosen = choose_protocol(request.headers, ["chat", "b"], required=required)
    except Refused as answer:
        refused = answer
    if refused is not None:
        assert refused.status in (400, 403)
        assert str(refused).isascii()
    else:
        assert chosen in ("chat", "b", None)
        assert not (required and chosen is None)
    parameters = choose_deflate(request.headers, Deflate())
    assert parameters is None or "\n" not in str(parameters)


def test_a_page_that_came_without_tls_is_of_another_site_than_one_with() -> None:
    request = Request(headers=Headers([("Host", "a.example"), ("Origin", "http://a.example")]), scheme="https")
    with pytest.raises(Refused, match=r"http://a\.example"):
        check_origin(request, None)


def test_an_app_that_calls_itself_by_our_name_is_no_page_of_ours() -> None:
    request = Request(headers=Headers([("Host", "localhost"), ("Origin", "capacitor://localhost")]))
    with pytest.raises(Refused):
        check_origin(request, None)
    check_origin(request, {"capacitor://localhost"})
