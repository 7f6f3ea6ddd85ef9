"""What the headers of a request to `/APP/queue/...` say: how it is to be made, and what it carries along."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twisted.web.http_headers import Headers

from cyme.api.parameters import Kind, Seconds, Text, Whole
from cyme.api.problems import InvalidHeader

#: The longest that one attempt may take, that a task may be delayed, and the most retries.
TIMEOUT_MOST = 1500.0
DELAY_MOST = 7 * 86_400.0
RETRIES_MOST = 100

_FORWARD = "cyme-forward-"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

#: What speaks of a connection or of a message's framing (RFC 9110, 7.6.1), and so is the worker's business.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

#: What describes the body: it goes with it.
_OF_THE_BODY = ("Content-Type", "Content-Encoding")


class _Id:
    """An id of the caller's choice."""

    takes = "1 to 255 printable characters of ASCII"

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"}

    def from_text(self, text: str) -> str:
        if not re.fullmatch(r"[\x21-\x7e]{1,255}", text):
            raise ValueError
        return text

    def from_json(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError
        return self.from_text(value)


#: Header -> parameter of the verb, and what it takes.
OPTIONS: dict[str, tuple[str, Kind]] = {
    "Cyme-Timeout": ("timeout", Seconds(TIMEOUT_MOST)),
    "Cyme-Retries": ("retries", Whole(0, RETRIES_MOST)),
    "Cyme-Delay": ("delay", Seconds(DELAY_MOST)),
    "Cyme-Deduplication-Id": ("deduplication_id", _Id()),
    "Cyme-Callback": ("callback", Text()),
    "Cyme-Failure-Callback": ("failure_callback", Text()),
}
_BY_NAME = {header.lower(): (header, *how) for header, how in OPTIONS.items()}

#: Parameter of the verb -> the header that it came from.
HEADER_OF = {parameter: header for header, (parameter, _) in OPTIONS.items()}


def read_headers(headers: Headers) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """The headers that the target is to get, and the verb's parameters that were given.

    :raises InvalidHeader: for one of ours that is not known, is given twice, or has a value that
        it does not take; and for one that can't be forwarded.
    """
    forwarded: list[tuple[str, str]] = []
    given: dict[str, Any] = {}
    for raw_name, raw_values in headers.getAllRawHeaders():
        if not raw_name[:5].lower() == b"cyme-":
            continue
        name = raw_name.decode("latin-1")
        values = [value.decode("latin-1") for value in raw_values]
        if name.lower().startswith(_FORWARD):
            forwarded += _forwarded(name, values)
        else:
            _read_option(name, values, given)
    there = {name.lower() for name, _ in forwarded}
    for name in _OF_THE_BODY:
        if name.lower() not in there:
            own = headers.getRawHeaders(name.encode("ascii"), [])
            forwarded += [(name, _checked(name, value.decode("latin-1"))) for value in own]
    return forwarded, given


def _forwarded(header: str, values: list[str]) -> list[tuple[str, str]]:
    name = header[len(_FORWARD) :]
    if not _TOKEN.fullmatch(name.lower()):
        raise InvalidHeader(header, "behind 'Cyme-Forward-' there must be the name of a header")
    if name.lower() in HOP_BY_HOP:
        raise InvalidHeader(
            header, f"'{name}' can't be forwarded: it is the connection's, which the worker makes"
        )
    return [(name, _checked(header, value)) for value in values]


def _checked(header: str, value: str) -> str:
    if _CONTROL.search(value):
        raise InvalidHeader(header, "it has control characters")
    return value


def _read_option(name: str, values: list[str], given: dict[str, Any]) -> None:
    if name.lower() not in _BY_NAME:
        raise InvalidHeader(name, f"is not known; there are {', '.join(OPTIONS)} and Cyme-Forward-NAME")
    header, parameter, kind = _BY_NAME[name.lower()]
    if len(values) > 1:
        raise InvalidHeader(header, "is given twice")
    if not values[0]:
        return
    try:
        given[parameter] = kind.from_text(values[0])
    except ValueError:
        raise InvalidHeader(header, f"takes {kind.takes}") from None
