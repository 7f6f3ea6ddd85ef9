"""What is written down of tasks: in order, and in batches."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.gateway.ledger import MOST_CHANGES, Ledger
from cyme.queued import Issued, Outcome, TaskState, Withdrawn
from tests.contracts.taskstore import make_taskstore_tests
from tests.fakes.taskstore import MemoryTaskStore


class FakeTests(make_taskstore_tests(lambda test: MemoryTaskStore())):  # type: ignore[misc]
    """`MemoryTaskStore`."""


def issued(number: int) -> Issued:
    return Issued(f"t{number}", "foo", "q", 1.0, 9.0)


class LedgerTests(SynchronousTestCase):
    """`Ledger`."""

    def setUp(self) -> None:
        self.store = MemoryTaskStore()
        self.clock = Clock()
        self.ledger = Ledger(self.clock, self.store)

    def turn(self) -> None:
        """Let the reactor turn until nothing is left to do."""
        while self.clock.getDelayedCalls():
            self.clock.advance(0)

    def test_batch(self) -> None:
        """What comes while the database is busy is one transaction, in order."""
        self.store.held = []
        first = self.ledger.write(issued(0))
        self.turn()
        others = [self.ledger.write(issued(1)), self.ledger.write(issued(2), Withdrawn("t1"))]
        self.assertEqual(len(self.store.batches), 1)
        self.assertNoResult(first)
        self.store.release()
        for one in (first, *others):
            self.assertEqual(self.successResultOf(one), frozenset())
        self.assertEqual(self.store.batches, [(issued(0),), (issued(1), issued(2), Withdrawn("t1"))])

    def test_later(self) -> None:
        """What may wait is written with what may not, or when its time is over."""
        first = self.ledger.write(issued(0), within=1.0)
        self.clock.advance(0.9)
        self.assertNoResult(first)
        second = self.ledger.write(issued(1))
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(first), self.successResultOf(second))
        self.assertEqual(self.store.batches, [(issued(0), issued(1))])
        self.turn()
        third = self.ledger.write(issued(2), within=1.0)
        self.clock.advance(1.0)
        self.turn()
        self.successResultOf(third)
        self.assertEqual(self.store.batches[1:], [(issued(2),)])

    def test_bound(self) -> None:
        """A transaction has a bound, and the rest follows."""
        self.store.held = []
        early = self.ledger.write(issued(0))
        self.turn()
        writes = [self.ledger.write(issued(number)) for number in range(1, MOST_CHANGES + 5)]
        self.store.release()
        self.assertEqual([len(batch) for batch in self.store.batches], [1, MOST_CHANGES, 4])
        self.successResultOf(early)
        self.successResultOf(writes[-1])

    def test_own_unknown(self) -> None:
        """Each hears of the tasks in its own changes that are not known."""
        self.store.held = []
        first = self.ledger.write(issued(0))
        self.turn()
        one = self.ledger.write(Outcome("t0", TaskState.STARTED, None, 2.0))
        other = self.ledger.write(Outcome("t7", TaskState.STARTED, None, 2.0))
        self.store.release()
        self.assertEqual(self.successResultOf(first), frozenset())
        self.assertEqual(self.successResultOf(one), frozenset())
        self.assertEqual(self.successResultOf(other), {"t7"})

    def test_read_own_writes(self) -> None:
        """A read sees what was to be written before it."""
        self.store.held = []
        writing = self.ledger.write(issued(0))
        self.turn()
        more = self.ledger.write(Outcome("t0", TaskState.STARTED, None, 2.0))
        reading = [self.ledger.read("t0"), self.ledger.read("t0"), self.ledger.read("t7")]
        self.store.release()
        self.successResultOf(writing)
        self.successResultOf(more)
        one, other, none = (self.successResultOf(read) for read in reading)
        assert one is not None
        self.assertEqual((one.state, other, none), (TaskState.STARTED, one, None))

    def test_failure(self) -> None:
        """A transaction that fails fails what is in it, and the next is tried all the same."""
        self.store.fail_with = OSError("disk full")
        writing, reading = self.ledger.write(issued(0)), self.ledger.read("t0")
        self.turn()
        self.failureResultOf(writing, OSError)
        self.failureResultOf(reading, OSError)
        self.store.fail_with = None
        writing = self.ledger.write(issued(0))
        self.turn()
        self.successResultOf(writing)

    def test_together(self) -> None:
        """What is asked for in one turn of the reactor is one transaction."""
        writing = [self.ledger.write(issued(number)) for number in range(3)]
        self.turn()
        self.assertEqual(self.store.batches, [(issued(0), issued(1), issued(2))])
        for one in writing:
            self.successResultOf(one)

    def test_idle(self) -> None:
        """It is idle when everything is written."""
        idle = self.ledger.when_idle()
        self.turn()
        self.successResultOf(idle)
        self.store.held = []
        writing = [self.ledger.write(issued(0)), self.ledger.write(issued(1))]
        idle = self.ledger.when_idle()
        self.turn()
        self.assertNoResult(idle)
        self.store.release()
        self.successResultOf(idle)
        for one in writing:
            self.successResultOf(one)
