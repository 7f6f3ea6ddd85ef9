"""What the tests of the bus over RabbitMQ share."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from cyme.bus.amqp.bus import AMQPBus
from cyme.errors import NoRoute
from tests.contracts.bus import SOON, Branch
from tests.support.waiting import eventually

#: Seconds until a lost connection is made again.
PAUSE = 0.1
#: Seconds that anything of a broker that was stopped may take.
LONG = 60.0


class Peer(Branch):
    """A bus over RabbitMQ, what it received and when it was connected."""

    bus: AMQPBus

    def __init__(self, url: str, pause: float = PAUSE) -> None:
        super().__init__(AMQPBus(reactor, url, name="test", retry_policy=lambda _: pause))
        self.changes: DeferredQueue[bool] = DeferredQueue()
        self.bus.subscribe(self.changes.put)

    def changed(self, timeout: float = LONG) -> Deferred[bool]:
        """Whether it is connected, once that changes, or has changed since this was asked last."""
        return self.changes.get().addTimeout(timeout, reactor)

    async def echo(self) -> None:
        """Send a message to itself, by a name that it owns."""
        await self.bus.to_owner("Instance", "w1", b"echo", expires=SOON)
        got = await self.next()
        if got != b"echo":
            raise AssertionError(f"not the echo: {got!r}")


class BusCase(TestCase):
    """Starts peers and stops them."""

    timeout = 180

    def setUp(self) -> None:
        self.log: list[LogEvent] = []
        globalLogPublisher.addObserver(self.log.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.log.append)

    def log_text(self) -> str:
        """What was logged since the test began."""
        return "\n".join(formatEvent(event) for event in self.log)

    async def peer(self, url: str, pause: float = PAUSE) -> Peer:
        """A started peer that owns an instance `w1`."""
        peer = Peer(url, pause)
        peer.bus.own("Instance", "w1")
        self.addCleanup(peer.bus.stop)
        await peer.bus.start(peer.receive)
        return peer

    async def connected_peer(self, url: str, pause: float = PAUSE) -> Peer:
        peer = await self.peer(url, pause)
        self.assertTrue(await peer.changed())
        return peer

    async def until_nobody_owns(self, peer: Peer, name: str) -> None:
        """Wait until a name has no route."""

        async def is_gone() -> bool:
            try:
                await peer.bus.to_owner("Instance", name, b"hello", expires=SOON)
            except NoRoute:
                return True
            return False

        await eventually(is_gone, SOON)


def client_of(peer: Peer) -> Any:
    """The connection of a peer."""
    assert peer.bus._ready is not None
    return peer.bus._ready[0].client
