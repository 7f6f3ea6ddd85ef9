"""The supervisor, over fakes of everything that it steers."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from cyme.catalogue import Catalogue
from cyme.declarations import App, Instance, Queue, Rollout
from cyme.errors import DatabaseAway
from cyme.planning import Phase, Policy
from cyme.supervisor.checks import Checks
from cyme.supervisor.endings import EXAMINED_WITHIN
from cyme.supervisor.resolving import Defaults, resolve
from cyme.supervisor.service import RETRY_AFTER, Supervisor
from tests.contracts.supervisor import DISABLED, RUNS, make_supervisor_tests
from tests.fakes.events import FakeEvents
from tests.fakes.remote import FakeRemoteControl
from tests.fakes.store import MemoryStore
from tests.fakes.supervisor import FakeSupervisor
from tests.fakes.workers import FakeWorkers

BROKER = "amqp://guest:guest@broker:5672//"
INTERVAL = 60.0


class SupervisorTestCase(SynchronousTestCase):
    """A supervisor whose world is fake and whose time is told."""

    def setUp(self) -> None:
        self.oom_kills = 0
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.store = MemoryStore()
        self.catalogue = Catalogue(self.clock, self.store, "b1")
        self.successResultOf(self.catalogue.load())
        self.workers = FakeWorkers(self.clock)
        self.remote = FakeRemoteControl(self.clock)
        self.events = FakeEvents()
        self.supervisor = self.make_supervisor()
        self.declare(App(name="foo"))

    def make_supervisor(self) -> Supervisor:
        return Supervisor(
            self.clock,
            self.catalogue,
            self.workers,
            self.remote,
            self.events,
            branch_id="b1",
            defaults=lambda: Defaults(broker=BROKER, host="host"),
            interval=INTERVAL,
            policy=Policy(),
            jitter=lambda: 0.0,
            oom_kills=lambda: self.oom_kills,
        )

    def start(self) -> None:
        """Start the supervisor; stopped at the end, it leaves no delayed call."""
        self.successResultOf(self.supervisor.startService())
        self.addCleanup(self.stop)
        self.turn()

    def stop(self) -> None:
        self.supervisor.stopService()
        self.remote.close()
        self.clock.advance(10)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, in steps that are short enough for what follows from what."""
        for _ in range(20):
            self.clock.advance(0)
        while seconds > 0:
            step = min(0.05, seconds)
            self.clock.advance(step)
            seconds -= step

    def declare(self, *declarations: Any) -> None:
        self.successResultOf(self.catalogue.change(lambda: declarations))

    def change(self, name: str, **changes: Any) -> None:
        instance = self.catalogue.instance(name)
        assert instance is not None
        self.declare(evolve(instance, **changes))

    def delete(self, name: str) -> None:
        self.change(name, deleted=True, broker=BROKER)

    def run_instance(self, name: str = "w1", **values: Any) -> Any:
        """Declare an instance, let its worker start and answer."""
        node = self.remote.node(BROKER, f"{name}@host")
        self.declare(Instance(name=name, **{"app": "foo", "branch": "b1", **values}))
        self.turn(0.2)
        self.workers.say_ready(name)
        self.turn(0.2)
        self.assertEqual(self.state(name), "running")
        return node

    def status(self, name: str = "w1") -> Any:
        instance = self.catalogue.instance(name)
        assert instance is not None
        return self.supervisor.status(instance)

    def state(self, name: str = "w1") -> str:
        return str(self.status(name)["state"])


def real(test: Any) -> Any:
    """A supervisor over fakes, see `make_supervisor_tests`."""
    stage = SupervisorTestCase()
    stage.setUp()
    stage.start()
    test.addCleanup(stage.doCleanups)
    stage.declare(Queue(app="foo", name="tasks"), DISABLED)
    stage.run_instance(RUNS.name)
    stage.workers.stacks[RUNS.name] = "MainThread\n"
    return stage.supervisor, stage.turn


def fake(test: Any) -> Any:
    """The fake supervisor, see `make_supervisor_tests`."""
    supervisor = FakeSupervisor()
    supervisor.answers["w1", "ping"] = {"ok": "pong"}
    return supervisor, lambda seconds: None


class SupervisorContractTests(make_supervisor_tests(real)):  # type: ignore[misc]
    """The real supervisor."""


class FakeSupervisorTests(make_supervisor_tests(fake)):  # type: ignore[misc]
    """The fake supervisor."""


