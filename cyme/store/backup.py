"""The backup that is made before a database is upgraded.

Of an SQLite file it is a file beside it. A database on a server gets a copy of each table, beside
it too: what a branch may do there is all that is known, and its own dump is for who looks after it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress

from sqlalchemy import Connection, inspect

from cyme import models
from cyme.errors import CannotStart


def thd_back_up(connection: Connection, version: int) -> str:
    """Copy what the database holds before the transaction of `connection` changes it.

    A copy from an earlier upgrade of the same schema gives place to the new one.

    :param version: of the schema, part of the copy's name.
    :returns: where the copy is, for people.
    :raises CannotStart: when that can't be done.
    """
    if connection.dialect.name != "sqlite":
        return _thd_copy_tables(connection, version)
    file = connection.engine.url.database
    assert file, "what is in memory only was made by this process"
    return _copy_file(file, f"{file}.schema-{version}.backup")


def _copy_file(file: str, copy: str) -> str:
    half_made = copy + ".new"
    try:
        # For the same eyes as the database alone: it holds passwords.
        os.close(os.open(half_made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        # Another connection sees what was committed last, whatever the first one is about to do.
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(half_made)) as target:
            source.backup(target)
        _sync(half_made)
        os.replace(half_made, copy)
        _sync(os.path.dirname(os.path.abspath(copy)))
    except (OSError, sqlite3.Error) as problem:
        with suppress(OSError):
            os.unlink(half_made)
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise CannotStart(
            f"the database {file} has to be upgraded, and can't be backed up before to {copy}: {reason};"
            " nothing was changed"
        ) from None
    return copy


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _thd_copy_tables(connection: Connection, version: int) -> str:
    there = set(inspect(connection).get_table_names())
    quote = connection.dialect.identifier_preparer.quote
    for table in models.Base.metadata.sorted_tables:
        copy = f"backup_{version}_{table.name}"
        if copy in there:
            connection.exec_driver_sql(f"DROP TABLE {quote(copy)}")
        if table.name in there:
            connection.exec_driver_sql(f"CREATE TABLE {quote(copy)} AS SELECT * FROM {quote(table.name)}")
    return f"the tables backup_{version}_* of the same database"
