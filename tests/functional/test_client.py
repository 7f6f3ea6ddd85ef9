"""Both clients against a real branch with real workers."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from cyme.client import NO_RETRY, Client, errors
from cyme.client.aio import AsyncClient
from tests.contracts.client import Awaiting, Waiting, make_client_tests
from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnEmbedded
from tests.support.ports import free_ports
from tests.support.waiting import eventually


def queues(events: list[Any]) -> list[str]:
    """The queues that were declared."""
    return [event["details"]["queue"] for event in events if event["kind"] == "queue-created"]


class ClientCase(OnEmbedded, BranchTestCase):
    """A real branch, and a client of it."""

    def make_driver(self, **options: Any) -> Any:
        raise NotImplementedError

    def make_branch(self, *options: str, **arguments: Any) -> Any:
        # A branch that is started again is where it was.
        [port] = free_ports(1)
        return super().make_branch(*options, http=f"127.0.0.1:{port}", **arguments)


class LiveTests:
    """What holds for both clients."""

    async def test_contract(self: Any) -> None:
        """Over a network the client keeps the same contract as in memory, in any order of its parts."""
        contract = make_client_tests(lambda _: self.driver)
        steps = type("Steps", (contract, SynchronousTestCase), {})("test_ping")
        self.driver = self.make_driver()
        names = [name for name in vars(contract) if name.startswith("test_")]
        self.assertGreater(len(names), 10)
        for name in names:
            await getattr(steps, name)()
            for app in (await self.http.get("/")).json:
                await self.ask("DELETE", f"/{app}/")

    async def test_worker(self: Any) -> None:
        """A worker is started, asked about itself, watched, drained and restarted through the client."""
        driver = self.make_driver()
        do = driver.do
        foo = await do(lambda client: client.add("foo"))
        await do(lambda _: foo.queues.add("tasks"))
        one = await do(lambda _: foo.instances.add("w1", wait=60, queues=["tasks"]))
        self.assertEqual(one.info["state"], "running")
        self.assertEqual(set(await driver.some(lambda _: one.consumers)), {"dq.w1", "tasks"})
        self.assertEqual((await do(lambda _: one.stats()))["stats"]["pool"]["max-concurrency"], 1)
        self.assertEqual((await do(lambda _: one.health()))["verdict"], "ok")
        self.assertIn("ready.", await do(lambda _: one.log(50)))
        lines = await driver.some(lambda _: one.follow_log(50, interval=0.05), 2)
        self.assertEqual(lines, (await do(lambda _: one.log(50))).splitlines()[:2])

        task = await do(lambda _: foo.queue(f"{self.branch.url}ping/", "tasks"))
        outcome = await do(lambda _: task.wait(60))
        self.assertEqual((outcome["state"], outcome["result"]["status_code"]), ("SUCCESS", 200))
        failed = await do(lambda _: foo.send("no.such.task", queue="tasks"))
        error = await self.refused(errors.TaskFailed, do, lambda _: failed.wait(20))
        self.assertIn("ended as FAILURE: NotRegistered: no.such.task", str(error))
        put_off = await do(lambda _: foo.queue(f"{self.branch.url}ping/", "tasks", delay=50))
        late = await self.refused(errors.NotFinished, do, lambda _: put_off.wait(0.05))
        self.assertEqual(late.state, "PENDING")
        tasks = await do(lambda _: foo.queues["tasks"])
        self.assertIsInstance(await do(lambda _: tasks.purge()), int)

        rollout = await do(lambda _: foo.restart(wait=60))
        self.assertEqual((rollout["state"], rollout["done"]), ("finished", ["w1"]))
        self.assertEqual((await do(lambda _: foo.rollout()))["id"], rollout["id"])
        await do(lambda _: one.drain(deadline=20, wait=20))
        health = await do(lambda _: one.health())
        self.assertEqual((health["verdict"], (await do(lambda _: one.refresh()))["state"]), ("disabled",) * 2)

    async def test_events(self: Any) -> None:
        """Events are followed over the death of the branch, none is left out and none told twice."""
        driver = self.make_driver()
        foo = await driver.do(lambda client: client.add("foo"))
        await driver.do(lambda _: foo.queues.add("a"))
        told: list[Any] = []

        def until_c(events: list[Any]) -> bool:
            told[:] = events
            return "c" in queues(events)

        follow = driver.some(lambda client: client.events.follow(since=0), until_c)
        following = Deferred.fromCoroutine(follow).addTimeout(60.0, reactor)
        await driver.do(lambda _: foo.queues.add("b"))
        await eventually(lambda: "b" in queues(told), 20.0)
        await self.branch.kill()
        await self.start()
        await driver.do(lambda _: foo.queues.add("c"))
        found = await following
        self.assertEqual(queues(found), ["a", "b", "c"])
        self.assertEqual(found, await self.ask("GET", "/events/", params={"limit": "1000"}))
        self.assertEqual(await driver.some(lambda client: client.events), found)

    async def refused(self: Any, kind: Any, do: Any, verb: Any) -> Any:
        try:
            result = await do(verb)
        except kind as error:
            return error
        self.fail(f"it was not refused: {result!r}")

    async def test_unreachable(self: Any) -> None:
        """A branch that is not there, or says nothing, is told by its URL and in time."""
        driver = self.make_driver(url="http://127.0.0.1:1", retry=NO_RETRY)
        error = await self.refused(errors.Unreachable, driver.do, lambda client: client.ping())
        self.assertNotIsInstance(error, errors.TimedOut)
        self.assertIn("GET http://127.0.0.1:1/ping/: ", str(error))
        self.assertIn("refused", str(error))
        silent = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(silent.close)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        driver = self.make_driver(url=url, timeout=0.2, retry=NO_RETRY)
        error = await self.refused(errors.TimedOut, driver.do, lambda client: client.ping())
        self.assertIn(f"{url}/ping/: no answer within 0.2 s", str(error))


class ClientTests(LiveTests, ClientCase):
    """`Client`, in threads."""

    def make_driver(self, url: str | None = None, **options: Any) -> Waiting:
        client = Client(url or self.branch.url, **options)
        self.addCleanup(client.close)
        return Waiting(client, deferToThread)


class AsyncClientTests(LiveTests, ClientCase):
    """`AsyncClient`, in the reactor."""

    def make_driver(self, url: str | None = None, **options: Any) -> Awaiting:
        client = AsyncClient(reactor, url or self.branch.url, **options)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        return Awaiting(client)


class UnixSocketTests(OnEmbedded, BranchTestCase):
    """A branch on a Unix socket."""

    def make_branch(self, *options: str, **arguments: Any) -> Any:
        return super().make_branch(*options, http=f"unix:{self.path('http.sock')}", **arguments)

    def drivers(self, url: str) -> list[Any]:
        client, twin = Client(url, retry=NO_RETRY), AsyncClient(reactor, url, retry=NO_RETRY)
        self.addCleanup(client.close)
        self.addCleanup(lambda: Deferred.fromCoroutine(twin.close()))
        return [Waiting(client, deferToThread), Awaiting(twin)]

    async def test_reached(self) -> None:
        """Both clients ask, change and follow events over it, by the URL that the branch itself tells."""
        url = f"unix:{self.path('http.sock')}"
        self.assertEqual(self.branch.url, url)
        for name, driver in zip("ab", self.drivers(url), strict=True):
            self.assertEqual(await driver.do(lambda client: client.ping()), "pong")
            foo = await driver.do(lambda client, name=name: client.add(f"foo-{name}"))
            await driver.do(lambda _, foo=foo: foo.queues.add("tasks"))
            self.assertEqual(await driver.do(lambda _, foo=foo: foo.queues.all()), ["tasks"])
            [created] = await driver.some(lambda client: client.events.follow(since=0), 1)
            self.assertEqual(created["kind"], "app-created")

    async def test_unreachable(self) -> None:
        """Where there is none, the error tells the path and the reason."""
        url = f"unix:{self.path('none.sock')}"
        for driver in self.drivers(url):
            with self.assertRaises(errors.Unreachable) as caught:
                await driver.do(lambda client: client.ping())
            self.assertIn(f"GET {url} /ping/: ", str(caught.exception))
            self.assertIn("No such file", str(caught.exception))
