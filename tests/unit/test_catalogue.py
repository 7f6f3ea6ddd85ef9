"""The catalogue over a store in memory, and the rules by which declarations merge."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from cyme.catalogue import Catalogue, HybridClock, identity
from cyme.declarations import NEVER, App, Instance, Queue, Version
from cyme.faults import Unreadable, fault_of
from tests.contracts.catalogue import make_catalogue_tests
from tests.contracts.store import make_store_tests
from tests.fakes.store import MemoryStore


def over_memory(test: Any) -> Catalogue:
    """A catalogue over the store that belongs to a test."""
    if not hasattr(test, "memory"):
        test.memory = MemoryStore()
        test.clock = Clock()
        test.clock.advance(1_000_000)
    return Catalogue(test.clock, test.memory, "b1")


class CatalogueOverMemoryTests(make_catalogue_tests(over_memory)):  # type: ignore[misc]
    """The catalogue over a store in memory."""


class MemoryStoreTests(make_store_tests(lambda test: MemoryStore())):  # type: ignore[misc]
    """The fake store."""


class HybridClockTests(SynchronousTestCase):
    """Stamps near to the wall clock that never go back."""

    def test_seen(self) -> None:
        """A stamp is higher than every stamp that was seen."""
        stamps = HybridClock(Clock())
        stamps.see(1 << 50)
        stamps.see(5)
        self.assertEqual(stamps.next(), (1 << 50) + 1)

    def test_near_the_clock(self) -> None:
        """A stamp is the time in milliseconds, shifted."""
        clock = Clock()
        clock.advance(12.5)
        self.assertEqual(HybridClock(clock).next() >> 16, 12_500)

    def test_set_back(self) -> None:
        """Stamps grow while the wall clock stands still or is set back."""
        clock = Clock()
        clock.advance(100)
        stamps = HybridClock(clock)
        found = [stamps.next(), stamps.next()]
        clock.rightNow = 50.0
        found.append(stamps.next())
        self.assertEqual(found, sorted(set(found)))


class FailingStoreTests(SynchronousTestCase):
    """A store that fails."""

    def test_nothing_is_seen(self) -> None:
        """A write that could not be made durable fails, is not visible, and hinders none after it."""
        catalogue = over_memory(self)
        self.successResultOf(catalogue.load())
        self.memory.fail_with = OSError("disk full")  # type: ignore[attr-defined]
        told: list[Any] = []
        catalogue.subscribe(told.append)
        self.failureResultOf(catalogue.change(lambda: [App(name="foo")]), OSError)
        self.assertEqual((list(catalogue.apps()), told), ([], []))
        self.memory.fail_with = None  # type: ignore[attr-defined]
        self.successResultOf(catalogue.change(lambda: [App(name="foo")]))
        self.assertEqual(len(catalogue.apps()), 1)

    def test_caller_gone(self) -> None:
        """A write that fails after its caller lost interest is logged."""
        catalogue = over_memory(self)
        slow: Deferred[None] = Deferred()
        self.memory.save = lambda _: slow  # type: ignore[attr-defined]
        change = catalogue.change(lambda: [App(name="foo")])
        change.cancel()
        self.failureResultOf(change, CancelledError)
        slow.errback(OSError("disk full"))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertEqual(list(catalogue.apps()), [])

    def test_seen_when_durable(self) -> None:
        """A write is visible when it is durable, not before, also when its caller has gone."""
        catalogue = over_memory(self)
        slow: Deferred[None] = Deferred()
        self.memory.save = lambda _: slow  # type: ignore[attr-defined]
        change = catalogue.change(lambda: [App(name="foo")])
        self.assertEqual(list(catalogue.apps()), [])
        change.cancel()
        self.failureResultOf(change, CancelledError)
        slow.callback(None)
        self.assertEqual([one.name for one in catalogue.apps()], ["foo"])


class RefreshTests(TestCase):
    """What somebody changed in the database behind the branch's back."""

    async def setUp(self) -> None:
        self.catalogue = over_memory(self)
        await self.catalogue.load()
        await self.catalogue.change(
            lambda: [App(name="foo"), Queue(app="foo", name="q"), Instance(name="w1", app="foo", branch="b1")]
        )
        self.told: list[Any] = []
        self.catalogue.subscribe(self.told.extend)
        self.rows = self.memory.rows  # type: ignore[attr-defined]

    async def test_edited(self) -> None:
        """A changed value is taken over with a new version, stored, and told."""
        key = ("instance", "w1")
        before = self.rows[key]
        self.rows[key] = evolve(before, max_concurrency=4)
        self.assertEqual(await self.catalogue.refresh(), {key})
        after = self.catalogue.instance("w1")
        assert after is not None
        self.assertEqual((after.max_concurrency, self.told, self.rows[key]), (4, [after], after))
        self.assertLess(before.version, after.version)
        self.assertEqual(await self.catalogue.refresh(), frozenset())

    async def test_inserted(self) -> None:
        """A row that a person added is taken over."""
        row = Instance(name="w2", app="foo", branch="b1")
        self.rows["instance", "w2"] = row
        await self.catalogue.refresh()
        self.assertIsNotNone(self.catalogue.instance("w2"))

    async def test_vanished(self) -> None:
        """A row that a person removed becomes a tombstone, so that other branches hear of it."""
        del self.rows["instance", "w1"]
        await self.catalogue.refresh()
        self.assertIsNone(self.catalogue.instance("w1"))
        self.assertTrue(self.rows["instance", "w1"].deleted)

    async def test_impossible(self) -> None:
        """A change that can't be is logged, once, and left out; the rest is taken over."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        row = self.rows["instance", "w1"]
        self.rows["instance", "w1"] = evolve(row, max_concurrency=1, min_concurrency=2)
        self.rows["instance", "w2"] = Instance(name="w2", app="nobody", branch="b1")
        self.rows["instance", "../w"] = Instance(name="../w", app="foo", branch="b1")
        self.rows["instance", "w3"] = Instance(name="w3", app="foo", branch="b1")
        self.assertEqual(await self.catalogue.refresh(), {("instance", "w3")})
        self.assertEqual(self.catalogue.instance("w1"), row)
        self.assertEqual(await self.catalogue.refresh(), frozenset())
        left_out = sorted(event["name"] for event in events if "can't be" in event["log_format"])
        self.assertEqual(left_out, ["../w", "w1", "w2"])
        self.assertEqual([one.name for one in self.catalogue.instances()], ["w1", "w3"])

    async def test_unreadable(self) -> None:
        """A row that can't be read is no row that was removed: what was held is held on."""
        for kind, key in (("instance", ("w1",)), ("app", ("foo",))):
            spoilt = Unreadable(kind, key, "is spoilt")
            self.rows[identity(spoilt)] = spoilt
        self.assertEqual(await self.catalogue.refresh(), frozenset())
        self.assertIsNotNone(self.catalogue.instance("w1"))
        self.assertIsNotNone(self.catalogue.app("foo"))

    async def test_app_removed(self) -> None:
        """An app that a person removed takes its own with it, and no worker's broker is forgotten."""
        await self.catalogue.change(lambda: [App(name="foo", broker="amqp://b"), App(name="bar")])
        del self.rows["app", "foo"]
        gone = {("app", "foo"), ("queue", "foo", "q"), ("instance", "w1")}
        self.assertEqual(await self.catalogue.refresh(), gone)
        self.assertEqual([one.name for one in self.catalogue.apps()], ["bar"])
        self.assertEqual((list(self.catalogue.instances()), list(self.catalogue.queues("foo"))), ([], []))
        self.assertEqual(self.rows["instance", "w1"].broker, "amqp://b")

    async def test_buried(self) -> None:
        """A row that a person marked as deleted is a tombstone."""
        self.rows["instance", "w1"] = evolve(self.rows["instance", "w1"], deleted=True)
        await self.catalogue.refresh()
        self.assertIsNone(self.catalogue.instance("w1"))

    async def test_without_app(self) -> None:
        """An instance that came before its app, from another branch, is not taken for an orphan."""
        early = Instance(name="early", app="late", branch="b2", version=Version(5, "b2"))
        await self.catalogue.merge([early])
        self.assertEqual(await self.catalogue.refresh(), frozenset())
        again = over_memory(self)
        await again.load()
        self.assertEqual(again.instance("early"), early)

    async def test_other_branch(self) -> None:
        """What another branch wrote to a shared database is told and held under its own version."""
        theirs = evolve(self.rows["instance", "w1"], max_concurrency=9, version=Version(1 << 60, "b2"))
        self.rows["instance", "w1"] = theirs
        self.assertEqual(await self.catalogue.refresh(), {("instance", "w1")})
        self.assertEqual((self.catalogue.instance("w1"), self.told), (theirs, [theirs]))
        self.assertEqual(self.rows["instance", "w1"], theirs)

    async def test_while_away(self) -> None:
        """A row that was added while no branch ran has a version once it was loaded."""
        self.rows["instance", "w2"] = Instance(name="w2", app="foo", branch="b1")
        again = over_memory(self)
        await again.load()
        found = again.instance("w2")
        assert found is not None
        self.assertLess(NEVER, found.version)
        self.assertEqual(self.rows["instance", "w2"], found)

    async def test_failing(self) -> None:
        """A refresh that fails changes nothing, and the next one finds all there is."""
        self.rows["instance", "w1"] = evolve(self.rows["instance", "w1"], max_concurrency=4)
        self.memory.save_fails_with = OSError("disk full")  # type: ignore[attr-defined]
        self.failureResultOf(self.catalogue.refresh(), OSError)  # type: ignore[attr-defined]
        self.memory.save_fails_with = None  # type: ignore[attr-defined]
        self.assertEqual(self.told, [])
        self.assertEqual(await self.catalogue.refresh(), {("instance", "w1")})


