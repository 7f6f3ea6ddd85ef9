"""Has things done later, all of one purpose by one thread of a process.

A thread for each of them, as `threading.Timer` has it, costs a fast task a good part of its time;
and nearly all are put off before their time comes.
"""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable

from celery.utils.log import get_logger

logger = get_logger(__name__)

#: How many alarms that were put off may lie about, at least, before they are cleared away.
MOST_PUT_OFF = 100


class Alarm:
    """Something that is to be done at a time, unless it is put off."""

    __slots__ = ("_action", "when")

    def __init__(self, when: float, action: Callable[[], object]) -> None:
        self.when = when
        self._action: Callable[[], object] | None = action

    def __lt__(self, other: Alarm) -> bool:
        return self.when < other.when

    @property
    def is_set(self) -> bool:
        """Whether it is still to come."""
        return self._action is not None

    def put_off(self) -> None:
        """Have it not done, unless it is being done already."""
        self._action = None

    def ring(self) -> None:
        """Do what is to be done, if it still is."""
        action, self._action = self._action, None
        if action is not None:
            try:
                action()
            except Exception:
                logger.exception("What was to be done later has failed")


class Alarms:
    """Alarms that one thread sees to.

    :ivar pid: the process that they are of.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._changed = threading.Condition()
        self._alarms: list[Alarm] = []
        # Until when the thread sleeps; None while there is none.
        self._sleeps_until: float | None = None

    def set(self, seconds: float, action: Callable[[], object]) -> Alarm:
        """Have `action` called in so many seconds, in another thread."""
        alarm = Alarm(time.monotonic() + seconds, action)
        with self._changed:
            heapq.heappush(self._alarms, alarm)
            if self._sleeps_until is None:
                self._sleeps_until = alarm.when
                threading.Thread(target=self._run, name="alarms", daemon=True).start()
            elif alarm.when < self._sleeps_until:
                # Else it is asleep until then, wakes by itself, and finds this one.
                self._sleeps_until = alarm.when
                self._changed.notify()
            if len(self._alarms) > MOST_PUT_OFF:
                self._clear()
        return alarm

    def _clear(self) -> None:
        """Clear away what was put off, if that is most of them; only then it pays."""
        left = [alarm for alarm in self._alarms if alarm.is_set]
        if 2 * len(left) <= len(self._alarms):
            heapq.heapify(left)
            self._alarms = left

    def _run(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                while not self._alarms or self._alarms[0].when > now:
                    self._sleeps_until = self._alarms[0].when if self._alarms else float("inf")
                    self._changed.wait(self._sleeps_until - now if self._alarms else None)
                    now = time.monotonic()
                alarm = heapq.heappop(self._alarms)
            alarm.ring()


#: Those of this process, by what they are for.
_alarms: dict[str, Alarms] = {}


def alarms(purpose: str) -> Alarms:
    """The alarms of this process for one purpose: what is slow at one holds up no other."""
    found = _alarms.get(purpose)
    if found is None or found.pid != os.getpid():
        # Threads are not forked, and a lock may have been, locked.
        found = _alarms[purpose] = Alarms()
    return found
