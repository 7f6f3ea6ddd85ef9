"""What signals do to a branch."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from cyme.stopsignals import StopSignals


class FakeSignals:
    """Holds handlers as the module `signal` does."""

    def __init__(self, **handlers: Any) -> None:
        self.handlers: dict[int, Any] = {signal.Signals[name]: each for name, each in handlers.items()}

    def getsignal(self, number: int) -> Any:
        return self.handlers.get(number, signal.SIG_DFL)

    def signal(self, number: int, handler: Any) -> None:
        self.handlers[number] = handler


class FakeReactor:
    """Keeps what is to be called in the reactor's turn."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def callFromThread(self, call: Callable[..., None], *arguments: Any) -> None:
        self.calls.append((call, arguments))

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call, arguments in calls:
            call(*arguments)


#: Says whether a process has a terminal, one that has none, and one that was given one.
ASK = """
import os, pty, sys
from cyme.stopsignals import has_terminal
print(has_terminal(), flush=True)
pid, terminal = pty.fork()
if pid == 0:
    os._exit(int(has_terminal()))
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


class TerminalTests(SynchronousTestCase):
    """Whether the end of a terminal may be what SIGHUP tells."""

    def test_terminal(self) -> None:
        """A process of a session of its own has no terminal, until it is given one."""
        asked = subprocess.run(
            [sys.executable, "-c", ASK], start_new_session=True, capture_output=True, text=True, timeout=60
        )
        self.assertEqual((asked.stdout, asked.stderr), ("False\n1\n", ""))


class StopSignalsTests(SynchronousTestCase):
    """Signals, with stand-ins for the kernel and the reactor."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.done: list[str] = []

    def install(self, signals: FakeSignals) -> None:
        StopSignals(
            self.reactor,  # type: ignore[arg-type]
            lambda: self.done.append("stop"),
            lambda: self.done.append("hurry"),
            signals=signals,
        ).install()

    def test_reread(self) -> None:
        """Where there is something to read again, SIGHUP has that done, and stops nothing."""
        signals = FakeSignals()
        StopSignals(
            self.reactor,  # type: ignore[arg-type]
            lambda: self.done.append("stop"),
            lambda: self.done.append("hurry"),
            lambda: self.done.append("reread"),
            signals=signals,
        ).install()
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signals.handlers[number](number, None)
        self.reactor.turn()
        self.assertEqual(self.done, ["reread", "stop", "reread", "hurry"])

    def test_first_stops_second_hurries(self) -> None:
        """The first signal stops the branch, each further one hurries it, whichever they are."""
        signals = FakeSignals()
        self.install(signals)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            signals.handlers[number](number, None)
            self.reactor.turn()
        self.assertEqual(self.done, ["stop", "hurry", "hurry"])

    def test_not_in_the_handler(self) -> None:
        """The handler itself does nothing, since it may run in the middle of anything."""
        signals = FakeSignals()
        self.install(signals)
        signals.handlers[signal.SIGHUP](signal.SIGHUP, None)
        self.assertEqual(self.done, [])
        self.reactor.turn()
        self.assertEqual(self.done, ["stop"])

    def test_ignored(self) -> None:
        """A signal that whoever started the branch has it ignore stays ignored."""
        signals = FakeSignals(SIGHUP=signal.SIG_IGN)
        self.install(signals)
        self.assertEqual(signals.handlers[signal.SIGHUP], signal.SIG_IGN)
