"""The store and the catalogue over SQLite."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from cyme.catalogue import Catalogue
from cyme.declarations import App, Instance
from cyme.errors import CannotStart
from cyme.store import SQLStore
from tests.contracts.catalogue import make_catalogue_tests
from tests.contracts.store import ALL, FOO, W1, make_store_tests


def new_folder(test: TestCase) -> str:
    """A folder that is removed with the test."""
    folder = tempfile.mkdtemp(prefix="cyme-store-")
    test.addCleanup(shutil.rmtree, folder)
    return folder


def on_sqlite(test: Any) -> SQLStore:
    """A store in the SQLite file that belongs to a test."""
    if not hasattr(test, "file"):
        test.file = os.path.join(new_folder(test), "branch.db")
    return SQLStore(reactor, f"sqlite:///{test.file}")


def over_sqlite(test: Any) -> Catalogue:
    """A catalogue over the SQLite file that belongs to a test."""
    store = on_sqlite(test)
    store.open()
    test.addCleanup(store.close)
    return Catalogue(reactor, store, "b1")


class SQLStoreTests(make_store_tests(on_sqlite)):  # type: ignore[misc]
    """The real store."""


class CatalogueOverSQLiteTests(make_catalogue_tests(over_sqlite)):  # type: ignore[misc]
    """The catalogue over the real store."""


class SQLiteTests(TestCase):
    """What is particular to the database."""

    def setUp(self) -> None:
        self.store = on_sqlite(self)
        self.store.open()
        self.addCleanup(lambda: self.store.close())

    def ask(self, statement: str) -> list[Any]:
        """Run a statement as somebody with SQL would."""
        database = sqlite3.connect(self.file)  # type: ignore[attr-defined]
        try:
            with database:
                return database.execute(statement).fetchall()
        finally:
            database.close()

    async def test_failed_transaction(self) -> None:
        """Of a save that fails nothing is written."""
        await self.store.save(ALL)
        self.ask("CREATE TRIGGER no BEFORE UPDATE ON instance BEGIN SELECT RAISE(ABORT, 'no'); END")
        try:
            await self.store.save((App(name="bar"), W1))
        except Exception as problem:
            self.assertIn("no", str(problem))
        else:
            self.fail("it did not fail")
        self.assertEqual(set(await self.store.load()), set(ALL))

    async def test_brokers_are_pruned(self) -> None:
        """A broker that nothing names any more is forgotten, with its password."""
        await self.store.save(ALL)
        self.assertEqual(len(self.ask("SELECT url FROM broker")), 2)
        await self.store.remove((FOO,))
        self.assertEqual(self.ask("SELECT url FROM broker"), [(W1.broker,)])

    async def test_unreadable_row(self) -> None:
        """A row that a person spoilt is logged and left out; the others are loaded."""
        await self.store.save(ALL)
        self.ask("UPDATE instance SET queues = 'not json'")
        self.assertEqual(set(await self.store.load()), set(ALL) - {W1})

    async def test_private(self) -> None:
        """Nobody else may read the file: it holds passwords."""
        await self.store.save(ALL)
        for path in Path(self.file).parent.iterdir():  # type: ignore[attr-defined]
            self.assertEqual(path.stat().st_mode & 0o077, 0, path)

    async def test_close_waits(self) -> None:
        """Closing lets what was asked for be done."""
        save = self.store.save(ALL)
        await self.store.close()
        await save
        self.assertEqual(self.ask("SELECT count(*) FROM instance"), [(1,)])

    def test_hand_written_row(self) -> None:
        """A person need not give a version when adding a row."""
        self.ask("INSERT INTO instance (name, app, branch, queues) VALUES ('w9', 'foo', 'b1', '[]')")

        def check(declarations: Any) -> None:
            self.assertEqual(declarations, (Instance(name="w9", app="foo", branch="b1"),))

        return self.store.load().addCallback(check)


class OpeningTests(TestCase):
    """Databases that can't be opened: one clear line each, without passwords."""

    def refusal(self, url: str) -> str:
        with self.assertRaises(CannotStart) as caught:
            SQLStore(reactor, url).open()
        return str(caught.exception)

    def test_refusals(self) -> None:
        """A missing folder, a file that is no database, an unknown kind and a missing driver are named."""
        folder = new_folder(self)
        Path(folder, "text").write_text("this is no database " * 100)
        for url, words in (
            (f"sqlite:///{folder}/no/such/branch.db", "can't be opened"),
            (f"sqlite:///{folder}/text", "not a database"),
            ("nonsense", "--database"),
            ("nosuch://host/name", "--database"),
            ("oracle+cx_oracle://me:hidden@host/name", "driver"),
        ):
            said = self.refusal(url)
            self.assertIn(words, said)
            self.assertNotIn("hidden", said)
            self.assertNotIn("\n", said)

    def test_foreign_database(self) -> None:
        """A database with tables of another program is left alone."""
        file = os.path.join(new_folder(self), "other.db")
        database = sqlite3.connect(file)
        database.execute("CREATE TABLE app (x)")
        database.commit()
        database.close()
        self.assertIn("not Cyme's", self.refusal(f"sqlite:///{file}"))

    async def test_newer_schema(self) -> None:
        """A database that a newer Cyme wrote is refused by name."""
        store = on_sqlite(self)
        store.open()
        await store.close()
        database = sqlite3.connect(self.file)  # type: ignore[attr-defined]
        database.execute("UPDATE cyme_meta SET value = '999'")
        database.commit()
        database.close()
        self.assertIn("newer Cyme", self.refusal(f"sqlite:///{self.file}"))  # type: ignore[attr-defined]


WRITER = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from cyme.catalogue import Catalogue
from cyme.declarations import App
from cyme.store import SQLStore

async def write():
    store = SQLStore(reactor, sys.argv[1])
    store.open()
    catalogue = Catalogue(reactor, store, "b1")
    await catalogue.load()
    number = len(catalogue.apps())
    while True:
        await catalogue.change(lambda: [App(name=f"app{number}")])
        print(f"app{number}", flush=True)
        number += 1

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(write()).addErrback(lambda f: f.printTraceback()))
reactor.run()
"""


class KillTests(TestCase):
    """A writer that is killed with -9."""

    async def test_acknowledged_survives(self) -> None:
        """Everything that was acknowledged before the kill is in the database after it."""
        url = f"sqlite:///{new_folder(self)}/branch.db"
        chance = random.Random()
        for _ in range(3):
            acknowledged = await deferToThread(self.write_and_kill, url, chance.randrange(1, 40))
            store = SQLStore(reactor, url)
            store.open()
            names = {one.key[0] for one in await store.load()}
            await store.close()
            self.assertLessEqual(set(acknowledged), names)

    def write_and_kill(self, url: str, after: int) -> list[str]:
        """Let a writer acknowledge some names, then kill it; all names that it acknowledged."""
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True, cwd=os.getcwd(),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(after)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
        writer.stdout.close()
        writer.wait()
        return [line.strip() for line in lines if line.endswith("\n")]
