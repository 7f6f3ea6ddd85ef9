"""The tables of the database: made, upgraded after a backup, or refused.

Note [Two version numbers]
~~~~~~~~~~~~~~~~~~~~~~~~~~
The row `schema` of the table `cyme_meta` is what every Cyme reads at its start, also those from
before there was alembic; it is written last. The table `alembic_version` says how far alembic is.
They differ only where changes of tables are no part of a transaction (MySQL) and a start was
killed in the middle: the next one goes on from where alembic was.
"""

from __future__ import annotations

from attrs import frozen
from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, select, update

from cyme import models
from cyme.errors import CannotStart
from cyme.store.backup import thd_back_up
from cyme.store.locking import META, SCHEMA, thd_lock

_ALEMBIC = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


@frozen
class Upgrade:
    """What was done to an older database.

    :ivar schema: its version before.
    :ivar backup: where what it held before is now, for people.
    """

    schema: int
    backup: str


def thd_prepare(connection: Connection, shown: str) -> Upgrade | None:
    """Make the tables of a new database, upgrade those of an older one.

    :param shown: how the database is named to people.
    :returns: what was upgraded, None if nothing was.
    :raises CannotStart: for a database that is somebody else's or newer, or that can't be backed up.
    """
    tables = set(inspect(connection).get_table_names())
    if tables and META.name not in tables:
        raise CannotStart(f"the database {shown} holds tables that are not Cyme's; name an empty one")
    # Where CREATE TABLE is no part of a transaction, a start that was killed in the middle left
    # some tables, and this one, which says whose they are, first.
    META.create(connection, checkfirst=True)
    # Others may start at the same moment; whoever comes second finds all done.
    thd_lock(connection)
    version = connection.execute(select(META.c.value).where(SCHEMA)).scalar()
    if version is None:
        version = str(models.SCHEMA_VERSION)
        connection.execute(insert(META).values(name="schema", value=version))
    if not version.isdecimal() or int(version) > models.SCHEMA_VERSION:
        raise CannotStart(
            f"the database {shown} was written by a newer Cyme (schema {version}; this one knows"
            f" {models.SCHEMA_VERSION}); upgrade Cyme, restore the backup that was made then,"
            " or name another database"
        )
    upgrade = None
    if int(version) < models.SCHEMA_VERSION:
        upgrade = Upgrade(int(version), thd_back_up(connection, int(version)))
        _thd_migrate(connection, version)
        connection.execute(update(META).where(SCHEMA).values(value=str(models.SCHEMA_VERSION)))
    models.Base.metadata.create_all(connection)
    _thd_stamp(connection, str(models.SCHEMA_VERSION))
    return upgrade


def _thd_stamp(connection: Connection, version: str) -> None:
    """Tell alembic of a version, unless it knows one."""
    _ALEMBIC.create(connection, checkfirst=True)
    if connection.execute(select(_ALEMBIC.c.version_num)).first() is None:
        connection.execute(insert(_ALEMBIC).values(version_num=version))


def _thd_migrate(connection: Connection, version: str) -> None:
    """Have alembic do what is missing, see Note [Two version numbers]."""
    # A start that finds nothing to upgrade does without the time and memory that alembic takes.
    from alembic import command
    from alembic.config import Config

    _thd_stamp(connection, version)
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "cyme.store:migrations")
    command.upgrade(config, "head")
