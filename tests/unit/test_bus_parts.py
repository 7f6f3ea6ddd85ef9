"""The parts of the bus over RabbitMQ, each alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from txamqp.client import Closed

from cyme.bus.amqp import publishing
from cyme.bus.amqp.addresses import BusAddress, endpoint_of, read_addresses
from cyme.bus.amqp.mirror import Mirror
from cyme.bus.amqp.publishing import (
    CONFIRM_WITHIN,
    EXPIRATION_MOST,
    Overfull,
    Publisher,
    Unpublished,
    Unrouted,
    expiration,
)
from cyme.bus.amqp.topology import routes
from cyme.errors import InvalidParameter
from cyme.seldom import Seldom
from tests.support.certificates import Authority


class AddressesTests(SynchronousTestCase):
    """What a URL says about the bus."""

    def read(self, url: str) -> BusAddress:
        (address,) = read_addresses(url)
        return address

    def test_plain(self) -> None:
        """User, password, host, port and virtual host are those that kombu reads; the rest is usual."""
        address = self.read("amqp://us%40er:p%2Fw@example.org//")
        self.assertEqual((address.host, address.port, address.vhost), ("example.org", 5672, "/"))
        self.assertEqual((address.user, address.password, address.heartbeat), ("us@er", "p/w", 10))
        self.assertIsNone(address.tls)

    def test_secrets(self) -> None:
        """No password is in what is shown of an address."""
        address = self.read("amqps://user:s3cret@example.org/")
        self.assertNotIn("s3cret", f"{address!r} {address} {address.shown}")

    def test_several(self) -> None:
        """Several URLs are several addresses, in order."""
        found = read_addresses("amqp://a:1/x;amqps://u:p@b/y;amqp://c")
        self.assertEqual([(one.host, one.port) for one in found], [("a", 1), ("b", 5671), ("c", 5672)])
        self.assertEqual([one.tls is not None for one in found], [False, True, False])

    def test_heartbeat(self) -> None:
        """The heartbeat is a URL's; none at all is not to be had."""
        self.assertEqual(self.read("amqp://h//?heartbeat=3").heartbeat, 3)
        self.assertEqual(self.read("amqp://h//?heartbeat=0").heartbeat, 10)
        for text in ("x", "-1", "1.5", "100000"):
            self.assertRaises(InvalidParameter, read_addresses, f"amqp://h//?heartbeat={text}")

    def test_tls(self) -> None:
        """Both spellings of the arguments mean the same, and verification is the default."""
        tls = self.read("amqps://host//").tls
        assert tls is not None
        self.assertEqual((tls.server_name, tls.verify, tls.cacertfile), ("host", True, None))
        rabbits = self.read("amqps://h//?cacertfile=a&certfile=b&keyfile=c&verify=verify_none").tls
        celerys = self.read(
            "amqps://h//?ssl_ca_certs=a&ssl_certfile=b&ssl_keyfile=c&ssl_cert_reqs=CERT_NONE&other=d"
        ).tls
        self.assertEqual(rabbits, celerys)
        assert rabbits is not None
        self.assertFalse(rabbits.verify)
        self.assertEqual((rabbits.cacertfile, rabbits.certfile, rabbits.keyfile), ("a", "b", "c"))
        self.assertRaises(InvalidParameter, read_addresses, "amqps://h//?verify=perhaps")

    def test_unreadable(self) -> None:
        """A URL without a host is refused."""
        self.assertRaises(InvalidParameter, read_addresses, "amqp://")

    def test_endpoints(self) -> None:
        """Certificates are read when a connection is to be made; what can't be read is an error then."""
        folder = os.path.abspath(self.mktemp())
        os.makedirs(folder)
        authority = Authority(folder)
        certificate, key = authority.issue("branch")
        with open(certificate, "ab") as chain, open(authority.path, "rb") as root:
            chain.write(root.read())
        good = f"amqps://h//?cacertfile={authority.path}&certfile={certificate}&keyfile={key}"
        clock = Clock()
        for url in ("amqp://h//", "amqps://h//", good, f"{good}&verify=verify_none"):
            endpoint_of(clock, self.read(url))
        self.assertRaises(ValueError, endpoint_of, clock, self.read(f"amqps://h//?cacertfile={key}"))
        self.assertRaises(OSError, endpoint_of, clock, self.read(f"amqps://h//?cacertfile={folder}/none"))


