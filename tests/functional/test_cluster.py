"""Two branches on one RabbitMQ are one system: ask either of them, anything."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.functional.clustercase import ClusterTestCase
from tests.support.branch import BIN
from tests.support.ports import free_ports
from tests.support.proxy import Proxy
from tests.support.rabbitmq import RabbitMQ, breakable_rabbitmq, shared_rabbitmq
from tests.support.recorder import Recorder
from tests.support.waiting import eventually


class SessionTests(ClusterTestCase):
    """Work through a branch that owns nothing of it."""

    async def test_session(self) -> None:
        """What is made through one is there at once, and through the other within a second."""
        begun = time.monotonic()
        await self.ask("PUT", "/foo/", 201)
        await self.ask("PUT", "/foo/queues/tasks/", 201, json={"exchange": "tasks"})
        await self.known_there("/foo/queues/tasks/")
        self.assertLess(time.monotonic() - begun, 1.0)
        made = [
            await self.ask_there("POST", "/foo/instances/", 201, params={"wait": "60", "queues": "tasks"})
            for _ in range(2)
        ]
        self.assertEqual({one["branch"] for one in made}, {"branch1", "branch2"})
        names = sorted(one["name"] for one in made)
        self.assertEqual(await self.ask_there("GET", "/foo/instances/"), names)
        self.assertEqual(await self.ask("GET", "/foo/instances/"), names)
        (name,) = (one["name"] for one in made if one["branch"] == "branch2")
        path = f"/foo/instances/{name}/"
        stats = await self.ask("GET", f"{path}stats/")
        self.assertEqual(stats["stats"]["pool"]["max-concurrency"], 1)
        self.assertEqual((await self.ask("GET", f"{path}health/"))["verdict"], "ok")
        grown = await self.ask("POST", f"{path}autoscale/", params={"max": "3", "min": "2"})
        self.assertEqual(grown, {"max": 3, "min": 2})
        self.assertEqual(await self.ask_there("GET", f"{path}autoscale/"), grown)
        self.assertIn("tasks", await self.ask("GET", f"{path}queues/"))
        await self.ask("DELETE", f"{path}queues/tasks/")
        self.assertNotIn("tasks", await self.ask_there("GET", f"{path}queues/"))
        log = await self.http.get(f"{path}log/")
        self.assertIn(name, log.text)
        kinds = [event["kind"] for event in await self.ask("GET", f"{path}events/")]
        self.assertIn("running", kinds)
        before = (await self.instance(name))["pid"]
        await self.ask("POST", f"{path}restart/")

        async def restarted() -> bool:
            details = await self.instance(name)
            return details["state"] == "running" and details["pid"] != before

        await eventually(restarted, 60.0)
        drained = await self.ask("POST", f"{path}drain/", params={"wait": "60"})
        self.assertEqual(drained["state"], "disabled")
        await self.ask("DELETE", path)
        answer = await self.there.get(path)
        self.assertEqual(answer.status, 404)

    async def test_tasks(self) -> None:
        """A request queued through one branch is asked about, waited for and revoked through the other.

        And who asks the bus itself is told of both.
        """
        await self.spread("w1")
        recorder = Recorder(self)
        target = f"http://127.0.0.1:{recorder.port}/x"
        queued = await self.ask("POST", f"/foo/queue/{target}", 202)
        query = f"/foo/query/{queued['uuid']}/"
        result = await self.ask_there("GET", f"{query}wait/")
        self.assertEqual((result["state"], result["result"]["status_code"]), ("SUCCESS", 200))
        self.assertEqual(await self.ask_there("GET", f"{query}state/"), {"state": "SUCCESS"})
        self.assertEqual(await self.ask_there("GET", f"{query}result/"), result)
        program = [os.path.join(BIN, "cyme-list-branches"), "--broker", self.celery_broker(None)]
        done = await deferToThread(subprocess.run, program, capture_output=True, text=True)
        self.assertEqual((done.stdout, done.stderr), ('["branch1", "branch2"]\n', ""))
        await self.ask("PUT", "/foo/queues/nobody/", 201)
        queued = await self.ask("POST", f"/foo/queue/nobody/{target}", 202)
        query = f"/foo/query/{queued['uuid']}/"
        waiting = self.ask_there("GET", f"{query}wait/?timeout=30")
        revoked = await self.ask_there("DELETE", query)
        self.assertEqual(revoked["state"], "REVOKED")
        self.assertEqual((await waiting)["state"], "REVOKED")
        nobody = "6b03dd0a-213e-8985-9ff7-7dc96f776c84"
        self.assertEqual((await self.there.get(f"/foo/query/{nobody}/state/")).status, 404)
        self.assertEqual((await self.ask_there("GET", "/foo/queues/nobody/"))["name"], "nobody")


class AwayTests(ClusterTestCase):
    """One of the branches goes away."""

    async def test_killed(self) -> None:
        """Instances of a branch that was killed are lost, and refuse; it comes back and has its workers."""
        await self.spread("w1", "w2")
        pid = (await self.instance("w2"))["pid"]
        await self.second.kill()
        lost = await self.instance("w2")
        self.assertEqual((lost["state"], lost["branch"], lost["pid"]), ("lost", "branch2", None))
        self.assertIn("is away since 20", lost["problems"][0])
        begun = time.monotonic()
        problem = await self.ask("POST", "/foo/instances/w2/restart/", 503)
        self.assertLess(time.monotonic() - begun, 1.0)
        self.assertIn("branch 'branch2' is away", problem["detail"])
        self.assertEqual((await self.instance("w1"))["state"], "running")
        self.assertEqual(await self.ask("GET", "/foo/instances/"), ["w1", "w2"])
        await self.ask("PUT", "/foo/queues/meanwhile/", 201)
        await self.start_second()
        details = await self.until_state("running", "w2")
        self.assertEqual(details["pid"], pid)
        await self.known_there("/foo/queues/meanwhile/")

    async def test_killed_while_asked(self) -> None:
        """A question that a branch was killed over ends within moments, with words."""
        await self.spread("w1", "w2")
        self.second.process.signal(signal.SIGSTOP)
        asked = Deferred.fromCoroutine(self.http.post("/foo/instances/w2/restart/"))
        # So the broker has given it the question.
        await self.ask("GET", "/branches/")
        await self.second.kill()
        begun = time.monotonic()
        answer = await asked
        self.assertIn(answer.status, (503, 504), answer.text)
        self.assertIn("away", answer.json["detail"])
        # An answer that never comes is waited for a minute.
        self.assertLess(time.monotonic() - begun, 20.0)


class PartitionTests(ClusterTestCase):
    """The broker is out of the second branch's reach for a while; the workers of both have it."""

    proxy: Proxy

    def broker_of_second(self) -> str:
        node = shared_rabbitmq()
        self.proxy = Proxy(self, node.port)
        return node.url(self.vhost).replace(f":{node.port}/", f":{self.proxy.port}/")

    async def test_partition(self) -> None:
        """Both keep their workers and take what can be written; afterwards both hold the same."""
        await self.spread("w1", "w2")
        for queue in ("stays", "goes"):
            await self.ask("PUT", f"/foo/queues/{queue}/", 201)
        await self.known_there("/foo/queues/goes/")
        pids = [(await self.instance(name))["pid"] for name in ("w1", "w2")]
        await self.proxy.cut()
        await self.cluster_of(self.there, 1)
        await self.cluster_of(self.http, 1)
        await self.ask("DELETE", "/foo/queues/goes/")
        await self.ask("PUT", "/here/", 201)
        await self.ask_there("PUT", "/there/", 201)
        await self.ask_there("PUT", "/foo/", 200, form={"arguments": "-O fair"})
        self.assertEqual((await self.there.put("/foo/instances/w3/")).status, 503)
        self.assertEqual((await self.instance("w2"))["state"], "lost")
        self.assertEqual((await self.instance("w1"))["state"], "running")
        self.proxy.mend()
        await self.cluster_of(self.there, 2)
        await self.cluster_of(self.http, 2)

        async def alike() -> Any:
            here, there = await self.declared(self.http), await self.declared(self.there)
            self.assertEqual(here, there)
            self.assertEqual(sorted(here), ["foo", "here", "there"])
            return here

        foo = (await eventually(alike, 30.0))["foo"]
        self.assertEqual((foo[0], foo[1]), ("-O fair", ["stays"]))
        states = [await self.until_state("running", name) for name in ("w1", "w2")]
        # New arguments restart workers; nothing else did.
        self.assertEqual(len(pids), len(states))
        kinds = [event["kind"] for event in await self.ask("GET", "/foo/instances/w2/events/")]
        self.assertLessEqual(kinds.count("starting"), 2, kinds)


