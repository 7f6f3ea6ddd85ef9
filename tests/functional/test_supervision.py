"""The supervisor of a real branch, against everything that changes behind its back."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnEmbedded, OnRabbitMQ
from tests.support.waiting import eventually, when_ended

NODE = f"w1@{socket.gethostname()}"


class SupervisionTests:
    """What holds on every broker."""

    async def test_killed_worker(self: Any) -> None:
        """A worker that is killed with -9 runs again long before the next full check."""
        before = await self.create()
        os.kill(before["pid"], signal.SIGKILL)
        after = await self.until_replaced(before["pid"])
        self.assertEqual(after["last_exit"]["signal"], "SIGKILL")

    async def test_crash_loop(self: Any) -> None:
        """An app that can't be imported backs off, and the instance says why and when it goes on."""
        await self.ask("PUT", "/foo/", 201, form={"celery_app": "no.such.module"})
        await self.ask("PUT", "/foo/instances/w1/", 201)

        async def backed_off() -> Any:
            details = await self.instance()
            self.assertEqual((details["state"], details["failures"]), ("backoff", 1), details)
            self.assertTrue(details["last_exit"]["log"], details)
            return details

        details = await eventually(backed_off, 60.0)
        self.assertIn("no.such.module", "\n".join(details["last_exit"]["log"]))
        self.assertNotIn(details["last_exit"]["status"], (0, None))
        self.assertGreater(details["next_attempt"], details["last_exit"]["at"])

    async def test_recovers_from_a_crash_loop(self: Any) -> None:
        """Mending the app ends the back-off at once."""
        await self.ask("PUT", "/foo/", 201, form={"celery_app": "no.such.module"})
        await self.ask("PUT", "/foo/instances/w1/", 201)
        await self.until_state("backoff")
        await self.ask("PUT", "/foo/", 200, form={"celery_app": "proj.celery:app"})
        await self.until_state("running")


class ByHandTests:
    """What somebody changes without asking the branch is found by its full checks."""

    options: tuple[str, ...] = ("--sup-interval", "0.5", "--warm-timeout", "10")

    async def test_consumers_changed_by_hand(self: Any) -> None:
        """A consumer that somebody added is cancelled, one that somebody cancelled comes back."""
        await self.create()
        await self.ask("POST", "/foo/queues/tasks/", 201)
        await self.ask("PUT", "/foo/instances/w1/queues/tasks/", 201)
        await self.control("cancel_consumer", "tasks", destination=[NODE])
        await self.control("add_consumer", "stray", destination=[NODE])

        async def as_declared() -> bool:
            return await self.queues_of() == {"dq.w1", "tasks"}

        await eventually(as_declared, 30.0, "the declared consumers")

    async def test_pool_changed_by_hand(self: Any) -> None:
        """A pool that somebody resized gets its declared range back."""
        await self.create(max_concurrency=2)
        await self.control("autoscale", 5, 4, destination=[NODE])

        async def as_declared() -> bool:
            scaler = (await self.ask("GET", "/foo/instances/w1/stats/"))["stats"]["autoscaler"]
            return (scaler["max"], scaler["min"]) == (2, 1)

        await eventually(as_declared, 30.0, "the declared range")

    async def test_row_changed_by_hand(self: Any) -> None:
        """A row that somebody changed in the database takes effect at the next full check."""
        await self.create()

        def change() -> None:
            with sqlite3.connect(Path(self.branch.root, "branch.db"), timeout=10) as database:
                database.execute("UPDATE instance SET max_concurrency = 3 WHERE name = 'w1'")
            database.close()

        await deferToThread(change)

        async def taken_over() -> bool:
            scaler = (await self.ask("GET", "/foo/instances/w1/stats/"))["stats"]["autoscaler"]
            return scaler["max"] == 3

        await eventually(taken_over, 30.0, "the new range")
        self.assertEqual((await self.instance())["max_concurrency"], 3)


class FrozenTests:
    """A worker that takes all the time there is: for its answers, and for both ways to stop."""

    command = "impatient"
    options: tuple[str, ...] = ("--sup-interval", "1", "--warm-timeout", "1")

    async def test_stopped_worker(self: Any) -> None:
        """A worker that is frozen answers nothing and is replaced."""
        before = await self.create()
        os.kill(before["pid"], signal.SIGSTOP)
        await self.until_replaced(before["pid"])
        await when_ended(before["pid"], 10.0)


