"""Remote control over real brokers, with simulated workers and with Celery's own."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any

from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from cyme.errors import BrokerAway, DeclarationMismatch, InvalidDeclaration
from cyme.planning import ConsumedQueue
from cyme.remote import RemoteControl
from tests.contracts.remote import make_remote_tests
from tests.support.answering import AnsweringNodes
from tests.support.guarded import Guarded
from tests.support.ports import free_ports
from tests.support.rabbitmq import RabbitMQ, breakable_rabbitmq, shared_rabbitmq
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually


class Brokers:
    """A remote control and what it is told about brokers."""

    def __init__(self, case: TestCase, broker: str, absent: str = "") -> None:
        self.remote = RemoteControl(reactor, retry_policy=lambda failures: 0.1)
        self.broker = broker
        self.absent = absent
        self.changes: list[tuple[str, bool]] = []
        self._waiting: list[tuple[str, bool | None, Deferred[bool]]] = []
        self.remote.subscribe(self._changed)
        case.addCleanup(self.remote.close)

    def _changed(self, broker: str, reachable: bool) -> None:
        self.changes.append((broker, reachable))
        for waiting in list(self._waiting):
            its_broker, wanted, fired = waiting
            if its_broker == broker and wanted in (None, reachable):
                self._waiting.remove(waiting)
                fired.callback(reachable)

    def known(self, broker: str) -> Deferred[bool]:
        return self._once(broker, None)

    def up(self) -> Deferred[bool]:
        """Fire when the broker is reachable."""
        return self._once(self.broker, True)

    def down(self) -> Deferred[bool]:
        """Fire when the broker is not reachable."""
        return self._once(self.broker, False)

    def _once(self, broker: str, wanted: bool | None) -> Deferred[bool]:
        now = self.remote.reachable(broker)
        if now is not None and wanted in (None, now):
            return succeed(now)
        fired: Deferred[bool] = Deferred()
        self._waiting.append((broker, wanted, fired))
        return fired.addTimeout(60, reactor)

    def pass_time(self, seconds: float) -> Deferred[None]:
        return deferLater(reactor, seconds)

    def ask(self, command: str, *nodes: str, timeout: float = 10.0, **arguments: Any) -> Any:
        return self.remote.ask(self.broker, command, nodes, arguments, timeout=timeout)


def remote_over(url: Callable[[TestCase], str], absent: str) -> Any:
    """A fixture for the contract: simulated workers on a new broker."""

    def fixture(case: TestCase) -> Deferred[Any]:
        async def make() -> Any:
            broker = await deferToThread(url, case)
            nodes = await deferToThread(AnsweringNodes, broker, ["w1@host", "w2@host"], ["mute@host"])
            case.addCleanup(deferToThread, nodes.close)
            return Brokers(case, broker, absent.format(port=free_ports(1)[0]))

        return ensureDeferred(make())

    return fixture


def rabbitmq_url(case: TestCase) -> str:
    return shared_rabbitmq().new_url()


def redis_socket_url(case: TestCase) -> str:
    server = RedisServer()
    case.addCleanup(server.close)
    return server.url()


def redis_tcp_url(case: TestCase) -> str:
    server = RedisServer(tcp=True)
    case.addCleanup(server.close)
    return server.url(3)


ON_RABBITMQ = remote_over(rabbitmq_url, "amqp://user:hidden@127.0.0.1:{port}//")
ON_REDIS_SOCKET = remote_over(redis_socket_url, "redis+socket://:hidden@/nowhere/redis.sock")
ON_REDIS = remote_over(redis_tcp_url, "redis://:hidden@127.0.0.1:{port}/0")


class RabbitMQContractTests(make_remote_tests(ON_RABBITMQ)):  # type: ignore[misc]
    """`RemoteControl` over RabbitMQ."""


class RedisSocketContractTests(make_remote_tests(ON_REDIS_SOCKET)):  # type: ignore[misc]
    """`RemoteControl` over Redis on a unix socket."""


class RedisContractTests(make_remote_tests(ON_REDIS)):  # type: ignore[misc]
    """`RemoteControl` over Redis on TCP."""


class ThreadsTests(TestCase):
    """The threads of connections."""

    timeout = 60

    async def _end(self, url: str) -> None:
        brokers = Brokers(self, url)
        gc.collect()
        threads, descriptors = threading.enumerate(), len(os.listdir("/proc/self/fd"))
        await brokers.up()
        await brokers.remote.delete_queue(url, "dq.w1")
        await brokers.remote.close()
        gc.collect()
        self.assertEqual(threading.enumerate(), threads)
        self.assertEqual(len(os.listdir("/proc/self/fd")), descriptors)

    async def test_end_on_rabbitmq(self) -> None:
        """After `close` no thread and no descriptor of any connection is left."""
        await self._end(await deferToThread(rabbitmq_url, self))

    async def test_end_on_redis(self) -> None:
        """After `close` no thread, no descriptor and no key on the server is left."""
        url = await deferToThread(redis_socket_url, self)
        await self._end(url)

        def keys() -> list[bytes]:
            with Connection(url) as connection:
                return list(connection.channel().client.keys("*pidbox*"))

        self.assertEqual(await deferToThread(keys), [])

    async def test_retain(self) -> None:
        """Connections to brokers that are left out end; others stay."""
        kept = await deferToThread(rabbitmq_url, self)
        left_out = await deferToThread(rabbitmq_url, self)
        brokers = Brokers(self, kept)
        await brokers.up()
        await brokers.known(left_out)
        brokers.remote.retain([kept])
        node, vhost = shared_rabbitmq(), left_out.rpartition("/")[2]
        closing = re.compile(rf"closing AMQP connection .*vhost: '{vhost}'")
        # To ask the node takes a second of processor time.
        await eventually(lambda: closing.search(node.log_text()), 20.0, "the end of a connection")
        vhosts = [row[0] for row in await node.ctl("list_connections", "vhost")]
        self.assertNotIn(vhost, vhosts)
        self.assertIn(kept.rpartition("/")[2], vhosts)
        self.assertTrue(brokers.remote.reachable(kept))


class OutageTests(TestCase):
    """Brokers that go away."""

    timeout = 180

    async def _node(self) -> RabbitMQ:
        node: RabbitMQ = await deferToThread(breakable_rabbitmq)
        self.addCleanup(deferToThread, node.mend)
        return node

    async def test_killed_and_back(self) -> None:
        """A broker that dies fails what is under way at once; when it is back, so is the line."""
        node = await self._node()
        brokers = Brokers(self, await deferToThread(node.new_url))
        await brokers.up()
        asked = brokers.ask("ping", "w1@host", timeout=100)
        await deferToThread(node.kill)
        with self.assertRaises(BrokerAway):
            await asked
        self.assertFalse(brokers.remote.reachable(brokers.broker))
        before = reactor.seconds()
        await deferToThread(node.start)
        await brokers.up()
        self.assertGreaterEqual(brokers.remote.revived_at(brokers.broker) or 0, before)
        self.assertEqual([reachable for _, reachable in brokers.changes], [True, False, True])
        nodes = await deferToThread(AnsweringNodes, brokers.broker, ["w1@host"])
        self.addCleanup(deferToThread, nodes.close)
        self.assertEqual(await brokers.ask("ping", "w1@host"), {"w1@host": {"ok": "pong"}})

    async def test_frozen(self) -> None:
        """A broker that hangs is noticed because a question to it stays without an answer, and is blamed."""
        node = await self._node()
        brokers = Brokers(self, await deferToThread(node.new_url))
        await brokers.up()
        node.freeze()
        with self.assertRaises(BrokerAway):
            await brokers.ask("ping", "w1@host", timeout=0.2)
        await brokers.down()
        node.thaw()
        await brokers.up()

    async def test_redis_killed_and_back(self) -> None:
        """A Redis server that dies and comes back is noticed, and the line works again."""
        server = await deferToThread(RedisServer)
        self.addCleanup(deferToThread, server.close)
        brokers = Brokers(self, server.url())
        await brokers.up()
        await deferToThread(server.kill)
        await brokers.down()
        await deferToThread(server.start)
        await brokers.up()
        nodes = await deferToThread(AnsweringNodes, server.url(), ["w1@host"])
        self.addCleanup(deferToThread, nodes.close)
        self.assertEqual(await brokers.ask("ping", "w1@host"), {"w1@host": {"ok": "pong"}})

    async def test_alternatives(self) -> None:
        """Of several URLs one that answers is used."""
        good = await deferToThread(rabbitmq_url, self)
        bad = f"amqp://guest:guest@127.0.0.1:{free_ports(1)[0]}//"
        brokers = Brokers(self, f"{bad};{good}")
        await brokers.up()
        await brokers.remote.delete_queue(brokers.broker, "dq.w1")

    async def test_secrets(self) -> None:
        """Neither the log nor an error shows the password of a broker that refuses it."""
        events: list[str] = []

        def observe(event: Any) -> None:
            events.append(repr(event))

        publisher: Any = globalLogPublisher
        publisher.addObserver(observe)
        self.addCleanup(publisher.removeObserver, observe)
        url = shared_rabbitmq().url(userid="guest", password="s3cr3t%2Fword")
        brokers = Brokers(self, url)
        await brokers.down()
        with self.assertRaises(BrokerAway) as caught:
            await brokers.ask("ping", "w1@host")
        said = "".join([*events, str(caught.exception), *(thread.name for thread in threading.enumerate())])
        self.assertIn("ACCESS_REFUSED", said)
        self.assertNotIn("s3cr3t", said)


class PoisonTests(TestCase):
    """Messages that nobody should send."""

    timeout = 60

    async def test_garbage_in_the_reply_queue(self) -> None:
        """Replies that can't be read are dropped, and the next question is answered."""
        fixture = remote_over(rabbitmq_url, "")
        brokers = await fixture(self)
        await brokers.up()
        vhost = brokers.broker.rpartition("/")[2]
        [queue] = [
            row[0]
            for row in await shared_rabbitmq().ctl("list_queues", "-p", vhost, "name")
            if row[0].endswith(".reply.celery.pidbox")
        ]

        def send() -> None:
            with Connection(brokers.broker) as connection, connection.Producer() as producer:
                for body, properties in (
                    (b"\x80", {"content_type": "application/x-python-serialize"}),
                    (b"{", {"content_type": "application/json", "headers": {"ticket": "t"}}),
                    (b"[1]", {"content_type": "application/json", "headers": {"ticket": "t"}}),
                    (b"[1]", {"content_type": "application/json"}),
                    (b"[1]", {"content_type": "application/json", "headers": {"ticket": [None, 1.5]}}),
                ):
                    producer.publish(body, routing_key=queue, content_encoding="binary", **properties)

        await deferToThread(send)
        self.assertEqual(list(await brokers.ask("ping", "w1@host")), ["w1@host"])
        self.assertEqual(brokers.changes, [(brokers.broker, True)])


