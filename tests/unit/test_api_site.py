"""Connections: bounds on bodies, time-outs, and the log of requests."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from cyme.access.tokenfile import TokenFile
from cyme.api import site as module
from cyme.api.site import Limits, make_site
from tests.fakes.controller import FakeController
from tests.support.httpmemory import Connection, request

LIMIT = 1000
FORM = "application/x-www-form-urlencoded"


class SiteCase(SynchronousTestCase):
    """A site with a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.controller = FakeController()
        self.site = make_site(
            self.clock,
            self.controller,
            limits=Limits(request_body=LIMIT), tokens=TokenFile(None),
            allowed_origins=(),
            check_host=True,
            readiness=dict,
        )

    def connect(self) -> Connection:
        return Connection(self.site)

    def head(self, *headers: str) -> bytes:
        lines = ["PUT /foo/ HTTP/1.1", "Host: localhost", f"Content-Type: {FORM}", *headers, "", ""]
        return "\r\n".join(lines).encode()


class BodyTests(SiteCase):
    """Bodies near and over the limit."""

    def assert_refused(self, connection: Connection) -> None:
        answer = connection.response()
        self.assertEqual((answer.status, answer.json["status"]), (413, 413))
        self.assertIn(str(LIMIT), answer.json["detail"])
        self.assertEqual(answer.json["nok"], [answer.json["detail"]])
        self.assertEqual(answer.header("Connection"), "close")
        self.assertEqual(self.controller.declared_apps, {})

    def test_at_the_limit(self) -> None:
        """A body of exactly the limit is taken."""
        body = b"arguments=" + b"a" * (LIMIT - 10)
        self.assertEqual(request(self.site, "PUT", "/foo/", body=body, content_type=FORM).status, 201)

    def test_declared_too_large(self) -> None:
        """A body that is declared too large is refused before any of it came."""
        connection = self.connect()
        connection.send(self.head(f"Content-Length: {LIMIT + 1}"))
        self.assert_refused(connection)
        self.assertFalse(connection.transport.disconnecting)

    def test_no_length(self) -> None:
        """A chunked body is refused as soon as it is over the limit, not at its end."""
        connection = self.connect()
        connection.send(self.head("Transfer-Encoding: chunked"))
        connection.send(b"3e8\r\n" + b"a" * 1000 + b"\r\n")
        self.assertEqual(connection.received(), b"")
        connection.send(b"1\r\na\r\n")
        self.assert_refused(connection)

    def test_chunked(self) -> None:
        """A chunked body within the limit is taken."""
        connection = self.connect()
        connection.send(self.head("Transfer-Encoding: chunked") + b"9\r\npool=solo\r\n0\r\n\r\n")
        self.assertEqual(connection.response().status, 201)
        self.assertEqual(self.controller.declared_apps["foo"]["pool"], "solo")

    def test_rest_is_dropped(self) -> None:
        """The rest of a refused body is read, so that its sender can read the answer before the end."""
        connection = self.connect()
        connection.send(self.head(f"Content-Length: {LIMIT + 100}"))
        connection.send(b"a" * LIMIT)
        self.assertFalse(connection.transport.disconnecting)
        connection.send(b"a" * 100)
        self.assertTrue(connection.transport.disconnecting)
        self.assert_refused(connection)

    def test_rest_is_too_large(self) -> None:
        """A sender that does not stop is cut off after so many bytes."""
        self.patch(module, "LINGER_BYTES", 5000)
        connection = self.connect()
        connection.send(self.head("Content-Length: 1000000000"))
        for _ in range(6):
            self.assertFalse(connection.transport.disconnecting)
            connection.send(b"a" * 1000)
        connection.send(b"a")
        self.assertTrue(connection.transport.disconnecting)
        self.assert_refused(connection)

    def test_rest_is_too_slow(self) -> None:
        """A sender that does not end is cut off after a while."""
        connection = self.connect()
        connection.send(self.head(f"Content-Length: {LIMIT + 1}"))
        self.clock.advance(module.LINGER_SECONDS)
        self.assertTrue(connection.transport.disconnecting)

    def test_all_at_once(self) -> None:
        """A refused body that came with its request, and the next request after it, are answered once."""
        connection = self.connect()
        connection.send(self.head(f"Content-Length: {LIMIT + 1}") + b"a" * (LIMIT + 1) + self.head())
        self.assert_refused(connection)
        self.assertTrue(connection.transport.disconnecting)

    def test_sender_goes(self) -> None:
        """A sender that goes when it is refused leaves no timer."""
        connection = self.connect()
        connection.send(self.head(f"Content-Length: {LIMIT + 1}"))
        connection.disconnect()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_expect(self) -> None:
        """A client that asks before it sends is told to go on."""
        connection = self.connect()
        connection.send(self.head("Content-Length: 9", "Expect: 100-continue"))
        self.assertEqual(connection.received(), b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.transport.clear()
        connection.send(b"pool=solo")
        self.assertEqual(connection.response().status, 201)

    def test_expect_too_much(self) -> None:
        """A client that asks before it sends too much is refused at once."""
        connection = self.connect()
        connection.send(self.head(f"Content-Length: {LIMIT + 1}", "Expect: 100-continue"))
        self.assertNotIn(b"100 Continue", connection.received())
        self.assert_refused(connection)


class ConnectionTests(SiteCase):
    """What becomes of connections."""

    def test_kept(self) -> None:
        """A connection serves one request after the other."""
        connection = self.connect()
        for _ in range(3):
            connection.request("GET", "/ping/")
            self.assertEqual(connection.response().json, {"ok": "pong"})
            connection.transport.clear()

    def test_kept_after_refusal(self) -> None:
        """A refused request does not cost the connection."""
        connection = self.connect()
        connection.request("PUT", "/foo/?x=1")
        self.assertEqual(connection.response().status, 400)
        connection.transport.clear()
        connection.request("GET", "/a%2Fb")
        self.assertEqual(connection.response().status, 400)
        connection.transport.clear()
        connection.request("GET", "/ping/")
        self.assertEqual(connection.response().status, 200)

    def test_idle(self) -> None:
        """A connection without traffic is closed after a while."""
        connection = self.connect()
        self.clock.advance(module.IDLE_TIMEOUT - 1)
        self.assertFalse(connection.transport.disconnecting)
        self.clock.advance(1)
        self.assertTrue(connection.transport.disconnecting)

    def test_http_1_alone(self) -> None:
        """HTTP/2 is not offered: nothing would bound its bodies."""
        self.assertEqual(self.site.acceptableProtocols(), [b"http/1.1"])


class LogTests(SiteCase):
    """The log of requests."""

    def setUp(self) -> None:
        super().setUp()
        self.events: list[Any] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def test_requests(self) -> None:
        """A request is logged with method, path, status and duration, below the level that operators see."""
        request(self.site, "GET", "/ping/")
        (event,) = self.events
        self.assertIs(event["log_level"], LogLevel.debug)
        self.assertEqual(formatEvent(event), "GET /ping/ 200 in 0.0 ms")

    def test_duration(self) -> None:
        """The duration is that of the answer, not of the connection."""
        connection = self.connect()
        self.clock.advance(3)
        self.controller.held = []
        connection.request("PUT", "/foo/")
        self.clock.advance(1.5)
        self.controller.release()
        (event,) = self.events
        self.assertEqual(formatEvent(event), "PUT /foo/ 201 in 1500.0 ms")

    def test_secrets(self) -> None:
        """Neither query strings nor bodies are in the log, whatever becomes of the request."""
        request(self.site, "PUT", "/foo/?hostname=h&password=secret")
        request(self.site, "PUT", "/foo/", form="hostname=h&password=secret")
        request(self.site, "PUT", "/foo/", form="password=secret&port=secret")
        request(self.site, "PUT", "/no/such/route?password=secret")
        request(self.site, "PUT", "/a%2Fb?password=secret")
        self.assertEqual(len(self.events), 5)
        for event in self.events:
            self.assertNotIn("secret", formatEvent(event))
            self.assertNotIn("secret", repr(event))
