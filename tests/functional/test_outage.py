"""A broker that goes away and comes back, under a branch and its workers."""

from __future__ import annotations

from typing import Any

from twisted.internet.threads import deferToThread

from tests.functional.branchcase import BranchTestCase
from tests.support.rabbitmq import RabbitMQ
from tests.support.waiting import eventually


class OutageTests(BranchTestCase):
    """A broker of its own, which the test may kill."""

    # A branch takes no broker that is away, however long, for a dead part of its own.
    options = (*BranchTestCase.options, "--wait-after-broker-revived", "3", "--hang-limit", "12")

    def branch_broker(self) -> str:
        self.broker = RabbitMQ()
        self.addCleanup(self.broker.close)
        return self.broker.url()

    def celery_broker(self, branch: Any) -> str:
        return self.broker.url()

    async def test_outage(self) -> None:
        """During an outage nothing is restarted and nothing lies; after it everything is as declared."""
        before = await self.create()
        await self.ask("POST", "/foo/queues/tasks/", 201)
        await deferToThread(self.broker.kill)
        await self.until_state("unknown")
        answer = await self.http.put("/foo/instances/w1/queues/tasks/")
        self.assertEqual(answer.status, 503, answer.text)
        self.assertIn("retry-after", answer.headers)
        self.assertNotIn("guest:guest", answer.text)
        answer = await self.http.get("/foo/instances/w1/stats/")
        self.assertEqual(answer.status, 503, answer.text)
        # What needs no broker is done.
        await self.ask("PUT", "/bar/", 201)
        await self.ask("POST", "/foo/instances/w1/autoscale/", params={"max": "3", "min": "1"})
        await deferToThread(self.broker.start)
        after = await self.until_state("running")
        self.assertEqual((after["pid"], after["last_exit"]), (before["pid"], None))

        async def as_declared() -> bool:
            stats = await self.ask("GET", "/foo/instances/w1/stats/")
            return bool(stats["stats"]) and stats["stats"]["autoscaler"]["max"] == 3

        await eventually(as_declared, 60.0, "the range that was declared meanwhile")
        await self.ask("PUT", "/foo/instances/w1/queues/tasks/", 201)
        self.assertEqual(await self.queues_of(), {"dq.w1", "tasks"})

    async def test_frozen(self) -> None:
        """A broker that takes packets and says nothing is as good as away; nothing is restarted."""
        before = await self.create()
        self.broker.freeze()
        self.addCleanup(self.broker.thaw)
        await self.until_state("unknown", timeout=90.0)
        self.broker.thaw()
        after = await self.until_state("running", timeout=90.0)
        self.assertEqual((after["pid"], after["last_exit"]), (before["pid"], None))

    async def test_start_without_broker(self) -> None:
        """An instance that is created while the broker is away runs as soon as it is back."""
        await deferToThread(self.broker.kill)
        await self.ask("PUT", "/foo/", 201)
        await self.ask("PUT", "/foo/instances/w1/", 201)
        await deferToThread(self.broker.start)
        await self.until_state("running", timeout=90.0)
