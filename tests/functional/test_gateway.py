"""`Gateway` on real brokers and a real database."""

from __future__ import annotations

import os
import random
import sys

from attrs import evolve
from celery import Celery
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from cyme.errors import BrokerAway, GatewayAway, Unroutable
from cyme.gateway.service import Gateway
from cyme.queued import TaskState
from tests.contracts.gateway import MESSAGE, make_gateway_tests
from tests.functional.gatewayworld import RESULTS, RealWorld, rabbitmq_url, redis_url, world_on
from tests.support.guarded import Guarded
from tests.support.rabbitmq import breakable_rabbitmq
from tests.support.redis_server import RedisServer
from tests.support.sources import TOP
from tests.support.taskbrokers import result_body
from tests.support.waiting import eventually


class RabbitMQContractTests(make_gateway_tests(world_on(rabbitmq_url))):  # type: ignore[misc]
    """`Gateway` over RabbitMQ."""


class RedisContractTests(make_gateway_tests(world_on(redis_url))):  # type: ignore[misc]
    """`Gateway` over Redis."""


async def queued_in_the_end(world: RealWorld) -> str:
    """Queue a task as soon as that can be done."""

    async def again() -> str | None:
        try:
            task_id: str = await world.gateway.queue(world.broker, MESSAGE)
        except BrokerAway:
            return None
        return task_id

    task_id: str = await eventually(again, 60.0)
    return task_id


class FailingTests(TestCase):
    """Brokers that do not take what they are given."""

    timeout = 180

    async def test_unroutable(self) -> None:
        """A queue that vanished is a clear error, and is there again for the next."""
        world = await RealWorld(self, rabbitmq_url(self)).start()
        await world.gateway.queue(world.broker, MESSAGE)
        await deferToThread(world.worker.delete, MESSAGE.queue.name)
        problem = await self.assertFailure(world.gateway.queue(world.broker, MESSAGE), Unroutable)
        self.assertIn("tâches", str(problem))
        task_id = await world.gateway.queue(world.broker, MESSAGE)
        self.assertEqual(await world.messages(), [task_id])

    async def test_refused(self) -> None:
        """A queue that refuses what is over its limit gives no task."""
        world = await RealWorld(self, rabbitmq_url(self)).start()
        full = evolve(
            MESSAGE.queue, options='{"queue_arguments": {"x-max-length": 1, "x-overflow": "reject-publish"}}'
        )
        message = evolve(MESSAGE, queue=full)
        await world.gateway.queue(world.broker, message)
        problem = await self.assertFailure(world.gateway.queue(world.broker, message), BrokerAway)
        self.assertIn("refused", str(problem))

    async def test_blocked(self) -> None:
        """A broker short of memory gives no task, and does again once it has some."""
        node = breakable_rabbitmq()
        self.addCleanup(node.ctl, "set_vm_memory_high_watermark", "0.6")
        world = await RealWorld(self, node.new_url()).start()
        await world.gateway.queue(world.broker, MESSAGE)
        await node.ctl("set_vm_memory_high_watermark", "0.000001")
        problem = await self.assertFailure(world.gateway.queue(world.broker, MESSAGE), BrokerAway)
        self.assertIn("short of memory", str(problem))
        await self.assertFailure(world.gateway.queue(world.broker, MESSAGE), BrokerAway)
        await node.ctl("set_vm_memory_high_watermark", "0.6")

        await queued_in_the_end(world)

    async def test_outage(self) -> None:
        """While a broker is away tasks are refused; when it is back they are taken, and results come."""
        server = RedisServer(tcp=True)
        self.addCleanup(server.close)
        world = await RealWorld(self, server.url()).start()
        task_id = await world.gateway.queue(world.broker, MESSAGE)
        await deferToThread(server.kill)
        await self.assertFailure(world.gateway.queue(world.broker, MESSAGE), BrokerAway)
        await self.assertFailure(world.gateway.queue(world.broker, MESSAGE), BrokerAway)
        await deferToThread(server.start)

        other = await queued_in_the_end(world)
        await world.answer_all(*(result_body(one, TaskState.SUCCESS, one) for one in (task_id, other)))
        for one in (task_id, other):
            self.assertEqual((await world.gateway.wait(one, 30.0)).result, one)

    async def test_absent(self) -> None:
        """A broker that was never there gives no task, and no row is left of it."""
        world = await RealWorld(self, redis_url(self)).start()
        absent = "amqp://me:hidden@127.0.0.1:1//"
        problem = await self.assertFailure(world.gateway.queue(absent, MESSAGE), BrokerAway)
        self.assertNotIn("hidden", str(problem))

    async def test_stopped(self) -> None:
        """A gateway that was stopped takes nothing more."""
        world = await RealWorld(self, redis_url(self)).start()
        gateway: Gateway = world.gateway
        await world.stop()
        await self.assertFailure(gateway.queue(world.broker, MESSAGE), GatewayAway)