class SignsTests(SupervisorTestCase):
    """What the supervisor shows of its progress."""

    def test_full_check(self) -> None:
        """A full check that waits for the database shows the same all along, an idle supervisor nothing."""
        self.start()
        self.turn(1.0)
        self.assertEqual(self.supervisor.signs(), {})
        waiting: Deferred[Any] = Deferred()
        self.patch(self.catalogue, "refresh", lambda: waiting)
        self.supervisor.wake()
        first = self.supervisor.signs()
        self.turn(1.0)
        self.assertEqual((list(first), self.supervisor.signs()), (["the supervisor's full check"], first))
        waiting.callback(frozenset())
        self.turn(1.0)
        self.assertEqual(self.supervisor.signs(), {})

    def test_stopped_meanwhile(self) -> None:
        """A full check that waits for the database when the branch is stopped ends there, without a word."""
        self.start()
        self.turn(1.0)
        self.patch(self.catalogue, "refresh", Deferred)
        self.supervisor.wake()
        folders: list[Any] = []
        self.patch(self.workers, "folders", folders.append)
        logged: list[Any] = []
        self.patch(Checks, "_log", Logger(observer=logged.append))
        self.supervisor.stopService()
        self.turn(1.0)
        self.assertEqual((folders, logged), ([], []))

    def test_loop(self) -> None:
        """A loop that ended is told."""
        self.start()
        self.supervisor._loop.stop()
        self.assertEqual(self.supervisor.signs(), {"the supervisor's loop": "ended"})