class OutageTests(ClusterTestCase):
    """The broker of both branches, and of their workers, goes away for a while."""

    async def setUp(self) -> None:
        self.node = await deferToThread(breakable_rabbitmq)
        self.addCleanup(deferToThread, self.node.mend)
        # Who is silent for two seconds is asked, and given up after two more.
        self.url = f"{await deferToThread(self.node.new_url)}?heartbeat=2"
        await super().setUp()

    def branch_broker(self) -> str:
        return self.url

    def broker_of_second(self) -> str:
        return self.url

    async def through(self, outage: Any, end: Any) -> None:
        """Have the broker go away while a change is under way, and come back; look at all that holds."""
        await self.spread("w1", "w2")
        pids = [(await self.instance(name))["pid"] for name in ("w1", "w2")]
        self.second.process.signal(signal.SIGSTOP)
        asked = Deferred.fromCoroutine(self.http.post("/foo/instances/w2/disable/"))
        await self.ask("GET", "/branches/")
        await deferToThread(outage)
        self.second.process.signal(signal.SIGCONT)
        answer = await asked
        await self.cluster_of(self.http, 1)
        await self.cluster_of(self.there, 1)
        self.assertEqual((await self.http.post("/foo/instances/w2/restart/")).status, 503)
        await self.ask("PUT", "/foo/queues/meanwhile/", 201)
        await deferToThread(end)
        for client in (self.http, self.there):
            await self.cluster_of(client, 2)
        await self.known_there("/foo/queues/meanwhile/")
        self.assertEqual(answer.status, 504, answer.text)
        self.assertIn("is not known", answer.json["detail"])
        # The second branch had it in its hands, or not; it does not come again.
        is_enabled = (await self.instance("w2"))["is_enabled"]
        await self.ask("POST", "/foo/instances/w2/enable/")
        for name, pid in zip(("w1", "w2"), pids, strict=True):
            details = await self.until_state("running", name)
            self.assertTrue(details["pid"] == pid or (name, is_enabled) == ("w2", False), details)
        await self.ask("POST", "/foo/instances/w2/disable/")
        await self.until_state("disabled", "w2")

    async def test_killed(self) -> None:
        """A broker that is killed and started again costs no worker, and a change under way an error."""
        await self.through(self.node.kill, self.node.mend)

    async def test_frozen(self) -> None:
        """So does one that freezes."""
        await self.through(self.node.freeze, self.node.thaw)


