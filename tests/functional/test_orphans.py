"""A branch that orphans fall to, as to the first process of a container."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnEmbedded
from tests.support.waiting import eventually


def children_of(pid: int) -> dict[int, str]:
    """The children of a process, with the state of each, as `/proc` tells."""
    found = {}
    for entry in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in entry.read_text().split():
            try:
                stat = Path(f"/proc/{child}/stat").read_text()
            except OSError:
                continue
            found[int(child)] = stat.rpartition(")")[2].split()[0]
    return found


class OrphansTests(OnEmbedded, BranchTestCase):
    """What a killed worker leaves."""

    command = "subreaper"

    async def test_pool(self) -> None:
        """The pool of a worker that is killed leaves no zombies, and the worker is started anew."""
        details = await self.create(max_concurrency=3, min_concurrency=3)
        pool = await eventually(lambda: self.pool_of(details["pid"]), 30.0)
        os.kill(details["pid"], signal.SIGKILL)
        await self.until_replaced(details["pid"])

        async def gone() -> bool:
            present = children_of(self.branch.pid)
            self.assertEqual([pid for pid in (details["pid"], *pool) if pid in present], [])
            self.assertEqual([pid for pid, state in present.items() if state == "Z"], [])
            return True

        await eventually(gone, 30.0)
        events = await self.ask("GET", "/foo/instances/w1/events/")
        [ended] = [one for one in events if one["kind"] == "ended"]
        self.assertEqual(ended["details"]["signal"], "SIGKILL")

    async def pool_of(self, pid: int) -> list[int]:
        pool = list(children_of(pid))
        self.assertEqual(len(pool), 3)
        return pool
