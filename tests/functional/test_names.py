"""Names are unique, also when branches are asked at the same moment: controllers over a real RabbitMQ."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import DeferredList, gatherResults
from twisted.trial.unittest import TestCase

from cyme.actors import Actors
from cyme.bus.amqp.bus import AMQPBus
from cyme.catalogue import Catalogue
from cyme.controller.facade import make_controller
from cyme.declarations import App
from cyme.errors import NameTaken
from tests.fakes.events import FakeEvents
from tests.fakes.gateway import FakeGateway
from tests.fakes.remote import FakeRemoteControl
from tests.fakes.store import MemoryStore
from tests.fakes.supervisor import FakeSupervisor
from tests.support.rabbitmq import shared_rabbitmq

IDS = ("b1", "b2", "b3")


class Everybody:
    """Presence that knows who is there."""

    def members(self) -> tuple[str, ...]:
        return IDS

    def about(self, branch: str) -> dict[str, Any]:
        return {"id": branch}


class NamesTests(TestCase):
    """Three branches that tell each other nothing."""

    timeout = 60

    async def setUp(self) -> None:
        url = shared_rabbitmq().new_url()
        self.catalogues, self.controllers = [], []
        for id in IDS:
            catalogue = Catalogue(reactor, MemoryStore(), id)
            await catalogue.load()
            bus = AMQPBus(reactor, url, name=id, retry_policy=lambda _: 0.1)
            presence: Any = Everybody()
            actors = Actors(reactor, bus, id, presence.members)
            controller = make_controller(
                reactor,
                catalogue,
                FakeSupervisor(),
                actors,
                presence,
                id,
                lambda: url,
                FakeEvents(),
                FakeRemoteControl(reactor),
                FakeGateway(reactor, id),
            )
            await actors.start()
            self.addCleanup(actors.stop)
            await actors.settled()
            await catalogue.change(lambda: [App(name="foo"), App(name="bar")])
            self.catalogues.append(catalogue)
            self.controllers.append(controller)

    def owners(self, name: str) -> list[str]:
        """The branches that have an instance of that name."""
        return [id for id, held in zip(IDS, self.catalogues, strict=True) if held.instance(name) is not None]

    async def test_at_once(self) -> None:
        """One of three branches creates each name; the two others find what that one has."""
        for round in range(10):
            name = f"w{round}"
            answers = await gatherResults(
                [
                    controller.instances.add("foo", name, branch=id)
                    for id, controller in zip(IDS, self.controllers, strict=True)
                ]
            )
            self.assertEqual(sorted(created for created, _ in answers), [False, False, True])
            self.assertEqual([details["branch"] for _, details in answers], 3 * self.owners(name))

    async def test_thrown(self) -> None:
        """So it is when the cluster picks the branches."""
        for round in range(10):
            name = f"w{round}"
            answers = await gatherResults(
                [controller.instances.add("foo", name) for controller in self.controllers]
            )
            self.assertEqual(sorted(created for created, _ in answers), [False, False, True])
            self.assertEqual(len(self.owners(name)), 1)

    async def test_other_app(self) -> None:
        """An instance of another app keeps the name from whoever comes second."""
        for round in range(5):
            asked = [
                controller.instances.add(app, f"w{round}", branch=id)
                for id, controller, app in zip(IDS, self.controllers, ("foo", "bar"), strict=False)
            ]
            outcomes: list[tuple[bool, Any]] = await DeferredList(asked, consumeErrors=True)
            (refusal,) = [outcome for taken, outcome in outcomes if not taken]
            self.assertTrue(refusal.check(NameTaken), refusal)
            self.assertEqual(len(self.owners(f"w{round}")), 1)
