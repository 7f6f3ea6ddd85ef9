"""Instances are real Celery workers: created, bound, scaled, watched and deleted over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnEmbedded, OnRabbitMQ
from tests.support.rabbitmq import shared_rabbitmq
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually, when_ended


class InstanceTests:
    """What holds on every broker."""

    async def test_create(self: Any) -> None:
        """A created instance answers as running, and its process is a Celery worker."""
        await self.ask("POST", "/foo/", 201)
        details = await self.ask("POST", "/foo/instances/", 201, params={"wait": "60"})
        self.assertEqual(details["state"], "running")
        command = Path(f"/proc/{details['pid']}/cmdline").read_text().replace("\0", " ")
        self.assertIn(" worker ", command)
        self.assertIn(f"dq.{details['name']}", command)
        self.assertEqual(await self.ask("GET", "/foo/instances/"), [details["name"]])
        self.assertEqual(await self.queues_of(details["name"]), {"dq." + details["name"]})

    async def test_no_password_on_the_command_line(self: Any) -> None:
        """The broker's URL is in no command line."""
        details = await self.create()
        command = Path(f"/proc/{details['pid']}/cmdline").read_text()
        self.assertNotIn("://", command)

    async def test_delete(self: Any) -> None:
        """A deleted instance leaves no process and no folder."""
        details = await self.create()
        await self.ask("DELETE", "/foo/instances/w1/")
        self.assertEqual(await self.ask("GET", "/foo/instances/"), [])
        await when_ended(details["pid"], 60.0)
        folder = Path(self.branch.root, "w1")
        await eventually(lambda: not folder.exists(), 60.0, "the folder is gone")

    async def test_task_on_a_declared_queue(self: Any) -> None:
        """A worker runs what plain Celery sends to a declared queue for as long as it consumes from it."""
        await self.ask("PUT", "/foo/", 201, form={"celery_app": "proj.celery:app"})
        await self.create()
        await self.ask("POST", "/foo/queues/tasks/", 201, form={"exchange": "work", "routing_key": "now"})
        await self.ask("PUT", "/foo/instances/w1/queues/tasks/", 201)
        self.assertEqual(await self.queues_of(), {"dq.w1", "tasks"})
        await self.send("proj.celery.leave", self.path("a"), "one", queue="tasks")
        self.assertTrue((await self.file("a")).startswith("one "))
        await self.ask("DELETE", "/foo/instances/w1/queues/tasks")
        self.assertEqual(await self.queues_of(), {"dq.w1"})
        await self.send("proj.celery.leave", self.path("b"), "two", queue="tasks")
        await self.send("proj.celery.leave", self.path("c"), "three", queue="dq.w1")
        await self.file("c")
        self.assertFalse(os.path.exists(self.path("b")))

    async def test_autoscale(self: Any) -> None:
        """A changed range reaches the running pool, without a restart."""
        before = await self.create()
        scale = await self.ask("POST", "/foo/instance/w1/autoscale/", params={"max": "4", "min": "3"})
        self.assertEqual(scale, {"max": 4, "min": 3})
        stats = await self.ask("GET", "/foo/instance/w1/stats/")
        self.assertEqual((stats["stats"]["autoscaler"]["max"], stats["stats"]["autoscaler"]["min"]), (4, 3))

        async def grown() -> bool:
            stats = await self.ask("GET", "/foo/instance/w1/stats/")
            return len(stats["stats"]["pool"]["processes"]) == 3

        await eventually(grown, 60.0, "three pool processes")
        self.assertEqual((await self.instance())["pid"], before["pid"])
        self.assertEqual(await self.ask("GET", "/foo/instances/w1/autoscale/"), {"max": 4, "min": 3})

    async def test_log(self: Any) -> None:
        """`log` shows the last lines of the worker's log."""
        await self.create()
        answer = await self.http.get("/foo/instances/w1/log/", params={"tail": "50"})
        self.assertEqual(answer.headers["content-type"], "text/plain; charset=utf-8")
        self.assertIn("w1@", answer.text)

    async def test_own_app(self: Any) -> None:
        """A worker of the user's own app runs its tasks, with its arguments, settings and pool."""
        await self.ask(
            "PUT",
            "/foo/",
            201,
            json={
                "celery_app": "proj.celery:app",
                "arguments": "--prefetch-multiplier=7",
                "extra_config": "worker_max_tasks_per_child=5",
                "pool": "threads",
            },
        )
        await self.create(max_concurrency=2)
        await self.send("proj.celery.leave", self.path("a"), "one", queue="dq.w1")
        await self.file("a")
        stats = (await self.ask("GET", "/foo/instances/w1/stats/"))["stats"]
        self.assertIn("thread", stats["pool"]["implementation"])
        self.assertEqual(stats["prefetch_count"], 14)

    async def test_restart(self: Any) -> None:
        """A restart gives the instance another process; disabling takes it, enabling gives it back."""
        before = await self.create()
        await self.ask("POST", "/foo/instances/w1/restart/")
        after = await self.until_replaced(before["pid"])
        await self.ask("POST", "/foo/instances/w1/disable/")
        await self.until_state("disabled")
        await when_ended(after["pid"], 10.0)
        await self.ask("POST", "/foo/instances/w1/enable/")
        await self.until_state("running")

    async def test_app_on_another_broker(self: Any) -> None:
        """An app's workers use the app's own broker, whatever the branch's default is."""
        server = RedisServer(tcp=True)
        self.addCleanup(server.close)
        await self.ask("PUT", "/bar/", 201, form={"broker": server.url()})
        await self.create("w2", "bar")
        self.assertEqual(await self.queues_of("w2", "bar"), {"dq.w2"})
        details = await self.instance("w2")
        self.assertEqual(details["broker"]["transport"], "redis")


