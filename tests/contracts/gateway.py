"""What every `IGateway` does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from cyme.errors import NoSuchTask
from cyme.interfaces import IGateway
from cyme.planning import ConsumedQueue
from cyme.queued import TaskError, TaskMessage, TaskState
from cyme.taskids import TaskIds, is_of

MESSAGE = TaskMessage(
    app="foo",
    queue=ConsumedQueue(name="tâches", exchange="tâches", exchange_type="direct", routing_key="tâches"),
    task="proj.add",
    args=[1, "zwei"],
    kwargs={"three": None},
)

#: An id that the branch `b1` might have issued, but did not.
NEVER_ISSUED = TaskIds("b1", lambda: 1.0e9, lambda bits: 7).new()


class World(Protocol):
    """A gateway of the branch `b1`, and what a test needs of the world around it.

    :ivar gateway: the `IGateway`.
    :ivar broker: the URL of a broker that works.
    """

    gateway: Any
    broker: str

    async def answer(
        self, task_id: str, state: TaskState, result: Any = None, error: TaskError | None = None
    ) -> None:
        """Have a worker say how a task is."""

    async def messages(self) -> list[str]:
        """The ids of the tasks that were ever queued on the broker, in order."""


def make_gateway_tests(fixture: Callable[[TestCase], Deferred[World]]) -> type[TestCase]:
    """Tests of an `IGateway`.

    :param fixture: called with the test case, which it may add clean-ups to.
    """

    class GatewayTests(TestCase):
        timeout = 60

        async def setUp(self) -> None:
            self.world = await fixture(self)
            self.gateway = self.world.gateway

        def queue(self, **changes: Any) -> Deferred[str]:
            queued: Deferred[str] = self.gateway.queue(self.world.broker, evolve(MESSAGE, **changes))
            return queued

        def test_interface(self) -> None:
            """It provides `IGateway`."""
            verifyObject(IGateway, self.gateway)

        async def test_queue(self) -> None:
            """A task gets an id that says which branch issued it, is on the broker, and is pending."""
            first, second = await self.queue(), await self.queue()
            self.assertEqual(await self.world.messages(), [first, second])
            self.assertTrue(is_of(first, "b1"))
            status = await self.gateway.status(first)
            self.assertEqual(
                (status.id, status.app, status.queue, status.state),
                (first, "foo", "tâches", TaskState.PENDING),
            )
            self.assertEqual((status.result, status.error, status.finished_at), (None, None, None))

        async def test_recent(self) -> None:
            """The tasks that were queued last are told, the newest first, of one app or of all."""
            first, second = await self.queue(), await self.queue(app="bar")
            found = await self.gateway.recent(10, None)
            self.assertEqual([(one.id, one.app) for one in found], [(second, "bar"), (first, "foo")])
            self.assertEqual([one.id for one in await self.gateway.recent(1, None)], [second])
            self.assertEqual([one.id for one in await self.gateway.recent(10, "foo")], [first])

        async def test_no_json(self) -> None:
            """Arguments that are no JSON are refused, and nothing is queued."""
            await self.assertFailure(self.queue(args=[object()]), TypeError)
            await self.assertFailure(self.queue(kwargs={"x": float("nan")}), ValueError)
            self.assertEqual(await self.world.messages(), [])

        async def test_never_issued(self) -> None:
            """There is no task of an id that was never issued, whatever the id looks like."""
            for task_id in (NEVER_ISSUED, "b3a5c1e0-2f39-4a86-93a3-8c1a10a8e7b1", "nonsense", ""):
                await self.assertFailure(self.gateway.status(task_id), NoSuchTask)
                await self.assertFailure(self.gateway.wait(task_id, 30.0), NoSuchTask)
                await self.assertFailure(self.gateway.revoke(task_id), NoSuchTask)

        async def test_success(self) -> None:
            """What a task returned is kept."""
            task_id = await self.queue()
            await self.world.answer(task_id, TaskState.SUCCESS, {"status_code": 200, "content": "é"})
            status = await self.gateway.wait(task_id, 30.0)
            self.assertEqual(status.state, TaskState.SUCCESS)
            self.assertEqual(status.result, {"status_code": 200, "content": "é"})
            self.assertIsNotNone(status.finished_at)
            self.assertEqual(await self.gateway.status(task_id), status)

        async def test_failure(self) -> None:
            """A failure is data: a type and a message."""
            task_id = await self.queue()
            await self.world.answer(
                task_id, TaskState.FAILURE, error=TaskError(type="OSError", message="no route")
            )
            status = await self.gateway.wait(task_id, 30.0)
            self.assertEqual((status.state, status.result), (TaskState.FAILURE, None))
            self.assertEqual(status.error, TaskError(type="OSError", message="no route"))

        async def test_wait(self) -> None:
            """All who wait for a task hear of its end at once."""
            task_id = await self.queue()
            waiting = [self.gateway.wait(task_id, 30.0) for _ in range(3)]
            await self.world.answer(task_id, TaskState.STARTED)
            await self.world.answer(task_id, TaskState.SUCCESS, 42)
            self.assertEqual([(await one).result for one in waiting], [42, 42, 42])

        async def test_wait_cancelled(self) -> None:
            """Who no longer waits hears nothing, and the others do."""
            task_id = await self.queue()
            one, other = (self.gateway.wait(task_id, 30.0) for _ in range(2))
            one.cancel()
            await self.assertFailure(one, CancelledError)
            await self.world.answer(task_id, TaskState.SUCCESS, 42)
            self.assertEqual((await other).result, 42)

        async def test_no_way_back(self) -> None:
            """A final state stays, whatever comes later."""
            task_id = await self.queue()
            await self.world.answer(task_id, TaskState.SUCCESS, 1)
            await self.world.answer(task_id, TaskState.STARTED)
            await self.world.answer(task_id, TaskState.FAILURE, error=TaskError(type="E", message="m"))
            await self.gateway.wait(task_id, 30.0)
            other = await self.queue()
            await self.world.answer(other, TaskState.SUCCESS, 2)
            await self.gateway.wait(other, 30.0)
            self.assertEqual((await self.gateway.status(task_id)).result, 1)

        async def test_revoke(self) -> None:
            """A revoked task is revoked, also when a worker says otherwise later."""
            task_id = await self.queue()
            waiting = self.gateway.wait(task_id, 30.0)
            status = await self.gateway.revoke(task_id)
            self.assertEqual(status.state, TaskState.REVOKED)
            self.assertEqual((await waiting).state, TaskState.REVOKED)
            await self.world.answer(task_id, TaskState.SUCCESS, 1)
            other = await self.queue()
            await self.world.answer(other, TaskState.SUCCESS, 2)
            await self.gateway.wait(other, 30.0)
            self.assertEqual((await self.gateway.status(task_id)).state, TaskState.REVOKED)

        async def test_revoke_too_late(self) -> None:
            """A task that has ended can't be revoked, and its result stays."""
            task_id = await self.queue()
            await self.world.answer(task_id, TaskState.SUCCESS, 1)
            await self.gateway.wait(task_id, 30.0)
            status = await self.gateway.revoke(task_id)
            self.assertEqual((status.state, status.result), (TaskState.SUCCESS, 1))

        async def test_put_off(self) -> None:
            """A task that is put off for long is pending, and is revoked as any other."""
            eta = time.time() + 3600.0
            task_id = await self.queue(eta=eta, deduplication_id="later")
            self.assertEqual(await self.queue(eta=eta, deduplication_id="later"), task_id)
            self.assertEqual((await self.gateway.status(task_id)).state, TaskState.PENDING)
            waiting = self.gateway.wait(task_id, 30.0)
            self.assertEqual((await self.gateway.revoke(task_id)).state, TaskState.REVOKED)
            self.assertEqual((await waiting).state, TaskState.REVOKED)

        async def test_deduplication(self) -> None:
            """Of several with one deduplication id in an app there is one task."""
            first = await self.queue(deduplication_id="import 7")
            again = await self.queue(deduplication_id="import 7")
            other = await self.queue(deduplication_id="import 8")
            elsewhere = await self.queue(deduplication_id="import 7", app="bar")
            self.assertEqual(again, first)
            self.assertEqual(await self.world.messages(), [first, other, elsewhere])

        async def test_deduplication_at_once(self) -> None:
            """Also when they come at the same moment."""
            ids = [self.queue(deduplication_id="import 7") for _ in range(5)]
            self.assertEqual(len({await one for one in ids}), 1)
            self.assertEqual(len(await self.world.messages()), 1)

    return GatewayTests
