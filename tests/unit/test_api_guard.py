"""Requests that web pages make somebody's browser send, and answers that they may read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.access.tokenfile import TokenFile
from cyme.api.site import Limits, make_site
from tests.fakes.controller import FakeController
from tests.support.httpmemory import HOST, Connection, Response, request

PANEL = "https://panel.example.org"


class GuardCase(SynchronousTestCase):
    """A site with settings of choice."""

    def setUp(self) -> None:
        self.controller = FakeController()
        self.serve()

    def serve(self, *, allowed_origins: Iterable[str] = (), check_host: bool = True) -> None:
        self.site = make_site(
            Clock(),
            self.controller,
            limits=Limits(request_body=1000), tokens=TokenFile(None),
            allowed_origins=allowed_origins,
            check_host=check_host,
            readiness=dict,
        )

    def ask(self, method: str, target: str, *headers: tuple[str, str], **more: Any) -> Response:
        return request(self.site, method, target, headers=headers, **more)


class HostTests(GuardCase):
    """`Host` on a branch that listens on the loopback interface."""

    def test_loopback(self) -> None:
        """Names and addresses of the loopback are let in, with any port."""
        hosts = ("localhost", "LOCALHOST:8000", "127.0.0.1", "127.1.2.3:1", "[::1]", "[::1]:8000", HOST)
        for host in hosts:
            self.assertEqual(self.ask("GET", "/", host=host).status, 200, host)

    def test_others(self) -> None:
        """Any other name is refused, for reading too: it may be a page's own, bound to the loopback."""
        for host in (
            "evil.example.org",
            "localhost.evil.example.org",
            "127.0.0.1.evil.example.org",
            "evil@127.0.0.1",
            "192.0.2.1:8000",
            "a..b",
            "localhost:x",
            "",
        ):
            for method in ("GET", "PUT", "OPTIONS"):
                answer = self.ask(method, "/foo/", host=host)
                self.assertEqual(answer.status, 403, host)
                self.assertEqual(answer.header("Content-Type"), "application/problem+json")
        self.assertEqual(self.controller.declared_apps, {})

    def test_elsewhere(self) -> None:
        """A branch that listens elsewhere too takes every Host, also one that is no name."""
        self.serve(check_host=False)
        for host in ("branch.example.org", "a..b", "x" * 300, "\xff", "a b"):
            self.assertEqual(self.ask("GET", "/", host=host).status, 200)

    def test_none_or_two(self) -> None:
        """HTTP/1.1 asks for one Host; HTTP/1.0 does without."""
        self.assertEqual(self.ask("GET", "/", host=None).status, 400)
        self.assertEqual(self.ask("GET", "/", ("Host", "localhost")).status, 400)
        connection = Connection(self.site)
        connection.send(b"GET / HTTP/1.0\r\n\r\n")
        self.assertEqual(connection.response().status, 200)


