"""The clients: their surface over a branch in memory, and the parts that need no branch."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import ResponseDone

import cyme.api.problems
import cyme.errors
from cyme.client import Client, aio, calls, errors, events, resources, tasks
from cyme.client import __name__ as client_name
from cyme.client.aio import AsyncClient
from cyme.client.aio import events as aio_events
from cyme.client.aio import resources as aio_resources
from cyme.client.aio import tasks as aio_tasks
from cyme.client.aio.sessions import WAITING_MOST, _Parts
from cyme.client.retrying import NO_RETRY, Retry
from cyme.client.sse import Frame, Reader
from cyme.client.synchronous import Session
from cyme.client.tailing import gained
from cyme.client.wire import Answer, Call, Request, checked_url, path, query_of, read_names, read_object
from tests.contracts.client import Awaiting, Waiting, make_client_tests
from tests.support.memoryclient import AsyncMemoryTransport, MemoryTransport

URL = "http://127.0.0.1:8000"


def waiting(test: TestCase) -> Waiting:
    return Waiting(Client(URL, transport=MemoryTransport(test)), maybeDeferred)


def awaiting(test: TestCase) -> Awaiting:
    return Awaiting(AsyncClient(Clock(), URL, transport=AsyncMemoryTransport(test)))


class ClientTests(make_client_tests(waiting), TestCase):
    """`Client` over a branch in memory."""

    def test_del(self) -> None:
        """Apps, instances, queues and consumers go by `del`."""
        client = Client(URL, transport=MemoryTransport(self))
        foo = client.add("foo")
        foo.queues.add("tasks")
        one = foo.instances.add("w1", is_enabled=False, queues=["tasks"])
        del one.consumers["tasks"]
        self.assertEqual(one.refresh()["queues"], [])
        del foo.queues["tasks"]
        del foo.instances["w1"]
        self.assertEqual((foo.queues.all(), foo.instances.all()), ([], []))
        del client["foo"]
        self.assertEqual(client.all(), [])

    def test_asynchronous_paths(self) -> None:
        """`nowait` asks with `!` before the name."""
        transport = MemoryTransport(self)
        client = Client(URL, transport=transport)
        foo = client.add("foo", nowait=True)
        one = foo.instances.add("w1", nowait=True, is_enabled=False)
        foo.instances.add(nowait=True, is_enabled=False)
        tasks = foo.queues.add("tasks", nowait=True)
        one.consumers.add(tasks, nowait=True)
        one.autoscale(max=3, nowait=True)
        one.delete(nowait=True)
        self.assertEqual(
            [(each.method, each.path) for each in transport.sent],
            [
                ("POST", "/!/foo/"),
                ("POST", "/foo/instances/!/w1/"),
                ("POST", "/foo/instances/!/"),
                ("POST", "/foo/queues/!/tasks/"),
                ("POST", "/foo/instances/!/w1/queues/tasks/"),
                ("POST", "/foo/instances/!/w1/autoscale/"),
                ("DELETE", "/foo/instances/!/w1/"),
            ],
        )


class AsyncClientTests(make_client_tests(awaiting), TestCase):
    """`AsyncClient` over a branch in memory."""


class TwinTests(SynchronousTestCase):
    """The two clients are one."""

    #: What only one of them can have.
    ALONE = frozenset({"__delitem__", "__iter__", "__enter__", "__exit__", "__aiter__"})

    def methods(self, kind: type) -> dict[str, list[tuple[str, Any, Any]]]:
        """The public methods of a class with their parameters, the reactor left out."""
        return {
            name: [
                (each.name, each.kind, each.default)
                for each in inspect.signature(value).parameters.values()
                if each.name not in ("reactor", "transport")
            ]
            for name, value in vars(kind).items()
            if inspect.isfunction(value)
            and (not name.startswith("_") or name.startswith("__"))
            and name not in self.ALONE
        }

    def test_methods(self) -> None:
        """Every object of one has the methods of the other's, with the same parameters."""
        pairs = [(Client, AsyncClient), (tasks.Task, aio_tasks.Task), (events.Events, aio_events.Events)]
        for name, value in vars(resources).items():
            if inspect.isclass(value) and value.__module__ == resources.__name__:
                pairs.append((value, getattr(aio_resources, name)))
        self.assertEqual(len(pairs), 12)
        for one, twin in pairs:
            self.assertEqual(self.methods(one), self.methods(twin), one)

    def test_no_reactor(self) -> None:
        """Neither installs a reactor when it is imported, and the synchronous one needs no Twisted."""
        for module, unwanted in ((client_name, "twisted"), (aio.__name__, "twisted.internet.reactor")):
            program = f"import {module}, sys; sys.exit({unwanted!r} in sys.modules)"
            done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True)
            self.assertEqual(done.returncode, 0, (module, done.stderr))


