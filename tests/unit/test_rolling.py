"""Rolling restarts: turns as values, and what drives them over a store in memory and simulated workers."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.asking import Asker, asked_by
from cyme.catalogue import Catalogue
from cyme.controller.facade import make_controller
from cyme.controller.rolling import LOOK_AGAIN_AFTER, RETRY_AFTER
from cyme.controller.turns import Back, Failed, Passed, Pending, finding_of, over, state_of
from cyme.declarations import App, Instance, Rollout, Turn
from cyme.errors import NoSuchApp, RolloutRuns
from tests.fakes.events import FakeEvents
from tests.fakes.gateway import FakeGateway
from tests.fakes.remote import FakeRemoteControl
from tests.fakes.store import MemoryStore
from tests.fakes.supervisor import FakeSupervisor
from tests.support.meeting import meet

BROKER = "amqp://b//"
NAMES = ("w1", "w2", "w3", "w4")
TIMEOUT = 100.0


class Killed(Exception):
    """The branch is dead; nothing comes back from a call."""


class MortalStore(MemoryStore):
    """A store whose branch is killed at one of its writes.

    :ivar lives_for: how many more calls of `save` succeed; None for no end.
    :ivar after: whether the fatal one is written before its caller dies.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lives_for: int | None = None
        self.after = False

    @property
    def lives(self) -> bool:
        """Whether the fatal write is still to come."""
        return self.lives_for is None or self.lives_for >= 0

    def save(self, declarations: Any) -> Deferred[None]:
        if self.lives_for is None:
            return super().save(declarations)
        self.lives_for -= 1
        if self.lives_for >= 0:
            return super().save(declarations)
        if self.after and self.lives_for == -1:
            super().save(declarations)
        return Deferred()


class Fleet(FakeSupervisor):
    """Workers that are replaced when the test says so; what it answers follows from that.

    :ivar runs: instance name -> the generation that its worker was started with.
    :ivar differs: instance name -> what its status says otherwise.
    """

    def __init__(self, clock: Clock, runs: dict[str, int], differs: dict[str, dict[str, Any]]) -> None:
        super().__init__()
        self.clock = clock
        self.runs = runs
        self.differs = differs
        self._waiting: list[tuple[str, Deferred[None]]] = []
        self.catalogue: Catalogue | None = None

    def status(self, instance: Instance) -> dict[str, Any]:
        is_current = self.runs.setdefault(instance.name, 0) == instance.generation and instance.is_enabled
        state = "disabled" if not instance.is_enabled else "running" if is_current else "stopping"
        usual = {"state": state, "is_current": is_current, "is_consuming": is_current}
        return {**super().status(instance), **usual, **self.differs.get(instance.name, {})}

    def settled(self, name: str, timeout: float) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        waiter.addTimeout(timeout, self.clock, onTimeoutCancel=lambda result, _: None)
        self._waiting.append((name, waiter))
        self.waited.append((name, timeout))
        self.look()
        return waiter

    def look(self) -> None:
        """Release whoever waits for an instance that is as it is to be, or will not be."""
        assert self.catalogue is not None
        waiting, self._waiting = [one for one in self._waiting if not one[1].called], []
        for name, waiter in waiting:
            instance = self.catalogue.instance(name)
            if instance is not None and self.status(instance)["state"] in ("stopping", "starting"):
                self._waiting.append((name, waiter))
            else:
                waiter.callback(None)

    def stop(self) -> None:
        """Release everybody."""
        for _, waiter in self._waiting:
            if not waiter.called:
                waiter.callback(None)


class Life:
    """One life of a branch, over a store and workers that outlive it."""

    def __init__(self, clock: Clock, store: MemoryStore, fleet: Fleet, id: str = "b1") -> None:
        self.clock = clock
        self.store = store
        self.fleet = fleet
        self.catalogue = fleet.catalogue = Catalogue(clock, store, id)
        self.events = FakeEvents()
        branch = meet(clock, self.catalogue, id)
        self.actors = branch.actors
        self.controller = make_controller(
            clock,
            self.catalogue,
            fleet,
            self.actors,
            branch.membership,
            id,
            lambda: BROKER,
            self.events,
            FakeRemoteControl(clock),
            FakeGateway(clock),
            restart_timeout=TIMEOUT,
        )
        self.rolling = self.controller.rolling

    def start(self) -> None:
        self.catalogue.load()
        self.actors.start()
        self.rolling.startService()
        self.turn()

    def stop(self) -> None:
        self.rolling.stopService()
        self.actors.stop()

    def turn(self, seconds: float = 0.0) -> None:
        for _ in range(20):
            self.clock.advance(0)
        self.clock.advance(seconds)
        for _ in range(20):
            self.clock.advance(0)

    @property
    def rollout(self) -> Rollout:
        rollout = self.catalogue.rollout("foo")
        assert rollout is not None
        return rollout


