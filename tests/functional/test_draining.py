"""Draining real workers: running tasks end, and everybody can see how far it is."""

from __future__ import annotations

from typing import Any

from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnEmbedded, OnRabbitMQ
from tests.support.waiting import eventually

OWN_APP = {"celery_app": "proj.celery:app"}


class DrainMixin:
    """A running task, and a reserved one behind it."""

    async def occupied(self: Any, release: str) -> Any:
        """An instance one of whose tasks runs until the file `release` appears; another one waits."""
        details = await self.create(**OWN_APP)
        for name in ("first", "second"):
            await self.send("proj.celery.wait_for", self.path(name), self.path(release), queue="dq.w1")
        await self.file("first.begun")
        return details

    async def until_draining(self: Any, running: int) -> Any:
        async def look() -> Any:
            details = await self.instance()
            self.assertEqual(details["state"], "stopping", details)
            self.assertEqual((details["draining"] or {}).get("running"), running, details)
            return details

        return await eventually(look, 30.0)

    def release(self: Any, name: str) -> None:
        with open(self.path(name), "w"):
            pass

    async def test_drain(self: Any) -> None:
        """A worker that is drained says how much runs, ends it, stops, and stays so; the rest is kept."""
        before = await self.occupied("go")
        answer = await self.ask("POST", "/foo/instances/w1/drain/", params={"deadline": "120"})
        self.assertIs(answer["is_enabled"], False)
        details = await self.until_draining(1)
        self.assertEqual((details["pid"], details["draining"]["deadline"] > 0), (before["pid"], True))
        self.release("go")
        details = await self.until_state("disabled")
        self.assertEqual((details["last_exit"]["status"], details["last_exit"]["expected"]), (0, True))
        await self.file("first.ended")
        await self.ask("POST", "/foo/instances/w1/enable/")
        await self.until_state("running")
        await self.file("second.ended")

    async def test_deadline(self: Any) -> None:
        """At the deadline what still runs is given up, and the worker has stopped."""
        await self.occupied("never")
        details = await self.ask("POST", "/foo/instances/w1/drain/", params={"deadline": "1", "wait": "60"})
        self.assertEqual((details["state"], details["pid"]), ("disabled", None), details)

    async def test_resumed(self: Any) -> None:
        """A drain goes on after the branch was killed in the middle, with the same worker."""
        before = await self.occupied("go")
        await self.ask("POST", "/foo/instances/!/w1/drain/", 202, params={"deadline": "120"})
        await self.until_draining(1)
        await self.branch.kill()
        await self.start()
        details = await self.until_draining(1)
        self.assertEqual(details["pid"], before["pid"])
        self.release("go")
        await self.until_state("disabled")


class DrainOnRabbitMQTests(DrainMixin, OnRabbitMQ, BranchTestCase):
    """On RabbitMQ."""


class DrainOnEmbeddedTests(DrainMixin, OnEmbedded, BranchTestCase):
    """On the embedded default."""