class ErrorsTests(SynchronousTestCase):
    """Problems as errors."""

    def test_every_kind(self) -> None:
        """Whatever a branch may refuse with has a class of its own, of the class of its status."""
        kinds = [
            value
            for module in (cyme.errors, cyme.api.problems)
            for value in vars(module).values()
            if inspect.isclass(value) and issubclass(value, cyme.errors.CymeError)
        ]
        inner = {"CymeError", "Refused", "NotFound", "Conflict", "Away", "NoReply"}
        for kind in {one for one in kinds if one.__name__ not in inner}:
            self.patch(kind, "sentence", lambda _: "a sentence")
            error = kind.__new__(kind)
            status = cyme.api.problems.status_of(error)
            assert status is not None, kind
            name = cyme.api.problems.document(error, status)["type"].rpartition(":")[2]
            found = errors.class_of(status, name)
            self.assertEqual(found.__name__, kind.__name__)

    def test_unknown_kind(self) -> None:
        """A kind that is not known is of the class of its status, and so is one with another status."""
        cases = [
            (404, "no-such-thing", errors.NotFound),
            (503, "no-such-app", errors.Unavailable),
            (418, None, errors.Problem),
            (599, None, errors.ServerFailure),
        ]
        for status, kind, expected in cases:
            self.assertIs(errors.class_of(status, kind), expected)

    def result(self, status: int, body: bytes, content_type: str, **headers: str) -> Any:
        call = Call(request=Request(method="GET", path="/foo/", query="secret=1"), read=read_object)
        answer = Answer(status=status, headers={"content-type": content_type, **headers}, body=body)
        return call.result(answer, "http://user:secret@h:1/p/")

    def test_no_branch(self) -> None:
        """What is no answer of a branch says who gave it, without secrets."""
        error = self.assertRaises(errors.MalformedAnswer, self.result, 404, b"<html>", "text/html")
        self.assertEqual(
            str(error), "GET http://h:1/p/foo/: it was answered with 404 and text/html; is it a branch?"
        )
        error = self.assertRaises(errors.MalformedAnswer, self.result, 200, b"<html>", "text/html")
        self.assertIn("can't be read", str(error))
        self.assertRaises(errors.MalformedAnswer, self.result, 302, b"", "")

    def test_proxy(self) -> None:
        """What a proxy says of its own is an error of the status."""
        error = self.assertRaises(errors.ServerFailure, self.result, 502, b"Bad\xff gateway", "text/html")
        self.assertIn("502", str(error))
        error = self.assertRaises(
            errors.Unavailable, self.result, 503, b"", "text/plain", **{"retry-after": "7"}
        )
        self.assertEqual(error.retry_after, 7.0)