class RollingCase(SynchronousTestCase):
    """A branch with an app `foo` of three instances, whose workers run."""

    names: tuple[str, ...] = ("w1", "w2", "w3")

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.store = MortalStore()
        self.runs: dict[str, int] = {}
        self.differs: dict[str, dict[str, Any]] = {}
        self.live()
        self.declare(App(name="foo"), App(name="bar"))
        for name in self.names:
            self.declare(Instance(name=name, app="foo", branch="b1"))
            self.runs[name] = 0
        self.addCleanup(self.stop)

    def live(self) -> None:
        """Begin another life of the branch; the one before it was killed."""
        self.fleet = Fleet(self.clock, self.runs, self.differs)
        self.branch = Life(self.clock, self.store, self.fleet)
        self.branch.start()

    def die(self, down: float = 0.0) -> None:
        """Kill the branch: of what it was about to do nothing happens any more; then it lives again.

        :param down: seconds until it does.
        """
        for call in tuple(self.clock.getDelayedCalls()):
            call.cancel()
        self.clock.advance(down)
        self.live()

    def stop(self) -> None:
        self.branch.stop()
        self.fleet.stop()
        self.branch.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def declare(self, *declarations: Any) -> None:
        changed = self.branch.catalogue.change(lambda: declarations)
        if self.store.lives:
            self.successResultOf(changed)
        self.fleet.look()
        self.branch.turn()

    def change(self, name: str, **fields: Any) -> None:
        instance = self.branch.catalogue.instance(name)
        assert instance is not None
        self.declare(evolve(instance, **fields))

    def begin(self, **params: Any) -> Deferred[dict[str, Any]]:
        begun = self.branch.controller.rollouts.begin("foo", **{"wait": 0.0, **params})
        self.branch.turn()
        return begun

    def come_back(self, name: str) -> None:
        """Have the worker of an instance be replaced by one that is as declared."""
        instance = self.branch.catalogue.instance(name)
        assert instance is not None
        self.differs.pop(name, None)
        self.runs[name] = instance.generation
        self.fleet.look()
        self.branch.turn()

    def differ(self, name: str, **status: Any) -> None:
        self.differs[name] = status
        self.fleet.look()
        self.branch.turn()

    def under_way(self) -> list[str]:
        return [turn.name for turn in self.branch.rollout.under_way]

    def generations(self) -> list[int]:
        return [one.generation for one in self.branch.catalogue.instances("foo")]


