"""Who may do what over HTTP: every route, with every method, for everybody who may ask."""

from __future__ import annotations

import base64
import re
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from cyme.access import Principal, Scope
from cyme.access.throttle import FREE_TRIES
from cyme.access.tokens import Tokens, digest_of
from cyme.api.access import OPEN_PATHS
from cyme.api.routing import Route
from cyme.api.site import Limits, all_routes, make_site
from tests.fakes.controller import FakeController
from tests.support.httpmemory import Connection, Response, request
from tests.support.memorybranch import memory_branch

NAMES = {"app": "foo", "name": "w1", "queue": "tasks", "branch": "branch1", "task": "proj.add"}
NAMES["uuid"] = "00000000-0000-8000-8000-000000000000"
#: All that a token can be: its scope, and the app that it is for.
PRINCIPALS = [Principal(f"{scope.word}-{app}", scope, app) for scope in Scope for app in (None, "foo", "bar")]
#: A queued request to each of its spellings.
QUEUEING = ("/foo/queue/tasks/http://example.org/", "/foo/queue/http://example.org/")
#: What needs what, as docs/operations/security.rst tells it. A route that is not here needs `read` to
#: look and `admin` to change something.
OPERATE = {
    "restart the worker of an instance warmly",
    "have the worker of an instance run",
    "have the worker of an instance stopped",
    "have a worker finish what runs, then stopped and kept so",
    "change the bounds of the pool; what is not given stays",
    "the stacks of the worker's main process, which its log then has too",
    "have an instance consume from a queue",
    "have an instance stop consuming from a queue",
    "have no instance consume from a queue, until it is resumed",
    "have the instances consume again from a queue that was paused",
    "restart an app's instances, the next only when the one before it is back",
    "call a rolling restart off: nothing further is restarted",
    "queue a Celery task of the app by its name",
    "revoke a task: it is not run, unless it runs already",
}
#: What is about no app, and for those all the same whose token is for one.
COMMON = {"/ping/", "/ready/", "/branches/", "/openapi.json"}


class File:
    """A token file in memory; a token is the name of whose it is."""

    def __init__(self, *principals: Principal) -> None:
        self.tokens: Tokens | None = Tokens({digest_of(str(one.name)): one for one in principals})


def bearer(token: str) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {token}")]


class AccessCase(SynchronousTestCase):
    """A site with tokens over a controller in memory."""

    options: dict[str, Any] = {}
    limits = Limits()

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.controller = FakeController()
        self.fill()
        self.file = File(*PRINCIPALS)
        self.site = make_site(
            self.clock,
            self.controller,
            limits=self.limits,
            tokens=self.file,
            allowed_origins=["https://panel.example.org"],
            check_host=False,
            readiness=dict,
            **self.options,
        )

    def fill(self) -> None:
        self.controller.__init__()  # type: ignore[misc]
        for app, name in (("foo", "w1"), ("bar", "w2")):
            self.controller.apps.add(app, hostname="mq", password="s3cret", extra_config="a=amqp://u:pw@h//")
            self.controller.queues.add(app, "tasks")
            self.controller.instances.add(app, name)

    def ask(self, method: str, target: str, token: str | None = None, **more: Any) -> Response:
        headers = [*more.pop("headers", []), *(bearer(token) if token is not None else [])]
        return request(self.site, method, target, headers=headers, **more)


def targets_of(route: Route) -> list[tuple[str, str]]:
    """(path as it is declared, path with names in it) of all spellings of a route."""
    paths = [*route.paths, *route.asynchronous_paths]
    return [(path, re.sub(r"<(\w+)>", lambda match: NAMES[match[1]], path)) for path in paths]


