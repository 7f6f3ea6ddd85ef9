"""Two branches on one RabbitMQ with one PostgreSQL: all that holds without it holds."""

from __future__ import annotations

from typing import Any

from twisted.internet.threads import deferToThread

from tests.functional import test_cluster, test_moving
from tests.functional.clustercase import ClusterTestCase
from tests.support.branch import BranchProcess
from tests.support.postgresql import PASSWORD, PostgreSQL, breakable_postgresql, shared_postgresql
from tests.support.proxy import Proxy
from tests.support.waiting import eventually


class SharedDatabase:
    """A mixin: all branches of a test have one database."""

    database = ""

    def server(self) -> PostgreSQL:
        return shared_postgresql()

    def database_of(self, branch_id: str) -> str:
        """What a branch gets as `--database`."""
        if not self.database:
            self.database = self.server().new_url()
        return self.database

    def make_branch(self, *options: str, branch_id: str = "branch1", **arguments: Any) -> BranchProcess:
        shared = ("--database", self.database_of(branch_id))
        branch: BranchProcess = super().make_branch(  # type: ignore[misc]
            *shared, *options, branch_id=branch_id, **arguments
        )
        return branch


class SharedClusterTests(SharedDatabase, ClusterTestCase):
    """One branch works through the other; one goes away."""

    test_session = test_cluster.SessionTests.test_session
    test_killed = test_cluster.AwayTests.test_killed


class SharedPartitionTests(SharedDatabase, test_cluster.PartitionTests):
    """The broker is out of the second branch's reach for a while, the database is not."""


class SharedMovingTests(SharedDatabase, test_moving.MovingTestCase):
    """Instances move."""

    test_drained = test_moving.MovingTests.test_drained
    test_evacuated = test_moving.MovingTests.test_evacuated


class DatabaseAwayTests(SharedDatabase, ClusterTestCase):
    """The database goes away, for one branch or for both."""

    def server(self) -> PostgreSQL:
        return breakable_postgresql()

    async def setUp(self) -> None:
        server = await deferToThread(self.server)
        self.addCleanup(deferToThread, server.mend)
        self.proxy = Proxy(self, server.port)
        await super().setUp()

    def database_of(self, branch_id: str) -> str:
        url = super().database_of(branch_id)
        port = self.server().port if branch_id == "branch1" else self.proxy.port
        return url.replace(f":{self.server().port}/", f":{port}/")

    async def refused(self, client: Any, method: str, path: str) -> None:
        """Ask for what can't be written now; there is an answer that says so, without the password."""
        answer = await client.ask(method, path)
        self.assertEqual(answer.status, 503, answer.text)
        self.assertIn("the database can't be used now", answer.json["detail"])
        self.assertIn("retry-after", answer.headers)
        self.assertNotIn(PASSWORD, answer.text)

    async def test_cut_off(self) -> None:
        """A branch that can't reach it reads and keeps its workers; afterwards it has what others wrote."""
        await self.spread("w1", "w2")
        pids = [(await self.instance(name))["pid"] for name in ("w1", "w2")]
        await self.proxy.cut()
        await self.refused(self.there, "PUT", "/bar/")
        await self.ask("PUT", "/baz/", 201)
        await self.ask("PUT", "/foo/", 200, form={"arguments": ""})
        self.assertEqual((await self.ask_there("GET", "/instances/w2/"))["state"], "running")
        self.assertEqual((await self.ask_there("GET", "/instances/w1/"))["state"], "running")
        self.proxy.mend()

        async def alike() -> Any:
            here, there = await self.declared(self.http), await self.declared(self.there)
            self.assertEqual(here, there)
            self.assertEqual(sorted(here), ["baz", "foo"])
            return here

        await eventually(alike, 30.0)
        await self.ask_there("PUT", "/bar/", 201)
        self.assertEqual([(await self.instance(name))["pid"] for name in ("w1", "w2")], pids)

    async def test_restarted(self) -> None:
        """A restart of the database ends no worker, loses nothing, and needs nobody."""
        await self.spread("w1", "w2")
        pids = [(await self.instance(name))["pid"] for name in ("w1", "w2")]
        server = self.server()
        await deferToThread(server.kill)
        for client in (self.http, self.there):
            await self.refused(client, "PUT", "/bar/")
            await self.refused(client, "DELETE", "/foo/instances/w2/")
            self.assertEqual((await client.get("/foo/instances/")).json, ["w1", "w2"])
        await deferToThread(server.mend)
        await self.ask_there("PUT", "/bar/", 201)
        await self.ask("PUT", "/foo/queues/tasks/", 201)
        await self.known_there("/foo/queues/tasks/")
        self.assertEqual([(await self.instance(name))["pid"] for name in ("w1", "w2")], pids)
        for branch in (self.branch, self.second):
            text = branch.log_text()
            self.assertNotIn(PASSWORD, text)
