"""`SQLStore`: everything that is asked of the database, one transaction after the other."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from cyme.declarations import Declaration
from cyme.errors import CannotStart, DatabaseAway
from cyme.events import Event
from cyme.faults import Unreadable
from cyme.interfaces import IStore, ITaskStore
from cyme.models import SCHEMA_VERSION
from cyme.queued import Claim, Due, TaskChange, TaskStatus
from cyme.store import declarationrows, eventrows, heldrows, taskrows
from cyme.store.connecting import (
    POSTGRESQL,
    as_away,
    in_transaction,
    is_unconnected,
    make_engine,
    make_private,
    parsed,
    reason,
)
from cyme.store.locking import thd_locked
from cyme.store.schema import thd_prepare
from cyme.store.shrinking import make_shrinkable, thd_shrink
from cyme.vitals import Pulse

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

T = TypeVar("T")

#: Databases on servers whose isolation levels are set; others have what their drivers choose.
SHARED = ("mariadb", "mysql", "postgresql")


@implementer(IStore, ITaskStore)
class SQLStore:
    """The declarations in any database that SQLAlchemy speaks to.

    :param reactor: runs the callbacks of what the database's thread answers.
    :param url: an SQLAlchemy URL.
    :param branch_id: whose database it is; others may use it too, see Note [Branches that share].
    :ivar problem: why it could not be used last, None when it could.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorFromThreads, url: str, branch_id: str) -> None:
        self._reactor = reactor
        self._url = url
        self._branch_id = branch_id
        self.problem: str | None = None
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
        url = parsed(self._url)
        # The query is not shown: some drivers take a password there.
        shown = url.set(query={}).render_as_string(hide_password=True)
        try:
            if url.get_backend_name() == "sqlite":
                make_private(url)
            engine = make_engine(url)
            try:
                self._prepare(engine, shown)
            except BaseException:
                engine.dispose()
                raise
        except ImportError as problem:
            extra = " (pip install 'cyme[postgresql]')" if url.drivername == POSTGRESQL else ""
            raise CannotStart(
                f"the database {shown} needs a driver, installed beside Cyme{extra}: {problem}"
            ) from None
        except OSError as problem:
            raise CannotStart(f"the database {shown} can't be opened: {problem.strerror}") from None
        # What a driver makes of strange words in a URL is a TypeError or a ValueError.
        except (SQLAlchemyError, sqlite3.Error, TypeError, ValueError) as problem:
            raise CannotStart(f"the database {shown} can't be opened: {reason(problem, url)}") from None
        self._engine = engine
        self._pool.start()

    def load(self) -> Deferred[tuple[Declaration | Unreadable, ...]]:
        return self._run(declarationrows.thd_load, isolation="REPEATABLE READ")

    def save(self, declarations: Sequence[Declaration]) -> Deferred[None]:
        return self._run(declarationrows.thd_save, tuple(declarations))

    def remove(self, declarations: Sequence[Declaration]) -> Deferred[None]:
        return self._run(declarationrows.thd_remove, tuple(declarations))

    def append_events(self, events: Sequence[Event]) -> Deferred[tuple[Event, ...]]:
        return self._run(eventrows.thd_append, tuple(events))

    def read_events(
        self, since: int, limit: int, app: str | None, instance: str | None
    ) -> Deferred[tuple[Event, ...]]:
        return self._run(eventrows.thd_read, self._branch_id, since, limit, app, instance)

    def newest_events(
        self, before: float | None, limit: int, app: str | None, instance: str | None
    ) -> Deferred[tuple[Event, ...]]:
        return self._run(eventrows.thd_newest, self._branch_id, before, limit, app, instance)

    def last_event(self) -> Deferred[int]:
        return self._run(eventrows.thd_last, self._branch_id)

    def prune_events(self, before: float, keep: int) -> Deferred[None]:
        return self._run(eventrows.thd_prune, self._branch_id, before, keep)

    # -- ITaskStore -----------------------------------------------------------------

    def write_tasks(self, changes: Sequence[TaskChange]) -> Deferred[frozenset[str]]:
        return self._run(taskrows.thd_write, tuple(changes))

    def read_tasks(self, ids: Sequence[str]) -> Deferred[Mapping[str, TaskStatus]]:
        return self._run(taskrows.thd_read, tuple(ids))

    def recent_tasks(self, branch: str, limit: int, app: str | None) -> Deferred[tuple[TaskStatus, ...]]:
        return self._run(taskrows.thd_recent, branch, limit, app)

    def claim_task(self, claim: Claim, now: float) -> Deferred[Claim]:
        return self._run(thd_locked, taskrows.thd_claim, claim, now)

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
        return self._run(thd_locked, taskrows.thd_use_broker, url, until)

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

    def _prepare(self, engine: Engine, shown: str) -> None:
        upgrade = in_transaction(engine, thd_prepare, shown)
        if upgrade is not None:
            self._log.info(
                "the database was upgraded from schema {old} to {new}; the backup of before is {backup}",
                old=upgrade.schema,
                new=SCHEMA_VERSION,
                backup=upgrade.backup,
            )
        make_shrinkable(engine)

    def _heed(self, result: Any) -> Any:
        """Remember how the last transaction ended."""
        is_away = isinstance(result, Failure) and result.check(DatabaseAway)
        self.problem = str(result.value) if is_away else None
        return result

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

        deferToThreadPool(self._reactor, self._pool, thd_shrink, engine).addCallbacks(done, failed)

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
                return in_transaction(engine, thd_begun)
            except DBAPIError as problem:
                if is_unconnected(problem):
                    self._asked_in_vain = self._asked
                raise

        done = deferToThreadPool(self._reactor, self._pool, thd_run)
        return self._pulse.during(done.addErrback(as_away).addBoth(self._heed))