class LifeTests(SupervisorTestCase):
    """From a declaration to a worker and back."""

    def test_create(self) -> None:
        """A declared instance is started at once and runs when it has answered."""
        self.start()
        self.remote.node(BROKER, "w1@host")
        self.remote.mute("w1@host")
        self.declare(Instance(name="w1", app="foo", branch="b1"))
        self.turn(0.2)
        self.assertEqual([one.name for one in self.workers.started], ["w1"])
        self.assertEqual(self.state(), "starting")
        self.remote.unmute("w1@host")
        self.turn(2)
        self.assertEqual(self.state(), "running")

    def test_ready_is_pinged_at_once(self) -> None:
        """A worker that says it is ready runs without waiting for the next rung of the ladder."""
        self.start()
        self.remote.node(BROKER, "w1@host")
        self.remote.mute("w1@host")
        self.declare(Instance(name="w1", app="foo", branch="b1"))
        self.turn(1.2)
        self.remote.unmute("w1@host")
        self.workers.say_ready("w1")
        self.turn()
        self.assertEqual(self.state(), "running")

    def test_another_branch(self) -> None:
        """An instance of another branch is none of its business."""
        self.start()
        self.declare(Instance(name="w2", app="foo", branch="b2"))
        self.turn(INTERVAL + 1)
        self.assertEqual(self.workers.started, [])

    def test_killed_worker_is_replaced_at_once(self) -> None:
        """A worker that dies is replaced in the same turn of the reactor, without a question."""
        self.start()
        self.run_instance()
        self.workers.end("w1", signal=9)
        self.assertEqual([one.name for one in self.workers.started], ["w1", "w1"])
        self.assertEqual(self.status()["last_exit"]["signal"], "SIGKILL")

    def test_crash_loop(self) -> None:
        """A worker that keeps dying is started ever more rarely, and its status says why and when."""
        self.start()
        self.declare(Instance(name="w1", app="foo", branch="b1"))
        self.turn()
        self.workers.lines["w1"] = ("Traceback", "KeyError: 'proj'")
        for _ in range(2):
            self.workers.end("w1", status=1)
        status = self.status()
        self.assertEqual((status["state"], status["failures"]), ("backoff", 2))
        self.assertEqual(status["next_attempt"], self.clock.seconds() + 1)
        self.assertEqual(status["last_exit"]["status"], 1)
        self.assertIn("KeyError: 'proj'", status["last_exit"]["log"])
        self.assertEqual(len(self.workers.started), 2)
        self.turn(1.1)
        self.assertEqual(len(self.workers.started), 3)

    def test_restart_ends_backoff(self) -> None:
        """A restart that a user asks for does not wait for the back-off."""
        self.start()
        self.declare(Instance(name="w1", app="foo", branch="b1"))
        self.turn()
        for _ in range(2):
            self.workers.end("w1", status=1)
        self.assertEqual(self.state(), "backoff")
        self.change("w1", generation=1)
        self.turn()
        self.assertEqual(self.state(), "starting")

    def test_cannot_be_started(self) -> None:
        """A worker that the system refuses to start is tried again with back-off, and says why."""
        self.start()
        self.workers.refuse = OSError("out of processes")
        self.declare(Instance(name="w1", app="foo", branch="b1"))
        self.turn()
        self.assertEqual(self.state(), "backoff")
        self.assertIn("out of processes", self.status()["problems"][0])
        self.workers.refuse = None
        self.turn(1.1)
        self.assertEqual(self.state(), "starting")

    def test_disable_and_enable(self) -> None:
        """Disabling stops the worker, enabling starts it."""
        self.start()
        self.run_instance()
        self.change("w1", is_enabled=False)
        self.turn()
        self.assertEqual(self.state(), "stopping")
        self.workers.end("w1", status=0)
        self.turn()
        self.assertEqual(self.state(), "disabled")
        self.change("w1", is_enabled=True)
        self.turn()
        self.assertEqual((self.state(), len(self.workers.started)), ("running", 2))

    def test_warm_restart(self) -> None:
        """A changed start argument stops the worker by the ladder and starts it with the new one."""
        self.start()
        self.run_instance()
        self.change("w1", pool="threads")
        self.turn()
        self.assertEqual(self.state(), "stopping")
        self.workers.end("w1", status=0)
        self.turn()
        self.assertEqual(self.workers.started[-1].pool, "threads")
        self.assertEqual(self.status()["failures"], 0)

    def test_delete(self) -> None:
        """A deleted instance is stopped; then its queue, its folder and its memory are gone."""
        self.start()
        self.run_instance()
        self.delete("w1")
        self.turn()
        self.workers.end("w1", status=0)
        self.turn()
        self.assertIn((BROKER, "dq.w1"), self.remote.deleted_queues)
        self.assertNotIn("w1", self.workers.folder_names)

    def test_clean_up_waits_for_the_broker(self) -> None:
        """What a deleted instance left is cleaned up when its broker is back."""
        self.start()
        self.run_instance()
        self.remote.broker_down(BROKER)
        self.delete("w1")
        self.turn()
        self.workers.end("w1", status=0)
        self.turn(INTERVAL + RETRY_AFTER)
        self.assertIn("w1", self.workers.folder_names)
        self.remote.broker_up(BROKER)
        self.turn(INTERVAL + RETRY_AFTER)
        self.assertNotIn("w1", self.workers.folder_names)

    def test_old_tombstones_are_forgotten(self) -> None:
        """What was deleted a month ago is forgotten, what was deleted today is not."""
        self.start()
        self.declare(Instance(name="w1", app="foo", branch="b1", is_enabled=False))
        self.delete("w1")
        self.turn(INTERVAL + 1)
        self.assertEqual(len(self.catalogue.tombstones(Instance.kind)), 1)
        self.clock.advance(31 * 24 * 3600)
        self.turn()
        self.assertEqual(len(self.catalogue.tombstones(Instance.kind)), 0)

    def test_tombstone_without_a_broker(self) -> None:
        """What is left of an instance that a person deleted with SQL is cleaned up on the default broker."""
        self.start()
        self.run_instance()
        del self.store.rows["instance", "w1"]
        self.turn(INTERVAL + 1)
        self.workers.end("w1", status=0)
        self.turn(INTERVAL + 1)
        self.assertIn((BROKER, "dq.w1"), self.remote.deleted_queues)

    def test_adopt(self) -> None:
        """Workers of an earlier life are adopted, not started again, and supervised as before."""
        self.declare(Instance(name="w1", app="foo", branch="b1"))
        self.remote.node(BROKER, "w1@host")
        desired = self.supervisor._world.desired("w1")
        assert desired is not None
        self.workers.leave_running(desired)
        self.start()
        self.turn(1)
        self.assertEqual(self.workers.started, [])
        self.assertEqual(self.state(), "running")
        self.workers.end("w1")
        self.assertEqual([one.name for one in self.workers.started], ["w1"])

    def test_adopt_an_old_worker(self) -> None:
        """A worker that was started long before the branch gets its time to answer when it is adopted."""
        self.declare(Instance(name="w1", app="foo", branch="b1"))
        self.remote.node(BROKER, "w1@host")
        self.remote.mute("w1@host")
        desired = self.supervisor._world.desired("w1")
        assert desired is not None
        self.workers.leave_running(desired)
        self.clock.advance(1000)
        self.start()
        self.turn(5)
        self.assertEqual(self.workers.stopped, [])
        self.remote.unmute("w1@host")
        self.turn(2)
        self.assertEqual(self.state(), "running")

    def test_adopted_orphan(self) -> None:
        """A worker whose instance was deleted while the branch was down is stopped."""
        self.declare(Instance(name="w1", app="foo", branch="b1"))
        desired = self.supervisor._world.desired("w1")
        assert desired is not None
        self.workers.leave_running(desired)
        self.delete("w1")
        self.start()
        self.turn(6.5)
        self.assertEqual(self.workers.processes()["w1"].phase, Phase.STOPPING)


LOCKED = "Unrecoverable error: ResourceLocked(405, 'w1@host.celery.pidbox')"
TIMED_OUT = "Unrecoverable error: PreconditionFailed(406, 'delivery acknowledgement on channel 1 timed out')"