class MirrorTests(SynchronousTestCase):
    """What is wanted and what the broker has."""

    def setUp(self) -> None:
        self.wanted: set[str] = set()
        self.brought: list[list[tuple[str, bool]]] = []
        self.pending: list[Deferred[None]] = []
        self.failures: list[Exception] = []

    async def bring(self, steps: Sequence[tuple[str, bool]]) -> None:
        self.brought.append(list(steps))
        waiting: Deferred[None] = Deferred()
        self.pending.append(waiting)
        await waiting

    def mirror(self, most: int = 2) -> Mirror[str]:
        return Mirror(self.wanted, self.bring, most, self.failures.append)

    def test_start(self) -> None:
        """At the start all that is wanted is brought, so many at a time, one lot after the other."""
        self.wanted |= {"a", "b", "c"}
        mirror = self.mirror()
        started = mirror.start()
        self.assertEqual(len(self.brought), 1)
        self.pending.pop().callback(None)
        self.assertNoResult(started)
        self.pending.pop().callback(None)
        self.successResultOf(started)
        self.assertEqual(sorted(sum(self.brought, [])), [("a", True), ("b", True), ("c", True)])
        self.assertEqual(list(map(len, self.brought)), [2, 1])

    def test_before_start(self) -> None:
        """What changes before the start is brought at the start."""
        mirror = self.mirror()
        self.wanted.add("a")
        mirror.changed("a")
        self.assertEqual(self.brought, [])
        mirror.start()
        self.assertEqual(self.brought, [[("a", True)]])
        mirror.stop()

    def test_changes_meanwhile(self) -> None:
        """What changes while others are brought waits; what changed back by then is not brought."""
        mirror = self.mirror()
        self.successResultOf(mirror.start())
        self.wanted.add("a")
        mirror.changed("a")
        for name in ("b", "c"):
            self.wanted.add(name)
            mirror.changed(name)
        self.wanted.remove("b")
        mirror.changed("b")
        settled = mirror.settled()
        self.assertEqual(self.brought, [[("a", True)]])
        self.pending.pop().callback(None)
        self.assertEqual(self.brought[1:], [[("c", True)]])
        self.assertNoResult(settled)
        self.pending.pop().callback(None)
        self.successResultOf(settled)
        self.wanted.clear()
        mirror.changed("a")
        self.assertEqual(self.brought[2:], [[("a", False)]])
        mirror.stop()

    def test_failed(self) -> None:
        """When bringing fails that is told once, nobody waits, and nothing more is brought."""
        mirror = self.mirror()
        mirror.start()
        self.wanted.add("a")
        mirror.changed("a")
        settled = mirror.settled()
        self.pending.pop().errback(ZeroDivisionError())
        self.successResultOf(settled)
        mirror.changed("a")
        self.assertEqual((len(self.failures), len(self.brought)), (1, 1))

    def test_stopped(self) -> None:
        """A mirror that is stopped keeps nobody waiting."""
        self.wanted.add("a")
        mirror = self.mirror()
        started = mirror.start()
        mirror.stop()
        self.successResultOf(started)
        self.assertEqual(self.failures, [])


