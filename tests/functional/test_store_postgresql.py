"""The store and the catalogue over PostgreSQL, which several branches share."""

from __future__ import annotations

import random
from typing import Any

from attrs import evolve
from sqlalchemy import create_engine, text
from twisted.internet import reactor
from twisted.internet.defer import DeferredList, gatherResults
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from cyme.catalogue import Catalogue
from cyme.declarations import App, Declaration, Instance
from cyme.errors import CannotStart, DatabaseAway
from cyme.events import Event
from cyme.store import SQLStore
from tests.contracts.catalogue import make_catalogue_tests
from tests.contracts.store import make_store_tests
from tests.contracts.taskstore import make_taskstore_tests
from tests.support.postgresql import PASSWORD, breakable_postgresql, shared_postgresql
from tests.support.proxy import Proxy

_emptied: list[str] = []


def empty_database() -> str:
    """The URL of a database that one test after the other has, empty each time."""
    if not _emptied:
        _emptied.append(shared_postgresql().new_url())
    engine = create_engine(_emptied[0].replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    engine.dispose()
    return _emptied[0]


def on_postgresql(test: Any) -> SQLStore:
    """A store in a database that was empty when the test asked first."""
    if not hasattr(test, "url"):
        test.url = empty_database()
    return SQLStore(reactor, test.url, "b1")


def open_on_postgresql(test: Any, branch_id: str = "b1") -> SQLStore:
    """An open store, of one of the branches that share the test's database."""
    if not hasattr(test, "url"):
        test.url = empty_database()
    store = SQLStore(reactor, test.url, branch_id)
    store.open()
    test.addCleanup(store.close)
    return store


def over_postgresql(test: Any, branch_id: str = "b1") -> Catalogue:
    """A catalogue over such a store."""
    return Catalogue(reactor, open_on_postgresql(test, branch_id), branch_id)


class PostgreSQLStoreTests(make_store_tests(on_postgresql)):  # type: ignore[misc]
    """The store."""


class PostgreSQLTaskStoreTests(make_taskstore_tests(open_on_postgresql)):  # type: ignore[misc]
    """The tasks in the store."""


class CatalogueOverPostgreSQLTests(make_catalogue_tests(over_postgresql)):  # type: ignore[misc]
    """The catalogue."""


class SharingTests(TestCase):
    """Several branches with one database, which hear of each other late or never."""

    timeout = 60

    async def test_start_at_once(self) -> None:
        """Branches that find an empty database at the same moment all start."""
        for _ in range(5):
            url = empty_database()
            stores = [SQLStore(reactor, url, f"b{number}") for number in range(4)]
            try:
                outcomes: Any = await DeferredList([deferToThread(store.open) for store in stores])
                self.assertEqual([failure for worked, failure in outcomes if not worked], [])
            finally:
                await gatherResults([store.close() for store in stores])

    async def test_events(self) -> None:
        """Each branch reads its own events, removes its own surplus, and everybody's old ones."""
        stores = [open_on_postgresql(self, name) for name in ("b1", "b2")]
        for at in (1.0, 2.0, 3.0):
            for number, store in enumerate(stores, 1):
                await store.append_events([Event(at=at, branch=f"b{number}", kind="k", who="x")])
        first, second = [await store.read_events(0, 10, None, None) for store in stores]
        self.assertEqual([(one.at, one.branch) for one in first], [(1.0, "b1"), (2.0, "b1"), (3.0, "b1")])
        self.assertEqual({one.branch for one in second}, {"b2"})
        self.assertEqual([await store.last_event() for store in stores], [first[-1].id, second[-1].id])
        await stores[0].prune_events(0.0, 1)
        await stores[1].prune_events(2.0, 10)
        self.assertEqual(await stores[0].read_events(0, 10, None, None), first[-1:])
        self.assertEqual(await stores[1].read_events(0, 10, None, None), second[1:])

    async def test_news_by_the_database(self) -> None:
        """What another branch wrote is held as it is, not as if a person had written it."""
        b1, b2 = over_postgresql(self), over_postgresql(self, "b2")
        [foo] = await b1.change(lambda: [App(name="foo", broker="redis://b//")])
        told: list[Declaration] = []
        b2.subscribe(told.extend)
        await b2.refresh()
        self.assertEqual((b2.app("foo"), told, b1.digest()), (foo, [foo], b2.digest()))
        [dead] = await b2.change(lambda: [evolve(foo, deleted=True)])
        await b1.refresh()
        self.assertIsNone(b1.app("foo"))
        # The news over the bus come after it, and are none.
        self.assertEqual(await b1.merge([dead]), ())

    async def test_late_news(self) -> None:
        """What comes late over the bus does not undo what the database has by then."""
        b1, b2 = over_postgresql(self), over_postgresql(self, "b2")
        [old] = await b1.change(lambda: [App(name="foo", pool="solo")])
        [new] = await b1.change(lambda: [App(name="foo", pool="threads")])
        await b2.merge([old])
        await b1.refresh()
        self.assertEqual(b1.app("foo"), new)
        await b2.refresh()
        self.assertEqual(b2.app("foo"), new)

    async def test_tombstones(self) -> None:
        """A branch that forgets an old tombstone leaves what was made anew under its name."""
        b1, b2 = over_postgresql(self), over_postgresql(self, "b2")
        [foo] = await b1.change(lambda: [App(name="foo")])
        await b1.change(lambda: [evolve(foo, deleted=True)])
        await b2.refresh()
        [anew] = await b2.change(lambda: [App(name="foo", pool="solo")])
        # Nobody told it of that yet.
        await b1.prune(2e10)
        for branch in (b1, b2):
            await branch.refresh()
            self.assertEqual(branch.app("foo"), anew)

    async def test_any_order(self) -> None:
        """Whatever branches write, hear and look up in whatever order, all end with one catalogue."""
        chance = random.Random(20)
        for _ in range(4):
            self.url = empty_database()
            branches = [over_postgresql(self, f"b{number}") for number in range(3)]
            news: list[Declaration] = []
            work = []
            for _ in range(60):
                branch = chance.choice(branches)
                what = chance.randrange(4)
                if what < 2:
                    app = App(name=f"a{chance.randrange(3)}", pool=chance.choice((None, "solo", "threads")))
                    wanted = evolve(app, deleted=chance.random() < 0.3)
                    work.append(branch.change(lambda wanted=wanted: [wanted]).addCallback(news.extend))
                elif what == 2:
                    work.append(branch.refresh())
                elif news:
                    work.append(branch.merge(chance.sample(news, min(3, len(news)))))
                if len(work) > 5:
                    await work.pop(chance.randrange(len(work)))
            await gatherResults(work)
            for branch in branches:
                await branch.refresh()
            self.assertEqual(len({branch.digest() for branch in branches}), 1)
            highest: dict[Any, Declaration] = {}
            for one in news:
                if one.version > getattr(highest.get(one.key), "version", one.version.__class__(0, "")):
                    highest[one.key] = one
            self.assertEqual(
                sorted(branches[0].apps(), key=lambda one: one.name),
                sorted((one for one in highest.values() if not one.deleted), key=lambda one: one.key),
            )

    async def test_written_at_once(self) -> None:
        """Many branches that name the same new brokers at the same moment all get their way."""
        stores = [open_on_postgresql(self, f"b{number}") for number in range(4)]
        urls = [f"redis://b/{number}" for number in range(5)]
        saves = [
            store.save([App(name=f"a{turn}-{number}", broker=url) for turn, url in enumerate(urls)])
            for number, store in enumerate(stores)
            for _ in range(5)
        ]
        await gatherResults(saves)
        self.assertEqual(len(await stores[0].load()), 20)

    async def test_by_hand(self) -> None:
        """A person's change is taken over by whoever sees it, and ends the same everywhere."""
        b1, b2 = over_postgresql(self), over_postgresql(self, "b2")
        await b1.change(lambda: [App(name="foo"), Instance(name="w1", app="foo", branch="b1")])
        await b2.refresh()
        engine = create_engine(self.url.replace("postgresql:", "postgresql+psycopg:"))  # type: ignore[attr-defined]
        with engine.begin() as connection:
            connection.execute(text("UPDATE instance SET is_enabled = false"))
        engine.dispose()
        await gatherResults([b1.refresh(), b2.refresh()])
        await gatherResults([b1.refresh(), b2.refresh()])
        self.assertEqual(b1.digest(), b2.digest())
        instance = b1.instance("w1")
        assert instance is not None
        self.assertFalse(instance.is_enabled)


class HangsUp(Factory):
    """Breaks every connection, and counts them."""

    noisy = False
    count = 0

    def buildProtocol(self, _: object) -> None:
        self.count += 1


class AwayTests(TestCase):
    """The server goes away and comes back."""

    timeout = 120

    async def test_away(self) -> None:
        """Meanwhile there is an error for users without secrets; afterwards all goes on as before."""
        server = breakable_postgresql()
        self.addCleanup(deferToThread, server.mend)
        store = SQLStore(reactor, server.new_url(), "b1")
        store.open()
        self.addCleanup(store.close)
        await store.save((App(name="foo", broker="redis://me:hidden@b//"),))
        await deferToThread(server.kill)
        for _ in range(2):
            problem = await self.failure(store)
            self.assertIn("the database can't be used now", problem)
            for secret in (PASSWORD, "hidden"):
                self.assertNotIn(secret, problem)
        await deferToThread(server.mend)
        await store.save((App(name="bar"),))
        self.assertEqual({one.key[0] for one in await store.load()}, {"foo", "bar"})
        # Connections that an idle pool holds are broken by a restart; nobody is to notice.
        await deferToThread(server.stop)
        await deferToThread(server.mend)
        self.assertEqual(len(await store.load()), 2)

    async def failure(self, store: SQLStore) -> str:
        try:
            await store.save((App(name="bar"),))
        except DatabaseAway as problem:
            return str(problem)
        self.fail("the database is there")

    async def test_in_vain(self) -> None:
        """Who waits while no connection can be made fails with the first, and does not try again."""
        server = shared_postgresql()
        proxy = Proxy(self, server.port)
        url = server.new_url().replace(f":{server.port}/", f":{proxy.port}/")
        store = SQLStore(reactor, url, "b1")
        # Not in the reactor's thread, where the proxy is.
        await deferToThread(store.open)
        self.addCleanup(store.close)
        await proxy.cut()
        hangs_up = HangsUp()
        port: Any = reactor
        listening = port.listenTCP(proxy.port, hangs_up, interface="127.0.0.1")
        saves = [store.save((App(name=f"a{number}"),)) for number in range(20)]
        outcomes: Any = await DeferredList(saves, consumeErrors=True)
        for worked, failure in outcomes:
            self.assertFalse(worked)
            failure.trap(DatabaseAway)
        # Once with TLS, and once without, at most.
        self.assertLessEqual(hangs_up.count, 2)
        await listening.stopListening()
        proxy.mend()
        await store.save((App(name="foo"),))
        self.assertEqual(len(await store.load()), 1)

    def test_refused(self) -> None:
        """A start says that the server is away, or that it does not let Cyme in, without the password."""
        server = shared_postgresql()
        wrong = server.url().replace(f":{PASSWORD}@", ":wr0ng@")
        for url, words in (
            (server.url("nosuch"), 'database "nosuch" does not exist'),
            (wrong, "password authentication failed"),
            (f"postgresql://cyme:{PASSWORD}@127.0.0.1:1/name", "refused"),
        ):
            with self.assertRaises(CannotStart) as caught:
                SQLStore(reactor, url, "b1").open()
            said = str(caught.exception)
            self.assertIn(words, said)
            self.assertNotIn("wr0ng", said)
            self.assertNotIn(PASSWORD, said)
