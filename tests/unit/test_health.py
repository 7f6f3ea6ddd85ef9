"""Health: verdicts, evidence, stalled workers and deaf ones."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cyme.declarations import Instance, Queue
from cyme.planning import BLANK, Desired, Heard, Observed, Phase, Policy, Process, Progress
from cyme.supervisor.counting import COUNT_AGAIN_AFTER, COUNT_FRESH, MOST_COUNTED
from cyme.supervisor.health import Evidence, health_of, judge
from cyme.supervisor.progress import progressed, total_of
from tests.unit.test_supervisor import BROKER, INTERVAL, SupervisorTestCase

#: Seconds after which what was found out is no longer fresh.
LATER = 6.0


class HealthTestCase(SupervisorTestCase):
    """A supervisor that is asked for health."""

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def health(self, name: str = "w1") -> Any:
        asked = self.supervisor.health(name)
        self.turn(3.5)
        return self.successResultOf(asked)

    def verdict(self, name: str = "w1") -> tuple[str, str | None]:
        health = self.health(name)
        return health["verdict"], health["reason"]

    def commands(self) -> list[str]:
        return [asked.command for asked in self.remote.asked]


class VerdictTests(HealthTestCase):
    """One word for every condition of an instance."""

    def test_ok(self) -> None:
        """A worker that answers and consumes from all that is declared is ok."""
        self.declare(Queue(app="foo", name="tasks"))
        node = self.run_instance(queues=("tasks",))
        node.running, node.total = {"a": 5.0}, {"proj.work": 7}
        self.turn(LATER)
        health = self.health()
        self.assertEqual((health["verdict"], health["reason"], health["drift"]), ("ok", None, []))
        self.assertEqual(health["consumers"]["worker"], ["dq.w1", "tasks"])
        counts = {"consumers": 1, "messages": 0}
        self.assertEqual(health["consumers"]["broker"], {"dq.w1": counts, "tasks": counts})
        self.assertEqual((health["progress"]["started"], health["progress"]["running"]), (7, 1))
        self.assertEqual(health["process"]["state"], "S")

    def test_begun(self) -> None:
        """The status tells how many tasks have begun, and what runs once that was asked."""
        node = self.run_instance()
        node.total = {"proj.work": 7, "proj.rest": 2}
        self.turn(61.0)
        told = self.status()["progress"]
        self.assertEqual((told["total"], told["running"], told["reserved"]), (9, None, None))
        self.assertLess(self.clock.seconds() - told["at"], 61.0)
        node.running = {"a": 5.0}
        self.health()
        self.assertEqual((self.status()["progress"]["total"], self.status()["progress"]["running"]), (9, 1))

    def test_ages(self) -> None:
        """Each piece of evidence has its age."""
        self.run_instance()
        self.remote.mute("w1@host")
        self.turn(30.0)
        health = self.health()
        self.assertGreater(health["pong"]["age"], 30.0)
        self.assertGreater(health["consumers"]["age"], 30.0)
        self.assertGreater(health["process"]["age"], 30.0)
        self.assertLess(health["consumers"]["broker_age"], 5.0)

    def test_starting(self) -> None:
        """A worker that has not answered yet is starting."""
        self.declare_instance()
        self.assertEqual(self.verdict(), ("starting", None))

    def declare_instance(self) -> None:
        self.declare(Instance(name="w1", app="foo", branch="b1"))
        self.turn()

    def test_one_lost_pong(self) -> None:
        """One question without an answer makes nobody unresponsive."""
        self.run_instance()
        self.remote.mute("w1@host")
        self.turn(LATER)
        self.assertEqual(self.verdict()[0], "ok")

    def test_unresponsive(self) -> None:
        """Several in a row do; to ask for its health does not hasten that."""
        self.run_instance()
        self.remote.mute("w1@host")
        self.turn(LATER)
        for _ in range(3):
            self.assertEqual(self.verdict()[0], "ok")
        self.turn(20.0)
        self.assertEqual(self.workers.stopped, ["w1"])

    def test_frozen(self) -> None:
        """A worker whose process is stopped by a signal is unresponsive, and the reason says what to do."""
        self.run_instance()
        self.workers.process_states["w1"] = "T"
        verdict, reason = self.verdict()
        self.assertEqual(verdict, "unresponsive")
        self.assertIn("SIGCONT", str(reason))

    def test_unknown(self) -> None:
        """While the broker is away nobody knows, and the answer comes at once."""
        self.run_instance()
        self.remote.broker_down(BROKER)
        health = self.successResultOf(self.supervisor.health("w1"))
        self.assertEqual((health["verdict"], health["reason"]), ("unknown", "its broker can't be reached"))

    def test_down(self) -> None:
        """An instance that keeps ending is down."""
        self.run_instance()
        for _ in range(3):
            if "w1" in self.workers.processes():
                self.workers.end("w1", status=1)
        self.assertEqual(self.verdict()[0], "down")

    def test_disabled_and_draining(self) -> None:
        """A disabled instance is draining while its worker lives, then disabled."""
        self.run_instance()
        self.change("w1", is_enabled=False)
        self.turn()
        self.assertEqual(self.verdict()[0], "draining")
        self.workers.end("w1", status=0)
        self.turn()
        self.assertEqual(self.verdict(), ("disabled", None))

    def test_does_not_consume(self) -> None:
        """A worker that answers and does not consume from what is declared is unresponsive."""
        wanted = Desired(name="w1", app="foo", node="w1@host", broker=BROKER, celery_app="cyme.tasks")
        process = Process(pid=1, started_at=1.0, fingerprint=wanted.fingerprint, phase=Phase.RUNNING)
        for consumers, expected in (
            (frozenset({"dq.w1"}), ("ok", None)),
            (frozenset({"old"}), ("unresponsive", "it does not consume from dq.w1")),
            (None, ("unresponsive", "it has not said yet what it consumes from")),
        ):
            heard = Heard(pong_at=50.0, consumers=consumers)
            evidence = Evidence(
                desired=wanted,
                observed=Observed(process=process, heard=heard, broker_up=True),
                history=BLANK,
                refused={},
                process_state="S",
                counts=None,
                counted_at=None,
            )
            verdict, reason = judge(evidence, 60.0, Policy())
            self.assertEqual((verdict.value, reason), expected)
            drift = health_of(evidence, 60.0, Policy())["drift"]
            self.assertEqual(drift != [], consumers == frozenset({"old"}))

    def test_refused_queue(self) -> None:
        """A queue that the broker refused is told of, and does not make the others' worker sick."""
        self.declare(Queue(app="foo", name="bad"))
        self.remote.refuse("bad", "inequivalent arg")
        self.run_instance(queues=("bad",))
        health = self.health()
        self.assertEqual((health["verdict"], list(health["consumers"]["refused"])), ("ok", ["bad"]))

    def test_asked_once(self) -> None:
        """Many who ask at the same time cost one round of questions, as do those who ask again at once."""
        self.run_instance()
        self.turn(LATER)
        before = self.commands().count("active")
        self.remote.delay = 0.1
        asked = [self.supervisor.health("w1") for _ in range(10)]
        self.turn(0.5)
        for one in asked:
            self.assertEqual(self.successResultOf(one)["verdict"], "ok")
        self.successResultOf(self.supervisor.health("w1"))
        self.assertEqual(self.commands().count("active"), before + 1)


