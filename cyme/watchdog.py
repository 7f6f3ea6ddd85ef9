"""Ends a process whose reactor hangs, and shows what its threads do when asked.

A hung branch looks alive to its system and does nothing; ended with a non-zero status it
is started again by whatever looks after it, and adopts its workers. `faulthandler`'s own
thread does the ending: it needs neither the reactor nor the interpreter's lock.

Note [Stacks on request]: `faulthandler` can also show all stacks on a signal. It does so in the
middle of anything and without the interpreter's lock, so other threads change their frames
while it reads them: it was seen to end a busy branch with SIGSEGV. A signal handler of
Python's is called between two byte codes, with the lock held, and hurts nobody.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.application.service import Service
from twisted.internet.task import LoopingCall

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: Seconds without a turn of the reactor after which the process ends itself.
LIMIT = 120.0
#: How often the reactor shows within the limit that it turns.
SIGNS_OF_LIFE = 12


class Dumper(Protocol):
    """What is used of `faulthandler`."""

    def dump_traceback_later(
        self, timeout: float, repeat: bool = ..., file: int = ..., exit: bool = ...
    ) -> None: ...

    def cancel_dump_traceback_later(self) -> None: ...


def stacks() -> str:
    """The stacks of all threads, the innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = [
        f"Thread {names.get(ident, ident)}:\n" + "".join(traceback.format_stack(frame))
        for ident, frame in sys._current_frames().items()
    ]
    return "\n".join(parts)


class Watchdog(Service):
    """Ends the process, with all stacks in the log, when the reactor hangs; shows them on SIGUSR1.

    :param output: gives the file descriptor that stacks are written to.
    :param limit: seconds that the reactor may take for one turn.
    :param dumper: `faulthandler`, or a stand-in.
    :param signals: the module `signal`, or a stand-in.
    """

    def __init__(
        self,
        clock: IReactorTime,
        output: Callable[[], int],
        *,
        limit: float = LIMIT,
        dumper: Dumper = faulthandler,
        signals: Any = signal,
    ) -> None:
        self._output = output
        self._limit = limit
        self._dumper = dumper
        self._signals = signals
        self._handler_before: Any = None
        self._loop = LoopingCall(self._rearm)
        self._loop.clock = clock

    def startService(self) -> None:
        super().startService()
        self._handler_before = self._signals.signal(signal.SIGUSR1, self._show_stacks)
        self._loop.start(self._limit / SIGNS_OF_LIFE, now=True)

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()
            self._signals.signal(signal.SIGUSR1, self._handler_before)
        self._dumper.cancel_dump_traceback_later()

    def _show_stacks(self, number: int, frame: object) -> None:
        """See Note [Stacks on request]."""
        try:
            os.write(self._output(), stacks().encode(errors="replace"))
        except OSError:
            # Nobody reads the log; the branch goes on.
            pass

    def _rearm(self) -> None:
        self._dumper.dump_traceback_later(self._limit, repeat=False, file=self._output(), exit=True)
