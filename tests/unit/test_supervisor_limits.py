"""The supervisor measures its workers and replaces those that are over a limit, in turn."""

from __future__ import annotations

from cyme.declarations import App
from tests.unit.test_supervisor import INTERVAL, SupervisorTestCase

MIB = 1 << 20


class SamplingTests(SupervisorTestCase):
    """What is measured, and when."""

    def test_nobody(self) -> None:
        """Where no worker lives nothing is measured."""
        self.start()
        self.turn(INTERVAL)
        self.assertEqual(self.workers.measured, 0)

    def test_status(self) -> None:
        """A status shows what the worker took when it was last measured, nothing of an earlier one."""
        self.start()
        self.run_instance()
        self.assertIsNone(self.status()["resources"])
        self.turn(10.0)
        found = self.status()["resources"]
        self.assertEqual((found["rss"], found["processes"]), (50 * MIB, 2))
        self.assertLessEqual(self.clock.seconds() - found["at"], 10.0)
        self.workers.end("w1", signal=9)
        self.assertIsNone(self.status()["resources"])

    def test_often(self) -> None:
        """Workers are measured every ten seconds, though full checks come once a minute."""
        self.start()
        self.run_instance()
        self.turn(50.0)
        self.assertEqual(self.workers.measured, 5)

    def test_failure(self) -> None:
        """A measurement that fails is logged, and the next one comes."""
        self.start()
        self.run_instance()
        self.workers.unmeasurable = OSError("no /proc")
        self.turn(10.0)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.workers.unmeasurable = None
        self.turn(10.0)
        self.assertIsNotNone(self.status()["resources"])


class LimitsTests(SupervisorTestCase):
    """What happens to workers that are over a limit."""

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def reasons(self) -> list[str]:
        """Why workers were stopped, as the why-log has it."""
        return [event.details for event in self.events.recorded if event.kind == "stopping"]

    def replace(self, name: str) -> None:
        """Let a stopping worker end and its replacement answer."""
        self.workers.end(name, status=0)
        self.turn(0.2)
        self.workers.say_ready(name)
        self.turn(0.2)
        self.assertEqual(self.state(name), "running")

    def test_memory(self) -> None:
        """A worker over its app's limit of memory is replaced, which is no failure, and it is said why."""
        self.declare(App(name="foo", max_memory=100 * MIB))
        self.run_instance()
        self.turn(60.0)
        self.assertEqual(self.workers.stopped, [])
        self.workers.rss["w1"] = 356 * MIB
        self.turn(10.0)
        self.assertEqual((self.workers.stopped, self.state()), (["w1"], "stopping"))
        self.assertIn("356.0 MiB", str(self.reasons()))
        self.assertIn("max_memory", str(self.reasons()))
        self.workers.rss.clear()
        self.replace("w1")
        self.assertEqual(self.status()["failures"], 0)
        self.turn(60.0)
        self.assertEqual(self.workers.stopped, ["w1"])

    def test_too_little_memory(self) -> None:
        """A worker that is over its limit as soon as it is up backs off, and it is said why."""
        self.run_instance(max_memory=MIB)
        for _ in range(2):
            self.turn(20.0)
            self.workers.end("w1", status=0)
        self.assertEqual((self.state(), self.status()["failures"]), ("backoff", 2))
        self.assertIn("max_memory", str(self.status()["problems"]))

    def test_age(self) -> None:
        """A worker that is too old is replaced, and its successor again."""
        self.run_instance(max_age=100.0)
        self.turn(95.0)
        self.assertEqual(self.workers.stopped, [])
        self.turn(15.0)
        self.assertEqual(self.workers.stopped, ["w1"])
        self.assertIn("max_age", str(self.reasons()))
        self.replace("w1")
        self.assertEqual(self.status()["failures"], 0)
        self.turn(90.0)
        self.assertEqual(len(self.reasons()), 1)
        self.turn(20.0)
        self.assertEqual(len(self.reasons()), 2)

    def test_in_turn(self) -> None:
        """Of several workers of an app that are too old one at a time is replaced; another app's is, too."""
        self.declare(App(name="bar", max_age=100.0), App(name="foo", max_age=100.0))
        for name in ("w1", "w2", "w3"):
            self.run_instance(name)
        self.run_instance("x1", app="bar")
        self.turn(120.0)
        first, other = sorted(self.workers.stopped)
        self.assertEqual(other, "x1")
        self.turn(60.0)
        self.assertEqual(len(self.workers.stopped), 2)
        self.remote.mute(f"{first}@host")
        self.workers.end(first, status=0)
        self.turn(20.0)
        self.assertEqual((self.state(first), len(self.workers.stopped)), ("starting", 2))
        self.remote.unmute(f"{first}@host")
        self.workers.say_ready(first)
        self.turn(10.5)
        self.assertEqual(len(self.workers.stopped), 3)

    def test_turn_of_a_failed_one(self) -> None:
        """A worker that does not come back, or is no longer wanted, keeps nobody from being replaced."""
        for name in ("w1", "w2", "w3"):
            self.run_instance(name, max_age=100.0)
        self.turn(120.0)
        [first] = self.workers.stopped
        self.workers.refuse = OSError("out of processes")
        self.workers.end(first, status=0)
        self.turn(10.5)
        [_, second] = self.workers.stopped
        self.workers.refuse = None
        self.change(second, is_enabled=False)
        self.workers.end(second, status=0)
        self.turn(10.5)
        self.assertEqual({*self.workers.stopped}, {"w1", "w2", "w3"})
