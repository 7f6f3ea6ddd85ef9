"""The tables: `App`, `Broker`, `Instance` and `Queue` of the product document, and what they are made of.

Only `cyme.store` uses these; everybody else has the frozen values of `cyme.declarations`. The
columns are meant to be read, and changed, by a person with SQL: the supervisor takes over what
was changed behind its back (requirements R82 to R86). So a row may hold anything that the
database lets in, and `value_of` believes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from math import isfinite
from sys import intern
from typing import Any

from sqlalchemy import BigInteger, Boolean, Double, ForeignKey, Index, Integer, String, Text
from sqlalchemy.dialects.mysql import LONGTEXT, MEDIUMTEXT
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cyme import declarations
from cyme.declarations import Declaration, Version

#: Goes up by one with each change of the tables.
SCHEMA_VERSION = 6

_NAME = String(128)
#: MySQL's TEXT ends at 64 KiB, less than a list of queues may take.
_TEXT = Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")
#: What a task returned may be longer than MEDIUMTEXT's 16 MiB.
_LONG_TEXT = Text().with_variant(LONGTEXT(), "mysql", "mariadb")
#: SQLite counts a row id up only in this one type.
_ID = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """What all tables share: in MySQL, too, `w1` and `W1` are two names."""

    __table_args__ = {
        "mysql_charset": "utf8mb4",
        "mysql_collate": "utf8mb4_bin",
        "mariadb_charset": "utf8mb4",
        "mariadb_collate": "utf8mb4_bin",
    }


class Meta(Base):
    """Facts about the database itself; `schema` is the version of its tables."""

    __tablename__ = "cyme_meta"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(_TEXT)


class Broker(Base):
    """A broker that apps or instances name; one row for each URL.

    A URL may be longer than what databases can index, so that its digest is what is unique.
    The digest of a row whose URL a person changed is stale, and is mended by the next save.
    """

    __tablename__ = "broker"

    id: Mapped[int] = mapped_column(_ID, primary_key=True, autoincrement=True)
    url: Mapped[str] = mapped_column(_TEXT)
    digest: Mapped[str | None] = mapped_column(String(64), unique=True)


class Versioned:
    """The columns that order what several branches wrote; see `cyme.declarations.Version`.

    A row whose stamp is 0 was written by a person: it is taken over as if written now.
    """

    version_stamp: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    version_branch: Mapped[str] = mapped_column(_NAME, default="", server_default="")
    deleted: Mapped[bool] = mapped_column(Boolean, default=False, server_default="0")


class StartParameters:
    """What a worker is started with, of an app or overridden by an instance."""

    celery_app: Mapped[str | None] = mapped_column(_TEXT)
    pool: Mapped[str | None] = mapped_column(_TEXT)
    arguments: Mapped[str | None] = mapped_column(_TEXT)
    extra_config: Mapped[str | None] = mapped_column(_TEXT)
    #: Bytes, and seconds; NULL and 0 are "no such limit".
    max_memory: Mapped[int | None] = mapped_column(BigInteger)
    max_age: Mapped[float | None] = mapped_column(Double)
    stall_timeout: Mapped[float | None] = mapped_column(Double)


class App(StartParameters, Versioned, Base):
    """An application."""

    __tablename__ = "app"

    name: Mapped[str] = mapped_column(_NAME, primary_key=True)
    broker_id: Mapped[int | None] = mapped_column(ForeignKey("broker.id"), index=True)


class Queue(Versioned, Base):
    """A queue declaration of one app."""

    __tablename__ = "queue"

    app: Mapped[str] = mapped_column(_NAME, primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    exchange: Mapped[str | None] = mapped_column(_TEXT)
    exchange_type: Mapped[str | None] = mapped_column(_TEXT)
    routing_key: Mapped[str | None] = mapped_column(_TEXT)
    options: Mapped[str | None] = mapped_column(_TEXT)
    paused: Mapped[bool] = mapped_column(Boolean, default=False, server_default="0")


class Instance(StartParameters, Versioned, Base):
    """A worker instance and the branch that owns it."""

    __tablename__ = "instance"

    name: Mapped[str] = mapped_column(_NAME, primary_key=True)
    app: Mapped[str] = mapped_column(_NAME, index=True)
    branch: Mapped[str] = mapped_column(_NAME)
    broker_id: Mapped[int | None] = mapped_column(ForeignKey("broker.id"), index=True)
    is_enabled: Mapped[bool] = mapped_column(Boolean, default=True, server_default="1")
    #: A JSON list, since queue names may hold commas; NULL is an empty one.
    queues: Mapped[str | None] = mapped_column(_TEXT)
    max_concurrency: Mapped[int] = mapped_column(Integer, default=1, server_default="1")
    min_concurrency: Mapped[int] = mapped_column(Integer, default=1, server_default="1")
    generation: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    drain_until: Mapped[float | None] = mapped_column(Double)
    created_at: Mapped[float] = mapped_column(Double, default=0.0, server_default="0")
    moving_to: Mapped[str | None] = mapped_column(_NAME)
    #: A JSON list of `NAME=VALUE`; NULL is an empty one.
    labels: Mapped[str | None] = mapped_column(_TEXT)


class Rollout(Versioned, Base):
    """The last rolling restart of an app; see `cyme.declarations.Rollout`."""

    __tablename__ = "rollout"

    app: Mapped[str] = mapped_column(_NAME, primary_key=True)
    id: Mapped[str] = mapped_column(String(64))
    branch: Mapped[str] = mapped_column(_NAME)
    parallel: Mapped[int] = mapped_column(Integer)
    timeout: Mapped[float] = mapped_column(Double)
    asked_by: Mapped[str] = mapped_column(_TEXT)
    asked_at: Mapped[float] = mapped_column(Double)
    #: JSON: lists of names; of [name, generation, time]; of [name, why].
    waiting: Mapped[str] = mapped_column(_TEXT)
    under_way: Mapped[str] = mapped_column(_TEXT)
    done: Mapped[str] = mapped_column(_TEXT)
    skipped: Mapped[str] = mapped_column(_TEXT)
    halted: Mapped[str | None] = mapped_column(_TEXT)
    ended_at: Mapped[float | None] = mapped_column(Double)


class BranchState(Versioned, Base):
    """What was asked of a branch; see `cyme.declarations.BranchState`."""

    __tablename__ = "branch"

    name: Mapped[str] = mapped_column(_NAME, primary_key=True)
    is_cordoned: Mapped[bool] = mapped_column(Boolean, default=False, server_default="0")
    draining_since: Mapped[float | None] = mapped_column(Double)
    drained_at: Mapped[float | None] = mapped_column(Double)
    #: A JSON list of [instance, branch]; NULL is an empty one.
    moved: Mapped[str | None] = mapped_column(_TEXT)
    problem: Mapped[str | None] = mapped_column(_TEXT)


class Event(Base):
    """A row of the why-log; see `cyme.events.Event`.

    An id is never given twice, also not after the newest rows are removed: readers go on from
    the last one they saw.
    """

    __tablename__ = "event"
    __table_args__ = {**Base.__table_args__, "sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(_ID, primary_key=True, autoincrement=True)
    at: Mapped[float] = mapped_column(Double)
    branch: Mapped[str] = mapped_column(_NAME)
    app: Mapped[str | None] = mapped_column(_NAME)
    instance: Mapped[str | None] = mapped_column(_NAME, index=True)
    kind: Mapped[str] = mapped_column(String(64))
    who: Mapped[str] = mapped_column(String(64))
    details: Mapped[str] = mapped_column(_TEXT)


# Several branches may share a database, and each reads its own.
Index("ix_event_branch", Event.branch, Event.id)


class Task(Base):
    """A task that this branch queued, and what is known of it; see `cyme.queued`."""

    __tablename__ = "task"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    app: Mapped[str] = mapped_column(_NAME)
    queue: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(16))
    #: JSON, see `cyme.queued.Outcome.text`.
    outcome: Mapped[str | None] = mapped_column(_LONG_TEXT)
    created_at: Mapped[float] = mapped_column(Double)
    finished_at: Mapped[float | None] = mapped_column(Double)
    expires_at: Mapped[float] = mapped_column(Double, index=True)


class HeldTask(Base):
    """The message of a task that is put off, until it is due; see `cyme.queued.Held`."""

    __tablename__ = "held_task"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    branch: Mapped[str] = mapped_column(_NAME)
    app: Mapped[str] = mapped_column(_NAME)
    due_at: Mapped[float] = mapped_column(Double)
    expires: Mapped[float | None] = mapped_column(Double)
    task: Mapped[str] = mapped_column(_TEXT)
    priority: Mapped[int | None] = mapped_column(Integer)
    queue: Mapped[str] = mapped_column(_TEXT)
    exchange: Mapped[str] = mapped_column(_TEXT)
    exchange_type: Mapped[str] = mapped_column(_TEXT)
    routing_key: Mapped[str] = mapped_column(_TEXT)
    options: Mapped[str] = mapped_column(_TEXT)
    #: Bytes of the body, so that it need not be read to know how much it is.
    size: Mapped[int] = mapped_column(Integer)
    body: Mapped[str] = mapped_column(_LONG_TEXT)


# With the app, so that those of apps whose broker is away are passed over without reading their rows.
Index("ix_held_task_due", HeldTask.branch, HeldTask.due_at, HeldTask.app)


class Deduplication(Base):
    """Which task has a deduplication id; such an id may be longer than what databases can index."""

    __tablename__ = "deduplication"

    app: Mapped[str] = mapped_column(_NAME, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    task_id: Mapped[str] = mapped_column(String(36))
    until: Mapped[float] = mapped_column(Double, index=True)
    is_confirmed: Mapped[bool] = mapped_column(Boolean)


class ResultSource(Base):
    """A broker from which results may still come, also when no app names it any more."""

    __tablename__ = "result_source"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    url: Mapped[str] = mapped_column(_TEXT)
    until: Mapped[float] = mapped_column(Double)


# -- rows and values -------------------------------------------------------------------

_PARAMETERS = ("celery_app", "pool", "arguments", "extra_config")
_LIMITS = ("max_memory", "max_age", "stall_timeout")
_QUEUE_TEXTS = ("exchange", "exchange_type", "routing_key", "options")


def digest_of(url: str) -> str:
    """What is unique about a broker's URL, short enough for any index."""
    return sha256(url.encode("utf-8", "surrogatepass")).hexdigest()


