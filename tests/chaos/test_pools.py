"""Pools: ranges that make no sense (failure-modes F6), pools that can't grow or can't answer (F7)."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests.chaos.chaoscase import ChaosCase
from tests.support.waiting import eventually

NODE = f"w1@{socket.gethostname()}"


class RangeTests(ChaosCase):
    """Celery takes any range and says ok."""

    async def test_refused(self) -> None:
        """A range that can't be is refused and reaches no worker."""
        before = await self.create(max_concurrency=3, min_concurrency=2)
        for params in (
            *({"max": "1", "min": "4"}, {"max": "1"}, {"min": "4"}),
            *({"max": "0"}, {"max": "-1"}, {"min": "-1"}, {"max": "three"}, {"max": "2.5"}),
        ):
            await self.ask("POST", "/foo/instances/w1/autoscale/", 400, params=params)
        self.assertEqual(await self.scale_of(), (3, 2))
        await self.assert_same_life(before)
        self.assertNotIn("autoscaled", await self.happened())

    async def test_nonsense_by_hand(self) -> None:
        """A worker to which somebody sent a range that can't be gets its own back."""
        await self.create(max_concurrency=2)
        for most, least in ((1, 4), (-1, -1)):
            await self.control("autoscale", most, least, destination=[NODE])
            self.assertNotEqual(await self.scale_of(), (2, 1))
            await self.until_scaled(2, 1)
        self.assertEqual((await self.instance())["state"], "running")


class RigidPoolTests(ChaosCase):
    """Pools without `grow`: a worker with one and an autoscaler dies at its first load."""

    async def test_threads_under_load(self) -> None:
        """An instance with a range and a pool of threads does more tasks than it has threads, and lives."""
        await self.create_app(pool="threads")
        before = await self.create(max_concurrency=3)
        for number in range(12):
            await self.send("proj.celery.note", self.path("notes"), number, 0.1, queue="dq.w1")

        def done() -> bool:
            notes = Path(self.path("notes"))
            return notes.exists() and len(notes.read_text().split()) == 12

        await eventually(done, 60.0, "twelve tasks")
        await self.assert_same_life(before)
        await self.ask("POST", "/foo/instances/w1/autoscale/", params={"max": "5"})
        after = await self.until_replaced(before["pid"])
        self.assertEqual((after["failures"], after["last_exit"]["status"]), (0, 0))
        stats = (await self.ask("GET", "/foo/instances/w1/stats/"))["stats"]
        self.assertEqual(stats["pool"]["max-concurrency"], 5)


class BusyPoolTests(ChaosCase):
    """A pool that does its tasks in the worker's main process, which answers nothing meanwhile."""

    command = "impatient"

    async def test_busy_solo(self) -> None:
        """A worker with a solo pool, which answers nothing while it works, is not taken for dead."""
        await self.create_app(pool="solo")
        before = await self.create()
        await self.send("proj.celery.wait_for", self.path("task"), self.path("go"), queue="dq.w1")
        await self.file("task.begun")
        # Longer than a silent prefork worker has, see tests.chaos.test_frozen.
        checks = self.branch.log_text().count("wake-up")
        await eventually(lambda: self.branch.log_text().count("wake-up") >= checks + 5, 60.0)
        self.assertFalse(os.path.exists(self.path("task.ended")))
        Path(self.path("go")).touch()
        await self.file("task.ended")
        await self.assert_same_life(before)
