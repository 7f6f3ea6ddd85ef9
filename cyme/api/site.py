"""The site: connections, requests within bounds, the log of requests, and all routes together."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any, Protocol

from klein import Klein
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http import RESPONSES, HTTPChannel
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from cyme.api import apps, branches, events, health, instances, queues, rollouts, tasks
from cyme.api.guard import Guard
from cyme.api.problems import answer_problem, document
from cyme.api.queueing import Queueing
from cyme.api.routing import Route, make_app, roots_of
from cyme.api.streams import Streams
from cyme.errors import BodyTooLarge, CymeError
from cyme.interfaces import IController

#: Seconds after which a connection without traffic is closed.
IDLE_TIMEOUT = 60

#: Note [Refusing a body early]
#: A client that is sent 413 while it still sends its body must get the chance to read
#: the answer: a socket that is closed with unread data resets the connection, and the
#: reset overtakes the answer. So what comes after it is read and dropped, for so many
#: seconds and bytes at most, before the connection is closed.
LINGER_SECONDS = 5.0
LINGER_BYTES = 8 * 1024 * 1024

SERVER = [b"Cyme"]
_NOSNIFF = [b"nosniff"]
_NO_STORE = [b"no-store"]


class BoundedRequest(Request):
    """A request whose body is refused as soon as it is known to be too large."""

    channel: HTTPChannel
    content: BytesIO
    #: When it was complete, by the site's clock.
    began = 0.0

    _received = 0
    _refused = False
    _lingering: IDelayedCall | None = None

    def getRequestHostname(self) -> bytes:
        # Klein gives this to werkzeug, which raises for names that are none. Routes don't
        # depend on it.
        return b"branch"

    @property
    def _api(self) -> ApiSite:
        site: ApiSite = self.channel.site  # type: ignore[attr-defined]
        return site

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        if length is not None and length > self._api.max_request_body:
            # Else the channel would go on to ask the client for the body.
            self.requestHeaders.removeHeader(b"Expect")
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        limit = self._api.max_request_body
        if self._refused:
            if self._received > limit + LINGER_BYTES:
                self.channel.loseConnection()
        elif self._received > limit:
            self._refuse()
        else:
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self._refused:
            self.channel.loseConnection()
            return
        self.began = self._api.reactor.seconds()
        super().requestReceived(command, path, version)

    def connectionLost(self, reason: Failure) -> None:
        if self._lingering is not None and self._lingering.active():
            self._lingering.cancel()
        super().connectionLost(reason)

    def _refuse(self) -> None:
        # See Note [Refusing a body early].
        self._refused = True
        site = self._api
        error = BodyTooLarge(site.max_request_body)
        body = json.dumps(document(error, 413)).encode("ascii") + b"\n"
        headers = Headers(
            {
                b"Server": SERVER,
                b"Content-Type": [b"application/problem+json"],
                b"Content-Length": [b"%d" % len(body)],
                b"Connection": [b"close"],
            }
        )
        self.channel.writeHeaders(b"HTTP/1.1", b"413", RESPONSES[413], headers)
        self.channel.write(body)
        self._lingering = site.reactor.callLater(LINGER_SECONDS, self.channel.loseConnection)
        site.log_refusal(error)


#: The paths of the web pages.
_PAGES = re.compile(rb"/admin(?:/|\Z)")


class Pages(Protocol):
    """What is used of `cyme.admin.site.Pages`."""

    @property
    def resource(self) -> IResource: ...

    def close(self) -> None: ...


class Front(Resource):
    """What every request passes before it comes to the routes."""

    isLeaf = True

    def __init__(self, app: Klein, guard: Guard, queueing: Queueing, pages: Pages | None) -> None:
        super().__init__()
        self._pages = pages
        self._queueing = queueing
        self._routes = app.resource()
        self._guard = guard

    def render(self, request: Request) -> Any:
        headers = request.responseHeaders
        headers.setRawHeaders(b"Server", SERVER)
        headers.setRawHeaders(b"X-Content-Type-Options", _NOSNIFF)
        headers.setRawHeaders(b"Cache-Control", _NO_STORE)
        pages = self._pages if _PAGES.match(request.path) else None
        # What follows the prefix is another server's business.
        prefix = self._queueing.prefix(request.uri) if pages is None else None
        try:
            self._guard.check_request(request, request.path if prefix is None else prefix)
        except CymeError:
            request.write(answer_problem(request, Failure()))
            request.finish()
            return NOT_DONE_YET
        self._guard.mark(request)
        if prefix is not None:
            return self._queueing.render(request)
        if pages is not None:
            return pages.resource.render(request)
        return self._routes.render(request)


class ApiSite(Site):
    """The site of a branch; logs each request without its query string and body, which may hold passwords."""

    requestFactory = BoundedRequest
    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        resource: Resource,
        streams: Streams,
        pages: Pages | None,
        *,
        max_request_body: int,
    ) -> None:
        super().__init__(resource, timeout=IDLE_TIMEOUT, reactor=reactor, parsePOSTFormSubmission=False)
        self.max_request_body = max_request_body
        self._streams = streams
        self._pages = pages

    def end_streams(self) -> None:
        """End the answers that have no end of their own, and begin no more of them."""
        self._streams.close()
        if self._pages is not None:
            self._pages.close()

    def acceptableProtocols(self) -> list[bytes]:
        # HTTP/2 has other channels, whose bodies nothing here bounds.
        return [b"http/1.1"]

    def log(self, request: http.Request) -> None:
        began = getattr(request, "began", 0.0)
        self._log.debug(
            "{method} {path} {status} in {milliseconds:.1f} ms",
            method=request.method.decode("latin-1"),
            path=request.path.decode("latin-1"),
            status=request.code,
            milliseconds=(self.reactor.seconds() - began) * 1000,
        )

    def log_refusal(self, error: CymeError) -> None:
        """Log a request that was refused before it was complete."""
        self._log.debug("refused: {why}", why=str(error))


def all_routes(readiness: health.Readiness) -> tuple[Route, ...]:
    """Every operation of the API."""
    return (
        *health.routes(readiness),
        *branches.ROUTES,
        *events.ROUTES,
        *apps.ROUTES,
        *instances.ROUTES,
        *queues.ROUTES,
        *rollouts.ROUTES,
        *tasks.ROUTES,
    )


def make_site(
    reactor: IReactorTime,
    controller: IController,
    *,
    max_request_body: int,
    allowed_origins: Iterable[str],
    check_host: bool,
    readiness: health.Readiness,
    make_pages: Callable[[Guard], Pages] | None = None,
) -> ApiSite:
    """Build the site that serves the API of a branch.

    :param max_request_body: the most bytes that a request's body may have.
    :param allowed_origins: see `Guard`.
    :param check_host: see `Guard`; for a branch that listens on loopback alone.
    :param readiness: see `cyme.api.health`.
    :param make_pages: makes what serves the web pages; without it there are none.
    """
    guard = Guard(allowed_origins=allowed_origins, check_host=check_host)
    streams = Streams(reactor)
    routes = all_routes(readiness)
    app = make_app(routes, controller, guard, streams)
    pages = make_pages(guard) if make_pages is not None else None
    front = Front(app, guard, Queueing(controller, guard, roots_of(routes)), pages)
    return ApiSite(reactor, front, streams, pages, max_request_body=max_request_body)
