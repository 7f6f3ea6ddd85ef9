"""Who only asks which branches live."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from cyme.bus.local import LocalBus
from cyme.errors import BusAway
from cyme.listing import list_branches, table
from tests.support.meeting import Cluster


class ListingTests(SynchronousTestCase):
    """`list_branches`."""

    def setUp(self) -> None:
        self.cluster = Cluster()

    def ask(self, **given: Any) -> Any:
        bus = LocalBus(self.cluster.clock, self.cluster.switch)
        return Deferred.fromCoroutine(list_branches(self.cluster.clock, bus, 1.0, **given))

    def test_all(self) -> None:
        """All that live answer, and take no notice of who asked."""
        for id in ("b2", "b1"):
            self.cluster.start(id)
        asked = self.ask()
        self.cluster.turn(1.0)
        self.assertEqual([one["id"] for one in self.successResultOf(asked)], ["b1", "b2"])
        self.assertEqual(self.cluster.branches["b1"].membership.known(), ("b1", "b2"))
        self.assertEqual(len(self.cluster.switch.buses), 2)

    def test_nobody(self) -> None:
        """Where no branch lives there is none to tell of."""
        asked = self.ask()
        self.cluster.turn(1.0)
        self.assertEqual(self.successResultOf(asked), [])

    def test_limit(self) -> None:
        """When enough have answered nobody else is waited for."""
        for number in range(3):
            self.cluster.start(f"b{number}")
        asked = self.ask(limit=2)
        self.cluster.turn()
        self.assertEqual(len(self.successResultOf(asked)), 2)

    def test_away(self) -> None:
        """A bus that can't be reached is an error."""
        bus = LocalBus(self.cluster.clock, self.cluster.switch)
        bus.start = lambda receive: Deferred.fromCoroutine(_nothing())  # type: ignore[method-assign]
        asked = Deferred.fromCoroutine(list_branches(self.cluster.clock, bus, 1.0))
        self.failureResultOf(asked, BusAway)

    def test_table(self) -> None:
        """People get a line for each branch, with what is not known as a dash."""
        facts = {"id": "b1", "url": "http://h:8000/", "version": "1", "instances": 12, "load_average": [0.5]}
        lines = table([facts, {"id": "branch2"}]).splitlines()
        self.assertEqual(lines[0].split(), ["BRANCH", "URL", "VERSION", "INSTANCES", "LOAD"])
        self.assertEqual(lines[1].split(), ["b1", "http://h:8000/", "1", "12", "0.5"])
        self.assertEqual(lines[2].split(), ["branch2", "-", "-", "-", "-"])


async def _nothing() -> None:
    pass
