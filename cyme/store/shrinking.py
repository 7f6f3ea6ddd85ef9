"""Room in an SQLite database that is given back to the disk; other databases do so by themselves."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import cast

from sqlalchemy import Engine

#: Pages that an SQLite database gives back to the disk at once.
SHRUNK_PAGES = 500


def make_shrinkable(engine: Engine) -> None:
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


def thd_shrink(engine: Engine) -> bool:
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
