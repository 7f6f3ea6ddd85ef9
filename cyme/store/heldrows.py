"""The table of tasks that are put off: what the store does with it for `ITaskStore`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, Table, bindparam, delete, func, insert, select, update

from cyme import models
from cyme.planning import ConsumedQueue
from cyme.queued import FINAL, Due, Held, Postponed, Released, TaskState

_TASK = cast(Table, models.Task.__table__)
_HELD = cast(Table, models.HeldTask.__table__)

#: Values that one statement may have; SQLite's own limit was 999.
AT_ONCE = 500
_POSTPONE = update(_HELD).where(_HELD.c.id == bindparam("of")).values(due_at=bindparam("new_due_at"))
_KEEP = (
    update(_TASK)
    .where(
        _TASK.c.id == bindparam("of"),
        _TASK.c.expires_at < bindparam("until"),
        *(_TASK.c.state != state.value for state in sorted(FINAL)),
    )
    .values(expires_at=bindparam("until"))
)

#: Of a task, that it is held.
IS_HELD = select(_HELD.c.id).where(_HELD.c.id == _TASK.c.id).exists()


def thd_hold(connection: Connection, tasks: Sequence[Held]) -> None:
    """Hold tasks, unless they are held already."""
    there: set[str] = set()
    for some in chunks([one.id for one in tasks]):
        there.update(connection.execute(select(_HELD.c.id).where(_HELD.c.id.in_(some))).scalars())
    # The first of those with one id holds.
    rows = {one.id: _row(one) for one in reversed(tasks) if one.id not in there}
    if rows:
        connection.execute(insert(_HELD), list(rows.values()))


def thd_postpone(connection: Connection, tasks: Sequence[Postponed]) -> None:
    """Have tasks due at other times."""
    connection.execute(_POSTPONE, [{"of": one.id, "new_due_at": one.due_at} for one in tasks])


def thd_release(connection: Connection, tasks: Sequence[Released]) -> None:
    """Let go of tasks, and keep what is known of them for a while."""
    thd_remove(connection, [one.id for one in tasks])
    kept = [{"of": one.id, "until": one.expires_at} for one in tasks if one.expires_at]
    if kept:
        connection.execute(_KEEP, kept)


def thd_remove(connection: Connection, ids: Sequence[str]) -> None:
    """Hold tasks no more."""
    for some in chunks(ids):
        connection.execute(delete(_HELD).where(_HELD.c.id.in_(some)))


def thd_due(
    connection: Connection, branch: str, before: float, without: Collection[str], limit: int, size: int
) -> Due:
    """See `ITaskStore.due_tasks`."""
    mine = _HELD.c.branch == branch
    wanted = (mine, _HELD.c.app.not_in(sorted(without))) if without else (mine,)
    found = connection.execute(
        select(_HELD.c.id, _HELD.c.size, _TASK.c.state)
        .join_from(_HELD, _TASK, _TASK.c.id == _HELD.c.id, isouter=True)
        .where(*wanted, _HELD.c.due_at <= before)
        .order_by(_HELD.c.due_at, _HELD.c.id)
        .limit(limit)
    ).all()
    if not found:
        left_out = (mine, _HELD.c.app.in_(sorted(without)))
        return Due(
            next_at=_thd_soonest(connection, wanted),
            next_left_out=_thd_soonest(connection, left_out) if without else None,
        )
    ids: list[str] = []
    settled = []
    for row in found:
        if row.state != TaskState.PENDING.value:
            settled.append(row.id)
            continue
        size -= row.size
        if ids and size < 0:
            break
        ids.append(row.id)
    held: dict[str, Held] = {}
    for some in chunks(ids):
        for each in connection.execute(select(_HELD).where(_HELD.c.id.in_(some))).mappings():
            held[each["id"]] = _value(dict(each))
    return Due(tasks=tuple(held[one] for one in ids), settled=tuple(settled))


def chunks(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    """Parts that one statement can have."""
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]


def _thd_soonest(connection: Connection, where: Sequence[ColumnElement[bool]]) -> float | None:
    return connection.execute(select(func.min(_HELD.c.due_at)).where(*where)).scalar()


def _row(held: Held) -> dict[str, Any]:
    return {
        "id": held.id,
        "branch": held.branch,
        "app": held.app,
        "due_at": held.due_at,
        "expires": held.expires,
        "task": held.task,
        "priority": held.priority,
        "queue": held.queue.name,
        "exchange": held.queue.exchange,
        "exchange_type": held.queue.exchange_type,
        "routing_key": held.queue.routing_key,
        "options": held.queue.options,
        "size": len(held.body),
        "body": held.body.decode("ascii"),
    }


def _value(row: Mapping[str, Any]) -> Held:
    return Held(
        id=row["id"],
        branch=row["branch"],
        app=row["app"],
        due_at=row["due_at"],
        queue=ConsumedQueue(
            name=row["queue"],
            exchange=row["exchange"],
            exchange_type=row["exchange_type"],
            routing_key=row["routing_key"],
            options=row["options"],
        ),
        task=row["task"],
        priority=row["priority"],
        expires=row["expires"],
        body=row["body"].encode(),
    )
