"""Which branches live, as each of them sees it."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from cyme.catalogue import Catalogue
from cyme.declarations import App
from cyme.membership import BEAT, GREETED_WITHIN, HELLO_WITHIN, MISSES
from tests.fakes.store import MemoryStore
from tests.support.meeting import Cluster, Meeting, meet


class MembershipTests(SynchronousTestCase):
    """Branches on one bus."""

    def setUp(self) -> None:
        self.cluster = Cluster()

    def members(self) -> dict[str, tuple[str, ...]]:
        return {id: branch.membership.members() for id, branch in self.cluster.branches.items()}

    def test_alone(self) -> None:
        """A branch is its own only member, and tells of itself."""
        b1 = self.cluster.start("b1").membership
        self.cluster.turn(30)
        self.assertEqual(b1.members(), ("b1",))
        about = b1.about("b1")
        assert about is not None
        self.assertEqual((about["id"], about["instances"]), ("b1", 0))
        self.assertIsNone(b1.about("b2"))
        self.assertIsNone(b1.away_since("b1"))

    def test_hello(self) -> None:
        """Who comes knows all others at once, and they know it."""
        for id in ("b1", "b2", "b3"):
            self.cluster.start(id)
        self.assertEqual(set(self.members().values()), {("b1", "b2", "b3")})
        about = self.cluster.branches["b1"].membership.about("b3")
        assert about is not None
        self.assertEqual(about["id"], "b3")
        self.assertEqual([name for name in about if name.startswith("_")], [])

    def test_start(self) -> None:
        """A branch has started when it knows what the others know; alone, or without a bus, soon."""
        b1 = self.cluster.start("b1")
        b1.catalogue.change(lambda: [App(name="foo"), *(App(name=f"a{number}") for number in range(3000))])
        catalogue = Catalogue(self.cluster.clock, MemoryStore(), "b2")
        catalogue.load()
        b2 = meet(self.cluster.clock, catalogue, "b2", self.cluster.make_bus("b2"))
        b2.actors.start()
        started = b2.membership.start()
        self.cluster.turn()
        self.assertNoResult(started)
        self.cluster.turn(GREETED_WITHIN)
        self.successResultOf(started)
        self.assertEqual(catalogue.digest(), b1.catalogue.digest())
        b2.membership.stop()
        self.cluster.turn()
        b2.bus.stop()
        self.successResultOf(b2.membership.start())

    def test_goodbye(self) -> None:
        """Who stops is away for the others at once, with the time."""
        b1 = self.cluster.start("b1").membership
        self.cluster.start("b2")
        said: list[tuple[str, bool]] = []
        b1.subscribe(lambda branch, has_come: said.append((branch, has_come)))
        self.cluster.turn(10)
        now = self.cluster.clock.seconds()
        self.cluster.stop("b2")
        self.assertEqual(b1.members(), ("b1",))
        self.assertEqual(b1.away_since("b2"), now)
        self.cluster.start("b2")
        self.assertEqual(said, [("b2", False), ("b2", True)])
        self.assertIsNone(b1.away_since("b2"))

    def test_silence(self) -> None:
        """Who says nothing for three beats is away, since it was heard last."""
        b1 = self.cluster.start("b1").membership
        self.cluster.start("b2")
        self.cluster.turn(10)
        killed_at = self.cluster.clock.seconds()
        self.cluster.kill("b2")
        self.cluster.turn((MISSES - 1) * BEAT)
        self.assertEqual(b1.members(), ("b1", "b2"))
        self.cluster.turn(3 * BEAT)
        self.assertEqual(b1.members(), ("b1",))
        since = b1.away_since("b2")
        assert since is not None
        self.assertTrue(killed_at - BEAT <= since <= killed_at, since - killed_at)

    def test_nobody(self) -> None:
        """Who is not found by a message is away at once."""
        b1 = self.cluster.start("b1").membership
        self.cluster.start("b2")
        self.cluster.kill("b2")
        b1.finds_nobody("b2")
        self.assertEqual(b1.members(), ("b1",))
        b1.finds_nobody("b1")
        self.assertEqual(b1.members(), ("b1",))

    def test_late_goodbye(self) -> None:
        """A goodbye of an earlier life does not send the present one away."""
        b1 = self.cluster.start("b1")
        self.cluster.start("b2")
        b1.membership.goodbye(None, branch="b2", life="an earlier one")
        self.assertEqual(b1.membership.members(), ("b1", "b2"))

    def test_never_heard(self) -> None:
        """A branch that was never heard is away since this one began."""
        b1 = self.cluster.start("b1").membership
        began_at = self.cluster.clock.seconds()
        self.cluster.turn(100)
        self.assertEqual(b1.away_since("b9"), began_at)

    def test_bus_away(self) -> None:
        """While the bus is away there is nobody else; when it is back all are there again."""
        b1 = self.cluster.start("b1")
        self.cluster.start("b2")
        b1.membership._bus_changed(False)
        self.assertEqual(b1.membership.members(), ("b1",))
        b1.membership._bus_changed(True)
        self.cluster.turn()
        self.assertEqual(b1.membership.members(), ("b1", "b2"))

    def test_nonsense(self) -> None:
        """What is no beat makes no member."""
        b1 = self.cluster.start("b1").membership
        good = {"id": "b2", "_life": "1", "_digest": "0", "_beat": 2.0}
        wrong = ({"id": "a b"}, {"id": ""}, {"_beat": "soon"})
        worse: list[Any] = [None, [], {}, *({**good, **one} for one in wrong)]
        for bad in worse:
            b1.beat(None, facts=bad)
        b1.beat(None, facts={**good, **{f"f{number}": 1 for number in range(200)}})
        self.assertEqual(b1.members(), ("b1",))
        b1.beat(None, facts={**good, "from": "a later version"}, more="from a later version")
        self.assertEqual(b1.members(), ("b1", "b2"))

    def test_twin(self) -> None:
        """Another branch with the same id is complained of, once."""
        b1 = self.cluster.start("b1").membership
        for _ in range(3):
            b1.beat(None, facts={"id": "b1", "_life": "twin", "_digest": "0", "_beat": 2.0})
        self.assertEqual(b1.members(), ("b1",))
        self.assertTrue(b1._has_twin)

    def test_pace(self) -> None:
        """The more branches there are, the less often each is heard, and none is away for that."""
        branches: list[Meeting] = [self.cluster.start(f"b{number}") for number in range(60)]
        self.cluster.turn(HELLO_WITHIN + 60)
        everybody = tuple(sorted(branch.id for branch in branches))
        self.assertEqual({branch.membership.members() for branch in branches}, {everybody})
        self.assertGreater(branches[0].membership._interval, 2 * BEAT)
