"""Reaps processes that became children of the branch without having been started by it.

Note [Orphans]
~~~~~~~~~~~~~~
When a process ends, what it had started becomes the child of the first process of the machine, or of
the container (or of the nearest ancestor that asked for it, as some service managers do). A branch that
is this first process gets the pool of a worker that was killed, and daemons that tasks started; each stays
in the table of processes after its end, as a zombie, until somebody asks for its status. Nobody else does,
and the table of a container is small.

Asking for the status of *any* child would take those from Twisted that it waits for. So the kernel is asked
which child has ended, without that being counted as taken; one that Twisted waits for is left to it, and
the next look goes on behind it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

#: Seconds between two looks.
INTERVAL = 1.0
#: How many are reaped in one turn of the reactor.
AT_ONCE = 100


def ended_child() -> int | None:
    """The pid of a child that has ended and was not reaped, if there is one."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid


def reap(pid: int) -> None:
    """Take the status of a child that has ended."""
    os.waitpid(pid, os.WNOHANG)


class OrphanReaper(Service):
    """Looks for ended orphans, see Note [Orphans].

    :param awaited: the pids of the children that somebody else reaps.
    :param ended_child: finds a child that has ended.
    :param reap: reaps it.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        awaited: Container[int],
        *,
        ended_child: Callable[[], int | None] = ended_child,
        reap: Callable[[int], None] = reap,
    ) -> None:
        self._awaited = awaited
        self._ended_child = ended_child
        self._reap = reap
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def startService(self) -> None:
        super().startService()
        self._loop.start(INTERVAL, now=False)

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()

    def _look(self) -> None:
        try:
            for _ in range(AT_ONCE):
                pid = self._ended_child()
                if pid is None or pid in self._awaited:
                    return
                self._reap(pid)
                self._log.debug("process {pid}, started by one that has ended, was reaped", pid=pid)
        except Exception:
            self._log.failure("looking for orphans")
