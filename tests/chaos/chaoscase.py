"""What the tests of failures share: a broker that may be broken, and proof of who lived through it.

Where the failures that were seen are tried, by their rows in the list of failure modes:

    F3   a declaration that kills workers            test_declarations
    F4, F11, F12   exits that are no crash           test_exits
    F6   a range that makes no sense                 test_pools
    F7   a pool that can't grow, or can't answer     test_pools
    F9   kill -9 of a worker, and what it leaves     test_death
    F10  kill -9 of the branch                       functional.test_supervision (adopts), test_death
    F13  the broker away, stopped or frozen          test_outages
    F16  connections lost, consumers changed         test_outages
    F26  a frozen worker                             test_frozen, functional.test_supervision (stopped)
    all of it at once                                test_storm, and `make chaos`
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from tests.functional.branchcase import BranchTestCase
from tests.support.rabbitmq import breakable_rabbitmq
from tests.support.waiting import eventually

#: Seconds for which nothing is judged after the broker came back, in these tests.
HOLD_OFF = 4.0


class ChaosCase(BranchTestCase):
    """A branch, its workers, and a RabbitMQ node that the test may stop, kill and freeze."""

    # A branch takes no broker that is away, however long, for a dead part of its own.
    options = (
        *("--sup-interval", "1", "--warm-timeout", "10"),
        *("--wait-after-broker-revived", str(HOLD_OFF)),
        *("--hang-limit", "12"),
    )

    def branch_broker(self) -> str:
        self.broker = breakable_rabbitmq()
        self.addCleanup(deferToThread, self.broker.mend)
        self.vhost = self.broker.new_vhost()
        return self.broker.url(self.vhost)

    def celery_broker(self, branch: Any) -> str:
        return self.broker.url(self.vhost)

    async def create_app(self, **parameters: Any) -> None:
        """The app `foo`, with the tasks of the user's own project."""
        await self.ask("PUT", "/foo/", 201, json={"celery_app": "proj.celery:app", **parameters})

    async def consume(self, queue: str, name: str = "w1", **declaration: Any) -> None:
        """Declare a queue and have an instance consume from it."""
        await self.http.put(f"/foo/queues/{queue}/", json=declaration)
        await self.ask("PUT", f"/foo/instances/{name}/queues/{queue}/", 201)

    async def until_consuming(self, *queues: str, name: str = "w1", timeout: float = 60.0) -> None:
        """Wait until the worker itself says that it consumes from its own queue and these, no others."""

        async def look() -> bool:
            answer = await self.http.get(f"/foo/instances/{name}/queues/")
            self.assertEqual(answer.status, 200, answer.text)
            self.assertEqual(set(answer.json), {f"dq.{name}", *queues})
            return True

        await eventually(look, timeout)

    async def scale_of(self, name: str = "w1") -> tuple[int, int]:
        """(max, min) of the pool, as the worker itself says."""
        stats = (await self.ask("GET", f"/foo/instances/{name}/stats/"))["stats"]
        self.assertIsNotNone(stats)
        return stats["autoscaler"]["max"], stats["autoscaler"]["min"]

    async def until_scaled(self, most: int, least: int, name: str = "w1", timeout: float = 60.0) -> None:
        """Wait until the worker itself says that its pool has this range."""

        async def look() -> bool:
            self.assertEqual(await self.scale_of(name), (most, least))
            return True

        await eventually(look, timeout)

    async def happened(self, name: str = "w1") -> Counter[str]:
        """How often each kind of event is in the why-log of an instance."""
        events = await self.ask("GET", f"/foo/instances/{name}/events/", params={"limit": "1000"})
        return Counter(event["kind"] for event in events)

    async def assert_same_life(self, before: Any) -> None:
        """Fail unless the worker is the one that `before` shows, and has never ended meanwhile."""
        after = await self.instance(before["name"])
        self.assertEqual((after["pid"], after["last_exit"]), (before["pid"], None), after)
        self.assertEqual((await self.happened(before["name"]))["started"], 1)

    def worker_log(self, name: str = "w1") -> str:
        return Path(self.branch.root, name, "worker.log").read_text()


def session_of(pid: int) -> list[int]:
    """The pids of the living processes in the session that `pid` leads, itself included."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue  # it ended meanwhile
            # After the name, in brackets, which may hold anything: state, parent, group, session.
            fields = re.sub(r".*\)", "", stat, flags=re.DOTALL).split()
            if fields[0] not in "ZX" and int(fields[3]) == pid:
                found.append(int(entry))
    return found