class FakeChannel:
    """Takes what is published."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []
        self.problem: Exception | None = None

    def basic_publish(self, **arguments: Any) -> Deferred[None]:
        self.published.append(arguments)
        return succeed(None) if self.problem is None else fail(self.problem)


class PublisherTests(SynchronousTestCase):
    """What becomes of messages."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.channel = FakeChannel()
        self.publisher = Publisher(self.clock, self.channel)
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))
        self.addCleanup(self.publisher.closed)

    def publish(self, body: bytes = b"body", expires: float = 5.0) -> Deferred[None]:
        return self.publisher.publish("exchange", "key", body, expires=expires, mandatory=True)

    def test_confirmed(self) -> None:
        """A message is published when the broker confirms it, alone or with those before it."""
        sent = [self.publish() for _ in range(4)]
        self.publisher.confirmed(2, False, True)
        self.assertEqual([one.called for one in sent], [False, True, False, False])
        self.publisher.confirmed(3, True, True)
        self.assertEqual([one.called for one in sent], [True, True, True, False])
        self.assertEqual((len(self.publisher), self.publisher.settled), (1, 3))
        sent[3].addErrback(lambda _: None)

    def test_refused(self) -> None:
        """A message that the broker refuses is not published."""
        sent = self.publish()
        self.publisher.confirmed(1, False, False)
        self.failureResultOf(sent, Overfull)

    def test_returned(self) -> None:
        """A message that comes back is unrouted at once, and stays so when it is confirmed."""
        first, second = self.publish(), self.publish()
        properties = self.channel.published[1]["content"].properties
        self.publisher.returned(properties)
        self.failureResultOf(second, Unrouted)
        self.publisher.confirmed(2, True, True)
        self.successResultOf(first)
        for odd in ({}, {"message-id": "x"}, {"message-id": "99"}, {"message-id": b"\xff"}):
            self.publisher.returned(odd)

    def test_closed(self) -> None:
        """What is not confirmed when the connection ends is not published."""
        sent = self.publish()
        self.publisher.closed()
        self.failureResultOf(sent, Unpublished)

    def test_unconfirmed(self) -> None:
        """What is not confirmed in time is not published, each message having its own time."""
        first = self.publish()
        self.clock.advance(CONFIRM_WITHIN / 2)
        second = self.publish()
        self.clock.advance(CONFIRM_WITHIN / 2)
        self.failureResultOf(first, Unpublished)
        self.assertNoResult(second)
        self.clock.advance(CONFIRM_WITHIN / 2)
        self.failureResultOf(second, Unpublished)
        self.publisher.confirmed(2, True, True)
        self.successResultOf(self.confirmed(self.publish(), 3))

    def confirmed(self, sent: Deferred[None], number: int) -> Deferred[None]:
        self.publisher.confirmed(number, False, True)
        return sent

    def test_given_up(self) -> None:
        """Whoever sent a message may give up waiting for its confirmation."""
        sent = self.publish()
        sent.cancel()
        self.failureResultOf(sent)
        self.publisher.confirmed(1, False, True)

    def test_not_sent(self) -> None:
        """What can't be sent takes no number."""
        self.channel.problem = Closed("closed")
        self.failureResultOf(self.publish(), Closed)
        self.channel.problem = None
        sent = self.publish()
        self.publisher.confirmed(1, False, True)
        self.successResultOf(sent)

    def test_bounds(self) -> None:
        """There is a bound to how much is on its way: messages, and bytes."""
        self.patch(publishing, "SENDING_MOST", 2)
        self.patch(publishing, "SENDING_BYTES_MOST", 10)
        first = self.publish(b"12345678")
        self.failureResultOf(self.publish(b"123"), Unpublished)
        second = self.publish(b"12")
        self.failureResultOf(self.publish(b""), Unpublished)
        self.publisher.confirmed(2, True, True)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(len(self.channel.published), 2)

    def test_expiration(self) -> None:
        """A time to live is in whole milliseconds, at least one, at most what RabbitMQ takes."""
        cases = {0.5: "500", 0.0001: "1", -1.0: "1", 60.0: "60000", 1e9: str(EXPIRATION_MOST)}
        for seconds, text in cases.items():
            self.assertEqual(expiration(seconds), text)


class SmallTests(SynchronousTestCase):
    """What is too small for a class of tests."""

    def test_seldom(self) -> None:
        """What happens often is said once in a while, with how often."""
        clock = Clock()
        seldom = Seldom(clock, 10.0)
        self.assertEqual([seldom.due() for _ in range(3)], [1, 0, 0])
        clock.advance(10.0)
        self.assertEqual([seldom.due() for _ in range(2)], [3, 0])

    def test_routes(self) -> None:
        """A name that is too long in bytes, or no text, can be nobody's."""
        self.assertTrue(routes("Instance", "x" * 128))
        self.assertFalse(routes("Instance", "é" * 128))
        self.assertFalse(routes("Instance", "\ud800"))