class EndingTests(SupervisorTestCase):
    """Why workers ended, and what follows."""

    def test_reason(self) -> None:
        """Status, problems and why-log name why a worker ended, until the next one answers."""
        self.start()
        self.run_instance()
        self.workers.lines["w1"] = (LOCKED,)
        self.workers.end("w1", status=1)
        status = self.status()
        self.assertEqual((status["state"], status["failures"]), ("backoff", 0))
        self.assertEqual(status["last_exit"]["reason"], "resource-locked")
        self.assertIn("control queue", status["last_exit"]["explanation"])
        self.assertTrue(status["problems"][0].startswith("resource-locked: "))
        [end] = [event.document()["details"] for event in self.events.recorded if event.kind == "ended"]
        self.assertEqual((end["reason"], end["log"]), ("resource-locked", [LOCKED]))
        self.turn(6)
        self.assertEqual((self.state(), self.status()["problems"]), ("running", []))

    def test_log_is_awaited(self) -> None:
        """A worker that gave up is not started before its log was read, whatever wakes the supervisor."""
        self.start()
        self.run_instance()
        read: Deferred[tuple[str, ...]] = Deferred()
        self.patch(self.workers, "log_tail", lambda name, lines: read)
        self.workers.end("w1", status=1)
        self.supervisor.wake(["w1"])
        self.turn(0.1)
        self.assertEqual((len(self.workers.started), self.state()), (1, "stopped"))
        read.callback(("Unable to load the Celery app proj",))
        self.turn(0.1)
        self.assertEqual((len(self.workers.started), self.state()), (1, "backoff"))
        self.assertEqual(self.status()["next_attempt"], self.status()["last_exit"]["at"] + 60)

    def test_log_is_not_awaited_for_ever(self) -> None:
        """Where the log can't be read in time the start goes on without it; what it says is kept."""
        self.start()
        self.run_instance()
        read: Deferred[tuple[str, ...]] = Deferred()
        self.patch(self.workers, "log_tail", lambda name, lines: read)
        self.workers.end("w1", status=1)
        self.turn(EXAMINED_WITHIN + 0.1)
        self.assertEqual(len(self.workers.started), 2)
        read.callback((LOCKED,))
        self.assertEqual(self.status()["last_exit"]["log"], [LOCKED])
        self.assertEqual(self.status()["last_exit"]["reason"], "crashed")

    def test_unreadable_log(self) -> None:
        """A log that can't be read keeps no worker from its start."""
        self.start()
        self.run_instance()
        self.patch(self.workers, "log_tail", lambda name, lines: fail(OSError("disk")))
        self.workers.end("w1", status=1)
        self.assertEqual(len(self.workers.started), 2)
        self.assertTrue(self.flushLoggedErrors(OSError))

    def test_killed_does_not_wait(self) -> None:
        """The replacement of a worker that a signal ended does not wait for the log."""
        self.start()
        self.run_instance()
        self.patch(self.workers, "log_tail", lambda name, lines: Deferred())
        self.workers.end("w1", signal=9)
        self.assertEqual(len(self.workers.started), 2)
        self.assertEqual(self.status()["last_exit"]["reason"], "killed")

    def test_out_of_memory(self) -> None:
        """A worker that the kernel killed for want of memory waits, even after a long life."""
        self.start()
        self.run_instance()
        self.turn(INTERVAL - 1)
        self.oom_kills += 1
        self.workers.end("w1", signal=9)
        status = self.status()
        self.assertEqual((status["state"], status["last_exit"]["reason"]), ("backoff", "out-of-memory"))
        self.assertEqual(status["next_attempt"], self.clock.seconds() + 1)
        self.turn(1.1)
        self.workers.end("w1", signal=9)
        self.assertEqual(self.status()["last_exit"]["reason"], "killed")

    def test_awaits_broker(self) -> None:
        """A worker that gave up on its broker is started at the moment when the broker is back."""
        self.start()
        self.run_instance()
        self.remote.broker_down(BROKER)
        self.workers.lines["w1"] = ("Unrecoverable error: OperationalError('')", "ConnectionRefusedError: no")
        self.workers.end("w1", status=1)
        self.turn(INTERVAL * 2)
        self.assertEqual((len(self.workers.started), self.state()), (1, "backoff"))
        self.assertIsNone(self.status()["next_attempt"])
        self.remote.broker_up(BROKER)
        self.turn()
        self.assertEqual(len(self.workers.started), 2)

    def test_consumer_timeout(self) -> None:
        """A worker whose broker closed its channel is left alone with its tasks until it ends (F12)."""
        self.start()
        self.run_instance()
        self.remote.mute("w1@host")
        self.workers.lines["w1"] = (TIMED_OUT, "a task goes on")
        self.turn(INTERVAL * 5)
        status = self.status()
        self.assertEqual((status["state"], self.workers.stopped), ("unresponsive", []))
        self.assertTrue(status["problems"][0].startswith("consumer-timeout: "))
        self.workers.end("w1", status=1)
        self.assertEqual(len(self.workers.started), 2)
        self.assertEqual(self.status()["last_exit"]["reason"], "consumer-timeout")

    def test_adopted_in_consumer_timeout(self) -> None:
        """A branch that comes back adopts such a worker and leaves it alone too."""
        self.declare(Instance(name="w1", app="foo", branch="b1"))
        self.remote.node(BROKER, "w1@host")
        self.remote.mute("w1@host")
        self.workers.lines["w1"] = (TIMED_OUT, "a task goes on")
        desired = self.supervisor._world.desired("w1")
        assert desired is not None
        self.workers.leave_running(desired)
        self.start()
        self.turn(INTERVAL * 3)
        self.assertEqual((self.state(), self.workers.stopped), ("unresponsive", []))
        self.remote.unmute("w1@host")
        self.turn(2)
        self.assertEqual((self.state(), self.status()["problems"]), ("running", []))

    def test_consumer_timeout_hangs(self) -> None:
        """When its tasks have ended and it has not, it is replaced, and its stacks are kept."""
        self.start()
        self.run_instance()
        self.remote.mute("w1@host")
        self.workers.lines["w1"] = (TIMED_OUT,)
        self.workers.stacks["w1"] = "it waits for its broker"
        self.turn(INTERVAL * 2)
        self.workers.without_pool.add("w1")
        self.turn(INTERVAL)
        self.assertEqual(self.workers.stopped, ["w1"])
        self.assertIn("dumped", [event.kind for event in self.events.recorded])
        self.workers.end("w1", signal=9)
        self.assertEqual(self.status()["last_exit"]["reason"], "consumer-timeout")

    def test_consumer_timeout_without_end(self) -> None:
        """When its tasks never end it is stopped after its grace, for that reason."""
        self.start()
        self.run_instance()
        self.remote.mute("w1@host")
        self.workers.lines["w1"] = (TIMED_OUT,)
        self.turn(INTERVAL + 20)
        self.clock.advance(Policy().consumer_timeout_grace)
        self.turn(INTERVAL)
        self.assertEqual(self.workers.stopped, ["w1"])
        self.workers.end("w1", signal=9)
        self.assertEqual(self.status()["last_exit"]["reason"], "consumer-timeout")

    def test_database_away(self) -> None:
        """A worker that is silent is replaced also while the database is away, which is said once."""
        self.start()
        self.run_instance()
        logged: list[Any] = []
        self.patch(Checks, "_log", Logger(observer=logged.append))
        self.store.fail_with = DatabaseAway("refused")
        self.remote.mute("w1@host")
        self.turn(INTERVAL + 30)
        self.workers.end("w1", signal=9)
        self.assertEqual(self.status()["last_exit"]["reason"], "unresponsive")
        self.turn(INTERVAL)
        self.assertEqual(len(self.workers.started), 2)
        self.store.fail_with = None
        self.turn(2 * INTERVAL)
        told = [formatEvent(event) for event in logged]
        self.assertEqual(
            [text for text in told if "database" in text],
            [
                "{Supervisor} the database can't be used now: refused; going on with what is known",
                "{Supervisor} the database is there again",
            ],
        )

    def test_silent(self) -> None:
        """A worker that was replaced because it was silent is named so."""
        self.start()
        self.run_instance()
        self.remote.mute("w1@host")
        self.turn(INTERVAL + 30)
        self.workers.end("w1", signal=9)
        self.assertEqual(self.status()["last_exit"]["reason"], "unresponsive")


