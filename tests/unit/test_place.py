"""Where instances go, and that a name is had once: several branches in one process."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from cyme.controller.claiming import CLAIM_WITHIN
from cyme.declarations import BranchState
from cyme.errors import (
    BranchAway,
    BranchCordoned,
    InvalidParameter,
    NameClaimed,
    NameTaken,
    NoPlace,
    NoSuchBranch,
    NoSuchInstance,
)
from tests.support.memorycluster import Branch, Cluster


class PlaceCase(SynchronousTestCase):
    """A cluster of three branches with an app `foo`."""

    delay = 0.0

    def setUp(self) -> None:
        self.cluster = Cluster(self, self.delay)
        self.one, self.two, self.three = (self.cluster.branch(id) for id in ("b1", "b2", "b3"))
        self.cluster.populate(self.one)

    def add(self, name: str | None = None, at: Branch | None = None, **params: Any) -> str:
        """The branch that an instance is placed on."""
        controller = (at or self.one).controller
        created, details = self.cluster.result(controller.instances.add("foo", name, **params))
        self.assertTrue(created)
        return str(details["branch"])

    def refused(self, error: type[Exception], name: str | None = None, **params: Any) -> Any:
        before = dict(self.one.owners())
        problem = self.cluster.refused(error, self.one.controller.instances.add("foo", name, **params))
        self.assertEqual(self.one.owners(), before)
        return problem


class PlacementTests(PlaceCase):
    """Where an instance goes."""

    def test_round_robin(self) -> None:
        """Without a word, branches take instances in turn, whichever is asked."""
        placed = [self.add(at=branch) for branch in (self.one, self.one, self.two, self.one, self.three)]
        self.assertEqual(set(placed[:3]), {"b1", "b2", "b3"})
        self.assertEqual(placed[3:], placed[:2])

    def test_least_loaded(self) -> None:
        """The branch with the least to do for each processor gets the next instance."""
        self.two.presence.facts |= {"cpus": 4, "load_average": [2.0, 9.0, 9.0]}
        self.three.presence.facts |= {"load_average": None}
        placed = [self.add(placement="least-loaded") for _ in range(7)]
        self.assertEqual(placed, ["b1", "b3", "b2", "b2", "b1", "b3", "b2"])

    def test_labels(self) -> None:
        """Only branches that have all labels get an instance, in turn."""
        for branch in (self.two, self.three):
            branch.presence.facts["labels"] = {"gpu": "yes"}
        self.three.presence.facts["labels"] = {"gpu": "yes", "zone": "a"}
        placed = [self.add(label=["gpu=yes"]) for _ in range(4)]
        self.assertEqual(placed, ["b2", "b3", "b2", "b3"])
        self.assertEqual(self.add("w1", label=["zone=a", "gpu=yes"]), "b3")
        self.assertEqual(self.add(label=["gpu=yes"], placement="least-loaded"), "b2")
        self.assertEqual(self.one.instance("w1").labels, ("gpu=yes", "zone=a"))

    def test_no_such_labels(self) -> None:
        """Labels that no branch has are named in the refusal."""
        self.assertIn("gpu=yes and zone=a", str(self.refused(NoPlace, label=["zone=a", "gpu=yes"])))

    def test_pinned(self) -> None:
        """A branch that is named gets the instance, if it has the labels."""
        self.two.presence.facts["labels"] = {"gpu": "yes"}
        self.assertEqual(self.add(branch="b2", label=["gpu=yes"]), "b2")
        self.assertIn("gpu=yes", str(self.refused(InvalidParameter, branch="b3", label=["gpu=yes"])))

    def test_cannot_be_pinned(self) -> None:
        """Who is unknown, away or cordoned gets nothing, and each is another refusal."""
        self.cluster.populate(self.three, "w3")
        self.three.kill()
        self.cluster.result(self.one.controller.branches.cordon("b2"))
        self.refused(NoSuchBranch, branch="b9")
        self.refused(BranchAway, branch="b3")
        self.refused(BranchCordoned, branch="b2")

    def test_bad_parameters(self) -> None:
        """What makes no sense is refused before anybody is asked."""
        for wrong in (
            {"placement": "best"},
            {"placement": "round-robin", "branch": "b2"},
            {"label": ["gpu"]},
            {"label": ["gpu=yes", "gpu=no"]},
            {"branch": 7},
        ):
            self.refused(InvalidParameter, "w1", **wrong)

    def test_other_labels(self) -> None:
        """An instance that exists is not placed anew by asking for it with other labels."""
        self.two.presence.facts["labels"] = {"gpu": "yes"}
        self.add("w1", label=["gpu=yes"])
        for same in ({}, {"label": ["gpu=yes"]}, {"placement": "least-loaded"}):
            self.assertFalse(self.cluster.result(self.one.controller.instances.add("foo", "w1", **same))[0])
        self.refused(InvalidParameter, "w1", label=["zone=a"])

    def test_just_gone(self) -> None:
        """A branch that is gone or was cordoned a moment ago is passed over."""
        for branch in (self.one, self.two):
            branch.presence.facts["labels"] = {"gpu": "yes"}
        self.one.bus.disown("Branch", "b1")
        self.one.actors._owned.discard(("Branch", "b1"))
        self.assertEqual(self.add(label=["gpu=yes"]), "b2")
        self.cluster.is_split = True
        self.cluster.result(self.two.controller.branches.cordon("b2"))
        self.refused(NoPlace, label=["gpu=yes"])

    def test_cordoned(self) -> None:
        """Instances are placed on branches that are not cordoned, on none where all are."""
        for id in ("b1", "b3"):
            self.cluster.result(self.two.controller.branches.cordon(id))
        self.assertEqual({self.add() for _ in range(3)}, {"b2"})
        self.assertEqual(self.add(placement="least-loaded"), "b2")
        self.cluster.result(self.two.controller.branches.cordon("b2"))
        self.refused(NoPlace)
        self.refused(NoPlace, placement="least-loaded")
        self.cluster.result(self.two.controller.branches.uncordon("b3"))
        self.assertEqual(self.add(), "b3")

    def test_thrown_at_a_cordoned_one(self) -> None:
        """Work that is on its way to a branch when that is cordoned goes to another one."""
        self.two.bus.decline("Instance")
        self.three.bus.decline("Instance")
        asked = self.two.controller.instances.add("foo", "w1")
        self.one.catalogue.change(lambda: [BranchState(name="b1", is_cordoned=True)])
        self.two.bus.accept("Instance")
        self.assertEqual(self.cluster.result(asked)[1]["branch"], "b2")


class UniqueTests(PlaceCase):
    """See Note [Names are unique]."""

    delay = 0.05

    def test_at_once(self) -> None:
        """Of two branches that are asked for a name at one moment one creates it, the other finds it."""
        asked = [branch.controller.instances.add("foo", "w1") for branch in (self.one, self.two, self.three)]
        self.cluster.turn(1.0)
        outcomes = [self.successResultOf(one) for one in asked]
        self.assertEqual(sorted(created for created, _ in outcomes), [False, False, True])
        self.assertEqual(len({details["branch"] for _, details in outcomes}), 1)
        owners = [branch.owners() for branch in (self.one, self.two, self.three)]
        self.assertEqual(owners, [owners[0]] * 3)

    def test_at_once_pinned(self) -> None:
        """So it is when each is to have it itself: the second one's instance is the first one's."""
        asked = [
            branch.controller.instances.add("foo", "w1", branch=branch.id, pool=pool)
            for branch, pool in ((self.one, "solo"), (self.two, "threads"))
        ]
        self.cluster.turn(1.0)
        (first, _), (second, details) = (self.successResultOf(one) for one in asked)
        self.assertEqual((first, second), (True, False))
        self.assertEqual((details["branch"], details["pool"]), ("b1", "threads"))

    def test_other_app(self) -> None:
        """Of two apps that want a name at one moment one gets it; the other hears whose it is."""
        self.cluster.result(self.one.controller.apps.add("bar"))
        asked = [
            self.one.controller.instances.add("foo", "w1"),
            self.two.controller.instances.add("bar", "w1"),
        ]
        self.cluster.turn(1.0)
        self.assertTrue(self.successResultOf(asked[0])[0])
        self.failureResultOf(asked[1], NameTaken)

    def test_not_heard_of(self) -> None:
        """A name whose owner has told nobody of it yet is taken all the same."""
        self.cluster.is_split = True
        self.add("w1", branch="b2")
        self.assertEqual(self.one.owners(), {})
        created, details = self.cluster.result(
            self.one.controller.instances.add("foo", "w1", branch="b1", pool="solo")
        )
        self.assertEqual((created, details["branch"], details["pool"]), (False, "b2", "solo"))
        self.assertEqual(self.one.owners(), {})

    def test_claim_is_held(self) -> None:
        """A claim that another branch has is waited for a moment, and not for ever."""
        release: Any = self.successResultOf(self.two.actors.claim("Instance", "w1"))
        asked = self.one.controller.instances.add("foo", "w1")
        self.cluster.turn(1.0)
        self.assertNoResult(asked)
        release()
        self.cluster.turn(1.0)
        self.assertTrue(self.successResultOf(asked)[0])
        self.successResultOf(self.two.actors.claim("Instance", "w2"))
        asked = self.one.controller.instances.add("foo", "w2")
        self.cluster.turn(CLAIM_WITHIN + 1.0)
        self.failureResultOf(asked, NameClaimed)

    def test_until_it_holds(self) -> None:
        """The claim is given back when the bus would find the owner, and not before."""
        settled: Deferred[None] = Deferred()
        self.one.bus.settled = lambda: settled  # type: ignore[method-assign]
        asked = self.one.controller.instances.add("foo", "w1", branch="b1")
        self.cluster.turn()
        self.assertIn(("Instance", "w1"), self.cluster.switch.claims)
        self.assertNoResult(asked)
        settled.callback(None)
        self.assertTrue(self.cluster.result(asked)[0])
        self.assertEqual(self.cluster.switch.claims, {})

    def test_deleted_meanwhile(self) -> None:
        """An instance of which the asker hears only from its owner that it was deleted is created anew."""
        self.add("w1", branch="b2")
        self.cluster.is_split = True
        self.cluster.result(self.two.controller.instances.delete("foo", "w1"))

        async def gone(*_: Any) -> None:
            raise NoSuchInstance("w1", "foo")

        self.patch(self.one.controller.instances, "_call_owner", gone)
        self.assertEqual(self.add("w1", branch="b2", pool="solo"), "b2")
        self.assertEqual(self.two.instance("w1").pool, "solo")

    def test_refused(self) -> None:
        """Who is refused leaves no claim behind."""
        self.cluster.result(self.one.controller.apps.delete("foo"))
        self.cluster.populate(self.one)
        work = {"app": "bar", "generated": "x", "wait": 0.0}
        asked = self.one.actors.call("Instance", "w1", "add", **work)
        self.cluster.turn()
        self.failureResultOf(asked)
        self.assertEqual(self.cluster.switch.claims, {})

    def test_partition(self) -> None:
        """Where both sides of a partition created a name, the version decides when they meet again."""
        self.cluster.is_split = True
        self.add("w1", branch="b1")
        self.one.bus.disown("Instance", "w1")
        self.cluster.turn(1.0)
        self.add("w1", at=self.two, branch="b2")
        self.cluster.is_split = False
        for here, there in ((self.one, self.two), (self.two, self.one)):
            self.cluster.result(here.catalogue.merge(list(there.store.rows.values())))
        self.assertEqual([branch.owners() for branch in (self.one, self.two)], [{"w1": "b2"}] * 2)
