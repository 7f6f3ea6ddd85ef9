"""Clients of a branch in memory: their requests go to the real site without a network."""

from __future__ import annotations

from threading import Lock
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from cyme.access.tokenfile import TokenFile
from cyme.api.site import Limits, make_site
from cyme.client.wire import Answer, Request
from tests.support.httpmemory import Connection, Response
from tests.support.memorybranch import memory_branch

#: After so many turns of the reactor there has to be an answer.
MOST_TURNS = 200


class MemoryTransport:
    """Sends the requests of a synchronous client to a branch in memory.

    :ivar sent: the requests, in their order.
    """

    def __init__(self, test: TestCase) -> None:
        self.clock = Clock()
        self.sent: list[Request] = []
        self._lock = Lock()
        self._site = make_site(
            self.clock,
            memory_branch(test, self.clock).controller,
            limits=Limits(request_body=100_000),
            tokens=TokenFile(None),
            allowed_origins=(),
            check_host=True,
            readiness=dict,
        )

    def send(self, request: Request, timeout: float) -> Answer:
        with self._lock:
            self.sent.append(request)
            return self._send(request)

    def _send(self, request: Request) -> Answer:
        connection = Connection(self._site)
        try:
            connection.request(
                request.method, request.target, headers=request.headers, body=request.body or b""
            )
            for _ in range(MOST_TURNS):
                if connection.received():
                    break
                self.clock.advance(0)
            return _answer(connection.response(request.method))
        finally:
            connection.disconnect()

    def stream(self, request: Request, timeout: float) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        """There is nothing to close."""


class AsyncMemoryTransport:
    """The same for a client whose results are awaited."""

    def __init__(self, test: TestCase) -> None:
        self._transport = MemoryTransport(test)

    async def send(self, request: Request, timeout: float) -> Answer:
        return self._transport.send(request, timeout)

    def stream(self, request: Request, timeout: float) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        """There is nothing to close."""


def _answer(response: Response) -> Answer:
    headers = {
        name.decode("ascii").lower(): values[-1].decode("latin-1")
        for name, values in response.headers.getAllRawHeaders()
    }
    return Answer(status=response.status, headers=headers, body=response.body)
