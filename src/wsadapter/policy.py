"""What we agree to on opening, on every host and every version of HTTP: origin, subprotocol, compression, headers.

Whatever a client sends gets an answer: an agreement, a declined offer or a `Refused`, never another exception.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, cast
from urllib.parse import urlsplit

from .deflate import Parameters
from .errors import Refused
from .options import Deflate
from .request import TOKEN, Headers, Request

__all__ = [
    "ExtraHeaders",
    "Origins",
    "check_headers",
    "check_origin",
    "check_origins",
    "check_protocols",
    "choose_deflate",
    "choose_protocol",
    "header_pairs",
]

Origins: TypeAlias = str | Iterable[str] | Callable[[str], bool] | None
"""Which pages may connect: origins such as ``"https://example.com"``, a function of one, or ``"*"``, all."""

ExtraHeaders: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
"""Headers to send with the 101: a mapping, or pairs where a name repeats."""

PORTS = {"http": "80", "https": "443"}


def check_origins(origins: Origins) -> Origins:
    """Hold what the program says of origins against what a browser would send.

    Raises:
        ValueError: One that no Origin header can be equal to, such as one with a path.
    """
    if origins is None or callable(origins):
        return origins
    known = frozenset((origins,) if isinstance(origins, str) else origins)
    for origin in known - {"*", "null"}:
        parts = urlsplit(origin)
        if not parts.scheme or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}".lower():
            raise ValueError(f"origins={origin!r}: an origin is like 'https://example.com', in lower case, no path")
    return known


def check_origin(request: Request, origins: Origins) -> None:
    """Let pages of our own site in, and others only by *origins*: cookies come along from any of them.

    ``Sec-Fetch-Site: same-origin`` settles it, also behind a proxy that rewrites Host. Otherwise the
    Origin must be the Host that was asked, or be one of *origins*. A client without an Origin is no browser,
    and carries no cookies of somebody else's (RFC 6455 §10.2).

    Raises:
        Refused: 403, for a page from elsewhere.
    """
    offered = request.headers.get_all("origin")
    if not offered or request.headers.get("sec-fetch-site") == "same-origin":
        return
    origin = offered[0]
    if len(offered) == 1 and (_same_site(origin, request) or _allowed(origin, origins)):
        return
    raise Refused(
        403,
        f"Pages of {ascii(origin)[:100]} may not open this WebSocket."
        " If they should, the server names them in origins=; behind a proxy, let it pass the Host header on.",
    )


def _same_site(origin: str, request: Request) -> bool:
    scheme, _, address = origin.lower().partition("://")
    host = request.headers.get("host", "").lower()
    # Over TLS to us the page has to have come by it, too. Over plain HTTP a proxy may have taken TLS off.
    if not host or scheme not in PORTS or (request.scheme == "https" and scheme != "https"):
        return False
    default = ":" + PORTS[scheme]
    return address.removesuffix(default) == host.removesuffix(default)


def _allowed(origin: str, origins: Origins) -> bool:
    if origins is None:
        return False
    if callable(origins):
        return bool(origins(origin))
    return "*" in origins or origin.lower() in origins


def check_protocols(protocols: Sequence[str]) -> tuple[str, ...]:
    """Hold the program's subprotocols against the grammar.

    Raises:
        ValueError: A name that is no token, or a single string in place of a sequence.
    """
    if isinstance(protocols, str):
        raise ValueError(f"protocols={protocols!r}: give a sequence of names, such as [{protocols!r}]")
    for protocol in protocols:
        if not TOKEN.fullmatch(protocol):
            raise ValueError(f"protocols: {protocol!r} is not a token (RFC 6455 §4.1)")
    return tuple(protocols)


def choose_protocol(headers: Headers, protocols: Sequence[str], *, required: bool = False) -> str | None:
    """The first of our *protocols* that the client offered too: the server's preference counts.

    Raises:
        Refused: 400, for an offer that is not a list of tokens, or where one is *required* and none fits.
    """
    offered = headers.get_list("sec-websocket-protocol")
    if not all(TOKEN.fullmatch(protocol) for protocol in offered):
        raise Refused(400, "Sec-WebSocket-Protocol is a comma-separated list of tokens.")
    for protocol in protocols:
        if protocol in offered:
            return protocol
    if required:
        raise Refused(400, f"Offer one of these subprotocols: {', '.join(protocols)}.")
    return None


# White space has one place each, before what follows it: with two, a hostile header takes exponential time.
_PARAMETER = rf'[ \t]*;[ \t]*({TOKEN.pattern})(?:[ \t]*=[ \t]*(?:({TOKEN.pattern})|"({TOKEN.pattern})"))?'
_PARAMETERS = re.compile(_PARAMETER)
_EXTENSION = re.compile(rf"[ \t,]*({TOKEN.pattern})((?:{_PARAMETER})*)[ \t]*(?:,|$)")
_BITS = re.compile("8|9|1[0-5]")


def choose_deflate(headers: Headers, ours: Deflate) -> Parameters | None:
    """The first offer of permessage-deflate that we can keep to the letter (RFC 7692 §7.1).

    An offer with an unknown, repeated or ill-valued parameter is declined, and the next one looked at;
    a header that is not by the grammar offers nothing.
    """
    offers = _extensions(", ".join(headers.get_all("sec-websocket-extensions")))
    agreements = (_agree(parameters, ours) for name, parameters in offers if name == "permessage-deflate")
    return next((agreed for agreed in agreements if agreed is not None), None)


def _extensions(header: str) -> list[tuple[str, list[tuple[str, str | None]]]]:
    """The offers in order, each with its parameters (RFC 6455 §9.1)."""
    offers: list[tuple[str, list[tuple[str, str | None]]]] = []
    position = 0
    while match := _EXTENSION.match(header, position):
        parameters = [(name, bare or quoted or None) for name, bare, quoted in _PARAMETERS.findall(match[2])]
        offers.append((match[1], parameters))
        position = match.end()
    return [] if header[position:].strip(" \t,") else offers


def _agree(offer: list[tuple[str, str | None]], ours: Deflate) -> Parameters | None:
    asked = dict(offer)
    if len(asked) < len(offer) or not all(_is_valid(name, value) for name, value in offer):
        return None
    server_bits = min(int(asked.get("server_max_window_bits") or 15), ours.server_max_window_bits)
    if server_bits < 9:  # zlib cannot make a raw stream with so small a window
        return None
    return Parameters(
        server_no_context_takeover="server_no_context_takeover" in asked or ours.server_no_context_takeover,
        client_no_context_takeover="client_no_context_takeover" in asked or ours.client_no_context_takeover,
        server_max_window_bits=server_bits,
        # A client that did not offer it may not be told to (RFC 7692 §7.1.2.2): it uses all 15.
        client_max_window_bits=min(int(asked["client_max_window_bits"] or 15), ours.client_max_window_bits)
        if "client_max_window_bits" in asked
        else None,
        ours=ours,
    )


def _is_valid(name: str, value: str | None) -> bool:
    match name:
        case "server_no_context_takeover" | "client_no_context_takeover":
            return value is None
        case "server_max_window_bits":
            return value is not None and _BITS.fullmatch(value) is not None
        case "client_max_window_bits":
            return value is None or _BITS.fullmatch(value) is not None
        case _:
            return False


_OURS = re.compile("connection|upgrade|sec-websocket-.*|content-length|transfer-encoding", re.IGNORECASE)
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def header_pairs(headers: ExtraHeaders) -> tuple[tuple[str, str], ...]:
    """*headers* as pairs, whichever way they were given."""
    return tuple(cast("Mapping[str, str]", headers).items() if isinstance(headers, Mapping) else headers)


def check_headers(headers: ExtraHeaders) -> tuple[tuple[str, str], ...]:
    """Hold the program's extra headers against the grammar, so that no value can start a header of its own.

    Raises:
        ValueError: A name that is no token or that the handshake sets itself, or a value with a control
            character or outside latin-1 (RFC 9110 §5.5).
    """
    pairs = header_pairs(headers)
    for name, value in pairs:
        if not TOKEN.fullmatch(name):
            raise ValueError(f"headers: {name!r} is not the name of a header")
        if _OURS.fullmatch(name):
            raise ValueError(f"headers: {name!r} is set by the handshake itself")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"headers: the value of {name!r} has a character that no header may have: {value!r}")
    return pairs
