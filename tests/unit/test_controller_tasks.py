"""Requests and named tasks as the controller hands them to the gateway, and the app's default queue."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.controller.tasks import Rules, Tasks
from cyme.declarations import App, Instance, Queue
from cyme.errors import BrokerAway, InvalidParameter, InvalidTarget, TargetDenied
from cyme.queued import TaskError, TaskMessage, TaskState
from cyme.targets import DEFAULT_DENY
from tests.fakes.gateway import FakeGateway
from tests.support.memorybranch import memory_branch

BROKER = "amqp://me:s3cr3t@mq//"
NOW = 1_900_000_000.0


class TasksCase(SynchronousTestCase):
    """The verbs of tasks, over an app `foo` with a queue `tasks` and two instances."""

    rules = Rules(allow=("*.example.com", "m"), deny=("secret.example.com", *DEFAULT_DENY))

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.branch = memory_branch(self, self.clock)
        self.catalogue = self.branch.catalogue
        self.gateway = FakeGateway(self.clock)
        issued: Any = self.gateway
        self.tasks = Tasks(
            self.clock, self.catalogue, self.gateway, issued, lambda: "redis://m", self.rules
        )
        w1 = Instance(name="w1", app="foo", branch="branch1", queues=("tasks",))
        self.declare(
            App(name="foo", broker=BROKER),
            App(name="bar"),
            Queue(app="foo", name="tasks", exchange="e", options='{"durable": false}'),
            w1,
            evolve(w1, name="w2", queues=()),
            evolve(w1, name="w3", app="bar", queues=()),
        )

    def declare(self, *declarations: Any) -> None:
        self.successResultOf(self.catalogue.change(lambda: declarations))

    def request(self, queue: str | None = "tasks", app: str = "foo", **given: Any) -> Any:
        return self.tasks.request(app, queue, **{"method": "GET", "url": "http://m/x", **given})

    def message(self, asked: Any) -> TaskMessage:
        """The message of what was queued."""
        return self.gateway.queued[self.successResultOf(asked)["uuid"]][1]

    def queues(self, instance: str) -> tuple[str, ...]:
        found = self.catalogue.instance(instance)
        assert found is not None
        return found.queues


class MessageTests(TasksCase):
    """What is handed to the gateway."""

    def test_request(self) -> None:
        """A request says everything that a worker needs, its body in Base64."""
        asked = self.request(
            method="POST",
            url="http://m/x?b=1",
            headers=[("A", "b"), ("A", "c")],
            body=b"\xff\0",
            timeout=5.0,
            retries=2,
            delay=10.0,
            deduplication_id="d",
            callback="http://m/done",
        )
        queued = self.successResultOf(asked)
        broker, message = self.gateway.queued[queued["uuid"]]
        self.assertEqual((broker, queued["broker"]), (BROKER, "amqp://me:***@mq//"))
        self.assertEqual((message.queue.exchange, message.queue.options), ("e", '{"durable": false}'))
        self.assertEqual((message.task, message.eta), ("cyme.tasks.webhook", NOW + 10))
        self.assertEqual((message.app, message.deduplication_id), ("foo", "d"))
        self.assertEqual(
            message.kwargs,
            {
                "request": {
                    "method": "POST",
                    "url": "http://m/x?b=1",
                    "headers": [["A", "b"], ["A", "c"]],
                    "body": "/wA=",
                },
                "options": {
                    "timeout": 5.0,
                    "retries": 2,
                    "max_response": 1048576,
                    "max_redirects": 10,
                    "allow": list(self.rules.allow),
                    "deny": list(self.rules.deny),
                    "callback": "http://m/done",
                    "failure_callback": None,
                    "deliveries": 0,
                    "max_deliveries": 5,
                },
            },
        )

    def test_named_task(self) -> None:
        """A named task takes Celery's options; an app without a broker uses the branch's."""
        eta = datetime.fromtimestamp(NOW + 60, timezone.utc)
        message = self.message(
            self.tasks.send(
                "foo", "proj.add", args=[1], kwargs={"a": 2}, queue="tasks", eta=eta, expires=90.0, priority=3
            )
        )
        self.assertEqual((message.task, message.args, message.kwargs), ("proj.add", [1], {"a": 2}))
        self.assertEqual((message.eta, message.expires, message.priority), (NOW + 60, NOW + 90, 3))
        self.assertEqual(self.message(self.tasks.send("foo", "t", countdown=5.0)).eta, NOW + 5)
        sent = self.successResultOf(self.tasks.send("bar", "t"))
        self.assertEqual(self.gateway.queued[sent["uuid"]][0], "redis://m")

    def test_refused(self) -> None:
        """What can't be queues nothing."""
        for given in (
            {"method": "BREW"},
            {"timeout": 0.0},
            {"timeout": 3601.0},
            {"retries": 101},
            {"delay": 1e9},
            {"callback": "ftp://m"},
            {"failure_callback": "x"},
        ):
            self.failureResultOf(self.request(**given), InvalidParameter)
        for url in ("", "m", "ftp://m/", "http://", "http:///x", "http://m:0/", "http://m:x/"):
            self.failureResultOf(self.request(url=url), InvalidTarget)
        past = datetime.fromtimestamp(NOW - 1, timezone.utc)
        for wrong in (
            {"countdown": 1.0, "eta": past},
            {"expires": past},
            {"expires": 0.0},
            {"priority": 256},
        ):
            self.failureResultOf(self.tasks.send("foo", "t", **wrong), InvalidParameter)
        self.failureResultOf(self.tasks.send("foo", "a\nb"), InvalidParameter)
        self.assertEqual(self.gateway.queued, {})

    def test_broker_away(self) -> None:
        """What the gateway can't queue is told as it says."""
        self.gateway.fail_with = BrokerAway("amqp://mq//", "it blocks")
        self.failureResultOf(self.request(), BrokerAway)