class OrderTests(RollingCase):
    """Whose turn it is."""

    def test_one_after_the_other(self) -> None:
        """The next instance is restarted when the one before it is back, and not earlier."""
        self.begin()
        for number, name in enumerate(self.names):
            self.assertEqual((self.under_way(), self.generations().count(1)), ([name], number + 1))
            self.branch.turn(20.0)
            self.come_back(name)
        rollout = self.branch.rollout
        self.assertEqual((state_of(rollout), rollout.done), ("finished", self.names))
        self.assertEqual(rollout.ended_at, self.clock.seconds())

    def test_parallel(self) -> None:
        """As many as may be are under way at a time, whoever is back first."""
        self.begin(parallel=2)
        self.assertEqual(self.under_way(), ["w1", "w2"])
        self.come_back("w2")
        self.assertEqual((self.under_way(), self.branch.rollout.done), (["w1", "w3"], ("w2",)))
        self.come_back("w3")
        self.come_back("w1")
        self.assertEqual(state_of(self.branch.rollout), "finished")

    def test_not_back_yet(self) -> None:
        """A worker that answers is not back before it is the new one, and consumes from all."""
        self.begin()
        for status in (
            {"state": "running", "is_current": False, "is_consuming": True},
            {"state": "unresponsive", "is_current": False},
            {"state": "starting", "is_current": True, "is_consuming": False},
            {"state": "running", "is_current": True, "is_consuming": False},
        ):
            self.differ("w1", **status)
            self.branch.turn(LOOK_AGAIN_AFTER + 0.1)
            self.assertEqual(self.under_way(), ["w1"], status)
        self.come_back("w1")
        self.branch.turn(LOOK_AGAIN_AFTER)
        self.assertEqual(self.under_way(), ["w2"])

    def test_passed_over(self) -> None:
        """Who is disabled or deleted when its turn comes, or in the middle of it, is skipped and named."""
        self.begin()
        self.change("w2", is_enabled=False)
        self.change("w3", deleted=True)
        self.come_back("w1")
        skipped = self.branch.rollout.skipped
        self.assertEqual(skipped, (("w2", "it is disabled"), ("w3", "it was deleted")))
        self.assertEqual(state_of(self.branch.rollout), "finished")
        self.change("w2", is_enabled=True)
        self.runs["w2"] = 0
        self.begin(parallel=2)
        self.change("w1", is_enabled=False)
        self.change("w2", deleted=True)
        self.branch.turn(LOOK_AGAIN_AFTER)
        skipped = self.branch.rollout.skipped
        self.assertEqual(skipped, (("w1", "it is disabled"), ("w2", "it was deleted")))
        self.assertEqual(state_of(self.branch.rollout), "finished")

    def test_moved(self) -> None:
        """A name that another app's instance has by now is left alone."""
        self.begin()
        self.change("w2", app="bar")
        self.change("w1", app="bar")
        self.come_back("w1")
        self.assertEqual(self.branch.rollout.skipped, (("w1", "it was deleted"), ("w2", "it was deleted")))
        self.assertEqual(self.under_way(), ["w3"])

    def test_restarted_by_hand(self) -> None:
        """A restart that somebody asks for in the middle of a turn is waited for as well."""
        self.begin()
        self.change("w1", generation=2)
        self.assertEqual(self.under_way(), ["w1"])
        self.come_back("w1")
        self.assertEqual(self.under_way(), ["w2"])
        self.assertEqual(self.generations(), [2, 1, 0])

    def test_app_deleted(self) -> None:
        """A rollout goes with its app."""
        self.begin()
        self.successResultOf(self.branch.controller.apps.delete("foo"))
        self.branch.turn(LOOK_AGAIN_AFTER)
        self.assertIsNone(self.branch.catalogue.rollout("foo"))

    def test_another_branch(self) -> None:
        """A rollout that another branch coordinates is left to it."""
        self.declare(Rollout(app="foo", id="1", branch="b2", waiting=self.names))
        self.branch.turn(1000.0)
        self.assertEqual((self.generations(), self.branch.rollout.waiting), ([0, 0, 0], self.names))

    def test_edited(self) -> None:
        """A rollout to which a person added names, or a larger number, goes on with them."""
        self.begin()
        self.come_back("w1")
        self.come_back("w2")
        self.declare(evolve(self.branch.rollout, waiting=("w1",), parallel=2))
        self.assertEqual(self.under_way(), ["w3", "w1"])


