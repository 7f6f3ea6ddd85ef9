"""Branches that are away and whose instances go to others."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from cyme.errors import BranchLives, NameClaimed, NoSuchBranch
from tests.support.memorycluster import Cluster

AFTER = 30.0


class EvacuateTests(SynchronousTestCase):
    """A cluster of three branches, of which the third has instances and dies."""

    def setUp(self) -> None:
        self.cluster = Cluster(self)
        self.one, self.two, self.three = (
            self.cluster.branch(id, evacuate_after=AFTER if id != "b3" else None) for id in ("b1", "b2", "b3")
        )
        self.cluster.populate(self.three, "w1", "w2", "w3", "w4")
        self.cluster.turn()

    def evacuate(self, id: str = "b3") -> object:
        return self.two.controller.branches.evacuate(id)

    def test_rehomed(self) -> None:
        """Its instances get owners among those that live, spread over them."""
        self.three.kill()
        answer = self.cluster.result(self.evacuate())
        self.assertEqual(answer["branch"], "b3")
        self.assertEqual(sorted(answer["moved"].values()), ["b1", "b1", "b2", "b2"])
        self.assertEqual(answer["left"], {})
        self.cluster.turn()
        for branch in (self.one, self.two):
            self.assertEqual(branch.owners(), answer["moved"])
        for name, owner in answer["moved"].items():
            self.assertTrue(self.cluster.branches[owner].bus.owns("Instance", name))
        self.assertIn("branch-evacuated", self.two.kinds())
        self.assertEqual(self.cluster.switch.claims, {})

    def test_returns(self) -> None:
        """A branch that returns after all has none of them any more."""
        self.three.kill()
        moved = self.cluster.result(self.evacuate())["moved"]
        again = self.cluster.branch("b3")
        self.assertEqual(again.owners(), moved)
        self.assertFalse(again.bus.owns("Instance", "w1"))

    def test_returns_meanwhile(self) -> None:
        """What it has when it returns in the middle, it keeps."""
        self.three.kill()
        rehome = self.two.controller.evacuating._rehome

        async def revive(branch: str, name: str, target: str) -> bool:
            if name == "w2":
                self.three.lives = True
            return await rehome(branch, name, target)

        self.two.controller.evacuating._rehome = revive  # type: ignore[method-assign]
        self.cluster.refused(BranchLives, self.evacuate())
        owners = self.two.owners()
        self.assertEqual((owners["w3"], owners["w4"]), ("b3", "b3"))
        self.assertNotEqual(owners["w1"], "b3")
        self.assertEqual(self.cluster.switch.claims, {})

    def test_lives(self) -> None:
        """A branch that lives is not evacuated, and an unknown one can't be."""
        self.cluster.refused(BranchLives, self.evacuate())
        self.cluster.refused(NoSuchBranch, self.evacuate("b9"))
        self.assertEqual(set(self.two.owners().values()), {"b3"})

    def test_one_at_a_time(self) -> None:
        """While one branch evacuates, another one does not."""
        self.three.kill()
        self.successResultOf(self.one.actors.claim("Branch", "b3"))
        self.cluster.refused(NameClaimed, self.evacuate())

    def test_labels(self) -> None:
        """What no branch may have is left, with the reason; what was on its way arrives."""
        # What is on its way would be called back.
        self.three.controller.moving.stopService()
        self.cluster.declare(self.three, evolve(self.three.instance("w1"), labels=("gpu=yes",)))
        for name in ("w2", "w3", "w4"):
            self.cluster.declare(self.three, evolve(self.three.instance(name), moving_to="b1"))
        self.three.kill()
        answer = self.cluster.result(self.evacuate())
        self.assertEqual(answer["moved"], dict.fromkeys(["w2", "w3", "w4"], "b1"))
        self.assertIn("gpu=yes", answer["left"]["w1"])
        self.assertIsNone(self.two.instance("w2").moving_to)

    def test_automatic(self) -> None:
        """After the time that was set one branch evacuates it, and only then."""
        self.three.kill()
        self.cluster.turn(AFTER - 1.0)
        self.assertEqual(set(self.two.owners().values()), {"b3"})
        self.cluster.turn(15.0)
        self.assertEqual(set(self.two.owners().values()), {"b1", "b2"})
        kinds = [branch.kinds().count("branch-evacuated") for branch in (self.one, self.two)]
        self.assertEqual(kinds, [1, 0])

    def test_came_back(self) -> None:
        """A branch that was away twice for less than that keeps what it has."""
        for _ in range(2):
            self.cluster.branches["b3"].kill()
            self.cluster.turn(AFTER - 10.0)
            self.cluster.branch("b3")
            self.cluster.turn(10.0)
        self.assertEqual(set(self.two.owners().values()), {"b3"})

    def test_bus_away(self) -> None:
        """Who is away from the bus evacuates nobody, and begins to count when the bus is back."""
        self.three.kill()
        self.two.kill()
        self.one.bus.stop()
        self.cluster.turn(2 * AFTER)
        self.assertEqual(set(self.one.owners().values()), {"b3"})
        self.one.bus.start(self.one.actors.receive)
        self.cluster.turn(AFTER - 5.0)
        self.assertEqual(set(self.one.owners().values()), {"b3"})
        self.cluster.turn(20.0)
        self.assertEqual(set(self.one.owners().values()), {"b1"})

    def test_never(self) -> None:
        """Unless a time is set, nobody is evacuated by himself."""
        self.one.kill()
        self.two.kill()
        self.cluster.turn(10 * AFTER)
        self.assertEqual(set(self.three.owners().values()), {"b3"})
