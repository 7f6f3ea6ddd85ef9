"""The row that every database of Cyme's has: whose it is, and the lock that writers take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Table, select

from cyme import models

T = TypeVar("T")

META = cast(Table, models.Meta.__table__)
#: The row of `META` that every database of Cyme's has.
SCHEMA = META.c.name == "schema"


def thd_lock(connection: Connection) -> None:
    """Wait until no other branch writes, see Note [Branches that share]."""
    connection.execute(select(META.c.value).where(SCHEMA).with_for_update())


def thd_locked(connection: Connection, thd: Callable[..., T], *arguments: Any) -> T:
    thd_lock(connection)
    return thd(connection, *arguments)