class EndTests(RollingCase):
    """How a rollout ends."""

    def halt(self, **status: Any) -> str:
        self.begin()
        self.differ("w1", **status)
        rollout = self.branch.rollout
        self.assertEqual((state_of(rollout), rollout.waiting), ("halted", ("w2", "w3")))
        self.assertEqual(self.under_way(), ["w1"])
        self.assertEqual(self.generations(), [1, 0, 0])
        return str(rollout.halted)

    def test_backoff(self) -> None:
        """A worker that keeps dying halts it, with the status or signal that it ended with."""
        end: dict[str, Any] = {"status": 1, "signal": None}
        why = self.halt(state="backoff", failures=2, is_current=False, last_exit=end)
        self.assertEqual(why, "instance 'w1': it is in back-off, its worker ended with status 1")
        end = {"status": None, "signal": "SIGKILL"}
        self.differ("w1", state="backoff", failures=2, last_exit=end)
        self.begin()
        self.assertIn("by SIGKILL", str(self.branch.rollout.halted))

    def test_unresponsive(self) -> None:
        """A new worker that stops answering halts it."""
        self.assertIn("unresponsive", self.halt(state="unresponsive", is_current=True))

    def test_waits_without_a_failure(self) -> None:
        """A start that is put off for no fault of the worker is waited for."""
        self.begin()
        self.differ("w1", state="backoff", failures=0, is_current=False)
        self.branch.turn(LOOK_AGAIN_AFTER)
        self.assertEqual(state_of(self.branch.rollout), "running")

    def test_time_out(self) -> None:
        """An instance that takes longer than its time halts it, and the reason says how it is."""
        self.begin(timeout=30.0)
        self.branch.turn(29.0)
        self.assertEqual(state_of(self.branch.rollout), "running")
        self.branch.turn(1.1)
        why = "instance 'w1': it is not back within 30 s: its state is stopping"
        self.assertEqual(self.branch.rollout.halted, why)
        self.assertEqual(self.fleet.waited[0], ("w1", 30.0))

    def test_not_consuming(self) -> None:
        """A worker that never consumes from all of its queues halts it with the broker's words."""
        self.begin(timeout=10.0)
        self.differ("w1", state="running", is_current=True, is_consuming=False, problems=["queue q: no"])
        for _ in range(3):
            self.branch.turn(LOOK_AGAIN_AFTER)
        why = "10 s: it does not consume from all of its queues; queue q: no"
        self.assertIn(why, str(self.branch.rollout.halted))

    def test_broker_away(self) -> None:
        """While the broker is away nothing is concluded; the time begins anew when it is back."""
        self.begin(timeout=30.0)
        self.differ("w1", state="unknown", is_current=True)
        for _ in range(100):
            self.branch.turn(LOOK_AGAIN_AFTER)
        self.assertEqual(state_of(self.branch.rollout), "running")
        self.differ("w1", state="starting", is_current=True)
        self.branch.turn(20.0)
        self.assertEqual(state_of(self.branch.rollout), "running")
        self.branch.turn(15.0)
        self.assertEqual(state_of(self.branch.rollout), "halted")

    def test_called_off(self) -> None:
        """After it was called off nothing further is restarted."""
        begun = self.begin(wait=60.0)
        off = self.branch.controller.rollouts.call_off("foo")
        self.branch.turn()
        document = self.successResultOf(off)
        self.assertEqual((document["state"], document["waiting"]), ("called-off", ["w2", "w3"]))
        self.assertEqual(self.successResultOf(begun), document)
        self.come_back("w1")
        self.branch.turn(1000.0)
        self.assertEqual(self.generations(), [1, 0, 0])

    def test_called_off_while_its_branch_is_away(self) -> None:
        """A rollout whose branch is gone can be called off on another one."""
        self.declare(Rollout(app="foo", id="1", branch="b2", waiting=self.names))
        off = self.branch.controller.rollouts.call_off("foo")
        self.branch.turn()
        self.assertEqual(self.successResultOf(off)["state"], "called-off")

    def test_one_at_a_time(self) -> None:
        """A second one is refused while the first one runs, which it names; then it takes its place."""
        self.begin()
        id = self.branch.rollout.id
        refusal = self.failureResultOf(self.begin(), RolloutRuns).value
        self.assertIn(id, str(refusal))
        self.differ("w1", state="backoff", failures=2)
        self.successResultOf(self.begin())
        self.assertNotEqual(self.branch.rollout.id, id)

    def test_wait(self) -> None:
        """Who waits is answered at the end, or with what there is when the wait is over."""
        first, second = self.begin(wait=50.0), self.branch.controller.rollouts
        self.branch.turn(50.1)
        self.assertEqual(self.successResultOf(first)["under_way"], ["w1"])
        self.assertEqual(second.get("foo")["state"], "running")
        for name in self.names:
            self.come_back(name)
        begun = self.begin(wait=50.0)
        self.assertNoResult(begun)
        for name in self.names:
            self.come_back(name)
        self.assertEqual(self.successResultOf(begun)["state"], "finished")

    def test_database_away(self) -> None:
        """A step that can't be written is made as soon as it can."""
        self.begin()
        self.store.save_fails_with = OSError("disk full")
        self.come_back("w1")
        self.branch.turn(RETRY_AFTER)
        self.assertEqual(self.under_way(), ["w1"])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 2)
        self.store.save_fails_with = None
        self.branch.turn(RETRY_AFTER)
        self.assertEqual((self.under_way(), self.branch.rollout.done), (["w2"], ("w1",)))

    def test_no_such_app(self) -> None:
        """An app that is gone can't be restarted."""
        self.failureResultOf(self.branch.controller.rollouts.begin("nobody"), NoSuchApp)


