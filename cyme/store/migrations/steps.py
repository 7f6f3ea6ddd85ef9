"""The kinds of steps that migrations are made of, and the types of their columns.

Each step looks first whether it was done: MySQL has no transactions around changes of tables, so
there a start that was killed in the middle has done some of a migration's steps.
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Integer, String, Text, inspect
from sqlalchemy.dialects.mysql import LONGTEXT, MEDIUMTEXT

from cyme.models import Base

NAME = String(128)
TEXT = Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")
LONG_TEXT = Text().with_variant(LONGTEXT(), "mysql", "mariadb")
ID = BigInteger().with_variant(Integer, "sqlite")


def versioned() -> list[Column[Any]]:
    """New columns for the version of a declaration."""
    return [
        Column("version_stamp", BigInteger, server_default="0", nullable=False),
        Column("version_branch", NAME, server_default="", nullable=False),
        Column("deleted", Boolean, server_default="0", nullable=False),
    ]


def create_table(name: str, *columns: Column[Any], **options: Any) -> None:
    """Make a table, unless it is there.

    :param options: as of SQLAlchemy's `Table`.
    """
    op.create_table(name, *columns, if_not_exists=True, **Base.__table_args__, **options)


def add_columns(table: str, *columns: Column[Any]) -> None:
    """Give a table the columns that it has not; they may be empty, or have a default."""
    there = {column["name"] for column in inspect(op.get_bind()).get_columns(table)}
    for column in columns:
        if column.name not in there:
            op.add_column(table, column)


def create_index(name: str, table: str, *columns: str) -> None:
    """Make an index, unless it is there."""
    there = {index["name"] for index in inspect(op.get_bind()).get_indexes(table)}
    if name not in there:
        op.create_index(name, table, list(columns))
