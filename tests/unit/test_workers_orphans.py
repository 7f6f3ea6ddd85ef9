"""Orphans that fall to the branch."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.workers.orphans import AT_ONCE, INTERVAL, OrphanReaper


class OrphanReaperTests(SynchronousTestCase):
    """Which of the children that have ended are reaped."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ended: list[int] = []
        self.faults: list[OSError] = []
        self.reaped: list[int] = []
        self.awaited: set[int] = set()
        self.reaper = OrphanReaper(
            self.clock,
            self.awaited,
            ended_child=self.ended_child,
            reap=self.reap,
        )
        self.reaper.startService()

    def ended_child(self) -> int | None:
        if self.faults:
            raise self.faults.pop()
        return self.ended[0] if self.ended else None

    def reap(self, pid: int) -> None:
        self.ended.remove(pid)
        self.reaped.append(pid)

    def test_reaped(self) -> None:
        """Whatever has ended and nobody waits for is reaped at the next look."""
        self.ended = [7, 8, 9]
        self.clock.advance(INTERVAL)
        self.assertEqual(self.reaped, [7, 8, 9])

    def test_awaited(self) -> None:
        """What Twisted waits for is left to it; the next look goes on behind it."""
        self.ended = [7, 8]
        self.awaited.add(7)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.reaped, [])
        self.reap(7)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.reaped, [7, 8])

    def test_bounded(self) -> None:
        """However many there are, a turn of the reactor is short; the rest has its turn later."""
        self.ended = list(range(1, AT_ONCE + 11))
        self.clock.advance(INTERVAL)
        self.assertEqual(len(self.reaped), AT_ONCE)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.ended, [])

    def test_fault(self) -> None:
        """A look that fails is logged, and is not the last."""
        self.faults = [OSError("no such luck")]
        self.ended = [7]
        self.clock.advance(INTERVAL)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.reaped, [7])

    def test_stopped(self) -> None:
        """A stopped service looks no more."""
        self.reaper.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
