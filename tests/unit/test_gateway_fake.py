"""The fake gateway keeps the contract of the real one."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from cyme.queued import TaskState
from tests.contracts.gateway import MESSAGE, World, make_gateway_tests
from tests.fakes.gateway import FakeGateway


class FakeWorld:
    """A fake gateway."""

    broker = "amqp://broker//"

    def __init__(self) -> None:
        self.gateway = FakeGateway(Clock())

    async def answer(self, task_id: str, state: TaskState, *details: Any, **more: Any) -> None:
        self.gateway.answer(task_id, state, *details, **more)

    async def messages(self) -> list[str]:
        return list(self.gateway.queued)


def fake_world(case: TestCase) -> Deferred[World]:
    return succeed(FakeWorld())


class ContractTests(make_gateway_tests(fake_world)):  # type: ignore[misc]
    """`FakeGateway`."""


class TimeTests(SynchronousTestCase):
    """What takes time."""

    def test_wait_ends(self) -> None:
        """A wait that is over fires with what is known by then, and leaves nothing behind."""
        clock = Clock()
        gateway = FakeGateway(clock)
        task_id = self.successResultOf(gateway.queue("amqp://broker//", MESSAGE))
        waiting = gateway.wait(task_id, 5.0)
        clock.advance(5.0)
        self.assertEqual(self.successResultOf(waiting).state, TaskState.PENDING)
        self.assertEqual(clock.getDelayedCalls(), [])