class MatrixTests(AccessCase):
    """Every route, method and token."""

    def judge(self, path: str, route: Route, principal: Principal) -> bool:
        """Whether somebody is let in, said anew from the rules in the documentation."""
        needs = Scope.READ if route.methods == ("GET",) else Scope.ADMIN
        if route.summary in OPERATE:
            needs = Scope.OPERATE
        if principal.scope < needs:
            return False
        if principal.app is None or path in COMMON:
            return True
        if "<app>" in path:
            return principal.app == "foo"
        return path == "/" and route.methods == ("GET",) or path.startswith("/instances/")

    def test_every_route(self) -> None:
        """Nobody is let in without a token, and each token reaches as far as it says and no further."""
        tried = 0
        for route in all_routes(dict):
            methods = (*route.methods, "HEAD") if "GET" in route.methods else route.methods
            for path, target in targets_of(route):
                for method in methods:
                    for token in (None, "wrong", ""):
                        self.clock.advance(10)
                        before = self.controller.content()
                        answer = self.ask(method, target, token)
                        self.assertEqual(answer.status, 401, (method, target, token))
                        self.assertEqual(self.controller.content(), before)
                    for principal in PRINCIPALS:
                        self.fill()
                        before = self.controller.content()
                        answer = self.ask(method, target, principal.name)
                        is_let_in = self.judge(path, route, principal)
                        self.assertEqual(
                            answer.status not in (401, 403), is_let_in, (method, path, principal, answer)
                        )
                        if not is_let_in:
                            self.assertEqual(self.controller.content(), before)
                        tried += 1
        self.assertGreater(tried, 1500)

    def test_other_methods(self) -> None:
        """A method that is not served tells nothing without a token."""
        for route in all_routes(dict):
            for _, target in targets_of(route):
                for method in ("PATCH", "OPTIONS", "TRACE", "DELETE", "BREW"):
                    self.assertEqual(self.ask(method, target).status, 401, (method, target))
        self.assertEqual(self.ask("GET", "/no/such/route/").status, 401)

    def test_queueing(self) -> None:
        """Queueing a request, with any method, needs `operate` of its app."""
        for target in QUEUEING:
            for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT"):
                self.assertEqual(self.ask(method, target).status, 401, (method, target))
                for principal in PRINCIPALS:
                    status = self.ask(method, target, principal.name).status
                    fits = principal.scope >= Scope.OPERATE and principal.app in (None, "foo")
                    self.assertEqual(status, 202 if fits else 403, (method, target, principal))

    def test_narrowed(self) -> None:
        """Lists of all apps show the only app of a token, and no instance of another app is found by name."""
        self.assertEqual(self.ask("GET", "/", "read-bar").json, ["bar"])
        self.assertEqual(self.ask("GET", "/", "read-None").json, ["bar", "foo"])
        self.assertEqual(self.ask("GET", "/instances/", "read-bar").json, ["w2"])
        self.assertEqual(self.ask("GET", "/instances/w1/", "read-bar").status, 404)
        self.assertEqual(self.ask("GET", "/instances/w2/", "read-bar").status, 200)
        self.assertEqual(self.ask("POST", "/instances/w1/restart/", "admin-bar").status, 404)

    def test_streams(self) -> None:
        """Streams of events are let in as lists are."""
        accept = [("Accept", "text/event-stream")]
        for target, token, status in (
            ("/events/", None, 401),
            ("/events/", "admin-foo", 403),
            ("/foo/instances/w1/events/", "read-bar", 403),
        ):
            self.assertEqual(self.ask("GET", target, token, headers=accept).status, status, (target, token))


class HiddenTests(AccessCase):
    """What those don't see who may not set it."""

    def test_passwords(self) -> None:
        """Passwords are shown to those who may set them, and to nobody else."""
        for target in ("/foo/", "/foo/instances/w1/", "/instances/w1/"):
            for token in ("read-None", "operate-foo"):
                text = self.ask("GET", target, token).body.decode()
                self.assertNotIn("s3cret", text, target)
                self.assertNotIn("u:pw@", text, target)
        self.assertEqual(self.ask("GET", "/foo/", "admin-foo").json["broker"]["password"], "s3cret")
        self.assertEqual(self.ask("GET", "/foo/", "read-foo").json["broker"]["password"], "***")


