"""Tasks are known through every branch, whichever issued them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from cyme.controller import issued as module
from cyme.controller.issued import ACTOR, WAIT_AT_ONCE, IssuedTasks, TaskActor, name_of
from cyme.declarations import Instance
from cyme.errors import BranchAway, NoSuchTask, OnlyThere
from cyme.queued import TaskError, TaskMessage, TaskState, TaskStatus
from cyme.taskids import TaskIds
from tests.contracts.gateway import MESSAGE
from tests.fakes.gateway import FakeGateway
from tests.support.meeting import Cluster


class IssuedTasksTests(SynchronousTestCase):
    """Two branches, of which the second has a task."""

    def setUp(self) -> None:
        self.cluster = Cluster()
        self.gateways: dict[str, FakeGateway] = {}
        self.tasks: dict[str, IssuedTasks] = {}
        for id in ("b1", "b2"):
            self.start(id)
        message: TaskMessage = MESSAGE
        self.task = self.successResultOf(self.gateways["b2"].queue("amqp://h", message))

    def start(self, id: str) -> None:
        branch = self.cluster.start(id)
        gateway = self.gateways.setdefault(id, FakeGateway(self.cluster.clock, id))
        branch.actors.register(ACTOR, TaskActor(gateway, id), list)
        branch.actors.own(ACTOR, name_of(id))
        self.tasks[id] = IssuedTasks(
            self.cluster.clock, branch.catalogue, gateway, branch.actors, branch.membership, id
        )

    def ask(self, verb: str, *arguments: Any, task: str | None = None) -> Deferred[TaskStatus]:
        asked = Deferred.fromCoroutine(getattr(self.tasks["b1"], verb)(task or self.task, *arguments))
        self.cluster.turn()
        return asked

    def test_status(self) -> None:
        """Another branch's task is told as that branch knows it."""
        status = self.successResultOf(self.ask("status"))
        self.assertEqual(status, self.successResultOf(self.gateways["b2"].status(self.task)))
        self.gateways["b2"].answer(self.task, TaskState.FAILURE, error=TaskError(type="Boom", message="no"))
        status = self.successResultOf(self.ask("status"))
        self.assertEqual(status, self.successResultOf(self.gateways["b2"].status(self.task)))

    def test_wait(self) -> None:
        """Who waits hears of the end when it comes, however long that takes."""
        asked = self.ask("wait", 600.0)
        self.cluster.turn(3 * WAIT_AT_ONCE)
        self.assertNoResult(asked)
        self.gateways["b2"].answer(self.task, TaskState.SUCCESS, result={"a": 1})
        self.cluster.turn()
        status = self.successResultOf(asked)
        self.assertEqual((status.state, status.result), (TaskState.SUCCESS, {"a": 1}))

    def test_wait_over(self) -> None:
        """A wait ends at its time-out with what is known."""
        asked = self.ask("wait", 1.5 * WAIT_AT_ONCE)
        self.cluster.turn(1.5 * WAIT_AT_ONCE - 1)
        self.assertNoResult(asked)
        self.cluster.turn(2)
        self.assertEqual(self.successResultOf(asked).state, TaskState.PENDING)

    def test_hung_up(self) -> None:
        """Of who has hung up nothing is left anywhere after a moment."""
        asked = self.ask("wait", 600.0)
        asked.cancel()
        self.failureResultOf(asked)
        self.cluster.turn(WAIT_AT_ONCE + 1)
        self.assertEqual(self.gateways["b2"]._waiting.get(self.task, []), [])
        self.assertEqual(self.cluster.branches["b1"].actors._expecting, {})

    def test_revoke(self) -> None:
        """Another branch's task can be revoked."""
        self.assertEqual(self.successResultOf(self.ask("revoke")).state, TaskState.REVOKED)
        self.assertEqual(self.gateways["b2"].revoked, [self.task])

    def test_never_issued(self) -> None:
        """What no branch has issued is not there: no id, an unknown one, and one of nobody's."""
        nobody = TaskIds("nobody", self.cluster.clock.seconds, lambda bits: 7).new()
        for task in ("x", nobody, self.task[:-13] + "7" + self.task[-12:]):
            self.failureResultOf(self.ask("status", task=task), NoSuchTask)

    def test_away(self) -> None:
        """Of a task whose branch is away nobody knows more than that."""
        self.cluster.kill("b2")
        error = self.failureResultOf(self.ask("status"), BranchAway).value
        self.assertIn("branch 'b2' is away since 2027", str(error))

    def test_away_meanwhile(self) -> None:
        """Who waits when that branch goes away is told so."""
        asked = self.ask("wait", 600.0)
        self.cluster.kill("b2")
        self.cluster.turn(3)
        self.failureResultOf(asked, BranchAway)

    def test_known_from_instances(self) -> None:
        """A branch that was never heard is known to be one when it has instances."""
        task = TaskIds("b9", self.cluster.clock.seconds, lambda bits: 7).new()
        self.failureResultOf(self.ask("status", task=task), NoSuchTask)
        self.cluster.branches["b1"].catalogue.change(lambda: [Instance(name="w", app="foo", branch="b9")])
        self.failureResultOf(self.ask("status", task=task), BranchAway)

    def test_too_long(self) -> None:
        """A result that is too long for the way says whom to ask for it."""
        self.patch(module, "RESULT_MOST", 1000)
        self.gateways["b2"].answer(self.task, TaskState.SUCCESS, result="x" * 1000)
        error = self.failureResultOf(self.ask("status"), OnlyThere).value
        self.assertIn("ask branch 'b2' itself", str(error))
