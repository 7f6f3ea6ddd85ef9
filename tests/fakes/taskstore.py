"""A store of tasks in memory."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from cyme.interfaces import ITaskStore
from cyme.queued import (
    Claim,
    Confirmed,
    Due,
    Held,
    Issued,
    Outcome,
    Postponed,
    Released,
    TaskChange,
    TaskError,
    TaskState,
    TaskStatus,
    Withdrawn,
)
from cyme.taskids import node_in


@implementer(ITaskStore)
class MemoryTaskStore:
    """Keeps tasks for as long as it lives.

    :ivar batches: what each call of `write_tasks` got.
    :ivar fail_with: what every call fails with; None for no failure.
    :ivar held: what waits for `release`, while this is a list.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, tuple[TaskStatus, float]] = {}
        self.claims: dict[tuple[str, str], Claim] = {}
        self.brokers: dict[str, float] = {}
        self.put_off: dict[str, Held] = {}
        self.batches: list[tuple[TaskChange, ...]] = []
        self.fail_with: Exception | None = None
        self.held: list[tuple[Deferred[Any], Any]] | None = None

    def release(self) -> None:
        """Have all calls answered that are held, and those that come from now on."""
        held, self.held = self.held or [], None
        for waiting, answer in held:
            waiting.callback(answer)

    def write_tasks(self, changes: Sequence[TaskChange]) -> Deferred[frozenset[str]]:
        if self.fail_with is not None:
            return fail(self.fail_with)
        self.batches.append(tuple(changes))
        return self._answer(frozenset(filter(None, map(self._write, changes))))

    def _write(self, change: TaskChange) -> str | None:
        """Make one change; the id of a task that is not known."""
        if isinstance(change, Withdrawn):
            self.tasks.pop(change.id, None)
            self.put_off.pop(change.id, None)
        elif isinstance(change, Held):
            self.put_off.setdefault(change.id, change)
        elif isinstance(change, Postponed):
            if change.id in self.put_off:
                self.put_off[change.id] = evolve(self.put_off[change.id], due_at=change.due_at)
        elif isinstance(change, Released):
            self.put_off.pop(change.id, None)
            status, expires_at = self.tasks.get(change.id, (None, 0.0))
            if status is not None and not status.state.is_final:
                self.tasks[change.id] = (status, max(expires_at, change.expires_at))
        elif isinstance(change, Confirmed):
            key = (change.app, change.deduplication_id)
            if key in self.claims and self.claims[key].task_id == change.task_id:
                self.claims[key] = evolve(self.claims[key], is_confirmed=True)
        elif isinstance(change, Issued):
            status = TaskStatus(
                id=change.id,
                app=change.app,
                queue=change.queue,
                state=TaskState.PENDING,
                created_at=change.created_at,
            )
            self.tasks.setdefault(change.id, (status, change.expires_at))
        elif change.id not in self.tasks:
            return change.id
        else:
            self._change(change)
        return None

    def _change(self, change: Outcome) -> None:
        status, expires_at = self.tasks[change.id]
        if status.state.is_final:
            return
        said = json.loads(change.text or '{"result": null, "error": null}')
        status = evolve(
            status,
            state=change.state,
            result=said["result"],
            error=None if said["error"] is None else TaskError(**said["error"]),
            finished_at=change.at if change.state.is_final else None,
        )
        self.tasks[change.id] = (status, change.expires_at or expires_at)

    def read_tasks(self, ids: Sequence[str]) -> Deferred[Mapping[str, TaskStatus]]:
        return self._answer({one: self.tasks[one][0] for one in ids if one in self.tasks})

    def claim_task(self, claim: Claim, now: float) -> Deferred[Claim]:
        key = (claim.app, claim.deduplication_id)
        there = self.claims.get(key)
        if self.fail_with is None and not (
            there is not None
            and there.until > now
            and (there.is_confirmed or node_in(there.task_id) == node_in(claim.task_id))
        ):
            self.claims[key] = claim
        return self._answer(self.claims.get(key))

    def revoked_tasks(self, limit: int) -> Deferred[tuple[str, ...]]:
        revoked = [one for one, (status, _) in self.tasks.items() if status.state is TaskState.REVOKED]
        return self._answer(tuple(sorted(revoked, reverse=True)[:limit]))

    def due_tasks(
        self, branch: str, before: float, without: Collection[str], limit: int, size: int
    ) -> Deferred[Due]:
        mine = sorted(
            (one for one in self.put_off.values() if one.branch == branch),
            key=lambda one: (one.due_at, one.id),
        )
        those = [one for one in mine if one.app not in without]
        found = [one for one in those if one.due_at <= before][:limit]
        if not found:
            left_out = [one.due_at for one in mine if one.app in without]
            next_at = min((one.due_at for one in those), default=None)
            return self._answer(Due(next_at=next_at, next_left_out=min(left_out, default=None)))
        pending = [one for one in found if self._is_pending(one.id)]
        sizes = [sum(len(one.body) for one in pending[: count + 1]) for count in range(len(pending))]
        tasks = tuple(one for number, one in enumerate(pending) if number == 0 or sizes[number] <= size)
        return self._answer(
            Due(tasks=tasks, settled=tuple(one.id for one in found if not self._is_pending(one.id)))
        )

    def _is_pending(self, task_id: str) -> bool:
        return task_id in self.tasks and self.tasks[task_id][0].state is TaskState.PENDING

    def prune_tasks(self, before: float, limit: int) -> Deferred[int]:
        expired = [one for one, (_, expires_at) in self.tasks.items() if expires_at < before]
        gone = [one for one in expired if one not in self.put_off][:limit]
        for one in gone:
            del self.tasks[one]
        self.claims = {key: one for key, one in self.claims.items() if one.until >= before}
        self.brokers = {url: until for url, until in self.brokers.items() if until >= before}
        return self._answer(len(gone))

    def use_broker(self, url: str, until: float) -> Deferred[None]:
        if self.fail_with is None:
            self.brokers[url] = max(until, self.brokers.get(url, until))
        return self._answer(None)

    def used_brokers(self) -> Deferred[Mapping[str, float]]:
        return self._answer(dict(self.brokers))

    def _answer(self, result: Any) -> Deferred[Any]:
        if self.fail_with is not None:
            return fail(self.fail_with)
        if self.held is not None:
            waiting: Deferred[Any] = Deferred()
            self.held.append((waiting, result))
            return waiting
        return succeed(result)
