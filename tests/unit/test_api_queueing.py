"""Requests that are queued: what of them reaches the controller, and who may send them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.access.tokenfile import TokenFile
from cyme.api.queueing import METHODS
from cyme.api.site import Limits, make_site
from cyme.errors import BrokerAway
from tests.fakes.controller import FakeController
from tests.support.httpmemory import Connection, Response, request

PANEL = "https://panel.example.org"
LATE = ("Cyme-Delay", "1.5")


class QueueingCase(SynchronousTestCase):
    """A site over a controller with an app `foo`."""

    def setUp(self) -> None:
        self.controller = FakeController()
        self.controller.apps.add("foo")
        self.serve()

    def serve(self, *, allowed_origins: Iterable[str] = ()) -> None:
        self.site = make_site(
            Clock(),
            self.controller,
            limits=Limits(request_body=100_000), tokens=TokenFile(None),
            allowed_origins=allowed_origins,
            check_host=True,
            readiness=dict,
        )

    def ask(self, method: str, target: str, **more: Any) -> Response:
        return request(self.site, method, target, **more)

    def queued(self) -> Any:
        """What was queued last."""
        return self.controller.tasks.asked[-1]


class RequestTests(QueueingCase):
    """What a worker is to send."""

    def test_body(self) -> None:
        """A body goes byte for byte with its type, whatever the method and whatever it is."""
        body = bytes(range(256))
        for method in METHODS:
            for kind in ("application/x-www-form-urlencoded", "text/plain; charset=utf-16", "nonsense"):
                answer = self.ask(method, "/foo/queue/http://m/", body=body, content_type=kind)
                self.assertEqual(answer.status, 202)
                self.assertEqual((self.queued()["method"], self.queued()["body"]), (method, body))
                self.assertEqual(self.queued()["headers"], [("Content-Type", kind)])
        self.ask("POST", "/foo/queue/http://m/")
        self.assertEqual((self.queued()["body"], self.queued()["headers"]), (None, []))

    def test_too_large(self) -> None:
        """A body over the limit is refused, and queues nothing."""
        answer = self.ask("POST", "/foo/queue/http://m/", body=b"x" * 100_001)
        self.assertEqual((answer.status, self.controller.tasks.asked), (413, []))

    def test_headers(self) -> None:
        """Headers are forwarded by their names behind `Cyme-Forward-`, and no others."""
        sent = [
            ("Cyme-Forward-Authorization", "Bearer x"),
            ("cyme-forward-x-a", "1"),
            ("Cyme-Forward-X-A", "caf\xe9"),
            ("Authorization", "mine"),
            ("Content-Encoding", "gzip"),
            ("Cookie", "a=b"),
        ]
        self.ask("POST", "/foo/queue/http://m/", body=b"x", content_type="a/b", headers=sent)
        self.assertEqual(
            sorted((name.lower(), value) for name, value in self.queued()["headers"]),
            [
                ("authorization", "Bearer x"),
                ("content-encoding", "gzip"),
                ("content-type", "a/b"),
                ("x-a", "1"),
                ("x-a", "caf\xe9"),
            ],
        )
        sent = [("Cyme-Forward-Content-Type", "c/d")]
        self.ask("POST", "/foo/queue/http://m/", body=b"x", content_type="a/b", headers=sent)
        self.assertEqual([value for _, value in self.queued()["headers"]], ["c/d"])

    def test_smuggled_headers(self) -> None:
        """A forwarded header can't end and begin another one, nor speak of the message's framing."""
        for sent in (
            ("Cyme-Forward-X", "a\rInjected: yes"),
            ("Cyme-Forward-X", "a\x00b"),
            ("Cyme-Forward-X", "a\x0bb"),
            ("Cyme-Forward-X y", "a"),
            ("Cyme-Forward-", "a"),
            ("Cyme-Forward-Content-Length", "5"),
            ("Cyme-Forward-Transfer-Encoding", "chunked"),
            ("Cyme-Forward-Host", "elsewhere"),
            ("Cyme-Forward-Connection", "close"),
        ):
            before = len(self.controller.tasks.asked)
            answer = self.ask("POST", "/foo/queue/http://m/", headers=[sent])
            queued = self.controller.tasks.asked[before:]
            names = {name.lower() for one in queued for name, _ in one["headers"]}
            self.assertFalse(names & {"injected", "content-length", "transfer-encoding", "connection"}, sent)
            values = [value for one in queued for _, value in one["headers"]]
            self.assertFalse([value for value in values if set(value) & set("\r\n\x00\x0b")], (sent, answer))
            # A bare CR Twisted refuses; before 26.10 it made it a space, which is as good.
            if sent[0] == "Cyme-Forward-X" and "\r" not in sent[1]:
                self.assertEqual((answer.status, queued), (400, []), sent)

    def test_options(self) -> None:
        """The headers that steer the task become the verb's parameters; empty ones count for nothing."""
        sent = [
            ("Cyme-Timeout", "2.5"),
            ("Cyme-Retries", "3"),
            LATE,
            ("Cyme-Deduplication-Id", "order/7"),
            ("Cyme-Callback", "http://m/done"),
            ("Cyme-Failure-Callback", ""),
        ]
        self.ask("GET", "/foo/queue/http://m/", headers=sent)
        expected = {
            "timeout": 2.5,
            "retries": 3,
            "delay": 1.5,
            "deduplication_id": "order/7",
            "callback": "http://m/done",
        }
        self.assertEqual({name: self.queued()[name] for name in expected}, expected)
        self.assertNotIn("failure_callback", self.queued())

    def test_url(self) -> None:
        """The URL is taken from the path as it was sent, also where other paths are refused."""
        for url in ("http://m/a%2Fb/%FF?x=%2F&x=1", "https://m//a/../b", "http://me:x@[::1]:8080/?http://n"):
            self.assertEqual(self.ask("GET", f"/foo/queue/{url}").status, 202)
            self.assertEqual(self.queued()["url"], url)
        self.assertEqual(self.ask("GET", "/foo%2Fx/queue/http://m/").status, 400)
        self.assertEqual(self.ask("GET", "/instances/queue/").status, 404)

    def test_form_shown(self) -> None:
        """The answer repeats a form, and no other body."""
        answer = self.ask("POST", "/foo/queue/http://m/", form="name=George+Costanza&a=1&a=2")
        self.assertEqual(answer.json["data"], {"name": "George Costanza", "a": ["1", "2"]})
        self.assertIsNone(self.ask("POST", "/foo/queue/http://m/", json_body={}).json["data"])
        odd = self.ask("POST", "/foo/queue/http://m/?%FF", form="&".join(["a"] * 2000))
        self.assertEqual((odd.status, odd.json["data"]), (202, None))

    def test_refused(self) -> None:
        """A target that is denied is 403, a broker that is away 503 with a time to come back."""
        answer = self.ask("GET", "/foo/queue/http://denied/")
        self.assertEqual((answer.status, answer.header("Content-Type")), (403, "application/problem+json"))
        self.controller.failure = BrokerAway("amqp://mq//", "it blocks")
        answer = self.ask("GET", "/foo/queue/http://m/")
        self.assertEqual(answer.status, 503)
        self.assertIsNotNone(answer.header("Retry-After"))
        self.assertIsNone(answer.header("Location"))

    def test_failed(self) -> None:
        """A failure that nobody foresaw is a 500 with an incident, and no traceback."""
        self.controller.failure = ValueError("oops")
        answer = self.ask("GET", "/foo/queue/http://m/")
        self.assertEqual(answer.status, 500)
        self.assertNotIn("oops", answer.body.decode())
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class BrowserTests(QueueingCase):
    """Requests that a page made a browser send."""

    def test_other_sites(self) -> None:
        """No page of another site has requests sent from here, with any method."""
        for method in METHODS:
            for header in (("Origin", PANEL), ("Sec-Fetch-Site", "cross-site")):
                self.assertEqual(self.ask(method, "/foo/queue/http://m/", headers=[header]).status, 403)
        self.assertEqual(self.controller.tasks.asked, [])

    def test_preflight(self) -> None:
        """A preflight is answered; any other `OPTIONS` is queued."""
        self.serve(allowed_origins=[PANEL])
        asks = [("Origin", PANEL), ("Access-Control-Request-Method", "POST")]
        answer = self.ask("OPTIONS", "/foo/queue/http://m/", headers=asks)
        self.assertEqual((answer.status, self.controller.tasks.asked), (204, []))
        self.assertEqual(answer.header("Access-Control-Allow-Methods"), ", ".join(METHODS))
        wanted = [("Access-Control-Request-Headers", "content-type, Cyme-Retries,cyme-forward-x-a,x-b")]
        answer = self.ask("OPTIONS", "/foo/queue/http://m/", headers=asks + wanted)
        allowed = (answer.header("Access-Control-Allow-Headers") or "").lower().split(", ")
        self.assertEqual(set(allowed), {"authorization", "content-type", "cyme-retries", "cyme-forward-x-a"})
        self.assertEqual(self.ask("OPTIONS", "/foo/queue/http://m/", headers=asks[:1]).status, 202)


