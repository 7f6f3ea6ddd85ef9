"""Sending calls with Twisted, over `treq`."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

from hyperlink import EncodedURL
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from cyme.client.errors import MalformedAnswer, TimedOut, Unreachable
from cyme.client.retrying import Retry
from cyme.client.synchronous import ANSWER_MOST, CONNECT_WITHIN, headers_of
from cyme.client.wire import (
    NO_HOST,
    Answer,
    Call,
    Request,
    checked_token,
    checked_url,
    problem_of,
    shown,
    socket_of,
)

T = TypeVar("T")

#: Parts of a stream that may wait to be read until the connection is paused.
WAITING_MOST = 16
#: Connections that are kept for the next requests.
KEPT = 8


class Transport(Protocol):
    """What sends requests; as `cyme.client.synchronous.Transport`, with results that are awaited."""

    async def send(self, request: Request, timeout: float) -> Answer: ...

    def stream(
        self, request: Request, timeout: float
    ) -> AbstractAsyncContextManager[tuple[Answer, AsyncIterator[bytes]]]: ...

    async def close(self) -> None: ...


@implementer(IAgentEndpointFactory)
class UnixEndpoints:
    """Connects to a server on a Unix socket, whatever the host is.

    :param path: of the socket.
    """

    def __init__(self, reactor: Any, path: str) -> None:
        self._reactor = reactor
        self._path = path

    def endpointForURI(self, uri: object) -> UNIXClientEndpoint:
        return UNIXClientEndpoint(self._reactor, self._path, timeout=CONNECT_WITHIN)


class TreqTransport:
    """Sends requests to one branch over connections that are kept.

    :param reactor: runs timers and connections.
    :param url: of the branch; `unix:PATH` is a Unix socket.
    """

    def __init__(self, reactor: Any, url: str, token: str | None = None, ca_file: str | None = None) -> None:
        self._reactor = reactor
        self._url = url
        self._token = checked_token(token)
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = KEPT
        # What is tried again is decided by `Retry`, and by that alone.
        self._pool.retryAutomatically = False
        if (path := socket_of(url)) is not None:
            self._base = f"http://{NO_HOST}"
            agent = Agent.usingEndpointFactory(reactor, UnixEndpoints(reactor, path), self._pool)
        else:
            self._base = url
            agent = Agent(reactor, _policy(ca_file), connectTimeout=CONNECT_WITHIN, pool=self._pool)
        self._http = HTTPClient(agent)

    async def send(self, request: Request, timeout: float) -> Answer:
        whole = Deferred.fromCoroutine(self._send(request))
        return await self._within(whole, request, timeout)

    async def _send(self, request: Request) -> Answer:
        response = await self._request(request)
        parts = _Parts()
        response.deliverBody(parts)
        body = bytearray()
        try:
            while (part := await parts.get()) is not None:
                body += part
                if len(body) > ANSWER_MOST:
                    problem = f"the answer is longer than {ANSWER_MOST} bytes"
                    raise MalformedAnswer(request.method, shown(self._url, request), problem)
        finally:
            parts.abandon()
        return Answer(status=response.code, headers=_headers(response), body=bytes(body))

    async def _request(self, request: Request) -> Any:
        sent = Headers()
        for name, value in headers_of(request, self._token):
            sent.addRawHeader(name.encode("utf-8"), value.encode("utf-8"))
        return await self._http.request(
            request.method,
            EncodedURL.from_text(self._base + request.target),
            headers=sent,
            data=request.body,
            allow_redirects=False,
            unbuffered=True,
        )

    async def _within(self, waiting: Deferred[T], request: Request, timeout: float) -> T:
        def late(result: Any, _: float) -> Any:
            # What is cancelled fails in one way or another, depending on how far it was.
            if not isinstance(result, Failure):
                return result
            problem = f"no answer within {timeout:g} s"
            raise TimedOut(request.method, shown(self._url, request), problem) from None

        try:
            return await waiting.addTimeout(timeout, self._reactor, late)
        except (Unreachable, CancelledError):
            raise
        except Exception as error:
            raise self._unreachable(request, error) from error

    @asynccontextmanager
    async def stream(
        self, request: Request, timeout: float
    ) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        response = await self._within(Deferred.fromCoroutine(self._request(request)), request, timeout)
        parts = _Parts()
        response.deliverBody(parts)

        async def chunks() -> AsyncIterator[bytes]:
            while True:
                chunk = await self._within(parts.get(), request, timeout)
                if chunk is None:
                    return
                yield chunk

        try:
            yield Answer(status=response.code, headers=_headers(response)), chunks()
        finally:
            parts.abandon()

    async def close(self) -> None:
        await self._pool.closeCachedConnections()

    def _unreachable(self, request: Request, error: Exception) -> Unreachable:
        reasons = getattr(error, "reasons", None)
        if isinstance(error, ResponseFailed) and reasons:
            error = reasons[0].value
        text = str(error).strip() or type(error).__name__
        return Unreachable(request.method, shown(self._url, request), text)


def _policy(ca_file: str | None) -> BrowserLikePolicyForHTTPS:
    if ca_file is None:
        return BrowserLikePolicyForHTTPS()
    # Only where it is wanted: it needs what `twisted[tls]` brings.
    from twisted.internet.ssl import Certificate, trustRootFromCertificates

    with open(ca_file, "rb") as stream:
        text = stream.read()
    end = b"-----END CERTIFICATE-----"
    found = [Certificate.loadPEM(part + end) for part in text.split(end)[:-1]]
    return BrowserLikePolicyForHTTPS(trustRootFromCertificates(found))


def _headers(response: Any) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): ", ".join(value.decode("latin-1") for value in values)
        for name, values in response.headers.getAllRawHeaders()
    }


class _Parts(TwistedProtocol):
    """The parts of a body as they come, for one reader; the connection is paused while too many wait."""

    def __init__(self) -> None:
        self._parts: list[bytes | None] = []
        self._reader: Deferred[bytes | None] | None = None
        self._failure: Failure | None = None
        self._ended = False
        self._paused = False

    def dataReceived(self, data: bytes) -> None:
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.callback(data)
            return
        self._parts.append(data)
        if len(self._parts) >= WAITING_MOST and not self._paused:
            self._paused = True
            self._producer("pauseProducing")

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: B008
        self._ended = True
        if not reason.check(ResponseDone, PotentialDataLoss):
            self._failure = reason
        if self._reader is not None:
            reader, self._reader = self._reader, None
            self._end(reader)

    def get(self) -> Deferred[bytes | None]:
        """The next part; None at the end."""
        waiting: Deferred[bytes | None] = Deferred(self._given_up)
        if self._parts:
            waiting.callback(self._parts.pop(0))
            if self._paused and not self._parts:
                self._paused = False
                self._producer("resumeProducing")
        elif self._ended:
            self._end(waiting)
        else:
            self._reader = waiting
        return waiting

    def abandon(self) -> None:
        """Close the connection, if the body is not read to its end."""
        if not self._ended:
            self._parts.clear()
            self._producer("loseConnection" if hasattr(self.transport, "loseConnection") else "stopProducing")

    def _given_up(self, _: object) -> None:
        self._reader = None

    def _end(self, reader: Deferred[bytes | None]) -> None:
        if self._failure is not None:
            reader.errback(self._failure)
        else:
            reader.callback(None)

    def _producer(self, verb: str) -> None:
        if self.transport is not None:
            getattr(self.transport, verb)()


class Session:
    """Sends calls to one branch, and again where that is safe; see `cyme.client.synchronous.Session`."""

    def __init__(
        self,
        reactor: Any,
        url: str,
        transport: Transport,
        *,
        timeout: float,
        retry: Retry,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.url = checked_url(url)
        self.retry = retry
        self.timeout = timeout
        self._reactor = reactor
        self._transport = transport
        self._jitter = jitter

    async def call(self, call: Call[T]) -> T:
        """The result of a call.

        :raises ClientError: when there is none.
        """
        attempt = 0
        while True:
            attempt += 1
            outcome: Answer | Unreachable
            try:
                outcome = await self._transport.send(call.request, self.timeout + call.patience)
            except Unreachable as problem:
                outcome = problem
            delay = self.retry.delay(call, attempt, outcome, self._jitter)
            if delay is None:
                if isinstance(outcome, Unreachable):
                    raise outcome
                return call.result(outcome, self.url)
            await self.sleep(delay)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await deferLater(self._reactor, seconds)

    async def pause(self, attempt: int) -> None:
        """Wait before something is begun again for the `attempt`th time in a row without success."""
        await self.sleep(min(self.retry.most, self.retry.first * 2**attempt) * (0.5 + self._jitter()))

    @asynccontextmanager
    async def stream(self, request: Request, quiet: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """The parts of an answer without end, as they come.

        :param quiet: seconds after which a stream that says nothing is given up.
        :raises ClientError: when there is none, or it breaks off.
        """
        async with self._transport.stream(request, quiet) as (answer, chunks):
            if answer.status != 200:
                body = b"".join([chunk async for chunk in chunks])
                whole = Answer(status=answer.status, headers=answer.headers, body=body)
                raise problem_of(whole, request, self.url)
            yield chunks

    async def close(self) -> None:
        """Close the connections that are kept."""
        await self._transport.close()
