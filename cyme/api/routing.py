"""Routes as declarations, and the Klein application that is built from them.

A `Route` says everything about one operation: where it is, what it takes, which verb of
the controller it is, and how the result is answered. Nothing is registered by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from attrs import frozen
from klein import Klein
from klein.interfaces import IKleinRequest
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import BaseConverter

from cyme.access import ANYBODY, Scope
from cyme.api.access import admit, asker_of, principal_of
from cyme.api.guard import Guard
from cyme.api.parameters import Parameter, Reader
from cyme.api.problems import MethodRefused, NoSuchRoute, answer_problem, status_of
from cyme.api.streams import Streams, wants_stream
from cyme.asking import asked_by
from cyme.errors import CannotBeAsynchronous
from cyme.interfaces import IController
from cyme.narration import redacted

READ = ("GET",)
#: The document says of every `PUT` that `POST` does the same.
WRITE = ("PUT", "POST")
DELETE = ("DELETE",)

Answer = Callable[[Request, Any], bytes]

_log = Logger()


@frozen(kw_only=True)
class Route:
    """One operation of the API.

    :ivar paths: where it is, the documented spelling first; `<app>` stands for one segment.
        Every path is served with and without its trailing slash.
    :ivar methods: `HEAD` goes with `GET`.
    :ivar summary: one line for the API's description.
    :ivar verb: called with the controller, the segments by name, and the parameters that
        were given; answers with a value or a Deferred.
    :ivar answer: makes the answer from the verb's result.
    :ivar answers: status -> when; those that a success may have.
    :ivar asynchronous_paths: the paths with `!`.
    :ivar scheduled: makes their answer.
    :ivar refused_paths: paths with `!` where it makes no sense, because the answer is the point.
    :ivar follow: the verb for clients that want a stream of events instead, see `cyme.api.streams`.
    :ivar is_cancelled: whether the verb ends when its client goes away; the others go on.
    :ivar awaits: whether the verb takes `wait`, which is 0 on the paths with `!`.
    :ivar scope: what it needs, where that is not `READ` to look and `ADMIN` to change something.
    :ivar is_common: whether it is also for those whose token is for one app, though it is about none.
    :ivar narrows: whether its verb takes an optional `app`, to which such a token narrows it.
    :ivar passes_on: whether the answer is what somebody's program said, passed on as it is; in others
        passwords are hidden from those who may not set them.
    """

    paths: tuple[str, ...]
    methods: tuple[str, ...]
    summary: str
    verb: Callable[..., Any]
    answer: Answer
    answers: tuple[tuple[int, str], ...]
    parameters: tuple[Parameter, ...] = ()
    asynchronous_paths: tuple[str, ...] = ()
    scheduled: Answer | None = None
    refused_paths: tuple[str, ...] = ()
    follow: Callable[..., Any] | None = None
    awaits: bool = False
    is_cancelled: bool = False
    scope: Scope | None = None
    is_common: bool = False
    narrows: bool = False
    passes_on: bool = False

    @property
    def is_narrowed(self) -> bool:
        """Whether its verb takes an `app` also where the path has none."""
        of_app = sum("<app>" in path for path in self.paths)
        return self.narrows or 0 < of_app < len(self.paths)

    @property
    def needs(self) -> Scope:
        """The scope that it needs."""
        if self.scope is not None:
            return self.scope
        return Scope.ADMIN if self.changes else Scope.READ

    @property
    def changes(self) -> bool:
        """Whether it changes something."""
        return self.methods != READ


class _Segment(BaseConverter):
    """One segment of a path that names something; `!` alone is no name."""

    regex = r"(?!!\Z)[^/]+"
    part_isolating = True


def roots_of(routes: Iterable[Route]) -> list[str]:
    """The first segments of paths that are no apps."""
    return sorted({path.split("/")[1] for route in routes for path in route.paths} - {"", "<app>"})


def make_app(routes: Sequence[Route], controller: IController, guard: Guard, streams: Streams) -> Klein:
    """Build the Klein application that serves `routes` with the verbs of `controller`."""
    app = Klein()
    roots = roots_of(routes)

    class AppName(BaseConverter):
        """An app's name: not one of the routes at the root, so that none is taken for an app."""

        regex = rf"(?!(?:!|{'|'.join(map(re.escape, roots))})\Z)[^/]+"
        part_isolating = True

    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    app.url_map.redirect_defaults = False
    app.url_map.converters = {"app": AppName, "segment": _Segment}
    for route in routes:
        endpoint = _endpoint(route, controller, guard, streams, asynchronous=False)
        if route.follow is not None:
            endpoint = _following(route, route.follow, endpoint, controller, streams)
        _register(app, route, route.paths, endpoint)
        if route.asynchronous_paths:
            scheduling = _endpoint(route, controller, guard, streams, asynchronous=True)
            _register(app, route, route.asynchronous_paths, scheduling)
        if route.refused_paths:
            _register(app, route, route.refused_paths, _refuse_asynchronous)

    @app.handle_errors(HTTPException)
    def unrouted(request: Any, failure: Failure) -> bytes:
        error = failure.value
        assert isinstance(error, HTTPException)
        return _answer_unrouted(request, error, guard, roots)

    @app.handle_errors(Exception)
    def failed(request: Any, failure: Failure) -> bytes:
        return answer_problem(request, failure)

    return app


