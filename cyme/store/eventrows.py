"""The rows of the why-log: what the store does in the database's thread for `IStore`."""

from __future__ import annotations

from typing import cast

from attrs import asdict, evolve
from sqlalchemy import Connection, Table, delete, func, insert, select

from cyme import models
from cyme.events import Event
from cyme.store.locking import thd_lock

_EVENT = cast(Table, models.Event.__table__)


def thd_append(connection: Connection, events: tuple[Event, ...]) -> tuple[Event, ...]:
    # Under the lock, so that no id becomes visible after a higher one.
    thd_lock(connection)
    stored = []
    for one in events:
        row = asdict(one, filter=lambda attribute, _: attribute.name != "id")
        key = connection.execute(insert(_EVENT).values(row)).inserted_primary_key
        assert key is not None
        stored.append(evolve(one, id=key[0]))
    return tuple(stored)


def thd_read(
    connection: Connection, branch: str, since: int, limit: int, app: str | None, instance: str | None
) -> tuple[Event, ...]:
    statement = select(_EVENT).where(_EVENT.c.branch == branch, _EVENT.c.id > since)
    if app is not None:
        statement = statement.where(_EVENT.c.app == app)
    if instance is not None:
        statement = statement.where(_EVENT.c.instance == instance)
    rows = connection.execute(statement.order_by(_EVENT.c.id).limit(limit)).mappings()
    return tuple(Event(**row) for row in rows)


def thd_newest(
    connection: Connection,
    branch: str,
    before: float | None,
    limit: int,
    app: str | None,
    instance: str | None,
) -> tuple[Event, ...]:
    statement = select(_EVENT).where(_EVENT.c.branch == branch)
    if before is not None:
        statement = statement.where(_EVENT.c.at < before)
    if app is not None:
        statement = statement.where(_EVENT.c.app == app)
    if instance is not None:
        statement = statement.where(_EVENT.c.instance == instance)
    rows = connection.execute(statement.order_by(_EVENT.c.id.desc()).limit(limit)).mappings()
    return tuple(Event(**row) for row in rows)


def thd_last(connection: Connection, branch: str) -> int:
    return connection.execute(select(func.max(_EVENT.c.id)).where(_EVENT.c.branch == branch)).scalar() or 0


def thd_prune(connection: Connection, branch: str, before: float, keep: int) -> None:
    thd_lock(connection)
    # Of all branches: nobody else removes those of one that is gone for good.
    connection.execute(delete(_EVENT).where(_EVENT.c.at < before))
    mine = _EVENT.c.branch == branch
    newest_to_go = select(_EVENT.c.id).where(mine).order_by(_EVENT.c.id.desc()).offset(keep).limit(1)
    last = connection.execute(newest_to_go).scalar()
    if last is not None:
        connection.execute(delete(_EVENT).where(mine, _EVENT.c.id <= last))
