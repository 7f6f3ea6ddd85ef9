"""Tasks that are put off, with a database in memory, brokers that do as they are told, and a clock."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.declarations import App
from cyme.errors import BrokerAway, DeclarationMismatch, GatewayAway, Unroutable
from cyme.gateway import holding
from cyme.gateway.answers import Answer
from cyme.gateway.brokers import COLLECTED_WITHIN
from cyme.gateway.holding import AGAIN, LOOK_AGAIN
from cyme.gateway.lines import CONFIRM_TIMEOUT
from cyme.gateway.messages import Outgoing
from cyme.gateway.service import DAY, WEEK, Gateway
from cyme.queued import TaskError, TaskMessage, TaskState, TaskStatus
from tests.contracts.gateway import MESSAGE
from tests.fakes.remote import FakeRemoteControl
from tests.fakes.taskstore import MemoryTaskStore

BROKER, OTHER = "amqp://broker//", "amqp://other//"
NOW = 1.0e9
HOUR = 3600.0


class Apps:
    """As much of a catalogue, and of workers, as a gateway uses."""

    def __init__(self) -> None:
        self.brokers: dict[str, str | None] = {"foo": BROKER}
        self.deleted: list[App] = []
        self.changed: list[Any] = []

    def apps(self) -> list[App]:
        return [App(name=name, broker=broker) for name, broker in self.brokers.items()]

    def tombstones(self, kind: str) -> list[App]:
        return self.deleted if kind == App.kind else []

    def subscribe(self, *callbacks: Any, **more: Any) -> None:
        self.changed += callbacks


class FakeSession:
    """A connection whose thread is the test."""

    def __init__(self, clock: Clock, url: str, line: Any) -> None:
        self.clock = clock
        self.url = url
        self.line = line
        self.sent: list[Outgoing] = []

    def start(self) -> None:
        pass

    def stop(self) -> None:
        self.clock.callLater(0, self.line.ended, self, "it was closed")

    def join(self) -> None:
        pass

    def progress(self) -> object:
        return 1

    def submit(self, messages: list[Outgoing]) -> None:
        self.sent += messages


class HoldingTests(SynchronousTestCase):
    """`Gateway` with tasks that are put off."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.store = MemoryTaskStore()
        self.apps = Apps()
        self.are_up = True
        self.start()

    def start(self) -> None:
        """Begin a life of the branch."""
        self.sessions: dict[tuple[str, str], FakeSession] = {}
        apps: Any = self.apps
        self.gateway: Any = Gateway(
            self.clock,
            self.store,
            apps,
            FakeRemoteControl(self.clock),
            apps,
            branch_id="b1",
            host="here",
            default_broker=lambda: OTHER,
            result_expires=86400.0,
            hold_over=60.0,
            retry_policy=lambda failures: 1.0,
            getrandbits=lambda bits: 7,
            make_publisher=lambda url, line: self.made("publisher", url, line),
            make_collector=lambda url, line: self.made("collector", url, line),
        )
        self.successResultOf(self.gateway.startService())
        self.turn()

    def die(self) -> None:
        """End a life of the branch as kill -9 does."""
        for call in self.clock.getDelayedCalls():
            call.cancel()

    def made(self, what: str, url: str, line: Any) -> FakeSession:
        session = self.sessions[what, url] = FakeSession(self.clock, url, line)
        if self.are_up:
            self.clock.callLater(0, line.opened, session)
        else:
            self.clock.callLater(0, line.ended, session, "it is down")
        return session

    def turn(self) -> None:
        for _ in range(20):
            self.clock.advance(0)

    def go_on(self, seconds: float, step: float = 0.5) -> None:
        """Have time pass."""
        for _ in range(int(seconds / step)):
            self.clock.advance(step)
            self.turn()

    def until(self, at: float) -> None:
        """Have time pass until a moment at which something is due."""
        self.clock.advance(at - self.clock.seconds())
        self.turn()

    def lose(self, *urls: str) -> None:
        """Lose the connections to brokers, which are away from now on."""
        self.are_up = False
        for (_, url), session in list(self.sessions.items()):
            if url in urls:
                session.line.ended(session, "it was reset")
        self.turn()

    def queue(self, delay: float, **changes: Any) -> Deferred[str]:
        message: TaskMessage = evolve(MESSAGE, eta=self.clock.seconds() + delay, **changes)
        queued: Deferred[str] = self.gateway.queue(BROKER, message)
        self.turn()
        return queued

    def held(self, delay: float = HOUR, **changes: Any) -> str:
        """The id of a task that is held."""
        return self.successResultOf(self.queue(delay, **changes))

    def sent(self, broker: str = BROKER) -> list[Outgoing]:
        """What was sent to a broker in this life, and is not settled."""
        session = self.sessions.get(("publisher", broker))
        return [] if session is None else session.sent

    def sent_ids(self, broker: str = BROKER) -> list[str]:
        return [one.task_id for one in self.sent(broker)]

    def settle(self, problem: Any = None, broker: str = BROKER) -> None:
        """The broker has all that was sent to it, or refuses it."""
        session = self.sessions["publisher", broker]
        sent, session.sent = session.sent, []
        session.line.settled(session, [(one.task_id, problem) for one in sent])
        self.turn()

    def hear(self, task_id: str, state: TaskState) -> None:
        """A worker says how a task is."""
        session = self.sessions["collector", BROKER]
        session.line.arrived(session, [Answer(task_id, state, None)], [], lambda: None)
        self.turn()

    def status(self, task_id: str) -> TaskStatus:
        status = self.gateway.status(task_id)
        self.turn()
        return self.successResultOf(status)

    def test_due(self) -> None:
        """A task that is put off is pending and on no broker until it is due, then once, without an ETA."""
        task_id = self.held(HOUR, expires=NOW + 2 * HOUR, priority=3)
        self.until(NOW + HOUR - 0.001)
        self.assertEqual((self.sent(), self.status(task_id).state), ([], TaskState.PENDING))
        self.until(NOW + HOUR)
        (sent,) = self.sent()
        self.assertEqual((sent.task_id, sent.kind.queue), (task_id, MESSAGE.queue))
        self.assertEqual((sent.eta, sent.expires, sent.kind.priority), (None, NOW + 2 * HOUR, 3))
        self.assertIn(b'[[1, "zwei"], {"three": null}', sent.body)
        self.settle()
        self.assertEqual((self.store.put_off, self.status(task_id).state), ({}, TaskState.PENDING))
        self.go_on(60)
        self.assertEqual(self.sent(), [])
        self.hear(task_id, TaskState.SUCCESS)
        self.assertEqual(self.status(task_id).state, TaskState.SUCCESS)

    def test_short(self) -> None:
        """One that is put off for less is published at once, with its ETA."""
        queued = self.queue(60.0)
        self.assertEqual([one.eta for one in self.sent()], [NOW + 60.0])
        self.settle()
        self.successResultOf(queued)
        self.assertEqual(self.store.put_off, {})

    def test_order(self) -> None:
        """Each goes out when it is due, in whatever order they were queued."""
        late, soon, later = self.held(300.0), self.held(100.0), self.held(400.0)
        for at, expected in ((100.0, soon), (300.0, late), (400.0, later)):
            self.until(NOW + at)
            self.assertEqual(self.sent_ids(), [expected])
            self.settle()

    def test_batches(self) -> None:
        """Many that are due at one time go out in parts, each once the one before it is written."""
        self.patch(holding, "MOST_DUE", 3)
        ids = [self.held() for _ in range(7)]
        self.until(NOW + HOUR)
        found = []
        for count in (3, 3, 1):
            self.assertEqual(len(self.sent()), count)
            found += self.sent_ids()
            self.settle()
        self.assertEqual(found, ids)

    def test_broker_away(self) -> None:
        """A task is refused while its broker is away, also when that is found out only then."""
        self.are_up = False
        self.failureResultOf(self.queue(HOUR), BrokerAway)
        self.failureResultOf(self.queue(HOUR), BrokerAway)
        self.assertEqual((self.store.put_off, self.store.tasks), ({}, {}))

    def test_results_away(self) -> None:
        """Also when only the connection for results has noticed it."""
        self.held()
        self.are_up = False
        collector = self.sessions["collector", BROKER]
        collector.line.ended(collector, "it was reset")
        self.failureResultOf(self.queue(HOUR), BrokerAway)

    def test_broker_silent(self) -> None:
        """A broker that can't be connected to in time is away."""
        self.are_up = False
        self.made = lambda what, url, line: FakeSession(self.clock, url, line)  # type: ignore[method-assign]
        queued = self.queue(HOUR)
        self.assertNoResult(queued)
        self.clock.advance(CONFIRM_TIMEOUT)
        self.failureResultOf(queued, BrokerAway)

    def test_database(self) -> None:
        """A task that can't be stored is refused."""
        self.held()
        self.store.fail_with = OSError("disk full")
        self.failureResultOf(self.queue(HOUR), GatewayAway)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_away_when_due(self) -> None:
        """What is due while its broker is away goes out once that is back, after what had waited there."""
        task_id = self.held(100.0)
        self.lose(BROKER)
        self.go_on(200)
        self.assertEqual(self.sent(), [])
        self.are_up = True
        self.go_on(COLLECTED_WITHIN - 0.5)
        self.assertEqual(self.sent(), [])
        self.go_on(1.0 + LOOK_AGAIN + 0.5)
        self.assertEqual(self.sent_ids(), [task_id])
        self.settle()
        self.assertEqual(self.store.put_off, {})

    def test_others_go_on(self) -> None:
        """A broker that is away does not hold up the tasks of others."""
        self.apps.brokers["bar"] = OTHER
        self.patch(holding, "MOST_DUE", 2)
        for _ in range(3):
            self.held(100.0)
        queued = self.gateway.queue(OTHER, evolve(MESSAGE, app="bar", eta=NOW + 101.0))
        self.turn()
        self.lose(BROKER)
        self.until(NOW + 101.0)
        self.assertEqual(self.sent_ids(OTHER), [self.successResultOf(queued)])

    def test_lost_confirm(self) -> None:
        """A task whose confirm was lost goes out again with the same id, unless it was heard of."""
        one, other = self.held(100.0), self.held(100.0)
        self.until(NOW + 100.0)
        self.assertEqual(self.sent_ids(), [one, other])
        publisher = self.sessions["publisher", BROKER]
        publisher.line.ended(publisher, "it was reset")
        self.turn()
        self.hear(one, TaskState.STARTED)
        self.go_on(AGAIN + LOOK_AGAIN)
        self.assertEqual(self.sent_ids(), [other])
        self.settle()
        self.assertEqual(self.store.put_off, {})

    def test_refused(self) -> None:
        """A queue that takes nothing now is tried again, and does not hold up another."""
        self.patch(holding, "MOST_DUE", 2)
        full = [self.held(100.0), self.held(100.0)]
        other = self.held(100.5)
        self.until(NOW + 100.0)
        self.settle(Unroutable("q", BROKER, "NO_ROUTE"))
        self.until(NOW + 100.5)
        self.assertEqual(self.sent_ids(), [other])
        self.settle()
        self.until(NOW + 100.0 + AGAIN)
        self.assertEqual(self.sent_ids(), full)

    def test_impossible(self) -> None:
        """A queue that can't be what it was declared as is a failure that says so."""
        task_id = self.held(100.0)
        waiting = self.gateway.wait(task_id, 1000.0)
        self.until(NOW + 100.0)
        self.settle(DeclarationMismatch("q", "it is durable"))
        status = self.successResultOf(waiting)
        self.assertEqual(status.state, TaskState.FAILURE)
        self.assertEqual(status.error.type, "DeclarationMismatch")
        self.assertEqual((self.store.put_off, self.status(task_id).state), ({}, TaskState.FAILURE))

    def test_killed_while_held(self) -> None:
        """A task outlives the branch, and goes out when it is due."""
        task_id = self.held()
        self.die()
        self.clock.advance(100.0)
        self.start()
        self.until(NOW + HOUR - 0.001)
        self.assertEqual(self.sent(), [])
        self.until(NOW + HOUR)
        # Nothing was asked of the broker in this life before.
        self.go_on(COLLECTED_WITHIN + LOOK_AGAIN)
        self.assertEqual(self.sent_ids(), [task_id])

    def test_killed_when_sent(self) -> None:
        """What may be out since before a kill waits for word of it, and then goes out or not."""
        begun, unknown = self.held(100.0), self.held(100.0)
        self.until(NOW + 100.0)
        self.assertEqual(self.sent_ids(), [begun, unknown])
        self.die()
        self.start()
        self.go_on(COLLECTED_WITHIN - 1.0)
        self.assertEqual(self.sent(), [])
        self.hear(begun, TaskState.SUCCESS)
        self.go_on(1.0 + LOOK_AGAIN)
        self.assertEqual(self.sent_ids(), [unknown])
        self.settle()
        self.assertEqual(self.store.put_off, {})

    def test_cannot_be_written(self) -> None:
        """What is out is not sent again while the database fails, and nothing else is."""
        self.held(100.0)
        other = self.held(101.0)
        self.until(NOW + 100.0)
        self.store.fail_with = OSError("disk full")
        self.settle()
        self.go_on(10)
        self.assertEqual(self.sent(), [])
        self.assertTrue(self.flushLoggedErrors(OSError))
        self.store.fail_with = None
        self.go_on(LOOK_AGAIN)
        self.assertEqual(self.sent_ids(), [other])

    def test_revoked(self) -> None:
        """A task that is revoked while it is held never goes out."""
        task_id = self.held(100.0)
        revoked = self.gateway.revoke(task_id)
        self.turn()
        self.assertEqual(self.successResultOf(revoked).state, TaskState.REVOKED)
        self.assertEqual(self.store.put_off, {})
        self.go_on(200)
        self.assertEqual(self.sent(), [])

    def test_revoked_at_last(self) -> None:
        """Also when it is revoked while what is due is being read."""
        task_id = self.held(100.0)
        self.held(1000.0)
        self.until(NOW + 99.0)
        self.store.held = []
        self.until(NOW + 100.0)
        # What was to be written before is, and then what is due has been read, and is on its way here.
        (writing,) = self.store.held
        self.store.held.clear()
        writing[0].callback(writing[1])
        self.turn()
        self.assertEqual(len(self.store.held), 1)
        revoked = self.gateway.revoke(task_id)
        self.turn()
        self.store.release()
        self.turn()
        self.assertEqual(self.successResultOf(revoked).state, TaskState.REVOKED)
        self.go_on(200)
        self.assertEqual(self.sent(), [])
        self.assertEqual(len(self.store.put_off), 1)

    def test_expired(self) -> None:
        """A task that has expired when it could go out is revoked, as by a worker."""
        task_id = self.held(100.0, expires=NOW + 100.0)
        waiting = self.gateway.wait(task_id, 1000.0)
        self.until(NOW + 100.0)
        self.assertEqual(self.sent(), [])
        status = self.successResultOf(waiting)
        self.assertEqual(status.state, TaskState.REVOKED)
        self.assertEqual(status.error, TaskError(type="TaskRevokedError", message="expired"))
        self.assertEqual(self.store.put_off, {})

    def test_app_deleted(self) -> None:
        """The tasks of an app that was deleted are revoked when they are due, unless it is there again."""
        self.apps.brokers["bar"] = BROKER
        gone, back = self.held(100.0), self.held(100.0, app="bar")
        self.apps.deleted = [App(name="foo", deleted=True)]
        del self.apps.brokers["foo"]
        self.until(NOW + 100.0)
        self.assertEqual(self.sent_ids(), [back])
        self.assertEqual(self.status(gone).state, TaskState.REVOKED)
        self.assertEqual(str(self.status(gone).error.message), "the app was deleted")  # type: ignore[union-attr]

    def test_app_unreadable(self) -> None:
        """The tasks of an app that is not there and was not deleted wait for it."""
        task_id = self.held(100.0)
        del self.apps.brokers["foo"]
        self.until(NOW + 100.0)
        self.go_on(100)
        self.apps.brokers["foo"] = BROKER
        self.go_on(AGAIN + COLLECTED_WITHIN + LOOK_AGAIN)
        self.assertEqual(self.sent_ids(), [task_id])

    def test_broker_changed(self) -> None:
        """A task goes to the broker that its app has when it is due."""
        task_id = self.held(100.0)
        self.apps.brokers["foo"] = None
        self.until(NOW + 100.0)
        self.go_on(COLLECTED_WITHIN + LOOK_AGAIN)
        self.assertEqual((self.sent(), self.sent_ids(OTHER)), ([], [task_id]))

    def test_deduplication(self) -> None:
        """One with the deduplication id of a task that is held is that task, until a day after it is due."""
        task_id = self.held(3 * DAY, deduplication_id="d")
        self.assertEqual(self.held(HOUR, deduplication_id="d"), task_id)
        self.until(NOW + 2 * DAY)
        at_once = self.gateway.queue(BROKER, evolve(MESSAGE, deduplication_id="d"))
        self.turn()
        self.assertEqual(self.successResultOf(at_once), task_id)
        self.assertEqual(self.sent(), [])
        self.until(NOW + 3 * DAY)
        self.assertEqual(self.sent_ids(), [task_id])
        self.settle()
        self.until(NOW + 4 * DAY)
        self.assertNotEqual(self.held(HOUR, deduplication_id="d"), task_id)

    def test_kept(self) -> None:
        """A task that goes out late is kept as long as one that was queued then."""
        task_id = self.held(100.0)
        self.lose(BROKER)
        self.go_on(2 * WEEK, step=1000.0)
        self.are_up = True
        self.go_on(20)
        self.settle()
        self.go_on(WEEK - 1000.0, step=1000.0)
        self.assertEqual(self.status(task_id).state, TaskState.PENDING)

    def test_stop(self) -> None:
        """A gateway that stops finishes what is on its way, and leaves no call behind."""
        self.held(100.0)
        self.held(1000.0)
        self.until(NOW + 100.0)
        stopped = self.gateway.stopService()
        self.turn()
        self.assertNoResult(stopped)
        self.settle()
        self.successResultOf(stopped)
        self.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.store.put_off), 1)