class EventTests(RollingCase):
    """What the why-log tells."""

    def test_story(self) -> None:
        """It tells who was restarted when, who was passed over, and how it ended."""
        self.change("w2", is_enabled=False)
        with asked_by(Asker("http ::1")):
            self.begin()
        self.come_back("w1")
        self.come_back("w3")
        found = [one for one in self.branch.events.recorded if "restart" in one.kind]
        self.assertEqual(
            [(one.kind, one.instance) for one in found],
            [
                ("restart-began", None),
                ("restarting", "w1"),
                ("restarted", "w1"),
                ("restart-skipped", "w2"),
                ("restarting", "w3"),
                ("restarted", "w3"),
                ("restart-finished", None),
            ],
        )
        rollout = self.branch.rollout
        self.assertEqual((found[0].app, found[0].who, rollout.asked_by), ("foo", "http ::1", "http ::1"))
        self.assertEqual({one.who for one in found[2:]}, {f"rollout {rollout.id}"})
        changes = [one for one in self.branch.events.recorded if one.instance == "w3"]
        declared = [one.who for one in changes if one.kind.startswith("instance-")]
        self.assertEqual(declared[-1], f"rollout {rollout.id}")

    def test_ends(self) -> None:
        """It tells why a rollout halted, and that one was called off."""
        self.begin()
        self.differ("w1", state="backoff", failures=2)
        self.come_back("w1")
        self.begin()
        self.branch.controller.rollouts.call_off("foo")
        self.branch.turn()
        kinds = ("restart-halted", "restart-called-off")
        ends = [one for one in self.branch.events.recorded if one.kind in kinds]
        self.assertEqual(tuple(one.kind for one in ends), kinds)
        self.assertIn("in back-off", ends[0].details)


class ResumptionTests(RollingCase):
    """The branch dies, and its next life goes on."""

    def test_goes_on(self) -> None:
        """A turn under way is watched by the next life, and not begun again."""
        self.begin()
        self.come_back("w1")
        self.die()
        self.assertEqual((self.under_way(), self.generations()), (["w2"], [1, 1, 0]))
        self.come_back("w2")
        self.come_back("w3")
        self.assertEqual((state_of(self.branch.rollout), self.generations()), ("finished", [1, 1, 1]))

    def test_came_back_meanwhile(self) -> None:
        """An instance that came back while the branch was down counts as back at once."""
        self.begin()
        self.runs["w1"] = 1
        self.die()
        self.assertEqual(self.under_way(), ["w2"])

    def test_time_while_down(self) -> None:
        """What passes while the branch is down takes nothing of an instance's time."""
        self.begin(timeout=30.0)
        self.die(down=3600.0)
        self.branch.turn(29.0)
        self.assertEqual(state_of(self.branch.rollout), "running")
        self.branch.turn(1.1)
        self.assertEqual(state_of(self.branch.rollout), "halted")

    def test_every_point(self) -> None:
        """Wherever among its writes a branch is killed, each instance is restarted exactly once."""
        for number in range(5):
            for after in (False, True):
                self.setUp()
                self.store.lives_for, self.store.after = number, after
                self.begin()
                for name in self.names:
                    if name in self.names[: number + 1]:
                        self.come_back_if_under_way(name)
                self.store.lives_for = None
                self.die()
                rollout = self.branch.catalogue.rollout("foo")
                if number == 0 and not after:
                    self.assertIsNone(rollout)
                    continue
                for name in self.names:
                    self.come_back_if_under_way(name)
                where = f"{number} writes, {after=}"
                self.assertEqual(state_of(self.branch.rollout), "finished", where)
                self.assertEqual(self.generations(), [1, 1, 1], where)
                self.assertEqual(sorted(self.branch.rollout.done), [*self.names], where)

    def come_back_if_under_way(self, name: str) -> None:
        rollout = self.branch.catalogue.rollout("foo")
        if rollout is not None and name in [turn.name for turn in rollout.under_way]:
            self.come_back(name)


