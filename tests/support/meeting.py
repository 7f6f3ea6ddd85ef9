"""Branches that meet on a bus in memory."""

from __future__ import annotations

import os
from typing import Any

from attrs import frozen
from twisted.internet.task import Clock

from cyme.actors import Actors
from cyme.bus.local import LocalBus, Switch
from cyme.catalogue import Catalogue
from cyme.membership import Membership
from cyme.presence import Identity, Presence
from cyme.replication import Replication
from tests.fakes.store import MemoryStore


@frozen
class Meeting:
    """What a branch has to meet others."""

    id: str
    bus: Any
    catalogue: Any
    actors: Actors
    membership: Membership
    replication: Replication


def meet(
    clock: Clock,
    catalogue: Any,
    id: str,
    bus: Any = None,
    life: str = "1",
    make_membership: type[Membership] = Membership,
) -> Meeting:
    """Build what a branch has to meet others; neither its actors nor its membership is started.

    :param bus: by default one on which it is alone.
    """
    bus = LocalBus(clock) if bus is None else bus
    presence = Presence(
        Identity(id=id, version="1", loglevel="info", logfile=None, sup_interval=60.0),
        root="/",
        count_instances=lambda: sum(one.branch == id for one in catalogue.instances()),
        getloadavg=lambda: (0.0, 0.0, 0.0),
        statvfs=os.statvfs,
    )
    actors = Actors(clock, bus, id, lambda: membership.members())
    replication = Replication(clock, catalogue, actors, id)
    membership = make_membership(
        clock, bus, actors, presence, replication, catalogue.digest, branch_id=id, life=life
    )
    return Meeting(id, bus, catalogue, actors, membership, replication)


class Cluster:
    """Branches in one process, on one switch and one clock."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = Clock() if clock is None else clock
        self.clock.rightNow = 1_800_000_000.0
        self.switch = Switch()
        self.stores: dict[str, MemoryStore] = {}
        self.branches: dict[str, Meeting] = {}
        self._lives = 0

    def make_bus(self, id: str) -> Any:
        return LocalBus(self.clock, self.switch)

    def start(self, id: str) -> Meeting:
        """Start a branch, for the first time or again."""
        store = self.stores.setdefault(id, MemoryStore())
        catalogue = Catalogue(self.clock, store, id)
        catalogue.load()
        self._lives += 1
        branch = meet(self.clock, catalogue, id, self.make_bus(id), str(self._lives))
        self.branches[id] = branch
        branch.actors.start()
        branch.membership.start()
        self.turn()
        return branch

    def kill(self, id: str) -> None:
        """Have a branch gone without a word."""
        branch = self.branches.pop(id)
        branch.membership._cancel()
        branch.bus.stop()

    def stop(self, id: str) -> None:
        """Stop a branch in good order."""
        branch = self.branches.pop(id)
        branch.membership.stop()
        self.turn()
        branch.actors.stop()

    def turn(self, seconds: float = 0.0, step: float = 0.5) -> None:
        """Let time pass, and what is on its way arrive."""
        end = self.clock.seconds() + seconds
        for _ in range(20):
            self.clock.advance(0)
        while self.clock.seconds() < end:
            self.clock.advance(min(step, end - self.clock.seconds()))
            for _ in range(20):
                self.clock.advance(0)
