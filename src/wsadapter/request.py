"""The request that a WebSocket began with, as one frozen record that is alike on every host."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import overload
from urllib.parse import unquote

__all__ = ["TOKEN", "Headers", "Request"]

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""A token, the grammar of header names, subprotocols and extensions (RFC 9110 §5.6.2)."""


_USUAL = {
    name: name
    for name in (
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "connection",
        "cookie",
        "host",
        "origin",
        "pragma",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "sec-fetch-site",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-version",
        "upgrade",
        "user-agent",
    )
}
"""Names that every connection has: kept once, not once for each."""


class Headers:
    """Header fields in the order they came: names without regard to case, repeats kept.

    Values are latin-1 decoded, so any bytes have a value and none raises (RFC 9110 §5.5).
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str | bytes, str | bytes]] = ()) -> None:
        lowered = ((_text(name).lower(), value) for name, value in fields)
        self._fields = tuple((_USUAL.get(name, name), _text(value).strip(" \t")) for name, value in lowered)

    @overload
    def get(self, name: str) -> str | None: ...

    @overload
    def get(self, name: str, default: str) -> str: ...

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of *name*, or *default*."""
        name = name.lower()
        return next((value for key, value in self._fields if key == name), default)

    def get_all(self, name: str) -> list[str]:
        """Every value of *name*, in order; none is an empty list."""
        name = name.lower()
        return [value for key, value in self._fields if key == name]

    def get_list(self, name: str) -> list[str]:
        """The elements of the comma-separated list that *name* is, repeats joined (RFC 9110 §5.6.1)."""
        elements = (element.strip(" \t") for value in self.get_all(name) for element in value.split(","))
        return [element for element in elements if element]

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._fields == other._fields

    def __hash__(self) -> int:
        return hash(self._fields)

    def __repr__(self) -> str:
        return f"Headers({list(self._fields)!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asked for. `query` is the raw query string, `path` is percent-decoded."""

    method: str = "GET"
    path: str = "/"
    query: str = ""
    headers: Headers = Headers()
    scheme: str = "http"
    """``"http"`` or ``"https"``: as the host saw it, which behind a proxy is not what the browser saw."""
    peer: str | None = None
    """The address of the client, or of the proxy before us; None on a Unix socket."""
    http_version: str = "1.1"

    @classmethod
    def from_target(
        cls, method: str, target: str, headers: Headers, *, scheme: str, peer: str | None, http_version: str
    ) -> Request:
        """The record for an HTTP/1 request target in origin form (RFC 9112 §3.2.1)."""
        path, _, query = target.partition("?")
        return cls(
            method=method,
            path=unquote(path),
            query=query,
            headers=headers,
            scheme=scheme,
            peer=peer,
            http_version=http_version,
        )


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
