"""Errors as answers: which HTTP status each has, and the document that describes it (RFC 9457)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from cyme import errors

#: Seconds after which a client may try again when something is away.
RETRY_AFTER = 5

#: How to say who one is.
CHALLENGES = [b'Bearer realm="cyme"', b'Basic realm="cyme", charset="UTF-8"']

_log = Logger()


class MalformedRequest(errors.Refused):
    """A request whose method, target or headers make no sense."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)

    def sentence(self) -> str:
        return f"the request can't be understood: {self.arguments[0]}"


class InvalidHeader(errors.Refused):
    """A header that means something here and has a value that it can't have."""

    def __init__(self, header: str, problem: str) -> None:
        super().__init__(header, problem)

    def sentence(self) -> str:
        header, problem = self.arguments
        return f"header '{header}': {problem}"


class NoSuchRoute(errors.NotFound):
    """A path that nothing answers to."""

    def __init__(self, path: str) -> None:
        super().__init__(path)

    def sentence(self) -> str:
        return f"there is nothing at {self.arguments[0]}"


class MethodRefused(errors.Refused):
    """A method that is not served at a path which exists.

    :param allowed: the methods that are served there.
    :param hint: what else is worth saying, or an empty text.
    """

    def __init__(self, method: str, path: str, allowed: tuple[str, ...], hint: str = "") -> None:
        super().__init__(method, path, allowed, hint)
        self.allowed = allowed

    def sentence(self) -> str:
        method, path, allowed, hint = self.arguments
        return f"{method} is not served at {path}; {', '.join(allowed)} are" + (f"; {hint}" if hint else "")


class Unauthenticated(errors.Refused):
    """A request without a token that is right.

    :param wait: seconds by which the answer is to be put off, see `cyme.access.throttle.Guesses`.
    """

    def __init__(self, problem: str, wait: float = 0.0) -> None:
        super().__init__(problem)
        self.wait = wait

    def sentence(self) -> str:
        return f"the request was not let in: {self.arguments[0]}"


class Forbidden(errors.Refused):
    """A request of somebody whose token does not reach as far."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)

    def sentence(self) -> str:
        return str(self.arguments[0])


class TooOften(errors.Refused):
    """A request of an address that sends too many."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)

    def sentence(self) -> str:
        return str(self.arguments[0])


class NotReady(errors.Away):
    """The branch runs, but something that it needs is away.

    :param away: what is away -> what is wrong with it.
    """

    def __init__(self, away: Mapping[str, str]) -> None:
        super().__init__(dict(away))
        self.away = dict(away)

    def sentence(self) -> str:
        return "not ready: " + "; ".join(f"{name}: {problem}" for name, problem in sorted(self.away.items()))


class TooManyStreams(errors.Away):
    """As many clients follow the events as this branch serves.

    :param most: how many those are.
    """

    def __init__(self, most: int) -> None:
        super().__init__(most)

    def sentence(self) -> str:
        return f"{self.arguments[0]} clients follow the events of this branch, and it serves no more at once"


#: The HTTP status of each error, the first row that `isinstance` finds. `CymeError` and
#: `Refused` have none on purpose: a new error needs a row, or its answer is a 500.
STATUSES: tuple[tuple[type[errors.CymeError], int], ...] = (
    (errors.InvalidParameter, 400),
    (errors.InvalidName, 400),
    (errors.MalformedBody, 400),
    (MalformedRequest, 400),
    (InvalidHeader, 400),
    (errors.InvalidTarget, 400),
    (errors.InvalidDeclaration, 400),
    (Unauthenticated, 401),
    (errors.CrossSite, 403),
    (Forbidden, 403),
    (errors.TargetDenied, 403),
    (errors.NotFound, 404),
    (MethodRefused, 405),
    (errors.Conflict, 409),
    (errors.BodyTooLarge, 413),
    (TooOften, 429),
    (errors.RemoteFailure, 500),
    (errors.CannotStart, 500),
    (errors.CannotBeAsynchronous, 501),
    (errors.Away, 503),
    (errors.NoReply, 504),
)


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status of an error, or None when it is not one that users may read."""
    for kind, status in STATUSES:
        if isinstance(error, kind):
            return status
    return None


def document(error: errors.CymeError, status: int) -> dict[str, Any]:
    """Describe an error as RFC 9457 asks, with `nok` for clients of the first Cyme."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    return _document(words, status, str(error))


def _document(words: str, status: int, detail: str) -> dict[str, Any]:
    return {
        "type": f"urn:cyme:{words.replace(' ', '-')}",
        "title": words.capitalize(),
        "status": status,
        "detail": detail,
        "nok": [detail],
    }


def answer_problem(request: Request, failure: Failure) -> bytes:
    """Prepare the answer to a request that failed, and return its body.

    An error that is not the user's business is logged under an incident id, and the id
    is all that the user reads of it.
    """
    error = failure.value
    status = status_of(error)
    if status is None or not isinstance(error, errors.CymeError):
        incident = uuid4().hex
        _log.failure(
            "incident {incident}: {method} {path} failed",
            failure,
            incident=incident,
            method=request.method.decode("latin-1"),
            path=request.path.decode("latin-1"),
        )
        status = 500
        described = _document(
            "internal error", status, f"this branch failed to answer; its log has incident {incident}"
        )
        described["incident"] = incident
    else:
        described = document(error, status)
    headers = request.responseHeaders
    if isinstance(error, NotReady):
        described["away"] = error.away
    if isinstance(error, MethodRefused):
        headers.setRawHeaders(b"Allow", [", ".join(error.allowed).encode("ascii")])
    if status == 401:
        headers.setRawHeaders(b"WWW-Authenticate", CHALLENGES)
    if status in (429, 503):
        headers.setRawHeaders(b"Retry-After", [b"%d" % RETRY_AFTER])
    body = json.dumps(described).encode("ascii") + b"\n"
    request.setResponseCode(status)
    headers.setRawHeaders(b"Content-Type", [b"application/problem+json"])
    headers.setRawHeaders(b"Content-Length", [b"%d" % len(body)])
    return body
