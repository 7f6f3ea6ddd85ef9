"""Draining: what is asked of a worker before it gets TERM."""

from __future__ import annotations

from typing import Any

from cyme.declarations import Instance
from cyme.supervisor.draining import LONGEST_LOOK, running_of
from tests.unit.test_supervisor import BROKER, SupervisorTestCase


class DrainTests(SupervisorTestCase):
    """Warm stops, from the first question to the last signal."""

    def setUp(self) -> None:
        super().setUp()
        self.start()
        self.node = self.run_instance()

    def drain(self, deadline: float = 600.0) -> None:
        """Do what the verb does."""
        self.change("w1", is_enabled=False, drain_until=self.clock.seconds() + deadline)
        self.turn()

    def draining(self) -> Any:
        return self.status()["draining"]

    def test_idle(self) -> None:
        """A worker without tasks takes no more, and gets TERM at once."""
        self.drain()
        self.assertEqual(self.node.queues, set())
        self.assertEqual(self.workers.stopped, ["w1"])

    def test_progress(self) -> None:
        """A busy worker is asked what runs until that has ended; its status says how far it is."""
        self.node.running = {"a": 1.0, "b": 2.0}
        self.drain()
        self.assertEqual((self.state(), self.workers.stopped), ("stopping", []))
        began = self.clock.seconds()
        self.assertEqual(self.draining(), {"since": began, "deadline": began + 600, "running": 2})
        del self.node.running["a"]
        self.turn(LONGEST_LOOK * 2)
        self.assertEqual((self.draining()["running"], self.workers.stopped), (1, []))
        self.node.running.clear()
        self.turn(LONGEST_LOOK)
        self.assertEqual(self.workers.stopped, ["w1"])
        self.workers.end("w1", status=0)
        self.turn()
        self.assertEqual((self.state(), self.draining()), ("disabled", None))

    def test_reserved_tasks(self) -> None:
        """What begins while a worker drains is not waited for: TERM lets it end and takes no more."""
        self.node.running = {"a": 1.0}
        self.drain()
        self.node.running = {"b": 5.0}
        self.turn(LONGEST_LOOK)
        self.assertEqual(self.workers.stopped, ["w1"])

    def test_deadline(self) -> None:
        """At the deadline no more time is given."""
        self.node.running = {"a": 1.0}
        self.drain(10.0)
        self.turn(9.0)
        self.assertEqual(self.workers.stopped, [])
        self.turn(1.5)
        self.assertEqual((self.workers.stopped, self.workers.deadlines["w1"]), (["w1"], 0.0))

    def test_rest_of_the_time(self) -> None:
        """What is left of the time when TERM is sent is the time until QUIT."""
        self.node.running = {"a": 1.0}
        self.drain(100.0)
        self.turn(50.0)
        self.node.running.clear()
        self.turn(LONGEST_LOOK)
        self.assertApproximates(self.workers.deadlines["w1"], 50.0, 1.5)

    def test_brought_forward(self) -> None:
        """A second drain can bring the deadline forward, before TERM and after, and never puts it off."""
        self.node.running = {"a": 1.0}
        self.drain(600.0)
        self.drain(900.0)
        first = self.draining()["deadline"]
        self.drain(5.0)
        self.assertLess(self.draining()["deadline"], first)
        self.turn(6.0)
        self.assertEqual(self.workers.stopped, ["w1"])

    def test_brought_forward_after_term(self) -> None:
        """A deadline that is brought forward reaches a worker that has got TERM already."""
        self.drain(600.0)
        self.assertGreater(self.workers.deadlines["w1"], 500.0)
        self.drain(5.0)
        self.assertApproximates(self.workers.deadlines["w1"], 5.0, 0.1)

    def test_dies(self) -> None:
        """A worker that is to be restarted and dies while it drains is replaced without a wait."""
        self.node.running = {"a": 1.0}
        self.change("w1", generation=1)
        self.turn()
        self.workers.end("w1", signal=9)
        self.turn()
        self.assertEqual([one.generation for one in self.workers.started], [0, 1])

    def test_silent(self) -> None:
        """A worker that does not answer gets TERM after it was asked twice."""
        self.remote.mute("w1@host")
        self.drain()
        self.turn(3.5)
        self.assertEqual(self.workers.stopped, [])
        self.turn(3.0)
        self.assertEqual(self.workers.stopped, ["w1"])

    def test_one_lost_answer(self) -> None:
        """A worker that leaves one question unanswered is drained all the same."""
        self.node.running = {"a": 1.0}
        self.remote.mute("w1@host")
        self.drain()
        self.turn(1.0)
        self.remote.unmute("w1@host")
        self.turn(3.0)
        self.assertEqual((self.state(), self.workers.stopped), ("stopping", []))
        self.node.running.clear()
        self.turn(LONGEST_LOOK)
        self.assertEqual(self.workers.stopped, ["w1"])

    def test_broker_away(self) -> None:
        """A worker whose broker is away gets TERM at once, and the usual time or the one given."""
        self.remote.broker_down(BROKER)
        self.change("w1", is_enabled=False)
        self.turn()
        self.assertEqual((self.workers.stopped, self.workers.deadlines["w1"]), (["w1"], 60.0))

    def test_restart(self) -> None:
        """A restart drains by the same path, and the worker that follows consumes again."""
        self.node.running = {"a": 1.0}
        self.change("w1", generation=1)
        self.turn()
        self.assertEqual((self.state(), self.workers.stopped), ("stopping", []))
        self.node.running.clear()
        self.turn(LONGEST_LOOK)
        self.workers.end("w1", status=0)
        self.turn(0.5)
        self.assertEqual((self.state(), self.node.queues), ("running", {"dq.w1"}))

    def test_delete(self) -> None:
        """A deleted instance drains by the same path."""
        self.node.running = {"a": 1.0}
        self.delete("w1")
        self.turn()
        self.assertEqual((self.node.queues, self.workers.stopped), (set(), []))
        self.node.running.clear()
        self.turn(LONGEST_LOOK)
        self.assertEqual(self.workers.stopped, ["w1"])

    def test_unreadable(self) -> None:
        """An answer that is none counts as nothing that runs."""
        self.assertEqual(running_of({"error": "what?"}), frozenset())
        self.assertEqual(running_of([{"id": "a"}, "b", None]), {"a"})


class ResumedTests(SupervisorTestCase):
    """A branch that was killed while a worker drained."""

    def test_resumed(self) -> None:
        """The next life of the branch adopts the worker and goes on draining it to the same deadline."""
        self.declare_draining()
        self.start()
        self.assertEqual((self.state(), self.status()["draining"]["running"]), ("stopping", 1))
        self.assertEqual(self.status()["draining"]["deadline"], self.until)
        self.node.running.clear()
        self.turn(LONGEST_LOOK)
        self.assertEqual(self.workers.stopped, ["w1"])

    def declare_draining(self) -> None:
        """Have a worker live, with a task, whose instance is to be drained."""
        self.node = self.remote.node(BROKER, "w1@host")
        self.node.running = {"a": 1.0}
        self.declare(Instance(name="w1", app="foo", branch="b1"))
        desired = self.supervisor._world.desired("w1")
        assert desired is not None
        self.workers.leave_running(desired)
        self.until = self.clock.seconds() + 300
        self.change("w1", is_enabled=False, drain_until=self.until)
