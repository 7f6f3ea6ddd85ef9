"""The watchdog: a reactor that hangs ends its process."""

from __future__ import annotations

import os
import signal
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.watchdog import Watchdog


class FakeDumper:
    """Records what `faulthandler` would be told."""

    def __init__(self) -> None:
        self.armed: list[dict[str, Any]] = []
        self.cancelled = 0

    def dump_traceback_later(self, timeout: float, **options: Any) -> None:
        self.armed.append({"timeout": timeout, **options})

    def cancel_dump_traceback_later(self) -> None:
        self.cancelled += 1


class FakeSignals:
    """Stands in for the module `signal`."""

    def __init__(self) -> None:
        self.handlers: dict[int, Any] = {}

    def signal(self, number: int, handler: Any) -> Any:
        before = self.handlers.get(number, "the one before")
        self.handlers[number] = handler
        return before


class WatchdogTests(SynchronousTestCase):
    """The service, with a stand-in for `faulthandler`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.output = 7
        self.dumper = FakeDumper()
        self.signals = FakeSignals()
        self.watchdog = Watchdog(
            self.clock, lambda: self.output, limit=60.0, dumper=self.dumper, signals=self.signals
        )

    def test_armed(self) -> None:
        """From its start on, the process would end with the stacks in the log."""
        self.watchdog.startService()
        self.assertEqual(self.dumper.armed, [{"timeout": 60.0, "repeat": False, "file": 7, "exit": True}])

    def test_rearmed(self) -> None:
        """Each turn of the reactor puts the end off, well within the limit."""
        self.watchdog.startService()
        self.clock.pump([5.0] * 12)
        self.assertEqual(len(self.dumper.armed), 13)

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
        self.assertEqual(self.dumper.cancelled, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_never_started(self) -> None:
        """One that was never started can be stopped."""
        self.watchdog.stopService()
        self.assertEqual(self.dumper.armed, [])
