"""Work that any branch may take, on a real RabbitMQ."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from cyme.bus.amqp.bus import AMQPBus
from cyme.errors import NoRoute
from tests.contracts.bus import SOON
from tests.functional.buscase import BusCase, Peer, client_of
from tests.support.rabbitmq import shared_rabbitmq
from tests.support.waiting import eventually


class Slow(Peer):
    """A peer whose work is done when it is told so."""

    def __init__(self, url: str, pause: float) -> None:
        super().__init__(url, pause)
        self.working: list[Deferred[None]] = []

    def receive(self, body: bytes) -> Deferred[None]:
        working: Deferred[None] = Deferred()
        self.working.append(working)
        self.received.put(body)
        return working


class WorkTests(BusCase):
    """One branch takes a piece of work at a time, and nobody's is lost."""

    async def slow(self, url: str) -> Slow:
        peer = Slow(url, 1000.0)
        peer.bus.accept("Instance")
        self.addCleanup(peer.bus.stop)
        await peer.bus.start(peer.receive)
        return peer

    async def throw(self, bus: AMQPBus, body: bytes, expires: float = SOON) -> None:
        await bus.to_any("Instance", body, expires=expires)

    async def test_one_at_a_time(self) -> None:
        """A branch that works gets no more, a free one does, and what waits comes when work is done."""
        url = shared_rabbitmq().new_url()
        first = await self.slow(url)
        await self.throw(first.bus, b"one")
        self.assertEqual(await first.next(), b"one")
        await self.throw(first.bus, b"two")
        second = await self.slow(url)
        self.assertEqual(await second.next(), b"two")
        await self.throw(first.bus, b"three")
        await self.throw(first.bus, b"four")
        first.working[0].callback(None)
        self.assertEqual(await first.next(), b"three")
        first.working[1].callback(None)
        self.assertEqual(await first.next(), b"four")

    async def test_worker_dies(self) -> None:
        """Work that is not done when its branch is lost is given to another."""
        url = shared_rabbitmq().new_url()
        first = await self.slow(url)
        await self.throw(first.bus, b"work")
        self.assertEqual(await first.next(), b"work")
        second = await self.slow(url)
        client_of(first).transport.abortConnection()
        self.assertEqual(await second.next(), b"work")

    async def test_stopped(self) -> None:
        """A branch that stops leaves work to others, and takes no more."""
        url = shared_rabbitmq().new_url()
        first, second = await self.slow(url), await self.slow(url)
        await first.bus.stop()
        for number in range(2):
            await self.throw(second.bus, b"work")
            self.assertEqual(await second.next(), b"work")
            second.working[number].callback(None)
        await second.bus.stop()
        caller = await self.connected_peer(url)
        with self.assertRaises(NoRoute):
            await self.throw(caller.bus, b"work")

    async def test_late(self) -> None:
        """Work that nobody has taken in time is taken by nobody."""
        url = shared_rabbitmq().new_url()
        peer = await self.slow(url)
        await self.throw(peer.bus, b"one")
        self.assertEqual(await peer.next(), b"one")
        await self.throw(peer.bus, b"late", expires=0.1)
        await self.throw(peer.bus, b"two")
        await deferLater(reactor, 0.3)
        peer.working[0].callback(None)
        self.assertEqual(await peer.next(), b"two")

    async def test_declined(self) -> None:
        """A branch that declines finishes what it has, and takes nothing until it accepts again."""
        url = shared_rabbitmq().new_url()
        first, second = await self.slow(url), await self.slow(url)
        first.bus.decline("Instance")
        await first.bus.settled()
        for number in range(3):
            await self.throw(first.bus, b"work")
            self.assertEqual(await second.next(), b"work")
            second.working[number].callback(None)
        second.bus.decline("Instance")
        first.bus.accept("Instance")
        await first.bus.settled()
        await second.bus.settled()
        await self.throw(second.bus, b"work")
        self.assertEqual(await first.next(), b"work")

    async def test_failed(self) -> None:
        """Work that fails counts as done."""
        url = shared_rabbitmq().new_url()
        peer = await self.slow(url)
        await self.throw(peer.bus, b"one")
        await peer.next()
        peer.working[0].errback(ZeroDivisionError())
        await self.throw(peer.bus, b"two")
        self.assertEqual(await peer.next(), b"two")
        await eventually(lambda: len(self.flushLoggedErrors(ZeroDivisionError)) == 1, SOON)
