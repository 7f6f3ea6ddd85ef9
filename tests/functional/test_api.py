"""The API on a socket: what only a real connection and a real client can show."""

from __future__ import annotations

import json
import shutil
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from cyme.access.tokenfile import TokenFile
from cyme.api.site import Limits, make_site
from tests.fakes.controller import FakeController

LIMIT = 100_000


class Sender(Protocol):
    """Sends one request, and reads until the server closes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.received = b""
        self.closed: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.data)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(self.received)


class SocketTests(TestCase):
    """The API over the fake controller, on a port of the loopback interface."""

    timeout = 60

    def setUp(self) -> None:
        self.controller = FakeController()
        site = make_site(
            reactor,
            self.controller,
            limits=Limits(request_body=LIMIT), tokens=TokenFile(None),
            allowed_origins=(),
            check_host=True,
            readiness=dict,
        )
        port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[arg-type]
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port

    async def curl(self, *arguments: str) -> tuple[int, Any]:
        """Status and body of what curl is answered, by the path that comes last."""
        program = shutil.which("curl")
        if program is None:
            self.skipTest("curl is not installed")
        assert program is not None
        *options, path = arguments
        url = f"http://127.0.0.1:{self.port}{path}"
        command = ["-s", "-S", "-g", "-w", "\n%{http_code}", *options, url]
        output, errors, exit_status = await getProcessOutputAndValue(program, command, {})
        self.assertEqual((errors, exit_status), (b"", 0))
        body, _, status = output.rpartition(b"\n")
        return int(status), json.loads(body)

    async def test_curl(self) -> None:
        """The requests of the document work as people type them."""
        self.assertEqual((await self.curl("-X", "POST", "/foo/"))[0], 201)
        edited = await self.curl("-X", "PUT", "-d", "hostname=w1&userid=me&password=me&vhost=/", "/foo")
        self.assertEqual((edited[0], edited[1]["broker"]["virtual_host"]), (200, "/"))
        self.assertEqual(await self.curl("/"), (200, ["foo"]))
        self.assertEqual((await self.curl("-X", "PUT", "/foo/instances/!/w1"))[0], 202)
        self.assertEqual(await self.curl("-X", "DELETE", "/foo/instances/w1/"), (200, {"ok": "ok"}))

    async def test_expect(self) -> None:
        """curl is told to go on with a body that it asks about first, and is refused one too large."""
        ask_first = ("-X", "PUT", "-H", "Expect: 100-continue", "-H", "Content-Type: application/json", "-d")
        status, _ = await self.curl(*ask_first, json.dumps({"arguments": "x" * 5000}), "/foo/")
        self.assertEqual(status, 201)
        status, problem = await self.curl(*ask_first, json.dumps({"arguments": "x" * LIMIT}), "/bar/")
        self.assertEqual((status, problem["status"]), (413, 413))
        self.assertEqual(sorted(self.controller.declared_apps), ["foo"])

    async def send(self, data: bytes) -> bytes:
        """All that the server sends until it closes."""
        sender = Sender(data)
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", self.port)
        await connectProtocol(endpoint, sender)
        return await sender.closed

    async def test_too_large(self) -> None:
        """A client that sends far too much without listening still gets the whole refusal."""
        head = f"PUT /foo/ HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Length: 3000000\r\n\r\n"
        received = await self.send(head.encode() + b"x" * 3_000_000)
        answer, _, body = received.partition(b"\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer)
        self.assertEqual(json.loads(body)["status"], 413)

    async def test_too_large_in_chunks(self) -> None:
        """So does one that never said how much it would send."""
        head = f"PUT /foo/ HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        received = await self.send(head.encode() + chunk * 40 + b"0\r\n\r\n")
        self.assertTrue(received.startswith(b"HTTP/1.1 413 "), received[:100])
        self.assertEqual(received.count(b"HTTP/1.1"), 1)