class RealControllerTests(SynchronousTestCase):
    """Tokens over the real controller."""

    def test_who_asked(self) -> None:
        """Every change is an event with the token's name and the address; its other app is out of reach."""
        clock = Clock()
        clock.advance(1000)
        branch = memory_branch(self, clock)
        file = File(Principal("alice", Scope.ADMIN), Principal("foo-only", Scope.OPERATE, "foo"))
        site = make_site(
            clock,
            branch.controller,
            limits=Limits(),
            tokens=file,
            allowed_origins=(),
            check_host=False,
            readiness=dict,
        )
        for target in ("/foo/", "/bar/", "/foo/instances/w1/", "/bar/instances/w2/"):
            self.assertEqual(request(site, "PUT", target, headers=bearer("alice")).status, 201)
        events: Any = branch.controller.events._events
        self.assertEqual({event.who for event in events.recorded}, {"alice, http 192.0.2.1"})
        answer = request(site, "POST", "/instances/w2/disable/", headers=bearer("foo-only"))
        self.assertEqual(answer.status, 404)
        # A task of one app is not to be had by naming another one.
        queued = request(site, "POST", "/bar/queue/http://example.org/", headers=bearer("alice"))
        uuid = queued.json["uuid"]
        for verb, target in (("GET", "state/"), ("GET", "result/"), ("DELETE", "")):
            answer = request(site, verb, f"/foo/query/{uuid}/{target}", headers=bearer("foo-only"))
            self.assertEqual(answer.status, 404, target)