class OtherBranchTests(RollingCase):
    """Instances that another branch owns."""

    def setUp(self) -> None:
        super().setUp()
        self.asked: list[dict[str, Any]] = []
        self.answers: list[Any] = []
        call = self.branch.actors.call

        def recorded(actor: str, name: str, verb: str, /, **arguments: Any) -> Deferred[Any]:
            if name != "w9":
                return call(actor, name, verb, **arguments)
            self.asked.append(arguments)
            answer = self.answers.pop(0) if self.answers else Deferred()
            return answer if isinstance(answer, Deferred) else succeed(answer)

        self.branch.actors.call = recorded  # type: ignore[method-assign]

    def test_owner_is_asked(self) -> None:
        """An instance of another branch is not written here; its owner is asked, also twice."""
        self.declare(*(evolve(one, deleted=True) for one in self.branch.catalogue.instances("foo")))
        self.declare(Instance(name="w9", app="foo", branch="b2", generation=4))
        details = {"app": "foo", "state": "running", "is_enabled": True, "is_current": True}
        details["is_consuming"] = True
        self.answers = [{**details, "is_current": False}, details]
        self.begin()
        written = self.branch.catalogue.instance("w9")
        assert written is not None
        self.assertEqual((written.generation, self.under_way()), (4, ["w9"]))
        self.branch.turn(LOOK_AGAIN_AFTER)
        self.assertEqual([one["generation"] for one in self.asked], [5, 5])
        self.assertEqual(state_of(self.branch.rollout), "finished")

    def test_owner_is_away(self) -> None:
        """A branch that can't be reached is asked again until the instance's time is up."""
        self.declare(Instance(name="w0", app="foo", branch="b2"))
        self.begin(timeout=12.0)
        for _ in range(3):
            self.branch.turn(LOOK_AGAIN_AFTER)
        why = "instance 'w0': it is not back within 12 s: no live branch"
        self.assertIn(why, str(self.branch.rollout.halted))

    def test_advance(self) -> None:
        """The owner gives an instance its next generation once, however often it is asked."""
        for _ in range(2):
            call = self.branch.actors.call("Instance", "w1", "advance", app="foo", generation=3, wait=0.0)
            self.branch.turn()
            self.assertFalse(self.successResultOf(call)["is_current"])
        self.assertEqual(self.generations(), [3, 0, 0])


class FindingTests(SynchronousTestCase):
    """What an instance's details say of its turn."""

    def test_table(self) -> None:
        """Each state is good, bad, passed over or still to be waited for."""
        usual = {
            "state": "running",
            "is_enabled": True,
            "is_current": True,
            "is_consuming": True,
            "failures": 0,
            "last_exit": None,
            "problems": [],
        }
        for said, expected in (
            ({}, Back),
            ({"is_consuming": False}, Pending),
            ({"is_current": False}, Pending),
            ({"is_enabled": False}, Passed),
            ({"state": "starting"}, Pending),
            ({"state": "stopping", "is_current": False}, Pending),
            ({"state": "stopped", "is_current": False}, Pending),
            ({"state": "unknown"}, Pending),
            ({"state": "lost", "is_current": None}, Pending),
            ({"state": "unresponsive"}, Failed),
            ({"state": "unresponsive", "is_current": False}, Pending),
            ({"state": "backoff", "is_current": False, "failures": 1}, Failed),
            ({"state": "backoff", "is_current": False, "failures": 0}, Pending),
        ):
            found = finding_of({**usual, **said})
            self.assertIsInstance(found, expected, said)
            if isinstance(found, Pending):
                self.assertEqual(found.excused, said.get("state") == "unknown")

    def test_not_under_way(self) -> None:
        """A turn that is not under way any more ends nothing."""
        turn = Turn("w1", 1, 0.0)
        rollout = Rollout(app="foo", id="1", branch="b1", under_way=(turn,))
        self.assertIs(over(rollout, evolve(turn, generation=2), Back(), 1.0), rollout)
        ended = evolve(rollout, ended_at=1.0)
        self.assertIs(over(ended, turn, Failed("no"), 2.0), ended)


