"""The store and the catalogue over SQLite."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from cyme.catalogue import Catalogue
from cyme.declarations import App, Instance
from cyme.errors import CannotStart
from cyme.faults import Unreadable
from cyme.queued import Issued, Outcome, TaskState
from cyme.store import SHRUNK_PAGES, SQLStore
from tests.contracts.catalogue import make_catalogue_tests
from tests.contracts.store import ALL, DRAINED, FOO, RESTART, TASKS, W1, make_store_tests
from tests.contracts.taskstore import make_taskstore_tests
from tests.support.schemas import make_old
from tests.support.waiting import eventually


def new_folder(test: TestCase) -> str:
    """A folder that is removed with the test."""
    folder = tempfile.mkdtemp(prefix="cyme-store-")
    test.addCleanup(shutil.rmtree, folder)
    return folder


def on_sqlite(test: Any) -> SQLStore:
    """A store in the SQLite file that belongs to a test."""
    if not hasattr(test, "file"):
        test.file = os.path.join(new_folder(test), "branch.db")
    return SQLStore(reactor, f"sqlite:///{test.file}", "b1")


def over_sqlite(test: Any) -> Catalogue:
    """A catalogue over the SQLite file that belongs to a test."""
    store = on_sqlite(test)
    store.open()
    test.addCleanup(store.close)
    return Catalogue(reactor, store, "b1")


class SQLStoreTests(make_store_tests(on_sqlite)):  # type: ignore[misc]
    """The real store."""


def open_on_sqlite(test: Any) -> SQLStore:
    """A store that is open, in the SQLite file that belongs to a test."""
    store = on_sqlite(test)
    store.open()
    test.addCleanup(store.close)
    return store


class TaskStoreTests(make_taskstore_tests(open_on_sqlite)):  # type: ignore[misc]
    """The tasks in the real store."""


class CatalogueOverSQLiteTests(make_catalogue_tests(over_sqlite)):  # type: ignore[misc]
    """The catalogue over the real store."""


class ShrinkingTests(TestCase):
    """Room that is given back."""

    timeout = 60

    async def test_prune(self) -> None:
        """All that expired tasks took is given back to the disk, also in a database of an older Cyme."""
        file = os.path.join(new_folder(self), "branch.db")
        make_old(file, 3)
        store = SQLStore(reactor, f"sqlite:///{file}", "b1")
        store.open()
        self.addCleanup(store.close)
        long = json.dumps({"result": "x" * 20_000, "error": None})
        for start in range(0, 400, 100):
            ids = [f"{number:036}" for number in range(start, start + 100)]
            await store.write_tasks([Issued(one, "foo", "q", 1.0, 2.0) for one in ids])
            await store.write_tasks([Outcome(one, TaskState.SUCCESS, long, 1.0, 2.0) for one in ids])

        def pages() -> int:
            with sqlite3.connect(file) as connection:
                count: int = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.close()
            return count

        before = pages()
        self.assertGreater(before, 2 * SHRUNK_PAGES)
        self.assertEqual(await store.prune_tasks(3.0, 1000), 400)

        async def is_small() -> bool:
            return pages() < before / 10

        # A branch that stops in the middle goes on when it is up again.
        await store.close()
        store = SQLStore(reactor, f"sqlite:///{file}", "b1")
        store.open()
        self.addCleanup(store.close)
        self.assertEqual(await store.prune_tasks(3.0, 1000), 0)
        await eventually(is_small, 30.0)


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

    async def failure_of(self, save: Any) -> str:
        """What is said of a save that has to fail."""
        try:
            await save
        except Exception as problem:
            return str(problem)
        self.fail("it did not fail")

    async def test_failed_transaction(self) -> None:
        """Of a save that fails nothing is written; its error shows no password; the next one works."""
        await self.store.save(ALL)
        self.ask("CREATE TRIGGER no BEFORE INSERT ON instance BEGIN SELECT RAISE(ABORT, 'no'); END")
        new = App(name="bar", broker="amqp://me:topsecret@host//")
        said = await self.failure_of(self.store.save((new, evolve(W1, broker=new.broker))))
        self.assertIn("no", said)
        self.assertNotIn("topsecret", said)
        self.assertEqual(set(await self.store.load()), set(ALL))
        self.assertEqual(len(self.ask("SELECT * FROM broker")), 2)
        self.ask("CREATE TRIGGER never BEFORE INSERT ON broker BEGIN SELECT RAISE(ABORT, 'never'); END")
        self.assertNotIn("topsecret", await self.failure_of(self.store.save((new,))))
        self.ask("DROP TRIGGER never")
        await self.store.save((new,))
        self.assertEqual(set(await self.store.load()), {*ALL, new})

    async def test_settings(self) -> None:
        """A commit waits for the disk, reads don't wait for writes, another program is waited for."""
        self.assertEqual(self.ask("PRAGMA journal_mode"), [("wal",)])

        def thd_ask(connection: Any) -> list[Any]:
            settings = ("synchronous", "foreign_keys", "busy_timeout")
            return [connection.exec_driver_sql(f"PRAGMA {setting}").scalar() for setting in settings]

        self.assertEqual(await self.store._run(thd_ask), [2, 1, 5000])

    async def test_one_moment(self) -> None:
        """Nobody else writes in the middle of a transaction: a load finds the brokers that apps name."""
        file = self.file  # type: ignore[attr-defined]
        other = sqlite3.connect(file, timeout=0, check_same_thread=False)
        self.addCleanup(other.close)

        def thd_try(connection: Any) -> None:
            with self.assertRaises(sqlite3.OperationalError):
                other.execute("BEGIN IMMEDIATE")

        await self.store._run(thd_try)

    async def test_brokers(self) -> None:
        """A broker has one row, and is forgotten, with its password, when nothing names it any more."""
        twin = App(name="twin", broker=FOO.broker)
        await self.store.save((*ALL, twin))
        urls = "SELECT url FROM broker ORDER BY url"
        self.assertEqual(self.ask(urls), [(FOO.broker,), (W1.broker,)])
        await self.store.remove((FOO,))
        self.assertEqual(self.ask(urls), [(FOO.broker,), (W1.broker,)])
        await self.store.save((evolve(twin, broker=None),))
        self.assertEqual(self.ask(urls), [(W1.broker,)])

    async def test_broker_edited(self) -> None:
        """A broker whose URL a person changed is changed for all; its old URL can be declared again."""
        await self.store.save(ALL)
        self.ask("UPDATE broker SET url = 'amqp://new//' WHERE url LIKE 'amqp:%'")
        self.assertIn(evolve(FOO, broker="amqp://new//"), await self.store.load())
        old, other = App(name="old", broker=FOO.broker), App(name="other", broker="amqp://new//")
        await self.store.save((old, other))
        self.assertLess({old, other, evolve(FOO, broker="amqp://new//")}, set(await self.store.load()))
        self.assertEqual(len(self.ask("SELECT * FROM broker")), 3)

    async def test_unreadable_rollouts(self) -> None:
        """A rollout that a person spoilt is named with what is wrong with it."""
        for change, words in (
            ("waiting = 'w1'", "waiting"),
            ("done = '[1]'", "done"),
            ("done = '{}'", "done"),
            ("skipped = '[[\"w1\"]]'", "skipped"),
            ('under_way = \'[["w1", "2", 3]]\'', "under_way"),
            ("under_way = '[[\"w1\", 2, Infinity]]'", "under_way"),
            ("under_way = '[[\"\\udc80\", 2, 3]]'", "under_way"),
            ("parallel = 'all'", "parallel"),
            ("timeout = 9e999", "timeout"),
            ("ended_at = 'soon'", "ended_at"),
        ):
            await self.store.save(ALL)
            self.ask(f"UPDATE rollout SET {change}")
            [spoilt] = set(await self.store.load()) - {FOO, TASKS, W1, DRAINED}
            assert isinstance(spoilt, Unreadable), spoilt
            self.assertEqual(spoilt.key, ("foo",))
            self.assertIn(words, spoilt.problem)

    async def test_unreadable_branches(self) -> None:
        """What a person spoilt of what was asked of a branch is named."""
        for change, words in (
            ("is_cordoned = 'perhaps'", "is_cordoned"),
            ("draining_since = 'soon'", "draining_since"),
            ("drained_at = 9e999", "drained_at"),
            ("moved = '[[\"w1\"]]'", "moved"),
            ("problem = x'00ff'", "problem"),
        ):
            await self.store.save(ALL)
            self.ask(f"UPDATE branch SET {change}")
            [spoilt] = set(await self.store.load()) - {FOO, TASKS, W1, RESTART}
            assert isinstance(spoilt, Unreadable), spoilt
            self.assertEqual(spoilt.key, ("b1",))
            self.assertIn(words, spoilt.problem)

    async def test_unreadable_rows(self) -> None:
        """A row that a person spoilt is named with what is wrong with it; the others are loaded."""
        for change, words in (
            ("queues = 'not json'", "queues"),
            ("queues = '[1]'", "queues"),
            ("max_concurrency = 'lots'", "max_concurrency"),
            ("max_concurrency = 2.5", "max_concurrency"),
            ("is_enabled = 'perhaps'", "is_enabled"),
            ("deleted = 7", "deleted"),
            ("pool = x'00ff'", "pool"),
            ("arguments = CAST(x'c328' AS TEXT)", "arguments"),
            ("created_at = 9e999", "created_at"),
            ("max_memory = 'lots'", "max_memory"),
            ("max_memory = 1.5", "max_memory"),
            ("max_age = 9e999", "max_age"),
            ("stall_timeout = x'00'", "stall_timeout"),
            ("broker_id = 999", "broker_id"),
            ("version_stamp = ''", "version_stamp"),
            ("moving_to = x'00ff'", "moving_to"),
            ("labels = 'gpu=yes'", "labels"),
        ):
            await self.store.save(ALL)
            self.ask(f"UPDATE instance SET {change}")
            found = set(await self.store.load())
            [spoilt] = found - {FOO, TASKS, RESTART, DRAINED}
            assert isinstance(spoilt, Unreadable), spoilt
            self.assertEqual(spoilt.key, ("w1",))
            self.assertIn(words, spoilt.problem)

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

    async def test_hand_written_row(self) -> None:
        """A person who adds a row need give names only."""
        self.ask("INSERT INTO instance (name, app, branch) VALUES ('w9', 'foo', 'b1')")
        self.assertEqual(await self.store.load(), (Instance(name="w9", app="foo", branch="b1"),))

    async def test_changed_by_hand(self) -> None:
        """A catalogue takes over what a person changed with SQL, and writes it as its own."""
        catalogue = Catalogue(reactor, self.store, "b1")
        await catalogue.load()
        await catalogue.change(lambda: [App(name="foo"), *(evolve(W1, name=name) for name in ("w1", "w2"))])
        self.ask("UPDATE instance SET max_concurrency = 3 WHERE name = 'w1'")
        self.ask("DELETE FROM instance WHERE name = 'w2'")
        self.ask("INSERT INTO instance (name, app, branch) VALUES ('w3', 'foo', 'b1')")
        found = await catalogue.refresh()
        self.assertEqual(found, {("instance", name) for name in ("w1", "w2", "w3")})
        held = [(one.name, one.max_concurrency) for one in catalogue.instances()]
        self.assertEqual(held, [("w1", 3), ("w3", 1)])
        self.assertEqual(await catalogue.refresh(), frozenset())
        again = Catalogue(reactor, self.store, "b1")
        await again.load()
        self.assertEqual(list(again.instances("foo")), list(catalogue.instances("foo")))

    def test_not_used(self) -> None:
        """A store that was opened and never used closes at once, before a reactor runs."""
        folder = new_folder(self)
        store = SQLStore(reactor, f"sqlite:///{folder}/unused.db", "b1")
        store.open()
        self.successResultOf(store.close())
        self.successResultOf(store.close())

    async def test_in_memory(self) -> None:
        """A database in memory serves as long as the store lives."""
        store = SQLStore(reactor, "sqlite://", "b1")
        store.open()
        await store.save(ALL)
        self.assertEqual(set(await store.load()), set(ALL))
        await store.close()


