"""The site: connections, requests within bounds, the log of requests, and all routes together."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from io import BytesIO
from typing import Any, Protocol

from attrs import frozen
from klein import Klein
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http import RESPONSES
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from cyme.access import ANYBODY, Principal
from cyme.api import apps, branches, events, health, instances, metrics, openapi, queues, rollouts, tasks
from cyme.api.access import PASSER_BY, Access, HasTokens
from cyme.api.channel import BoundedChannel, Connections
from cyme.api.guard import Guard
from cyme.api.problems import Unauthenticated, answer_problem, document
from cyme.api.queueing import ROUTE as QUEUEING
from cyme.api.queueing import Queueing
from cyme.api.routing import Route, make_app, roots_of
from cyme.api.streams import Streams
from cyme.errors import BodyTooLarge, CymeError
from cyme.interfaces import IController
from cyme.seldom import Seldom

#: Seconds after which a connection without traffic is closed.
IDLE_TIMEOUT = 60

#: Note [Refusing a body early]
#: A client that is sent 413 while it still sends its body must get the chance to read
#: the answer: a socket that is closed with unread data resets the connection, and the
#: reset overtakes the answer. So what comes after it is read and dropped, for so many
#: seconds and bytes at most, before the connection is closed.
LINGER_SECONDS = 5.0
LINGER_BYTES = 8 * 1024 * 1024

#: Seconds between two lines in the log about connections that are not taken.
FULL_SAID_EVERY = 60.0

SERVER = [b"Cyme"]
_NOSNIFF = [b"nosniff"]
_NO_STORE = [b"no-store"]


#: Called with the route, method and status of each request, and the seconds that it took.
Answered = Callable[[str | None, str, int, float], None]


@frozen(kw_only=True)
class Limits:
    """What a client may take.

    :ivar request_body: bytes.
    :ivar request_rate: requests a second of one address in the long run; 0 for no limit.
    :ivar connections: open at once, of all; `connections_of_one` address.
    """

    request_body: int = 1 << 20
    request_rate: float = 0.0
    connections: int = 1000
    connections_of_one: int = 100


class BoundedRequest(Request):
    """A request whose body is refused as soon as it is known to be too large."""

    channel: BoundedChannel
    content: BytesIO
    #: When it was complete, by the site's clock.
    began = 0.0
    #: Who sends it.
    principal: Principal = ANYBODY
    #: The path of what serves it, as it is declared; None where nothing does.
    route: str | None = None

    _received = 0
    _refused = False
    _lingering: IDelayedCall | None = None

    def getRequestHostname(self) -> bytes:
        # Klein gives this to werkzeug, which raises for names that are none. Routes don't
        # depend on it.
        return b"branch"

    @property
    def _api(self) -> ApiSite:
        site: ApiSite = self.channel.site
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
        self.channel.complete()
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


#: What stands for all pages in the metrics.
PAGES = "/admin/"
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

    def __init__(
        self,
        clock: IReactorTime,
        app: Klein,
        guard: Guard,
        access: Access,
        queueing: Queueing,
        pages: Pages | None,
    ) -> None:
        super().__init__()
        self._clock = clock
        self._pages = pages
        self._queueing = queueing
        self._routes = app.resource()
        self._guard = guard
        self._access = access

    def render(self, request: BoundedRequest) -> Any:
        headers = request.responseHeaders
        headers.setRawHeaders(b"Server", SERVER)
        headers.setRawHeaders(b"X-Content-Type-Options", _NOSNIFF)
        headers.setRawHeaders(b"Cache-Control", _NO_STORE)
        pages = self._pages if _PAGES.match(request.path) else None
        # What follows the prefix is another server's business.
        prefix = self._queueing.prefix(request.uri) if pages is None else None
        try:
            self._guard.check_request(request, request.path if prefix is None else prefix)
            # A browser asks beforehand, without saying who asks, what it may send.
            is_asking = request.method == b"OPTIONS" and self._guard.is_preflight(request)
            if pages is not None:
                # Who it is, the pages find out, by the session.
                self._access.check_rate(request)
            else:
                request.principal = PASSER_BY if is_asking else self._access.principal(request)
        except CymeError as problem:
            self._refuse(request, problem)
            return NOT_DONE_YET
        if pages is not None:
            request.route = PAGES
            # For pages of no other site, whatever may read the API.
            return pages.resource.render(request)
        self._guard.mark(request)
        if prefix is not None:
            request.route = QUEUEING
            return self._queueing.render(request)
        return self._routes.render(request)


    def _refuse(self, request: BoundedRequest, problem: CymeError) -> None:
        """Answer what is not let in; who guesses has to wait for it."""
        failure = Failure(problem)

        def answer() -> None:
            request.write(answer_problem(request, failure))
            request.finish()

        wait = problem.wait if isinstance(problem, Unauthenticated) else 0.0
        if not wait:
            answer()
            return
        later = self._clock.callLater(wait, answer)
        request.notifyFinish().addErrback(lambda _: later.cancel())


class ApiSite(Site):
    """The site of a branch; logs each request without its query string and body, which may hold passwords."""

    # Without Twisted's wrapper, which chooses between this and HTTP/2.
    protocol = BoundedChannel  # type: ignore[assignment]
    requestFactory = BoundedRequest
    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        resource: Resource,
        streams: Streams,
        connections: Connections,
        answered: Answered,
        pages: Pages | None,
        *,
        max_request_body: int,
    ) -> None:
        super().__init__(resource, timeout=IDLE_TIMEOUT, reactor=reactor, parsePOSTFormSubmission=False)
        self.max_request_body = max_request_body
        self._streams = streams
        self._pages = pages
        self._connections = connections
        self._answered = answered
        self._full = Seldom(reactor, FULL_SAID_EVERY)

    def buildProtocol(self, addr: IAddress) -> BoundedChannel | None:  # type: ignore[override]
        if not self._connections.admits(addr):
            count = self._full.due()
            if count:
                self._log.warn("{count} connections were not taken: there are too many", count=count)
            return None
        channel: Any = super().buildProtocol(addr)
        channel.connections = self._connections
        channel.clock = self.reactor
        channel.callLater = self.reactor.callLater
        built: BoundedChannel = channel
        return built

    def end_streams(self) -> None:
        """End the answers that have no end of their own, and begin no more of them."""
        self._streams.close()
        if self._pages is not None:
            self._pages.close()

    def acceptableProtocols(self) -> list[bytes]:
        # HTTP/2 has other channels, whose bodies nothing here bounds.
        return [b"http/1.1"]

    def log(self, request: http.Request) -> None:
        seconds = self.reactor.seconds() - getattr(request, "began", 0.0)
        method = request.method.decode("latin-1")
        self._answered(getattr(request, "route", None), method, request.code, seconds)
        self._log.debug(
            "{method} {path} {status} in {milliseconds:.1f} ms",
            method=method,
            path=request.path.decode("latin-1"),
            status=request.code,
            milliseconds=seconds * 1000,
        )

    def log_refusal(self, error: CymeError) -> None:
        """Log a request that was refused before it was complete."""
        self._log.debug("refused: {why}", why=str(error))


def all_routes(
    readiness: health.Readiness, scrape: Callable[[], Deferred[bytes]] = lambda: succeed(b"")
) -> tuple[Route, ...]:
    """Every operation of the API.

    :param scrape: fires with the text of the metrics.
    """
    found = (
        *health.routes(readiness),
        *metrics.routes(scrape),
        *branches.ROUTES,
        *events.ROUTES,
        *apps.ROUTES,
        *instances.ROUTES,
        *queues.ROUTES,
        *rollouts.ROUTES,
        *tasks.ROUTES,
    )
    # Made at the first look.
    description = cache(lambda: openapi.document((*found, *openapi.routes(dict))))
    return (*found, *openapi.routes(description))


def make_site(
    reactor: IReactorTime,
    controller: IController,
    *,
    allowed_origins: Iterable[str],
    check_host: bool,
    readiness: health.Readiness,
    tokens: HasTokens,
    limits: Limits,
    open_metrics: bool = False,
    scrape: Callable[[], Deferred[bytes]] = lambda: succeed(b""),
    answered: Answered = lambda route, method, status, seconds: None,
    make_pages: Callable[[Guard, Access], Pages] | None = None,
) -> ApiSite:
    """Build the site that serves the API of a branch.

    :param allowed_origins: see `Guard`.
    :param check_host: see `Guard`; for a branch that listens on loopback alone.
    :param readiness: see `cyme.api.health`.
    :param tokens: see `Access`; `open_metrics` likewise.
    :param scrape: fires with the text of the metrics.
    :param answered: hears of each request that was answered.
    :param make_pages: makes what serves the web pages; without it there are none.
    """
    access = Access(reactor, tokens, rate=limits.request_rate, open_metrics=open_metrics)
    connections = Connections(reactor, limits.connections, limits.connections_of_one)
    guard = Guard(allowed_origins=allowed_origins, check_host=check_host)
    streams = Streams(reactor)
    routes = all_routes(readiness, scrape)
    app = make_app(routes, controller, guard, streams)
    pages = make_pages(guard, access) if make_pages is not None else None
    front = Front(reactor, app, guard, access, Queueing(controller, guard, roots_of(routes)), pages)
    return ApiSite(
        reactor, front, streams, connections, answered, pages, max_request_body=limits.request_body
    )