def row_of(declaration: Declaration, broker_ids: Mapping[str, int]) -> dict[str, Any]:
    """The columns of a declaration."""
    row: dict[str, Any] = {
        "version_stamp": declaration.version.stamp,
        "version_branch": declaration.version.branch,
        "deleted": declaration.deleted,
    }
    if isinstance(declaration, declarations.Rollout):
        return row | _rollout_row(declaration)
    row["name"] = declaration.name
    if isinstance(declaration, declarations.BranchState):
        plain = {name: getattr(declaration, name) for name in _BRANCH_PLAIN}
        return row | plain | {"moved": json.dumps(declaration.moved, ensure_ascii=False)}
    if isinstance(declaration, declarations.Queue):
        texts = {name: getattr(declaration, name) for name in _QUEUE_TEXTS}
        return row | texts | {"app": declaration.app, "paused": declaration.paused}
    row |= {name: getattr(declaration, name) for name in (*_PARAMETERS, *_LIMITS)}
    row["broker_id"] = None if declaration.broker is None else broker_ids[declaration.broker]
    if isinstance(declaration, declarations.App):
        return row
    return row | {
        "app": declaration.app,
        "branch": declaration.branch,
        "is_enabled": declaration.is_enabled,
        "queues": json.dumps(declaration.queues, ensure_ascii=False),
        "max_concurrency": declaration.max_concurrency,
        "min_concurrency": declaration.min_concurrency,
        "generation": declaration.generation,
        "drain_until": declaration.drain_until,
        "created_at": declaration.created_at,
        "moving_to": declaration.moving_to,
        "labels": json.dumps(declaration.labels, ensure_ascii=False),
    }


