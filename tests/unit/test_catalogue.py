"""The catalogue over a store in memory, and the rules by which declarations merge."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from cyme.catalogue import Catalogue, HybridClock
from cyme.declarations import App, Instance, Queue, Version
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
        """A change that can't be is logged and left out; the rest is taken over."""
        row = self.rows["instance", "w1"]
        self.rows["instance", "w1"] = evolve(row, max_concurrency=1, min_concurrency=2)
        self.rows["instance", "w2"] = Instance(name="w2", app="nobody", branch="b1")
        self.rows["instance", "w3"] = Instance(name="w3", app="foo", branch="b1")
        self.assertEqual(await self.catalogue.refresh(), {("instance", "w3")})
        held = self.catalogue.instance("w1")
        assert held is not None
        self.assertEqual(held.min_concurrency, 1)


names = st.sampled_from(["w1", "w2", "w3"])
versions = st.builds(Version, st.integers(1, 9), st.sampled_from(["b1", "b2"]))


class MergeTests(SynchronousTestCase):
    """Branches that hear the same end with the same."""

    @given(
        st.dictionaries(
            st.tuples(names, versions), st.tuples(st.booleans(), st.integers(1, 3)), max_size=12
        ),
        st.data(),
    )
    def test_converges(self, written: dict[Any, Any], data: Any) -> None:
        """Any order, grouping and repetition of the same declarations ends in the same catalogue."""
        declarations = [
            Instance(
                name=name, app="foo", branch="b1", version=version, deleted=dead, max_concurrency=number
            )
            for (name, version), (dead, number) in written.items()
        ]
        ends = []
        for _ in range(2):
            order = data.draw(st.permutations(declarations + declarations))
            catalogue = Catalogue(Clock(), MemoryStore(), "b3")
            while order:
                size = data.draw(st.integers(1, len(order)))
                self.successResultOf(catalogue.merge(order[:size]))
                order = order[size:]
            ends.append((catalogue.instances(), catalogue.tombstones("instance")))
        self.assertEqual(ends[0], ends[1])
        latest: dict[str, Instance] = {}
        for one in sorted(declarations, key=lambda one: one.version):
            latest[one.name] = one
        self.assertEqual({one.name: one for group in ends[0] for one in group}, latest)
