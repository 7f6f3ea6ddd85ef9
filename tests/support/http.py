"""A small HTTP client for functional tests."""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

#: Seconds that an answer may take.
TIMEOUT = 60.0


@frozen
class Answer:
    """An HTTP response, read to its end.

    :ivar headers: names in lower case; the last of several with one name.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Asks one server; its connections are closed at the end of the test.

    :param url: what all paths are relative to; may be changed, for a server that moved.
    """

    def __init__(self, test: TestCase, url: str) -> None:
        self.url = url.rstrip("/")
        pool = HTTPConnectionPool(reactor)
        # A server that was killed and came back on the same port is met with a fresh connection.
        pool.retryAutomatically = True
        self._http = HTTPClient(Agent(reactor, connectTimeout=TIMEOUT, pool=pool))
        test.addCleanup(pool.closeCachedConnections)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        form: dict[str, Any] | None = None,
        json: Any = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> Answer:
        """Send a request to `path`, never following a redirect.

        :param params: goes into the query string; `form` and `json` make the body.
        :param timeout: seconds until the whole answer must be there.
        """
        arguments: dict[str, Any] = {"allow_redirects": False, "timeout": timeout}
        if params is not None:
            arguments["params"] = params
        if json is not None:
            arguments["json"] = json
        elif form is not None or body is not None:
            arguments["data"] = body if form is None else form
        sent = Headers({name: [value] for name, value in (headers or {}).items()})
        response = await self._http.request(method, self.url + path, headers=sent, **arguments)
        content = await response.content()
        found = {
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        return Answer(response.code, found, content)

    async def get(self, path: str, **arguments: Any) -> Answer:
        return await self.ask("GET", path, **arguments)

    async def put(self, path: str, **arguments: Any) -> Answer:
        return await self.ask("PUT", path, **arguments)

    async def post(self, path: str, **arguments: Any) -> Answer:
        return await self.ask("POST", path, **arguments)

    async def delete(self, path: str, **arguments: Any) -> Answer:
        return await self.ask("DELETE", path, **arguments)
