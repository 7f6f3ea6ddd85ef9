"""The store: one door to the database, in a thread of its own.

Transactions go in, frozen values come out; nothing of SQLAlchemy leaves this module. Functions
whose names begin with `thd_` run in the database's thread.

Note [Branches that share]
~~~~~~~~~~~~~~~~~~~~~~~~~~
Several branches may write to one database on a server. Each write first locks one row, as
SQLite's write lock would, and reads what is committed by then: without it MariaDB ended a third
of simultaneous saves as deadlocks, and two branches that named a new broker got in each other's
way. A load reads several tables and sees all of them as they were at one moment.

A branch may also be late: what it hears over the bus and saves, another has changed in the
database by then. So nothing takes the place of a higher version, and nothing of a higher version
is removed. (Otherwise the older row would look as if a person had written it, see Note [Changes
by hand] in `cyme.catalogue`, and would win.)

Events are read by the branch they happened on. A deduplication id is shared once its task is
confirmed; until then it is its branch's own, since others can't tell whether that one will ever
go on, and queue another task.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import asdict, evolve
from sqlalchemy import (
    Boolean,
    Connection,
    Engine,
    Integer,
    Table,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    select,
    type_coerce,
    union,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.pool import StaticPool
from sqlalchemy.schema import CreateColumn
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from cyme import heldrows, models, taskrows
from cyme.declarations import (
    NEVER,
    App,
    BranchState,
    Declaration,
    Instance,
    Queue,
    Rollout,
    Version,
)
from cyme.errors import CannotStart, DatabaseAway
from cyme.events import Event
from cyme.faults import Unreadable
from cyme.interfaces import IStore, ITaskStore
from cyme.queued import Claim, Due, TaskChange, TaskStatus
from cyme.vitals import Pulse

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

T = TypeVar("T")

#: Seconds that SQLite waits for another program's transaction.
BUSY_TIMEOUT = 5.0
#: Pages that an SQLite database gives back to the disk at once.
SHRUNK_PAGES = 500
#: Bytes that the write-ahead log of an SQLite database keeps on the disk while it is not in use.
LOG_KEPT = 16 * 1024 * 1024
#: Driver -> what keeps a silent server from holding the database's thread for ever, in seconds;
#: the same words in the URL's query come first.
DRIVER_TIMEOUTS: Mapping[str, Mapping[str, int]] = {
    **dict.fromkeys(
        ("psycopg", "psycopg2"),
        {
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            # Milliseconds, for what is under way; no keepalive is sent then.
            "tcp_user_timeout": 25_000,
        },
    ),
    **dict.fromkeys(
        ("pymysql", "mysqldb"),
        {"connect_timeout": 5, "read_timeout": 30, "write_timeout": 30},
    ),
}

#: What a plain `postgresql://` means here.
POSTGRESQL = "postgresql+psycopg"
#: Databases on servers whose isolation levels are set; others have what their drivers choose.
SHARED = ("mariadb", "mysql", "postgresql")

_META = cast(Table, models.Meta.__table__)
#: The row of `_META` that every database of Cyme's has.
_SCHEMA = _META.c.name == "schema"
_BROKER = cast(Table, models.Broker.__table__)
_APP = cast(Table, models.App.__table__)
_INSTANCE = cast(Table, models.Instance.__table__)
_EVENT = cast(Table, models.Event.__table__)
_TABLES: Mapping[str, Table] = {
    App.kind: _APP,
    Queue.kind: cast(Table, models.Queue.__table__),
    Instance.kind: _INSTANCE,
    Rollout.kind: cast(Table, models.Rollout.__table__),
    BranchState.kind: cast(Table, models.BranchState.__table__),
}


@implementer(IStore, ITaskStore)
class SQLStore:
    """The declarations in any database that SQLAlchemy speaks to.

    :param reactor: runs the callbacks of what the database's thread answers.
    :param url: an SQLAlchemy URL.
    :param branch_id: whose database it is; others may use it too, see Note [Branches that share].
    """

    _log = Logger()

    def __init__(self, reactor: IReactorFromThreads, url: str, branch_id: str) -> None:
        self._reactor = reactor
        self._url = url
        self._branch_id = branch_id
        self._engine: Engine | None = None
        self._pulse = Pulse()
        self._shrinking = False
        # How many transactions were asked for, and how many of those before a connection failed.
        self._asked = 0
        self._asked_in_vain = 0
        # One thread: SQLite has one writer anyway, and writes keep the order they were asked in.
        # It is started by the first use, so that a start that is refused leaves none behind.
        self._pool = ThreadPool(minthreads=0, maxthreads=1, name="database")

    # -- IStore ---------------------------------------------------------------------

    def open(self) -> None:
        url = _parsed(self._url)
        # The query is not shown: some drivers take a password there.
        shown = url.set(query={}).render_as_string(hide_password=True)
        try:
            if url.get_backend_name() == "sqlite":
                _make_private(url)
            engine = _engine(url)
            _in_transaction(engine, _thd_prepare, shown)
            _make_shrinkable(engine)
        except ImportError as problem:
            extra = " (pip install 'cyme[postgresql]')" if url.drivername == POSTGRESQL else ""
            raise CannotStart(
                f"the database {shown} needs a driver, installed beside Cyme{extra}: {problem}"
            ) from None
        except OSError as problem:
            raise CannotStart(f"the database {shown} can't be opened: {problem.strerror}") from None
        # What a driver makes of strange words in a URL is a TypeError or a ValueError.
        except (SQLAlchemyError, sqlite3.Error, TypeError, ValueError) as problem:
            raise CannotStart(f"the database {shown} can't be opened: {_reason(problem, url)}") from None
        self._engine = engine
        self._pool.start()

    def load(self) -> Deferred[tuple[Declaration | Unreadable, ...]]:
        return self._run(_thd_load, isolation="REPEATABLE READ")

    def save(self, declarations: Sequence[Declaration]) -> Deferred[None]:
        return self._run(_thd_save, tuple(declarations))

    def remove(self, declarations: Sequence[Declaration]) -> Deferred[None]:
        return self._run(_thd_remove, tuple(declarations))

    def append_events(self, events: Sequence[Event]) -> Deferred[tuple[Event, ...]]:
        return self._run(_thd_append_events, tuple(events))

    def read_events(
        self, since: int, limit: int, app: str | None, instance: str | None
    ) -> Deferred[tuple[Event, ...]]:
        return self._run(_thd_read_events, self._branch_id, since, limit, app, instance)

    def last_event(self) -> Deferred[int]:
        return self._run(_thd_last_event, self._branch_id)

    def prune_events(self, before: float, keep: int) -> Deferred[None]:
        return self._run(_thd_prune_events, self._branch_id, before, keep)

    # -- ITaskStore -----------------------------------------------------------------

    def write_tasks(self, changes: Sequence[TaskChange]) -> Deferred[frozenset[str]]:
        return self._run(taskrows.thd_write, tuple(changes))

    def read_tasks(self, ids: Sequence[str]) -> Deferred[Mapping[str, TaskStatus]]:
        return self._run(taskrows.thd_read, tuple(ids))

    def claim_task(self, claim: Claim, now: float) -> Deferred[Claim]:
        return self._run(_thd_locked, taskrows.thd_claim, claim, now)

    def revoked_tasks(self, limit: int) -> Deferred[tuple[str, ...]]:
        return self._run(taskrows.thd_revoked, limit)

    def due_tasks(
        self, branch: str, before: float, without: Collection[str], limit: int, size: int
    ) -> Deferred[Due]:
        return self._run(heldrows.thd_due, branch, before, frozenset(without), limit, size)

    def prune_tasks(self, before: float, limit: int) -> Deferred[int]:
        pruned = self._run(taskrows.thd_prune, before, limit)
        # Behind the transaction in the one thread.
        self._shrink()
        return pruned

    def use_broker(self, url: str, until: float) -> Deferred[None]:
        return self._run(_thd_locked, taskrows.thd_use_broker, url, until)

    def used_brokers(self) -> Deferred[Mapping[str, float]]:
        return self._run(taskrows.thd_used_brokers)

    def close(self) -> Deferred[None]:
        engine, self._engine = self._engine, None
        if engine is None:
            return succeed(None)
        if not self._pool.workers:
            # Never used; perhaps the reactor never runs, and nobody would hear of a thread's end.
            engine.dispose()
            self._pool.stop()
            return succeed(None)
        return deferToThreadPool(self._reactor, self._pool, engine.dispose).addBoth(self._ended)

    def signs(self) -> Mapping[str, object]:
        """See `cyme.vitals.Signs`; the value changes with each part of a transaction."""
        return self._pulse.signs("the database's thread")

    # -- inside -----------------------------------------------------------------------

    def _shrink(self) -> None:
        """Give back to the disk what is free, in small steps, between which others have their turns."""
        engine = self._engine
        if self._shrinking or engine is None:
            return
        self._shrinking = True

        def done(is_more: bool) -> None:
            self._shrinking = False
            if is_more:
                self._shrink()

        def failed(failure: Failure) -> None:
            self._shrinking = False
            self._log.warn("the database can't be made smaller: {problem}", problem=failure.getErrorMessage())

        deferToThreadPool(self._reactor, self._pool, _thd_shrink, engine).addCallbacks(done, failed)

    def _ended(self, result: Any) -> Any:
        # The pool's only thread has nothing left to do, so that this does not block.
        self._pool.stop()
        return result

    def _run(self, thd: Callable[..., T], *arguments: Any, isolation: str = "READ COMMITTED") -> Deferred[T]:
        """Run `thd(connection, *arguments)` in one transaction, in the database's thread.

        Those that waited while no connection could be made fail together: where connecting takes its
        whole time-out, the last of many would be answered minutes later.

        :param isolation: for databases that have levels of it. See Note [Branches that share].
        """
        engine = self._engine
        if engine is None:
            raise RuntimeError("the store is not open")
        if engine.dialect.name in SHARED:
            engine = engine.execution_options(isolation_level=isolation)

        self._asked += 1
        number = self._asked

        def thd_begun(connection: Connection) -> T:
            # So a connection that was lost, and made again, counts as two parts.
            self._pulse.beat()
            return thd(connection, *arguments)

        def thd_run() -> T:
            if number <= self._asked_in_vain:
                raise DatabaseAway("no connection could be made")
            try:
                return _in_transaction(engine, thd_begun)
            except DBAPIError as problem:
                if _is_unconnected(problem):
                    self._asked_in_vain = self._asked
                raise

        done = deferToThreadPool(self._reactor, self._pool, thd_run)
        return self._pulse.during(done.addErrback(_as_away))


def _in_transaction(engine: Engine, thd: Callable[..., T], *arguments: Any) -> T:
    """Run `thd(connection, *arguments)` in one transaction; all of it happens, or nothing.

    Once more where another branch came in between in a shared database (both made the tables) or
    a connection was lost: all that is done here may be done twice.
    """
    try:
        with engine.begin() as connection:
            return thd(connection, *arguments)
    except DBAPIError as problem:
        # SQLite has waited for others already, and they can't come in between.
        if engine.dialect.name == "sqlite" or _is_unconnected(problem):
            raise
    with engine.begin() as connection:
        return thd(connection, *arguments)


def _is_unconnected(problem: DBAPIError) -> bool:
    """Whether there never was a connection, rather than one that was lost."""
    return problem.statement is None and not problem.connection_invalidated


def _as_away(failure: Failure) -> Failure:
    """What users may read of a database that can't be used now; other failures are faults of ours.

    The statement is left out, and values were never in it (`hide_parameters`).
    """
    problem = failure.value
    if isinstance(problem, (OperationalError, InterfaceError)):
        lines = str(problem.orig).strip().splitlines()
        return Failure(DatabaseAway(lines[0] if lines else type(problem.orig).__name__))
    return failure


# -- opening ----------------------------------------------------------------------------


def _parsed(text: str) -> URL:
    try:
        url = make_url(text)
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername=POSTGRESQL)
        dialect = url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise CannotStart(
            "--database takes an SQLAlchemy URL such as sqlite:////var/lib/cyme/branch.db or"
            " postgresql://user:password@host/name"
        ) from None
    if dialect.is_async:
        raise CannotStart(f"--database takes a driver that is not asynchronous, unlike {url.drivername}")
    return url


def _make_private(url: URL) -> None:
    """Make the file of an SQLite database before SQLite does, which would let others read it."""
    if _in_memory(url) or url.database is None or url.database.startswith("file:"):
        return
    os.close(os.open(url.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _in_memory(url: URL) -> bool:
    return url.database in (None, "", ":memory:")


def _engine(url: URL) -> Engine:
    # Parameters hold passwords, and errors are logged.
    if url.get_backend_name() != "sqlite":
        timeouts = DRIVER_TIMEOUTS.get(url.get_driver_name(), {})
        return create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=1,
            connect_args={word: value for word, value in timeouts.items() if word not in url.query},
        )
    engine = create_engine(
        url,
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
        # What is in memory only belongs to its connection; two threads use it in turn.
        poolclass=StaticPool if _in_memory(url) else None,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        # The driver's own idea of when a transaction begins leaves out reads and CREATE TABLE.
        connection.isolation_level = None
        # Bytes that are no text spoil the row they are in, not the whole load.
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        with closing(connection.cursor()) as cursor:
            # What was acknowledged survives a power failure too, hence FULL.
            # Room is given back where tasks expired; this works before the first table is made.
            for setting in (
                "auto_vacuum=INCREMENTAL",
                "journal_mode=WAL",
                "synchronous=FULL",
                "foreign_keys=ON",
                f"journal_size_limit={LOG_KEPT}",
            ):
                cursor.execute(f"PRAGMA {setting}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads and then writes fails if another program wrote in between,
        # unless it has the write lock from its beginning.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _thd_prepare(connection: Connection, shown: str) -> None:
    """Make the tables of a new database; refuse one that is somebody else's or newer."""
    tables = set(inspect(connection).get_table_names())
    if tables and _META.name not in tables:
        raise CannotStart(f"the database {shown} holds tables that are not Cyme's; name an empty one")
    # Where CREATE TABLE is no part of a transaction, a start that was killed in the middle left
    # some tables, and this one, which says whose they are, first.
    _META.create(connection, checkfirst=True)
    version = connection.execute(select(_META.c.value).where(_SCHEMA)).scalar()
    if version is None:
        version = str(models.SCHEMA_VERSION)
        connection.execute(insert(_META).values(name="schema", value=version))
    if not version.isdecimal() or int(version) > models.SCHEMA_VERSION:
        raise CannotStart(
            f"the database {shown} was written by a newer Cyme (schema {version}; this one knows"
            f" {models.SCHEMA_VERSION}); upgrade Cyme, or name another database"
        )
    models.Base.metadata.create_all(connection)
    if int(version) < models.SCHEMA_VERSION:
        _thd_add_columns(connection)
        for table in models.Base.metadata.sorted_tables:
            for index in table.indexes:
                index.create(connection, checkfirst=True)
        connection.execute(update(_META).where(_SCHEMA).values(value=str(models.SCHEMA_VERSION)))


