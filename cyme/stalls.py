"""Says when the reactor was held up: every callback that takes long makes all others wait.

Note [What counts as a stall]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
A timer that comes late was either kept by our own code (or by what it waited for), or the
kernel had other things to run. Only the first is our fault, and on a busy machine the second
is the common one. A thread that does nothing but sleep for the same interval feels only the
second: as late as it is, so late may the reactor be.

Such a thread may be luckier than the reactor's. So a reactor that is found in its poll, where none
of our code can keep it, while the process takes no processor time (no other thread keeps the
interpreter from it) was ready to go on, and the kernel did not let it.
"""

from __future__ import annotations

import math
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: Seconds between two looks.
INTERVAL = 0.05
#: How many frames of a stack are told.
DEPTH = 6
#: The function in which a Twisted reactor waits for events.
POLL = "doPoll"


class Pacer:
    """A thread that sleeps, adds up by how much it woke too late, and sees what the reactor is at.

    :param limit: seconds after which it looks where the watched thread is.
    :param processor_time: tells the seconds of it that the process has taken.
    """

    def __init__(self, limit: float, processor_time: Callable[[], float] = time.process_time) -> None:
        self._limit = limit
        self._processor_time = processor_time
        # Lateness so far, and when it is to wake next: replaced together, read by another thread.
        self._pace = (0.0, math.inf)
        self._watched = 0
        self._seen_at = 0.0
        self._cpu_at = 0.0
        self._where = ""
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to watch the calling thread; the pacer's own thread ends soon after `stop`."""
        self._watched = threading.get_ident()
        self.late()
        threading.Thread(target=self._run, name="stall pacer", daemon=True).start()

    def stop(self) -> None:
        """Have the thread end."""
        self._stopped.set()

    def late(self) -> float:
        """The seconds that all its wakings together were late, the one that is due included."""
        self._seen_at, self._cpu_at = time.monotonic(), self._processor_time()
        late, due = self._pace
        return late + max(0.0, self._seen_at - due)

    def where(self) -> str:
        """Where the watched thread was when it was last found held up; empty if it was not, `POLL` if
        it was ready to go on and the machine was busy."""
        where, self._where = self._where, ""
        return where

    def _run(self) -> None:
        late, due = 0.0, time.monotonic() + INTERVAL
        self._pace = (late, due)
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            late, due = late + max(0.0, now - due), now + INTERVAL
            self._pace = (late, due)
            if now - self._seen_at > self._limit and self._where in ("", POLL):
                frame = sys._current_frames().get(self._watched)
                if frame is not None and frame.f_code.co_name == POLL and self._is_idle(now):
                    self._where = POLL
                    continue
                stack = traceback.extract_stack(frame)[-DEPTH:]
                self._where = " < ".join(f"{one.filename}:{one.lineno} {one.name}" for one in reversed(stack))


    def _is_idle(self, now: float) -> bool:
        """Whether no thread of the process has run for most of the time."""
        return self._processor_time() - self._cpu_at < (now - self._seen_at) / 2


class StallWatch(Service):
    """Logs a warning for each time that the reactor was held up for too long.

    :param limit: seconds.
    :param pacer: feels how busy the machine is.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, limit: float, pacer: Pacer) -> None:
        self._clock = clock
        self._limit = limit
        self._pacer = pacer
        self._last = (0.0, 0.0)
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def startService(self) -> None:
        super().startService()
        self._pacer.start()
        self._last = (self._clock.seconds(), self._pacer.late())
        self._loop.start(INTERVAL, now=False)

    def stopService(self) -> None:
        super().stopService()
        self._pacer.stop()
        if self._loop.running:
            self._loop.stop()

    def _look(self) -> None:
        """See Note [What counts as a stall]."""
        seconds, pace = self._clock.seconds(), self._pacer.late()
        late = seconds - self._last[0] - INTERVAL
        stalled = late - (pace - self._last[1])
        self._last = (seconds, pace)
        where = self._pacer.where()
        if stalled > self._limit and where != POLL:
            self._log.warn(
                "the reactor was held up for {ms} ms at {where}",
                ms=round(stalled * 1000),
                where=where or "an unknown place",
            )
