"""Databases of every earlier schema, and what a start makes of them."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from typing import Any
from unittest.mock import patch

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from twisted.internet import reactor
from twisted.internet.defer import DeferredList, gatherResults
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import TestCase

from cyme.declarations import App
from cyme.errors import CannotStart
from cyme.models import SCHEMA_VERSION, Base
from cyme.store import SQLStore
from tests.functional.test_store_postgresql import empty_database
from tests.support.schemas import fill_old, held_by, make_old

EARLIER = range(1, SCHEMA_VERSION)
SUCCEEDED, WAITS = "a" * 36, "b" * 36


def differences(url: str) -> list[Any]:
    """What alembic would still change to get from a database to the models; blocks."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            found = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    finally:
        engine.dispose()
    # A backup is no part of the models.
    return [one for one in found if not (one[0] == "remove_table" and one[1].name.startswith("backup_"))]


def contents(file: str) -> list[str]:
    """Everything in an SQLite database, as SQL; blocks."""
    with closing(sqlite3.connect(file)) as database:
        return list(database.iterdump())


class HistoryTests(TestCase):
    """The migrations themselves."""

    def test_complete(self) -> None:
        """They lead from the first schema to this one, a number at a time."""
        config = Config()
        config.set_main_option("script_location", "cyme.store:migrations")
        found = [one.revision for one in ScriptDirectory.from_config(config).walk_revisions()]
        self.assertEqual(found, [str(number) for number in range(SCHEMA_VERSION, 0, -1)])


class UpgradeTestsMixin:
    """What is true of every database."""

    url: str

    async def check(self, schema: int) -> None:
        """Open it, and look at everything that it held."""
        store = SQLStore(reactor, self.url, "b1")
        with capturedLogs() as logged:
            store.open()
        try:
            self.assert_upgraded(schema, logged)
            self.assertEqual(set(await store.load()), held_by(schema))  # type: ignore[attr-defined]
            if schema >= 2:
                [event] = await store.read_events(0, 10, None, None)
                self.assertEqual((event.kind, event.details), ("started", '{"pid": 7}'))  # type: ignore[attr-defined]
            if schema >= 4:
                tasks = await store.read_tasks([SUCCEEDED, WAITS])
                self.assertEqual(tasks[SUCCEEDED].state, "SUCCESS")  # type: ignore[attr-defined]
                due = await store.due_tasks("b1", 9.5e9, (), 10, 10_000)
                self.assertEqual([(one.id, one.body) for one in due.tasks], [(WAITS, b"{}")])  # type: ignore[attr-defined]
            await store.save([App(name="new")])
        finally:
            await store.close()

    def assert_upgraded(self, schema: int, logged: list[Any]) -> None:
        said = [event for event in logged if event["log_level"] is LogLevel.info and "backup" in event]
        self.assertEqual([(one["old"], one["new"]) for one in said], [(schema, SCHEMA_VERSION)])  # type: ignore[attr-defined]


