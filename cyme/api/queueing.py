"""`VERB /APP/queue/QUEUE/URL`: requests that are queued instead of being answered.

These stand before the routes: what is to be requested is in the target and the body as they were
sent, bytes which no router may decode, and every method is meant for the target.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET, Request

from cyme.access import Scope
from cyme.api import answers
from cyme.api.access import asker_of, principal_of, require
from cyme.api.bodies import FORM
from cyme.api.forwarding import HEADER_OF, read_headers
from cyme.api.guard import Guard
from cyme.api.problems import InvalidHeader, MethodRefused, answer_problem
from cyme.api.queueurl import destination, queueing_prefix
from cyme.api.routing import shielded
from cyme.asking import asked_by
from cyme.errors import InvalidParameter
from cyme.interfaces import IController

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT")

#: How much of a form the answer repeats: bytes, and fields.
SHOWN_MOST = 65_536
FIELDS_MOST = 1000

_OURS = re.compile(rb"cyme-[a-z0-9_-]+", re.IGNORECASE)
_METHODS = frozenset(method.encode("ascii") for method in METHODS)


class Queueing:
    """Takes requests that are to be queued.

    :param roots: first segments of paths that are no apps.
    """

    def __init__(self, controller: IController, guard: Guard, roots: Collection[str]) -> None:
        self._controller = controller
        self._guard = guard
        self._roots = frozenset(root.encode("ascii") for root in roots) | {b"!"}

    def prefix(self, target: bytes) -> bytes | None:
        """The `/APP/queue` of a request that is for here, by its target; None for all others."""
        return queueing_prefix(target, self._roots)

    def render(self, request: Request) -> Any:
        """Have the request queued, and answer once it is."""
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def write(body: bytes) -> None:
            if not gone:
                request.write(body)
                request.finish()

        def refuse(failure: Failure) -> None:
            if not gone:
                write(answer_problem(request, failure))

        try:
            if self._guard.is_preflight(request):
                write(self._answer_preflight(request))
            else:
                self._queue(request).addCallback(write).addErrback(refuse)
        except Exception:
            refuse(Failure())
        return NOT_DONE_YET

    def _answer_preflight(self, request: Request) -> bytes:
        methods = ", ".join(METHODS).encode("ascii")
        request.responseHeaders.setRawHeaders(b"Allow", [methods])
        self._guard.answer_preflight(request, methods)
        headers = request.responseHeaders
        allowed = headers.getRawHeaders(b"Access-Control-Allow-Headers")
        if allowed is not None:
            lines = request.requestHeaders.getRawHeaders(b"Access-Control-Request-Headers", [])
            wanted = [name.strip() for line in lines for name in line.split(b",")]
            ours = [name for name in wanted if _OURS.fullmatch(name)]
            headers.setRawHeaders(b"Access-Control-Allow-Headers", [b", ".join([*allowed, *ours])])
        request.setResponseCode(204)
        return b""

    def _queue(self, request: Request) -> Deferred[bytes]:
        if request.method not in _METHODS:
            raise MethodRefused(request.method.decode("latin-1"), request.path.decode("latin-1"), METHODS)
        # Whatever its method: a page of another site must not have requests sent from here.
        self._guard.check_change(request)
        wanted = destination(request.uri)
        require(principal_of(request), Scope.OPERATE, wanted.app)
        headers, given = read_headers(request.requestHeaders)
        assert request.content is not None
        body = request.content.read()
        method = request.method.decode("ascii")
        with asked_by(asker_of(request)):
            queued = self._controller.tasks.request(
                wanted.app,
                wanted.queue,
                method=method,
                url=wanted.url,
                headers=headers,
                body=body or None,
                **given,
            )

        def name_header(failure: Failure) -> dict[str, Any]:
            error = failure.value
            if isinstance(error, InvalidParameter) and error.parameter in HEADER_OF:
                raise InvalidHeader(HEADER_OF[error.parameter], error.problem) from None
            failure.raiseException()
            raise AssertionError

        def answer(task: dict[str, Any]) -> bytes:
            return answers.queued(
                request,
                wanted.app,
                {**task, "params": _params(task["url"]), "data": _data(headers, body)},
            )

        outcome: Deferred[dict[str, Any]] = shielded(queued)
        return outcome.addErrback(name_header).addCallback(answer)


def _params(url: str) -> dict[str, Any]:
    """The fields of a URL's query string, for people to read; a list where one is repeated."""
    query = urlsplit(url).query
    return _fields(query) or {} if query else {}


def _data(headers: list[tuple[str, str]], body: bytes) -> dict[str, Any] | None:
    """The fields of a form; None for any other body, which is not repeated in the answer."""
    if not body or len(body) > SHOWN_MOST:
        return None
    kind = next((value for name, value in headers if name.lower() == "content-type"), "")
    if kind.partition(";")[0].strip().lower() != FORM:
        return None
    try:
        return _fields(body.decode("utf-8"))
    except UnicodeDecodeError:
        return None


def _fields(text: str) -> dict[str, Any] | None:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MOST)
    except ValueError:
        return None
    several: dict[str, list[str]] = {}
    for name, value in pairs:
        several.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in several.items()}
