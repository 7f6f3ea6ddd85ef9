"""The watchdog: what hangs, or is dead, ends its process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from cyme import watchdog
from cyme.vitals import Vitals
from cyme.watchdog import LastWords, Watchdog


class FakeAlarm:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def start(self) -> None:
        self.told.append("start")

    def turned(self) -> None:
        self.told.append("turned")

    def stop(self) -> None:
        self.told.append("stop")


class FakeManager:
    """A service manager that wants signs of life, or does not."""

    def __init__(self) -> None:
        self.wants: float | None = None
        self.turns = 0
        self.failure: Exception | None = None
        self.closed = False

    def open(self) -> float | None:
        return self.wants

    def turn(self) -> None:
        self.turns += 1
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        self.closed = True


class FakeSignals:
    """Stands in for the module `signal`."""

    def __init__(self) -> None:
        self.handlers: dict[int, Any] = {}

    def signal(self, number: int, handler: Any) -> Any:
        before = self.handlers.get(number, "the one before")
        self.handlers[number] = handler
        return before


class WatchdogTests(SynchronousTestCase):
    """The service, over things that are none."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.output = 7
        self.alarm = FakeAlarm()
        self.manager = FakeManager()
        self.signals = FakeSignals()
        self.vitals = Vitals()
        self.silent: list[tuple[str, float]] = []
        self.watchdog = Watchdog(
            self.clock,
            self.vitals,
            self.manager,  # type: ignore[arg-type]
            lambda name, seconds: self.silent.append((name, seconds)),
            self.alarm,
            lambda: self.output,
            limit=60.0,
            signals=self.signals,
        )

    def test_turns(self) -> None:
        """Each look puts the alarm off and is a sign of life for the service manager."""
        self.watchdog.startService()
        self.clock.pump([5.0] * 3)
        self.assertEqual(self.alarm.told, ["start"] + ["turned"] * 4)
        self.assertEqual(self.manager.turns, 4)

    def test_manager_in_a_hurry(self) -> None:
        """A service manager that wants signs more often gets two in the time that it names."""
        self.manager.wants = 2.0
        self.watchdog.startService()
        self.clock.pump([1.0] * 10)
        self.assertEqual(self.manager.turns, 11)

    def test_silent(self) -> None:
        """Of a component that makes no progress is told instead; nobody gets a sign of life any more."""
        self.vitals.watch(lambda: {"it": 1}, 12.0)
        self.watchdog.startService()
        self.clock.pump([5.0] * 2)
        turns = self.manager.turns
        self.clock.advance(5.0)
        self.assertEqual(self.silent, [("it", 15.0)])
        self.assertEqual((self.manager.turns, self.alarm.told.count("turned")), (turns, turns))

    def test_jump(self) -> None:
        """A clock that jumps, as after a sleep of the machine, is held against nobody."""
        self.vitals.watch(lambda: {"it": 1}, 12.0)
        self.watchdog.startService()
        self.clock.advance(3600.0)
        self.assertEqual(self.silent, [])
        self.clock.rightNow -= 7200.0
        self.watchdog._look()
        self.assertEqual(self.silent, [])

    def test_failing_manager(self) -> None:
        """A service manager that can't be told ends nobody."""
        self.manager.failure = RuntimeError("a bug")
        self.watchdog.startService()
        self.clock.advance(5.0)
        self.assertEqual(self.alarm.told, ["start", "turned", "turned"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_signal(self) -> None:
        """SIGUSR1 has the stacks written to the log while the service runs."""
        readable, self.output = os.pipe()
        self.addCleanup(os.close, readable)
        self.addCleanup(os.close, self.output)
        self.watchdog.startService()
        self.signals.handlers[signal.SIGUSR1](signal.SIGUSR1, None)
        said = os.read(readable, 65536).decode()
        self.assertIn("Thread MainThread:", said)
        self.assertIn("test_signal", said)
        self.watchdog.stopService()
        self.assertEqual(self.signals.handlers, {signal.SIGUSR1: "the one before"})

    def test_no_reader(self) -> None:
        """Stacks that can't be written do no harm."""
        readable, self.output = os.pipe()
        os.close(readable)
        self.addCleanup(os.close, self.output)
        self.watchdog.startService()
        self.signals.handlers[signal.SIGUSR1](signal.SIGUSR1, None)

    def test_stopped(self) -> None:
        """A stopped watchdog ends nobody, and leaves no call behind."""
        self.watchdog.startService()
        self.watchdog.stopService()
        self.assertEqual(self.alarm.told[-1], "stop")
        self.assertTrue(self.manager.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_never_started(self) -> None:
        """One that was never started can be stopped."""
        self.watchdog.stopService()
        self.assertEqual(self.alarm.told, [])


class LastWordsTests(SynchronousTestCase):
    """What is said at the end."""

    def speak(self, output: Callable[[], int]) -> tuple[list[int], list[str]]:
        left: list[int] = []
        with capturedLogs() as events:
            LastWords(output, leave=left.append).speak("the reactor", 45.2)
        return left, [formatEvent(event) for event in events]

    def test_said(self) -> None:
        """One line says what was silent and for how long, the stacks follow, and the status is 1."""
        readable, writable = os.pipe()
        self.addCleanup(os.close, readable)
        self.addCleanup(os.close, writable)
        left, lines = self.speak(lambda: writable)
        self.assertEqual(left, [1])
        self.assertEqual(
            lines, ["no sign of life from the reactor for 45 s: this process ends, its workers go on"]
        )
        self.assertIn("Thread MainThread:", os.read(readable, 65536).decode())

    def test_log_hangs(self) -> None:
        """Where the log itself hangs, the process ends all the same."""
        self.patch(watchdog, "WRITE_WITHIN", 0.01)
        readable, writable = os.pipe()
        self.addCleanup(os.close, readable)
        while True:
            os.set_blocking(writable, False)
            try:
                os.write(writable, b"x" * 65536)
            except BlockingIOError:
                break
        os.set_blocking(writable, True)
        self.assertEqual(self.speak(lambda: writable)[0], [1])
        # The thread that still writes ends when nobody can read any more.
        self.addCleanup(os.close, writable)
