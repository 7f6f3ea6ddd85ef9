"""HTTP without a network: requests to a real `Site` through a transport in memory.

What is tested is all of Twisted's and our own code between the bytes of a request and
the bytes of its answer; nothing of it is replaced.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from attrs import field, frozen
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.server import Site

HOST = "127.0.0.1:8000"

#: After so many turns of the reactor there has to be an answer.
MOST_TURNS = 100


@frozen
class Response:
    """An answer as it came."""

    status: int
    headers: Headers = field(repr=False)
    body: bytes

    def header(self, name: str) -> str | None:
        values = self.headers.getRawHeaders(name)
        return None if values is None else ", ".join(values)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Transport(StringTransport):
    """Closes when it is told to, as a TCP connection without a lingering peer does."""

    protocol: Any = None

    def loseConnection(self) -> None:
        if not self.disconnecting:
            super().loseConnection()

    def abortConnection(self) -> None:
        self.loseConnection()


class Connection:
    """One connection of a client to a site."""

    def __init__(self, site: Site) -> None:
        address = IPv4Address("TCP", "192.0.2.1", 50000)
        self._channel = site.buildProtocol(address)
        self.transport = self.transport_to(address)
        self._channel.makeConnection(self.transport)

    @staticmethod
    def transport_to(address: IPv4Address) -> _Transport:
        """The server's end of a connection of a client."""
        return _Transport(hostAddress=IPv4Address("TCP", "127.0.0.1", 8000), peerAddress=address)

    def send(self, data: bytes) -> None:
        """Deliver bytes to the server."""
        self._channel.dataReceived(data)

    def request(
        self,
        method: str,
        target: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        host: str | None = HOST,
    ) -> None:
        """Send a request; the Content-Length is added where there is a body."""
        lines = [f"{method} {target} HTTP/1.1"]
        if host is not None:
            lines.append(f"Host: {host}")
        if content_type is not None:
            lines.append(f"Content-Type: {content_type}")
        lines += [f"{name}: {value}" for name, value in headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def received(self) -> bytes:
        """All that came from the server so far."""
        return self.transport.value()

    def disconnect(self) -> None:
        """Go away."""
        self._channel.connectionLost(Failure(ConnectionLost()))

    def response(self, method: str = "GET") -> Response:
        """The only answer that came, which must be complete and alone.

        :param method: that of the request: an answer to `HEAD` has no body.
        """
        data = self.received()
        head, separator, body = data.partition(b"\r\n\r\n")
        assert separator, f"no complete answer came: {data!r}"
        status_line, *lines = head.split(b"\r\n")
        headers = Headers()
        for line in lines:
            name, _, value = line.partition(b": ")
            headers.addRawHeader(name, value)
        assert not headers.hasHeader(b"Transfer-Encoding"), "the answer has no length"
        length = int((headers.getRawHeaders(b"Content-Length") or [b"0"])[0])
        assert len(body) == (0 if method == "HEAD" else length), f"not the length that was promised: {data!r}"
        return Response(int(status_line.split()[1]), headers, body)


def request(
    site: Site,
    method: str,
    target: str,
    *,
    form: str | None = None,
    json_body: Any = None,
    **more: Any,
) -> Response:
    """Send one request to `site` on a connection of its own and return the answer.

    The site's reactor is a `Clock`; it is given turns, but no time, until the answer comes.
    """
    if form is not None:
        more.update(body=form.encode("utf-8"), content_type="application/x-www-form-urlencoded")
    elif json_body is not None:
        more.update(body=json.dumps(json_body).encode("utf-8"), content_type="application/json")
    connection = Connection(site)
    clock: Any = site.reactor
    try:
        connection.request(method, target, **more)
        for _ in range(MOST_TURNS):
            if connection.received():
                break
            clock.advance(0)
        return connection.response(method)
    finally:
        connection.disconnect()
