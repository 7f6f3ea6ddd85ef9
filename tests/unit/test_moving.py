"""Cordoned and drained branches: what moves, in which order, and what a kill leaves."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from cyme.controller.moving import RETRY_AFTER
from cyme.declarations import Instance
from cyme.errors import BranchAway, NoSuchBranch
from tests.fakes.store import MemoryStore
from tests.support.memorycluster import TIMEOUT, Branch, Cluster


class DrainCase(SynchronousTestCase):
    """Two branches, of which the first has three instances."""

    def setUp(self) -> None:
        self.cluster = Cluster(self)
        self.one = self.cluster.branch("b1")
        self.two = self.cluster.branch("b2")
        self.cluster.populate(self.one, "w1", "w2", "w3")
        self.cluster.turn()

    def drain(self, branch: str = "b1", at: Branch | None = None) -> Any:
        return self.cluster.result((at or self.two).controller.branches.drain(branch))

    def draining(self, branch: str = "b1", at: Branch | None = None) -> Any:
        return (at or self.two).controller.branches.get(branch)["draining"]

    def hold(self, branch: Branch, *names: str) -> None:
        """Have workers on a branch be starting until further notice."""
        for name in names:
            branch.supervisor.statuses[name] = {"state": "starting", "is_current": True}


class CordonTests(DrainCase):
    """Branches that take no new instances."""

    def test_durable(self) -> None:
        """A cordon is known everywhere, and holds when the branch comes back."""
        answer = self.cluster.result(self.two.controller.branches.cordon("b1"))
        self.assertEqual(answer, {"is_cordoned": True, "draining": None})
        self.cluster.turn()
        for branch in (self.one, self.two):
            self.assertTrue(branch.controller.branches.get("b1")["is_cordoned"])
        self.one.kill()
        again = self.cluster.branch("b1")
        self.assertFalse(again.bus.accepts("Instance"))
        self.cluster.result(self.two.controller.branches.uncordon("b1"))
        self.assertTrue(again.bus.accepts("Instance"))
        self.assertEqual(again.kinds(), ["branch-uncordoned"])

    def test_away(self) -> None:
        """A branch that is away learns of its cordon when it returns; an unknown one has none."""
        self.one.kill()
        self.cluster.result(self.two.controller.branches.cordon("b1"))
        self.cluster.refused(NoSuchBranch, self.two.controller.branches.cordon("b9"))
        again = self.cluster.branch("b1")
        self.assertFalse(again.bus.accepts("Instance"))

    def test_again(self) -> None:
        """What is asked for twice happens once."""
        for _ in range(2):
            self.cluster.result(self.two.controller.branches.cordon("b1"))
        self.assertEqual(self.one.kinds().count("branch-cordoned"), 1)


class DrainTests(DrainCase):
    """Branches whose instances are moved."""

    def test_all(self) -> None:
        """All instances are on another branch in the end, which owns them."""
        answer = self.drain()
        self.assertTrue(answer["is_cordoned"])
        self.assertEqual(answer["draining"]["left"], ["w1", "w2", "w3"])
        self.cluster.turn(5.0)
        for branch in (self.one, self.two):
            self.assertEqual(branch.owners(), dict.fromkeys(["w1", "w2", "w3"], "b2"))
        shown = self.draining()
        self.assertEqual(shown["moved"], dict.fromkeys(["w1", "w2", "w3"], "b2"))
        self.assertEqual((shown["left"], shown["moving"], shown["problem"]), ([], {}, None))
        self.assertIsNotNone(shown["ended_at"])
        self.assertTrue(self.two.bus.owns("Instance", "w1"))
        self.assertFalse(self.one.bus.owns("Instance", "w1"))
        self.assertEqual(self.one.kinds().count("moved"), 3)
        self.assertEqual(self.one.kinds()[-1], "branch-drained")
        details = self.cluster.result(self.one.controller.instances.get("foo", "w1"))
        self.assertEqual((details["branch"], details["node"]), ("b2", "w1@host-of-b2"))

    def test_started_first(self) -> None:
        """An instance keeps its owner until its worker runs on the other branch, and the next one waits."""
        self.hold(self.two, "w1")
        self.drain()
        self.cluster.turn(5.0)
        self.assertEqual(self.draining()["moving"], {"w1": "b2"})
        self.assertEqual(self.draining()["left"], ["w2", "w3"])
        self.assertEqual(self.two.instance("w1").branch, "b1")
        self.assertTrue(self.one.bus.owns("Instance", "w1"))
        self.two.supervisor.statuses.clear()
        self.cluster.turn(5.0)
        self.assertEqual(set(self.two.owners().values()), {"b2"})

    def test_writes_meanwhile(self) -> None:
        """What is changed of an instance while it is moved is changed."""
        self.hold(self.two, "w1")
        self.drain()
        self.cluster.turn(1.0)
        self.cluster.result(self.two.controller.instances.set_autoscale("foo", "w1", max=5))
        self.two.supervisor.statuses.clear()
        self.cluster.turn(5.0)
        moved = self.two.instance("w1")
        self.assertEqual((moved.branch, moved.max_concurrency, moved.moving_to), ("b2", 5, None))

    def test_deleted_meanwhile(self) -> None:
        """What is deleted while it is moved is gone, and the rest is moved."""
        self.hold(self.two, "w1")
        self.drain()
        self.cluster.turn(1.0)
        self.cluster.result(self.two.controller.instances.delete("foo", "w1"))
        self.cluster.turn(5.0)
        self.assertEqual(self.two.owners(), {"w2": "b2", "w3": "b2"})

    def test_uncordoned(self) -> None:
        """A drain is called off at once: what is not moved stays, and nothing is on its way."""
        self.hold(self.two, "w2")
        self.drain()
        self.cluster.turn(5.0)
        self.cluster.result(self.two.controller.branches.uncordon("b1"))
        self.cluster.turn(5.0)
        self.assertEqual(self.two.owners(), {"w1": "b2", "w2": "b1", "w3": "b1"})
        self.assertIsNone(self.two.instance("w2").moving_to)
        self.assertIsNone(self.draining())

    def test_disabled(self) -> None:
        """An instance that is not to run is moved without a worker."""
        self.cluster.result(self.one.controller.instances.disable("foo", "w1"))
        self.drain()
        self.cluster.turn(5.0)
        self.assertEqual(self.two.owners()["w1"], "b2")

    def test_same_machine(self) -> None:
        """Where two workers would have one node name, the old one ends before the new one is waited for."""
        third = self.cluster.branch("b3", host="host-of-b1")
        self.cluster.result(self.one.controller.branches.cordon("b2"))
        seen: list[tuple[str, str | None]] = []
        third.catalogue.subscribe(
            lambda told: seen.extend(
                (one.branch, one.moving_to) for one in told if isinstance(one, Instance) and one.name == "w1"
            )
        )
        self.drain()
        self.cluster.turn(5.0)
        self.assertEqual(set(third.owners().values()), {"b3"})
        self.assertEqual(seen, [("b3", None)])

    def test_labels(self) -> None:
        """An instance that was placed by labels is moved to a branch that has them, or stays."""
        self.cluster.declare(self.one, evolve(self.one.instance("w1"), labels=("gpu=yes",)))
        self.drain()
        self.cluster.turn(5.0)
        self.assertEqual(self.two.owners(), {"w1": "b1", "w2": "b2", "w3": "b2"})
        self.assertIn("gpu=yes", self.draining()["problem"])
        third = self.cluster.branch("b3")
        third.presence.facts["labels"] = {"gpu": "yes"}
        self.cluster.turn(RETRY_AFTER + 5.0)
        self.assertEqual(self.two.owners()["w1"], "b3")
        self.assertIsNone(self.draining()["problem"])
        self.assertIsNotNone(self.draining()["ended_at"])

    def test_nobody(self) -> None:
        """A branch that is alone keeps what it has, and says why."""
        self.two.kill()
        self.cluster.result(self.one.controller.branches.drain("b1"))
        self.cluster.turn(5.0)
        self.assertIn("no live branch takes new instances", self.draining(at=self.one)["problem"])
        self.assertEqual(set(self.one.owners().values()), {"b1"})
        self.cluster.branch("b2")
        self.cluster.turn(RETRY_AFTER + 5.0)
        self.assertEqual(set(self.one.owners().values()), {"b2"})

    def test_does_not_start(self) -> None:
        """An instance that fails on one branch goes to another one; the others are not held up."""
        self.two.supervisor.statuses["w1"] = {"state": "backoff", "failures": 1}
        third = self.cluster.branch("b3")
        third.presence.facts["load_average"] = [5.0]
        self.drain()
        self.cluster.turn(5.0)
        self.assertEqual(self.two.owners()["w1"], "b1")
        self.assertIsNone(self.two.instance("w1").moving_to)
        self.assertEqual(self.draining()["left"], ["w1"])
        self.assertIn("'w1'", self.draining()["problem"])
        self.cluster.turn(RETRY_AFTER)
        self.assertEqual(self.two.owners()["w1"], "b3")

    def test_too_slow(self) -> None:
        """A worker that does not come in time is not waited for any longer."""
        self.hold(self.two, "w1")
        self.drain()
        self.cluster.turn(TIMEOUT + 5.0)
        self.assertEqual(self.two.owners(), {"w1": "b1", "w2": "b2", "w3": "b2"})
        self.assertIn("60 s", self.draining()["problem"])

    def test_target_dies(self) -> None:
        """When the branch that is to get an instance dies, another one gets it."""
        self.hold(self.two, "w1")
        third = self.cluster.branch("b3")
        third.presence.facts["load_average"] = [5.0]
        self.drain()
        self.cluster.turn(1.0)
        self.assertEqual(self.one.instance("w1").moving_to, "b2")
        self.two.kill()
        self.cluster.turn(RETRY_AFTER + 10.0)
        self.assertEqual(set(third.owners().values()), {"b3"})

    def test_target_cordoned(self) -> None:
        """A branch that is cordoned while an instance is on its way to it does not get it."""
        self.hold(self.two, "w1")
        third = self.cluster.branch("b3")
        third.presence.facts["load_average"] = [5.0]
        self.drain()
        self.cluster.turn(1.0)
        self.cluster.result(self.one.controller.branches.cordon("b2"))
        self.cluster.turn(RETRY_AFTER + 10.0)
        self.assertEqual(set(third.owners().values()), {"b3"})

    def test_not_alive(self) -> None:
        """Only a branch that lives can be drained or shut down."""
        self.one.kill()
        for verb in ("drain", "shutdown"):
            self.cluster.refused(BranchAway, getattr(self.two.controller.branches, verb)("b1"))
            self.cluster.refused(NoSuchBranch, getattr(self.two.controller.branches, verb)("b9"))

    def test_stopping(self) -> None:
        """A branch that stops takes no new instance while its workers finish."""
        self.one.controller.moving.stopService()
        placed = {
            self.cluster.result(self.one.controller.instances.add("foo", None))[1]["branch"] for _ in range(3)
        }
        self.assertEqual(placed, {"b2"})

    def test_shut_down(self) -> None:
        """A branch stops once it has answered."""
        asked = self.two.controller.branches.shutdown("b1")
        self.cluster.turn()
        self.assertIsNone(self.successResultOf(asked))
        self.assertEqual(self.one.shut_down, 0)
        self.cluster.turn(1.0)
        self.assertEqual((self.one.shut_down, self.two.shut_down), (1, 0))


class MortalStore(MemoryStore):
    """A store whose branch dies at one of its writes.

    :ivar lives_for: how many more writes succeed; None for no end.
    :ivar after: whether the last one is stored.
    """

    lives_for: int | None = None
    after = False

    def save(self, declarations: Any) -> Deferred[None]:
        if self.lives_for is None:
            return super().save(declarations)
        self.lives_for -= 1
        if self.lives_for >= 0:
            return super().save(declarations)
        if self.after and self.lives_for == -1:
            super().save(declarations)
        return Deferred()


class KillTests(SynchronousTestCase):
    """A branch that is killed in the middle of a drain."""

    def check(self, victim: str, lives_for: int, after: bool) -> bool:
        """Drain a branch while one of two dies at a write, and see how it ends.

        :return: whether it died at all.
        """
        cluster = Cluster(self)
        one, two = cluster.branch("b1"), cluster.branch("b2")
        cluster.populate(one, "w1", "w2")
        cluster.turn()
        dying = {"b1": one, "b2": two}[victim]
        rows = dying.store.rows
        store = MortalStore()
        store.rows = rows
        dying.kill()
        dying.store = store
        dying = cluster.branch(victim)
        store.lives_for, store.after = lives_for, after
        other = cluster.branches["b2" if victim == "b1" else "b1"]
        other.controller.branches.drain("b1").addErrback(lambda failure: None)
        cluster.turn(8.0)
        died = store.lives_for < 0
        dying.kill()
        store.lives_for = None
        cluster.turn(2.0)
        again = cluster.branch(victim)
        if not again.catalogue.branch("b1").is_draining:
            cluster.result(cluster.branches["b2"].controller.branches.drain("b1"))
        cluster.turn(3 * RETRY_AFTER)
        for branch in cluster.living():
            self.assertEqual(branch.owners(), {"w1": "b2", "w2": "b2"}, (victim, lives_for, after))
            for name in ("w1", "w2"):
                self.assertIsNone(branch.instance(name).moving_to)
            moved = branch.controller.branches.get("b1")["draining"]["moved"]
            self.assertEqual(moved, {"w1": "b2", "w2": "b2"})
        for branch in list(cluster.living()):
            branch.kill()
        return died

    def test_any_moment(self) -> None:
        """Whichever write either branch dies at, the drain ends with everything moved, and told once."""
        for victim in ("b1", "b2"):
            for after in (False, True):
                lives_for = 0
                while self.check(victim, lives_for, after):
                    lives_for += 1
                self.assertGreater(lives_for, 3)
