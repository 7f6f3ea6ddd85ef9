"""Who waits for which task.

A task's row is read once, for all who wait for it; from then on what arrives is put on top of it.

Note [Recent tasks]
~~~~~~~~~~~~~~~~~~~
Who queues a task and waits for it asks within moments, when the database is busy with that very task.
So what was queued a short while ago is known without reading. Whatever changes a task is heard here in
the order in which it is written, and by the same rule, that a final state stays; so both agree.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, succeed

from cyme.errors import NoSuchTask
from cyme.queued import Outcome, TaskError, TaskStatus

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure


#: Seconds for which a task is known without reading, and how many tasks are.
RECENT_FOR, MOST_RECENT = 30.0, 10_000
#: A longer result is read where it is stored.
LONGEST_RECENT = 4096


def changed_by(status: TaskStatus, outcome: Outcome) -> TaskStatus:
    """A task's status after something has become known of it."""
    if status.state.is_final:
        return status
    result, error = details_of(outcome.text)
    return evolve(
        status,
        state=outcome.state,
        result=result,
        error=error,
        finished_at=outcome.at if outcome.state.is_final else None,
    )


def details_of(text: str | None) -> tuple[Any, TaskError | None]:
    """The result and the error in the text of an `Outcome`."""
    if text is None:
        return None, None
    said = json.loads(text)
    error = said["error"]
    return said["result"], None if error is None else TaskError(**error)


@define(eq=False)
class _Waiter:
    """Somebody who waits."""

    fired: Deferred[TaskStatus]
    limit: IDelayedCall | None = None
    is_over: bool = False


@define(eq=False)
class _Watched:
    """A task that somebody waits for.

    :ivar status: what was read of it, with what was heard since.
    :ivar heard: what was heard before it was read.
    """

    waiters: dict[int, _Waiter] = field(factory=dict)
    status: TaskStatus | None = None
    heard: Outcome | None = None


class Waiting:
    """Has Deferreds fire when tasks end.

    :param read: fires with what is known of a task, or None.
    :param recent_for: seconds for which tasks are known without that, see Note [Recent tasks].
    """

    def __init__(
        self,
        reactor: IReactorTime,
        read: Callable[[str], Deferred[TaskStatus | None]],
        recent_for: float = RECENT_FOR,
    ) -> None:
        self._reactor = reactor
        self._read = read
        self._recent_for = recent_for
        self._recent: dict[str, TaskStatus] = {}
        self._watched: dict[str, _Watched] = {}

    def __len__(self) -> int:
        """How many tasks are waited for."""
        return len(self._watched)

    def queued(self, status: TaskStatus) -> None:
        """A task is being queued, and nothing can have been heard of it."""
        oldest = status.created_at - self._recent_for
        # Two go for each that comes, so that none has to wait for many.
        for task_id, one in list(islice(self._recent.items(), 2)):
            if one.created_at < oldest or len(self._recent) >= MOST_RECENT:
                del self._recent[task_id]
        self._recent[status.id] = status

    def withdrawn(self, task_id: str) -> None:
        """A task was not queued after all."""
        self._recent.pop(task_id, None)

    def recent(self, task_id: str) -> TaskStatus | None:
        """What is known of a task without reading."""
        status = self._recent.get(task_id)
        if status is not None and status.created_at < self._reactor.seconds() - self._recent_for:
            return None
        return status

    def wait(self, task_id: str, timeout: float) -> Deferred[TaskStatus]:
        """See `IGateway.wait`."""
        recent = self.recent(task_id)
        if recent is not None and recent.state.is_final:
            return succeed(recent)
        watched = self._watched.get(task_id)
        is_new = watched is None
        if watched is None:
            watched = self._watched[task_id] = _Watched(status=recent)
        waiter = _Waiter(Deferred(lambda fired: self._leave(task_id, watched, id(fired))))
        watched.waiters[id(waiter.fired)] = waiter
        waiter.limit = self._reactor.callLater(timeout, self._over, task_id, watched, waiter)
        if is_new and recent is None:
            self._read(task_id).addCallbacks(
                partial(self._was_read, task_id, watched), partial(self._failed, task_id, watched)
            )
        return waiter.fired

    def hear(self, outcome: Outcome) -> None:
        """Something has become known of a task, and is being written."""
        recent = self._recent.get(outcome.id)
        if recent is not None:
            if outcome.text is not None and len(outcome.text) > LONGEST_RECENT:
                del self._recent[outcome.id]
            else:
                self._recent[outcome.id] = changed_by(recent, outcome)
        watched = self._watched.get(outcome.id)
        if watched is None:
            return
        if watched.status is None:
            if watched.heard is None or not watched.heard.state.is_final:
                watched.heard = outcome
            return
        watched.status = status = changed_by(watched.status, outcome)
        if status.state.is_final:
            self._fire(outcome.id, watched, status)

    def close(self, problem: Callable[[], Exception]) -> None:
        """Nobody waits any more."""
        for task_id, watched in list(self._watched.items()):
            self._end(task_id, watched, lambda fired: fired.errback(problem()))

    # -- inside ------------------------------------------------------------------------

    def _was_read(self, task_id: str, watched: _Watched, status: TaskStatus | None) -> None:
        if self._watched.get(task_id) is not watched:
            return
        if status is None:
            self._end(task_id, watched, lambda fired: fired.errback(NoSuchTask(task_id)))
            return
        if status.state.is_final:
            self._fire(task_id, watched, status)
            return
        watched.status = status
        if watched.heard is not None:
            self.hear(watched.heard)
        for waiter in [one for one in watched.waiters.values() if one.is_over]:
            self._leave(task_id, watched, id(waiter.fired))
            waiter.fired.callback(watched.status)

    def _failed(self, task_id: str, watched: _Watched, failure: Failure) -> None:
        if self._watched.get(task_id) is watched:
            self._end(task_id, watched, lambda fired: fired.errback(failure))

    def _fire(self, task_id: str, watched: _Watched, status: TaskStatus) -> None:
        self._end(task_id, watched, lambda fired: fired.callback(status))

    def _end(self, task_id: str, watched: _Watched, tell: Callable[[Deferred[TaskStatus]], None]) -> None:
        """Nobody waits for a task any more."""
        del self._watched[task_id]
        waiters, watched.waiters = watched.waiters, {}
        for waiter in waiters.values():
            if waiter.limit is not None and waiter.limit.active():
                waiter.limit.cancel()
            tell(waiter.fired)

    def _over(self, task_id: str, watched: _Watched, waiter: _Waiter) -> None:
        """A waiter's time is over; what is known is read first, if it was not."""
        waiter.is_over = True
        if watched.status is not None:
            self._leave(task_id, watched, id(waiter.fired))
            waiter.fired.callback(watched.status)

    def _leave(self, task_id: str, watched: _Watched, key: int) -> None:
        waiter = watched.waiters.pop(key, None)
        if waiter is not None and waiter.limit is not None and waiter.limit.active():
            waiter.limit.cancel()
        if not watched.waiters and self._watched.get(task_id) is watched:
            del self._watched[task_id]