class RollingMachine(RuleBasedStateMachine):
    """Anything happens to instances, workers, the branch and its rollout, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.case = RollingCase()
        self.case.names = NAMES
        self.case.setUp()
        self.parallel = 1
        self.before: dict[str, int] = {}

    def teardown(self) -> None:
        self.die()
        self.case.doCleanups()

    @property
    def rollout(self) -> Rollout | None:
        return self.case.branch.catalogue.rollout("foo")

    @property
    def lives(self) -> bool:
        return self.case.store.lives

    @property
    def runs(self) -> bool:
        return self.rollout is not None and self.rollout.is_running

    def generation(self, name: str) -> int:
        instance = self.case.branch.catalogue.instance(name)
        return instance.generation if instance is not None else 0

    @initialize()
    def first(self) -> None:
        self.begin(1)

    @precondition(lambda self: self.lives and not self.runs)
    @rule(parallel=st.integers(1, 3))
    def begin(self, parallel: int) -> None:
        before = {name: self.generation(name) for name in NAMES}
        stored = self.case.store.rows.get(("rollout", "foo"))
        self.case.begin(parallel=parallel)
        if self.case.store.rows.get(("rollout", "foo")) is not stored:
            self.parallel, self.before = parallel, before

    @precondition(lambda self: self.lives)
    @rule(name=st.sampled_from(NAMES))
    def come_back(self, name: str) -> None:
        if self.case.branch.catalogue.instance(name) is not None:
            self.case.come_back(name)

    @precondition(lambda self: self.lives)
    @rule(
        name=st.sampled_from(NAMES),
        state=st.sampled_from(["backoff", "unresponsive", "unknown", "starting", "running"]),
        is_current=st.booleans(),
    )
    def differ(self, name: str, state: str, is_current: bool) -> None:
        failures = 2 if state == "backoff" else 0
        self.case.differ(name, state=state, is_current=is_current, is_consuming=False, failures=failures)

    @precondition(lambda self: self.lives)
    @rule(name=st.sampled_from(NAMES), is_enabled=st.booleans())
    def enable(self, name: str, is_enabled: bool) -> None:
        if self.case.branch.catalogue.instance(name) is not None:
            self.case.change(name, is_enabled=is_enabled)

    @precondition(lambda self: self.lives)
    @rule(name=st.sampled_from(NAMES[2:]))
    def delete(self, name: str) -> None:
        if self.case.branch.catalogue.instance(name) is not None:
            self.case.change(name, deleted=True)

    @precondition(lambda self: self.lives)
    @rule()
    def call_off(self) -> None:
        self.case.branch.controller.rollouts.call_off("foo")
        self.case.branch.turn()

    @precondition(lambda self: self.lives)
    @rule(seconds=st.sampled_from([1.0, 6.0, 120.0]))
    def pass_time(self, seconds: float) -> None:
        self.case.branch.turn(seconds)

    @precondition(lambda self: self.lives)
    @rule(writes=st.integers(0, 3), after=st.booleans())
    def doom(self, writes: int, after: bool) -> None:
        """From now on the branch has so many writes left."""
        self.case.store.lives_for, self.case.store.after = writes, after

    @rule()
    def die(self) -> None:
        self.case.store.lives_for = None
        self.case.die()

    @invariant()
    def once_each(self) -> None:
        """Nobody is restarted twice, and only those whose turn it was."""
        rows: Any = self.case.store.rows
        rollout = rows.get(("rollout", "foo"))
        if rollout is None:
            return
        assert len(rollout.under_way) <= self.parallel, rollout
        turned = {turn.name: turn.generation for turn in rollout.under_way}
        for name in NAMES:
            row = rows[("instance", name)]
            if row.deleted:
                continue
            if name in turned:
                assert row.generation == turned[name] == self.before[name] + 1, (row, rollout)
            elif name in rollout.waiting:
                assert row.generation == self.before[name], (row, rollout)
            else:
                assert row.generation <= self.before[name] + 1, (row, rollout)
            if name in rollout.done:
                assert row.generation == self.before[name] + 1, (row, rollout)
        everyone = [*rollout.waiting, *turned, *rollout.done, *dict(rollout.skipped)]
        assert sorted(everyone) == sorted(set(everyone)), rollout


RollingMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


class RollingMachineTests(SynchronousTestCase):
    """Rollouts in a world where anything happens at any time."""

    def test_machine(self) -> None:
        """Whatever happens, nobody is restarted twice and no more than may be are under way."""
        outcome = RollingMachine.TestCase("runTest")
        outcome.runTest()
