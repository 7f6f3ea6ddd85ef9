"""A branch from the controller down to its store, with nothing but memory under it."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.catalogue import Catalogue
from cyme.controller.facade import Controller, make_controller
from tests.fakes.events import FakeEvents
from tests.fakes.gateway import FakeGateway
from tests.fakes.remote import FakeRemoteControl
from tests.fakes.store import MemoryStore
from tests.fakes.supervisor import FakeSupervisor
from tests.support.meeting import meet

BROKER = "amqp://guest:guest@127.0.0.1:5672//"


@frozen
class MemoryBranch:
    """The real controller and what it works on; only workers and disk are missing."""

    controller: Controller
    catalogue: Catalogue
    gateway: FakeGateway

    def content(self) -> list[Any]:
        """All that is declared, versions included: equal exactly when nothing was written."""
        apps = self.catalogue.apps()
        queues = [self.catalogue.queues(app.name) for app in apps]
        return [list(apps), queues, list(self.catalogue.instances())]


def memory_branch(test: SynchronousTestCase, clock: Clock) -> MemoryBranch:
    """Build and start one, empty."""
    catalogue = Catalogue(clock, MemoryStore(), "branch1")
    test.successResultOf(catalogue.load())
    branch = meet(clock, catalogue, "branch1")
    actors = branch.actors
    supervisor = FakeSupervisor()
    remote = FakeRemoteControl(clock)
    gateway = FakeGateway(clock, "branch1")
    controller = make_controller(
        clock,
        catalogue,
        supervisor,
        actors,
        branch.membership,
        "branch1",
        lambda: BROKER,
        FakeEvents(),
        remote,
        gateway,
    )
    started = actors.start()
    clock.advance(0)
    test.successResultOf(started)
    controller.rolling.startService()
    test.addCleanup(controller.rolling.stopService)
    return MemoryBranch(controller, catalogue, gateway)