def _register(app: Klein, route: Route, paths: Iterable[str], endpoint: Callable[..., Any]) -> None:
    for path in paths:
        typed = re.sub(r"<(\w+)>", lambda match: f"<{_converter(match[1])}:{match[1]}>", path)
        name = f"{'|'.join(route.methods)} {path}"
        app.route(typed.rstrip("/") or "/", methods=route.methods, endpoint=name)(endpoint)


def _converter(segment: str) -> str:
    return "app" if segment == "app" else "segment"


def _endpoint(
    route: Route, controller: IController, guard: Guard, streams: Streams, *, asynchronous: bool
) -> Callable[..., bytes | Deferred[bytes]]:
    verb, answer, parameters = route.verb, route.answer, route.parameters
    fixed: dict[str, Any] = {}
    if asynchronous:
        assert route.scheduled is not None
        answer = route.scheduled
        if route.awaits:
            fixed = {"wait": 0.0}
            parameters = tuple(one for one in parameters if one.name != "wait")
    reader = Reader(parameters)

    def tell(request: Request, value: Any) -> bytes:
        # Lists are of names, or of events, which hold no passwords.
        is_document = isinstance(value, (Mapping, tuple)) and not route.passes_on
        if is_document and not principal_of(request).sees_secrets:
            value = redacted(value)
        return answer(request, value)

    def finish(request: Request, result: Any) -> bytes | Deferred[bytes]:
        if isinstance(result, Deferred):
            outcome = streams.until_closed(result) if route.is_cancelled else shielded(result)
            return outcome.addCallback(lambda value: tell(request, value))
        return tell(request, result)

    def admitted(request: Request, names: dict[str, str]) -> dict[str, str]:
        principal = principal_of(request)
        return names if principal is ANYBODY else admit(principal, route, names)

    def look(request: Request, **names: str) -> bytes | Deferred[bytes]:
        names = admitted(request, names)
        if b"?" in request.uri:
            return finish(request, verb(controller, **names, **reader.query(request)))
        return finish(request, verb(controller, **names))

    def change(request: Request, **names: str) -> bytes | Deferred[bytes]:
        guard.check_change(request)
        names = admitted(request, names)
        given = reader.query_and_body(request)
        with asked_by(asker_of(request)):
            asked = verb(controller, **names, **given, **fixed)
        return finish(request, asked)

    return change if route.changes else look


def _following(
    route: Route,
    follow: Callable[..., Any],
    listed: Callable[..., bytes | Deferred[bytes]],
    controller: IController,
    streams: Streams,
) -> Callable[..., bytes | Deferred[bytes]]:
    """What answers with a stream where that is wanted, and else as `listed` does."""
    reader = Reader(route.parameters)

    def answer(request: Request, **names: str) -> bytes | Deferred[bytes]:
        if not wants_stream(request):
            return listed(request, **names)
        names = admit(principal_of(request), route, names)
        return streams.answer(request, partial(follow, controller, **names), reader.query(request))

    return answer


def _refuse_asynchronous(request: Request, **names: str) -> bytes:
    raise CannotBeAsynchronous()


def shielded(operation: Deferred[Any]) -> Deferred[Any]:
    """A Deferred that fires like `operation`, but whose cancellation leaves it alone.

    Klein cancels what a handler returned when the client goes away; what the client
    asked for is done all the same, and a failure that nobody is left to read is logged.
    """
    outcome: Deferred[Any] = Deferred()

    def deliver(result: Any) -> None:
        if not outcome.called:
            if isinstance(result, Failure):
                outcome.errback(result)
            else:
                outcome.callback(result)
        elif isinstance(result, Failure):
            if status_of(result.value) is None:
                _log.failure("an operation failed after its client had gone", result)
            else:
                _log.debug("an operation was refused after its client had gone: {why}", why=str(result.value))

    operation.addBoth(deliver)
    return outcome


def _answer_unrouted(request: Request, error: HTTPException, guard: Guard, roots: Sequence[str]) -> bytes:
    """Answer a request that no route serves: 404, 405, 501, or 204 for `OPTIONS`.

    :raises CymeError: which says the first three.
    """
    mapper = IKleinRequest(request).mapper
    path = mapper.path_info
    method = request.method.decode("ascii")
    if method in ("GET", "HEAD") and "!" in path.split("/"):
        if mapper.allowed_methods(re.sub(r"/!(?=/|$)", "", path, count=1) or "/"):
            raise CannotBeAsynchronous()
    if not isinstance(error, MethodNotAllowed):
        raise NoSuchRoute(path)
    allowed = tuple(sorted({*(error.valid_methods or ()), "OPTIONS"}))
    if method == "OPTIONS":
        methods = ", ".join(allowed).encode("ascii")
        request.responseHeaders.setRawHeaders(b"Allow", [methods])
        guard.answer_preflight(request, methods)
        request.setResponseCode(204)
        return b""
    hint = "no app can have this name" if path.strip("/") in roots else ""
    raise MethodRefused(method, path, allowed, hint)
