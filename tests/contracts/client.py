"""What a program may rely on from a client of the HTTP API, whether it waits or awaits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import TestCase

from cyme.client import errors

#: How much of an iteration is wanted: so many things, or until a function of them says so; None for all.
Most = int | Callable[[list[Any]], bool] | None


def _enough(found: list[Any], most: Most) -> bool:
    return most(found) if callable(most) else len(found) == most


class Waiting:
    """Drives a client whose methods return what they return.

    :param run: calls a function, perhaps in a thread; its result is awaited.
    """

    def __init__(self, client: Any, run: Callable[..., Any]) -> None:
        self.client = client
        self._run = run

    async def do(self, verb: Callable[[Any], Any]) -> Any:
        """The result of something that is done with the client."""
        return await self._run(verb, self.client)

    async def some(self, verb: Callable[[Any], Any], most: Most = None) -> list[Any]:
        """The first things of what is iterated over."""

        def collect(client: Any) -> list[Any]:
            found: list[Any] = []
            for one in verb(client):
                found.append(one)
                if _enough(found, most):
                    break
            return found

        return await self._run(collect, self.client)


class Awaiting:
    """Drives a client whose methods return what is to be awaited."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def do(self, verb: Callable[[Any], Any]) -> Any:
        result = verb(self.client)
        return await result if hasattr(result, "__await__") else result

    async def some(self, verb: Callable[[Any], Any], most: Most = None) -> list[Any]:
        found: list[Any] = []
        things = verb(self.client).__aiter__()
        try:
            async for one in things:
                found.append(one)
                if _enough(found, most):
                    break
        finally:
            await things.aclose()
        return found


