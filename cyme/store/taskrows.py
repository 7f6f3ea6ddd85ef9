"""The tasks' tables: what the store does in the database's thread for `ITaskStore`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Connection, RowMapping, Table, bindparam, delete, insert, select, update

from cyme import models
from cyme.queued import (
    FINAL,
    Claim,
    Confirmed,
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
from cyme.store import heldrows
from cyme.store.heldrows import chunks
from cyme.taskids import node_in, node_of

#: Among how many of the newest tasks those of one app are looked for.
RECENT_AMONG = 10_000

_TASK = cast(Table, models.Task.__table__)
_CLAIM = cast(Table, models.Deduplication.__table__)
_SOURCE = cast(Table, models.ResultSource.__table__)

_ISSUE = insert(_TASK)
_CHANGE = (
    update(_TASK)
    .where(_TASK.c.id == bindparam("of"), *(_TASK.c.state != state.value for state in sorted(FINAL)))
    .values(
        state=bindparam("new_state"),
        outcome=bindparam("new_outcome"),
        finished_at=bindparam("new_finished_at"),
    )
)
_CHANGE_AND_KEEP = _CHANGE.values(expires_at=bindparam("new_expires_at"))


def thd_write(connection: Connection, changes: Sequence[TaskChange]) -> frozenset[str]:
    """See `ITaskStore.write_tasks`."""
    new_ids = {change.id for change in changes if type(change) is Issued and change.is_new}
    ids = {change.id for change in changes if isinstance(change, Issued | Outcome)}
    known = _thd_known(connection, ids - new_ids)
    unknown: set[str] = set()
    for kind, group in _runs(changes):
        if kind is Issued:
            new = {one.id: one for one in cast("list[Issued]", group) if one.id not in known}
            known |= new.keys()
            if new:
                rows = [
                    {
                        "id": one.id,
                        "app": one.app,
                        "queue": one.queue,
                        "state": TaskState.PENDING.value,
                        "created_at": one.created_at,
                        "expires_at": one.expires_at,
                    }
                    for one in new.values()
                ]
                connection.execute(_ISSUE, rows)
        elif kind is Outcome:
            outcomes = cast("list[Outcome]", group)
            unknown |= {one.id for one in outcomes} - known
            _thd_change(connection, [one for one in outcomes if one.id in known])
        elif kind is Withdrawn:
            gone = [cast(Withdrawn, one).id for one in group]
            known -= set(gone)
            heldrows.thd_remove(connection, gone)
            for some in chunks(gone):
                connection.execute(delete(_TASK).where(_TASK.c.id.in_(some)))
        elif kind is Held:
            heldrows.thd_hold(connection, cast("list[Held]", group))
        elif kind is Postponed:
            heldrows.thd_postpone(connection, cast("list[Postponed]", group))
        elif kind is Released:
            heldrows.thd_release(connection, cast("list[Released]", group))
        else:
            for one in cast("list[Confirmed]", group):
                connection.execute(
                    update(_CLAIM)
                    .where(
                        _CLAIM.c.app == one.app,
                        _CLAIM.c.digest == models.digest_of(one.deduplication_id),
                        _CLAIM.c.task_id == one.task_id,
                    )
                    .values(is_confirmed=True)
                )
    return frozenset(unknown)


def _thd_change(connection: Connection, outcomes: list[Outcome]) -> None:
    for statement, keeps in ((_CHANGE, False), (_CHANGE_AND_KEEP, True)):
        rows = [
            {
                "of": one.id,
                "new_state": one.state.value,
                "new_outcome": one.text,
                "new_finished_at": one.at if one.state.is_final else None,
                **({"new_expires_at": one.expires_at} if keeps else {}),
            }
            # Those that are kept on are final, and so come after those that are not.
            for one in outcomes
            if (one.expires_at is not None) is keeps
        ]
        if rows:
            connection.execute(statement, rows)


def thd_read(connection: Connection, ids: Sequence[str]) -> Mapping[str, TaskStatus]:
    """See `ITaskStore.read_tasks`."""
    found = {}
    for some in chunks(ids):
        for row in connection.execute(select(_TASK).where(_TASK.c.id.in_(some))).mappings():
            found[row["id"]] = _status(dict(row))
    return found


def thd_recent(
    connection: Connection, branch: str, limit: int, app: str | None
) -> tuple[TaskStatus, ...]:
    """See `ITaskStore.recent_tasks`; ids of one branch sort by their age, and end in its node field."""
    names = ("id", "app", "queue", "state", "created_at", "finished_at")
    columns = [_TASK.c[name] for name in names]
    newest = select(*columns).order_by(_TASK.c.id.desc()).limit(RECENT_AMONG).subquery()
    mine = newest.c.id.like(f"%-{node_of(branch):012x}")
    statement = select(newest).where(mine if app is None else mine & (newest.c.app == app))
    rows = connection.execute(statement.order_by(newest.c.id.desc()).limit(limit)).mappings()
    return tuple(TaskStatus(**{**row, "state": TaskState(row["state"])}) for row in rows)


def thd_claim(connection: Connection, claim: Claim, now: float) -> Claim:
    """See `ITaskStore.claim_task`, and Note [Branches that share] in `cyme.store`."""
    digest = models.digest_of(claim.deduplication_id)
    mine = (_CLAIM.c.app == claim.app, _CLAIM.c.digest == digest)
    row = connection.execute(select(_CLAIM).where(*mine)).mappings().first()
    if row is not None and row["until"] > now and (row["is_confirmed"] or _of_one_branch(row, claim)):
        return Claim(
            app=claim.app,
            deduplication_id=claim.deduplication_id,
            task_id=row["task_id"],
            until=row["until"],
            is_confirmed=bool(row["is_confirmed"]),
        )
    connection.execute(delete(_CLAIM).where(*mine))
    connection.execute(
        insert(_CLAIM).values(
            app=claim.app,
            digest=digest,
            task_id=claim.task_id,
            until=claim.until,
            is_confirmed=claim.is_confirmed,
        )
    )
    return claim


def _of_one_branch(row: RowMapping, claim: Claim) -> bool:
    return node_in(row["task_id"]) == node_in(claim.task_id)


def thd_revoked(connection: Connection, limit: int) -> tuple[str, ...]:
    """See `ITaskStore.revoked_tasks`."""
    statement = (
        select(_TASK.c.id)
        .where(_TASK.c.state == TaskState.REVOKED.value)
        .order_by(_TASK.c.id.desc())
        .limit(limit)
    )
    return tuple(connection.execute(statement).scalars())


def thd_prune(connection: Connection, before: float, limit: int) -> int:
    """See `ITaskStore.prune_tasks`."""
    expired = select(_TASK.c.id).where(_TASK.c.expires_at < before, ~heldrows.IS_HELD).limit(limit)
    gone = connection.execute(expired).scalars().all()
    for some in chunks(gone):
        connection.execute(delete(_TASK).where(_TASK.c.id.in_(some)))
    connection.execute(delete(_SOURCE).where(_SOURCE.c.until < before))
    claims = select(_CLAIM.c.app, _CLAIM.c.digest).where(_CLAIM.c.until < before).limit(limit)
    for row in connection.execute(claims).all():
        connection.execute(delete(_CLAIM).where(_CLAIM.c.app == row.app, _CLAIM.c.digest == row.digest))
    return len(gone)


def thd_use_broker(connection: Connection, url: str, until: float) -> None:
    """See `ITaskStore.use_broker`."""
    digest = models.digest_of(url)
    row = connection.execute(select(_SOURCE.c.until).where(_SOURCE.c.digest == digest)).first()
    if row is None:
        connection.execute(insert(_SOURCE).values(digest=digest, url=url, until=until))
    elif row.until < until:
        connection.execute(update(_SOURCE).where(_SOURCE.c.digest == digest).values(until=until))


def thd_used_brokers(connection: Connection) -> Mapping[str, float]:
    """See `ITaskStore.used_brokers`."""
    return {row.url: row.until for row in connection.execute(select(_SOURCE)).all()}


def _thd_known(connection: Connection, ids: Iterable[str]) -> set[str]:
    """Those of `ids` that have a row."""
    known: set[str] = set()
    for some in chunks(list(ids)):
        known.update(connection.execute(select(_TASK.c.id).where(_TASK.c.id.in_(some))).scalars())
    return known


def _runs(changes: Sequence[TaskChange]) -> list[tuple[type, list[TaskChange]]]:
    """The changes in their order, those of one kind together while no other comes between."""
    runs: list[tuple[type, list[TaskChange]]] = []
    for change in changes:
        if not runs or runs[-1][0] is not type(change):
            runs.append((type(change), []))
        runs[-1][1].append(change)
    return runs


def _status(row: Mapping[str, Any]) -> TaskStatus:
    result = error = None
    if row["outcome"] is not None:
        said = json.loads(row["outcome"])
        result, error = said["result"], said["error"]
    return TaskStatus(
        id=row["id"],
        app=row["app"],
        queue=row["queue"],
        state=TaskState(row["state"]),
        created_at=row["created_at"],
        result=result,
        error=None if error is None else TaskError(**error),
        finished_at=row["finished_at"],
    )
