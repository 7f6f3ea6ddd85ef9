"""A broker that is away for a while, under load (failure-modes F13), and lost connections (F16)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from tests.chaos.chaoscase import ChaosCase
from tests.support.waiting import eventually


class OutageTests(ChaosCase):
    """Two workers with tasks in their hands, and a model that changes while their broker is away."""

    async def running(self) -> list[Any]:
        """Two busy instances, one of them with consumers; their details."""
        await self.create_app()
        both = [await self.create(name, max_concurrency=2) for name in ("w1", "w2")]
        for queue in ("kept", "dropped"):
            await self.consume(queue)
        await self.ask("PUT", "/foo/queues/added/", 201)
        for number in range(40):
            await self.send("proj.celery.note", self.path("notes"), number, 0.3, queue="kept")
        await self.send("proj.celery.wait_for", self.path("task"), self.path("go"), queue="dq.w2")
        await self.file("notes")
        await self.file("task.begun")
        return both

    async def change(self) -> None:
        """Change what the instances are to be, without their broker; what needs it is refused."""
        answer = await self.http.put("/foo/instances/w1/queues/added/")
        self.assertEqual(answer.status, 503, answer.text)
        self.assertIn("retry-after", answer.headers)
        self.assertNotIn("guest:guest", answer.text)
        await self.ask("GET", "/foo/instances/w1/stats/", 503)
        await self.ask("DELETE", "/foo/instances/w1/queues/dropped/", params={"wait": "0"})
        await self.ask("PUT", "/foo/instances/w1/", 200, json={"queues": ["kept", "added"]})
        await self.ask("POST", "/foo/instances/w1/autoscale/", params={"max": "4", "min": "2", "wait": "0"})
        await self.ask("POST", "/foo/instances/w2/autoscale/", params={"max": "3", "wait": "0"})

    async def survive(
        self, outage: Callable[[], Awaitable[object]], end: Callable[[], Awaitable[object]]
    ) -> None:
        """Go through an outage of a few full checks, and come back as declared."""
        both = await self.running()
        await outage()
        for one in both:
            await self.until_state("unknown", one["name"], timeout=60.0)
        checks = self.branch.log_text().count("wake-up")
        await self.change()
        await eventually(lambda: self.branch.log_text().count("wake-up") >= checks + 3, 60.0)
        for one in both:
            details = await self.instance(one["name"])
            self.assertEqual((details["state"], details["pid"]), ("unknown", one["pid"]))
        await end()
        for one in both:
            await self.until_state("running", one["name"], timeout=60.0)
        await self.until_consuming("kept", "added")
        await self.until_consuming(name="w2")
        await self.until_scaled(4, 2)
        await self.until_scaled(3, 1, "w2")
        Path(self.path("go")).touch()
        await self.file("task.ended")
        await eventually(self.all_noted, 60.0, "forty tasks")
        for one in both:
            await self.assert_same_life(one)
            happened = await self.happened(one["name"])
            self.assertEqual((happened["broker-away"], happened["broker-back"]), (1, 1), happened)
            self.assertNotIn("stopping", happened)
        # Two declarations, two starts and two sets of changes: an outage adds nothing for its length.
        self.assertLess(len(await self.ask("GET", "/events/", params={"limit": "1000"})), 40)

    def all_noted(self) -> bool:
        return set(Path(self.path("notes")).read_text().split()) >= {str(one) for one in range(40)}

    async def test_stopped(self) -> None:
        """A broker that stops costs no worker its life; what changed meanwhile comes true after it."""
        await self.survive(lambda: deferToThread(self.broker.stop), lambda: deferToThread(self.broker.start))

    async def test_paused(self) -> None:
        """A network that drops packets instead of refusing is survived just so."""
        await self.survive(lambda: deferToThread(self.broker.freeze), lambda: deferToThread(self.broker.thaw))

    async def test_absent_at_first(self) -> None:
        """An instance that is created while the broker is away runs as soon as it is back."""
        await deferToThread(self.broker.kill)
        await self.ask("PUT", "/foo/", 201)
        await self.ask("PUT", "/foo/instances/w1/", 201)
        await deferToThread(self.broker.start)
        await self.until_state("running", timeout=90.0)


class LostConnectionTests(ChaosCase):
    """Connections that are closed while the broker stays."""

    async def test_closed_by_the_broker(self) -> None:
        """An added consumer and a cancelled one are what the model says after all connections were closed."""
        await self.create_app()
        before = await self.create()
        await self.consume("added")
        await self.consume("cancelled")
        await self.ask("DELETE", "/foo/instances/w1/queues/cancelled/")
        for _ in range(2):
            await deferToThread(self.broker.close_connections, self.vhost)
            await self.branch.wait_for_line("is away")
            await self.until_state("running")
            await self.until_consuming("added")
        await self.send("proj.celery.leave", self.path("a"), "one", queue="added")
        await self.file("a")
        await self.assert_same_life(before)

    async def test_closed_by_the_network(self) -> None:
        """So they are when connections go one by one, the branch's own left out."""
        await self.create_app()
        before = await self.create()
        await self.consume("added")
        lost = await deferToThread(self.close_workers)
        self.assertGreater(lost, 0)
        await eventually(lambda: "onnection" in self.worker_log().partition("ready.")[2], 30.0)
        await self.until_consuming("added")
        await self.assert_same_life(before)

    def close_workers(self) -> int:
        """Close the connections of everybody but the branch; how many there were."""
        rows = self.broker.ctl_now("list_connections", "-p", self.vhost, "pid", "client_properties")
        others = [row[0] for row in rows if "cyme remote control" not in row[1]]
        for pid in others:
            self.broker.ctl_now("close_connection", pid, "by the network")
        return len(others)