def value_of(kind: str, row: Mapping[str, Any], brokers: Mapping[int, str]) -> Declaration:
    """The declaration that a row says.

    :param brokers: row id -> URL.
    :raises ValueError: for a row that a person wrote wrongly; says what is wrong with it.
    """
    common: dict[str, Any] = {
        "version": Version(_whole(row, "version_stamp"), _text(row, "version_branch")),
        "deleted": _boolean(row, "deleted"),
    }
    if kind == declarations.Rollout.kind:
        return declarations.Rollout(**common, **_rollout_fields(row))
    common["name"] = _text(row, "name")
    if kind == declarations.BranchState.kind:
        return declarations.BranchState(**common, **_branch_fields(row))
    if kind == declarations.Queue.kind:
        common |= {name: _optional_text(row, name) for name in _QUEUE_TEXTS}
        return declarations.Queue(app=_text(row, "app"), paused=_boolean(row, "paused"), **common)
    common |= {name: _optional_text(row, name) for name in _PARAMETERS}
    common |= {
        "max_memory": _limit(row, "max_memory") and _whole(row, "max_memory"),
        "max_age": _limit(row, "max_age"),
        "stall_timeout": _limit(row, "stall_timeout"),
    }
    common["broker"] = _broker(row["broker_id"], brokers)
    if kind == declarations.App.kind:
        return declarations.App(**common)
    return declarations.Instance(
        app=_text(row, "app"),
        branch=_text(row, "branch"),
        is_enabled=_boolean(row, "is_enabled"),
        queues=_names(row, "queues"),
        max_concurrency=_whole(row, "max_concurrency"),
        min_concurrency=_whole(row, "min_concurrency"),
        generation=_whole(row, "generation"),
        drain_until=None if row["drain_until"] is None else _number(row, "drain_until"),
        created_at=_number(row, "created_at"),
        moving_to=_optional_text(row, "moving_to"),
        labels=_names(row, "labels"),
        **common,
    )


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise ValueError(f"{column} is not text")
    return _one_copy(column, value)


def _optional_text(row: Mapping[str, Any], column: str) -> str | None:
    return None if row[column] is None else _text(row, column)


