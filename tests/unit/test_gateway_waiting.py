"""Who waits for tasks."""

from __future__ import annotations

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.errors import NoSuchTask
from cyme.gateway.waiting import LONGEST_RECENT, MOST_RECENT, RECENT_FOR, Waiting
from cyme.queued import Outcome, TaskState, TaskStatus

PENDING = TaskStatus(id="t1", app="foo", queue="q", state=TaskState.PENDING, created_at=1.0)
REVOKED = TaskStatus(id="t1", app="foo", queue="q", state=TaskState.REVOKED, created_at=1.0, finished_at=2.0)
STARTED = Outcome("t1", TaskState.STARTED, None, 2.0)
DONE = Outcome("t1", TaskState.SUCCESS, '{"result": 42, "error": null}', 3.0, 9.0)


class WaitingTests(SynchronousTestCase):
    """`Waiting`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.reads: list[Deferred[TaskStatus | None]] = []
        self.waiting = Waiting(self.clock, self.read)

    def read(self, task_id: str) -> Deferred[TaskStatus | None]:
        read: Deferred[TaskStatus | None] = Deferred()
        self.reads.append(read)
        return read

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.waiting), 0)

    def test_heard(self) -> None:
        """A task's end is told when it is heard, and the row is read once for all who wait."""
        waiting = [self.waiting.wait("t1", 60.0) for _ in range(3)]
        self.assertEqual(len(self.reads), 1)
        self.reads[0].callback(PENDING)
        self.waiting.hear(STARTED)
        self.assertNoResult(waiting[0])
        self.waiting.hear(DONE)
        for one in waiting:
            status = self.successResultOf(one)
            self.assertEqual((status.state, status.result, status.app), (TaskState.SUCCESS, 42, "foo"))

    def test_heard_before_read(self) -> None:
        """What is heard before the row is read is told with it."""
        waiting = self.waiting.wait("t1", 60.0)
        self.waiting.hear(DONE)
        self.waiting.hear(STARTED)
        self.assertNoResult(waiting)
        self.reads[0].callback(PENDING)
        self.assertEqual(self.successResultOf(waiting).result, 42)

    def test_stored_wins(self) -> None:
        """A final state that is stored stands against what is heard."""
        waiting = self.waiting.wait("t1", 60.0)
        self.waiting.hear(DONE)
        self.reads[0].callback(REVOKED)
        self.assertEqual(self.successResultOf(waiting), REVOKED)

    def test_recent(self) -> None:
        """What was queued a moment ago is known without reading, with what was heard since."""
        self.clock.advance(1.0)
        self.waiting.queued(PENDING)
        waiting = self.waiting.wait("t1", 60.0)
        self.waiting.hear(STARTED)
        self.assertNoResult(waiting)
        self.waiting.hear(DONE)
        self.assertEqual(self.successResultOf(waiting).result, 42)
        self.assertEqual(self.successResultOf(self.waiting.wait("t1", 60.0)).result, 42)
        self.waiting.hear(Outcome("t1", TaskState.REVOKED, None, 4.0, 9.0))
        self.assertEqual(self.successResultOf(self.waiting.wait("t1", 60.0)).state, TaskState.SUCCESS)
        self.assertEqual(self.reads, [])

    def test_not_recent(self) -> None:
        """What was queued long ago, has a long result, or was withdrawn is not known without reading."""
        self.clock.advance(1.0)
        self.waiting.queued(PENDING)
        self.waiting.withdrawn("t1")
        self.assertIsNone(self.waiting.recent("t1"))
        self.waiting.queued(PENDING)
        self.assertEqual(self.waiting.recent("t1"), PENDING)
        self.clock.advance(RECENT_FOR + 1)
        self.assertIsNone(self.waiting.recent("t1"))
        self.waiting.queued(evolve(PENDING, created_at=self.clock.seconds()))
        long = '{"result": "' + LONGEST_RECENT * "x" + '", "error": null}'
        self.waiting.hear(Outcome("t1", TaskState.SUCCESS, long, 3.0, 9.0))
        self.assertIsNone(self.waiting.recent("t1"))

    def test_bound(self) -> None:
        """No more than so many are known without reading."""
        for number in range(MOST_RECENT + 10):
            self.waiting.queued(evolve(PENDING, id=f"t{number}"))
        self.assertIsNone(self.waiting.recent("t1"))
        self.assertIsNotNone(self.waiting.recent(f"t{MOST_RECENT + 9}"))

    def test_over(self) -> None:
        """A wait that is over fires with the newest that is known."""
        waiting = self.waiting.wait("t1", 60.0)
        self.reads[0].callback(PENDING)
        self.waiting.hear(STARTED)
        self.clock.advance(60.0)
        self.assertEqual(self.successResultOf(waiting).state, TaskState.STARTED)

    def test_over_before_read(self) -> None:
        """A wait of no time waits for the row."""
        waiting = self.waiting.wait("t1", 0.0)
        self.clock.advance(0.0)
        self.assertNoResult(waiting)
        self.reads[0].callback(PENDING)
        self.assertEqual(self.successResultOf(waiting), PENDING)

    def test_unknown(self) -> None:
        """There is nothing to wait for where no task is."""
        waiting = self.waiting.wait("t1", 60.0)
        self.reads[0].callback(None)
        self.failureResultOf(waiting, NoSuchTask)

    def test_read_fails(self) -> None:
        """Who waits hears of a database that fails."""
        waiting = self.waiting.wait("t1", 60.0)
        self.reads[0].errback(OSError("disk"))
        self.failureResultOf(waiting, OSError)

    def test_cancel(self) -> None:
        """Cancelling leaves nothing behind, whenever it comes."""
        early = self.waiting.wait("t1", 60.0)
        early.cancel()
        self.failureResultOf(early, CancelledError)
        late = self.waiting.wait("t1", 60.0)
        self.reads[0].callback(PENDING)
        self.reads[1].callback(PENDING)
        late.cancel()
        self.failureResultOf(late, CancelledError)
        self.waiting.hear(DONE)

    def test_close(self) -> None:
        """A branch that stops lets go of all who wait."""
        waiting = self.waiting.wait("t1", 60.0)
        self.waiting.close(lambda: OSError("it stops"))
        self.failureResultOf(waiting, OSError)
        self.reads[0].callback(PENDING)
