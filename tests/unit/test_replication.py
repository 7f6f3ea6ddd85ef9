"""Catalogues of several branches become and stay alike."""

from __future__ import annotations

import random
from typing import Any

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.bus.local import LocalBus, Switch
from cyme.catalogue import Catalogue
from cyme.declarations import App, Declaration, Instance, Queue, Rollout, Turn, Version
from cyme.membership import BEAT
from cyme.replication import AHEAD_MOST, MOST_VERSIONS
from cyme.wireforms import NotUnderstood, from_json, to_json
from tests.support.meeting import Cluster, Meeting

FOO = App(name="foo")


def instance(name: str, **fields: Any) -> Instance:
    return Instance(name=name, app="foo", branch="b1", **fields)


class WireTests(SynchronousTestCase):
    """Declarations on the wire."""

    def test_round_trip(self) -> None:
        """What is sent is what arrives, and what has its default is not sent."""
        version = Version(5, "b1")
        turn = Turn("w1", 3, 1.5)
        for one in (
            App(name="foo", broker="amqp://a:b@c//", max_age=2.5, version=version),
            Queue(app="foo", name="q\u00fc", options="{}", paused=True, version=version),
            instance("w1", queues=("a", "b"), is_enabled=False, version=version, deleted=True),
            Rollout(
                app="foo",
                id="1",
                branch="b1",
                waiting=("w2",),
                under_way=(turn,),
                skipped=(("w3", "why"),),
                version=version,
            ),
        ):
            self.assertEqual(from_json(to_json(one)), one)
        self.assertEqual(to_json(FOO), {"kind": "app", "name": "foo"})

    def test_refused(self) -> None:
        """What is no declaration, or says what this version does not know, is refused by name."""
        good = to_json(instance("w1", version=Version(5, "b1")))
        for bad, word in (
            ([], "object"),
            ({"kind": "cluster"}, "cluster"),
            ({**good, "gpu": True}, "gpu"),
            ({**good, "queues": "a"}, "queues"),
            ({**good, "is_enabled": 1}, "is_enabled"),
            ({**good, "max_concurrency": 2**70}, "max_concurrency"),
            ({**good, "version": [0, "b1"]}, "version"),
            ({**good, "version": [5]}, "version"),
            ({**good, "created_at": float("nan")}, "created_at"),
            ({**good, "app": "\ud800"}, "app"),
            ({**good, "name": "../x"}, "name"),
            ({name: value for name, value in good.items() if name != "app"}, "app"),
        ):
            problem = self.assertRaises(NotUnderstood, from_json, bad)
            self.assertIn(word, str(problem))


class ReplicationTests(SynchronousTestCase):
    """Branches on one bus."""

    def setUp(self) -> None:
        self.cluster = Cluster()
        self.b1, self.b2 = self.cluster.start("b1"), self.cluster.start("b2")

    def write(self, branch: Meeting, *declarations: Declaration) -> None:
        branch.catalogue.change(lambda: declarations)
        self.cluster.turn()

    def assert_alike(self) -> None:
        digests = {id: branch.catalogue.digest() for id, branch in self.cluster.branches.items()}
        self.assertEqual(len(set(digests.values())), 1, digests)

    def test_news(self) -> None:
        """What one branch writes the others hold at once, with its version."""
        self.write(self.b1, FOO, instance("w1"))
        self.assertEqual(self.b2.catalogue.instance("w1"), self.b1.catalogue.instance("w1"))
        self.write(self.b2, evolve(self.b2.catalogue.instance("w1"), deleted=True))
        self.assertIsNone(self.b1.catalogue.instance("w1"))
        self.assert_alike()

    def test_newcomer(self) -> None:
        """Who comes gets all that is declared, in pages, and what was deleted stays so."""
        many = [instance(f"w{number}") for number in range(MOST_VERSIONS + 10)]
        self.write(self.b1, FOO, *many)
        self.write(self.b1, evolve(self.b1.catalogue.instance("w7"), deleted=True))
        self.cluster.start("b3")
        self.cluster.turn(5)
        self.assertIsNone(self.cluster.branches["b3"].catalogue.instance("w7"))
        self.assert_alike()

    def test_both_away(self) -> None:
        """What each wrote without the other, both have after they have met; the later version holds."""
        self.write(self.b1, FOO)
        self.cluster.kill("b2")
        self.write(self.b1, instance("w1"), instance("w2", max_concurrency=2))
        other = Catalogue(self.cluster.clock, self.cluster.stores["b2"], "b2")
        other.load()
        self.cluster.clock.advance(1)
        other.change(lambda: [instance("w2", max_concurrency=9), instance("w3")])
        self.cluster.start("b2")
        self.cluster.turn(3 * BEAT)
        names = [one.name for one in self.b1.catalogue.instances()]
        self.assertEqual(names, ["w1", "w2", "w3"])
        self.assertEqual(self.b1.catalogue.instance("w2").max_concurrency, 9)
        self.assert_alike()

    def test_lost_news(self) -> None:
        """What a branch did not hear it fetches when a beat tells that there is more."""
        taken = self.b2.replication._take
        self.b2.replication._take = lambda branch, values: 0  # type: ignore[method-assign]
        self.write(self.b1, FOO)
        self.assertIsNone(self.b2.catalogue.app("foo"))
        self.b2.replication._take = taken  # type: ignore[method-assign]
        self.cluster.turn(4 * BEAT)
        self.assertEqual(self.b2.catalogue.app("foo"), self.b1.catalogue.app("foo"))

    def test_answers_wait(self) -> None:
        """An answer of another branch comes after what it wrote before has been taken over."""
        held: list[Any] = []
        merge = self.b2.catalogue.merge

        def slow(declarations: Any) -> Any:
            merging = merge(declarations)
            held.append(merging)
            merging.pause()
            return merging

        self.patch(self.b2.catalogue, "merge", slow)
        self.b1.catalogue.change(lambda: [FOO])
        asking = self.b2.actors.call("Catalogue", "b1", "versions", after=None, limit=5)
        self.cluster.turn()
        self.assertNoResult(asking)
        held[0].unpause()
        self.cluster.turn()
        self.assertEqual(len(self.successResultOf(asking)), 1)

    def test_strange(self) -> None:
        """What this version does not understand, or comes from the future, is left out and said once."""
        version = [int((self.cluster.clock.seconds() + 2 * AHEAD_MOST) * 1000) << 16, "b1"]
        good = to_json(evolve(FOO, version=Version(1, "b1")))
        for value in ({**good, "version": version}, {**good, "new_field": 1}, 7):
            for _ in range(2):
                self.b2.replication.news(None, branch="b1", declarations=[value])
                self.cluster.turn()
            self.assertIsNone(self.b2.catalogue.app("foo"))
        self.assertEqual(len(self.b2.replication._complaints), 3)
        self.b2.replication.news(None, branch="b1", declarations=[7, good])
        self.cluster.turn()
        self.assertIsNotNone(self.b2.catalogue.app("foo"))

    def test_quiet(self) -> None:
        """Branches that are alike ask each other nothing."""
        self.write(self.b1, FOO)
        self.cluster.turn(10)
        before = self.b1.actors.counts["requests"]
        self.cluster.turn(20 * BEAT)
        # Beats alone: those of both.
        self.assertLessEqual(self.b1.actors.counts["requests"] - before, 2 * 21)