class DeclareTests(TestCase):
    """Trying declarations on RabbitMQ."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.brokers = Brokers(self, await deferToThread(rabbitmq_url, self))
        self.vhost = self.brokers.broker.rpartition("/")[2]
        await self.brokers.up()

    def declare(self, name: str = "tasks", **values: Any) -> Any:
        values = {"exchange": name, "exchange_type": "direct", "routing_key": name, **values}
        values["options"] = json.dumps(values.get("options", {}))
        return self.brokers.remote.declare(self.brokers.broker, ConsumedQueue(name=name, **values))

    async def test_as_a_worker_does(self) -> None:
        """Queue, exchange and binding are what the declaration says."""
        self.assertTrue(
            await self.declare(
                exchange="ex", exchange_type="topic", routing_key="a.#", options={"max_priority": 5}
            )
        )
        ctl = shared_rabbitmq().ctl
        queues = await ctl("list_queues", "-p", self.vhost, "name", "durable", "arguments")
        self.assertIn(["tasks", "true", '[{"x-max-priority",5}]'], queues)
        self.assertIn(
            ["ex", "topic", "true"], await ctl("list_exchanges", "-p", self.vhost, "name", "type", "durable")
        )
        self.assertIn(
            ["ex", "tasks", "a.#"],
            await ctl("list_bindings", "-p", self.vhost, "source_name", "destination_name", "routing_key"),
        )

    async def test_mismatch(self) -> None:
        """A queue that exists with other properties is a mismatch; the line lives on."""
        await self.declare()
        with self.assertRaises(DeclarationMismatch) as caught:
            await self.declare(options={"max_priority": 3})
        self.assertIn("x-max-priority", str(caught.exception))
        self.assertEqual(self.brokers.changes, [(self.brokers.broker, True)])

    async def test_impossible(self) -> None:
        """What the broker can't make is invalid, in the broker's words."""
        for name, values, words in (
            ("q1", {"exchange_type": "nonsense"}, "nonsense"),
            ("q2", {"options": {"queue_arguments": {"x-message-ttl": "soon"}}}, "x-message-ttl"),
            ("q3", {"options": {"queue_arguments": {"x-max-length": 1 << 70}}}, ""),
            ("q4", {"options": {"expires": "soon"}}, "soon"),
            ("q5", {"options": {"no_such_option": 1}}, "no_such_option"),
            ("amq.q6", {}, "amq."),
        ):
            with self.assertRaises(InvalidDeclaration, msg=name) as caught:
                await self.declare(name, **values)
            self.assertIn(words, str(caught.exception))
        self.assertEqual(self.brokers.changes, [(self.brokers.broker, True)])

    async def test_nothing_to_declare(self) -> None:
        """On Redis there is nothing to declare, which is told."""
        url = await deferToThread(redis_socket_url, self)
        queue = ConsumedQueue(name="tasks", exchange="tasks", exchange_type="direct", routing_key="tasks")
        self.assertFalse(await self.brokers.remote.declare(url, queue))


class CountTests(TestCase):
    """What brokers count."""

    timeout = 60

    async def test_rabbitmq(self) -> None:
        """RabbitMQ counts messages and consumers, also behind a queue that is not there."""
        brokers = Brokers(self, await deferToThread(rabbitmq_url, self))
        queue = ConsumedQueue(name="q", exchange="q", exchange_type="direct", routing_key="q")
        await brokers.remote.declare(brokers.broker, queue)

        def send() -> None:
            with Connection(brokers.broker) as connection, connection.Producer() as producer:
                for _ in range(3):
                    producer.publish({}, exchange="q", routing_key="q")

        await deferToThread(send)
        with Connection(brokers.broker) as connection:
            consumer = connection.Consumer([Queue("q", no_declare=True)], prefetch_count=1, callbacks=[print])
            await deferToThread(consumer.consume)
            counts = await brokers.remote.count(brokers.broker, ["none", "q"])
        assert counts is not None and counts["q"] is not None
        self.assertEqual((counts["none"], counts["q"].consumers), (None, 1))
        self.assertIn(counts["q"].messages, (2, 3))

    async def test_redis(self) -> None:
        """Redis knows no consumers, and says so."""
        url = await deferToThread(redis_socket_url, self)
        self.assertIsNone(await Brokers(self, url).remote.count(url, ["q"]))


class PurgeTests(TestCase):
    """Emptying queues."""

    timeout = 60

    async def empty(self, url: str) -> None:
        brokers = Brokers(self, url)

        def send() -> None:
            queue = Queue("q", Exchange("q"), "q")
            with Connection(url) as connection, connection.Producer() as producer:
                for priority in (0, 0, 9):
                    producer.publish({}, exchange="q", routing_key="q", declare=[queue], priority=priority)

        await deferToThread(send)
        for number in (3, 0):
            self.assertEqual(await brokers.remote.purge(url, "q"), number)

    async def test_rabbitmq(self) -> None:
        """RabbitMQ tells how many messages it removed."""
        await self.empty(await deferToThread(rabbitmq_url, self))

    async def test_redis(self) -> None:
        """On Redis they go at every priority."""
        await self.empty(await deferToThread(redis_socket_url, self))


class DeleteQueueTests(TestCase):
    """Removing what an instance leaves on its broker."""

    timeout = 60

    async def test_rabbitmq(self) -> None:
        """The private queue and its exchange go; of another queue the exchange stays."""
        brokers = Brokers(self, await deferToThread(rabbitmq_url, self))
        for name in ("dq.w1", "shared"):
            queue = ConsumedQueue(name=name, exchange=name, exchange_type="direct", routing_key=name)
            await brokers.remote.declare(brokers.broker, queue)
            await brokers.remote.delete_queue(brokers.broker, name)
        ctl, vhost = shared_rabbitmq().ctl, brokers.broker.rpartition("/")[2]
        queues = {row[0] for row in await ctl("list_queues", "-p", vhost, "name")}
        exchanges = {row[0] for row in await ctl("list_exchanges", "-p", vhost, "name")}
        self.assertEqual((queues & {"dq.w1", "shared"}, exchanges & {"dq.w1", "shared"}), (set(), {"shared"}))

    async def test_redis(self) -> None:
        """On Redis the messages go, at every priority, and so do the bindings."""
        url = await deferToThread(redis_socket_url, self)
        brokers = Brokers(self, url)

        def use() -> list[bytes]:
            with Connection(url) as connection:
                for key in ("dq.w1", "another"):
                    queue = Queue("dq.w1", Exchange("dq.w1"), key)
                    with connection.Producer() as producer:
                        for priority in (0, 9):
                            producer.publish(
                                {}, exchange="dq.w1", routing_key=key, declare=[queue], priority=priority
                            )
                return keys()

        def keys() -> list[bytes]:
            with Connection(url) as connection:
                return list(connection.channel().client.keys("*dq.w1*"))

        self.assertEqual(len(await deferToThread(use)), 4)
        await brokers.remote.delete_queue(url, "dq.w1")
        self.assertEqual(await deferToThread(keys), [])


class CeleryTests(TestCase):
    """A worker of Celery's own."""

    timeout = 120

    async def _talk(self, url: str) -> None:
        brokers = Brokers(self, url)
        folder = tempfile.mkdtemp(prefix="cyme-remote-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        argv = [sys.executable, "-m", "celery", "worker", "-n", "w1@host", "-Q", "dq.w1", "--autoscale=2,1"]
        argv += ["--without-gossip", "--without-mingle", "--loglevel=INFO"]
        worker = await deferToThread(
            Guarded, argv, {**os.environ, "CELERY_BROKER_URL": url}, cwd=folder, root=folder
        )
        self.addCleanup(deferToThread, worker.kill)
        await brokers.up()

        async def pong() -> Any:
            return await brokers.ask("ping", "w1@host", timeout=1)

        self.assertEqual(await eventually(pong, 60), {"w1@host": {"ok": "pong"}})
        binding: dict[str, Any] = {"exchange": "ex", "exchange_type": "topic", "routing_key": "a.#"}
        await brokers.remote.declare(
            url, ConsumedQueue(name="tasks", options='{"max_priority": 5}', **binding)
        )
        added = await brokers.ask("add_consumer", "w1@host", queue="tasks", max_priority=5, **binding)
        self.assertEqual(added, {"w1@host": {"ok": "add consumer tasks"}})

        async def consuming() -> Any:
            [queues] = (await brokers.ask("active_queues", "w1@host")).values()
            return {queue["name"] for queue in queues} == {"dq.w1", "tasks"}

        await eventually(consuming, 20)
        [scaled] = (await brokers.ask("autoscale", "w1@host", max=3, min=2)).values()
        self.assertEqual(scaled, {"ok": "autoscale now max=3 min=2"})
        [stats] = (await brokers.ask("stats", "w1@host")).values()
        self.assertEqual((stats["autoscaler"]["max"], stats["autoscaler"]["min"]), (3, 2))

    async def test_rabbitmq(self) -> None:
        """On RabbitMQ it answers and obeys, and survives a consumer whose declaration was tried."""
        await self._talk(await deferToThread(rabbitmq_url, self))

    async def test_redis(self) -> None:
        """On Redis it answers and obeys."""
        await self._talk(await deferToThread(redis_socket_url, self))