class ChangeTests(GuardCase):
    """Requests that change something."""

    def assert_lets(self, status: int, *headers: tuple[str, str]) -> None:
        self.controller.declared_apps.clear()
        self.assertEqual(self.ask("PUT", "/foo/", *headers).status, status, headers)
        self.assertEqual(bool(self.controller.declared_apps), status == 201)

    def test_no_browser(self) -> None:
        """What no browser sent is let in."""
        self.assert_lets(201)

    def test_own_pages(self) -> None:
        """A page of the branch itself may change things, and so may its user."""
        self.assert_lets(201, ("Origin", f"http://{HOST}"))
        self.assert_lets(201, ("Sec-Fetch-Site", "same-origin"), ("Origin", f"https://{HOST}"))
        self.assert_lets(201, ("Sec-Fetch-Site", "none"))

    def test_other_sites(self) -> None:
        """A page of another site may not, nor one of another port of this host."""
        for origin in (PANEL, "null", "http://127.0.0.1:9000", "http://localhost:8000", HOST, "", "*"):
            self.assert_lets(403, ("Origin", origin))
        for site in ("cross-site", "same-site", "anything"):
            self.assert_lets(403, ("Sec-Fetch-Site", site))
        self.assert_lets(403, ("Origin", f"http://{HOST}"), ("Origin", PANEL))

    def test_allowed_origin(self) -> None:
        """An origin that the operator named may change things from another site."""
        self.serve(allowed_origins=[PANEL + "/"])
        self.assert_lets(201, ("Origin", PANEL), ("Sec-Fetch-Site", "cross-site"))
        self.assert_lets(403, ("Origin", PANEL + ".evil.example.org"))
        self.assert_lets(403, ("Origin", "null"))

    def test_any_origin_only_reads(self) -> None:
        """The origin `*` opens no change to anyone."""
        self.serve(allowed_origins=["*"])
        self.assert_lets(403, ("Origin", PANEL))
        self.assert_lets(403, ("Origin", "*"))

    def test_every_change(self) -> None:
        """No verb that changes something is forgotten."""
        self.ask("PUT", "/foo/")
        self.ask("PUT", "/foo/instances/w1/")
        before = self.controller.content()
        for method, path in (
            ("POST", "/"),
            ("DELETE", "/foo/"),
            ("DELETE", "/!/foo/"),
            ("POST", "/foo/instances/w1/restart/"),
            ("POST", "/instances/!/w1/disable/"),
            ("PUT", "/foo/instances/w1/autoscale/?max=9"),
            ("PUT", "/foo/queues/q/"),
        ):
            self.assertEqual(self.ask(method, path, ("Origin", PANEL)).status, 403, path)
        self.assertEqual(self.controller.content(), before)

    def test_reading(self) -> None:
        """Reading is let in from everywhere: the browser keeps the answer from the page."""
        answer = self.ask("GET", "/", ("Origin", PANEL), ("Sec-Fetch-Site", "cross-site"))
        self.assertEqual(answer.status, 200)
        self.assertIsNone(answer.header("Access-Control-Allow-Origin"))


class CorsTests(GuardCase):
    """Which pages may read answers."""

    PREFLIGHT = ("Access-Control-Request-Method", "PUT")

    def test_allowed(self) -> None:
        """An allowed origin is named in the answers to it, and to it alone."""
        self.serve(allowed_origins=[PANEL])
        answer = self.ask("GET", "/", ("Origin", PANEL))
        self.assertEqual(answer.header("Access-Control-Allow-Origin"), PANEL)
        self.assertEqual(answer.header("Vary"), "Origin")
        for headers in ([], [("Origin", "https://evil.example.org")], [("Origin", "null")]):
            answer = self.ask("GET", "/", *headers)
            self.assertIsNone(answer.header("Access-Control-Allow-Origin"))
            self.assertEqual(answer.header("Vary"), "Origin")

    def test_anyone(self) -> None:
        """`*` lets every page read, and tells it so."""
        self.serve(allowed_origins=["*"])
        self.assertEqual(self.ask("GET", "/").header("Access-Control-Allow-Origin"), "*")
        preflight = self.ask("OPTIONS", "/", ("Origin", PANEL), self.PREFLIGHT)
        self.assertIsNone(preflight.header("Access-Control-Allow-Methods"))

    def test_preflight(self) -> None:
        """A preflight of an allowed origin is told the methods; another one is not."""
        self.serve(allowed_origins=[PANEL])
        answer = self.ask("OPTIONS", "/foo/", ("Origin", PANEL), self.PREFLIGHT)
        self.assertEqual((answer.status, answer.header("Access-Control-Allow-Origin")), (204, PANEL))
        self.assertEqual(answer.header("Access-Control-Allow-Methods"), answer.header("Allow"))
        answer = self.ask("OPTIONS", "/foo/", ("Origin", "https://evil.example.org"), self.PREFLIGHT)
        self.assertEqual(answer.status, 204)
        self.assertIsNone(answer.header("Access-Control-Allow-Methods"))