class FaultTests(SynchronousTestCase):
    """What no branch may act on, whoever wrote it."""

    def test_faults(self) -> None:
        """Names that are no names, ranges that are none and texts that can't be split are found."""
        good = Instance(name="w1", app="foo", branch="b1", queues=("a, b", "é"), arguments="-x 'a b'")
        app, queue = App(name="foo", broker="amqp://b"), Queue(app="foo", name="q", options='{"a": 1}')
        limited = evolve(good, max_memory=1 << 50, max_age=0.5, stall_timeout=1e8)
        for fine in (good, app, queue, limited, evolve(good, max_concurrency=1, min_concurrency=0)):
            self.assertIsNone(fault_of(fine), fine)
        for bad in (
            *(evolve(good, name=name) for name in ("", "..", "a/b", "branch.db", "x" * 129, "w\n", "-w")),
            *(evolve(app, name=name) for name in ("", "../x", "é")),
            evolve(good, app="no app"),
            evolve(good, branch=""),
            evolve(good, queues=("a/b",)),
            evolve(good, max_concurrency=0, min_concurrency=0),
            evolve(good, max_concurrency=1, min_concurrency=2),
            evolve(good, min_concurrency=-1),
            evolve(good, max_concurrency=1_000_000_000),
            evolve(good, arguments="'"),
            evolve(good, pool="a\0b"),
            evolve(app, extra_config='"'),
            evolve(app, max_memory=-1),
            evolve(good, max_memory=1 << 51),
            evolve(good, max_age=float("nan")),
            evolve(app, stall_timeout=-0.5),
            evolve(queue, name="a/b"),
            evolve(queue, name="é" * 128),
            evolve(queue, name=""),
            evolve(queue, app="a/b"),
            evolve(queue, options="[]"),
            evolve(queue, options="no JSON"),
        ):
            self.assertIsNotNone(fault_of(bad), bad)


