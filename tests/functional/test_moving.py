"""Two branches on RabbitMQ whose instances move: drained, evacuated, shut down."""

from __future__ import annotations

from typing import Any

from twisted.internet.threads import deferToThread

from tests.functional.branchcase import BranchTestCase
from tests.support.branch import BranchProcess
from tests.support.brokers import OnRabbitMQ
from tests.support.http import Client
from tests.support.rabbitmq import shared_rabbitmq
from tests.support.waiting import eventually


class MovingTestCase(OnRabbitMQ, BranchTestCase):
    """A test with two branches; questions are asked of the second one."""

    async def second(self, *options: str) -> BranchProcess:
        """Start the second branch, and wait until the two know each other."""
        other = self.make_branch(*options, broker=shared_rabbitmq().url(self.vhost), branch_id="branch2")
        await other.start()
        self.first, self.http = self.http, other.client()
        await self.until_members("branch1", "branch2")
        return other

    async def until_members(self, *ids: str) -> None:
        async def look() -> bool:
            self.assertEqual(await self.ask("GET", "/branches/"), list(ids))
            return True

        await eventually(look, 30.0)

    async def until_on(self, branch: str, *names: str) -> list[Any]:
        """Wait until instances run on a branch; their details."""

        async def look() -> list[Any]:
            found = [await self.instance(name) for name in names]
            for details in found:
                self.assertEqual((details["branch"], details["state"]), (branch, "running"), details)
            return found

        return await eventually(look, 90.0)

    async def happened(self, client: Client, name: str, kind: str) -> list[Any]:
        """What the why-log of a branch tells of one kind and instance."""
        answer = await client.ask("GET", "/events/", params={"limit": "1000"})
        return [event for event in answer.json if (event["kind"], event["instance"]) == (kind, name)]

    async def workers_end(self, branch: BranchProcess) -> None:
        """Wait until a branch has no process but its own."""

        async def look() -> bool:
            self.assertLessEqual(len(await deferToThread(branch.left_over)), 1)
            return True

        await eventually(look, 60.0)


class MovingTests(MovingTestCase):
    """Instances move."""

    async def test_drained(self) -> None:
        """Each worker answers on the other branch before it stops on the one that is drained."""
        for name in ("w1", "w2"):
            await self.create(name)
        await self.second("--node-host", "elsewhere")
        asked = await self.ask("POST", "/branches/branch1/drain/")
        self.assertTrue(asked["is_cordoned"])
        for details in await self.until_on("branch2", "w1", "w2"):
            self.assertEqual(details["node"], f"{details['name']}@elsewhere")
        await self.workers_end(self.branch)
        for name in ("w1", "w2"):
            (running,) = await self.happened(self.http, name, "running")
            (stopping,) = await self.happened(self.first, name, "stopping")
            self.assertLess(running["at"], stopping["at"])
            self.assertIn("branch2", str(stopping))
        draining = (await self.ask("GET", "/branches/branch1/"))["draining"]
        self.assertEqual(draining["moved"], {"w1": "branch2", "w2": "branch2"})
        self.assertIsNotNone(draining["ended_at"])
        self.assertEqual((await self.ask("POST", "/foo/instances/", 201))["branch"], "branch2")

    async def test_drained_on_one_machine(self) -> None:
        """Where both have the same node names, a worker stops before the other one answers."""
        await self.create("w1")
        await self.second()
        await self.ask("POST", "/branches/branch1/drain/")
        await self.until_on("branch2", "w1")
        await self.workers_end(self.branch)

    async def test_killed_while_drained(self) -> None:
        """A branch that is killed in the middle of its drain goes on when it returns."""
        for name in ("w1", "w2"):
            await self.create(name)
        await self.second("--node-host", "elsewhere")
        await self.ask("POST", "/branches/branch1/drain/")
        await self.branch.wait_for_line("a worker is to start on branch2")
        await self.branch.kill()
        await self.branch.start()
        await self.until_on("branch2", "w1", "w2")
        await self.workers_end(self.branch)

    async def test_evacuated(self) -> None:
        """The instances of a branch that was killed get another; it stops its own when it returns."""
        details = await self.create("w1")
        await self.second("--node-host", "elsewhere")
        await self.ask("POST", "/branches/branch1/evacuate/", 409)
        await self.branch.kill()
        await self.until_members("branch2")
        answer = await self.ask("POST", "/branches/branch1/evacuate/")
        self.assertEqual(answer["moved"], {"w1": "branch2"})
        (moved,) = await self.until_on("branch2", "w1")
        self.assertNotEqual(moved["pid"], details["pid"])
        await self.branch.start()
        await self.until_members("branch1", "branch2")
        await self.workers_end(self.branch)
        self.first = self.branch.client()
        (stopping,) = await self.happened(self.first, "w1", "stopping")
        self.assertIn("branch2 has it now", str(stopping))
        (still,) = await self.until_on("branch2", "w1")
        self.assertEqual(still["pid"], moved["pid"])

    async def test_shut_down(self) -> None:
        """A branch that is asked by way of another stops in good order."""
        await self.create("w1")
        await self.second()
        await self.ask("POST", "/branches/branch1/shutdown/")
        self.assertEqual(await deferToThread(self.branch.process.wait, 60.0), 0)
        await self.until_members("branch2")
        self.assertEqual(self.branch.left_over(), [])

    async def test_labels(self) -> None:
        """Instances that ask for labels go where these are."""
        await self.http.put("/foo/")
        await self.second("--label", "gpu=yes", "--label", "zone=a")
        self.assertEqual((await self.ask("GET", "/branches/branch2/"))["labels"], {"gpu": "yes", "zone": "a"})
        for _ in range(2):
            made = await self.ask("POST", "/foo/instances/?label=gpu=yes&label=zone=a", 201)
            self.assertEqual(made["branch"], "branch2")
        refused = await self.ask("POST", "/foo/instances/?label=gpu=no", 503)
        self.assertIn("gpu=no", refused["detail"])
