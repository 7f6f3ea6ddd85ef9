"""Ends a process that hangs or of which a part is dead, and shows what its threads do when asked.

A hung branch looks alive to its system and does nothing; ended with a non-zero status it
is started again by whatever looks after it, and adopts its workers: they are not touched.

Note [Ways to hang]
~~~~~~~~~~~~~~~~~~~
1. A component makes no progress. The reactor sees it, see Note [Signs of life] in `cyme.vitals`.
2. The reactor makes no turn: it waits for something. A thread of Python's sees that. It counts only
   time that it felt itself, so that a branch goes on which was paused (Ctrl-Z, a paused container, a
   laptop that slept). A timer of `faulthandler` would end it at the moment it is resumed.
3. The reactor makes no turn and lets no other thread run, as a regular expression does that
   backtracks for ever. Then processor time passes, which passes for nobody who is paused: a timer of
   the kernel (ITIMER_PROF) sends SIGPROF, `faulthandler` writes the stacks, and the signal's
   default action ends the process.

What waits in C code and keeps the interpreter's lock meanwhile is seen only from outside: by a
service manager that wants signs of life (`cyme.systemd`), which are sent by what does all this.

Note [The limit]: 45 seconds. What is found is ended within a minute: 45, up to two intervals between
looks (7.5), and 5 to write the stacks. The reactor of a branch is never held up for more than a
fraction of a second (tests see to that), and on a machine that is busy beyond all measure for seconds;
a component's own time-outs are 35 at most (a database's server that is silent).

Note [Stacks on request]: `faulthandler` can also show all stacks on a signal. It does so in the
middle of anything and without the interpreter's lock, so other threads change their frames
while it reads them: it was seen to end a busy branch with SIGSEGV. A signal handler of
Python's is called between two byte codes, with the lock held, and hurts nobody. (Before SIGPROF
ends the process it does no harm.)
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.systemd import ServiceManager
    from cyme.vitals import Vitals

#: Seconds without progress after which the process ends itself, see Note [The limit].
LIMIT = 45.0
#: How often within the limit is looked, at least.
LOOKS = 12
#: Seconds of processor time beyond the limit, so that the gentler ways come first.
CPU_MARGIN = 10.0
#: Seconds that writing the stacks may take; the log may be what hangs.
WRITE_WITHIN = 5.0


class Alarm(Protocol):
    """What ends the process when the reactor makes no turn."""

    def start(self) -> None:
        """Begin to watch; called in the main thread."""

    def turned(self) -> None:
        """The reactor made a turn."""

    def stop(self) -> None:
        """End nobody any more."""


def stacks() -> str:
    """The stacks of all threads, the innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = [
        f"Thread {names.get(ident, ident)}:\n" + "".join(traceback.format_stack(frame))
        for ident, frame in sys._current_frames().items()
    ]
    return "\n".join(parts)


class LastWords:
    """Ends the process with status 1, after a line and all stacks in the log.

    :param output: gives the file descriptor that stacks are written to.
    :param leave: ends the process at once.
    """

    _log = Logger()

    def __init__(self, output: Callable[[], int], *, leave: Callable[[int], object] = os._exit) -> None:
        self._output = output
        self._leave = leave

    def speak(self, name: str, seconds: float) -> None:
        """End the process because of what makes no progress; from any thread.

        :param name: what that is.
        """
        # The stacks as they are now; and in another thread, since the log may be what hangs.
        text = stacks()
        writer = threading.Thread(target=self._write, args=(name, seconds, text), daemon=True)
        try:
            writer.start()
            writer.join(WRITE_WITHIN)
        finally:
            self._leave(1)

    def _write(self, name: str, seconds: float, text: str) -> None:
        try:
            self._log.critical(
                "no sign of life from {name} for {seconds} s: this process ends, its workers go on",
                name=name,
                seconds=round(seconds),
            )
        finally:
            write_all(self._output(), text)


def write_all(descriptor: int, text: str) -> None:
    """Write text to a file descriptor, or as much of it as can be written."""
    data = text.encode(errors="replace")
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        # Nobody reads the log; there is nobody else to be told.
        pass


class HangAlarm:
    """Ways 2 and 3 of Note [Ways to hang].

    :param limit: seconds that the reactor may take for one turn.
    :param hung: called in a thread of its own when it took longer, with how long.
    :param output: gives the file descriptor that stacks are written to.
    """

    def __init__(self, limit: float, hung: Callable[[float], None], output: Callable[[], int]) -> None:
        self._limit = limit
        self._hung = hung
        self._output = output
        self._turns = 0
        self._stopped = threading.Event()

    def start(self) -> None:
        faulthandler.register(signal.SIGPROF, file=self._output(), all_threads=True, chain=True)
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()
        self.turned()

    def turned(self) -> None:
        self._turns += 1
        signal.setitimer(signal.ITIMER_PROF, self._limit + CPU_MARGIN)

    def stop(self) -> None:
        self._stopped.set()
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.unregister(signal.SIGPROF)

    def _run(self) -> None:
        step = self._limit / LOOKS
        felt, seen, last = 0.0, -1, time.monotonic()
        while not self._stopped.wait(step):
            now = time.monotonic()
            # Whoever was paused wakes up late, once.
            felt, last = felt + min(now - last, 2 * step), now
            if self._turns != seen:
                felt, seen = 0.0, self._turns
            elif felt >= self._limit:
                self._hung(felt)
                return


class Watchdog(Service):
    """Looks whether everything lives, and ends the process when not; shows stacks on SIGUSR1.

    :param vitals: what is looked at.
    :param manager: is told at each look that everything lives.
    :param silent: called with what gives no sign of life and for how many seconds; ends the process.
    :param alarm: ends it when the reactor makes no turn.
    :param output: gives the file descriptor that stacks are written to.
    :param limit: seconds; a look is taken at a small part of it.
    :param signals: the module `signal`, or a stand-in.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        vitals: Vitals,
        manager: ServiceManager,
        silent: Callable[[str, float], None],
        alarm: Alarm,
        output: Callable[[], int],
        *,
        limit: float = LIMIT,
        signals: Any = signal,
    ) -> None:
        self._clock = clock
        self._vitals = vitals
        self._manager = manager
        self._silent = silent
        self._alarm = alarm
        self._output = output
        self._interval = limit / LOOKS
        self._signals = signals
        self._handler_before: Any = None
        self._last = 0.0
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def startService(self) -> None:
        super().startService()
        wanted = self._manager.open()
        if wanted is not None:
            self._interval = min(self._interval, wanted / 2)
        self._handler_before = self._signals.signal(signal.SIGUSR1, self._show_stacks)
        self._alarm.start()
        self._last = self._clock.seconds()
        self._loop.start(self._interval, now=True)

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()
            self._signals.signal(signal.SIGUSR1, self._handler_before)
            self._alarm.stop()
        self._manager.close()

    def _show_stacks(self, number: int, frame: object) -> None:
        """See Note [Stacks on request]."""
        write_all(self._output(), stacks())

    def _look(self) -> None:
        now = self._clock.seconds()
        felt, self._last = min(max(0.0, now - self._last), 2 * self._interval), now
        silence = self._vitals.look(felt)
        if silence is not None:
            self._silent(silence.name, silence.seconds)
            return
        self._alarm.turned()
        try:
            self._manager.turn()
        except Exception:
            self._log.failure("the service manager can't be told how this branch is")
