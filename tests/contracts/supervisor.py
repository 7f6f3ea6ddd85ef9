"""What every provider of `ISupervisor` does: as much as those who call it rely on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from cyme.declarations import Instance
from cyme.errors import NoProcess
from cyme.interfaces import ISupervisor
from cyme.planning import State
from cyme.supervisor.health import Verdict

#: The keys of a status that the API shows.
KEYS = {
    "state",
    "pid",
    "node",
    "started_at",
    "is_current",
    "is_consuming",
    "last_pong",
    "failures",
    "next_attempt",
    "last_exit",
    "draining",
    "problems",
    "progress",
    "resources",
}
#: The keys of the health that the API shows.
HEALTH_KEYS = {"verdict", "reason", "state", "process", "pong", "consumers", "progress", "drift", "at"}
RUNS = Instance(name="w1", app="foo", branch="b1")
DISABLED = Instance(name="w2", app="foo", branch="b1", is_enabled=False)


def make_supervisor_tests(
    fixture: Callable[[SynchronousTestCase], tuple[Any, Callable[[float], None]]],
) -> type[SynchronousTestCase]:
    """Tests of a supervisor.

    :param fixture: takes the test case and gives a supervisor for which `RUNS` (its worker runs
        and answers) and `DISABLED` are declared, with a queue `tasks` of their app; and a function
        that lets so many seconds pass.
    """

    class SupervisorTests(SynchronousTestCase):
        def setUp(self) -> None:
            self.supervisor, self.turn = fixture(self)

        def test_interface(self) -> None:
            """It provides `ISupervisor`."""
            verifyObject(ISupervisor, self.supervisor)

        def test_status(self) -> None:
            """A status can be said in JSON, has all keys, and names the state by a word that all share."""
            for instance, state in ((RUNS, State.RUNNING), (DISABLED, State.DISABLED)):
                status = self.supervisor.status(instance)
                self.assertLessEqual(KEYS, status.keys())
                self.assertEqual(json.loads(json.dumps(status))["state"], state.value)
            for key in ("is_current", "is_consuming"):
                shown = [self.supervisor.status(one)[key] for one in (RUNS, DISABLED)]
                self.assertEqual(shown, [True, False], key)
            self.assertEqual(self.supervisor.status(RUNS)["node"].partition("@")[0], "w1")

        def test_settled(self) -> None:
            """An instance that is as it is declared is settled at once."""
            settled = self.supervisor.settled("w1", 5.0)
            self.turn(0.1)
            self.successResultOf(settled)

        def test_ask(self) -> None:
            """A question fires with the worker's answer, or with None when it gave none."""
            for name, expected in (("w1", {"ok": "pong"}), ("w2", None)):
                asked = self.supervisor.ask(name, "ping", timeout=1.0)
                self.turn(1.1)
                self.assertEqual(self.successResultOf(asked), expected)

        def test_health(self) -> None:
            """Health can be said in JSON, and its verdict is a word of the vocabulary."""
            asked = self.supervisor.health("w1")
            self.turn(3.5)
            health = json.loads(json.dumps(self.successResultOf(asked)))
            self.assertEqual(health["verdict"], Verdict.OK.value)
            self.assertLessEqual(HEALTH_KEYS, health.keys())

        def test_log_tail(self) -> None:
            """The log's last lines come as texts, none for an instance that never ran."""
            self.assertEqual(self.successResultOf(self.supervisor.log_tail("w2", 10)), ())

        def test_dump(self) -> None:
            """The stacks of a worker are text; an instance without a process has none."""
            dumped = self.supervisor.dump("w1", 1.0)
            self.turn(0.5)
            self.assertIn("MainThread", self.successResultOf(dumped))
            self.failureResultOf(self.supervisor.dump("w2", 1.0), NoProcess)

        def test_declare(self) -> None:
            """A declaration that the broker takes fires with whether it was tried."""
            self.assertIs(self.successResultOf(self.supervisor.declare("w1", "tasks")), True)

        def test_wake(self) -> None:
            """It can be woken for some instances or for all, known ones or not."""
            self.supervisor.wake(["w1", "nobody"])
            self.supervisor.wake()
            self.turn(0.1)

    return SupervisorTests