class EventTests(SupervisorTestCase):
    """What the supervisor writes into the why-log."""

    def kinds(self, name: str = "w1") -> list[str]:
        """The kinds of the events of an instance, in order."""
        return [event.kind for event in self.events.recorded if event.instance == name]

    def test_life(self) -> None:
        """A start, a pong, a death with its reason and last words, and the new start are events."""
        self.start()
        self.run_instance()
        self.workers.lines["w1"] = ("out of memory",)
        self.workers.end("w1", signal=9)
        self.turn()
        kinds = self.kinds()
        self.assertEqual(sorted(kinds), ["ended", "running", "running", "started", "started"])
        self.assertEqual(kinds[:2], ["started", "running"])
        [ended] = [event for event in self.events.recorded if event.kind == "ended"]
        details = ended.document()["details"]
        self.assertEqual(
            (details["signal"], details["expected"], details["log"]), ("SIGKILL", False, ["out of memory"])
        )
        self.assertEqual((ended.app, ended.who), ("foo", "supervisor"))

    def test_stopped(self) -> None:
        """The end of a worker that was stopped has its last words too, which are nobody's complaint."""
        self.start()
        self.run_instance()
        self.workers.lines["w1"] = ("worker: Warm shutdown (MainProcess)",)
        self.change("w1", is_enabled=False)
        self.turn()
        self.workers.end("w1", status=0, expected=True)
        self.turn()
        details = self.events.recorded[-1].document()["details"]
        self.assertEqual((details["status"], details["expected"]), (0, True))
        self.assertEqual(details["log"], ["worker: Warm shutdown (MainProcess)"])
        self.assertNotIn("Warm", str(self.status()))

    def test_decisions(self) -> None:
        """A stop says why; consumers, refusals and ranges are events of their own."""
        self.start()
        self.run_instance()
        self.declare(Queue(app="foo", name="bad"), Queue(app="foo", name="good"))
        self.remote.refuse("bad", "inequivalent arg")
        self.change("w1", queues=("bad", "good"), max_concurrency=3)
        self.turn(0.5)
        self.change("w1", is_enabled=False)
        self.turn()
        self.assertEqual(self.kinds()[2:], ["queue-refused", "consumer-added", "autoscaled", "stopping"])
        self.assertEqual(self.events.recorded[-1].document()["details"], {"reason": "disabled"})

    def test_outage(self) -> None:
        """That a broker went away, and that it came back, is an event of each of its instances."""
        self.start()
        self.run_instance()
        self.remote.broker_down(BROKER)
        self.remote.broker_up(BROKER)
        self.assertEqual(self.kinds()[2:], ["broker-away", "broker-back"])

    def test_first_connection(self) -> None:
        """A broker that is reached for the first time did not come back from anywhere."""
        self.start()
        self.run_instance()
        self.remote.connect(BROKER)
        self.assertEqual(self.kinds(), ["started", "running"])


