"""The store: one door to the database, in a thread of its own.

Transactions go in, frozen values come out; nothing of SQLAlchemy leaves this module. Functions
whose names begin with `thd_` run in the database's thread.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from sys import intern
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    create_engine,
    delete,
    event,
    insert,
    inspect,
    select,
    union,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from cyme import models
from cyme.declarations import App, Declaration, Instance, Queue, Version
from cyme.errors import CannotStart
from cyme.interfaces import IStore

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

T = TypeVar("T")

#: Seconds that SQLite waits for another program's transaction.
BUSY_TIMEOUT = 5.0

_META = cast(Table, models.Meta.__table__)
_BROKER = cast(Table, models.Broker.__table__)
_APP = cast(Table, models.App.__table__)
_QUEUE = cast(Table, models.Queue.__table__)
_INSTANCE = cast(Table, models.Instance.__table__)
_TABLES: Mapping[str, Table] = {App.kind: _APP, Queue.kind: _QUEUE, Instance.kind: _INSTANCE}
_PARAMETERS = ("celery_app", "pool", "arguments", "extra_config")
_QUEUE_FIELDS = ("app", "name", "exchange", "exchange_type", "routing_key", "options")
_INSTANCE_FIELDS = (
    "name",
    "app",
    "branch",
    "is_enabled",
    "max_concurrency",
    "min_concurrency",
    "generation",
    "created_at",
)


@implementer(IStore)
class SQLStore:
    """The declarations in any database that SQLAlchemy speaks to.

    :param reactor: runs the callbacks of what the database's thread answers.
    :param url: an SQLAlchemy URL.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorFromThreads, url: str) -> None:
        self._reactor = reactor
        self._url = url
        self._engine: Engine | None = None
        # One thread: SQLite has one writer anyway, and writes keep the order they were asked in.
        self._pool = ThreadPool(minthreads=1, maxthreads=1, name="database")

    # -- IStore ---------------------------------------------------------------------

    def open(self) -> None:
        url = self._parsed()
        shown = url.render_as_string(hide_password=True)
        try:
            if url.get_backend_name() == "sqlite":
                _make_private(url)
            engine = _engine(url)
            with engine.begin() as connection:
                _check_schema(connection, shown)
        except ImportError as problem:
            raise CannotStart(f"the database {shown} needs a driver: {problem}") from None
        except (SQLAlchemyError, OSError) as problem:
            reason = str(getattr(problem, "orig", None) or problem).splitlines()[0]
            raise CannotStart(f"the database {shown} can't be opened: {reason}") from None
        self._engine = engine
        self._pool.start()

    def load(self) -> Deferred[tuple[Declaration, ...]]:
        return self._run(self._thd_load)

    def save(self, declarations: Sequence[Declaration]) -> Deferred[None]:
        return self._run(_thd_save, tuple(declarations))

    def remove(self, declarations: Sequence[Declaration]) -> Deferred[None]:
        return self._run(_thd_remove, tuple(declarations))

    def close(self) -> Deferred[None]:
        engine, self._engine = self._engine, None
        if engine is None:
            return succeed(None)
        closed: Deferred[None] = Deferred()

        def disposed(success: bool, result: Any) -> None:
            self._reactor.callFromThread(self._end, closed)

        self._pool.callInThreadWithCallback(disposed, engine.dispose)
        return closed

    # -- inside -----------------------------------------------------------------------

    def _end(self, closed: Deferred[None]) -> None:
        # The pool's only thread has nothing left to do, so that this does not block.
        self._pool.stop()
        closed.callback(None)

    def _parsed(self) -> URL:
        try:
            url = make_url(self._url)
            url.get_dialect()
        except (ArgumentError, NoSuchModuleError):
            raise CannotStart(
                "--database takes an SQLAlchemy URL such as sqlite:////var/lib/cyme/branch.db or"
                " postgresql://user:password@host/name"
            ) from None
        return url

    def _run(self, thd: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Run `thd(connection, *arguments)` in one transaction, in the database's thread."""
        engine = self._engine
        if engine is None:
            raise RuntimeError("the store is not open")

        def thd_transaction() -> T:
            with engine.begin() as connection:
                return thd(connection, *arguments)

        return deferToThreadPool(self._reactor, self._pool, thd_transaction)

    def _thd_load(self, connection: Connection) -> tuple[Declaration, ...]:
        brokers = {row.id: row.url for row in connection.execute(select(_BROKER))}
        found: list[Declaration] = []
        for kind, table in _TABLES.items():
            for row in connection.execute(select(table)).mappings():
                try:
                    found.append(_value(kind, dict(row), brokers))
                except (TypeError, ValueError, KeyError) as problem:
                    self._log.error(
                        "a row of the table {table} can't be read and is left out: {row}: {problem}",
                        table=kind,
                        row=row.get("name"),
                        problem=repr(problem),
                    )
        return tuple(found)


# -- opening ----------------------------------------------------------------------------


def _make_private(url: URL) -> None:
    """Make the file of an SQLite database before SQLite does, which would let others read it."""
    if url.database and url.database != ":memory:":
        os.close(os.open(url.database, os.O_RDWR | os.O_CREAT, 0o600))


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, pool_size=1)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        # What was acknowledged survives a power failure too, hence FULL.
        with closing(connection.cursor()) as cursor:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA foreign_keys=ON")

    return engine


