"""Connections to any database that SQLAlchemy speaks to, and what their failures mean."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import StaticPool
from twisted.python.failure import Failure

from cyme.errors import CannotStart, DatabaseAway

T = TypeVar("T")

#: Seconds that SQLite waits for another program's transaction.
BUSY_TIMEOUT = 5.0
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


def parsed(text: str) -> URL:
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


def make_private(url: URL) -> None:
    """Make the file of an SQLite database before SQLite does, which would let others read it."""
    if in_memory(url) or url.database is None or url.database.startswith("file:"):
        return
    os.close(os.open(url.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def in_memory(url: URL) -> bool:
    return url.database in (None, "", ":memory:")


def make_engine(url: URL) -> Engine:
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
        poolclass=StaticPool if in_memory(url) else None,
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


def in_transaction(engine: Engine, thd: Callable[..., T], *arguments: Any) -> T:
    """Run `thd(connection, *arguments)` in one transaction; all of it happens, or nothing.

    Once more where another branch came in between in a shared database (both made the tables) or
    a connection was lost: all that is done here may be done twice.
    """
    try:
        with engine.begin() as connection:
            return thd(connection, *arguments)
    except DBAPIError as problem:
        # SQLite has waited for others already, and they can't come in between.
        if engine.dialect.name == "sqlite" or is_unconnected(problem):
            raise
    with engine.begin() as connection:
        return thd(connection, *arguments)


def is_unconnected(problem: DBAPIError) -> bool:
    """Whether there never was a connection, rather than one that was lost."""
    return problem.statement is None and not problem.connection_invalidated


def as_away(failure: Failure) -> Failure:
    """What users may read of a database that can't be used now; other failures are faults of ours.

    The statement is left out, and values were never in it (`hide_parameters`).
    """
    problem = failure.value
    if isinstance(problem, (OperationalError, InterfaceError)):
        lines = str(problem.orig).strip().splitlines()
        return Failure(DatabaseAway(lines[0] if lines else type(problem.orig).__name__))
    return failure


def reason(problem: Exception, url: URL) -> str:
    """What a driver says, in one line and without the password."""
    lines = str(getattr(problem, "orig", None) or problem).splitlines() or [type(problem).__name__]
    password = url.password
    return lines[0].replace(str(password), "***") if password else lines[0]