class TargetTests(TasksCase):
    """Which targets may be requested."""

    def test_denied(self) -> None:
        """A target that is denied, or not among those that are allowed, is refused with the rule's name."""
        for url, words in {
            "http://secret.example.com/": "secret.example.com",
            "http://169.254.169.254/latest": "169.254.0.0/16",
            "http://[::ffff:169.254.169.254]/": "169.254.0.0/16",
            "http://2852039166/": "169.254.0.0/16",
            "http://elsewhere.org/": "elsewhere.org",
            "http://127.0.0.1/": "127.0.0.1",
        }.items():
            self.assertIn(words, str(self.failureResultOf(self.request(url=url), TargetDenied).value))
            self.failureResultOf(self.request(callback=url), TargetDenied)
        self.assertEqual(self.gateway.queued, {})
        self.successResultOf(self.request(url="http://a.example.com/"))

    def test_credentials(self) -> None:
        """Credentials in a URL go to the worker, and are in no answer."""
        queued = self.successResultOf(self.request(url="http://me:s3cr3t@m/x?y=1"))
        self.assertEqual(queued["url"], "http://m/x?y=1")
        message = self.gateway.queued[queued["uuid"]][1]
        self.assertEqual(message.kwargs["request"]["url"], "http://me:s3cr3t@m/x?y=1")


class DefaultQueueTests(TasksCase):
    """Tasks without a queue."""

    def test_made_on_demand(self) -> None:
        """The first task without a queue declares `celery` and has the app's instances consume from it."""
        self.assertEqual(self.message(self.request(None)).queue.name, "celery")
        self.assertEqual(self.queues("w1"), ("tasks", "celery"))
        self.assertEqual(self.queues("w2"), ("celery",))
        self.assertEqual(self.queues("w3"), ())
        self.declare(evolve(self.catalogue.instance("w1"), queues=("tasks",)))
        self.successResultOf(self.request(None))
        self.assertEqual(self.queues("w1"), ("tasks",))

    def test_declared_before(self) -> None:
        """Where the user has declared it, who consumes from it is the user's choice."""
        self.declare(Queue(app="foo", name="celery", exchange="mine"))
        self.assertEqual(self.message(self.request(None)).queue.exchange, "mine")
        self.assertEqual(self.queues("w2"), ())

    def test_new_instances(self) -> None:
        """An instance that is added later without a word about queues consumes from it."""
        instances = self.branch.controller.instances

        def added(name: str, **given: Any) -> list[str]:
            asked = instances.add("foo", name, **given)
            self.clock.advance(0)
            return list(self.successResultOf(asked)[1]["queues"])

        self.assertEqual(added("before"), [])
        self.successResultOf(self.request(None))
        self.assertEqual(added("after"), ["celery"])
        self.assertEqual(added("none", queues=[]), [])
        self.assertEqual(added("other", queues=["tasks"]), ["tasks"])
        self.assertEqual(added("other", pool="solo"), ["tasks"])


class OutcomeTests(TasksCase):
    """What is told of a task afterwards."""

    def setUp(self) -> None:
        super().setUp()
        self.task = self.successResultOf(self.request())["uuid"]

    def result(self) -> Any:
        return self.successResultOf(self.tasks.result("foo", self.task))

    def test_failure(self) -> None:
        """A failure is data."""
        self.gateway.answer(self.task, TaskState.RETRY, error=TaskError(type="Timeout", message="slow"))
        self.assertEqual(self.result()["state"], "RETRY")
        self.gateway.answer(self.task, TaskState.FAILURE, error=TaskError(type="Refused", message="no"))
        error = {"type": "Refused", "message": "no"}
        self.assertEqual(self.result(), {"result": None, "state": "FAILURE", "error": error})

    def test_wait(self) -> None:
        """A wait fires as soon as there is a result, and at its end with the state."""
        soon, later = (self.tasks.wait("foo", self.task, timeout=seconds) for seconds in (5.0, 50.0))
        self.assertNoResult(soon)
        self.clock.advance(5)
        pending = {"result": None, "state": "PENDING"}
        self.assertEqual(self.successResultOf(soon), (False, pending))
        self.gateway.answer(self.task, TaskState.SUCCESS, {"status_code": 200})
        done = {"result": {"status_code": 200}, "state": "SUCCESS"}
        self.assertEqual(self.successResultOf(later), (True, done))

    def test_cancelled(self) -> None:
        """A wait that is cancelled leaves nothing behind."""
        calls = len(self.clock.getDelayedCalls())
        waiting = self.tasks.wait("foo", self.task)
        waiting.cancel()
        self.failureResultOf(waiting)
        self.assertEqual(len(self.clock.getDelayedCalls()), calls)
