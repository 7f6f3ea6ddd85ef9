"""What is shown of a whole cluster at once: instances, events, tasks, and the past hour."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as some
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.controller import overview as module
from cyme.controller import statuses, trends
from cyme.controller.trends import MEMORY, POINTS, STEP, TASKS, WAITING, Trend, merged
from cyme.declarations import Queue
from cyme.errors import BrokerAway, NoReply
from cyme.planning import QueueCount
from tests.support.memorycluster import Cluster


class ClusterCase(SynchronousTestCase):
    """A test with two branches that have instances."""

    def setUp(self) -> None:
        self.cluster = Cluster(self)
        self.b1, self.b2 = self.cluster.branch("b1"), self.cluster.branch("b2")
        self.cluster.populate(self.b1, "w1", "w2", queues=("mail",))
        self.cluster.declare(self.b1, Queue(app="foo", name="mail"))
        self.cluster.populate(self.b2, "x1", "x2")
        self.cluster.turn()

    @property
    def overview(self) -> Any:
        return self.b1.controller.overview

    def ask(self, asked: Any) -> Any:
        return self.cluster.result(asked)

    def states(self, **which: Any) -> dict[str, str]:
        return {row["name"]: row["state"] for row in self.ask(self.overview.instances(**which))["rows"]}


class InstancesTests(ClusterCase):
    """All instances at once."""

    def test_all(self) -> None:
        """Instances of all branches are shown as their branches say they are."""
        self.b2.supervisor.statuses["x1"] = {"state": "backoff", "problems": ["import-error: no"]}
        shown = self.ask(self.overview.instances())
        self.assertEqual([row["name"] for row in shown["rows"]], ["w1", "w2", "x1", "x2"])
        row = shown["rows"][2]
        self.assertEqual(
            (row["branch"], row["state"], row["problems"]), ("b2", "backoff", ["import-error: no"])
        )
        self.assertEqual(shown["states"], {"running": 3, "backoff": 1, "attention": 1})
        self.assertEqual(self.states(state="attention"), {"x1": "backoff"})
        self.assertEqual(list(self.states(queue="mail")), ["w1", "w2"])
        self.assertEqual(list(self.states(text="X")), ["x1", "x2"])

    def test_fresh(self) -> None:
        """What was told holds for a moment, however many look; then it is asked again."""
        asked: list[Any] = []
        here = self.b2.controller.overview._statuses._here
        glances = here.glances

        def counted(instances: Any) -> Any:
            asked.append(instances)
            return glances(instances)

        self.patch(here, "glances", counted)
        for _ in range(3):
            self.ask(self.overview.instances())
        self.assertEqual(len(asked), 1)
        self.cluster.clock.advance(statuses.FRESH)
        self.ask(self.overview.instances())
        self.assertEqual(len(asked), 2)

    def test_same_moment(self) -> None:
        """Several who ask while a branch is asked get the same answer."""
        asked = [self.overview.instances(), self.overview.states(), self.overview.instances(app="foo")]
        for one in asked:
            self.assertTrue(self.ask(one))

    def test_many(self) -> None:
        """A branch tells of thousands of instances in pages."""
        self.cluster.populate(self.b2, *(f"many-{number:04}" for number in range(1200)))
        self.cluster.clock.advance(statuses.FRESH)
        shown = self.ask(self.overview.instances(branch="b2", offset=1190, limit=5))
        self.assertEqual(shown["matching"], 1202)
        self.assertEqual(shown["states"]["running"], 1202)
        self.assertEqual(shown["rows"][0]["name"], "many-1190")

    def test_lost(self) -> None:
        """Instances of a branch that is away are lost, and it is among the branches as such."""
        self.b2.kill()
        self.cluster.turn()
        self.assertEqual(self.states(), {"w1": "running", "w2": "running", "x1": "lost", "x2": "lost"})
        branches = {one["id"]: one for one in self.overview.branches()}
        self.assertEqual((branches["b2"]["lost"], branches["b2"]["instances"]), (True, 2))
        self.assertFalse(branches["b1"]["lost"])

    def test_silent(self) -> None:
        """A branch that lives and does not answer is named, and what it has is unknown; it is left alone."""
        call = self.b1.actors.call
        asked: list[str] = []

        def mute(actor: str, name: str, verb: str, **arguments: Any) -> Deferred[Any]:
            if verb != "statuses":
                return call(actor, name, verb, **arguments)
            asked.append(name)
            return fail(NoReply(actor, name, 3.0))

        self.patch(self.b1.actors, "call", mute)
        self.assertEqual(self.ask(self.overview.instances())["silent"], ["b2"])
        self.assertEqual(self.states()["x1"], "unknown")
        self.cluster.clock.advance(statuses.FRESH)
        self.ask(self.overview.instances())
        self.assertEqual(asked, ["b2"])

    def test_states(self) -> None:
        """How many are in each state is told of all, of apps and of branches."""
        self.b2.supervisor.statuses["x2"] = {"state": "unresponsive"}
        told = self.ask(self.overview.states())
        self.assertEqual(told["all"], {"running": 3, "unresponsive": 1, "attention": 1})
        self.assertEqual(told["branches"]["b2"], {"running": 1, "unresponsive": 1, "attention": 1})
        self.assertEqual(told["apps"]["foo"]["running"], 3)

    def test_last_event(self) -> None:
        """The last event of an instance is shown, also one from before anybody asked."""
        self.b2.events.record("started", app="foo", instance="x1", who="supervisor")
        self.ask(self.overview.instances())
        self.b2.events.record("running", app="foo", instance="x1", who="supervisor")
        self.cluster.clock.advance(statuses.FRESH)
        (row,) = self.ask(self.overview.instances(text="x1"))["rows"]
        self.assertEqual(row["last_event"]["kind"], "running")


class NewestTests(ClusterCase):
    """What is newest."""

    def test_events(self) -> None:
        """Events of all branches are shown, narrowed where that is wanted."""
        self.b1.events.record("one", app="foo", instance="w1", who="test")
        self.b2.events.record("two", app="foo", instance="x1", who="test")
        found = self.ask(self.overview.events(limit=1000))
        self.assertTrue({"one", "two"} <= {event["kind"] for event in found["events"]})
        self.assertEqual(found["silent"], [])
        (event, *_) = self.ask(self.overview.events(instance="x1"))["events"]
        self.assertEqual(event["kind"], "two")

    def test_tasks(self) -> None:
        """Tasks that were queued through any branch are shown, with the branch that knows of them."""
        first = self.ask(self.b1.controller.tasks.send("foo", "proj.add"))["uuid"]
        self.cluster.clock.advance(1)
        second = self.ask(self.b2.controller.tasks.send("foo", "proj.add"))["uuid"]
        found = self.ask(self.overview.tasks())
        self.assertEqual(
            [(one["uuid"], one["branch"]) for one in found["tasks"]], [(second, "b2"), (first, "b1")]
        )
        self.assertEqual(self.ask(self.overview.task(None, second))["app"], "foo")

    def test_no_bus(self) -> None:
        """While the bus is away a branch shows what it knows itself, and says who is silent."""
        self.b1.events.record("one", app="foo", instance="w1", who="test")
        self.b1.bus.stop()
        found = self.ask(self.overview.events())
        self.assertEqual(found["silent"], ["b2"])
        self.assertIn("one", {event["kind"] for event in found["events"]})


class TrendTests(SynchronousTestCase):
    """One series."""

    def test_ring(self) -> None:
        """It keeps the last hour, knows its gaps, and is over when that has passed."""
        trend = Trend()
        for slot in (1000, 1001, 1004):
            trend.put(slot, float(slot))
        self.assertEqual(trend.until(1005)[-6:], [1000.0, 1001.0, None, None, 1004.0, None])
        trend.put(1000 + POINTS, 5.0)
        self.assertEqual(trend.until(1000 + POINTS)[0], 1001.0)
        trend.put(3, 1.0)
        self.assertEqual(trend.until(1000 + POINTS)[-1], 5.0)
        trend.put(9000, 7.0)
        self.assertEqual([value for value in trend.until(9000) if value is not None], [7.0])
        self.assertFalse(trend.is_over(9000 + POINTS - 1))
        self.assertTrue(trend.is_over(9000 + POINTS))

    @given(some.lists(some.tuples(some.integers(5000, 5600), some.floats(0, 9)), max_size=30))
    def test_like_a_mapping(self, samples: list[tuple[int, float]]) -> None:
        """It tells what a mapping from slots to values would, of those that came in order."""
        trend = Trend()
        expected: dict[int, float] = {}
        for slot, value in samples:
            if not expected or slot >= max(expected):
                expected[slot] = value
            trend.put(slot, value)
        told = trend.until(5600)
        newest = max(expected, default=0)
        for place, found in enumerate(told, 5600 - POINTS + 1):
            self.assertEqual(found, expected.get(place) if place > newest - POINTS else None)

    def test_merged(self) -> None:
        """What workers take on several branches adds up; of depths the greatest is taken."""
        nothing: list[float | None] = [None] * (POINTS - 2)
        several = [(100, [*nothing, 1.0, 2.0]), (101, [*nothing, 10.0, None])]
        self.assertEqual(merged(MEMORY, several)[-3:], [1.0, 12.0, None])
        self.assertEqual(merged(WAITING, several)[-3:], [1.0, 10.0, None])
        self.assertEqual(merged(MEMORY, []), [None] * POINTS)


class TrendsTests(ClusterCase):
    """The past hour of a cluster."""

    def setUp(self) -> None:
        super().setUp()
        self.counts: Any = {"mail": QueueCount(7, 2)}
        for branch in (self.b1, self.b2):
            self.patch(branch.controller.trends._remote, "count", self.count)
        for branch in (self.b1, self.b2):
            branch.controller.trends.startService()
            self.addCleanup(branch.controller.trends.stopService)

    def count(self, broker: str, queues: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        if isinstance(self.counts, Exception):
            answer.errback(self.counts)
        else:
            answer.callback(self.counts)
        return answer

    def report(self, branch: Any, name: str, rss: int, total: int) -> None:
        now = self.cluster.clock.seconds()
        progress = {"total": total, "running": 0, "reserved": 0, "at": now}
        branch.supervisor.statuses[name] = {"resources": {"rss": rss, "processes": 1}, "progress": progress}

    def step(self) -> None:
        self.cluster.clock.pump([STEP / 10] * 10)

    def newest(self, *keys: Any) -> list[float | None]:
        self.cluster.clock.advance(module.FRESH)
        told = self.ask(self.overview.trends(keys))
        self.assertEqual(told["step"], STEP)
        return [next((one for one in reversed(series) if one is not None), None) for series in told["series"]]

    def test_sampled(self) -> None:
        """Memory and the rate of tasks are sampled where workers are, and add up; depths once for all."""
        self.report(self.b1, "w1", 100, 1000)
        self.report(self.b2, "x1", 50, 0)
        self.step()
        self.report(self.b1, "w1", 200, 1000 + 30)
        self.report(self.b2, "x1", 60, 15)
        self.step()
        self.assertEqual(
            self.newest((MEMORY, "", ""), (MEMORY, "foo", "w1"), (MEMORY, "foo", "x1")), [260, 200, 60]
        )
        self.assertEqual(self.newest((TASKS, "", ""), (TASKS, "foo", "w1")), [3.0, 2.0])
        self.assertEqual(
            self.newest((WAITING, "", ""), (WAITING, "foo", "mail"), (WAITING, "foo", "x")), [7, 7, None]
        )

    def test_new_process(self) -> None:
        """A worker that counts from 0 again has no rate until it was asked twice."""
        self.report(self.b1, "w1", 1, 1000)
        self.step()
        self.report(self.b1, "w1", 1, 5)
        self.step()
        self.assertEqual(self.newest((TASKS, "foo", "w1")), [None])
        self.report(self.b1, "w1", 1, 25)
        self.step()
        self.assertEqual(self.newest((TASKS, "foo", "w1")), [1.0])

    def test_no_broker(self) -> None:
        """While a broker is away, or can't count, there are gaps in the depths and nowhere else."""
        self.report(self.b1, "w1", 100, 0)
        for away in (BrokerAway("amqp://b//", "refused"), None):
            self.counts = away
            self.step()
            self.assertEqual(self.newest((MEMORY, "", ""), (WAITING, "", ""))[0], 100)
        told = self.ask(self.overview.trends([(WAITING, "", "")]))["series"][0]
        self.assertEqual([one for one in told[-2:] if one is not None], [])

    def test_failure(self) -> None:
        """A sample that fails is logged, and the next one is taken."""
        status = self.b1.supervisor.status
        self.patch(self.b1.supervisor, "status", lambda instance: 1 / 0)
        self.step()
        self.assertGreaterEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.patch(self.b1.supervisor, "status", status)
        self.report(self.b1, "w1", 5, 0)
        self.step()
        self.assertEqual(self.newest((MEMORY, "foo", "w1")), [5])

    def test_slow_broker(self) -> None:
        """A broker that does not answer holds up no more than the count of its queues."""
        for branch in (self.b1, self.b2):
            self.patch(branch.controller.trends._remote, "count", lambda broker, queues: Deferred())
        self.report(self.b1, "w1", 100, 0)
        self.step()
        self.step()
        self.assertEqual(self.newest((MEMORY, "foo", "w1")), [100])

    def test_bound(self) -> None:
        """There are only so many series, and those of all are among them."""
        self.patch(trends, "MOST_SERIES", 5)
        self.b1.controller.trends._series.clear()
        for name in ("w1", "w2"):
            self.report(self.b1, name, 100, 0)
        self.step()
        series = self.b1.controller.trends._series
        self.assertEqual(len(series), 5)
        self.assertIn((MEMORY, "", ""), series)

    def test_queues(self) -> None:
        """All queues are shown with what their broker counts and how many instances consume from them."""
        (queue,) = self.ask(self.overview.queues())
        self.assertEqual((queue["messages"], queue["consumers"], queue["instances"]), (7, 2, 2))
        self.counts = BrokerAway("amqp://b//", "refused")
        self.cluster.clock.advance(module.FRESH)
        (queue,) = self.ask(self.overview.queues())
        self.assertEqual((queue["messages"], queue["consumers"]), (None, None))

    def test_stop(self) -> None:
        """A branch that stops samples no more."""
        for branch in (self.b1, self.b2):
            branch.controller.trends.stopService()
        clock: Clock = self.cluster.clock
        self.assertEqual([call for call in clock.getDelayedCalls() if "LoopingCall" in str(call)], [])