class BadBus(LocalBus):
    """A bus that loses, doubles, delays and reorders what it carries, between those that it parts."""

    cluster: BadCluster
    id: str

    def enqueue(self, body: bytes, expires: float) -> bool:
        chance = self.cluster.chance
        if self.cluster.is_bad:
            if chance.random() < 0.3:
                return True
            for _ in range(chance.choice((1, 1, 2))):
                self._clock.callLater(chance.uniform(0, 3), self._arrive, body, expires)
            return True
        return super().enqueue(body, expires)

    def _arrive(self, body: bytes, expires: float) -> None:
        if self._receive is not None:
            super().enqueue(body, expires)


class BadCluster(Cluster):
    """Branches on a bad bus, until it heals."""

    def __init__(self, seed: int) -> None:
        super().__init__(Clock())
        self.chance = random.Random(seed)
        self.is_bad = True
        self.sides: dict[str, Switch] = {}

    def make_bus(self, id: str) -> Any:
        bus = BadBus(self.clock, self.sides.get(id, self.switch))
        bus.cluster, bus.id = self, id
        return bus


class BadNetworkTests(SynchronousTestCase):
    """Whatever happens to messages, all catalogues end alike."""

    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def test_converges(self, seed: int) -> None:
        """After any loss, doubling, delay, reordering, partition and kill all hold the latest of each."""
        cluster = BadCluster(seed)
        chance = cluster.chance
        other_side = Switch()
        ids = ["b1", "b2", "b3"]
        for id in ids:
            cluster.start(id)
        written: dict[str, Any] = {}
        for _ in range(25):
            id = chance.choice(ids)
            if chance.random() < 0.15:
                # It comes back on one side of a partition or the other.
                cluster.kill(id)
                cluster.sides[id] = chance.choice((cluster.switch, other_side))
                cluster.turn(chance.uniform(0, 10))
                cluster.start(id)
                continue
            catalogue = cluster.branches[id].catalogue
            name = f"w{chance.randrange(5)}"
            there = catalogue.instance(name)
            gone = there is not None and chance.random() < 0.4
            wanted = evolve(there or instance(name), max_concurrency=chance.randrange(1, 99), deleted=gone)
            (stored,) = self.successResultOf(catalogue.change(lambda one=wanted: [one]))
            if name not in written or written[name].version < stored.version:
                written[name] = stored
            cluster.turn(chance.choice((0, 0.3, 2)))
        for id in ids:
            cluster.kill(id)
            cluster.sides.pop(id, None)
        cluster.is_bad = False
        for id in ids:
            cluster.start(id)
        cluster.turn(10 * BEAT)
        for id in ids:
            for name, latest in written.items():
                held = cluster.branches[id].catalogue.held(("instance", name))
                self.assertEqual(held, latest, f"{id}, seed {seed}")
