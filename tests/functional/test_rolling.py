"""Rolling restarts of real workers, under load, with a broken app, and with a branch that is killed."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnEmbedded, OnRabbitMQ
from tests.support.waiting import eventually

NAMES = ("w1", "w2", "w3")
#: A user's application, in the working directory of the branch.
SHOP = "from celery import Celery\napp = Celery('shop')\n"


class RollingTests:
    """What holds on every broker."""

    #: Celery takes thirty seconds for some warm stops, and on Redis a worker that is killed meanwhile
    #: loses a message (`bench/warm_stops.py`).
    options = ("--sup-interval", "2", "--warm-timeout", "60")

    async def fleet(self: Any, celery_app: str) -> dict[str, int]:
        """Three instances that consume from one queue; their pids."""
        await self.ask("PUT", "/foo/", 201, form={"celery_app": celery_app})
        await self.ask("PUT", "/foo/queues/tasks/", 201)
        for name in NAMES:
            await self.create(name, queues=["tasks"])
        return await self.pids()

    async def pids(self: Any) -> dict[str, int]:
        return {name: (await self.instance(name))["pid"] for name in NAMES}

    async def rollout(self: Any) -> Any:
        return await self.ask("GET", "/foo/restart/")

    async def until(self: Any, timeout: float = 90.0, **expected: Any) -> Any:
        """Wait until the rollout is as expected; the whole of it."""

        async def look() -> Any:
            found = await self.rollout()
            self.assertEqual({key: found[key] for key in expected}, expected, found)
            return found

        return await eventually(look, timeout)

    async def events(self: Any, *kinds: str) -> list[Any]:
        """The events of these kinds, in order."""
        found = await self.ask("GET", "/events/", params={"limit": "1000"})
        return [event for event in found if event["kind"] in kinds]

    def said_of(self: Any, task_ids: list[str]) -> list[str]:
        """What the workers' logs say of tasks."""
        lines = [
            f"{name}: {line}"
            for name in NAMES
            for line in Path(self.branch.root, name, "worker.log").read_text().splitlines()
        ]
        return [line for line in lines if any(task_id in line for task_id in task_ids)]

    def starts(self: Any, name: str) -> int:
        """How often a worker came up, by its log."""
        log = Path(self.branch.root, name, "worker.log").read_text()
        return log.count(f"{name}@{socket.gethostname()} ready.")

    async def test_under_load(self: Any) -> None:
        """Of three workers under load two are never down at once, and no task is lost."""
        before = await self.fleet("proj.celery:app")
        sent: dict[str, str] = {}

        async def load() -> None:
            app = self.celery()
            while True:
                path = self.path(f"task{len(sent)}")
                arguments = {"args": (path, "done"), "queue": "tasks", "ignore_result": True}
                task = await deferToThread(app.send_task, "proj.celery.leave", **arguments)
                sent[path] = task.id
                await deferLater(reactor, 0.02)

        stream = Deferred.fromCoroutine(load())
        await self.ask("POST", "/!/foo/restart/", 202)
        await self.until(130.0, state="finished", done=[*NAMES])
        stream.addErrback(lambda failure: failure.trap(CancelledError)).cancel()
        after = await self.pids()
        self.assertFalse(set(after.values()) & set(before.values()))

        async def told() -> Any:
            found = await self.events("stopping", "running")
            self.assertEqual(len(found), 3 + 2 * 3)
            return found[3:]

        down: set[str] = set()
        for event in await eventually(told, 20.0):
            (down.add if event["kind"] == "stopping" else down.remove)(event["instance"])
            self.assertLessEqual(len(down), 1, event)
        self.assertGreater(len(sent), 10)

        async def done() -> bool:
            missing = [task_id for path, task_id in sent.items() if not Path(path).exists()]
            self.assertEqual(missing, [], self.said_of(missing))
            return True

        await eventually(done, 60.0, "all tasks")

    async def test_broken_app(self: Any) -> None:
        """A broken application costs one worker: the restart halts, says why, and can be begun anew."""
        shop = Path(self.branch.root, "shop.py")
        shop.write_text(SHOP)
        before = await self.fleet("shop:app")
        shop.write_text("import no_such_module_anywhere\n")
        rollout = await self.ask("POST", "/foo/restart/", params={"wait": "50"})
        self.assertEqual((rollout["state"], rollout["waiting"]), ("halted", ["w2", "w3"]), rollout)
        self.assertEqual((rollout["under_way"], rollout["done"]), (["w1"], []))
        self.assertIn("'w1': it is in back-off, its worker ended with status", rollout["halted"])
        after = await self.pids()
        self.assertEqual([after[name] for name in ("w2", "w3")], [before[name] for name in ("w2", "w3")])

        async def told() -> Any:
            return await self.events("restart-halted")

        [halted] = await eventually(told, 20.0)
        self.assertEqual(halted["details"]["reason"], rollout["halted"])
        shop.write_text(SHOP)
        rollout = await self.ask("POST", "/foo/restart/", params={"wait": "50", "parallel": "3"})
        self.assertEqual((rollout["state"], sorted(rollout["done"])), ("finished", [*NAMES]), rollout)

    async def test_killed(self: Any) -> None:
        """A branch that is killed in the middle, twice, goes on where it was: each worker restarts once."""
        before = await self.fleet("proj.celery:app")
        await self.ask("POST", "/!/foo/restart/", 202)
        await self.ask("POST", "/foo/restart/", 409)
        for killed_at in ("w1", "w2"):
            await self.until(under_way=[killed_at])
            await self.branch.kill()
            await self.start()
        await self.until(state="finished", done=[*NAMES])
        after = await self.pids()
        self.assertFalse(set(after.values()) & set(before.values()))
        self.assertEqual([self.starts(name) for name in NAMES], [2, 2, 2])

    async def test_called_off(self: Any) -> None:
        """After a restart was called off nothing further is restarted; what was under way comes back."""
        before = await self.fleet("proj.celery:app")
        await self.send("proj.celery.wait_for", self.path("task"), self.path("go"), queue="dq.w1")
        await self.file("task.begun")
        await self.ask("POST", "/foo/restart/!/", 202)
        rollout = await self.ask("DELETE", "/foo/restart/")
        self.assertEqual((rollout["state"], rollout["under_way"]), ("called-off", ["w1"]))
        Path(self.path("go")).touch()
        await self.until_replaced(before["w1"], "w1")
        await self.file("task.ended")
        after = await self.pids()
        self.assertEqual([after[name] for name in ("w2", "w3")], [before[name] for name in ("w2", "w3")])


class RollingOnRabbitMQTests(OnRabbitMQ, RollingTests, BranchTestCase):
    """Rolling restarts with RabbitMQ."""


class RollingOnEmbeddedTests(OnEmbedded, RollingTests, BranchTestCase):
    """Rolling restarts with the embedded Redis."""