def _check_schema(connection: Connection, shown: str) -> None:
    """Make the tables of a new database; refuse one that is somebody else's or newer."""
    tables = set(inspect(connection).get_table_names())
    if not tables:
        models.Base.metadata.create_all(connection)
        connection.execute(insert(_META).values(name="schema", value=str(models.SCHEMA_VERSION)))
        return
    version = None
    if _META.name in tables:
        version = connection.execute(select(_META.c.value).where(_META.c.name == "schema")).scalar()
    if version is None:
        raise CannotStart(f"the database {shown} holds tables that are not Cyme's; name an empty one")
    if int(version) > models.SCHEMA_VERSION:
        raise CannotStart(
            f"the database {shown} was written by a newer Cyme (schema {version}; this one knows"
            f" {models.SCHEMA_VERSION}); upgrade Cyme, or name another database"
        )


# -- rows and values ----------------------------------------------------------------------


def _value(kind: str, row: Mapping[str, Any], brokers: Mapping[int, str]) -> Declaration:
    """A declaration from a row.

    :raises TypeError, ValueError, KeyError: for a row that a person wrote wrongly.
    """
    common: dict[str, Any] = {
        "version": Version(int(row["version_stamp"] or 0), intern(row["version_branch"] or "")),
        "deleted": bool(row["deleted"]),
    }
    if kind == Queue.kind:
        return Queue(**common, **{name: _shared(row[name]) for name in _QUEUE_FIELDS})
    common |= {name: _shared(row[name]) for name in _PARAMETERS}
    broker_id = row["broker_id"]
    common["broker"] = None if broker_id is None else _shared(brokers[broker_id])
    if kind == App.kind:
        return App(name=_shared(row["name"]), **common)
    fields: dict[str, Any] = {name: _shared(row[name]) for name in _INSTANCE_FIELDS}
    fields["is_enabled"] = bool(fields["is_enabled"])
    for name in ("max_concurrency", "min_concurrency", "generation"):
        fields[name] = int(fields[name])
    fields["created_at"] = float(fields["created_at"] or 0.0)
    queues = json.loads(row["queues"] or "[]")
    if not isinstance(queues, list) or not all(isinstance(queue, str) for queue in queues):
        raise ValueError("queues is not a JSON list of names")
    return Instance(**fields, queues=tuple(map(intern, queues)), **common)


def _shared(value: Any) -> Any:
    """One copy of each text: thousands of instances name few apps, branches and brokers."""
    return intern(value) if isinstance(value, str) else value


def _row(declaration: Declaration, broker_ids: Mapping[str, int]) -> dict[str, Any]:
    """The columns of a declaration."""
    row: dict[str, Any] = {
        "version_stamp": declaration.version.stamp,
        "version_branch": declaration.version.branch,
        "deleted": declaration.deleted,
    }
    if isinstance(declaration, Queue):
        return row | {name: getattr(declaration, name) for name in _QUEUE_FIELDS}
    row |= {name: getattr(declaration, name) for name in _PARAMETERS}
    row["broker_id"] = None if declaration.broker is None else broker_ids[declaration.broker]
    if isinstance(declaration, App):
        return row | {"name": declaration.name}
    row |= {name: getattr(declaration, name) for name in _INSTANCE_FIELDS}
    return row | {"queues": json.dumps(declaration.queues)}


# -- in the database's thread ------------------------------------------------------------------


def _thd_save(connection: Connection, declarations: tuple[Declaration, ...]) -> None:
    broker_ids = _thd_broker_ids(connection, declarations)
    for declaration in declarations:
        table = _TABLES[declaration.kind]
        row = _row(declaration, broker_ids)
        changed = connection.execute(update(table).where(*_key(table, declaration)).values(row))
        if not changed.rowcount:
            connection.execute(insert(table).values(row))
    _thd_prune_brokers(connection)


def _thd_remove(connection: Connection, declarations: tuple[Declaration, ...]) -> None:
    for declaration in declarations:
        table = _TABLES[declaration.kind]
        connection.execute(delete(table).where(*_key(table, declaration)))
    _thd_prune_brokers(connection)


def _key(table: Table, declaration: Declaration) -> Iterable[Any]:
    """The conditions that find a declaration's row."""
    return [column == getattr(declaration, column.name) for column in table.primary_key.columns]


def _thd_broker_ids(connection: Connection, declarations: Iterable[Declaration]) -> dict[str, int]:
    """The row ids of all brokers that are named; rows are made for those that have none."""
    named = {one.broker for one in declarations if not isinstance(one, Queue) and one.broker is not None}
    known: dict[str, int] = {}
    for url in sorted(named):
        found = connection.execute(select(_BROKER.c.id).where(_BROKER.c.url == url)).scalar()
        if found is None:
            connection.execute(insert(_BROKER).values(url=url))
            found = connection.execute(select(_BROKER.c.id).where(_BROKER.c.url == url)).scalar_one()
        known[url] = found
    return known


def _thd_prune_brokers(connection: Connection) -> None:
    """Remove the brokers, and their passwords, that nothing refers to any more."""
    used = union(
        select(_APP.c.broker_id).where(_APP.c.broker_id.is_not(None)),
        select(_INSTANCE.c.broker_id).where(_INSTANCE.c.broker_id.is_not(None)),
    )
    connection.execute(delete(_BROKER).where(_BROKER.c.id.not_in(used)))
