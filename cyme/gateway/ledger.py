"""What is written down of tasks, and when: in batches, each one transaction.

Note [What survives]
~~~~~~~~~~~~~~~~~~~~
A 202 says that the broker has the message, confirmed, and that the task's row is committed. The two
are waited for side by side; which is done first does not matter, for nobody knows the id before both are:

- Killed before the commit: there was no 202. The message may be out, then its result comes for an
  id that was never issued; it is logged and dropped.
- Killed after the commit and before the confirm: there was no 202. The row says PENDING of a task that
  may not exist; nobody asks for it, and it expires.
- The publish failed: the row is withdrawn, and the caller told that there is no task. A confirm may have
  been lost on its way, then the task runs all the same, and its result is dropped as above.

A task that is put off for long is held here instead, and its 202 says that its message is committed
with its row, see Note [Held tasks] in `holding`. Killed before the commit, there is neither 202 nor task;
killed after it, the task goes out when it is due.

So what is written is written in the order in which it became known: a task's row was asked for before
its message went out, and is committed no later than what comes of it. A state is only ever written over
one that is not final. A result is acknowledged to its broker after the commit, see Note [Batches] in
`collecting`; who waits for it hears of it when it arrives, since the broker still has it until then.

A deduplication id is claimed, and committed, before its message goes out, and marked as confirmed
before the 202; for a task that is held, by the transaction that holds it. A claim that was never
confirmed is taken up by the next request with that id, which publishes under the same task id, unless
something was heard of the task meanwhile. Between a kill, or a lost confirm, and that request the
message may so be published twice, which no broker could tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, DeferredList

from cyme.queued import TaskChange, TaskStatus

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure

    from cyme.interfaces import ITaskStore

#: Changes of one transaction; it has the database's only thread to itself.
MOST_CHANGES = 500
#: Tasks that are read at once.
MOST_READS = 500


class Ledger:
    """Gathers what is to be written and read while the database is busy, then does it in one go."""

    def __init__(self, reactor: IReactorTime, store: ITaskStore) -> None:
        self._reactor = reactor
        self._store = store
        self._changes: list[tuple[TaskChange, ...]] = []
        self._written: list[Deferred[frozenset[str]]] = []
        self._reads: dict[str, list[Deferred[TaskStatus | None]]] = {}
        self._busy = False
        self._later: IDelayedCall | None = None
        self._idle: list[Deferred[None]] = []

    def write(self, *changes: TaskChange, within: float = 0.0) -> Deferred[frozenset[str]]:
        """Write changes behind all others; fires with the ids in them of which no task is known.

        :param within: seconds for which they may wait for others, to be written with them.
        """
        written: Deferred[frozenset[str]] = Deferred()
        self._changes.append(changes)
        self._written.append(written)
        if not within:
            self._begin()
        elif not self._busy and self._later is None:
            self._later = self._reactor.callLater(within, self._begin)
        return written

    def read(self, task_id: str) -> Deferred[TaskStatus | None]:
        """Fire with what is known of a task, with all that was to be written by now."""
        found: Deferred[TaskStatus | None] = Deferred()
        self._reads.setdefault(task_id, []).append(found)
        self._begin()
        return found

    def when_idle(self) -> Deferred[None]:
        """Fire when everything is written."""
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._begin()
        return idle

    # -- inside ------------------------------------------------------------------------

    def _begin(self) -> None:
        """Begin a round with all that is asked for in this turn of the reactor, unless one is under way."""
        later, self._later = self._later, None
        if later is not None and later.active():
            later.cancel()
        if not self._busy:
            self._busy = True
            self._reactor.callLater(0, self._done, None)

    def _go_on(self) -> None:
        """Begin the next round.

        The database's thread does things in order, so that reads see what this round writes.
        """
        steps: list[Deferred[None]] = []
        if self._changes:
            steps.append(self._write_some())
        # Reads see all writes before them; while some had no place in this round they wait.
        if self._reads and not self._changes:
            steps.append(self._read_some())
        if not steps:
            idle, self._idle = self._idle, []
            for one in idle:
                one.callback(None)
            return
        self._busy = True
        DeferredList(steps).addCallback(self._done)

    def _done(self, _: object) -> None:
        self._busy = False
        self._go_on()

    def _write_some(self) -> Deferred[None]:
        changes: list[TaskChange] = []
        taken = 0
        for group in self._changes:
            if changes and len(changes) + len(group) > MOST_CHANGES:
                break
            changes += group
            taken += 1
        groups, self._changes = self._changes[:taken], self._changes[taken:]
        waiting, self._written = self._written[:taken], self._written[taken:]

        def written(unknown: frozenset[str]) -> None:
            for group, one in zip(groups, waiting, strict=True):
                one.callback(unknown and unknown.intersection(getattr(change, "id", "") for change in group))

        def failed(failure: Failure) -> None:
            for one in waiting:
                one.errback(failure)

        return self._store.write_tasks(changes).addCallbacks(written, failed)

    def _read_some(self) -> Deferred[None]:
        ids = list(self._reads)[:MOST_READS]
        waiting = {task_id: self._reads.pop(task_id) for task_id in ids}

        def read(found: Mapping[str, TaskStatus]) -> None:
            for task_id, those in waiting.items():
                for one in those:
                    one.callback(found.get(task_id))

        def failed(failure: Failure) -> None:
            for those in waiting.values():
                for one in those:
                    one.errback(failure)

        return self._store.read_tasks(ids).addCallbacks(read, failed)