class WireTests(SynchronousTestCase):
    """Requests as they are built."""

    def test_url(self) -> None:
        """A branch's URL may lack the scheme, may have a path, and may be a Unix socket."""
        self.assertEqual(checked_url("localhost:8000"), "http://localhost:8000")
        self.assertEqual(checked_url("https://h/cyme/"), "https://h/cyme")
        self.assertEqual(checked_url("unix:/run/cyme/branch.sock"), "unix:/run/cyme/branch.sock")
        for wrong in ("", "unix:", "ftp://h", "http://", "http://h/?a=b", "http://h/#x"):
            self.assertRaises(ValueError, checked_url, wrong)

    def test_token(self) -> None:
        """A token that can't stand in a header is refused, and not repeated."""
        for wrong in ("", "a b", "a\nB: c", "é"):
            for make in (Client, lambda url, token: AsyncClient(Clock(), url, token)):
                error = self.assertRaises(ValueError, make, URL, wrong)
                self.assertNotIn("B: c", str(error))

    def test_path(self) -> None:
        """Names are percent-encoded; none of them can step out of its place."""
        self.assertEqual(path("a b", "c/d", "!", "..", "é?#%"), "/a%20b/c%2Fd/!/%2E%2E/%C3%A9%3F%23%25/")
        self.assertRaises(ValueError, path, "a", "")

    def test_query(self) -> None:
        """What is None is left out, lists are repeated, numbers are as branches read them."""
        parameters = {"a": None, "b": [1, 2], "c": True, "d": 0.5, "e": 604800.0, "f": "x y&z"}
        self.assertEqual(query_of(parameters), "b=1&b=2&c=true&d=0.5&e=604800&f=x+y%26z")

    def test_headers(self) -> None:
        """A header that would break out of its line is refused."""
        self.assertRaises(ValueError, calls.queue_request, "foo", "http://h/", headers=[("A", "b\r\nC: d")])
        self.assertRaises(TypeError, calls.queue_request, "foo", "http://h/", wrong=1)

    def test_missing(self) -> None:
        """A list names the branches that could not be heard."""
        answer = Answer(status=200, headers={"cyme-missing": "b1, b2"}, body=b'["a"]')
        names = read_names(answer)
        self.assertEqual((names, names.missing), (["a"], ["b1", "b2"]))  # type: ignore[attr-defined]

    def test_turns(self) -> None:
        """A long wait is several requests, none longer than a minute."""
        self.assertEqual(tasks.turns(150), [60.0, 60.0, 30.0])
        self.assertEqual((tasks.turns(60), tasks.turns(0)), ([60.0], [0]))


class RetryTests(SynchronousTestCase):
    """When a request is sent again."""

    SAFE = Call(request=Request(method="GET", path="/"), read=read_object, is_safe=True)
    CHANGE = Call(request=Request(method="POST", path="/"), read=read_object)
    AWAY = errors.Unreachable("GET", URL, "refused")

    def delay(self, call: Call[Any], attempt: int, outcome: Any, retry: Retry = Retry()) -> Any:  # noqa: B008
        return retry.delay(call, attempt, outcome, lambda: 0.5)

    def test_backs_off(self) -> None:
        """Each wait is twice the one before, up to the longest, for as many attempts as there are."""
        retry = Retry(attempts=5, first=1.0, most=3.0)
        found = [self.delay(self.SAFE, attempt, self.AWAY, retry) for attempt in range(1, 6)]
        self.assertEqual(found, [1.0, 2.0, 3.0, 3.0, None])

    def test_changes(self) -> None:
        """What changes something is never sent again."""
        self.assertIsNone(self.delay(self.CHANGE, 1, self.AWAY))
        self.assertIsNone(self.delay(self.CHANGE, 1, Answer(status=503)))

    def test_statuses(self) -> None:
        """Only what may pass by itself is tried again."""
        for status in (429, 502, 503, 504):
            self.assertIsNotNone(self.delay(self.SAFE, 1, Answer(status=status)))
        for status in (200, 404, 409, 500):
            self.assertIsNone(self.delay(self.SAFE, 1, Answer(status=status)))
        self.assertIsNone(self.delay(self.SAFE, 1, errors.MalformedAnswer("GET", URL, "?")))
        self.assertIsNone(self.delay(self.SAFE, 1, self.AWAY, NO_RETRY))

    def test_verdict(self) -> None:
        """A bad verdict on an instance's health is an answer."""
        answer = Answer(status=503, headers={"content-type": "application/json"}, body=b'{"verdict":"down"}')
        call = calls.instance_health(None, "w1")
        self.assertIsNone(self.delay(call, 1, answer))
        self.assertEqual(call.result(answer, URL), {"verdict": "down"})

    def test_retry_after(self) -> None:
        """`Retry-After` is kept to; one that is too long is not waited for."""
        for header, expected in (("5", 5.0), ("3600", None), ("Mon, 01 Jan", 0.1)):
            answer = Answer(status=503, headers={"retry-after": header})
            self.assertEqual(self.delay(self.SAFE, 1, answer), expected)

    def test_session(self) -> None:
        """A session waits between attempts and gives the first answer, or the last error."""
        slept: list[float] = []
        outcomes: list[Any] = [self.AWAY, Answer(status=503), Answer(status=200, body=b"{}")]

        class Transport:
            def send(self, request: Request, timeout: float) -> Answer:
                outcome = outcomes.pop(0)
                if isinstance(outcome, Exception):
                    raise outcome
                return outcome

        def session() -> Session:
            return Session(
                URL,
                Transport(),  # type: ignore[arg-type]
                timeout=1,
                retry=Retry(attempts=3),
                sleep=slept.append,
                jitter=lambda: 0.5,
            )

        self.assertEqual(session().call(self.SAFE), {})
        self.assertEqual(slept, [0.1, 0.2])
        outcomes[:] = [self.AWAY] * 3
        self.assertRaises(errors.Unreachable, session().call, self.SAFE)
        outcomes[:] = [self.AWAY]
        self.assertRaises(errors.Unreachable, session().call, self.CHANGE)


