"""What a worker held that was killed with -9 is another's soon, on every broker."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from kombu import Connection
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.server import Site

from cyme.holders import mark
from cyme.remote import RemoteControl
from tests.functional.branchcase import BranchTestCase
from tests.functional.webhookcase import Recorder
from tests.support.brokers import OnEmbedded, OnRabbitMQ
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

#: Seconds within which a message of a dead worker is delivered again. Redis itself needs an hour.
SOON = 30.0


class LostWorkerTests:
    """What holds on every broker."""

    #: A stop that is not obeyed ends soon.
    options = ("--sup-interval", "2", "--warm-timeout", "2")
    target: Recorder

    async def setUp(self: Any) -> None:
        await super().setUp()  # type: ignore[misc]
        self.target = Recorder()
        port: Any = reactor.listenTCP(0, Site(self.target), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.url = f"http://127.0.0.1:{port.getHost().port}"
        await self.ask("PUT", "/foo/", 201)
        await self.ask("PUT", "/foo/queues/tasks/", 201)

    async def hold(self: Any) -> str:
        """Queue a request that the target does not answer; where its result will be."""
        queued = await self.ask("POST", f"/foo/queue/tasks/{self.url}/hold", 202)
        await self.seen(1)
        return f"/foo/query/{queued['uuid']}/"

    async def seen(self: Any, number: int) -> None:
        """Wait until there were so many requests."""
        await eventually(lambda: len(self.target.seen) >= number, SOON, f"request {number}")

    async def released(self: Any, place: str) -> Any:
        """Answer the request that was made last; the result."""
        held = self.target.held[-1]
        held.write(b"at last")
        held.finish()
        result = await self.ask("GET", place + "wait/?timeout=60")
        self.assertEqual((result["state"], result["result"]["content"]), ("SUCCESS", "at last"), result)
        return result

    def kill(self: Any, pid: int) -> None:
        """Kill a worker and all its processes."""
        os.killpg(pid, signal.SIGKILL)

    async def test_killed(self: Any) -> None:
        """A request whose worker is killed is made again by another one, and succeeds once."""
        pid = (await self.create("w1", queues=["tasks"]))["pid"]
        place = await self.hold()
        await self.create("w2", queues=["tasks"])
        self.kill(pid)
        await self.seen(2)
        await self.released(place)
        await self.until_replaced(pid)
        await self.assert_nothing_held()
        self.assertEqual(len(self.target.seen), 2)

    async def test_capped(self: Any) -> None:
        """A request that each time loses its worker fails after some times, and says so."""
        pid = (await self.create("w1", queues=["tasks"]))["pid"]
        place = await self.hold()
        for number in (2, 3):
            self.kill(pid)
            pid = (await self.until_replaced(pid))["pid"]
            await self.seen(number)
        self.kill(pid)
        result = await self.ask("GET", place + "wait/?timeout=60")
        self.assertEqual(result["state"], "FAILURE", result)
        self.assertEqual(result["error"]["type"], "TooManyDeliveries")
        self.assertIn("3 times", result["error"]["message"])
        await self.assert_nothing_held()
        self.assertEqual(len(self.target.seen), 3)

    async def test_branch_was_away(self: Any) -> None:
        """What a worker held that died while there was no branch is found at the branch's next start."""
        pid = (await self.create("w1", queues=["tasks"]))["pid"]
        place = await self.hold()
        await self.branch.kill()
        self.kill(pid)
        await self.start()
        await self.seen(2)
        await self.released(place)
        await self.assert_nothing_held()

    async def test_deleted(self: Any) -> None:
        """What a worker held that had to be killed because its instance is deleted is another's."""
        pid = (await self.create("w1", queues=["tasks"]))["pid"]
        place = await self.hold()
        await self.create("w2", queues=["tasks"])
        # A worker that is stopped obeys neither TERM nor QUIT.
        os.kill(pid, signal.SIGSTOP)
        await self.ask("DELETE", "/foo/instances/w1/")
        await self.seen(2)
        await self.released(place)
        await self.assert_nothing_held()

    async def test_cold_stop(self: Any) -> None:
        """What a worker gives back itself in a cold stop is made once more, and not twice."""
        pid = (await self.create("w1", queues=["tasks"]))["pid"]
        place = await self.hold()
        os.kill(pid, signal.SIGQUIT)
        await self.seen(2)
        await self.released(place)
        await self.until_replaced(pid)
        await self.assert_nothing_held()
        self.assertEqual(len(self.target.seen), 2)

    async def assert_nothing_held(self) -> None:
        """Fail if the broker keeps messages for workers that are gone."""


class OnRabbitMQTests(OnRabbitMQ, LostWorkerTests, BranchTestCase):
    """On RabbitMQ, which notices by itself."""


