"""The life of a worker, rung by rung."""

from __future__ import annotations

from signal import SIGKILL, SIGQUIT, SIGTERM

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from cyme.planning import Phase
from cyme.workers.life import Ladder, Subject, begin
from tests.fakes.launcher import FakeLauncher

WARM = 60.0
COLD = 10.0
TERM, QUIT, KILL = (SIGTERM, False), (SIGQUIT, False), (SIGKILL, True)


class LifeTests(SynchronousTestCase):
    """States, deadlines and signals."""

    def setUp(self) -> None:
        self.clock = Clock()
        launcher = FakeLauncher(self.clock)
        handle = launcher.launch(
            ("celery",), {}, record="record", log="log", identity="w1", ready=lambda: None
        )
        self.process = launcher.launched[0]
        self.life = begin(Subject("w1", handle, self.clock, Ladder(WARM, COLD), Logger()))

    def expect(self, phase: Phase | None, *signals: tuple[int, bool]) -> None:
        self.assertEqual((self.life.phase(), self.process.signals), (phase, list(signals)))

    def test_begins(self) -> None:
        """A life begins with the start, and nothing is due."""
        self.expect(Phase.STARTING)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_runs(self) -> None:
        """Once heard, a worker runs, however often it is heard."""
        self.life.mark_running()
        self.life.mark_running()
        self.expect(Phase.RUNNING)

    def test_ladder(self) -> None:
        """A worker that does not stop gets TERM, then QUIT, then its group is killed."""
        self.life.mark_running()
        self.life.stop(None)
        self.expect(Phase.STOPPING, TERM)
        self.clock.advance(WARM - 0.1)
        self.expect(Phase.STOPPING, TERM)
        self.clock.advance(0.1)
        self.expect(Phase.STOPPING, TERM, QUIT)
        self.clock.advance(COLD - 0.1)
        self.expect(Phase.STOPPING, TERM, QUIT)
        self.clock.advance(0.1)
        self.expect(Phase.STOPPING, TERM, QUIT, KILL)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_own_deadline(self) -> None:
        """A stop may come with a deadline of its own."""
        self.life.stop(300.0)
        self.clock.advance(299.9)
        self.expect(Phase.STOPPING, TERM)
        self.clock.advance(0.1)
        self.expect(Phase.STOPPING, TERM, QUIT)
        self.life.over()

    def test_sooner(self) -> None:
        """A second stop brings the deadline forward, and never puts it off."""
        self.life.stop(300.0)
        self.life.stop(900.0)
        self.life.stop(5.0)
        self.life.stop(None)
        self.clock.advance(5.0)
        self.expect(Phase.STOPPING, TERM, QUIT)
        self.life.over()

    def test_while_starting(self) -> None:
        """A worker that has not been heard of yet is stopped by the same ladder."""
        self.life.stop(None)
        self.expect(Phase.STOPPING, TERM)
        self.life.over()

    def test_stop_again(self) -> None:
        """Another stop neither repeats a signal nor moves a deadline, on any rung."""
        expected = [TERM]
        self.life.stop(None)
        for timeout, signal in ((WARM, QUIT), (COLD, KILL)):
            self.clock.advance(timeout / 2)
            self.life.stop(None)
            self.life.mark_running()
            self.expect(Phase.STOPPING, *expected)
            self.clock.advance(timeout / 2)
            expected.append(signal)
            self.expect(Phase.STOPPING, *expected)
        self.life.stop(None)
        self.life.mark_running()
        self.expect(Phase.STOPPING, *expected)

    def test_hurry(self) -> None:
        """A hurry skips the warm rung, from every state before it, and no other."""
        self.life.mark_running()
        self.life.hurry()
        self.life.hurry()
        self.expect(Phase.STOPPING, QUIT)
        self.clock.advance(COLD)
        self.life.hurry()
        self.expect(Phase.STOPPING, QUIT, KILL)

    def test_hurry_on_the_ladder(self) -> None:
        """A hurry ends the warm rung; the deadline of the cold one counts from then."""
        self.life.stop(None)
        self.clock.advance(WARM - 1)
        self.life.hurry()
        self.expect(Phase.STOPPING, TERM, QUIT)
        self.clock.advance(COLD - 0.1)
        self.expect(Phase.STOPPING, TERM, QUIT)
        self.clock.advance(0.1)
        self.expect(Phase.STOPPING, TERM, QUIT, KILL)

    def test_over(self) -> None:
        """When it is over, on whichever rung, no deadline is left and no signal is sent any more."""
        for steps in ((), (WARM,), (WARM, COLD)):
            self.setUp()
            self.life.stop(None)
            for step in steps:
                self.clock.advance(step)
            signals = list(self.process.signals)
            self.life.over()
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.life.stop(None)
            self.life.hurry()
            self.life.mark_running()
            self.life.over()
            self.expect(None, *signals)
