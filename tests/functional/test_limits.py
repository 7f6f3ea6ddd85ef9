"""Limits of a real worker: what it takes is told, and when it takes too much it is replaced."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnEmbedded
from tests.support.waiting import eventually, when_ended

MIB = 1 << 20


def tree_by_ps(leader: int) -> tuple[int, int]:
    """(processes, resident bytes) of a session, as `ps` says."""
    said = subprocess.run(
        ["ps", "-o", "rss=", "-s", str(leader)], capture_output=True, text=True, check=True, timeout=30
    ).stdout.split()
    return len(said), sum(map(int, said)) * 1024


class LimitsTests(OnEmbedded, BranchTestCase):
    """Figures, and what follows from them."""

    # Workers are measured as often as they are checked.
    options = ("--sup-interval", "1", "--warm-timeout", "10")

    async def create(self, name: str = "w1", app: str = "foo", **parameters: Any) -> Any:
        await self.http.put("/foo/", form={"celery_app": "proj.celery:app"})
        return await super().create(name, app, **parameters)

    async def measured(self, name: str = "w1") -> Any:
        """Wait until a worker's present process was measured twice; its details."""

        async def look() -> Any:
            details = await self.instance(name)
            resources = details["resources"]
            self.assertTrue(resources is not None and resources["cpu_percent"] is not None, details)
            return details

        return await eventually(look, 30.0)

    async def stops(self, name: str = "w1") -> list[str]:
        """Why the worker of an instance was stopped, as the why-log says."""
        events = await self.ask("GET", f"/foo/instances/{name}/events/")
        return [event["details"]["reason"] for event in events if event["kind"] == "stopping"]

    async def test_figures(self) -> None:
        """What a worker takes is near to what `ps` says of its session."""
        details = await self.create(max_concurrency=3, min_concurrency=3)
        pid = details["pid"]

        async def near() -> Any:
            resources = (await self.measured())["resources"]
            processes, rss = await deferToThread(tree_by_ps, pid)
            self.assertEqual(resources["processes"], processes)
            self.assertGreaterEqual(processes, 4)
            self.assertTrue(0.8 < resources["rss"] / rss < 1.25, (resources, rss))
            return resources

        resources = await eventually(near, 30.0)
        self.assertGreater(resources["cpu_seconds"], 0.1)
        self.assertGreater(resources["open_files"], 3 * 4)
        limits = Path(f"/proc/{pid}/limits").read_text()
        self.assertIn(str(resources["open_files_limit"]), limits)
        stats = await self.ask("GET", "/foo/instances/w1/stats/")
        self.assertEqual(stats["resources"]["processes"], resources["processes"])

    async def test_max_memory(self) -> None:
        """A worker whose pool child eats memory finishes its task, is replaced, and the log says why."""
        before = await self.create()
        base = (await self.measured())["resources"]["rss"]
        limit = base + 200 * MIB
        await self.create_limit(max_memory=f"{limit >> 10}K")
        await self.send("proj.celery.eat", self.path("task"), self.path("go"), 300, queue="dq.w1")
        await self.file("task.begun")
        await self.until_state("stopping")
        self.assertFalse(os.path.exists(self.path("task.ended")))
        Path(self.path("go")).touch()
        await self.file("task.ended")
        after = await self.until_replaced(before["pid"])
        await when_ended(before["pid"], 30.0)
        [reason] = await self.stops()
        self.assertRegex(reason, r"it takes [0-9.]+ MiB, over its max_memory of [0-9.]+ MiB")
        self.assertEqual((await self.measured())["pid"], after["pid"])

    async def test_too_little(self) -> None:
        """A limit below what a worker needs to start makes it back off, until the limit is taken away."""
        await self.http.put("/foo/", form={"celery_app": "proj.celery:app"})
        await self.ask("PUT", "/foo/instances/w1/", 201, params={"max_memory": "10M"})

        async def backed_off() -> Any:
            details = await self.instance()
            self.assertEqual((details["state"], details["failures"] >= 2), ("backoff", True), details)
            return details

        details = await eventually(backed_off, 90.0)
        self.assertIn("max_memory of 10.0 MiB", str(details["problems"]))
        await self.create_limit(max_memory="0")
        details = await self.until_state("running")
        self.assertIsNone(details["max_memory"])

    async def test_max_age(self) -> None:
        """Workers that are too old are replaced one after the other, and the log says why."""
        before = {name: (await self.create(name))["pid"] for name in ("w1", "w2")}
        await self.ask("PUT", "/foo/", 200, json={"max_age": 3})
        for name in before:
            await self.until_replaced(before[name], name)
        await self.ask("PUT", "/foo/", 200, json={"max_age": 0})
        for name in before:
            self.assertRegex((await self.stops(name))[0], r"it is [0-9]+ s old, over its max_age of 3 s")
        turns = [
            (event["kind"], event["instance"])
            for event in await self.ask("GET", "/events/", params={"limit": "1000"})
            if event["kind"] in ("stopping", "running")
        ]
        first = next(place for place, turn in enumerate(turns) if turn[0] == "stopping")
        self.assertEqual(turns[first + 1], ("running", turns[first][1]), turns)

    async def create_limit(self, **limits: Any) -> None:
        """Change the limits of w1."""
        await self.ask("PUT", "/foo/instances/w1/", 200, params=limits)