class SQLiteTests(UpgradeTestsMixin, TestCase):
    """A file."""

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="cyme-upgrade-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.file = os.path.join(self.folder, "branch.db")
        self.url = f"sqlite:///{self.file}"

    def refusal(self) -> str:
        return str(self.assertRaises(CannotStart, SQLStore(reactor, self.url, "b1").open))

    async def test_every_schema(self) -> None:
        """A database of any earlier schema keeps all that it holds, and has the tables of today."""
        for schema in EARLIER:
            make_old(self.file, schema)
            before = contents(self.file)
            await self.check(schema)
            self.assertEqual(differences(self.url), [])
            backup = f"{self.file}.schema-{schema}.backup"
            self.assertEqual(contents(backup), before)
            self.assertEqual(stat.S_IMODE(os.stat(backup).st_mode), 0o600)
            for name in os.listdir(self.folder):
                os.unlink(os.path.join(self.folder, name))

    async def test_once(self) -> None:
        """The next start finds nothing to do, and makes no backup."""
        make_old(self.file, 3)
        await self.check(3)
        backup = f"{self.file}.schema-3.backup"
        os.unlink(backup)
        store = SQLStore(reactor, self.url, "b1")
        store.open()
        await store.close()
        self.assertFalse(os.path.exists(backup))

    def test_new(self) -> None:
        """A new database has the tables of today at once, without alembic's being loaded."""
        program = (
            "import sys; from twisted.internet import reactor; from cyme.store import SQLStore;"
            "store = SQLStore(reactor, sys.argv[1], 'b1'); store.open(); store.close();"
            "print('alembic' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, self.url], capture_output=True, text=True, timeout=60
        )
        self.assertEqual((done.stdout, done.stderr), ("False\n", ""))
        self.assertEqual(differences(self.url), [])
        self.assertEqual(os.listdir(self.folder), ["branch.db"])

    async def test_fails(self) -> None:
        """An upgrade that fails half-way changes nothing, and the next start does it."""
        make_old(self.file, 1)
        before = contents(self.file)

        def fail(*arguments: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with patch("cyme.store.migrations.steps.create_index", fail):
            self.assertIn("disk is full", self.refusal())
        self.assertEqual(contents(self.file), before)
        await self.check(1)

    async def test_no_backup(self) -> None:
        """Where no backup can be made nothing is changed, and the error says what to look at."""
        make_old(self.file, 2)
        before = contents(self.file)
        backup = f"{self.file}.schema-2.backup"
        os.mkdir(backup)
        said = self.refusal()
        self.assertIn(backup, said)
        self.assertIn("nothing was changed", said)
        self.assertEqual(contents(self.file), before)
        self.assertEqual(sorted(os.listdir(self.folder)), ["branch.db", os.path.basename(backup)])
        os.rmdir(backup)
        await self.check(2)

    async def test_restored(self) -> None:
        """The backup, put in the database's place, is a database of its schema again."""
        make_old(self.file, 4)
        await self.check(4)
        os.replace(f"{self.file}.schema-4.backup", self.file)
        await self.check(4)

    def test_newer(self) -> None:
        """A database that a newer Cyme upgraded is refused, with what can be done."""
        make_old(self.file, 5)
        with closing(sqlite3.connect(self.file)) as database:
            database.execute("UPDATE cyme_meta SET value = '999'")
            database.commit()
        before = contents(self.file)
        said = self.refusal()
        self.assertIn("schema 999; this one knows", said)
        self.assertIn("upgrade Cyme, restore the backup", said)
        self.assertEqual(contents(self.file), before)


class PostgreSQLTests(UpgradeTestsMixin, TestCase):
    """A server, which several branches may share."""

    timeout = 120

    def setUp(self) -> None:
        self.url = empty_database()
        self.with_driver = self.url.replace("postgresql:", "postgresql+psycopg:")

    async def test_every_schema(self) -> None:
        """A database of any earlier schema keeps all that it holds, and has the tables of today."""
        for schema in EARLIER:
            empty_database()
            await deferToThread(fill_old, self.url, schema)
            await self.check(schema)
            self.assertEqual(await deferToThread(differences, self.with_driver), [])
            apps = await deferToThread(self.ask, f"SELECT name, pool FROM backup_{schema}_app")
            self.assertEqual(apps, [("foo", "threads")])

    async def test_at_once(self) -> None:
        """Branches that find an older database at the same moment all start, and it is upgraded once."""
        await deferToThread(fill_old, self.url, 4)
        stores = [SQLStore(reactor, self.url, f"b{number}") for number in range(4)]
        with capturedLogs() as logged:
            try:
                outcomes: Any = await DeferredList([deferToThread(one.open) for one in stores])
                self.assertEqual([failure for worked, failure in outcomes if not worked], [])
                self.assertEqual(set(await stores[3].load()), held_by(4))
            finally:
                await gatherResults([one.close() for one in stores])
        self.assert_upgraded(4, logged)
        self.assertEqual(await deferToThread(differences, self.with_driver), [])

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        engine = create_engine(self.with_driver)
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(text(statement))]
        finally:
            engine.dispose()
