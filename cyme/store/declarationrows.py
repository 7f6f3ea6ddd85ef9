"""The rows of what is declared: what the store does in the database's thread for `IStore`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from sqlalchemy import (
    Boolean,
    Connection,
    Integer,
    Table,
    bindparam,
    delete,
    insert,
    select,
    type_coerce,
    union,
    update,
)

from cyme import models
from cyme.declarations import NEVER, App, BranchState, Declaration, Instance, Queue, Rollout, Version
from cyme.faults import Unreadable
from cyme.store.heldrows import chunks
from cyme.store.locking import thd_lock

_BROKER = cast(Table, models.Broker.__table__)
_APP = cast(Table, models.App.__table__)
_INSTANCE = cast(Table, models.Instance.__table__)
_TABLES: Mapping[str, Table] = {
    App.kind: _APP,
    Queue.kind: cast(Table, models.Queue.__table__),
    Instance.kind: _INSTANCE,
    Rollout.kind: cast(Table, models.Rollout.__table__),
    BranchState.kind: cast(Table, models.BranchState.__table__),
}


def thd_load(connection: Connection) -> tuple[Declaration | Unreadable, ...]:
    brokers = {row.id: row.url for row in connection.execute(select(_BROKER)) if isinstance(row.url, str)}
    found: list[Declaration | Unreadable] = []
    for kind, table in _TABLES.items():
        # Booleans as they are: SQLAlchemy would take any text for True.
        columns = [
            type_coerce(column, Integer).label(column.name) if isinstance(column.type, Boolean) else column
            for column in table.columns
        ]
        for row in connection.execute(select(*columns)).mappings():
            try:
                found.append(models.value_of(kind, dict(row), brokers))
            except ValueError as problem:
                key = tuple(str(row[column.name]) for column in table.primary_key.columns)
                found.append(Unreadable(kind, key, str(problem)))
    return tuple(found)


def thd_save(connection: Connection, declarations: tuple[Declaration, ...]) -> None:
    thd_lock(connection)
    broker_ids = _thd_broker_ids(connection, declarations)
    for table, members in _by_table(declarations):
        wanted = _thd_not_older(connection, table, members)
        if wanted:
            _thd_delete(connection, table, wanted)
            connection.execute(insert(table), [models.row_of(one, broker_ids) for one in wanted])
    _thd_prune_brokers(connection)


def thd_remove(connection: Connection, declarations: tuple[Declaration, ...]) -> None:
    thd_lock(connection)
    for table, members in _by_table(declarations):
        wanted = _thd_not_older(connection, table, members)
        if wanted:
            _thd_delete(connection, table, wanted)
    _thd_prune_brokers(connection)


def _thd_not_older(
    connection: Connection, table: Table, declarations: list[Declaration]
) -> list[Declaration]:
    """Those that the database holds no higher version of, see Note [Branches that share]."""
    first, *more = table.primary_key.columns
    stored: dict[tuple[str, ...], Version] = {}
    for some in chunks([str(getattr(one, first.name)) for one in declarations]):
        columns = select(first, *more, table.c.version_stamp, table.c.version_branch)
        for *key, stamp, branch in connection.execute(columns.where(first.in_(set(some)))):
            if isinstance(stamp, int) and isinstance(branch, str):
                stored[tuple(key)] = Version(stamp, branch)
    return [one for one in declarations if stored.get(one.key, NEVER) <= one.version]


def _by_table(declarations: tuple[Declaration, ...]) -> Iterable[tuple[Table, list[Declaration]]]:
    """The tables that declarations go to, with what goes there; the last of each key."""
    for kind, table in _TABLES.items():
        members = {one.key: one for one in declarations if one.kind == kind}
        if members:
            yield table, list(members.values())


def _thd_delete(connection: Connection, table: Table, declarations: list[Declaration]) -> None:
    # A column's own name is taken by SQLAlchemy where a statement has no values of its own.
    names = [column.name for column in table.primary_key.columns]
    statement = delete(table).where(*(table.c[name] == bindparam(f"key_{name}") for name in names))
    connection.execute(
        statement, [{f"key_{name}": getattr(one, name) for name in names} for one in declarations]
    )


def _thd_broker_ids(connection: Connection, declarations: Iterable[Declaration]) -> dict[str, int]:
    """The row ids of the brokers that are known or named; rows are made for those that have none."""
    known: dict[str, int] = {}
    for row in connection.execute(select(_BROKER).order_by(_BROKER.c.id)).all():
        if not isinstance(row.url, str):
            continue
        known.setdefault(row.url, row.id)
        if row.digest not in (None, models.digest_of(row.url)):
            # Somebody changed the URL by hand; its old digest is free for the old URL.
            connection.execute(update(_BROKER).where(_BROKER.c.id == row.id).values(digest=None))
    name_brokers = (one for one in declarations if isinstance(one, (App, Instance)))
    named = {one.broker for one in name_brokers if one.broker is not None}
    for url in sorted(named - known.keys()):
        digest = models.digest_of(url)
        connection.execute(insert(_BROKER).values(url=url, digest=digest))
        made = select(_BROKER.c.id).where(_BROKER.c.digest == digest)
        known[url] = connection.execute(made).scalar_one()
    return known


def _thd_prune_brokers(connection: Connection) -> None:
    """Remove the brokers, and their passwords, that nothing refers to any more."""
    used = union(
        select(_APP.c.broker_id).where(_APP.c.broker_id.is_not(None)),
        select(_INSTANCE.c.broker_id).where(_INSTANCE.c.broker_id.is_not(None)),
    )
    connection.execute(delete(_BROKER).where(_BROKER.c.id.not_in(used)))