class StallTests(HealthTestCase):
    """Reserved work without progress, where an instance limits that."""

    def wedge(self, **values: Any) -> Any:
        """A worker with reserved tasks of which none begins."""
        node = self.run_instance(stall_timeout=20.0, **values)
        node.waiting = {"a": None, "b": None}
        return node

    def test_stalled(self) -> None:
        """It is found out within the time and a quarter, and the worker is replaced."""
        self.wedge()
        self.workers.stacks["w1"] = "MainThread: waiting"
        self.turn(18.0)
        self.assertEqual((self.verdict()[0], self.workers.stopped), ("ok", []))
        self.turn(10.0)
        self.assertEqual(self.workers.stopped, ["w1"])
        [dumped] = [event for event in self.events.recorded if event.kind == "dumped"]
        self.assertEqual(dumped.document()["details"], {"stacks": "MainThread: waiting"})
        [stopping] = [event for event in self.events.recorded if event.kind == "stopping"]
        self.assertIn("stalled: 2 tasks are reserved", stopping.document()["details"]["reason"])

    def test_no_stacks(self) -> None:
        """A stalled worker that shows no stacks is replaced all the same."""
        self.wedge()
        self.turn(35.0)
        self.assertEqual(self.workers.stopped, ["w1"])

    def test_progress(self) -> None:
        """As long as tasks begin, nothing is stalled, however many wait."""
        node = self.wedge()
        for number in range(10):
            node.total = {"proj.work": number}
            self.turn(10.0)
        self.assertEqual(self.workers.stopped, [])

    def test_young_task(self) -> None:
        """A task that began a moment ago may take its time; one that is old may not."""
        node = self.wedge()
        node.running = {"c": self.clock.seconds() + 15.0}
        self.turn(30.0)
        self.assertEqual(self.workers.stopped, [])
        self.turn(15.0)
        self.assertEqual(self.workers.stopped, ["w1"])

    def test_idle(self) -> None:
        """A worker that had nothing to do for long is not stalled when a task is reserved."""
        node = self.run_instance(stall_timeout=20.0)
        self.turn(300.0)
        node.waiting = {"a": None}
        self.turn(10.0)
        node.waiting = {}
        self.turn(60.0)
        self.assertEqual(self.workers.stopped, [])

    def test_without_limit(self) -> None:
        """Where no time is set a worker may wait for ever, and is not asked about it."""
        node = self.run_instance()
        node.waiting = {"a": None}
        self.turn(3 * INTERVAL)
        self.assertEqual((self.workers.stopped, self.commands().count("reserved")), ([], 0))

    def test_outage(self) -> None:
        """While the broker is away, and until workers are back after it, nothing is stalled."""
        self.wedge()
        self.turn(15.0)
        self.remote.broker_down(BROKER)
        self.turn(120.0)
        self.remote.broker_up(BROKER)
        self.turn(30.0)
        self.assertEqual(self.workers.stopped, [])

    @given(
        st.lists(
            st.tuples(st.integers(0, 3), st.integers(0, 2), st.floats(0.1, 30.0)), min_size=1, max_size=30
        )
    )
    def test_never_blocked_over_progress(self, looks: list[tuple[int, int, float]]) -> None:
        """Since a worker is blocked, no look saw a task begin, and every one saw reserved ones."""
        now, total = 1000.0, 0
        progress: Progress | None = None
        seen: list[tuple[float, int, int]] = []
        for began, reserved, wait in looks:
            now, total = now + wait, total + began
            progress = progressed(progress, now, {"total": {"t": total}}, [], [{}] * reserved)
            seen.append((now, total, reserved))
            assert progress is not None
            since = progress.blocked_since
            if since is not None:
                within = [one for one in seen if one[0] >= since]
                self.assertEqual({one[1] for one in within}, {total})
                self.assertTrue(all(one[2] for one in within))

    def test_unreadable(self) -> None:
        """Answers that can't be read change nothing."""
        known = progressed(None, 1.0, {"total": {"t": 1}}, [], [])
        totals: dict[str, Any] = {"total": {}}
        for stats, active, reserved in (
            (None, [], []),
            ({"total": 5}, [], []),
            (totals, None, []),
            (totals, [], {"error": "what?"}),
        ):
            self.assertIs(progressed(known, 2.0, stats, active, reserved), known)
        self.assertIsNone(total_of("stats"))


