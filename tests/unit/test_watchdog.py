"""The watchdog: a reactor that hangs ends its process."""

from __future__ import annotations

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
        self.registered: dict[int, int] = {}

    def dump_traceback_later(self, timeout: float, **options: Any) -> None:
        self.armed.append({"timeout": timeout, **options})

    def cancel_dump_traceback_later(self) -> None:
        self.cancelled += 1

    def register(self, signum: int, file: int = 2, **options: Any) -> None:
        self.registered[signum] = file

    def unregister(self, signum: int, /) -> bool:
        return self.registered.pop(signum, None) is not None


class WatchdogTests(SynchronousTestCase):
    """The service, with a stand-in for `faulthandler`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.dumper = FakeDumper()
        self.watchdog = Watchdog(self.clock, lambda: 7, limit=60.0, dumper=self.dumper)

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
        self.watchdog.startService()
        self.assertEqual(self.dumper.registered, {signal.SIGUSR1: 7})
        self.watchdog.stopService()
        self.assertEqual(self.dumper.registered, {})

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
