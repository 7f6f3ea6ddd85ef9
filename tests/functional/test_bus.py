"""The bus between branches, on a real RabbitMQ."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from cyme.actors import Actors, Stored, verb
from cyme.bus.amqp.bus import AMQPBus
from cyme.errors import NoRoute, NoSuchApp
from cyme.interfaces import IMessageBus
from tests.contracts.bus import make_bus_tests
from tests.support.rabbitmq import shared_rabbitmq


def amqp_cluster(case: TestCase) -> Callable[[], IMessageBus]:
    url = shared_rabbitmq().new_url()
    return lambda: AMQPBus(reactor, url, name="test", retry_policy=lambda _: 0.1)


class AMQPBusContractTests(make_bus_tests(amqp_cluster)):  # type: ignore[misc]
    """A bus over RabbitMQ is a message bus."""


class Answerer:
    """An actor that says which branch it is on."""

    def __init__(self, branch: str) -> None:
        self.branch = branch
        self.waiting: list[Deferred[str]] = []

    @verb()
    def where(self, name: str | None) -> str:
        return self.branch

    @verb()
    def refuse(self, name: str | None) -> None:
        raise NoSuchApp("grüße")

    @verb()
    def store(self, name: str | None) -> Stored:
        self.waiting.append(Deferred())
        return Stored(self.waiting[-1])


class ActorsTests(TestCase):
    """Actors of two branches, each on a connection of its own."""

    timeout = 60

    async def setUp(self) -> None:
        self.members = ["b1", "b2"]
        url = shared_rabbitmq().new_url()
        self.buses, self.branches, self.answerers = [], [], []
        for id in self.members:
            bus = AMQPBus(reactor, url, name=id, retry_policy=lambda _: 0.1)
            actors, answerer = Actors(reactor, bus, id, lambda: self.members), Answerer(id)
            actors.register("Instance", answerer, lambda id=id: [f"of-{id}"], accepts=True)
            await actors.start()
            self.addCleanup(actors.stop)
            self.buses.append(bus)
            self.branches.append(actors)
            self.answerers.append(answerer)

    async def test_call(self) -> None:
        """A call is answered by the owner of the name, errors included, wherever it is."""
        first, second = self.branches
        self.assertEqual(await first.call("Instance", "of-b2", "where"), "b2")
        self.assertEqual(await second.call("Instance", "of-b1", "where"), "b1")
        problem = await self.assertFailure(first.call("Instance", "of-b2", "refuse"), NoSuchApp)
        self.assertEqual(problem.arguments, ("grüße",))

    async def test_many(self) -> None:
        """Calls under way at the same time get their own answers."""
        first, second = self.branches
        second.own("Instance", "x")
        await self.buses[1].settled()
        calls = [first.call("Instance", name, "where") for name in ["of-b2", "x", "of-b1"] * 100]
        self.assertEqual(await gatherResults(calls), ["b2", "b2", "b1"] * 100)

    async def test_nobody(self) -> None:
        """A call to a name that nobody owns, or owns any more, fails at once and not at its deadline."""
        first, second = self.branches
        await self.assertFailure(first.call("Instance", "nobody", "where", timeout=1e6), NoRoute)
        await second.stop()
        await self.assertFailure(first.call("Instance", "of-b2", "where", timeout=1e6), NoRoute)

    async def test_throw(self) -> None:
        """What is thrown goes round; a branch whose work is stored takes more before its answer is known."""
        first, _ = self.branches
        places = [await first.throw("Instance", "new", "where") for _ in range(4)]
        self.assertEqual(sorted(places), ["b1", "b1", "b2", "b2"])
        stored = [first.throw("Instance", "new", "store") for _ in range(4)]
        for _ in range(4):
            await first.throw("Instance", "new", "where")
        for answerer in self.answerers:
            for waiting in answerer.waiting:
                waiting.callback("done")
        self.assertEqual(await gatherResults(stored), ["done"] * 4)

    async def test_scatter(self) -> None:
        """Asking all is over when all have answered; whoever is silent is named."""
        first, _ = self.branches
        answers = await first.scatter("Instance", "where", timeout=1e6)
        self.assertEqual(answers, ({"b1": "b1", "b2": "b2"}, ()))
        self.members.append("b3")
        _, silent = await first.scatter("Instance", "where", timeout=0.5)
        self.assertEqual(silent, ("b3",))