class InstancesOnRabbitMQTests(OnRabbitMQ, InstanceTests, BranchTestCase):
    """Instances whose broker is RabbitMQ."""

    async def ctl(self, command: str, *columns: str) -> list[list[str]]:
        return await shared_rabbitmq().ctl(command, "-p", self.vhost, *columns)

    async def test_bindings(self) -> None:
        """RabbitMQ itself shows the declared exchange, type, routing key and options, and the consumer."""
        await self.create()
        await self.ask(
            "POST",
            "/foo/queues/tasks/",
            201,
            json={
                "exchange": "work",
                "exchange_type": "topic",
                "routing_key": "now.#",
                "options": {"max_length": 7, "durable": True},
            },
        )
        await self.ask("PUT", "/foo/instances/w1/queues/tasks/", 201)
        bindings = await self.ctl("list_bindings", "source_name", "destination_name", "routing_key")
        self.assertIn(["work", "tasks", "now.#"], bindings)
        self.assertIn(["work", "topic"], await self.ctl("list_exchanges", "name", "type"))
        queues = {row[0]: row[1:] for row in await self.ctl("list_queues", "name", "durable", "arguments")}
        self.assertEqual(queues["tasks"][0], "true")
        self.assertIn("x-max-length", queues["tasks"][1])
        consumers = {row[0] for row in await self.ctl("list_consumers", "queue_name")}
        self.assertLessEqual({"tasks", "dq.w1"}, consumers)
        await self.ask("DELETE", "/foo/instances/w1/queues/tasks/")
        consumers = {row[0] for row in await self.ctl("list_consumers", "queue_name")}
        self.assertNotIn("tasks", consumers)

    async def test_private_queue_is_deleted(self) -> None:
        """A deleted instance leaves no queue and no exchange on the broker."""
        await self.create()
        self.assertIn(["dq.w1"], await self.ctl("list_queues", "name"))
        await self.ask("DELETE", "/foo/instances/w1/")

        async def gone() -> bool:
            queues = await self.ctl("list_queues", "name")
            exchanges = await self.ctl("list_exchanges", "name")
            return not [row for row in queues + exchanges if "w1" in row[0]]

        await eventually(gone, 60.0, "no trace of w1")

    async def test_mismatch(self) -> None:
        """A declaration that contradicts what exists is 409 in the broker's words; no worker dies of it."""
        before = await self.create()
        await self.ask("POST", "/foo/queues/tasks/", 201)
        await self.ask("PUT", "/foo/instances/w1/queues/tasks/", 201)
        await self.ask("DELETE", "/foo/instances/w1/queues/tasks/")
        await self.ask("POST", "/foo/queues/tasks/", 200, json={"options": {"max_priority": 5}})
        problem = await self.ask("PUT", "/foo/instances/w1/queues/tasks/", 409)
        self.assertIn("x-max-priority", problem["detail"])
        details = await self.instance()
        self.assertEqual((details["pid"], details["queues"]), (before["pid"], []))


class InstancesOnEmbeddedTests(OnEmbedded, InstanceTests, BranchTestCase):
    """Instances whose broker is the embedded Redis."""
