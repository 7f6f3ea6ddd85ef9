"""The bus between branches while its broker refuses, freezes, dies and comes back."""

from __future__ import annotations

from urllib.parse import urlsplit

import amqp
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from cyme.bus.amqp import bus as buses
from cyme.bus.amqp import session as sessions
from cyme.bus.amqp import work as works
from cyme.errors import BusAway, NoRoute
from tests.contracts.bus import SOON
from tests.functional.buscase import LONG, BusCase, client_of
from tests.support.ports import free_ports
from tests.support.rabbitmq import RabbitMQ, breakable_rabbitmq, shared_rabbitmq
from tests.support.waiting import eventually


def by_amqp(url: str, *calls: tuple[str, dict[str, object]]) -> None:
    """Have another client call methods of a channel, one after the other; blocks."""
    parts = urlsplit(url)
    with amqp.Connection(
        f"{parts.hostname}:{parts.port}", "guest", "guest", virtual_host=parts.path[1:]
    ) as connection:
        channel = connection.channel()
        for method, arguments in calls:
            getattr(channel, method)(**arguments)


class RefusalTests(BusCase):
    """A broker that lets nobody in, or not as is wanted."""

    async def test_password(self) -> None:
        """A wrong password is logged without itself; the bus is away and the start does not wait for it."""
        node = shared_rabbitmq()
        vhost = node.new_vhost()
        peer = await self.peer(node.url(vhost, password="s3cret"))
        self.assertFalse(peer.bus.connected)
        await self.assertFailure(peer.bus.to_all(b"hello", expires=SOON), BusAway)
        self.assertIn("403: ACCESS_REFUSED", self.log_text())
        self.assertNotIn("s3cret", self.log_text())

    async def test_exchange(self) -> None:
        """An exchange of another type keeps the bus away, which says why, until it is gone."""
        url = shared_rabbitmq().new_url()
        other = {"exchange": "cyme.Instance", "type": "topic", "auto_delete": False}
        await deferToThread(by_amqp, url, ("exchange_declare", other))
        peer = await self.peer(url)
        self.assertFalse(peer.bus.connected)
        self.assertIn("inequivalent arg 'type' for exchange 'cyme.Instance'", self.log_text())
        await deferToThread(by_amqp, url, ("exchange_delete", {"exchange": "cyme.Instance"}))
        self.assertTrue(await peer.changed())
        await peer.echo()

    async def test_work_queue(self) -> None:
        """A queue for work that is not as Cyme's keeps back nothing but that work, until it is gone."""
        self.patch(works, "AGAIN_AFTER", 0.1)
        url = shared_rabbitmq().new_url()
        other = {"queue": "cyme.any.Instance", "durable": True, "auto_delete": False}
        await deferToThread(by_amqp, url, ("queue_declare", other))
        peer = await self.connected_peer(url)
        peer.bus.accept("Instance")
        await peer.bus.settled()
        await self.assertFailure(peer.bus.to_any("Instance", b"work", expires=SOON), BusAway)
        await peer.echo()
        await deferToThread(by_amqp, url, ("queue_delete", {"queue": "cyme.any.Instance"}))

        async def is_taken() -> bool:
            try:
                await peer.bus.to_any("Instance", b"work", expires=SOON)
            except (BusAway, NoRoute):
                return False
            return True

        await eventually(is_taken, LONG)
        self.assertEqual(await peer.next(), b"work")


class LossTests(BusCase):
    """A broker that takes back what it gave."""

    async def test_owner_dies(self) -> None:
        """A name has no route as soon as the connection of its owner is lost."""
        url = shared_rabbitmq().new_url()
        caller = await self.connected_peer(url)
        owner = await self.connected_peer(url, pause=1000.0)
        owner.bus.own("Instance", "w2")
        await owner.bus.settled()
        await caller.bus.to_owner("Instance", "w2", b"hello", expires=SOON)
        client_of(owner).transport.abortConnection()
        self.assertFalse(await owner.changed())
        await self.until_nobody_owns(caller, "w2")

    async def test_work_queue_deleted(self) -> None:
        """A queue for work that somebody deletes is made anew, and consumed from."""
        self.patch(works, "AGAIN_AFTER", 0.1)
        url = shared_rabbitmq().new_url()
        peer = await self.connected_peer(url)
        peer.bus.accept("Instance")
        await peer.bus.settled()
        await deferToThread(by_amqp, url, ("queue_delete", {"queue": "cyme.any.Instance"}))

        async def is_taken() -> bool:
            try:
                await peer.bus.to_any("Instance", b"work", expires=SOON)
            except (BusAway, NoRoute):
                return False
            return True

        await eventually(is_taken, LONG)
        self.assertEqual(await peer.next(), b"work")
        self.assertTrue(peer.bus.connected)

    async def test_inbox_deleted(self) -> None:
        """An inbox that an operator deletes is made anew, with all that is bound to it."""
        node = shared_rabbitmq()
        vhost = node.new_vhost()
        peer = await self.connected_peer(node.url(vhost))
        name = f'rabbit_misc:r(<<"{vhost}">>, queue, <<"{peer.bus.inbox}">>)'
        await node.ctl(
            "eval",
            f"{{ok, Q}} = rabbit_amqqueue:lookup({name}), "
            'rabbit_amqqueue:delete(Q, false, false, <<"tests">>).',
        )
        self.assertFalse(await peer.changed())
        self.assertTrue(await peer.changed())
        await peer.echo()

    async def test_connections_closed(self) -> None:
        """A branch whose connection an operator closes comes back with its inbox and thousands of names."""
        node = shared_rabbitmq()
        vhost = node.new_vhost()
        peer = await self.connected_peer(node.url(vhost))
        for number in range(3000):
            peer.bus.own("Instance", f"n{number}")
        await peer.bus.settled()
        inbox = peer.bus.inbox
        await deferToThread(node.close_connections, vhost)
        self.assertFalse(await peer.changed())
        self.assertTrue(await peer.changed())
        self.assertEqual(peer.bus.inbox, inbox)
        await peer.bus.to_owner("Instance", "n2999", b"hello", expires=SOON)
        self.assertEqual(await peer.next(), b"hello")

    async def test_inbox_in_use(self) -> None:
        """An inbox that a connection has which the broker takes for alive is replaced by another."""
        url = shared_rabbitmq().new_url()
        first = await self.connected_peer(url)
        second = await self.connected_peer(url)
        second.bus.inbox = first.bus.inbox
        client_of(second).transport.abortConnection()
        self.assertFalse(await second.changed())
        self.assertTrue(await second.changed())
        self.assertNotEqual(second.bus.inbox, first.bus.inbox)
        await second.bus.to_inbox(second.bus.inbox, b"hello", expires=SOON)
        self.assertEqual(await second.next(), b"hello")