def _thd_add_columns(connection: Connection) -> None:
    """Give the tables of an older schema the columns that they lack.

    So far each schema only adds tables, and columns that may be empty or have a default, to the
    one before it; so this can be done again where a start was killed in the middle.
    """
    found = inspect(connection)
    quoted = connection.dialect.identifier_preparer
    for table in models.Base.metadata.sorted_tables:
        there = {column["name"] for column in found.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                added = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {quoted.format_table(table)} ADD COLUMN {added}")


def _make_shrinkable(engine: Engine) -> None:
    """Have an SQLite database that an older Cyme made able to give room back; no transaction can."""
    if engine.dialect.name != "sqlite":
        return
    raw = engine.raw_connection()
    try:
        with closing(raw.cursor()) as cursor:
            # 2 is INCREMENTAL.
            if cursor.execute("PRAGMA auto_vacuum").fetchone() != (2,):
                cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
                cursor.execute("VACUUM")
    finally:
        raw.close()


def _thd_shrink(engine: Engine) -> bool:
    """Give some room back to the disk, where the database does not by itself; whether there is more."""
    if engine.dialect.name != "sqlite":
        return False
    raw = engine.raw_connection()
    try:
        driver = cast(sqlite3.Connection, raw.driver_connection)
        with closing(driver.execute("PRAGMA freelist_count")) as counted:
            free: int = counted.fetchone()[0]
        if free:
            # Each step of this statement gives one page back, and only a script is stepped to its end.
            driver.executescript(f"PRAGMA incremental_vacuum({SHRUNK_PAGES})")
        return free > SHRUNK_PAGES
    finally:
        raw.close()


def _reason(problem: Exception, url: URL) -> str:
    """What a driver says, in one line and without the password."""
    lines = str(getattr(problem, "orig", None) or problem).splitlines() or [type(problem).__name__]
    password = url.password
    return lines[0].replace(str(password), "***") if password else lines[0]


# -- in the database's thread ------------------------------------------------------------------


def _thd_load(connection: Connection) -> tuple[Declaration | Unreadable, ...]:
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


def _thd_save(connection: Connection, declarations: tuple[Declaration, ...]) -> None:
    _thd_lock(connection)
    broker_ids = _thd_broker_ids(connection, declarations)
    for table, members in _by_table(declarations):
        wanted = _thd_not_older(connection, table, members)
        if wanted:
            _thd_delete(connection, table, wanted)
            connection.execute(insert(table), [models.row_of(one, broker_ids) for one in wanted])
    _thd_prune_brokers(connection)


def _thd_remove(connection: Connection, declarations: tuple[Declaration, ...]) -> None:
    _thd_lock(connection)
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
    for some in heldrows.chunks([str(getattr(one, first.name)) for one in declarations]):
        columns = select(first, *more, table.c.version_stamp, table.c.version_branch)
        for *key, stamp, branch in connection.execute(columns.where(first.in_(set(some)))):
            if isinstance(stamp, int) and isinstance(branch, str):
                stored[tuple(key)] = Version(stamp, branch)
    return [one for one in declarations if stored.get(one.key, NEVER) <= one.version]


def _thd_lock(connection: Connection) -> None:
    """Wait until no other branch writes, see Note [Branches that share]."""
    connection.execute(select(_META.c.value).where(_SCHEMA).with_for_update())


def _thd_locked(connection: Connection, thd: Callable[..., T], *arguments: Any) -> T:
    _thd_lock(connection)
    return thd(connection, *arguments)


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


def _thd_append_events(connection: Connection, events: tuple[Event, ...]) -> tuple[Event, ...]:
    # Under the lock, so that no id becomes visible after a higher one.
    _thd_lock(connection)
    stored = []
    for one in events:
        row = asdict(one, filter=lambda attribute, _: attribute.name != "id")
        key = connection.execute(insert(_EVENT).values(row)).inserted_primary_key
        assert key is not None
        stored.append(evolve(one, id=key[0]))
    return tuple(stored)


def _thd_read_events(
    connection: Connection, branch: str, since: int, limit: int, app: str | None, instance: str | None
) -> tuple[Event, ...]:
    statement = select(_EVENT).where(_EVENT.c.branch == branch, _EVENT.c.id > since)
    if app is not None:
        statement = statement.where(_EVENT.c.app == app)
    if instance is not None:
        statement = statement.where(_EVENT.c.instance == instance)
    rows = connection.execute(statement.order_by(_EVENT.c.id).limit(limit)).mappings()
    return tuple(Event(**row) for row in rows)


def _thd_last_event(connection: Connection, branch: str) -> int:
    return connection.execute(select(func.max(_EVENT.c.id)).where(_EVENT.c.branch == branch)).scalar() or 0


def _thd_prune_events(connection: Connection, branch: str, before: float, keep: int) -> None:
    _thd_lock(connection)
    # Of all branches: nobody else removes those of one that is gone for good.
    connection.execute(delete(_EVENT).where(_EVENT.c.at < before))
    mine = _EVENT.c.branch == branch
    newest_to_go = select(_EVENT.c.id).where(mine).order_by(_EVENT.c.id.desc()).offset(keep).limit(1)
    last = connection.execute(newest_to_go).scalar()
    if last is not None:
        connection.execute(delete(_EVENT).where(mine, _EVENT.c.id <= last))