class StatusTests(SupervisorTestCase):
    """Whether a worker is as declared, which rolling restarts go by."""

    def as_declared(self) -> tuple[bool, bool]:
        return self.status()["is_current"], self.status()["is_consuming"]

    def test_restart(self) -> None:
        """From a restart until the new worker has said what it consumes from, it is not as declared."""
        self.start()
        self.run_instance()
        self.assertEqual(self.as_declared(), (True, True))
        self.change("w1", generation=1)
        self.assertEqual(self.as_declared(), (False, True))
        self.turn()
        self.remote.mute("w1@host")
        self.workers.end("w1", status=0)
        self.assertEqual(self.as_declared(), (False, False))
        self.turn()
        self.assertEqual(self.as_declared(), (True, False))
        self.remote.unmute("w1@host")
        self.workers.say_ready("w1")
        self.turn(0.2)
        self.assertEqual(self.as_declared(), (True, True))

    def test_consumers(self) -> None:
        """A worker that lost a consumer, or has not taken up a new one, does not consume from all."""
        self.start()
        self.declare(Queue(app="foo", name="tasks"))
        self.run_instance()
        self.change("w1", queues=("tasks",))
        self.assertEqual(self.as_declared(), (True, False))
        self.turn(0.2)
        self.assertEqual(self.as_declared(), (True, True))

    def test_rollout(self) -> None:
        """A rollout that is written concerns no instance: whose back-off goes on."""
        self.start()
        self.declare(Instance(name="w1", app="foo", branch="b1"))
        self.turn()
        for _ in range(2):
            self.workers.end("w1", status=1)
        self.declare(Rollout(app="foo", id="1", branch="b1"))
        self.turn()
        self.assertEqual(self.state(), "backoff")


