"""Databases as earlier schemas made and filled them.

The files in `tests/data/schemas` were written by the code of their time, with one row or more in each
table: SQLite's shell format, and what `pg_dump --inserts` makes. They are never changed; a new schema
adds files of the one before it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
from attrs import evolve

from cyme.declarations import App, BranchState, Declaration, Instance, Queue, Rollout, Turn, Version

_FOLDER = Path(__file__).parents[1] / "data" / "schemas"

FOO = App(
    name="foo",
    broker="amqp://me:s%20cret@broker:5672//",
    celery_app="proj.celery:app",
    pool="threads",
    arguments="--a 'b c'",
    extra_config="x=1",
    version=Version(7 << 40, "b1"),
)
QUEUE = Queue(
    app="foo",
    name="tâches, 1",
    exchange="e",
    exchange_type="topic",
    routing_key="r.#",
    options='{"durable": true}',
    version=Version(8, "b1"),
)
W1 = Instance(
    name="w1",
    app="foo",
    branch="b1",
    is_enabled=False,
    queues=("tâches, 1", "b"),
    max_concurrency=4,
    min_concurrency=0,
    broker="redis://r/1",
    pool="solo",
    arguments="-x",
    generation=3,
    created_at=1234567.25,
    version=Version(9, "b2"),
)
W2 = Instance(name="w2", app="foo", branch="b1", deleted=True, version=Version(10, "b1"))
RESTART = Rollout(
    app="foo",
    id="9d5c",
    branch="b1",
    parallel=2,
    timeout=30.5,
    asked_by="branch b1",
    asked_at=1234567.5,
    waiting=("w4", "w5"),
    under_way=(Turn("w2", 4, 1234568.25),),
    done=("w1",),
    skipped=(("w0", "it is désabled"),),
    halted="w2 is away",
    ended_at=1234570.0,
    version=Version(11, "b1"),
)
DRAINED = BranchState(
    name="b1",
    is_cordoned=True,
    draining_since=1234567.5,
    drained_at=1234570.25,
    moved=(("w1", "b2"),),
    problem="nobody täkes w3",
    version=Version(12, "b1"),
)


def held_by(schema: int) -> set[Declaration]:
    """What the files of a schema hold."""
    foo, queue, w1 = FOO, QUEUE, W1
    found: set[Declaration] = {W2}
    if schema >= 3:
        foo = evolve(foo, max_memory=3 << 40, max_age=86_400.5, stall_timeout=60.0)
        w1 = evolve(w1, max_memory=1, drain_until=1234600.5)
        found.add(RESTART)
    if schema >= 4:
        queue = evolve(queue, paused=True)
    if schema >= 5:
        w1 = evolve(w1, moving_to="b3", labels=("gpu=yes", "zone=a"))
        found.add(DRAINED)
    return found | {foo, queue, w1}


def make_old(file: str, schema: int) -> None:
    """Make an SQLite database of an earlier schema; blocks."""
    with closing(sqlite3.connect(file)) as database:
        database.executescript((_FOLDER / f"{schema}-sqlite.sql").read_text(encoding="utf-8"))


def fill_old(url: str, schema: int) -> None:
    """Fill an empty PostgreSQL database as an earlier schema did; blocks.

    :param url: without a driver.
    """
    # Not through SQLAlchemy, for which percent signs are places of values.
    with psycopg.connect(url) as connection:
        connection.execute((_FOLDER / f"{schema}-postgresql.sql").read_bytes())