class OutageTests(BusCase):
    """A broker that freezes, dies, blocks."""

    def node(self) -> RabbitMQ:
        node = breakable_rabbitmq()
        self.addCleanup(deferToThread, node.mend)
        return node

    async def test_frozen(self) -> None:
        """A frozen broker is noticed by its silence; what was on its way fails."""
        node = self.node()
        peer = await self.connected_peer(node.new_url() + "?heartbeat=1")
        await peer.echo()
        node.freeze()

        async def unanswered() -> list[Deferred[None]]:
            # A process goes on for a moment after the signal.
            sending = peer.bus.to_owner("Instance", "w1", b"lost", expires=LONG)
            await deferLater(reactor, 0.2)
            return [] if sending.called else [sending]

        (sending,) = await eventually(unanswered, SOON)
        self.assertFalse(await peer.changed())
        await self.assertFailure(sending, BusAway)
        await self.assertFailure(peer.bus.to_all(b"hello", expires=SOON), BusAway)
        node.thaw()
        self.assertTrue(await peer.changed())
        while peer.received.pending:
            await peer.next()
        await peer.echo()
        self.assertIn("no sign of life for 2 s", self.log_text())

    async def test_frozen_from_the_start(self) -> None:
        """A broker that is frozen does not hold up the start, and is found later."""
        self.patch(sessions, "STEP_WITHIN", 1.0)
        self.patch(buses, "STEP_WITHIN", 1.0)
        node = self.node()
        url = node.new_url()
        node.freeze()
        peer = await self.peer(url)
        self.assertFalse(peer.bus.connected)
        node.thaw()
        self.assertTrue(await peer.changed())
        await peer.echo()

    async def test_killed(self) -> None:
        """A broker that is killed and started again finds everything declared and bound anew."""
        node = self.node()
        peer = await self.connected_peer(node.new_url())
        peer.bus.accept("Instance")
        await peer.bus.settled()
        await deferToThread(node.kill)
        self.assertFalse(await peer.changed())
        peer.bus.own("Instance", "w2")
        peer.bus.disown("Instance", "w3")
        await self.assertFailure(peer.bus.to_owner("Instance", "w1", b"hello", expires=SOON), BusAway)
        await deferToThread(node.mend)
        self.assertTrue(await peer.changed())
        await peer.echo()
        await peer.bus.to_owner("Instance", "w2", b"two", expires=SOON)
        self.assertEqual(await peer.next(), b"two")
        await peer.bus.to_any("Instance", b"work", expires=SOON)
        self.assertEqual(await peer.next(), b"work")

    async def test_blocked(self) -> None:
        """While a broker is short of memory sends fail at once; what is owned meanwhile holds afterwards."""
        node = self.node()
        peer = await self.connected_peer(node.new_url())
        self.addCleanup(node.ctl, "set_vm_memory_high_watermark", "0.6")
        await node.ctl("set_vm_memory_high_watermark", "0.000001")

        async def is_away() -> bool:
            try:
                await peer.bus.to_inbox(peer.bus.inbox, b"hello", expires=SOON)
            except BusAway:
                return True
            return False

        await eventually(is_away, LONG)
        self.assertTrue(peer.bus.connected)
        peer.bus.own("Instance", "w2")
        await node.ctl("set_vm_memory_high_watermark", "0.6")
        await eventually(lambda: client_of(peer).blocked is None, LONG)
        await peer.bus.settled()
        await peer.bus.to_owner("Instance", "w2", b"two", expires=SOON)
        while await peer.next() != b"two":
            pass

    async def test_next_address(self) -> None:
        """Of several URLs the next is tried when one does not answer, or is lost."""
        node = self.node()
        (closed,) = free_ports(1)
        nowhere = f"amqp://guest:s3cret@127.0.0.1:{closed}//"
        peer = await self.connected_peer(";".join([nowhere, node.new_url(), shared_rabbitmq().new_url()]))
        await peer.echo()
        await deferToThread(node.kill)
        self.assertFalse(await peer.changed())
        self.assertTrue(await peer.changed())
        await peer.echo()
        self.assertIn(f"guest:***@127.0.0.1:{closed}", self.log_text())
        self.assertNotIn("s3cret", self.log_text())
