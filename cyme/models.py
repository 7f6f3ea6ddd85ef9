"""The tables: `App`, `Broker`, `Instance` and `Queue` of the product document, and what they are made of.

Only `cyme.store` uses these; everybody else has the frozen values of `cyme.declarations`. The
columns are meant to be read, and changed, by a person with SQL: the supervisor takes over what
was changed behind its back (requirements R82 to R86). Lengths are given wherever a column is
indexed, for databases that need them.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Float, ForeignKey, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

#: Goes up by one with each change of the tables.
SCHEMA_VERSION = 1

_NAME = String(128)
#: SQLite counts a row id up only in this one type.
_ID = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """What all tables share."""


class Meta(Base):
    """Facts about the database itself; `schema` is the version of its tables."""

    __tablename__ = "cyme_meta"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Broker(Base):
    """A broker that apps or instances name; one row for each URL."""

    __tablename__ = "broker"

    id: Mapped[int] = mapped_column(_ID, primary_key=True, autoincrement=True)
    url: Mapped[str] = mapped_column(String(700), unique=True)


class Versioned:
    """The columns that order what several branches wrote; see `cyme.declarations.Version`.

    A row without a stamp was written by a person: it is taken over as if written now.
    """

    version_stamp: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    version_branch: Mapped[str] = mapped_column(_NAME, default="", server_default="")
    deleted: Mapped[bool] = mapped_column(Boolean, default=False, server_default="0")


class StartParameters:
    """What a worker is started with, of an app or overridden by an instance."""

    celery_app: Mapped[str | None] = mapped_column(Text)
    pool: Mapped[str | None] = mapped_column(Text)
    arguments: Mapped[str | None] = mapped_column(Text)
    extra_config: Mapped[str | None] = mapped_column(Text)


class App(StartParameters, Versioned, Base):
    """An application."""

    __tablename__ = "app"

    name: Mapped[str] = mapped_column(_NAME, primary_key=True)
    broker_id: Mapped[int | None] = mapped_column(ForeignKey("broker.id"))


class Queue(Versioned, Base):
    """A queue declaration of one app."""

    __tablename__ = "queue"

    app: Mapped[str] = mapped_column(_NAME, primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    exchange: Mapped[str | None] = mapped_column(Text)
    exchange_type: Mapped[str | None] = mapped_column(Text)
    routing_key: Mapped[str | None] = mapped_column(Text)
    options: Mapped[str | None] = mapped_column(Text)


class Instance(StartParameters, Versioned, Base):
    """A worker instance and the branch that owns it."""

    __tablename__ = "instance"

    name: Mapped[str] = mapped_column(_NAME, primary_key=True)
    app: Mapped[str] = mapped_column(_NAME, index=True)
    branch: Mapped[str] = mapped_column(_NAME)
    broker_id: Mapped[int | None] = mapped_column(ForeignKey("broker.id"))
    is_enabled: Mapped[bool] = mapped_column(Boolean, default=True, server_default="1")
    #: A JSON list: queue names may hold commas.
    queues: Mapped[str] = mapped_column(Text, default="[]")
    max_concurrency: Mapped[int] = mapped_column(Integer, default=1, server_default="1")
    min_concurrency: Mapped[int] = mapped_column(Integer, default=1, server_default="1")
    generation: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    created_at: Mapped[float] = mapped_column(Float, default=0.0, server_default="0")
