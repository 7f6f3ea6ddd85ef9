"""Declarations that kill workers (failure-modes F3)."""

from __future__ import annotations

from typing import Any

from amqp.exceptions import PreconditionFailed
from kombu import Connection, Exchange, Queue
from twisted.internet.threads import deferToThread

from tests.chaos.chaoscase import ChaosCase
from tests.support.waiting import eventually


class BadDeclarationTests(ChaosCase):
    """A worker that is told to declare what its broker refuses dies of it."""

    async def redeclare(self, name: str, **arguments: Any) -> None:
        """Put another queue in the place of one, as somebody else would."""

        def replace() -> None:
            with Connection(self.celery_broker(self.branch)) as connection:
                channel = connection.channel()
                channel.queue_delete(name)
                if arguments:
                    Queue(name, Exchange(name), name, channel=channel, **arguments).declare()

        for _ in range(20):
            try:
                return await deferToThread(replace)
            except PreconditionFailed:
                # Who consumed from it was quicker.
                continue

    async def test_refused(self) -> None:
        """What the broker refuses to declare, or nobody understands, is refused and reaches no worker."""
        before = await self.create()
        await self.redeclare("other", max_priority=5)
        cases = {
            "other": ({}, 409, "x-max-priority"),
            "odd": ({"exchange_type": "x-no-such-type"}, 400, "x-no-such-type"),
            "amq.mine": ({}, 400, "amq."),
            "strange": ({"options": {"no_such_option": 1}}, 400, "no_such_option"),
        }
        for queue, (declaration, status, words) in cases.items():
            answer = await self.http.put(f"/foo/queues/{queue}/", json=declaration)
            if answer.status == 201:  # a declaration is tried on the broker when a worker is to have it
                answer = await self.http.put(f"/foo/instances/w1/queues/{queue}/")
            self.assertEqual(answer.status, status, answer.text)
            self.assertIn(words, answer.json["detail"])
        await self.until_consuming()
        await self.assert_same_life(before)
        for queue in cases:
            self.assertNotIn(queue, self.worker_log())

    async def test_turns_bad_while_stopped(self) -> None:
        """A queue that turned bad is left out and said, the others are consumed, until it is mended."""
        await self.create()
        await self.consume("tasks")
        await self.consume("more")
        await self.ask("POST", "/foo/instances/w1/disable/")
        await self.until_state("disabled")
        await self.redeclare("tasks", max_priority=5)
        await self.ask("POST", "/foo/instances/w1/enable/")
        await self.until_state("running")
        await self.until_consuming("more")
        before = await self.instance()
        self.assertIn("x-max-priority", "\n".join(before["problems"]))
        await self.redeclare("tasks")
        await self.until_consuming("more", "tasks")
        after = await eventually(self.without_problems, 30.0)
        self.assertEqual((after["pid"], after["failures"]), (before["pid"], 0))

    async def without_problems(self) -> Any:
        details = await self.instance()
        self.assertEqual(details["problems"], [])
        return details

    async def test_turns_bad_while_consumed(self) -> None:
        """A worker that dies of a queue which turned bad under it comes back, once, without that queue."""
        before = await self.create()
        await self.consume("tasks")
        await self.consume("more")
        # The worker's consumer is cancelled by the broker; it reconnects, and declares all it had.
        await self.redeclare("tasks", max_priority=5)
        await self.until_replaced(before["pid"])
        await self.until_consuming("more")
        details = await self.instance()
        self.assertIn("x-max-priority", "\n".join(details["problems"]))
        self.assertEqual((await self.happened())["started"], 2)
