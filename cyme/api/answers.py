"""Answers to what worked: each function prepares a request's answer from a verb's result.

Every one takes the request and the result, sets status and headers, and returns the body.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes as unquote

from twisted.web.server import Request

_JSON = [b"application/json"]
_TEXT = [b"text/plain; charset=utf-8"]
_METRICS = [b"text/plain; version=0.0.4; charset=utf-8"]
_OK = b'{"ok": "ok"}\n'

#: The verdicts with which a load balancer need not look elsewhere.
HEALTHY = frozenset({"ok", "starting", "draining"})

#: Said where the declaration of a queue is not tried before a worker hears of it.
UNTRIED = "not tried: the broker's transport has no declarations"

_encode = json.JSONEncoder(allow_nan=False).encode


def _answer(request: Request, status: int, body: bytes, content_type: list[bytes] = _JSON) -> bytes:
    if status != 200:
        request.setResponseCode(status)
    headers = request.responseHeaders
    headers.setRawHeaders(b"Content-Type", content_type)
    headers.setRawHeaders(b"Content-Length", [b"%d" % len(body)])
    return body


def _json(request: Request, status: int, value: Any) -> bytes:
    return _answer(request, status, _encode(value).encode("ascii") + b"\n")


def metrics(request: Request, text: bytes) -> bytes:
    """200 with metrics in the text format of Prometheus."""
    return _answer(request, 200, text, _METRICS)


def document(request: Request, value: Mapping[str, Any]) -> bytes:
    """200 with a JSON object."""
    return _json(request, 200, value)


def health(request: Request, value: Mapping[str, Any]) -> bytes:
    """The JSON object; 200 for a verdict with which work may be sent, 503 for the others."""
    return _json(request, 200 if value["verdict"] in HEALTHY else 503, value)


def events(request: Request, value: Sequence[Mapping[str, Any]]) -> bytes:
    """200 with a JSON list of events."""
    return _json(request, 200, value)


class Listing(list[Any]):
    """A list, and the ids of the branches that could not be heard for it."""

    def __init__(self, things: Iterable[Any], missing: Sequence[str]) -> None:
        super().__init__(things)
        self.missing = missing


def listing(request: Request, names: Sequence[Any]) -> bytes:
    """200 with a JSON list, mostly of names.

    A list that could not hear from every branch has an attribute `missing`, the ids of
    the silent ones; they are named in `Cyme-Missing`.
    """
    missing = getattr(names, "missing", None)
    if missing:
        request.responseHeaders.setRawHeaders(b"Cyme-Missing", [", ".join(missing).encode("ascii")])
    return _json(request, 200, names)


def added(request: Request, outcome: tuple[bool, Mapping[str, Any]]) -> bytes:
    """201 with what was created, or 200 with what existed."""
    created, details = outcome
    return _json(request, 201 if created else 200, details)


def done(request: Request, _: object) -> bytes:
    """200 for a change that has nothing to tell."""
    return _answer(request, 200, _OK)


def consuming(request: Request, tried: bool | None) -> bytes:
    """201 for a consumer; says so where its declaration could not be tried on the broker first."""
    if tried is False:
        return _json(request, 201, {"ok": "ok", "declaration": UNTRIED})
    return _answer(request, 201, _OK)


def queued(request: Request, app: str, task: Mapping[str, Any]) -> bytes:
    """202 with a task that its broker has, and where to ask about it."""
    request.responseHeaders.setRawHeaders(b"Location", [f"/{app}/query/{task['uuid']}/".encode("ascii")])
    return _json(request, 202, task)


def queued_task(request: Request, task: Mapping[str, Any]) -> bytes:
    """The same for a task that was queued by its name."""
    return queued(request, unquote(request.path.split(b"/")[1]).decode(), task)


def waited(request: Request, outcome: tuple[bool, Mapping[str, Any]]) -> bytes:
    """200 with the result of a task that has ended, 202 with the state of one that has not."""
    ended, result = outcome
    return _json(request, 200 if ended else 202, result)


def text(request: Request, value: str) -> bytes:
    """200 with plain text."""
    return _answer(request, 200, value.encode("utf-8", "replace"), _TEXT)


def scheduled(request: Request, _: object) -> bytes:
    """202 for a change whose effect is not waited for."""
    return _answer(request, 202, b'{"ok": "operation scheduled"}\n')


def scheduled_addition(request: Request, outcome: tuple[bool, Mapping[str, Any]]) -> bytes:
    """202 with the name of what was asked for."""
    return _json(request, 202, {"name": outcome[1]["name"]})