class GoneTests(QueueingCase):
    """Clients that hang up."""

    def connection(self, method: str, target: str) -> Connection:
        connection = Connection(self.site)
        connection.request(method, target)
        return connection

    def test_while_queueing(self) -> None:
        """What a client that is gone asked for is queued all the same."""
        self.controller.held = []
        connection = self.connection("POST", "/foo/queue/http://m/")
        connection.disconnect()
        self.controller.release()
        self.assertEqual(connection.received(), b"")

    def test_stop(self) -> None:
        """A branch that stops ends waits, and begins no more."""
        task = self.ask("POST", "/foo/queue/http://m/").json["uuid"]
        connection = self.connection("GET", f"/foo/query/{task}/wait/")
        self.site.end_streams()
        self.assertEqual(self.controller.tasks.waiting, [])
        self.assertEqual(connection.response().status, 503)
        self.assertEqual(self.ask("GET", f"/foo/query/{task}/wait/").status, 503)
        self.assertEqual(self.ask("GET", f"/foo/query/{task}/state/").status, 200)

    def test_waiting(self) -> None:
        """A wait ends with its client."""
        task = self.ask("POST", "/foo/queue/http://m/").json["uuid"]
        connection = self.connection("GET", f"/foo/query/{task}/wait/?timeout=5")
        self.assertEqual((len(self.controller.tasks.waiting), self.controller.waits), (1, [5.0]))
        connection.disconnect()
        self.assertEqual(self.controller.tasks.waiting, [])
