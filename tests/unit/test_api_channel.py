"""Connections of clients that are slow, half-open or too big."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.access.tokenfile import TokenFile
from cyme.api.channel import LOOK_EVERY, REQUEST_WITHIN
from cyme.api.site import Limits, make_site
from tests.fakes.controller import FakeController
from tests.support.httpmemory import HOST, Connection

HEAD = f"PUT /foo/ HTTP/1.1\r\nHost: {HOST}\r\n".encode()


class SlowTests(SynchronousTestCase):
    """A site with a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.controller = FakeController()
        self.site = make_site(
            self.clock,
            self.controller,
            limits=Limits(),
            tokens=TokenFile(None),
            allowed_origins=(),
            check_host=True,
            readiness=dict,
        )
        self.connection = Connection(self.site)

    def trickle(self, data: bytes, seconds: float, every: float = 1.0) -> bool:
        """Send data a byte at a time, round and round; whether the client was cut off meanwhile."""
        for number in range(int(seconds / every)):
            if self.is_cut_off():
                return True
            self.connection.send(data[number % len(data) :][:1])
            self.clock.advance(every)
        return self.is_cut_off()

    def is_cut_off(self) -> bool:
        return self.connection.transport.disconnecting or self.connection.transport.disconnected

    def test_slow_request_line(self) -> None:
        """Who sends a request line a byte at a time is cut off in the end."""
        self.assertFalse(self.trickle(b"x", REQUEST_WITHIN - 2))
        self.assertTrue(self.trickle(b"x", LOOK_EVERY + 3))

    def test_slow_headers(self) -> None:
        """So is who has no end of headers."""
        self.connection.send(HEAD)
        self.assertTrue(self.trickle(b"X: y\r\n", REQUEST_WITHIN + LOOK_EVERY + 1))

    def test_slow_body(self) -> None:
        """So is who sends a body too slowly; nothing of it is done."""
        self.connection.send(HEAD + b"Content-Length: 1000\r\n\r\n")
        self.assertTrue(self.trickle(b"x", REQUEST_WITHIN + LOOK_EVERY + 1))
        self.assertEqual(self.controller.declared_apps, {})

    def test_slow_second(self) -> None:
        """So is who was quick with the first request and not with the second."""
        for _ in range(3):
            self.connection.send(HEAD + b"\r\n")
            self.clock.advance(REQUEST_WITHIN / 2)
        self.assertFalse(self.is_cut_off())
        self.assertTrue(self.trickle(b"x", REQUEST_WITHIN + LOOK_EVERY + 1))

    def test_slow_answer(self) -> None:
        """Who has sent all and waits for a slow answer is not cut off, whatever it sends meanwhile."""
        self.controller.held = []
        self.connection.send(HEAD + b"\r\n")
        self.assertFalse(self.trickle(b"P", 5 * REQUEST_WITHIN))
        self.controller.release()
        self.assertIn(b"201 Created", self.connection.received())

    def test_silent(self) -> None:
        """Who connects and says nothing is cut off, and leaves nothing behind."""
        self.clock.pump([1.0] * int(REQUEST_WITHIN + LOOK_EVERY))
        self.assertTrue(self.is_cut_off())

    def test_many_headers(self) -> None:
        """Too many headers, or too long ones, end the connection."""
        for lines in (b"X: y\r\n" * 10_000, b"X: " + b"y" * 100_000 + b"\r\n", b"x" * 100_000):
            connection = Connection(self.site)
            connection.send(HEAD + lines + b"\r\n")
            self.assertTrue(connection.transport.disconnecting, lines[:10])
            connection.disconnect()
        self.assertEqual(self.controller.declared_apps, {})

    def tearDown(self) -> None:
        self.connection.disconnect()
        # With the last connection the looks for late ones end.
        self.clock.advance(20)
        self.assertEqual(self.clock.getDelayedCalls(), [])