names = st.sampled_from(["w1", "w2", "w3"])
versions = st.builds(Version, st.integers(1, 9), st.sampled_from(["b1", "b2"]))


class MergeTests(SynchronousTestCase):
    """Branches that hear the same end with the same."""

    @given(
        st.dictionaries(st.tuples(names, versions), st.tuples(st.booleans(), st.integers(1, 3)), max_size=12),
        st.data(),
    )
    def test_converges(self, written: dict[Any, Any], data: Any) -> None:
        """Any order, grouping and repetition of the same declarations ends in the same catalogue."""
        declarations = [
            Instance(name=name, app="foo", branch="b1", version=version, deleted=dead, max_concurrency=number)
            for (name, version), (dead, number) in written.items()
        ]
        ends = []
        for _ in range(2):
            order = data.draw(st.permutations(declarations + declarations))
            store = MemoryStore()
            catalogue = Catalogue(Clock(), store, "b3")
            while order:
                size = data.draw(st.integers(1, len(order)))
                self.successResultOf(catalogue.merge(order[:size]))
                order = order[size:]
            again = Catalogue(Clock(), store, "b3")
            self.successResultOf(again.load())
            ends.append((catalogue.instances(), catalogue.tombstones("instance")))
            self.assertEqual((again.instances(), again.tombstones("instance")), ends[-1])
        self.assertEqual(ends[0], ends[1])
        latest: dict[str, Instance] = {}
        for one in sorted(declarations, key=lambda one: one.version):
            latest[one.name] = one
        self.assertEqual({one.key[0]: one for group in ends[0] for one in group}, latest)
