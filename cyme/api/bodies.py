"""The fields that a request carries in its query string and in its body, as they were sent."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from twisted.web.server import Request

from cyme.api import jsontext
from cyme.api.problems import MalformedRequest
from cyme.errors import MalformedBody

#: How many fields a query string or a form may have.
MOST_FIELDS = 100

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


def query_fields(request: Request) -> list[tuple[str, str]]:
    """The fields of the query string, in order.

    :raises MalformedRequest: when it is not UTF-8 or has too many fields.
    """
    _, _, query = request.uri.partition(b"?")
    try:
        return _pairs(query) if query else []
    except ValueError as error:
        raise MalformedRequest(f"the query string {_why(error)}") from None


def body_fields(request: Request) -> tuple[list[tuple[str, Any]], bool]:
    """The fields of the body and whether their values are JSON (else text).

    :raises MalformedBody: when there is a body that is neither a form nor a JSON object.
    """
    assert request.content is not None
    content = request.content.read()
    if not content:
        return [], False
    kind = _content_type(request)
    try:
        if kind == FORM:
            return _pairs(content), False
        if kind == JSON:
            value = jsontext.loads(content.decode("utf-8"))
            if not isinstance(value, dict):
                raise MalformedBody("it is JSON, but not an object")
            return list(value.items()), True
    except jsontext.NotJSON as error:
        raise MalformedBody(f"it is not JSON as this API takes it: {error}") from None
    except ValueError as error:
        raise MalformedBody(f"it {_why(error)}") from None
    raise MalformedBody(f"its Content-Type is {kind[:100]!r}; {FORM} and {JSON} are taken")


def _content_type(request: Request) -> str:
    headers = request.requestHeaders
    if headers.hasHeader(b"Content-Encoding"):
        raise MalformedBody("it has a Content-Encoding; none is taken")
    values = headers.getRawHeaders(b"Content-Type", [])
    if len(values) != 1:
        raise MalformedBody(f"it has no Content-Type or several; {FORM} and {JSON} are taken")
    kind, _, rest = values[0].decode("latin-1").partition(";")
    charset = re.search(r"charset\s*=\s*\"?([^\s\";]+)", rest, re.IGNORECASE)
    if charset and charset.group(1).lower() not in ("utf-8", "utf8", "us-ascii", "ascii"):
        raise MalformedBody("its charset is not UTF-8")
    return kind.strip().lower()


def _pairs(text: bytes) -> list[tuple[str, str]]:
    return parse_qsl(
        text.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS
    )


def _why(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8"
    return f"has more than {MOST_FIELDS} fields"
