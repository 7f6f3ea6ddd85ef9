"""Tasks that are put off and held by a branch, from the request to the worker, through kills and outages."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from attrs import evolve
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from cyme.errors import BrokerAway
from cyme.gateway.holding import MOST_DUE
from cyme.queued import TaskState
from tests.contracts.gateway import MESSAGE
from tests.functional.branchcase import BranchTestCase
from tests.functional.gatewayworld import RealWorld, rabbitmq_url
from tests.support.brokers import OnEmbedded, OnRabbitMQ
from tests.support.guarded import Guarded
from tests.support.recorder import Recorder
from tests.support.redis_server import RedisServer
from tests.support.sources import TOP
from tests.support.waiting import eventually

#: Seconds: long enough for a branch to be killed and to be up again.
DELAY = 8.0


class HoldingTests:
    """What holds on every broker."""

    options = (*BranchTestCase.options, "--hold-over", "0")

    async def setUp(self: Any) -> None:
        await super().setUp()  # type: ignore[misc]
        self.recorder = Recorder(self)

    async def put_off(self: Any, name: str, delay: float) -> str:
        """Queue a request that is made later; its place."""
        url = f"/foo/queue/http://127.0.0.1:{self.recorder.port}/{name}"
        answer = await self.ask("POST", url, 202, headers={"Cyme-Delay": str(delay)}, body=b"later")
        return f"/foo/query/{answer['uuid']}/"

    async def test_killed(self: Any) -> None:
        """A branch that is killed while it holds a request has it made once, and not before its time."""
        await self.create()
        began = time.time()
        place = await self.put_off("x", DELAY)
        revoked = await self.put_off("never", DELAY)
        await self.branch.kill()
        await self.start()
        self.assertEqual(await self.ask("GET", place + "state/"), {"state": "PENDING"})
        self.assertEqual((await self.ask("DELETE", revoked))["state"], "REVOKED")
        self.assertEqual(self.recorder.requests, [])
        found = await self.ask("GET", place + "wait/?timeout=60")
        self.assertEqual((found["state"], found["result"]["content"]), ("SUCCESS", "recorded"))
        self.assertGreaterEqual(time.time() - began, DELAY)
        # What went out twice would have been made by now: one worker makes one after the other.
        last = await self.put_off("last", 1.0)
        self.assertEqual((await self.ask("GET", last + "wait/?timeout=60"))["state"], "SUCCESS")
        requests = [(request.target, request.body) for request in self.recorder.requests]
        self.assertEqual(requests, [("/x", b"later"), ("/last", b"later")])

    async def test_expired(self: Any) -> None:
        """A task that expires before it is due is revoked, as Celery would."""
        await self.ask("PUT", "/foo/", 201)
        sent = await self.ask(
            "POST", "/foo/task/proj.celery.leave/", 202, json={"countdown": 1.5, "expires": 0.5}
        )
        found = await self.ask("GET", f"/foo/query/{sent['uuid']}/wait/?timeout=30")
        self.assertEqual(found["state"], "REVOKED")
        self.assertEqual(found["error"], {"type": "TaskRevokedError", "message": "expired"})


class HoldingOnRabbitMQTests(OnRabbitMQ, HoldingTests, BranchTestCase):
    """Over RabbitMQ."""


class HoldingOnEmbeddedTests(OnEmbedded, HoldingTests, BranchTestCase):
    """Over the embedded Redis."""


class OutageTests(TestCase):
    """A broker that is away when something is due."""

    timeout = 180

    async def test_away_when_due(self) -> None:
        """What was due meanwhile is published once the broker is back, each task once."""
        server = RedisServer(tcp=True)
        self.addCleanup(server.close)
        world = await RealWorld(self, server.url()).start(hold_over=0.0)
        due_at = time.time() + 3.0
        message = evolve(MESSAGE, app="app0", eta=due_at)
        ids = await gatherResults([world.gateway.queue(world.broker, message) for _ in range(300)])
        await deferToThread(server.kill)

        async def refused() -> bool:
            try:
                await world.gateway.queue(world.broker, evolve(message, eta=time.time() + 60.0))
            except BrokerAway:
                return True
            return False

        await eventually(refused, 30.0)
        await eventually(lambda: time.time() > due_at + 1.0, 30.0)
        self.assertEqual((await world.gateway.status(ids[0])).state, TaskState.PENDING)
        await deferToThread(server.start)
        found: list[str] = []

        async def all_there() -> bool:
            found[:] = await world.messages()
            return set(ids) <= set(found)

        await eventually(all_there, 60.0)
        self.assertEqual(sorted(found), sorted(ids))


class KilledTests(TestCase):
    """A gateway that is killed with -9 while it publishes what is due."""

    timeout = 180

    async def test_killed_while_publishing(self) -> None:
        """Nothing is lost, and nothing doubled but what was on its way at that moment."""
        world = await RealWorld(self, rabbitmq_url(self)).start(hold_over=0.0)
        message = evolve(MESSAGE, app="app0", eta=time.time() + 5.0)
        ids = await gatherResults([world.gateway.queue(world.broker, message) for _ in range(3000)])
        await world.stop()

        async def depth() -> int:
            return await deferToThread(world.worker.depth, MESSAGE.queue.name)

        kills = 3
        for _ in range(kills):
            before = await depth()

            async def is_more(before: int = before) -> bool:
                return await depth() > before

            argv = [sys.executable, "-m", "tests.support.gatewayprocess", world.folder, world.broker, "0"]
            environ = {**os.environ, "PYTHONPATH": str(TOP)}
            process = Guarded(argv, environ, cwd=str(TOP), root=world.folder)
            self.addCleanup(process.kill)
            await eventually(is_more, 60.0)
            process.kill()
        await world.start()

        async def all_out() -> bool:
            due = await world.store.due_tasks("b1", time.time(), (), 1, 1)
            return not due.tasks

        await eventually(all_out, 60.0)
        found = await world.messages()
        self.assertEqual(set(found), set(ids))
        self.assertLessEqual(len(found) - len(ids), kills * MOST_DUE)