class DeafTests(HealthTestCase):
    """Workers that say they consume, and whose broker knows nothing of it."""

    def setUp(self) -> None:
        super().setUp()
        self.node = self.run_instance()
        self.turn(COUNT_FRESH)

    def cancelled(self) -> int:
        return self.commands().count("cancel_consumer")

    def test_consumes_anew(self) -> None:
        """After two counts its consumers are made anew; when the broker knows them, all is well."""
        self.remote.forgotten.add("dq.w1")
        self.assertEqual(self.verdict()[0], "unresponsive")
        self.assertEqual(self.cancelled(), 0)
        self.turn(COUNT_AGAIN_AFTER + 0.5)
        self.assertEqual((self.cancelled(), self.node.queues), (1, {"dq.w1"}))
        self.remote.forgotten.clear()
        self.turn(COUNT_AGAIN_AFTER + 0.5)
        self.assertEqual((self.verdict(), self.workers.stopped), (("ok", None), []))

    def test_restarted(self) -> None:
        """When that does not help, the worker is replaced; once, not in a loop of commands."""
        self.remote.forgotten.add("dq.w1")
        self.health()
        self.turn(5 * COUNT_AGAIN_AFTER)
        self.assertEqual((self.cancelled() - 1, self.workers.stopped), (1, ["w1"]))

    def test_full_check(self) -> None:
        """A full check finds it out by itself."""
        self.remote.forgotten.add("dq.w1")
        self.turn(INTERVAL + COUNT_AGAIN_AFTER + 1)
        self.assertEqual(self.cancelled(), 1)

    def test_not_while_silent(self) -> None:
        """The count of a worker that does not answer says nothing that its silence does not say."""
        self.remote.mute("w1@host")
        self.remote.forgotten.add("dq.w1")
        self.turn(INTERVAL)
        self.assertEqual(self.cancelled(), 0)

    def test_bounded(self) -> None:
        """One check has a broker count a bounded number of workers; the others come next time."""
        for number in range(MOST_COUNTED + 10):
            self.run_instance(f"x{number}")
        self.remote.counted.clear()
        self.turn(INTERVAL)
        [first] = {queues for _, queues in self.remote.counted}
        self.turn(INTERVAL)
        self.assertEqual(len(first), MOST_COUNTED)
        self.assertEqual(
            len({queue for _, queues in self.remote.counted for queue in queues}), MOST_COUNTED + 11
        )


class ProgressTests(SynchronousTestCase):
    """Reading what workers count."""

    def test_clock_of_a_task(self) -> None:
        """A task that claims to have begun in the future began now."""
        progress = progressed(None, 10.0, {"total": {}}, [{"time_start": 99.0}, {"time_start": None}], [])
        assert progress is not None
        self.assertEqual((progress.newest_began, progress.running), (10.0, 2))
