"""Queues of a real branch: counted, paused, resumed and emptied over HTTP."""

from __future__ import annotations

import socket
from typing import Any

from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnEmbedded, OnRabbitMQ
from tests.support.waiting import eventually

NODE = f"w1@{socket.gethostname()}"
LEAVE = "proj.celery.leave"


class QueueTests:
    """What holds on every broker."""

    #: What the broker counts of a queue with two messages and no consumer, or None.
    counts: tuple[int, int] | None

    async def until_consuming(self: Any, *queues: str) -> None:
        async def as_declared() -> bool:
            return await self.queues_of() == {"dq.w1", *queues}

        await eventually(as_declared, 30.0, f"consumers of {queues}")

    async def test_pause(self: Any) -> None:
        """Messages of a paused queue wait, whoever meddles, and go when it is resumed or emptied."""
        await self.ask("PUT", "/foo/", 201, form={"celery_app": "proj.celery:app"})
        await self.ask("PUT", "/foo/queues/tasks/", 201)
        await self.create(queues=["tasks"])
        await self.until_consuming("tasks")
        await self.ask("POST", "/foo/queues/tasks/pause/")
        await self.until_consuming()
        for name in ("a", "b"):
            await self.send(LEAVE, self.path(name), "late", queue="tasks")
        shown = await self.ask("GET", "/foo/queues/tasks/")
        self.assertIs(shown["paused"], True)
        counts = (shown["messages"], shown["consumers"])
        self.assertEqual(counts, self.counts or (None, None))
        self.assertEqual((await self.ask("POST", "/foo/queues/tasks/purge/"))["purged"], 2)
        # What was declared survives the branch, and holds against those who change things by hand.
        await self.branch.kill()
        await self.start()
        await self.until_state("running")
        await self.control("add_consumer", "tasks", destination=[NODE])
        await self.until_consuming()
        await self.send(LEAVE, self.path("c"), "now", queue="tasks")
        await self.ask("POST", "/foo/queues/tasks/resume/")
        self.assertTrue((await self.file("c")).startswith("now "))
        self.assertEqual((await self.ask("POST", "/foo/queues/tasks/purge/"))["purged"], 0)


class QueuesOnRabbitMQTests(OnRabbitMQ, QueueTests, BranchTestCase):
    """Queues on RabbitMQ."""

    counts = (2, 0)


class QueuesOnEmbeddedTests(OnEmbedded, QueueTests, BranchTestCase):
    """Queues on the embedded Redis, which can't count consumers."""

    counts = None
