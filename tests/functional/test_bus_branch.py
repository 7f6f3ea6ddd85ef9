"""A branch on RabbitMQ and what it has there for the others."""

from __future__ import annotations

from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnRabbitMQ
from tests.support.rabbitmq import shared_rabbitmq
from tests.support.waiting import eventually


class BranchOnTheBusTests(OnRabbitMQ, BranchTestCase):
    """A branch's inbox is there while the branch lives."""

    async def bound(self) -> set[tuple[str, str]]:
        """What inboxes are bound to: exchange and routing key."""
        columns = ("source_name", "routing_key", "destination_name")
        rows = await shared_rabbitmq().ctl("list_bindings", "-p", self.vhost, *columns)
        return {(row[0], row[1]) for row in rows if row[2].startswith("cyme.inbox.") and row[0]}

    async def test_inbox(self) -> None:
        """A branch's names are bound to its inbox, those made later too, and to nothing once it is killed."""
        (branch_id,) = await self.ask("GET", "/branches/")
        self.assertIn(("cyme.Branch", branch_id), await self.bound())
        self.assertIn(("cyme.all", ""), await self.bound())
        await self.create("w1")
        self.assertIn(("cyme.Instance", "w1"), await self.bound())
        self.branch.process.kill()

        async def is_gone() -> bool:
            return not await self.bound()

        await eventually(is_gone, 30.0)
        await self.start()
        self.assertIn(("cyme.Instance", "w1"), await self.bound())
        said = "\n".join(self.branch.process.lines())
        self.assertIn("the branch bus is connected to amqp://guest:***@", said)
