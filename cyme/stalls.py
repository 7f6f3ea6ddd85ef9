"""Says when the reactor was held up: every callback that takes long makes all others wait.

Note [What counts as a stall]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
A timer that comes late was either kept by our own code (or by what it waited for), or the
kernel had other things to run. Only the first is our fault, and on a busy machine the second
is the common one. A thread that does nothing but sleep for the same interval feels only the
second: as late as it is, so late may the reactor be.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: Seconds between two looks.
INTERVAL = 0.05


class Pacer:
    """A thread that sleeps, and adds up by how much it woke too late."""

    def __init__(self) -> None:
        self._late = 0.0
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin; the thread ends by itself soon after `stop`."""
        threading.Thread(target=self._run, name="stall pacer", daemon=True).start()

    def stop(self) -> None:
        """Have the thread end."""
        self._stopped.set()

    def late(self) -> float:
        """The seconds that all its wakings together were late."""
        return self._late

    def _run(self) -> None:
        due = time.monotonic() + INTERVAL
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            self._late += now - due
            due = now + INTERVAL


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
        if stalled > self._limit:
            self._log.warn("the reactor was held up for {ms} ms", ms=round(stalled * 1000))
