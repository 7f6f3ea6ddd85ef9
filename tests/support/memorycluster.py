"""Several branches in one process, with one clock: the real controllers over stores in memory.

Branches tell each other what they write, as long as both are on the bus; workers are as tests say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from cyme.actors import Actors
from cyme.bus.local import LocalBus, Switch
from cyme.catalogue import Catalogue
from cyme.controller.facade import Controller, make_controller
from cyme.declarations import App, Declaration, Instance
from tests.fakes.events import FakeEvents
from tests.fakes.gateway import FakeGateway
from tests.fakes.remote import FakeRemoteControl
from tests.fakes.store import MemoryStore
from tests.fakes.supervisor import FakeSupervisor

BROKER = "amqp://guest:guest@127.0.0.1:5672//"
TIMEOUT = 60.0


class SlowStore(MemoryStore):
    """A store whose writes take a moment."""

    def __init__(self, clock: Clock, delay: float) -> None:
        super().__init__()
        self._clock = clock
        self._delay = delay

    def save(self, declarations: Sequence[Declaration]) -> Deferred[None]:
        return deferLater(self._clock, self._delay, super().save, declarations)


class Machine(FakeSupervisor):
    """A supervisor whose workers are called after their machine.

    :ivar host: the part of node names behind `@`.
    """

    def __init__(self, host: str) -> None:
        super().__init__()
        self.host = host

    def status(self, instance: Instance) -> Any:
        return {**super().status(instance), "node": f"{instance.name}@{self.host}"}


class Seen:
    """What branches know of each other: who is on the bus, and what each says of itself."""

    def __init__(self, cluster: Cluster, id: str) -> None:
        self.cluster = cluster
        self.id = id
        self.facts: dict[str, Any] = {"labels": {}, "cpus": 1, "load_average": [0.0], "accepts": True}

    def members(self) -> tuple[str, ...]:
        return tuple(sorted(id for id, branch in self.cluster.branches.items() if branch.lives))

    def known(self) -> tuple[str, ...]:
        return self.members()

    def away_since(self, branch: str) -> float | None:
        return None if branch in self.members() else 0.0

    def finds_nobody(self, branch: str) -> None:
        """Whether it lives, the test says."""

    def about(self, branch: str) -> dict[str, Any] | None:
        there = self.cluster.branches.get(branch)
        return {"id": branch, **there.presence.facts} if there is not None and there.lives else None


class Branch:
    """One life of a branch."""

    def __init__(self, cluster: Cluster, id: str, store: MemoryStore, host: str, **options: Any) -> None:
        clock = cluster.clock
        self.cluster = cluster
        self.id = id
        self.lives = False
        self.store = store
        self.catalogue = Catalogue(clock, store, id)
        self.supervisor = Machine(host)
        self.bus = LocalBus(clock, cluster.switch)
        self.presence = Seen(cluster, id)
        self.actors = Actors(clock, self.bus, id, self.presence.members)
        self.events = FakeEvents()
        self.shut_down = 0
        self.controller: Controller = make_controller(
            clock,
            self.catalogue,
            self.supervisor,
            self.actors,
            self.presence,  # type: ignore[arg-type]
            id,
            lambda: BROKER,
            self.events,
            FakeRemoteControl(clock),
            FakeGateway(clock, id),
            restart_timeout=TIMEOUT,
            shut_down=self._shut_down,
            **options,
        )
        self.services = (self.controller.rolling, self.controller.moving, self.controller.evacuating)

    def start(self) -> None:
        self.catalogue.load()
        self.catalogue.subscribe(self._tell)
        self.actors.start()
        self.lives = True
        if not self.cluster.is_split:
            self.cluster.exchange()
        for service in self.services:
            service.startService()

    def kill(self) -> None:
        """Nothing of it goes on; what it has stored stays."""
        self.lives = False
        for service in self.services:
            if service.running:
                service.stopService()
        self.actors.stop()

    def instance(self, name: str) -> Instance:
        found = self.catalogue.instance(name)
        assert found is not None, f"{self.id} knows no {name}"
        return found

    def owners(self) -> dict[str, str]:
        """Who has each instance, as far as this branch knows."""
        return {one.name: one.branch for one in self.catalogue.instances()}

    def kinds(self) -> list[str]:
        """What its why-log tells."""
        return [event.kind for event in self.events.recorded]

    def _tell(self, declarations: tuple[Declaration, ...]) -> None:
        written = [one for one in declarations if one.version.branch == self.id]
        if written and self.lives:
            self.cluster.clock.callLater(0, self._deliver, written)

    def _deliver(self, written: list[Declaration]) -> None:
        for other in self.cluster.living() if self.lives else ():
            if other is not self and not self.cluster.is_split:
                other.catalogue.merge(written)

    def _shut_down(self) -> None:
        self.shut_down += 1


class Cluster:
    """All branches; each has a machine of its own unless it is said otherwise.

    :param delay: seconds that each write takes.
    :ivar is_split: while true, no branch hears what others write.
    """

    def __init__(self, case: SynchronousTestCase, delay: float = 0.0) -> None:
        self.case = case
        self.delay = delay
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.switch = Switch()
        self.branches: dict[str, Branch] = {}
        self.is_split = False

    def living(self) -> list[Branch]:
        return [branch for branch in self.branches.values() if branch.lives]

    def exchange(self) -> None:
        """Have every living branch hear all that the others have."""
        for here in self.living():
            for there in self.living():
                if here is not there:
                    here.catalogue.merge(list(there.store.rows.values()))

    def branch(self, id: str, host: str | None = None, **options: Any) -> Branch:
        """Start a branch, or the next life of one."""
        before = self.branches.get(id)
        new = SlowStore(self.clock, self.delay) if self.delay else MemoryStore()
        store = before.store if before is not None else new
        branch = Branch(self, id, store, host or f"host-of-{id}", **options)
        if before is not None:
            branch.presence.facts = before.presence.facts
        self.branches[id] = branch
        branch.start()
        self.case.addCleanup(branch.kill)
        self.turn()
        return branch

    def turn(self, seconds: float = 0.0) -> None:
        """Let everything happen that is due within some seconds."""
        self.clock.pump([0.0] * 20 + [0.1] * int(seconds * 10) + [0.0] * 20)

    def result(self, asked: Any) -> Any:
        self.turn(10 * self.delay)
        return self.case.successResultOf(asked)

    def refused(self, error: type[Exception], asked: Any) -> Any:
        self.turn()
        return self.case.failureResultOf(asked, error).value

    def declare(self, branch: Branch, *declarations: Declaration) -> None:
        """Have a branch write declarations as they are."""
        self.result(branch.catalogue.change(lambda: declarations))

    def populate(self, branch: Branch, *names: str, **fields: Any) -> None:
        """Have a branch own instances of the app `foo`."""
        instances = [Instance(name=name, app="foo", branch=branch.id, **fields) for name in names]
        self.declare(branch, App(name="foo"), *instances)
