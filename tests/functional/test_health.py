"""Health of real workers: process, pong, consumers, progress, drift."""

from __future__ import annotations

import os
import signal
from typing import Any

from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnEmbedded, OnRabbitMQ
from tests.support.waiting import eventually

OWN_APP = {"celery_app": "proj.celery:app"}
PLACE = "/foo/instances/w1/health/"


class HealthMixin:
    """What `GET …/health/` says."""

    options = ("--sup-interval", "2", "--warm-timeout", "2")

    async def until_verdict(self: Any, verdict: str, status: int, timeout: float = 60.0) -> Any:
        async def look() -> Any:
            health = await self.ask("GET", PLACE, status)
            self.assertEqual(health["verdict"], verdict, health)
            return health

        return await eventually(look, timeout)

    async def test_ok(self: Any) -> None:
        """A worker that runs is ok, with evidence of every kind, each with its age."""
        details = await self.create()
        health = await self.until_verdict("ok", 200)
        self.assertEqual((health["process"]["pid"], health["reason"]), (details["pid"], None))
        self.assertEqual(health["consumers"]["worker"], ["dq.w1"])
        self.assertLess(health["pong"]["age"], 30)
        self.assertLess(health["consumers"]["age"], 30)
        self.assertEqual((health["progress"]["reserved"], health["drift"]), (0, []))
        if self.counts_consumers:
            self.assertEqual(health["consumers"]["broker"], {"dq.w1": {"consumers": 1, "messages": 0}})
        else:
            self.assertIsNone(health["consumers"]["broker"])

    async def test_disabled(self: Any) -> None:
        """A disabled instance is 503."""
        await self.create(is_enabled=True)
        await self.ask("POST", "/foo/instances/w1/disable/")
        await self.until_verdict("disabled", 503)

    async def test_frozen(self: Any) -> None:
        """A frozen worker is unresponsive; when it goes on soon, it is ok again and was not restarted."""
        details = await self.create()
        await self.until_verdict("ok", 200)
        os.kill(details["pid"], signal.SIGSTOP)
        health = await self.until_verdict("unresponsive", 503)
        self.assertEqual(health["process"]["state"], "T")
        os.kill(details["pid"], signal.SIGCONT)
        health = await self.until_verdict("ok", 200)
        self.assertEqual(health["process"]["pid"], details["pid"])


class WedgedMixin:
    """A worker that has to be killed."""

    command = "impatient"
    options = ("--sup-interval", "1", "--warm-timeout", "1")

    async def test_wedged_pool(self: Any) -> None:
        """A worker whose pool is wedged answers every ping; it is stalled, and is replaced (F2)."""
        details = await self.create(stall_timeout=4, **OWN_APP)
        stats = await self.ask("GET", "/foo/instances/w1/stats/")
        [child] = stats["stats"]["pool"]["processes"]
        os.kill(child, signal.SIGSTOP)
        for name in ("first", "second"):
            await self.send("proj.celery.leave", self.path(name), name, queue="dq.w1")
        after = await self.until_replaced(details["pid"])
        self.assertIn("stalled", " ".join(await self.reasons()))
        self.assertNotEqual(after["pid"], details["pid"])
        if self.counts_consumers:
            # Redis gives back what a killed worker had fetched only after an hour.
            await self.file("second")

    async def reasons(self: Any) -> list[str]:
        """Why the worker was stopped, each time."""
        events = await self.ask("GET", "/foo/instances/w1/events/", params={"limit": "1000"})
        return [event["details"]["reason"] for event in events if event["kind"] == "stopping"]


class HealthOnRabbitMQTests(HealthMixin, OnRabbitMQ, BranchTestCase):
    """On RabbitMQ."""

    counts_consumers = True


class HealthOnEmbeddedTests(HealthMixin, OnEmbedded, BranchTestCase):
    """On the embedded default."""

    counts_consumers = False


class WedgedOnRabbitMQTests(WedgedMixin, OnRabbitMQ, BranchTestCase):
    """On RabbitMQ."""

    counts_consumers = True


class WedgedOnEmbeddedTests(WedgedMixin, OnEmbedded, BranchTestCase):
    """On the embedded default."""

    counts_consumers = False
