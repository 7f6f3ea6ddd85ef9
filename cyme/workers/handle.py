"""Processes held by pidfd: a signal reaches the process that is meant, or nobody.

Note [Process groups]: a child leads its own session, so its process group has its pid for an
id, and everything that it starts is in it. When the leader has ended the rest is to be killed:
Celery's prefork children die with it, those of other pools and what tasks started don't
(failure-modes F9). By then the leader was reaped, and a plain `killpg` takes a number:

- While the group has members the kernel does not give its number to a new process, so the
  number can't mean anybody else.
- Once it has none the number may be given anew, and `killpg` could reach a stranger that has
  made itself a group leader in the meantime.

Since Linux 6.9 a group can be signalled by the pidfd of its leader, which stays bound to that one
process and group for good, whatever becomes of the number. Where the kernel can't do that,
`killpg` is used at once after the end was noticed; a stranger would have to get just this
number, of the 32,768 or 4 million that are given out in turn, and lead a group, in that moment.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from cyme.interfaces import IHandle

#: Of pidfd_send_signal(2), since Linux 6.9; Python has no name for it.
PIDFD_SIGNAL_PROCESS_GROUP = 4

#: Kernels that don't know the flag say so with the first; some sandboxes with the second.
_UNKNOWN = frozenset({errno.EINVAL, errno.ENOSYS})


@implementer(IHandle)
class Handle:
    """A process and the pidfd that it is held by.

    :param pidfd: None when none could be had, for a child of this process that is not reaped
        yet; signals go to its pid then.
    :param identity: the text that `launch` was given.
    """

    _log = Logger()

    def __init__(self, pid: int, pidfd: int | None, *, started_at: float, identity: str) -> None:
        self.pid = pid
        self.started_at = started_at
        self.identity = identity
        self._pidfd = pidfd
        self._is_held = True
        self._outcome: tuple[int | None, int | None] | None = None
        self._waiting: list[Deferred[tuple[int | None, int | None]]] = []

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal, see `IHandle`; to the group also when its leader has ended."""
        if not self._is_held:
            return
        try:
            # The child leads no group in its first moments, see `cyme.workers.child`.
            if not (group and self._signal_group(number)) and self._outcome is None:
                self._signal_process(number)
        except ProcessLookupError:
            pass
        except OSError as problem:
            self._log.warn(
                "signal {number} can't be sent to process {pid}: {problem}",
                number=number,
                pid=self.pid,
                problem=str(problem),
            )

    def when_ended(self) -> Deferred[tuple[int | None, int | None]]:
        waiter: Deferred[tuple[int | None, int | None]] = Deferred()
        if self._outcome is not None:
            waiter.callback(self._outcome)
        else:
            self._waiting.append(waiter)
        return waiter

    def release(self) -> None:
        self._is_held = False
        self._waiting.clear()
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            os.close(pidfd)

    def ended(self, status: int | None, number: int | None) -> None:
        """Take note that the process has ended, and was reaped."""
        self._outcome = (status, number)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(self._outcome)

    def _signal_process(self, number: int) -> None:
        if self._pidfd is not None:
            signal.pidfd_send_signal(self._pidfd, number)
        else:
            os.kill(self.pid, number)

    def _signal_group(self, number: int) -> bool:
        """Signal the group, see Note [Process groups].

        :return: whether there is one.
        """
        try:
            if self._pidfd is not None:
                try:
                    signal.pidfd_send_signal(self._pidfd, number, None, PIDFD_SIGNAL_PROCESS_GROUP)
                    return True
                except OSError as problem:
                    if problem.errno not in _UNKNOWN:
                        raise
            os.killpg(self.pid, number)
            return True
        except ProcessLookupError:
            return False


@implementer(IReadDescriptor)
class EndWatch:
    """Has the reactor say when a process ends that is nobody's child here.

    :param pidfd: becomes readable when the process ends; it is not closed here.
    """

    def __init__(self, reactor: IReactorFDSet, pidfd: int, ended: Callable[[], None]) -> None:
        self._reactor = reactor
        self._pidfd = pidfd
        self._ended = ended
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._pidfd

    def doRead(self) -> None:
        self.stop()
        self._ended()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The reactor stops; nobody is to be told."""

    def logPrefix(self) -> str:
        return type(self).__name__

    def stop(self) -> None:
        """Watch no longer."""
        self._reactor.removeReader(self)


class AdoptedHandle(Handle):
    """A process that another one started; its end is noticed, its status is not to be had.

    :param pidfd: owned from now on.
    """

    def __init__(
        self, reactor: IReactorFDSet, pid: int, pidfd: int, *, started_at: float, identity: str
    ) -> None:
        super().__init__(pid, pidfd, started_at=started_at, identity=identity)
        self._watch = EndWatch(reactor, pidfd, lambda: self.ended(None, None))

    def release(self) -> None:
        self._watch.stop()
        super().release()