class ConsumerTests(SupervisorTestCase):
    """Queues and pool sizes of living workers."""

    def test_consume_and_cancel(self) -> None:
        """A change of the declared queues reaches the worker without a restart."""
        self.start()
        node = self.run_instance()
        self.declare(Queue(app="foo", name="tasks", routing_key="rk", options='{"durable": false}'))
        self.change("w1", queues=("tasks",))
        self.turn(0.5)
        self.assertEqual(node.queues, {"dq.w1", "tasks"})
        command = [asked for asked in self.remote.asked if asked.command == "add_consumer"][-1]
        self.assertEqual(
            command.arguments,
            {
                "queue": "tasks",
                "exchange": "tasks",
                "exchange_type": "direct",
                "routing_key": "rk",
                "durable": False,
            },
        )
        self.assertEqual([queue.name for _, queue in self.remote.declared], ["tasks"])
        self.change("w1", queues=())
        self.turn(0.5)
        self.assertEqual(node.queues, {"dq.w1"})

    def test_paused(self) -> None:
        """A queue that is paused is consumed by no worker, not even a new one, until it is resumed."""
        self.start()
        node = self.run_instance()
        queue = Queue(app="foo", name="tasks")
        self.declare(queue)
        self.change("w1", queues=("tasks",))
        self.turn(0.5)
        self.declare(evolve(queue, paused=True))
        self.turn(0.5)
        self.assertEqual(node.queues, {"dq.w1"})
        node.queues.add("tasks")
        self.turn(INTERVAL + 1)
        self.assertEqual(node.queues, {"dq.w1"})
        self.declare(queue)
        self.turn(0.5)
        self.assertEqual(node.queues, {"dq.w1", "tasks"})

    def test_drift(self) -> None:
        """What somebody changed by hand is put right at the next full check."""
        self.start()
        node = self.run_instance(max_concurrency=3, min_concurrency=2)
        node.queues.add("celery")
        node.autoscale = (9, 9)
        self.turn(INTERVAL + 1)
        self.assertEqual(node.queues, {"dq.w1"})
        self.assertEqual(node.autoscale, (3, 2))

    def test_database_changed_by_hand(self) -> None:
        """A row that was changed behind its back is found at the next full check."""
        self.start()
        node = self.run_instance()
        [row] = [one for one in self.successResultOf(self.store.load()) if isinstance(one, Instance)]
        self.successResultOf(self.store.save([evolve(row, max_concurrency=5)]))
        self.turn(INTERVAL + 1)
        self.assertEqual(node.autoscale, (5, 1))

    def test_refused_declaration(self) -> None:
        """A queue that the broker refuses never reaches the worker; its other queues do (F3)."""
        self.start()
        node = self.run_instance()
        self.declare(Queue(app="foo", name="bad"), Queue(app="foo", name="good"))
        self.remote.refuse("bad", "inequivalent arg 'x-max-priority'")
        self.change("w1", queues=("bad", "good"))
        self.turn(0.5)
        self.assertEqual(node.queues, {"dq.w1", "good"})
        self.assertIn("x-max-priority", self.status()["problems"][0])

    def test_refusals_do_not_pile_up(self) -> None:
        """A refusal is told when it is new or another one, not at each check that tries again."""
        self.start()
        node = self.run_instance()
        self.declare(Queue(app="foo", name="bad"))
        for problem in ("inequivalent arg 'x-max-priority'", "inequivalent arg 'durable'"):
            self.remote.refuse("bad", problem)
            self.change("w1", queues=("bad",))
            self.turn(4 * INTERVAL)
        kinds = [event.kind for event in self.events.recorded]
        self.assertEqual(kinds.count("queue-refused"), 2)
        self.assertIn("durable", self.status()["problems"][0])
        self.remote.accept("bad")
        self.turn(2 * INTERVAL)
        self.assertIn("bad", node.queues)
        self.assertEqual(self.status()["problems"], [])

    def test_autoscale(self) -> None:
        """A changed range reaches the running pool."""
        self.start()
        node = self.run_instance()
        self.change("w1", max_concurrency=4, min_concurrency=2)
        self.turn(0.2)
        self.assertEqual(node.autoscale, (4, 2))

    def test_settled(self) -> None:
        """`settled` fires when a change has reached the worker, not before."""
        self.start()
        node = self.run_instance()
        self.declare(Queue(app="foo", name="tasks"))
        self.change("w1", queues=("tasks",))
        settled = self.supervisor.settled("w1", 5.0)
        self.assertNoResult(settled)
        self.turn(0.5)
        self.successResultOf(settled)
        self.assertIn("tasks", node.queues)

    def test_settled_times_out(self) -> None:
        """`settled` fires at its time-out when the worker never answers."""
        self.start()
        self.remote.node(BROKER, "w1@host")
        self.remote.mute("w1@host")
        self.declare(Instance(name="w1", app="foo", branch="b1"))
        settled = self.supervisor.settled("w1", 5.0)
        self.turn(4.9)
        self.assertNoResult(settled)
        self.turn(0.2)
        self.successResultOf(settled)


class SuccessorTests(SupervisorTestCase):
    """Answers that come when who gave them is gone."""

    def test_late_answer(self) -> None:
        """What a worker said is not credited to the one that has replaced it meanwhile."""
        self.start()
        self.run_instance()
        self.run_instance("w2")
        self.remote.mute("w2@host")
        self.turn(INTERVAL - 1)
        self.remote.delay = 2.0
        self.turn(2.0)
        self.workers.end("w1", signal=9)
        self.turn(2.5)
        self.assertIsNone(self.status("w1")["last_pong"])


