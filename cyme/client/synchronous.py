"""Sending calls and waiting for their answers, over `urllib3`."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError

from cyme import __version__
from cyme.client.errors import MalformedAnswer, TimedOut, Unreachable
from cyme.client.retrying import Retry
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

#: Seconds that a connection may take to come about.
CONNECT_WITHIN = 10.0
#: The longest answer that is read, in bytes.
ANSWER_MOST = 256 << 20
#: Connections that are kept for the next requests.
KEPT = 8
_CHUNK = 1 << 16


class Transport(Protocol):
    """What sends requests."""

    def send(self, request: Request, timeout: float) -> Answer:
        """Send a request and read its answer within `timeout` seconds.

        :raises Unreachable: when there is no answer.
        """

    def stream(self, request: Request, timeout: float) -> Any:
        """A context with an answer, and an iterator of the parts of its body as they come.

        :param timeout: seconds within which each part has to come.
        :raises Unreachable: when there is no answer, or it breaks off.
        """

    def close(self) -> None:
        """Close what is open."""


def headers_of(request: Request, token: str | None) -> list[tuple[str, str]]:
    """The headers that a request is sent with."""
    headers = [("User-Agent", f"cyme/{__version__}"), *request.headers]
    if not any(name.lower() == "accept" for name, _ in headers):
        headers.append(("Accept", "application/json, */*;q=0.5"))
    if token is not None:
        headers.append(("Authorization", f"Bearer {token}"))
    return headers


def unix_pool(path: str) -> urllib3.HTTPConnectionPool:
    """Connections to a server on a Unix socket.

    :param path: of the socket.
    """

    class Connection(HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(path)

    pool = urllib3.HTTPConnectionPool(NO_HOST, maxsize=KEPT, retries=False)
    pool.ConnectionCls = Connection
    return pool


class Urllib3Transport:
    """Sends requests to one branch over connections that are kept.

    :param url: of the branch; `unix:PATH` is a Unix socket.
    :param token: sent as `Authorization: Bearer`.
    :param ca_file: certificates that the branch's may be signed by; the system's without it.
    """

    def __init__(self, url: str, token: str | None = None, ca_file: str | None = None) -> None:
        self._url = url
        self._token = checked_token(token)
        self._pool: urllib3.PoolManager | urllib3.HTTPConnectionPool
        if (path := socket_of(url)) is not None:
            self._pool = pool = unix_pool(path)
            self._base, self._close = "", pool.close
        else:
            more: dict[str, Any] = {} if ca_file is None else {"ca_certs": ca_file}
            self._pool = manager = urllib3.PoolManager(maxsize=KEPT, retries=False, **more)
            self._base, self._close = url, manager.clear

    def send(self, request: Request, timeout: float) -> Answer:
        end = time.monotonic() + timeout
        with self.stream(request, timeout) as (answer, chunks):
            body = bytearray()
            for chunk in chunks:
                body += chunk
                if len(body) > ANSWER_MOST:
                    problem = f"the answer is longer than {ANSWER_MOST} bytes"
                    raise MalformedAnswer(request.method, shown(self._url, request), problem)
                if time.monotonic() > end:
                    raise self._late(request, timeout)
            return Answer(status=answer.status, headers=answer.headers, body=bytes(body))

    @contextmanager
    def stream(self, request: Request, timeout: float) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        headers = urllib3.HTTPHeaderDict()
        for name, value in headers_of(request, self._token):
            headers.add(name, value)
        try:
            response = self._pool.request(
                request.method,
                self._base + request.target,
                headers=headers,
                body=request.body,
                timeout=urllib3.Timeout(connect=min(timeout, CONNECT_WITHIN), read=timeout),
                redirect=False,
                preload_content=False,
            )
        except (HTTPError, OSError) as problem:
            raise self._unreachable(request, problem, timeout) from problem
        found = {name.lower(): value for name, value in response.headers.items()}
        complete = False

        def chunks() -> Iterator[bytes]:
            nonlocal complete
            try:
                while chunk := response.read1(_CHUNK):
                    yield chunk
            except (HTTPError, OSError) as problem:
                raise self._unreachable(request, problem, timeout) from problem
            complete = True

        try:
            yield Answer(status=response.status, headers=found), chunks()
        finally:
            if complete:
                response.release_conn()
            else:
                # What is left of the answer must not be read as the next one.
                response.close()

    def close(self) -> None:
        self._close()

    def _late(self, request: Request, timeout: float) -> TimedOut:
        return TimedOut(request.method, shown(self._url, request), f"no answer within {timeout:g} s")

    def _unreachable(self, request: Request, problem: Exception, timeout: float) -> Unreachable:
        # A refused connection is one of urllib3's time-outs, too.
        if isinstance(problem, ConnectTimeoutError) and not isinstance(problem, NewConnectionError):
            within = min(timeout, CONNECT_WITHIN)
            return TimedOut(request.method, shown(self._url, request), f"no connection within {within:g} s")
        if isinstance(problem, (ReadTimeoutError, TimeoutError)):
            return self._late(request, timeout)
        return Unreachable(request.method, shown(self._url, request), _reason(problem))


def _reason(problem: BaseException) -> str:
    """What is wrong, in few words: the system's where there are some."""
    seen: BaseException | None = problem
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        seen = seen.__cause__ or seen.__context__
    text = str(problem)
    return text.rpartition(">: ")[2] or type(problem).__name__


class Session:
    """Sends calls to one branch, and again where that is safe.

    :param timeout: seconds for each attempt, beside what the branch is asked to wait.
    :param sleep: waits for so many seconds; so `jitter`, see `Retry.delay`.
    """

    def __init__(
        self,
        url: str,
        transport: Transport,
        *,
        timeout: float,
        retry: Retry,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.url = checked_url(url)
        self.retry = retry
        self.timeout = timeout
        self._transport = transport
        self._sleep = sleep
        self._jitter = jitter

    def call(self, call: Call[T]) -> T:
        """The result of a call.

        :raises ClientError: when there is none.
        """
        attempt = 0
        while True:
            attempt += 1
            outcome: Answer | Unreachable
            try:
                outcome = self._transport.send(call.request, self.timeout + call.patience)
            except Unreachable as problem:
                outcome = problem
            delay = self.retry.delay(call, attempt, outcome, self._jitter)
            if delay is None:
                if isinstance(outcome, Unreachable):
                    raise outcome
                return call.result(outcome, self.url)
            self._sleep(delay)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self._sleep(seconds)

    def pause(self, attempt: int) -> None:
        """Wait before something is begun again for the `attempt`th time in a row without success."""
        self._sleep(min(self.retry.most, self.retry.first * 2**attempt) * (0.5 + self._jitter()))

    @contextmanager
    def stream(self, request: Request, quiet: float) -> Iterator[Iterator[bytes]]:
        """The parts of an answer without end, as they come.

        :param quiet: seconds after which a stream that says nothing is given up.
        :raises ClientError: when there is none, or it breaks off.
        """
        with self._transport.stream(request, quiet) as (answer, chunks):
            if answer.status != 200:
                body = b"".join(chunks)
                whole = Answer(status=answer.status, headers=answer.headers, body=body)
                raise problem_of(whole, request, self.url)
            yield chunks

    def close(self) -> None:
        """Close the connections that are kept."""
        self._transport.close()