class LifeAndDeathTests:
    """The branch dies and comes back; its workers do not notice."""

    async def test_adopts(self: Any) -> None:
        """After kill -9 of the branch its worker finishes its task and is adopted, with the same pid."""
        await self.ask("PUT", "/foo/", 201, form={"celery_app": "proj.celery:app"})
        before = await self.create()
        await self.send("proj.celery.wait_for", self.path("task"), self.path("go"), queue="dq.w1")
        await self.file("task.begun")
        await self.branch.kill()
        Path(self.path("go")).touch()
        await self.file("task.ended")
        await self.start()
        after = await self.until_state("running")
        self.assertEqual(after["pid"], before["pid"])
        await self.send("proj.celery.leave", self.path("a"), "one", queue="dq.w1")
        await self.file("a")
        os.kill(after["pid"], signal.SIGKILL)
        await self.until_replaced(after["pid"])

    async def test_clean_stop(self: Any) -> None:
        """SIGTERM stops the workers warmly; when the branch has ended nothing of it is left."""
        await self.ask("PUT", "/foo/", 201, form={"celery_app": "proj.celery:app"})
        details = await self.create()
        await self.send("proj.celery.wait_for", self.path("task"), self.path("go"), queue="dq.w1")
        await self.file("task.begun")
        stopped = deferToThread(self.branch.process.wait, 60.0)
        self.branch.process.signal(signal.SIGTERM)
        await self.branch.wait_for_line("w1")
        Path(self.path("go")).touch()
        self.assertEqual(await stopped, 0)
        self.assertTrue(os.path.exists(self.path("task.ended")))
        self.assertFalse(os.path.exists(f"/proc/{details['pid']}"))
        self.assertEqual(self.branch.left_over(), [])

    async def test_recycled_pid(self: Any) -> None:
        """A process that has the recorded pid of a worker that died is never signalled."""
        before = await self.create()
        await self.branch.kill()
        os.kill(before["pid"], signal.SIGKILL)
        await when_ended(before["pid"], 10.0)
        record = Path(self.branch.root, "w1", "worker.json")
        innocent = await self.innocent_process()
        record.write_text(record.read_text().replace(str(before["pid"]), str(innocent)))
        await self.start()
        after = await self.until_replaced(innocent)
        await self.ask("DELETE", "/foo/instances/w1/")
        await when_ended(after["pid"], 60.0)
        os.kill(innocent, 0)

    async def innocent_process(self: Any) -> int:
        """The pid of a process that is nobody's worker."""
        import subprocess

        process = subprocess.Popen(["sleep", "600"])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process.pid


class LeaveTests:
    """A branch whose workers outlive a clean stop."""

    options: tuple[str, ...] = ("--sup-interval", "2", "--workers-on-exit", "leave")

    async def test_leave(self: Any) -> None:
        """With `leave` the workers go on after a clean stop and the next start adopts them."""
        before = await self.create()
        self.assertEqual(await self.branch.terminate(), 0)
        os.kill(before["pid"], 0)
        await self.start()
        after = await self.until_state("running")
        self.assertEqual(after["pid"], before["pid"])
        await self.ask("DELETE", "/foo/instances/w1/")
        await when_ended(before["pid"], 60.0)


class SupervisionOnRabbitMQTests(OnRabbitMQ, SupervisionTests, BranchTestCase):
    """Supervision with RabbitMQ."""


class SupervisionOnEmbeddedTests(OnEmbedded, SupervisionTests, BranchTestCase):
    """Supervision with the embedded Redis."""


class ByHandOnRabbitMQTests(ByHandTests, OnRabbitMQ, BranchTestCase):
    """Changes by hand with RabbitMQ."""


class ByHandOnEmbeddedTests(ByHandTests, OnEmbedded, BranchTestCase):
    """Changes by hand with the embedded Redis."""


class FrozenOnRabbitMQTests(FrozenTests, OnRabbitMQ, BranchTestCase):
    """Frozen workers with RabbitMQ."""


class FrozenOnEmbeddedTests(FrozenTests, OnEmbedded, BranchTestCase):
    """Frozen workers with the embedded Redis."""


class LifeAndDeathOnRabbitMQTests(OnRabbitMQ, LifeAndDeathTests, BranchTestCase):
    """The branch's death with RabbitMQ."""


class LifeAndDeathOnEmbeddedTests(OnEmbedded, LifeAndDeathTests, BranchTestCase):
    """The branch's death with the embedded Redis."""


class LeaveOnRabbitMQTests(LeaveTests, OnRabbitMQ, BranchTestCase):
    """Leaving workers behind with RabbitMQ."""


class LeaveOnEmbeddedTests(LeaveTests, OnEmbedded, BranchTestCase):
    """Leaving workers behind with the embedded Redis."""
