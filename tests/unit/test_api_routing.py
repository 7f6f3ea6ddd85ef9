"""How routes are found, how methods are refused, and how operations outlive their clients."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.access.tokenfile import TokenFile
from cyme.api.routing import shielded
from cyme.api.site import Limits, all_routes, make_site
from cyme.errors import NoSuchInstance
from tests.fakes.controller import FakeController
from tests.support.httpmemory import Connection, Response, request

NAMES = {"<app>": "foo", "<name>": "w1", "<queue>": "tasks", "<branch>": "branch1"}
NAMES |= {"<task>": "proj.add", "<uuid>": "task1"}


def fill(controller: FakeController) -> None:
    """Leave one of each thing in a controller."""
    controller.declared_apps.clear()
    controller.declared_queues.clear()
    controller.declared_instances.clear()
    controller.declared_rollouts.clear()
    controller.is_cordoned = controller.is_draining = False
    controller.is_away = True
    controller.apps.add("foo")
    controller.queues.add("foo", "tasks")
    controller.instances.add("foo", "w1", queues=["tasks"])
    controller.rollouts.begin("foo")
    controller.tasks.outcomes["task1"] = {"result": 7, "state": "SUCCESS", "app": "foo"}
    controller.waits.clear()


def concrete(path: str) -> str:
    """A declared path with the names of what `fill` leaves."""
    for segment, name in NAMES.items():
        path = path.replace(segment, name)
    return path


class RoutingCase(SynchronousTestCase):
    """A site over a controller that holds one of each thing."""

    def setUp(self) -> None:
        self.controller = FakeController()
        fill(self.controller)
        self.away: dict[str, str] = {}
        self.site = make_site(
            Clock(),
            self.controller,
            limits=Limits(request_body=1000), tokens=TokenFile(None),
            allowed_origins=(),
            check_host=True,
            readiness=lambda: self.away,
        )

    def ask(self, method: str, target: str, **more: Any) -> Response:
        return request(self.site, method, target, **more)


class DeclarationTests(RoutingCase):
    """What holds for every declared route."""

    def test_every_spelling(self) -> None:
        """Every path of every route is served with each of its methods, with and without its last slash."""
        for route in all_routes(dict):
            for method in route.methods:
                for path in (*route.paths, *route.asynchronous_paths):
                    for spelling in {concrete(path), concrete(path).rstrip("/") or "/"}:
                        fill(self.controller)
                        statuses = [status for status, _ in route.answers]
                        expected = [202] if path in route.asynchronous_paths else statuses
                        answer = self.ask(method, spelling)
                        self.assertIn(answer.status, expected, f"{method} {spelling}: {answer.body!r}")

    def test_head(self) -> None:
        """`HEAD` answers like `GET`, without the body."""
        for route in all_routes(dict):
            if not route.changes:
                for path in map(concrete, route.paths):
                    head, get = self.ask("HEAD", path), self.ask("GET", path)
                    self.assertEqual((head.status, head.body), (200, b""), path)
                    self.assertEqual(
                        head.headers.getRawHeaders("Content-Length"),
                        get.headers.getRawHeaders("Content-Length"),
                    )

    def test_options(self) -> None:
        """`OPTIONS` names the methods that are served at a path, and changes nothing."""
        before = self.controller.content()
        served: dict[str, set[str]] = {}
        for route in all_routes(dict):
            for path in (*route.paths, *route.asynchronous_paths):
                served.setdefault(concrete(path), {"OPTIONS"}).update(route.methods)
        for path, methods in served.items():
            if "GET" in methods:
                methods.add("HEAD")
            answer = self.ask("OPTIONS", path)
            self.assertEqual((answer.status, answer.body), (204, b""))
            self.assertEqual(set((answer.header("Allow") or "").split(", ")), methods, path)
            refused = self.ask("BREW", path)
            self.assertEqual(refused.status, 405)
            self.assertEqual(refused.header("Allow"), answer.header("Allow"))
        self.assertEqual(self.controller.content(), before)

    def test_description(self) -> None:
        """Every route says what it is for, and every parameter what it means and takes."""
        for route in all_routes(dict):
            self.assertTrue(route.summary)
            for parameter in route.parameters:
                self.assertTrue(parameter.description)
                self.assertTrue(parameter.kind.takes)


class PathTests(RoutingCase):
    """Paths that are nearly right."""

    def test_nothing_there(self) -> None:
        """A path that nothing answers to is not found, and never redirected."""
        paths = (
            "/foo/bar",
            "/foo//",
            "/foo//instances",
            "/foo/instances//w1",
            "/foo/instances/w1/stats/more",
            "/foo/instances/w1/queues/!/",
            "/!/!/",
            "/branches/a/b",
        )
        for path in paths:
            for method in ("GET", "PUT", "DELETE", "OPTIONS"):
                self.assertIn(self.ask(method, path).status, (404, 501), f"{method} {path}")

    def test_malformed(self) -> None:
        """A path that could be read in two ways is refused."""
        before = self.controller.content()
        paths = ("//foo/", "/foo%2Finstances/", "/foo%2f", "/%FF", "/%ED%A0%80", "http://h/foo", "foo")
        for path in paths:
            answer = self.ask("DELETE", path)
            self.assertEqual(answer.status, 400)
            self.assertEqual(answer.header("Content-Type"), "application/problem+json")
        self.assertEqual(self.controller.content(), before)

    def test_route_names_are_no_apps(self) -> None:
        """A method that a route at the root does not have is not taken for one on an app."""
        self.controller.declared_apps["ping"] = {"name": "ping"}
        refused = self.ask("DELETE", "/ping/")
        self.assertEqual((refused.status, refused.header("Allow")), (405, "GET, HEAD, OPTIONS"))
        self.assertEqual(self.ask("GET", "/ping/instances/").status, 404)

    def test_methods_are_capitals(self) -> None:
        """A method in small letters is not served."""
        self.assertEqual(self.ask("delete", "/foo/").status, 400)
        self.assertEqual(self.ask("GET", "/foo/").status, 200)


class AnswerTests(RoutingCase):
    """What answers carry."""

    def test_headers(self) -> None:
        """Answers are not kept by caches nor guessed at by browsers, and don't tell versions."""
        for target, status in (("/", 200), ("/no/", 404), ("/foo%2F", 400)):
            answer = self.ask("GET", target)
            self.assertEqual(answer.status, status)
            self.assertEqual(answer.header("X-Content-Type-Options"), "nosniff")
            self.assertEqual(answer.header("Cache-Control"), "no-store")
            self.assertEqual(answer.header("Server"), "Cyme")

    def test_health(self) -> None:
        """The branch says that it lives, and what keeps it from working."""
        self.assertEqual(self.ask("GET", "/ping/").json, {"ok": "pong"})
        self.assertEqual(self.ask("GET", "/ready").status, 200)
        self.away["broker"] = "connection refused"
        answer = self.ask("GET", "/ready")
        self.assertEqual(answer.status, 503)
        self.assertEqual(answer.json["away"], {"broker": "connection refused"})
        self.assertIn("connection refused", answer.json["detail"])
        self.assertIsNotNone(answer.header("Retry-After"))

    def test_log(self) -> None:
        """A log is text, as many lines as are asked for, one hundred without a wish."""
        answer = self.ask("GET", "/foo/instances/w1/log/?tail=2")
        self.assertEqual(answer.body, b"line 0\nline 1\n")
        self.assertEqual(answer.header("Content-Type"), "text/plain; charset=utf-8")
        self.assertEqual(len(self.ask("GET", "/foo/instances/w1/log/").body.splitlines()), 100)
        for tail in ("0", "10001", "x"):
            self.assertEqual(self.ask("GET", f"/foo/instances/w1/log/?tail={tail}").status, 400)

    def test_dump(self) -> None:
        """Stacks are text; `!` makes no sense where the answer is the point."""
        answer = self.ask("POST", "/foo/instance/w1/dump/?wait=2")
        self.assertEqual((answer.status, answer.body), (200, b"MainThread\n"))
        self.assertEqual(answer.header("Content-Type"), "text/plain; charset=utf-8")
        self.assertEqual(self.ask("PUT", "/instances/w1/dump").status, 200)
        self.assertEqual(self.controller.waits[-2:], [2.0, 5.0])
        for path in ("/foo/instances/!/w1/dump/", "/instances/!/w1/dump"):
            self.assertEqual(self.ask("POST", path).status, 501)
        self.assertEqual(self.ask("GET", "/foo/instances/w1/dump/").status, 405)

    def test_missing_branches(self) -> None:
        """A list that could not hear from every branch names the silent ones."""

        class Partial(list[str]):
            missing = ("branch2", "branch3")

        self.controller.instances.all = lambda app: Partial(["w1"])  # type: ignore[method-assign]
        answer = self.ask("GET", "/foo/instances/")
        self.assertEqual((answer.status, answer.json), (200, ["w1"]))
        self.assertEqual(answer.header("Cyme-Missing"), "branch2, branch3")
        told: dict[str, Any] = {"rows": [{"name": "w1"}], "silent": ["branch2"]}
        self.controller.overview.instances = lambda **_: succeed(told)  # type: ignore[method-assign]
        answer = self.ask("GET", "/foo/instances/?details=yes")
        self.assertEqual((answer.json, answer.header("Cyme-Missing")), ([{"name": "w1"}], "branch2"))

    def test_details(self) -> None:
        """A list tells names, or with `details` how each is: of an app or all, in a state, in pages."""
        for name in ("w1", "w2", "w3"):
            self.ask("PUT", f"/foo/instances/{name}/", json_body={"is_enabled": name != "w2"})
        self.ask("PUT", "/bar/")
        self.assertEqual(self.ask("GET", "/instances/").json, ["w1", "w2", "w3"])

        def names(query: str, app: str = "") -> list[str]:
            return [one["name"] for one in self.ask("GET", f"{app}/instances/?{query}").json]

        self.assertEqual(names("details=true"), ["w1", "w2", "w3"])
        self.assertEqual(names("details=true&offset=1&limit=1"), ["w2"])
        self.assertEqual(names("details=true&state=disabled", "/foo"), ["w2"])
        self.assertEqual(names("details=true", "/bar"), [])
        self.assertEqual(self.ask("GET", "/nope/instances/?details=true").status, 404)
        for query in ("limit=1", "details=no&state=running", "details=true&limit=0", "details=true&state=x"):
            answer = self.ask("GET", f"/instances/?{query}")
            self.assertEqual(answer.status, 400, query)

    def test_wait(self) -> None:
        """A wait is passed on; `!` means none, and can't be given one."""
        self.ask("POST", "/foo/instances/?wait=2.5")
        self.ask("PUT", "/foo/instances/w1/queues/tasks/", json_body={"wait": 3})
        self.ask("POST", "/foo/instances/!/w1/autoscale/?max=3")
        self.assertEqual(self.controller.waits, [2.5, 3.0, 0.0])
        self.assertEqual(self.ask("POST", "/foo/instances/!/?wait=1").status, 400)