def _one_copy(column: str, value: str) -> str:
    """The text, held once in memory: thousands of instances name few apps, branches and queues."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{column} is not UTF-8") from None
    return intern(value)


def _whole(row: Mapping[str, Any], column: str) -> int:
    value = row[column]
    if not isinstance(value, int):
        raise ValueError(f"{column} is not a whole number")
    return value


def _boolean(row: Mapping[str, Any], column: str) -> bool:
    value = row[column]
    if value not in (0, 1):
        raise ValueError(f"{column} is neither true nor false (1 nor 0)")
    return bool(value)


def _number(row: Mapping[str, Any], column: str) -> float:
    value = row[column]
    try:
        if isinstance(value, (int, float)) and isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise ValueError(f"{column} is not a number")


def _limit(row: Mapping[str, Any], column: str) -> float | None:
    """A limit; 0 is none."""
    return None if row[column] is None else _number(row, column) or None


def _broker(broker_id: Any, brokers: Mapping[int, str]) -> str | None:
    if broker_id is None:
        return None
    url = brokers.get(broker_id)
    if url is None:
        raise ValueError("broker_id names no row of the table broker that can be read")
    return _one_copy("the broker's url", url)


def _names(row: Mapping[str, Any], column: str) -> tuple[str, ...]:
    """The names in a JSON list."""
    value = row[column]
    if value is None:
        return ()
    try:
        names = json.loads(value)
    except (TypeError, ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f'{column} is not a JSON list of names, such as ["tasks", "mail"]')
    return tuple(_one_copy(column, name) for name in names)


# -- rollouts ------------------------------------------------------------------------------

_ROLLOUT_TEXTS = ("app", "id", "branch", "asked_by")
_ROLLOUT_LISTS = ("waiting", "under_way", "done", "skipped")


def _rollout_row(rollout: declarations.Rollout) -> dict[str, Any]:
    plain = ("parallel", "timeout", "asked_at", "halted", "ended_at")
    row = {name: getattr(rollout, name) for name in (*_ROLLOUT_TEXTS, *plain)}
    lists = {name: list(getattr(rollout, name)) for name in _ROLLOUT_LISTS}
    lists["under_way"] = [(turn.name, turn.generation, turn.began_at) for turn in rollout.under_way]
    return row | {name: json.dumps(value, ensure_ascii=False) for name, value in lists.items()}


def _rollout_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {name: _text(row, name) for name in _ROLLOUT_TEXTS}
    fields["parallel"] = _whole(row, "parallel")
    fields["timeout"] = _time(row["timeout"], "timeout")
    fields["asked_at"] = _time(row["asked_at"], "asked_at")
    fields["ended_at"] = None if row["ended_at"] is None else _time(row["ended_at"], "ended_at")
    fields["halted"] = _optional_text(row, "halted")
    for name in ("waiting", "done"):
        fields[name] = tuple(one for (one,) in _entries(row, name, str))
    fields["skipped"] = tuple((name, why) for name, why in _entries(row, "skipped", str, str))
    fields["under_way"] = tuple(
        declarations.Turn(name, generation, _time(began_at, "under_way"))
        for name, generation, began_at in _entries(row, "under_way", str, int, (int, float))
    )
    return fields


def _entries(row: Mapping[str, Any], column: str, *types: Any) -> list[list[Any]]:
    """The entries of a JSON list, each with values of `types`; those of one value are no lists there."""
    try:
        found = json.loads(row[column])
    except (TypeError, ValueError, RecursionError):
        found = None
    entries = [[one] for one in found] if isinstance(found, list) and len(types) == 1 else found
    if not isinstance(entries, list) or not all(_is_entry(one, types) for one in entries):
        raise ValueError(f"{column} is not a list as Cyme writes it")
    return [[_one_copy(column, one) if isinstance(one, str) else one for one in entry] for entry in entries]


def _is_entry(found: Any, types: tuple[Any, ...]) -> bool:
    return isinstance(found, list) and len(found) == len(types) and all(map(isinstance, found, types))


def _time(value: Any, column: str) -> float:
    try:
        if isinstance(value, (int, float)) and isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise ValueError(f"{column} is not a number of seconds")


# -- branches ------------------------------------------------------------------------------

_BRANCH_PLAIN = ("is_cordoned", "draining_since", "drained_at", "problem")


def _branch_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    times = {
        name: None if row[name] is None else _time(row[name], name)
        for name in ("draining_since", "drained_at")
    }
    moved = () if row["moved"] is None else _entries(row, "moved", str, str)
    return {
        "is_cordoned": _boolean(row, "is_cordoned"),
        "moved": tuple((name, branch) for name, branch in moved),
        "problem": _optional_text(row, "problem"),
        **times,
    }
