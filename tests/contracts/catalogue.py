"""What every `ICatalogue` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from cyme.declarations import App, BranchState, Declaration, Instance, Queue, Rollout, Version
from cyme.interfaces import ICatalogue

FOO = App(name="foo")
W1 = Instance(name="w1", app="foo", branch="b1")


def make_catalogue_tests(fixture: Callable[[TestCase], Any]) -> type[TestCase]:
    """Tests of an `ICatalogue`.

    :param fixture: makes an empty catalogue; called twice in a test it gives two of one store.
    """

    class CatalogueTests(TestCase):
        async def setUp(self) -> None:
            self.catalogue = fixture(self)
            await self.catalogue.load()
            self.told: list[tuple[Declaration, ...]] = []

        async def declare(self, *declarations: Declaration) -> Any:
            return await self.catalogue.change(lambda: declarations)

        def test_interface(self) -> None:
            """It provides `ICatalogue`."""
            verifyObject(ICatalogue, self.catalogue)

        async def test_reads(self) -> None:
            """What was declared is found by name and listed in order, by app where it has one."""
            w2 = Instance(name="w2", app="bar", branch="b1")
            queue = Queue(app="foo", name="q")
            await self.declare(w2, W1, App(name="bar"), FOO, queue)
            self.assertEqual([one.name for one in self.catalogue.apps()], ["bar", "foo"])
            self.assertEqual([one.name for one in self.catalogue.instances()], ["w1", "w2"])
            self.assertEqual([one.name for one in self.catalogue.instances("bar")], ["w2"])
            self.assertEqual([one.name for one in self.catalogue.queues("foo")], ["q"])
            self.assertEqual(list(self.catalogue.queues("bar")), [])
            self.assertEqual(self.catalogue.instance("w1").app, "foo")
            self.assertEqual(self.catalogue.queue("foo", "q").name, "q")
            self.assertIsNone(self.catalogue.queue("bar", "q"))
            self.assertIsNone(self.catalogue.app("nobody"))

        async def test_rollouts(self) -> None:
            """The last rollout of each app is found and listed by its app."""
            rollout = Rollout(app="foo", id="1", branch="b1", waiting=("w1",))
            await self.declare(FOO, App(name="bar"), rollout, evolve(rollout, app="bar"))
            await self.declare(evolve(rollout, id="2"))
            self.assertEqual(self.catalogue.rollout("foo").id, "2")
            listed = [(one.app, one.id) for one in self.catalogue.rollouts()]
            self.assertEqual(listed, [("bar", "1"), ("foo", "2")])
            await self.declare(evolve(rollout, deleted=True))
            self.assertIsNone(self.catalogue.rollout("foo"))

        async def test_digest(self) -> None:
            """Catalogues that came to hold the same versions in any way have one digest, others another."""
            empty = self.catalogue.digest()
            stored = await self.declare(FOO, W1, App(name="bar"))
            first = self.catalogue.digest()
            await self.declare(evolve(W1, deleted=True))
            self.assertEqual(len({empty, first, self.catalogue.digest()}), 3)
            other = fixture(self)
            self.assertEqual(other.digest(), empty)
            await other.merge(reversed(stored))
            self.assertEqual(other.digest(), first)
            await other.merge([self.catalogue.held(("instance", "w1"))])
            self.assertEqual(other.digest(), self.catalogue.digest())
            await self.catalogue.prune(1e12)
            await other.prune(1e12)
            self.assertEqual(other.digest(), self.catalogue.digest())

        async def test_versions(self) -> None:
            """Everything held is told in order, in pages, with its version; tombstones too."""
            foo, w1 = await self.declare(FOO, W1)
            (bar,) = await self.declare(App(name="bar"))
            (gone,) = await self.declare(evolve(W1, deleted=True))
            everything = [(("app", "bar"), bar.version), (("app", "foo"), foo.version)]
            everything.append((("instance", "w1"), gone.version))
            self.assertGreater(gone.version, w1.version)
            self.assertEqual(list(self.catalogue.versions(None, 10)), everything)
            self.assertEqual(list(self.catalogue.versions(None, 2)), everything[:2])
            self.assertEqual(list(self.catalogue.versions(("app", "foo"), 10)), everything[2:])
            self.assertEqual(self.catalogue.held(("instance", "w1")), gone)
            self.assertIsNone(self.catalogue.held(("instance", "w2")))

        async def test_branches(self) -> None:
            """What was asked of a branch is found and listed; of others there is the blank one."""
            self.assertEqual(self.catalogue.branch("b2"), BranchState(name="b2"))
            await self.declare(BranchState(name="b2", is_cordoned=True), BranchState(name="b1"))
            self.assertTrue(self.catalogue.branch("b2").is_cordoned)
            self.assertEqual([one.name for one in self.catalogue.branches()], ["b1", "b2"])

        async def test_lists_follow(self) -> None:
            """A list shows the last change, also of what was listed before."""
            await self.declare(FOO, W1)
            self.catalogue.instances(), self.catalogue.instances("foo")
            await self.declare(evolve(W1, max_concurrency=7))
            self.assertEqual([one.max_concurrency for one in self.catalogue.instances()], [7])
            self.assertEqual([one.max_concurrency for one in self.catalogue.instances("foo")], [7])

        async def test_moved(self) -> None:
            """An instance that changes its app is listed with the new one only."""
            await self.declare(FOO, App(name="bar"), W1)
            await self.declare(evolve(W1, app="bar"))
            self.assertEqual(list(self.catalogue.instances("foo")), [])
            self.assertEqual([one.name for one in self.catalogue.instances("bar")], ["w1"])
            self.assertEqual([one.name for one in self.catalogue.instances()], ["w1"])

        async def test_revived(self) -> None:
            """A name that was deleted can be declared again."""
            await self.declare(W1)
            await self.declare(evolve(W1, deleted=True))
            await self.declare(W1)
            self.assertEqual([one.name for one in self.catalogue.instances("foo")], ["w1"])
            self.assertEqual(list(self.catalogue.tombstones(Instance.kind)), [])

        async def test_tombstone(self) -> None:
            """What was deleted is seen only among the tombstones."""
            await self.declare(FOO, W1)
            await self.declare(evolve(W1, deleted=True, broker="amqp://b"))
            self.assertIsNone(self.catalogue.instance("w1"))
            self.assertEqual(list(self.catalogue.instances("foo")), [])
            [tombstone] = self.catalogue.tombstones(Instance.kind)
            self.assertEqual((tombstone.name, tombstone.broker), ("w1", "amqp://b"))

        async def test_survives(self) -> None:
            """Another catalogue of the same store holds what this one acknowledged."""
            written = await self.declare(FOO, W1)
            again = fixture(self)
            await again.load()
            self.assertEqual((again.app("foo"), again.instance("w1")), written)

        async def test_versions_grow(self) -> None:
            """Each change has a higher version than all before it, and names this branch."""
            versions = []
            for number in range(5):
                [written] = await self.declare(evolve(W1, max_concurrency=number + 2))
                versions.append(written.version)
            self.assertEqual(versions, sorted(set(versions)))
            self.assertEqual({version.branch for version in versions}, {"b1"})

        async def test_versions_grow_past_others(self) -> None:
            """A change here beats what came from a branch whose clock is ahead."""
            ahead = evolve(W1, version=Version(1 << 62, "b2"))
            await self.catalogue.merge([ahead])
            [written] = await self.declare(evolve(W1, max_concurrency=2))
            self.assertLess(ahead.version, written.version)

        async def test_no_change(self) -> None:
            """Declaring what holds already writes nothing and tells nobody."""
            [first] = await self.declare(W1)
            self.catalogue.subscribe(self.told.append)
            [second] = await self.declare(W1)
            self.assertEqual((second, self.told), (first, []))

        async def test_subscribers(self) -> None:
            """Subscribers hear of each change; one that fails hurts neither the others nor the writer."""

            def fail(_: Any) -> None:
                raise RuntimeError("no ear")

            self.catalogue.subscribe(fail)
            self.catalogue.subscribe(self.told.append)
            written = await self.declare(FOO, W1)
            self.assertEqual(self.told, [written])
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

        async def test_refused_decision(self) -> None:
            """What `decide` raises reaches the caller, and nothing was changed."""

            def decide() -> Any:
                raise LookupError("no")

            try:
                await self.catalogue.change(decide)
            except LookupError:
                pass
            else:
                self.fail("nothing was raised")
            self.assertEqual(list(self.catalogue.apps()), [])

        async def test_decisions_do_not_overlap(self) -> None:
            """Changes that are asked for at once each see what those before them wrote."""

            def count_up() -> Any:
                held = self.catalogue.instance("w1")
                return [evolve(W1, generation=held.generation + 1 if held else 1)]

            await gatherResults([self.catalogue.change(count_up) for _ in range(20)])
            self.assertEqual(self.catalogue.instance("w1").generation, 20)

        async def test_caller_gone(self) -> None:
            """A write whose caller lost interest is made and seen all the same."""
            change = self.catalogue.change(lambda: [W1])
            change.addErrback(lambda _: None)
            change.cancel()
            await self.declare(FOO)
            self.assertIsNotNone(self.catalogue.instance("w1"))

        async def test_merge(self) -> None:
            """Of two versions the higher one holds; only what was news is told."""
            newer = evolve(W1, max_concurrency=5, version=Version(20, "b2"))
            older = evolve(W1, max_concurrency=3, version=Version(10, "b3"))
            self.assertEqual(await self.catalogue.merge([newer]), (newer,))
            self.assertEqual(await self.catalogue.merge([older, newer]), ())
            self.assertEqual(self.catalogue.instance("w1"), newer)

        async def test_merge_is_durable_and_told(self) -> None:
            """What was taken over is told, and another catalogue of the same store holds it."""
            self.catalogue.subscribe(self.told.append)
            there = evolve(FOO, version=Version(20, "b2"))
            dead = evolve(W1, deleted=True, version=Version(21, "b2"))
            await self.catalogue.merge([there, dead, evolve(dead, version=Version(19, "b2"))])
            self.assertEqual([set(news) for news in self.told], [{there, dead}])
            again = fixture(self)
            await again.load()
            self.assertEqual((again.app("foo"), list(again.tombstones(Instance.kind))), (there, [dead]))

        async def test_merge_keeps_what_was_first(self) -> None:
            """A declaration of the version that is held already is no news."""
            first = evolve(W1, version=Version(20, "b2"))
            await self.catalogue.merge([first])
            self.assertEqual(await self.catalogue.merge([evolve(first, max_concurrency=9)]), ())
            self.assertEqual(self.catalogue.instance("w1"), first)

        async def test_deleted_stays_deleted(self) -> None:
            """What comes late from a branch that had not heard of a deletion does not come back."""
            await self.declare(W1)
            before = self.catalogue.instance("w1")
            await self.declare(evolve(W1, deleted=True))
            self.assertEqual(await self.catalogue.merge([before]), ())
            self.assertIsNone(self.catalogue.instance("w1"))

        async def test_prune(self) -> None:
            """Old tombstones are forgotten, young ones and the living are not."""
            hour = 3_600_000 << 16
            old = evolve(W1, name="old", deleted=True, version=Version(1 * hour, "b2"))
            young = evolve(W1, name="young", deleted=True, version=Version(3 * hour, "b2"))
            living = evolve(W1, version=Version(1 * hour, "b2"))
            await self.catalogue.merge([old, young, living])
            self.assertEqual(await self.catalogue.prune(2 * 3600.0), 1)
            again = fixture(self)
            await again.load()
            for catalogue in (self.catalogue, again):
                self.assertEqual([one.name for one in catalogue.tombstones(Instance.kind)], ["young"])
                self.assertIsNotNone(catalogue.instance("w1"))

        async def test_refresh(self) -> None:
            """A refresh of what nobody touched finds nothing."""
            await self.declare(FOO, W1)
            self.assertEqual(await self.catalogue.refresh(), frozenset())

    return CatalogueTests
