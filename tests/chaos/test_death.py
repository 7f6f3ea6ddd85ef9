"""Processes that die by kill -9: a worker (failure-modes F9), its branch (F10), both."""

from __future__ import annotations

import os
import signal

from tests.chaos.chaoscase import ChaosCase, session_of
from tests.support.waiting import eventually, when_ended


class KilledTests(ChaosCase):
    """Nothing stays behind."""

    async def busy_worker(self) -> int:
        """A worker whose pool runs a program; the worker's pid."""
        await self.create_app()
        details = await self.create(max_concurrency=2, min_concurrency=2)
        await self.send("proj.celery.start_program", self.path("pid"), queue="dq.w1")
        program = int((await self.file("pid")).split()[0])
        session = session_of(details["pid"])
        self.assertIn(program, session)
        self.assertGreaterEqual(len(session), 4)
        return details["pid"]

    async def test_killed_worker(self) -> None:
        """A worker that is killed leaves neither its pool nor what its tasks have started."""
        pid = await self.busy_worker()
        os.kill(pid, signal.SIGKILL)
        await self.until_replaced(pid)
        await eventually(lambda: not session_of(pid), 10.0, "an empty session")

    async def test_killed_together(self) -> None:
        """A worker that is killed while there is no branch is replaced at the next start; nothing is left."""
        pid = await self.busy_worker()
        await self.branch.kill()
        os.kill(pid, signal.SIGKILL)
        await when_ended(pid, 10.0)
        await self.start()
        await self.until_replaced(pid)
        await eventually(lambda: not session_of(pid), 10.0, "an empty session")
        self.assertEqual((await self.happened())["adopted"], 0)