class BrokerClusterTests(ClusterTestCase):
    """The broker is a cluster of two nodes, and both branches know both."""

    # Workers of both are told of the new node by being started again.
    timeout = 240

    async def setUp(self) -> None:
        self.first_node = await deferToThread(RabbitMQ)
        self.addCleanup(deferToThread, self.first_node.close)
        self.second_node = await deferToThread(RabbitMQ, first=self.first_node)
        self.addCleanup(deferToThread, self.second_node.close)
        await super().setUp()

    def branch_broker(self) -> str:
        return f"{self.first_node.url()};{self.second_node.url()}"

    def broker_of_second(self) -> str:
        return self.branch_broker()

    async def test_node_lost(self) -> None:
        """When the node that all are connected to is killed, they go on by the other one.

        Queues that were on the node, and nowhere else, are away with it, and so are their workers.
        """
        await self.spread("w1", "w2")
        await deferToThread(self.first_node.kill)
        for branch in (self.branch, self.second):
            await branch.wait_for_line(f":{self.second_node.port}/")
        for client in (self.http, self.there):
            await self.cluster_of(client, 2)
        # The queue by which the cluster picks a branch was on the node that is down.
        await self.ask_there("PUT", "/foo/instances/w3/", 201)
        await self.ask("PUT", "/foo/instances/w4/", 201, params={"branch": "branch2"})
        for name in ("w3", "w4"):
            await self.until_state("running", name)
        exit = (await self.until_state("backoff", "w1"))["last_exit"]
        self.assertIn("home node", exit["log"][0])
        self.assertIn("the node that has the queue is down", exit["explanation"])
        await deferToThread(self.first_node.start)
        await self.ask("POST", "/foo/instances/w1/restart/")
        await self.until_state("running", "w1")


class SeveralBrokersTests(ClusterTestCase):
    """The second branch knows several nodes of the broker."""

    def broker_of_second(self) -> str:
        node = shared_rabbitmq()
        url = node.url(self.vhost)
        (nobody,) = free_ports(1)
        return ";".join((url.replace(f":{node.port}/", f":{nobody}/"), url))

    async def test_next_one(self) -> None:
        """Where one node does not answer, the next is taken, also by workers."""
        await self.ask("PUT", "/foo/", 201)
        await self.known_there("/foo/")
        await self.ask("PUT", "/foo/instances/w2/", 201, params={"branch": "branch2"})
        await self.until_state("running", "w2")
        stats = await self.ask("GET", "/foo/instances/w2/stats/")
        self.assertEqual(stats["branch"], "branch2")
        self.assertIsNotNone(stats["stats"])