class CredentialsTests(AccessCase):
    """How a token may come, and what is made of nonsense."""

    def status(self, *values: str, target: str = "/foo/") -> int:
        self.clock.advance(100)
        return self.ask("GET", target, headers=[("Authorization", value) for value in values]).status

    def basic(self, text: str) -> str:
        return "Basic " + base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()

    def test_ways(self) -> None:
        """Bearer, in any case, and Basic with any user name."""
        basic = self.basic("x:read-foo"), self.basic(":read-foo")
        for value in ("Bearer read-foo", "bearer  read-foo ", *basic):
            self.assertEqual(self.status(value), 200, value)

    def test_nonsense(self) -> None:
        """Whatever else comes is 401 and says how to say who one is."""
        for values in (
            ("Bearer",),
            ("Bearer read-foo x",),
            ("Basic",),
            ("Basic ????",),
            (self.basic("read-foo"),),
            (self.basic("read-foo:"),),
            ("Digest read-foo",),
            ("read-foo",),
            ("\xff\xfe",),
            ("Bearer " + "a" * 5000,),
            ("Bearer read-foo", "Bearer read-foo"),
        ):
            self.assertEqual(self.status(*values), 401, values)
        answer = self.ask("GET", "/")
        self.assertIn("Bearer", answer.header("WWW-Authenticate") or "")
        self.assertEqual(answer.header("Content-Type"), "application/problem+json")
        self.assertIn("needs a token", answer.json["detail"])

    def test_query(self) -> None:
        """A token in the address is none: addresses are logged on their way."""
        self.assertEqual(self.status(target="/foo/?token=read-foo&access_token=read-foo"), 401)

    def test_guesses(self) -> None:
        """Who guesses waits longer and longer, and in the end is told to stop; others are not held up."""
        for _ in range(FREE_TRIES):
            self.assertEqual(self.ask("GET", "/", "wrong").status, 401)
        connections = [Connection(self.site) for _ in range(20)]
        for connection in connections:
            connection.request("GET", "/", headers=bearer("wrong"))
        self.assertEqual(self.ask("GET", "/", "read-foo").status, 200)
        at_once = [one.response().status for one in connections if one.received()]
        self.assertEqual(set(at_once), {429})
        self.assertEqual(len(at_once), 10)
        for _ in range(10):
            self.clock.advance(1.0)
        self.assertEqual([one.response().status for one in connections].count(401), 10)
        for connection in connections:
            connection.disconnect()

    def test_gives_up(self) -> None:
        """A guesser that goes away while it waits leaves nothing behind."""
        for _ in range(FREE_TRIES):
            self.ask("GET", "/", "wrong")
        connection = Connection(self.site)
        connection.request("GET", "/", headers=bearer("wrong"))
        connection.disconnect()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_log(self) -> None:
        """No token, right or wrong, gets into the log, and no line end from a path does."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.ask("GET", "/foo/", "read-foo")
        self.ask("GET", "/foo/", "wr0ng-token")
        self.ask("GET", "/foo%0d%0aINFO/cyme%20forged/", "read-foo")
        text = str(events)
        for secret in ("read-foo", "wr0ng-token", "\nINFO"):
            self.assertNotIn(secret, text)

    def test_preflight(self) -> None:
        """A browser may ask what an allowed origin may send, without a token, and learns nothing else."""
        headers = [("Origin", "https://panel.example.org"), ("Access-Control-Request-Method", "PUT")]
        answer = self.ask("OPTIONS", "/foo/", headers=headers)
        self.assertEqual(answer.status, 204)
        self.assertIn("Authorization", answer.header("Access-Control-Allow-Headers") or "")
        self.assertEqual(self.ask("PUT", "/foo/", headers=headers[:1]).status, 401)

    def test_closed(self) -> None:
        """Without --open-metrics a monitoring system needs a token too."""
        for path in OPEN_PATHS:
            self.assertEqual(self.ask("GET", path.decode()).status, 401, path)


class OpenTests(AccessCase):
    """A branch with tokens whose health is open."""

    options = {"open_metrics": True}

    def test_open(self) -> None:
        """Health needs no token then, all else does, also what looks like it."""
        for path in ("/ping/", "/ping", "/ready/", "/ready"):
            self.assertEqual(self.ask("GET", path).status, 200, path)
        for path in ("/ping/x/", "/pings/", "/", "/foo/", "/ping/../foo/", "//ping/"):
            self.assertIn(self.ask("GET", path).status, (400, 401), path)


class WithoutTokensTests(AccessCase):
    """A branch without a token file."""

    def test_anybody(self) -> None:
        """Everybody may do everything, whatever header they bring."""
        self.file.tokens = None
        for token in (None, "wrong"):
            self.assertEqual(self.ask("PUT", "/new/", token).status, 201 if token is None else 200)
            self.assertEqual(self.ask("GET", "/foo/", token).json["broker"]["password"], "s3cret")


class LimitsTests(AccessCase):
    """How much one address may ask."""

    limits = Limits(request_rate=5, connections=4, connections_of_one=2)

    def test_rate(self) -> None:
        """Who asks too often is told so, also with a token; later they may again."""
        statuses = [self.ask("GET", "/foo/", "read-foo").status for _ in range(12)]
        self.assertEqual((statuses[0], statuses[-1]), (200, 429))
        answer = self.ask("GET", "/foo/", "read-foo")
        self.assertIsNotNone(answer.header("Retry-After"))
        self.clock.advance(1.0)
        self.assertEqual(self.ask("GET", "/foo/", "read-foo").status, 200)

    def test_connections(self) -> None:
        """So many connections are taken of one address, and so many in all; who leaves makes room."""

        def connect(host: str) -> Any:
            address = IPv4Address("TCP", host, 50000)
            protocol = self.site.buildProtocol(address)
            if protocol is not None:
                transport = Connection.transport_to(address)
                protocol.makeConnection(transport)
            return protocol

        first = [connect("192.0.2.1") for _ in range(3)]
        self.assertEqual([one is not None for one in first], [True, True, False])
        local = [connect("127.0.0.1") for _ in range(3)]
        self.assertEqual([one is not None for one in local], [True, True, False])
        self.drop(first[0])
        self.assertIsNotNone(connect("192.0.2.1"))
        self.flushLoggedErrors()

    def drop(self, protocol: Any) -> None:
        protocol.connectionLost(Failure(ConnectionDone()))