class SignsTests(TestCase):
    """Whether the database's thread gets on."""

    async def test_hangs(self) -> None:
        """A transaction that takes its time shows the same all along; one that has ended shows nothing."""
        store = on_sqlite(self)
        store.open()
        self.addCleanup(lambda: store.close())
        self.assertEqual(store.signs(), {})
        begun, go_on = threading.Event(), threading.Event()

        def thd_wait(connection: Any) -> None:
            begun.set()
            go_on.wait(60)

        waiting = store._run(thd_wait)
        self.addCleanup(go_on.set)
        await deferToThread(begun.wait, 60)
        first = store.signs()
        self.assertEqual((list(first), store.signs()), (["the database's thread"], first))
        go_on.set()
        await waiting
        self.assertEqual(store.signs(), {})


class OpeningTests(TestCase):
    """Databases that can't be opened: one clear line each, without passwords."""

    def refusal(self, url: str) -> str:
        with self.assertRaises(CannotStart) as caught:
            SQLStore(reactor, url, "b1").open()
        return str(caught.exception)

    def test_refusals(self) -> None:
        """A missing folder, a file that is no database, an unknown kind and a missing driver are named."""
        folder = new_folder(self)
        Path(folder, "text").write_text("this is no database " * 100)
        for url, words in (
            (f"sqlite:///{folder}/no/such/branch.db", "No such file or directory"),
            (f"sqlite:///{folder}", "Is a directory"),
            (f"sqlite:///{folder}/x.db?timeout=often", "can't be opened"),
            ("postgresql+psycopg2://me:hidden@host:port/name", "--database"),
            ("sqlite+aiosqlite:///x.db", "asynchronous"),
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

    def test_half_made(self) -> None:
        """A start that was killed while it made the tables is gone on with."""
        file = os.path.join(new_folder(self), "half.db")
        database = sqlite3.connect(file)
        database.execute("CREATE TABLE cyme_meta (name VARCHAR(64) PRIMARY KEY, value TEXT NOT NULL)")
        database.commit()
        database.close()
        store = SQLStore(reactor, f"sqlite:///{file}", "b1")
        store.open()
        self.successResultOf(store.close())


WRITER = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from cyme.catalogue import Catalogue
from cyme.declarations import App
from cyme.store import SQLStore

async def write():
    store = SQLStore(reactor, sys.argv[1], "b1")
    store.open()
    catalogue = Catalogue(reactor, store, "b1")
    await catalogue.load()
    number = len(catalogue.apps())
    while True:
        await catalogue.change(lambda: [App(name=f"app{number}")])
        print(f"app{number}", flush=True)
        number += 1

def failed(failure):
    # Also when nobody reads any more: the test is gone.
    failure.printTraceback()
    reactor.callWhenRunning(reactor.stop)

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(write()).addErrback(failed))
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
            store = SQLStore(reactor, url, "b1")
            store.open()
            names = {one.key[0] for one in await store.load()}
            await store.close()
            self.assertLessEqual(set(acknowledged), names)

    def write_and_kill(self, url: str, after: int) -> list[str]:
        """Let a writer acknowledge some names, then kill it; all names that it acknowledged."""
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, url],
            stdout=subprocess.PIPE,
            text=True,
            cwd=os.getcwd(),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        assert writer.stdout is not None
        with writer.stdout:
            try:
                lines = [writer.stdout.readline() for _ in range(after)]
            finally:
                writer.kill()
            lines += writer.stdout.readlines()
        writer.wait()
        return [line.strip() for line in lines if line.endswith("\n")]
