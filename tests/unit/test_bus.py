"""The bus inside one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from cyme.bus.local import WAITING_MOST, LocalBus, Switch
from cyme.errors import BusAway, NoRoute
from cyme.interfaces import IMessageBus
from tests.contracts.bus import make_bus_tests


def local_cluster(case: TestCase) -> Callable[[], IMessageBus]:
    switch = Switch()
    return lambda: LocalBus(reactor, switch)


class LocalBusContractTests(make_bus_tests(local_cluster)):  # type: ignore[misc]
    """A local bus is a message bus."""


class LocalBusTests(SynchronousTestCase):
    """What only the local bus promises."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.bus = LocalBus(self.clock)
        self.received: list[bytes] = []
        self.successResultOf(self.bus.start(self.receive))
        self.addCleanup(self.check_leftovers)

    def receive(self, body: bytes) -> Deferred[None]:
        self.received.append(body)
        return succeed(None)

    def check_leftovers(self) -> None:
        self.bus.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def send(self, body: bytes, expires: float = 5.0, **_: Any) -> Deferred[None]:
        return self.bus.to_inbox(self.bus.inbox, body, expires=expires)

    def test_alone(self) -> None:
        """Two buses without a common switch know nothing of each other."""
        other = LocalBus(self.clock)
        self.successResultOf(other.start(self.receive))
        self.addCleanup(other.stop)
        other.own("Instance", "w1")
        self.failureResultOf(self.bus.to_owner("Instance", "w1", b"hello", expires=5.0), NoRoute)

    def test_one_turn(self) -> None:
        """All that is under way arrives in one turn of the reactor."""
        for body in (b"one", b"two", b"three"):
            self.successResultOf(self.send(body))
        self.assertEqual(self.received, [])
        self.clock.advance(0)
        self.assertEqual(self.received, [b"one", b"two", b"three"])

    def test_signs(self) -> None:
        """What waits for its delivery is a sign, until it is delivered."""
        self.assertEqual(self.bus.signs(), {})
        self.successResultOf(self.send(b"one"))
        first = self.bus.signs()
        self.assertEqual(self.bus.signs(), first)
        self.clock.advance(0)
        self.assertEqual(self.bus.signs(), {})
        self.successResultOf(self.send(b"two"))
        self.assertNotEqual(self.bus.signs(), first)

    def test_expired(self) -> None:
        """A message that was under way longer than it may be is dropped, and only that one."""
        self.successResultOf(self.send(b"short", expires=1.0))
        self.successResultOf(self.send(b"long", expires=10.0))
        self.clock.advance(1.0)
        self.assertEqual(self.received, [b"long"])

    def test_sent_while_delivering(self) -> None:
        """What a receiver sends arrives once the receiver is done."""
        story: list[str] = []

        def echo(body: bytes) -> Deferred[None]:
            story.append("in")
            if len(story) < 5:
                self.send(body)
            story.append("out")
            return succeed(None)

        self.bus.stop()
        self.successResultOf(self.bus.start(echo))
        self.successResultOf(self.send(b"echo"))
        self.clock.advance(0)
        self.assertEqual(story, ["in", "out", "in", "out", "in", "out"])

    def test_stopped_by_receiver(self) -> None:
        """A bus that is stopped while it delivers drops what is left."""

        def stop(body: bytes) -> Deferred[None]:
            self.received.append(body)
            return self.bus.stop()

        self.bus.stop()
        self.successResultOf(self.bus.start(stop))
        self.successResultOf(self.send(b"one"))
        self.successResultOf(self.send(b"two"))
        self.clock.advance(0)
        self.assertEqual(self.received, [b"one"])

    def test_bound(self) -> None:
        """When too much is under way already, more is refused."""
        for _ in range(WAITING_MOST):
            self.send(b"")
        self.failureResultOf(self.send(b""), BusAway)
        self.clock.advance(0)
        self.assertEqual(len(self.received), WAITING_MOST)
        self.successResultOf(self.send(b""))