class StreamTests(SynchronousTestCase):
    """Server-Sent Events as they are read."""

    def test_pieces(self) -> None:
        """However the bytes are cut, the same events come out."""
        stream = b': hello\n\nid: 3\n\nid: 4\r\nevent: a\r\ndata: {"x":\r\ndata: 1}\r\n\r\n'
        stream += b"id: 5\ndata:y\n\nid: 6\nda"
        for size in (1, 2, 7, 1000):
            reader = Reader()
            found = [
                frame
                for start in range(0, len(stream), size)
                for frame in reader.feed(stream[start : start + size])
            ]
            self.assertEqual(found, [Frame("4", '{"x":\n1}'), Frame("5", "y")])
            self.assertEqual(reader.last_id, "6")

    def test_endless_line(self) -> None:
        """A line without an end is given up."""
        reader = Reader()
        with self.assertRaises(ValueError):
            for _ in range(6):
                list(reader.feed(b"x" * (1 << 20)))


class PartsTests(SynchronousTestCase):
    """The parts of a body that come faster than they are read."""

    def setUp(self) -> None:
        self.transport = StringTransport()
        self.parts = _Parts()
        self.parts.makeConnection(self.transport)

    def test_paused(self) -> None:
        """The connection is paused while too many parts wait, and none is lost."""
        sent = [b"%d" % number for number in range(WAITING_MOST)]
        for part in sent:
            self.assertEqual(self.transport.producerState, "producing")
            self.parts.dataReceived(part)
        self.assertEqual(self.transport.producerState, "paused")
        self.assertEqual([self.successResultOf(self.parts.get()) for _ in sent], sent)
        self.assertEqual(self.transport.producerState, "producing")
        waiting = self.parts.get()
        self.parts.dataReceived(b"later")
        self.assertEqual(self.successResultOf(waiting), b"later")

    def test_end(self) -> None:
        """At its end there is None, after what came before it; a break is an error."""
        self.parts.dataReceived(b"last")
        self.parts.connectionLost(Failure(ResponseDone()))
        self.assertEqual(self.successResultOf(self.parts.get()), b"last")
        self.assertIsNone(self.successResultOf(self.parts.get()))
        broken = _Parts()
        waiting = broken.get()
        broken.connectionLost(Failure(ConnectionLost()))
        self.failureResultOf(waiting, ConnectionLost)

    def test_given_up(self) -> None:
        """Who stops to wait misses nothing; who stops to read closes the connection."""
        waiting = self.parts.get()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.parts.dataReceived(b"part")
        self.assertEqual(self.successResultOf(self.parts.get()), b"part")
        self.parts.abandon()
        self.assertTrue(self.transport.disconnecting)


class TailingTests(SynchronousTestCase):
    """What a log has gained."""

    def test_gained(self) -> None:
        """New lines are told once; what can't be joined is told to have a gap."""
        cases = [
            ([], ["a"], (True, ["a"])),
            (["a", "b"], ["a", "b"], (True, [])),
            (["a", "b"], ["a", "b", "c"], (True, ["c"])),
            (["a", "b", "c"], ["b", "c", "d"], (True, ["d"])),
            (["a", "a"], ["a", "a", "a"], (True, [])),
            (["a", "b"], ["x", "y"], (False, ["x", "y"])),
            (["a", "b"], [], (False, [])),
        ]
        for before, now, expected in cases:
            self.assertEqual(gained(before, now), expected, (before, now))
