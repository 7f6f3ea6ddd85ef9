"""What functional tests of several branches share."""

from __future__ import annotations

from typing import Any

from tests.functional.branchcase import BranchTestCase
from tests.support.branch import BranchProcess
from tests.support.brokers import OnRabbitMQ
from tests.support.http import Client
from tests.support.waiting import eventually


class ClusterTestCase(OnRabbitMQ, BranchTestCase):
    """A test with two branches on one broker: `branch1`, which `ask` asks, and `branch2`."""

    second: BranchProcess
    there: Client

    def broker_of_second(self) -> str:
        """What the second branch gets as `--broker`."""
        return self.celery_broker(None)

    async def setUp(self) -> None:
        await super().setUp()
        self.second = self.make_branch(broker=self.broker_of_second(), branch_id="branch2")
        await self.start_second()
        for client in (self.http, self.there):
            await self.cluster_of(client, 2)

    async def start_second(self) -> None:
        """Start the second branch, for the first time or again."""
        await self.second.start()
        self.there = self.second.client()

    async def cluster_of(self, client: Client, count: int) -> None:
        """Wait until a branch knows so many."""

        async def look() -> bool:
            members = (await client.get("/branches/")).json
            return len(members) == count

        await eventually(look, 60.0)

    async def ask_there(self, method: str, path: str, status: int = 200, **arguments: Any) -> Any:
        """As `ask`, but through the second branch."""
        answer = await self.there.ask(method, path, **arguments)
        self.assertEqual(answer.status, status, answer.text)
        return answer.json

    async def known_there(self, path: str) -> Any:
        """Wait until the second branch knows what was made through the first; its details."""

        async def look() -> Any:
            return await self.ask_there("GET", path)

        return await eventually(look, 10.0)

    async def spread(self, *names: str) -> dict[str, str]:
        """Create running instances of the app `foo`, on both branches in turn; who has each."""
        await self.ask("PUT", "/foo/", 201)
        await self.known_there("/foo/")
        owners = {}
        for number, name in enumerate(names):
            branch = f"branch{1 + number % 2}"
            params = {"wait": "60", "branch": branch}
            details = await self.ask("PUT", f"/foo/instances/{name}/", 201, params=params)
            self.assertEqual((details["state"], details["branch"]), ("running", branch), details)
            owners[name] = branch
        return owners

    async def declared(self, client: Client) -> Any:
        """All that a branch knows to be declared."""
        found = {}
        for app in (await client.get("/")).json:
            queues = (await client.get(f"/{app}/queues/")).json
            found[app] = (
                (await client.get(f"/{app}/")).json["arguments"],
                queues,
                (await client.get(f"/{app}/instances/")).json,
            )
        return found
