"""The watch over the reactor's turns."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from cyme.stalls import INTERVAL, POLL, Pacer, StallWatch


class ScriptedPacer(Pacer):
    """A pacer without a thread."""

    said = 0.0
    place = "file.py:1 f"

    def start(self) -> None:
        """Start nothing."""

    def late(self) -> float:
        return self.said

    def where(self) -> str:
        return self.place


class StallWatchTests(SynchronousTestCase):
    """What is said of turns that take long."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.pacer = ScriptedPacer(0.1)
        self.watch = StallWatch(self.clock, 0.1, self.pacer)
        self.watch.startService()
        self.addCleanup(self.watch.stopService)

    def said(self, seconds: float) -> list[int]:
        """The stalls, in milliseconds, that are logged when a turn takes so long."""
        with capturedLogs() as events:
            self.clock.advance(seconds)
        return [event["ms"] for event in events if event["log_level"] is LogLevel.warn]

    def test_punctual(self) -> None:
        """Turns that are in time, or nearly, are not spoken of."""
        for seconds in (INTERVAL, INTERVAL + 0.09):
            self.assertEqual(self.said(seconds), [])

    def test_stall(self) -> None:
        """A turn that took too long is logged once, with how long it took."""
        self.assertEqual(self.said(INTERVAL + 0.3), [300])
        self.assertEqual(self.said(INTERVAL), [])

    def test_busy_machine(self) -> None:
        """A machine that has other things to run is not a stall."""
        self.pacer.said += 0.25
        self.assertEqual(self.said(INTERVAL + 0.3), [])

    def test_not_scheduled(self) -> None:
        """A reactor that was ready to go on, and was not let, is not held up by the branch."""
        self.pacer.place = POLL
        self.assertEqual(self.said(INTERVAL + 0.3), [])

    def test_stop(self) -> None:
        """A stopped watch leaves no delayed call."""
        self.watch.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class PacerTests(SynchronousTestCase):
    """The thread that feels how busy the machine is."""

    def test_where(self) -> None:
        """A thread that does not come back in time is found where it is."""
        pacer = Pacer(0.0)
        found = threading.Event()

        def held_up() -> None:
            pacer.start()
            while not (where := pacer.where()):
                found.wait(0.01)
            self.found = where

        self.addCleanup(pacer.stop)
        held_up()
        self.assertIn("held_up", self.found)

    def is_found(self, is_it: Callable[[str], bool], processor_time: Callable[[], float]) -> bool:
        """Whether a thread that stays in the reactor's poll is found where it is, sooner or later."""
        pacer = Pacer(0.0, processor_time)
        poll = select.poll()
        self.addCleanup(pacer.stop)

        def doPoll() -> bool:
            pacer.start()
            end = time.monotonic() + 30.0
            # It may be found between two polls, too.
            while not (is_there := is_it(pacer.where())) and time.monotonic() < end:
                poll.poll(10)
            return is_there

        return doPoll()

    def test_waiting_in_poll(self) -> None:
        """A thread in its poll, of a process that takes no time, was kept there by the machine."""
        self.assertTrue(self.is_found(lambda where: where == POLL, lambda: 0.0))

    def test_busy_in_poll(self) -> None:
        """A thread in its poll while the process computes is held up by that."""
        self.assertTrue(self.is_found(lambda where: " doPoll < " in where, time.monotonic))

    def test_late(self) -> None:
        """Lateness only grows."""
        pacer = Pacer(10.0)
        pacer.start()
        self.addCleanup(pacer.stop)
        first = pacer.late()
        self.assertLessEqual(0.0, first)
        self.assertLessEqual(first, pacer.late())