class OnEmbeddedTests(OnEmbedded, LostWorkerTests, BranchTestCase):
    """On the embedded Redis, where the branch sees to it."""

    async def assert_held(self, number: int) -> None:
        """Wait until workers hold so many messages."""

        def look() -> Any:
            with Connection(self.celery_broker(self.branch)) as connection:
                client = connection.channel().client
                return client.hlen("unacked"), client.zcard("unacked_index")

        async def compare() -> bool:
            self.assertEqual(await deferToThread(look), (number, number))
            return True

        await eventually(compare, 10)

    async def assert_nothing_held(self) -> None:
        await self.assert_held(0)

    async def test_not_begun(self) -> None:
        """Requests that a killed worker had fetched and not begun are made too."""
        details = await self.create(
            "w1", queues=["tasks"], pool="threads", arguments="--prefetch-multiplier=10"
        )
        place = await self.hold()
        places = [
            (await self.ask("POST", f"/foo/queue/tasks/{self.url}/{number}", 202))["uuid"]
            for number in range(3)
        ]
        await self.assert_held(4)
        self.kill(details["pid"])
        await eventually(lambda: len(self.target.held) == 2, SOON, "the request's second delivery")
        await self.released(place)
        for uuid in places:
            result = await self.ask("GET", f"/foo/query/{uuid}/wait/?timeout=60")
            self.assertEqual(result["state"], "SUCCESS", result)
        await self.assert_nothing_held()
        self.assertEqual(
            sorted(each["uri"] for each in self.target.seen), ["/0", "/1", "/2", "/hold", "/hold"]
        )

    async def test_hang_up(self) -> None:
        """A worker that SIGHUP made start anew, as the same process, says what it holds."""
        if not os.path.exists(os.path.join(os.path.dirname(sys.executable), "celery")):
            self.skipTest("Celery's console script is not installed beside Python")
        pid = (await self.create("w1", queues=["tasks"]))["pid"]
        log = Path(self.branch.root, "w1", "worker.log")
        os.kill(pid, signal.SIGHUP)
        await eventually(lambda: log.read_text().count(" ready.") == 2, 60, "the second start")
        place = await self.hold()
        self.kill(pid)
        await self.seen(2)
        await self.released(place)

    async def test_own_options(self) -> None:
        """An app's own transport options are in force, and its tasks come back where these want them."""
        await self.ask("PUT", "/bar/", 201, form={"celery_app": "proj.tuned:app"})
        details = await self.create("w1", "bar")
        told, until = Path(self.path("told")), self.path("until")
        app = self.celery()
        app.conf.broker_transport_options = {"priority_steps": [0, 5]}
        await deferToThread(
            lambda: app.send_task("proj.tuned.tell", (str(told), until), queue="dq.w1", priority=7)
        )
        await eventually(lambda: told.exists() and told.read_text(), 60, "the task's beginning")
        self.kill(details["pid"])
        await eventually(lambda: told.read_text() == "7200\n7200\n", SOON, "its second beginning")
        Path(until).touch()
        await self.assert_nothing_held()


class RestoreTests(TestCase):
    """What is put back on a Redis, and what is not."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.redis = await deferToThread(RedisServer)
        self.addCleanup(deferToThread, self.redis.close)
        self.remote = RemoteControl(reactor, retry_policy=lambda failures: 0.1)
        self.addCleanup(self.remote.close)
        self.connection = Connection(self.redis.url())
        self.addCleanup(self.connection.release)
        self.client = self.connection.channel().client

    def hold(self, tag: str, holder: str | None, source: str = "q", **more: Any) -> None:
        """Have a message held, as kombu has it."""
        message: dict[str, Any] = {
            "body": "e30=",
            "headers": {"id": tag},
            "properties": {"delivery_tag": tag, "delivery_info": {"exchange": "", "routing_key": "q"}},
            **more,
        }
        if holder is not None:
            mark(message, holder, source)
        self.client.hset("unacked", tag, json.dumps([message, "", "q"]))
        self.client.zadd("unacked_index", {tag: 1.0})

    def queue(self, source: str = "q") -> list[Any]:
        return [json.loads(text) for text in self.client.lrange(source, 0, -1)]

    def held(self) -> set[str]:
        return {tag.decode() for tag in self.client.hkeys("unacked")}

    async def test_restore(self) -> None:
        """The messages of the named processes go to their lists, redelivered; all others stay."""
        self.hold("a", "boot/1/1")
        self.hold("b", "boot/1/1", source="q\x06\x163")
        self.hold("living", "boot/1/11")
        self.hold("foreign", None)
        self.hold("quoted", "boot/2/1", body="boot/1/1")
        self.client.hset("unacked", "garbage", "boot/1/1")
        self.assertEqual(await self.remote.restore(self.redis.url(), ["boot/1/1", "boot/9/9"]), 2)
        self.assertEqual(self.held(), {"living", "foreign", "quoted", "garbage"})
        self.assertEqual(self.client.zcard("unacked_index"), 3)
        [message] = self.queue()
        self.assertEqual(
            message,
            {
                "body": "e30=",
                "headers": {"id": "a", "redelivered": True},
                "properties": {
                    "delivery_tag": "a",
                    "delivery_info": {"exchange": "", "routing_key": "q", "redelivered": True},
                },
            },
        )
        self.assertEqual([one["headers"]["id"] for one in self.queue("q\x06\x163")], ["b"])
        self.assertEqual(await self.remote.restore(self.redis.url(), ["boot/1/1"]), 0)
        self.assertEqual(len(self.queue()), 1)

    async def test_many(self) -> None:
        """Several that restore at the same time put each of many messages back once."""
        for number in range(1000):
            self.hold(str(number), "boot/1/1" if number % 2 else "boot/2/2")
        counts = await gatherResults([self.remote.restore(self.redis.url(), ["boot/1/1"]) for _ in range(3)])
        self.assertEqual(sum(counts), 500)
        back = [int(one["headers"]["id"]) for one in self.queue()]
        self.assertEqual(sorted(back), list(range(1, 1000, 2)))
        self.assertEqual(self.client.hlen("unacked"), 500)
