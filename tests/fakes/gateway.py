"""A gateway in memory: brokers that take everything, and answers that a test gives."""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from cyme.errors import NoSuchTask
from cyme.interfaces import IGateway
from cyme.queued import TaskError, TaskMessage, TaskState, TaskStatus
from cyme.taskids import TaskIds

#: Seconds for which a deduplication id holds.
DAY = 86400.0


@implementer(IGateway)
class FakeGateway:
    """Keeps tasks for as long as it lives.

    :param clock: an `IReactorTime`.
    :ivar queued: task id -> (broker, message).
    :ivar revoked: the tasks that workers were told not to run.
    :ivar fail_with: what `queue` fails with; None for no failure.
    """

    def __init__(self, clock: IReactorTime, branch: str = "b1") -> None:
        self._clock = clock
        self._ids = TaskIds(branch, clock.seconds, lambda bits: 1 << bits - 1)
        self._tasks: dict[str, TaskStatus] = {}
        self._waiting: dict[str, list[Deferred[TaskStatus]]] = {}
        self._claims: dict[tuple[str, str], tuple[str, float]] = {}
        self.queued: dict[str, tuple[str, TaskMessage]] = {}
        self.revoked: list[str] = []
        self.fail_with: Exception | None = None

    def queue(self, broker: str, message: TaskMessage) -> Deferred[str]:
        if self.fail_with is not None:
            return fail(self.fail_with)
        try:
            json.dumps([message.args, message.kwargs], allow_nan=False)
        except (TypeError, ValueError):
            return fail()
        now = self._clock.seconds()
        key = (message.app, message.deduplication_id or "")
        if message.deduplication_id is not None and key in self._claims:
            task_id, until = self._claims[key]
            if until > now:
                return succeed(task_id)
        task_id = self._ids.new()
        if message.deduplication_id is not None:
            self._claims[key] = (task_id, now + DAY)
        self.queued[task_id] = (broker, message)
        self._tasks[task_id] = TaskStatus(
            id=task_id,
            app=message.app,
            queue=message.queue.name,
            state=TaskState.PENDING,
            created_at=now,
        )
        return succeed(task_id)

    def status(self, task_id: str) -> Deferred[TaskStatus]:
        found = self._tasks.get(task_id)
        return fail(NoSuchTask(task_id)) if found is None else succeed(found)

    def recent(self, limit: int, app: str | None) -> Deferred[tuple[TaskStatus, ...]]:
        found = [one for one in self._tasks.values() if app in (None, one.app)]
        bare = [evolve(one, result=None, error=None) for one in reversed(found)]
        return succeed(tuple(bare[:limit]))

    def wait(self, task_id: str, timeout: float) -> Deferred[TaskStatus]:
        found = self._tasks.get(task_id)
        if found is None or found.state.is_final:
            return self.status(task_id)
        waiting = self._waiting.setdefault(task_id, [])
        fired: Deferred[TaskStatus] = Deferred(waiting.remove)
        waiting.append(fired)

        def over() -> None:
            waiting.remove(fired)
            fired.callback(self._tasks[task_id])

        limit = self._clock.callLater(timeout, over)

        def ended(result: Any) -> Any:
            if limit.active():
                limit.cancel()
            return result

        return fired.addBoth(ended)

    def revoke(self, task_id: str) -> Deferred[TaskStatus]:
        found = self._tasks.get(task_id)
        if found is not None and not found.state.is_final:
            self.revoked.append(task_id)
            self.answer(task_id, TaskState.REVOKED)
        return self.status(task_id)

    # -- for tests --------------------------------------------------------------------

    def answer(
        self, task_id: str, state: TaskState, result: Any = None, error: TaskError | None = None
    ) -> None:
        """Have a worker say how a task is."""
        found = self._tasks[task_id]
        if found.state.is_final:
            return
        finished_at = self._clock.seconds() if state.is_final else None
        found = evolve(found, state=state, result=result, error=error, finished_at=finished_at)
        self._tasks[task_id] = found
        if state.is_final:
            for waiter in list(self._waiting.pop(task_id, ())):
                waiter.callback(found)