class CollectingTests(TestCase):
    """What comes back."""

    timeout = 180

    async def waits_and_is_collected(self, url: str) -> None:
        """Results that come while the gateway is down are stored when it is up again."""
        world = await RealWorld(self, url).start()
        ids = [await world.gateway.queue(world.broker, MESSAGE) for _ in range(20)]
        await world.stop()
        await world.answer_all(*(result_body(one, TaskState.SUCCESS, one) for one in ids))
        await deferToThread(world.worker.garbage, RESULTS)
        unknown = result_body("01234567-0000-8000-8000-000000000000", TaskState.SUCCESS, 1)
        await world.answer_all(unknown, *(result_body(one, TaskState.STARTED) for one in ids))
        await world.start()
        found = await gatherResults([world.gateway.wait(one, 30.0) for one in ids])
        self.assertEqual([one.result for one in found], ids)

        async def empty() -> bool:
            return await deferToThread(world.worker.depth, RESULTS) == 0

        await eventually(empty, 30.0)
        states = await gatherResults([world.gateway.status(one) for one in ids])
        self.assertEqual({one.state for one in states}, {TaskState.SUCCESS})

    async def test_rabbitmq(self) -> None:
        """What waited in RabbitMQ is stored, garbage between it or not."""
        await self.waits_and_is_collected(rabbitmq_url(self))

    async def test_redis(self) -> None:
        """What waited in Redis is stored, garbage between it or not."""
        await self.waits_and_is_collected(redis_url(self))

    async def test_many_waiters(self) -> None:
        """Ten thousand who wait are all told."""
        world = await RealWorld(self, rabbitmq_url(self)).start()
        ids = await gatherResults([world.gateway.queue(world.broker, MESSAGE) for _ in range(2000)])
        waiting = [world.gateway.wait(one, 100.0) for one in ids for _ in range(5)]
        await world.answer_all(*(result_body(one, TaskState.SUCCESS, one) for one in ids))
        found = await gatherResults(waiting)
        self.assertEqual({one.result for one in found}, set(ids))

    async def test_celery(self) -> None:
        """Celery's own worker code reads our messages as it reads its own."""
        world = await RealWorld(self, rabbitmq_url(self)).start()
        message = evolve(MESSAGE, priority=3, eta=1.0e9, expires=2.0e9)
        task_id = await world.gateway.queue(world.broker, message)
        ((headers, properties, body),) = await deferToThread(world.worker.take, MESSAGE.queue.name)
        with Celery(set_as_current=False) as app:
            theirs = app.amqp.as_task_v2(task_id, "proj.add", [1, "zwei"], {"three": None})
        self.assertEqual(set(theirs.headers) - set(headers), set())
        self.assertEqual((headers["id"], headers["root_id"]), (task_id, task_id))
        self.assertEqual(headers["eta"], "2001-09-09T01:46:40+00:00")
        self.assertEqual((body[0], body[1], body[2]), (list(theirs.body[0]), theirs.body[1], theirs.body[2]))
        self.assertEqual(properties["correlation_id"], task_id)
        self.assertEqual((properties["reply_to"], properties["delivery_mode"]), (RESULTS, 2))
        self.assertEqual(properties["priority"], 3)

    async def test_expiry(self) -> None:
        """A result is gone after its time."""
        world = await RealWorld(self, redis_url(self)).start(result_expires=0.0)
        task_id = await world.gateway.queue(world.broker, MESSAGE)
        await world.answer(task_id, TaskState.SUCCESS, 1)
        await world.gateway.wait(task_id, 30.0)
        await world.stop()
        await world.start()

        async def gone() -> bool:
            return not await world.store.read_tasks([task_id])

        await eventually(gone, 30.0)


class KilledTests(TestCase):
    """A gateway that is killed with -9 in the middle of everything."""

    timeout = 300

    def process(self, world: RealWorld, rate: int) -> Guarded:
        argv = [sys.executable, "-m", "tests.support.gatewayprocess", world.folder, world.broker, str(rate)]
        environ = {**os.environ, "PYTHONPATH": str(TOP)}
        process = Guarded(argv, environ, cwd=str(TOP), root=world.folder)
        self.addCleanup(process.kill)
        return process

    async def killed(self, url: str) -> None:
        """Kill it while it queues, then again and again while it collects; nothing is lost or doubled."""
        world = RealWorld(self, url)
        world.gateway = None
        process = self.process(world, 20)
        await deferToThread(process.wait_for_line, lambda line: "ready" in line, 60.0)
        await deferToThread(lambda: process.wait_for_line(lambda line: len(issued(process)) > 500, 60.0))
        process.kill()
        ids = issued(process)
        queued = await world.messages()
        self.assertEqual(set(ids) - set(queued), set(), "issued and not on the broker")
        self.assertEqual(len(set(queued)), len(queued))
        await world.answer_all(*(result_body(one, TaskState.SUCCESS, one) for one in queued))
        for _ in range(5):
            process = self.process(world, 0)
            await deferToThread(process.wait_for_line, lambda line: "ready" in line, 60.0)
            await deferLater(reactor, random.uniform(0.0, 0.05))
            process.kill()
        await world.start()
        found = await gatherResults([world.gateway.wait(one, 30.0) for one in ids])
        self.assertEqual([one.result for one in found], ids)

    async def test_rabbitmq(self) -> None:
        """With RabbitMQ."""
        await self.killed(rabbitmq_url(self))

    async def test_redis(self) -> None:
        """With Redis."""
        await self.killed(redis_url(self))


def issued(process: Guarded) -> list[str]:
    """The ids that a process says it has issued; its last line may be cut."""
    return [line for line in process.lines() if len(line) == 36]