def make_client_tests(fixture: Callable[[TestCase], Any]) -> type:
    """Tests of a client of a branch that holds nothing.

    :param fixture: called with the test case, answers with a `Waiting` or an `Awaiting`.
    """

    class ClientTests:
        """The surface of the first Cyme's client, and what was added."""

        async def do(self: Any, verb: Callable[[Any], Any]) -> Any:
            return await self.driver.do(verb)

        async def some(self: Any, verb: Callable[[Any], Any], most: Most = None) -> list[Any]:
            return await self.driver.some(verb, most)

        async def refused(self: Any, kind: type[errors.ClientError], verb: Callable[[Any], Any]) -> Any:
            """The error of something that is refused."""
            try:
                result = await self.do(verb)
            except kind as error:
                return error
            self.fail(f"it was not refused: {result!r}")

        def connect(self: Any) -> None:
            self.driver = fixture(self)

        async def test_apps(self: Any) -> None:
            """Apps are added, found, listed, changed and deleted."""
            self.connect()
            foo = await self.do(lambda client: client.add("foo"))
            self.assertEqual((foo.name, foo.info["name"], repr(foo)), ("foo", "foo", "<App: 'foo'>"))
            await self.do(lambda client: client.add("bar", broker="redis://127.0.0.1:6379/3"))
            self.assertEqual(sorted(await self.do(lambda client: client.all())), ["bar", "foo"])
            names = [app.name for app in await self.some(lambda client: client)]
            self.assertEqual(sorted(names), ["bar", "foo"])
            bar = await self.do(lambda client: client["bar"])
            self.assertEqual(bar.info["broker"]["port"], 6379)
            self.assertEqual((await self.do(lambda _: bar.change(pool="solo")))["pool"], "solo")
            self.assertEqual((await self.do(lambda _: bar.refresh()))["pool"], "solo")
            await self.do(lambda client: client.delete("bar"))
            await self.do(lambda _: foo.delete(nowait=True))
            self.assertEqual(await self.do(lambda client: client.all()), [])

        async def test_generated_name(self: Any) -> None:
            """An app without a name gets one."""
            self.connect()
            app = await self.do(lambda client: client.add())
            self.assertEqual(await self.do(lambda client: client.all()), [app.name])

        async def test_instances(self: Any) -> None:
            """Instances are added, found, listed and deleted, in their app and without it."""
            self.connect()
            foo = await self.do(lambda client: client.add("foo"))
            one = await self.do(lambda _: foo.instances.add("w1", is_enabled=False, max_concurrency=3))
            self.assertEqual((one.name, one.info["max_concurrency"]), ("w1", 3))
            other = await self.do(lambda _: foo.instances.add(is_enabled=False))
            names = {"w1", other.name}
            self.assertEqual(set(await self.do(lambda _: foo.instances.all())), names)
            self.assertEqual({each.name for each in await self.some(lambda _: foo.instances)}, names)
            self.assertEqual({each.name for each in await self.some(lambda client: client.instances)}, names)
            glances = {one["name"]: one for one in await self.do(lambda client: client.instances.details())}
            self.assertEqual(set(glances), names)
            self.assertEqual((glances["w1"]["app"], glances["w1"]["max_concurrency"]), ("foo", 3))
            self.assertEqual(await self.do(lambda _: foo.instances.details("running")), [])
            self.assertEqual(len(await self.do(lambda _: foo.instances.details("disabled"))), 2)
            found = await self.do(lambda client: client.instances["w1"])
            self.assertEqual((found.app, found.info["name"], repr(found)), ("foo", "w1", "<Instance: 'w1'>"))
            self.assertEqual((await self.do(lambda _: found.change(min_concurrency=0)))["min_concurrency"], 0)
            await self.do(lambda _: found.delete())
            await self.do(lambda _: other.delete(nowait=True))
            self.assertEqual(await self.do(lambda _: foo.instances.all()), [])

        async def test_actions(self: Any) -> None:
            """An instance is enabled, restarted and disabled, asynchronously too."""
            self.connect()
            foo = await self.do(lambda client: client.add("foo"))
            one = await self.do(lambda _: foo.instances.add("w1", is_enabled=False))
            await self.do(lambda _: one.enable())
            await self.do(lambda _: one.restart(nowait=True))
            self.assertTrue((await self.do(lambda _: one.refresh()))["is_enabled"])
            await self.do(lambda _: one.disable(nowait=True))
            self.assertFalse((await self.do(lambda _: one.refresh()))["is_enabled"])

        async def test_autoscale(self: Any) -> None:
            """The bounds of a pool are read and changed."""
            self.connect()
            foo = await self.do(lambda client: client.add("foo"))
            one = await self.do(lambda _: foo.instances.add("w1", is_enabled=False))
            self.assertEqual(await self.do(lambda _: one.autoscale()), {"max": 1, "min": 1})
            bounds = {"max": 10, "min": 10}
            self.assertEqual(await self.do(lambda _: one.autoscale(max=10, min=10)), bounds)
            self.assertEqual(await self.do(lambda _: one.autoscale(min=0)), {"max": 10, "min": 0})
            self.assertEqual(await self.do(lambda _: one.autoscale()), {"max": 10, "min": 0})

        async def test_queues(self: Any) -> None:
            """Queues are declared, found, listed, paused, resumed and deleted."""
            self.connect()
            foo = await self.do(lambda client: client.add("foo"))
            tasks = await self.do(
                lambda _: foo.queues.add("tasks", exchange="ex", routing_key="x", queue_durable=True)
            )
            self.assertEqual(
                (tasks.name, tasks.info["exchange"], repr(tasks)), ("tasks", "ex", "<Queue: 'tasks'>")
            )
            self.assertEqual(tasks.info["options"], {"queue_durable": True})
            await self.do(lambda _: foo.queues.add("a b?c%#", options={"durable": True}))
            self.assertEqual(
                [each.name for each in await self.some(lambda _: foo.queues)], ["a b?c%#", "tasks"]
            )
            odd = await self.do(lambda _: foo.queues["a b?c%#"])
            self.assertEqual(odd.info["name"], "a b?c%#")
            await self.do(lambda _: tasks.pause())
            self.assertTrue((await self.do(lambda _: tasks.refresh()))["paused"])
            await self.do(lambda _: tasks.resume(nowait=True))
            self.assertFalse((await self.do(lambda _: tasks.refresh()))["paused"])
            await self.do(lambda _: odd.delete())
            await self.do(lambda _: foo.queues.delete("tasks", nowait=True))
            self.assertEqual(await self.do(lambda _: foo.queues.all()), [])

        async def test_consumers(self: Any) -> None:
            """An instance consumes from queues, given by name or as objects, and stops to."""
            self.connect()
            foo = await self.do(lambda client: client.add("foo"))
            tasks = await self.do(lambda _: foo.queues.add("tasks"))
            await self.do(lambda _: foo.queues.add("mail"))
            one = await self.do(lambda _: foo.instances.add("w1", is_enabled=False))
            await self.do(lambda _: one.consumers.add(tasks, nowait=True))
            await self.do(lambda _: one.consumers.add("mail"))
            self.assertEqual((await self.do(lambda _: one.refresh()))["queues"], ["tasks", "mail"])
            await self.do(lambda _: one.consumers.delete(tasks))
            await self.do(lambda _: one.consumers.delete("mail", nowait=True))
            self.assertEqual((await self.do(lambda _: one.refresh()))["queues"], [])

        async def test_branches(self: Any) -> None:
            """Branches are listed and described in the first Cyme's spelling and in this one's."""
            self.connect()
            ids = await self.do(lambda client: client.branches())
            self.assertEqual(ids, [each.id for each in await self.some(lambda client: client.branches)])
            info = await self.do(lambda client: client.branch_info(ids[0]))
            self.assertEqual((info["id"], info["is_cordoned"]), (ids[0], False))
            branch = await self.do(lambda client: client.branches[ids[0]])
            await self.do(lambda _: branch.cordon())
            self.assertTrue((await self.do(lambda _: branch.refresh()))["is_cordoned"])
            await self.do(lambda _: branch.uncordon())
            self.assertFalse((await self.do(lambda _: branch.refresh()))["is_cordoned"])

        async def test_errors(self: Any) -> None:
            """Each kind of problem is an error of its own, with the branch's words and status."""
            self.connect()
            gone = await self.refused(errors.NoSuchApp, lambda client: client.get("nope"))
            self.assertEqual((gone.status, gone.kind), (404, "no-such-app"))
            self.assertIn("there is no app 'nope'", str(gone))
            self.assertIsInstance(gone, KeyError)
            foo = await self.do(lambda client: client.add("foo"))
            await self.refused(errors.NoSuchInstance, lambda _: foo.instances["w1"])
            await self.refused(errors.NoSuchQueue, lambda _: foo.queues["tasks"])
            await self.refused(errors.NoSuchBranch, lambda client: client.branches["nope"])
            await self.refused(
                errors.NoSuchTask, lambda _: foo.task("2cbd0e0c-0000-4000-8000-000000000000").state()
            )
            await self.refused(errors.NoSuchRollout, lambda _: foo.rollout())
            await self.refused(errors.InvalidName, lambda client: client.add("a b"))
            [branch] = await self.some(lambda client: client.branches)
            await self.refused(errors.BranchLives, lambda _: branch.evacuate())
            bad = await self.refused(errors.InvalidParameter, lambda _: foo.instances.add("w1", pool=3))
            self.assertEqual(bad.status, 400)
            self.assertIn("'pool'", bad.detail)

        async def test_tasks(self: Any) -> None:
            """A request is queued and revoked; what comes of it can be asked."""
            self.connect()
            foo = await self.do(lambda client: client.add("foo"))
            await self.do(lambda _: foo.queues.add("tasks"))
            task = await self.do(
                lambda client: client.queue(
                    "foo",
                    "http://192.0.2.1/a%2Fb?c=d&e=%26+f",
                    "tasks",
                    method="POST",
                    headers={"Content-Type": "text/plain", "X-One": "1"},
                    body="hello",
                    delay=50,
                    timeout=2.5,
                )
            )
            self.assertEqual(task.info["url"], "http://192.0.2.1/a%2Fb?c=d&e=%26+f")
            self.assertEqual((task.info["method"], task.info["queue"]["name"]), ("POST", "tasks"))
            self.assertEqual(await self.do(lambda _: task.state()), "PENDING")
            self.assertEqual((await self.do(lambda _: task.result()))["result"], None)
            self.assertEqual(await self.do(lambda _: task.revoke()), "REVOKED")
            failed = await self.refused(errors.TaskFailed, lambda _: task.wait(5))
            self.assertEqual(failed.state, "REVOKED")
            self.assertEqual((await self.do(lambda _: task.wait(5, check=False)))["state"], "REVOKED")
            head = await self.do(lambda _: foo.queue("http://192.0.2.1/", method="HEAD", delay=50))
            self.assertEqual(await self.do(lambda _: foo.task(head.uuid).state()), "PENDING")

        async def test_named_task(self: Any) -> None:
            """A task is sent by its name."""
            self.connect()
            foo = await self.do(lambda client: client.add("foo"))
            task = await self.do(lambda _: foo.send("proj.add", [1, 2], {"a": 3}, countdown=50))
            self.assertEqual(task.info["task"], "proj.add")
            self.assertEqual(await self.do(lambda _: task.state()), "PENDING")

        async def test_ping(self: Any) -> None:
            """A branch says that it lives, and that it is ready."""
            self.connect()
            self.assertEqual(await self.do(lambda client: client.ping()), "pong")
            self.assertIsNone(await self.do(lambda client: client.ready()))

    return ClientTests
