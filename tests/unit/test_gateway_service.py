"""`Gateway` with a database in memory and brokers that do as they are told."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.declarations import App
from cyme.errors import BrokerAway, GatewayAway, NoSuchTask
from cyme.gateway import service
from cyme.gateway.answers import Answer
from cyme.gateway.brokers import PUT_OFF
from cyme.gateway.messages import Outgoing
from cyme.gateway.service import WEEK, Gateway
from cyme.queued import TaskState
from tests.contracts.gateway import MESSAGE
from tests.fakes.remote import FakeRemoteControl
from tests.fakes.taskstore import MemoryTaskStore

BROKER = "amqp://broker//"


class FakeSession:
    """A connection whose thread is the test."""

    def __init__(self, clock: Clock, line: Any) -> None:
        self.clock = clock
        self.line = line
        self.sent: list[str] = []

    def start(self) -> None:
        pass

    def stop(self) -> None:
        self.clock.callLater(0, self.line.ended, self, "it was closed")

    def join(self) -> None:
        pass

    def progress(self) -> object:
        return 1

    def submit(self, messages: list[Outgoing]) -> None:
        self.sent += [one.task_id for one in messages]


class Apps:
    """As much of a catalogue, and of workers, as a gateway uses."""

    def apps(self) -> list[App]:
        return [App(name="foo", broker=BROKER)]

    def subscribe(self, *callbacks: Any, **more: Any) -> None:
        pass


class GatewayTests(SynchronousTestCase):
    """`Gateway`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1.0e9)
        self.store = MemoryTaskStore()
        self.publishers: list[FakeSession] = []
        self.collectors: list[FakeSession] = []
        apps: Any = Apps()
        self.gateway: Any = Gateway(
            self.clock,
            self.store,
            apps,
            FakeRemoteControl(self.clock),
            apps,
            branch_id="b1",
            host="here",
            default_broker=lambda: BROKER,
            result_expires=86400.0,
            hold_over=60.0,
            retry_policy=lambda failures: 5.0,
            getrandbits=lambda bits: 7,
            make_publisher=lambda url, line: self.made(self.publishers, line),
            make_collector=lambda url, line: self.made(self.collectors, line),
        )
        self.successResultOf(self.gateway.startService())

    def made(self, those: list[FakeSession], line: Any) -> FakeSession:
        those.append(FakeSession(self.clock, line))
        return those[-1]

    def queue(self, **changes: Any) -> Deferred[str]:
        queued: Deferred[str] = self.gateway.queue(BROKER, evolve(MESSAGE, **changes))
        self.turn()
        return queued

    def turn(self) -> None:
        for _ in range(5):
            self.clock.advance(0)

    def confirm(self) -> None:
        """The broker has all that was sent to it."""
        session = self.publishers[-1]
        sent, session.sent = session.sent, []
        session.line.settled(session, [(one, None) for one in sent])
        self.turn()

    def queued(self, **changes: Any) -> str:
        """The id of a task that was queued."""
        queued = self.queue(**changes)
        self.confirm()
        return self.successResultOf(queued)

    def state(self, task_id: str) -> TaskState:
        status = self.gateway.status(task_id)
        self.turn()
        state: TaskState = self.successResultOf(status).state
        return state

    def test_refused(self) -> None:
        """A task whose broker went away is no task, and no row of it is left."""
        self.queued()
        queued = self.queue()
        (task_id,) = self.publishers[0].sent
        self.publishers[0].line.ended(self.publishers[0], "it was reset")
        self.turn()
        self.failureResultOf(queued, BrokerAway)
        self.assertNotIn(task_id, self.store.tasks)
        asked = self.gateway.status(task_id)
        self.turn()
        self.failureResultOf(asked, NoSuchTask)

    def test_awaited(self) -> None:
        """Results are awaited for as long as those of the longest delay are kept, at any time."""
        for _ in range(50):
            self.queued()
            self.assertGreaterEqual(self.store.brokers[BROKER], self.clock.seconds() + WEEK + PUT_OFF)
            self.clock.advance(1000.0)
            self.turn()

    def test_no_time(self) -> None:
        """A time that no calendar has is refused before it comes near a connection, with others on it."""
        other = self.queue()
        for changes in ({"expires": 1e15}, {"eta": 1e30}, {"expires": float("nan")}):
            self.failureResultOf(self.queue(**changes), ValueError)
        self.confirm()
        self.successResultOf(other)

    def test_bytes(self) -> None:
        """What is on its way has a bound in bytes too, and when there is room again more is taken."""
        self.patch(service, "MOST_ISSUING_BYTES", 1000)
        self.queued()
        long = {"args": ["x" * 600]}
        waiting = [self.queue(**long), self.queue(**long), self.queue(deduplication_id="d", **long)]
        self.failureResultOf(waiting.pop(), GatewayAway)
        self.confirm()
        for one in waiting:
            self.successResultOf(one)
        once = self.queue(deduplication_id="d", **long)
        self.confirm()
        self.successResultOf(once)
        for _ in range(5):
            self.queued(**long)

    def test_not_revoked(self) -> None:
        """A revocation that can't be stored is none, and what the worker says is the task's state."""
        task_id = self.queued()
        self.store.fail_with = OSError("disk full")
        revoked = self.gateway.revoke(task_id)
        self.turn()
        self.failureResultOf(revoked, GatewayAway)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.store.fail_with = None
        self.assertEqual(self.state(task_id), TaskState.PENDING)
        answer = Answer(task_id, TaskState.SUCCESS, '{"result": 1, "error": null}')
        self.collectors[0].line.arrived(self.collectors[0], [answer], [], lambda: None)
        self.turn()
        self.assertEqual(self.state(task_id), TaskState.SUCCESS)

    def test_stop(self) -> None:
        """A gateway that stops finishes what is on its way, and leaves no call behind."""
        self.queued()
        queued = self.queue()
        stopped = self.gateway.stopService()
        self.turn()
        self.assertNoResult(stopped)
        self.confirm()
        self.successResultOf(queued)
        self.turn()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