class DisconnectionTests(RoutingCase):
    """Clients that go away while their request is worked on."""

    def lose(self, method: str, target: str) -> Connection:
        self.controller.held = []
        connection = Connection(self.site)
        connection.request(method, target)
        self.assertEqual(connection.received(), b"")
        connection.disconnect()
        return connection

    def test_operation_goes_on(self) -> None:
        """An operation whose client has gone is not cancelled, and nobody is answered."""
        connection = self.lose("PUT", "/bar/")
        assert self.controller.held is not None
        ((waiting, _),) = self.controller.held
        self.assertFalse(waiting.called)
        self.controller.release()
        self.assertEqual(connection.received(), b"")

    def test_refusal_afterwards(self) -> None:
        """An operation that is refused after its client has gone is no failure of the branch."""
        self.lose("PUT", "/bar/")
        self.controller.failure = NoSuchInstance("w1")
        self.controller.release()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_failure_afterwards(self) -> None:
        """An operation that fails after its client has gone is in the log, once."""
        self.lose("PUT", "/bar/")
        self.controller.failure = ZeroDivisionError("out of luck")
        self.controller.release()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_read(self) -> None:
        """A client that goes away while its answer is collected leaves nothing behind."""
        self.lose("GET", "/foo/instances/w1/stats/")
        self.controller.release()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_shield(self) -> None:
        """A shielded Deferred fires like the other, but its cancellation stays its own."""
        operation: Deferred[int] = Deferred()
        outcome = shielded(operation)
        operation.callback(1)
        self.assertEqual(self.successResultOf(outcome), 1)
        operation = Deferred()
        outcome = shielded(operation)
        outcome.cancel()
        self.failureResultOf(outcome)
        self.assertFalse(operation.called)
        operation.callback(2)
