"""Starts processes that outlive the branch, and finds them again."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from cyme.interfaces import ILauncher
from cyme.workers import child
from cyme.workers.handle import AdoptedHandle, Handle
from cyme.workers.leftovers import kill_leftovers
from cyme.workers.proc import boot_id, read_record, read_stat

if TYPE_CHECKING:
    from cyme.interfaces import IHandle


@implementer(ILauncher)
class ProcessLauncher:
    """Provides `ILauncher` by `spawnProcess` and `cyme.workers.child`.

    `celery -A APP worker ...` runs in the child's own interpreter, in that of the branch's
    `sys.executable`; any other argv is exec'ed, and never says that it is ready.

    :param reactor: an `IReactorProcess`, `IReactorFDSet` and `IReactorTime`.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def launch(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        record: str,
        log: str,
        identity: str,
        ready: Callable[[], None],
    ) -> IHandle:
        protocol = _Child(self._reactor.seconds(), identity, ready)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # No pipes for its output: they would die with the branch.
                self._reactor.spawnProcess(
                    protocol,
                    sys.executable,
                    [sys.executable, child.__file__, *argv],
                    env={**env, child.RECORD: record, child.IDENTITY: identity},
                    childFDs={0: null, 1: output, 2: output, child.READY_FD: "r"},
                )
            except (TypeError, ValueError) as problem:
                # A NUL, or what can't be encoded, in argv or environment; it may be a secret.
                raise OSError(
                    errno.EINVAL, f"its arguments can't be passed on: {type(problem).__name__}"
                ) from None
            finally:
                os.close(output)
        finally:
            os.close(null)
        return protocol.handle

    def find(self, record: str) -> IHandle | None:
        try:
            found = read_record(record)
        except (OSError, ValueError) as problem:
            self._log.warn("the record {path} is of no use: {problem}", path=record, problem=str(problem))
            return None
        if found is None or found.boot_id != boot_id():
            return None
        try:
            # First of all: from here on the pidfd is this process, whoever has its pid later.
            pidfd = os.pidfd_open(found.pid)
        except OSError:
            self._kill_leftovers(found.pid, record)
            return None
        stat = read_stat(found.pid)
        if stat is None or stat.has_ended or stat.start_ticks != found.start_ticks:
            os.close(pidfd)
            self._kill_leftovers(found.pid, record)
            return None
        return AdoptedHandle(
            self._reactor, found.pid, pidfd, started_at=found.started_at, identity=found.identity
        )

    def _kill_leftovers(self, pid: int, record: str) -> None:
        killed = kill_leftovers(pid, os.path.dirname(record))
        if killed:
            self._log.warn(
                "process {pid} had ended and left {killed}, which were killed", pid=pid, killed=killed
            )


class _Child(ProcessProtocol):
    """Hears what there is to be heard of a child: that it is ready, and how it ended."""

    handle: Handle

    def __init__(self, started_at: float, identity: str, ready: Callable[[], None]) -> None:
        self._started_at = started_at
        self._identity = identity
        self._ready: Callable[[], None] | None = ready

    def connectionMade(self) -> None:
        # It can't have been reaped before this returns, so the pid is still its own.
        assert self.transport is not None
        pid = self.transport.pid
        assert pid is not None
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            # No descriptors left; a child of our own can be signalled without.
            pidfd = None
        self.handle = Handle(pid, pidfd, started_at=self._started_at, identity=self._identity)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._close_pipe()
        ready, self._ready = self._ready, None
        if ready is not None:
            ready()

    def processExited(self, reason: Failure) -> None:
        # Not `processEnded`: that waits for the pipe, which a grandchild might hold.
        self._ready = None
        self._close_pipe()
        how = reason.value
        assert isinstance(how, ProcessDone | ProcessTerminated)
        self.handle.ended(how.exitCode, how.signal)

    def _close_pipe(self) -> None:
        assert self.transport is not None
        self.transport.closeChildFD(child.READY_FD)