class SilenceTests(SupervisorTestCase):
    """Workers that do not answer, and brokers that are away."""

    def test_silent_worker_is_replaced(self) -> None:
        """A worker that answers none of several questions is stopped and started again."""
        self.start()
        self.run_instance()
        self.remote.mute("w1@host")
        self.turn(INTERVAL + 30)
        self.assertEqual(self.state(), "stopping")
        self.workers.end("w1", signal=9, expected=True)
        self.turn()
        self.assertEqual(len(self.workers.started), 2)
        self.assertEqual(self.status()["failures"], 1)

    def test_one_lost_pong(self) -> None:
        """A worker that misses one question and answers the next is left alone."""
        self.start()
        self.run_instance()
        self.remote.mute("w1@host")
        self.turn(INTERVAL + 4)
        self.remote.unmute("w1@host")
        self.turn(INTERVAL)
        self.assertEqual((self.state(), len(self.workers.started)), ("running", 1))

    def test_broker_outage(self) -> None:
        """Nothing is restarted during an outage, nor until the hold-off after it; the state says unknown."""
        self.start()
        self.run_instance()
        self.remote.broker_down(BROKER)
        self.turn(5 * INTERVAL)
        self.assertEqual((self.state(), len(self.workers.started)), ("unknown", 1))
        self.remote.mute("w1@host")
        self.remote.broker_up(BROKER)
        self.turn(34)
        self.assertEqual((self.state(), len(self.workers.started)), ("unknown", 1))
        self.remote.unmute("w1@host")
        self.turn(8)
        self.assertEqual((self.state(), len(self.workers.started)), ("running", 1))

    def test_questions_do_not_multiply(self) -> None:
        """A full check asks three broadcasts for each broker, however many workers there are."""
        self.start()
        for number in range(20):
            self.run_instance(f"w{number}")
        before = len(self.remote.asked)
        self.turn(INTERVAL)
        asked = [one.command for one in self.remote.asked[before:]]
        self.assertEqual(sorted(asked), ["active_queues", "ping", "stats"])

    def test_loop_survives(self) -> None:
        """A full check that fails is logged, and the next one comes."""
        self.start()
        self.store.fail_with = RuntimeError("disk is full")
        self.turn(INTERVAL + 1)
        self.assertTrue(self.flushLoggedErrors(RuntimeError))
        self.store.fail_with = None
        node = self.run_instance()
        node.queues.add("celery")
        self.turn(INTERVAL + 1)
        self.assertEqual(node.queues, {"dq.w1"})


class OwnersTests(SupervisorTestCase):
    """Instances that come from other branches and go to them (`cyme.controller.moving`)."""

    def test_guest(self) -> None:
        """The worker of an instance that is being moved here runs before this branch owns it, and after."""
        self.start()
        self.run_instance("w1", branch="b2", moving_to="b1")
        self.change("w1", branch="b1", moving_to=None)
        self.turn(1.0)
        self.assertEqual(self.workers.stopped, [])
        self.assertEqual(len(self.workers.started), 1)

    def test_not_moved(self) -> None:
        """The worker of an instance that is not moved here after all is stopped."""
        self.start()
        self.run_instance("w1", branch="b2", moving_to="b1")
        self.change("w1", moving_to=None)
        self.turn(1.0)
        self.assertEqual(self.workers.stopped, ["w1"])

    def test_stays_until_it_is_moved(self) -> None:
        """The worker of an instance that is being moved away runs on until another branch owns it."""
        self.start()
        self.run_instance("w1")
        self.change("w1", moving_to="b2")
        self.turn(1.0)
        self.assertEqual(self.workers.stopped, [])
        self.change("w1", branch="b2", moving_to=None)
        self.turn(1.0)
        self.assertEqual(self.workers.stopped, ["w1"])
        reasons = [event.details for event in self.events.recorded if event.kind == "stopping"]
        self.assertIn("branch b2 has it now", reasons[0])

    def test_left_alone(self) -> None:
        """What an instance has on the broker is its new owner's: nothing of it is deleted."""
        self.start()
        self.run_instance("w1")
        self.workers.folder_names.add("w1")
        self.change("w1", branch="b2")
        self.turn(1.0)
        self.workers.end("w1", status=0)
        self.turn(INTERVAL + 5.0)
        self.assertEqual(self.remote.deleted_queues, [])
        self.assertNotIn("removed", [event.kind for event in self.events.recorded])

    def test_killed_in_between(self) -> None:
        """A branch that was killed before it stopped the worker of what others have stops it at its start."""
        self.declare(Instance(name="w1", app="foo", branch="b2"), Instance(name="w2", app="foo", branch="b2"))
        moved = Instance(name="w1", app="foo", branch="b1")
        app = self.catalogue.app("foo")
        assert app is not None
        self.workers.leave_running(
            resolve(moved, app, lambda queue: None, Defaults(broker=BROKER, host="host"))
        )
        self.start()
        self.turn(10.0)
        self.assertEqual(self.workers.stopped, ["w1"])
