"""What every provider of `IController` does: as much as those who call it rely on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from cyme.errors import (
    BranchCordoned,
    BranchLives,
    InvalidName,
    InvalidParameter,
    NameTaken,
    NoPlace,
    NoProcess,
    NoSuchApp,
    NoSuchBranch,
    NoSuchInstance,
    NoSuchQueue,
    NoSuchRollout,
    NoSuchTask,
    NotConsuming,
)
from cyme.interfaces import IController


def make_controller_tests(
    fixture: Callable[[SynchronousTestCase], tuple[Any, Callable[[], None]]],
) -> type[SynchronousTestCase]:
    """Tests of a controller.

    :param fixture: takes the test case and gives a controller of a cluster without declarations,
        and a function that makes everything happen that is under way.
    """

    class ControllerTests(SynchronousTestCase):
        def setUp(self) -> None:
            self.controller, self.turn = fixture(self)

        def result(self, verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            """What a verb answers; it can be said in JSON."""
            asked = maybeDeferred(verb, *args, **kwargs)
            self.turn()
            result = self.successResultOf(asked)
            json.dumps(result)
            return result

        def refused(self, error: type[Exception], verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            """Expect that a verb is refused."""
            asked = maybeDeferred(verb, *args, **kwargs)
            self.turn()
            return self.failureResultOf(asked, error).value

        def have_instance(self, name: str = "w1", app: str = "foo", **params: Any) -> None:
            self.result(self.controller.apps.add, app)
            self.result(self.controller.instances.add, app, name, **params)

        def test_interface(self) -> None:
            """It provides `IController`."""
            verifyObject(IController, self.controller)

        def test_follow(self) -> None:
            """Who follows the events of an instance may wait and stop; there must be such an instance."""
            follow = self.controller.events.follow
            self.have_instance()
            asked = follow("foo", "w1", deliver=lambda event: None, failed=lambda: None)
            self.turn()
            following = self.successResultOf(asked)
            for step in (following.resume, following.pause, following.look, following.stop):
                step()
            self.assertGreaterEqual(following.position, 0)
            self.refused(NoSuchInstance, follow, None, "w9", deliver=lambda event: None, failed=lambda: None)

        def test_overview(self) -> None:
            """All instances are shown at once, page by page, as far as they match, with their states."""
            for name in ("w1", "w2", "x3"):
                self.have_instance(name)
            self.have_instance("w4", app="bar", is_enabled=False)
            overview = self.controller.overview
            shown = self.result(overview.instances, limit=2)
            self.assertEqual([row["name"] for row in shown["rows"]], ["w1", "w2"])
            self.assertEqual((shown["matching"], shown["total"], shown["silent"]), (4, 4, []))
            self.assertEqual((shown["states"]["running"], shown["states"]["disabled"]), (3, 1))
            row = shown["rows"][0]
            self.assertEqual((row["app"], row["state"], row["is_enabled"]), ("foo", "running", True))
            self.assertTrue({"pid", "problems", "rss", "last_event", "queues", "branch"} <= row.keys())

            def names(**which: Any) -> list[str]:
                return [one["name"] for one in self.result(overview.instances, **which)["rows"]]

            self.assertEqual(names(offset=2, limit=2), ["w4", "x3"])
            self.assertEqual(names(text="w"), ["w1", "w2", "w4"])
            self.assertEqual(names(app="bar"), ["w4"])
            self.assertEqual(names(state="disabled"), ["w4"])
            self.assertEqual(names(branch="elsewhere"), [])
            states = self.result(overview.states)
            self.assertEqual((states["all"]["running"], states["apps"]["bar"]["disabled"]), (3, 1))

        def test_overview_of_the_rest(self) -> None:
            """Branches, queues, events, tasks and trends are shown, also where there are none."""
            overview = self.controller.overview
            self.assertEqual(self.result(overview.queues), [])
            self.refused(NoSuchApp, overview.queues, "foo")
            self.have_instance()
            self.result(self.controller.queues.add, "foo", "mail")
            (queue,) = self.result(overview.queues)
            self.assertEqual((queue["app"], queue["name"], queue["paused"]), ("foo", "mail", False))
            (branch,) = self.result(overview.branches)
            self.assertEqual((branch["id"], branch["lost"], branch["instances"]), (overview.branch, False, 1))
            self.assertEqual(self.result(overview.events, app="nothing")["events"], [])
            self.assertEqual(self.result(overview.tasks)["tasks"], [])
            self.refused(NoSuchTask, overview.task, None, "0")
            asked = [["waiting", "", ""], ["memory", "foo", "w1"]]
            trends = self.result(overview.trends, asked)
            self.assertEqual([len(values) for values in trends["series"]], [240, 240])
            self.refused(InvalidParameter, overview.trends, [["weather", "", ""]])

        def test_overview_of_tasks(self) -> None:
            """A task is found without its app, and by nobody who may see another app only."""
            self.have_instance()
            queued = self.result(self.controller.tasks.send, "foo", "proj.add")
            overview = self.controller.overview
            found = self.result(overview.task, None, queued["uuid"])
            self.assertEqual((found["app"], found["state"], found["result"]), ("foo", "PENDING", None))
            self.refused(NoSuchTask, overview.task, "bar", queued["uuid"])
            self.assertEqual([one["uuid"] for one in self.result(overview.tasks)["tasks"]], [queued["uuid"]])
            self.assertEqual(self.result(overview.tasks, app="bar")["tasks"], [])

        def test_apps(self) -> None:
            """Apps are added, listed by name, shown and removed."""
            apps = self.controller.apps
            created, details = self.result(apps.add, "foo")
            self.assertEqual((created, details["name"]), (True, "foo"))
            self.result(apps.add, "bar")
            self.assertEqual(apps.all(), ["bar", "foo"])
            self.assertEqual(apps.get("foo")["name"], "foo")
            self.assertIsNone(self.result(apps.delete, "foo"))
            self.assertEqual(apps.all(), ["bar"])

        def test_app_again(self) -> None:
            """An app that is added again is changed by what is given."""
            apps = self.controller.apps
            self.result(apps.add, "foo", pool="solo")
            created, details = self.result(apps.add, "foo", arguments="-E")
            self.assertFalse(created)
            self.assertEqual((details["pool"], details["arguments"]), ("solo", "-E"))
            self.assertEqual(apps.get("foo"), details)

        def test_rollouts(self) -> None:
            """A rolling restart is begun, waited for and shown; one that has ended is called off in vain."""
            rollouts = self.controller.rollouts
            self.refused(NoSuchApp, rollouts.begin, "foo")
            self.refused(NoSuchApp, rollouts.get, "foo")
            for name in ("w2", "w1"):
                self.have_instance(name)
            self.refused(NoSuchRollout, rollouts.get, "foo")
            self.refused(NoSuchRollout, rollouts.call_off, "foo")
            self.refused(InvalidParameter, rollouts.begin, "foo", timeout=0.5)
            begun = self.result(rollouts.begin, "foo", parallel=2, wait=30.0)
            self.assertEqual((begun["app"], begun["state"], begun["parallel"]), ("foo", "finished", 2))
            self.assertEqual((begun["waiting"], begun["under_way"]), ([], []))
            self.assertEqual(sorted(begun["done"]), ["w1", "w2"])
            self.assertEqual((begun["skipped"], begun["halted"]), ({}, None))
            self.assertEqual(self.result(rollouts.get, "foo"), begun)
            self.assertEqual(self.result(rollouts.call_off, "foo"), begun)
            self.assertNotEqual(self.result(rollouts.begin, "foo")["id"], begun["id"])

        def test_rollout_of_nothing(self) -> None:
            """A rolling restart of an app without instances is finished at once, and goes with its app."""
            self.result(self.controller.apps.add, "foo")
            begun = self.result(self.controller.rollouts.begin, "foo", wait=0.0)
            self.assertEqual(begun["state"], "finished")
            self.result(self.controller.apps.delete, "foo")
            self.result(self.controller.apps.add, "foo")
            self.refused(NoSuchRollout, self.controller.rollouts.get, "foo")

        def test_generated_names(self) -> None:
            """What is added without a name gets one of its own."""
            _, app = self.result(self.controller.apps.add, None)
            names = {self.result(self.controller.instances.add, app["name"], None)[1]["name"] for _ in "ab"}
            self.assertEqual(self.controller.instances.all(app["name"]), sorted(names))
            self.assertEqual(len(names), 2)

        def test_names(self) -> None:
            """What can't be a name is refused."""
            self.refused(InvalidName, self.controller.apps.add, "../etc")
            self.refused(InvalidName, self.controller.apps.add, "admin")
            self.result(self.controller.apps.add, "foo")
            self.refused(InvalidName, self.controller.instances.add, "foo", ".hidden")
            self.refused(InvalidName, self.controller.queues.add, "foo", "a\nb")

        def test_queues(self) -> None:
            """Queue declarations are added, listed, shown and removed."""
            queues = self.controller.queues
            self.result(self.controller.apps.add, "foo")
            created, details = self.result(
                queues.add, "foo", "tasks", exchange="e", options={"durable": True}
            )
            self.assertTrue(created)
            expected = {"name": "tasks", "exchange": "e", "exchange_type": None, "routing_key": None}
            self.assertEqual({key: details[key] for key in expected}, expected)
            self.assertEqual(details["options"], {"durable": True})
            self.assertEqual(queues.get("foo", "tasks"), details)
            self.assertEqual(queues.all("foo"), ["tasks"])
            self.assertFalse(self.result(queues.add, "foo", "tasks", routing_key="r")[0])
            self.assertEqual(queues.get("foo", "tasks")["routing_key"], "r")
            self.assertIsNone(self.result(queues.delete, "foo", "tasks"))
            self.assertEqual(queues.all("foo"), [])

        def test_queue_paused(self) -> None:
            """A queue is paused and resumed; its declaration is shown with what its broker counts."""
            queues = self.controller.queues
            self.result(self.controller.apps.add, "foo")
            self.result(queues.add, "foo", "tasks")
            self.assertIs(queues.get("foo", "tasks")["paused"], False)
            for verb, paused in ((queues.pause, True), (queues.pause, True), (queues.resume, False)):
                self.assertIsNone(self.result(verb, "foo", "tasks"))
                self.assertIs(queues.get("foo", "tasks")["paused"], paused)
            shown = self.result(queues.inspect, "foo", "tasks")
            self.assertEqual(shown.keys() - queues.get("foo", "tasks").keys(), {"messages", "consumers"})
            self.assertEqual(self.result(queues.purge, "foo", "tasks"), {"purged": 0})

        def test_tasks(self) -> None:
            """A request and a named task are queued, asked about and revoked."""
            tasks = self.controller.tasks
            self.refused(NoSuchApp, tasks.send, "foo", "proj.add")
            self.result(self.controller.apps.add, "foo")
            self.result(self.controller.apps.add, "bar")
            request = {"method": "POST", "url": "http://m/"}
            self.refused(NoSuchQueue, tasks.request, "foo", "q", **request)
            for queued in (
                self.result(
                    tasks.request, "foo", None, body=b"x", headers=[("A", "b")], retries=1, **request
                ),
                self.result(tasks.send, "foo", "proj.add", args=[1], kwargs={"a": 2}),
            ):
                task = queued["uuid"]
                self.assertEqual(queued["queue"]["name"], "celery")
                self.assertEqual(self.result(tasks.state, "foo", task), {"state": "PENDING"})
                self.assertIsNone(self.result(tasks.result, "foo", task)["result"])
                self.assertIs(self.result(tasks.wait, "foo", task, timeout=0.0)[0], False)
                self.assertEqual(self.result(tasks.revoke, "foo", task)["state"], "REVOKED")
                self.assertIs(self.result(tasks.wait, "foo", task)[0], True)
                for verb in (tasks.state, tasks.result, tasks.wait, tasks.revoke):
                    self.refused(NoSuchTask, verb, "bar", task)

        def test_instances(self) -> None:
            """Instances are added, listed over all apps or one, shown and removed."""
            instances = self.controller.instances
            self.have_instance("w1")
            self.have_instance("w2", "bar")
            self.assertEqual((instances.all("foo"), instances.all(None)), (["w1"], ["w1", "w2"]))
            details = self.result(instances.get, "foo", "w1")
            self.assertEqual(details, self.result(instances.get, None, "w1"))
            expected = {
                "name": "w1",
                "app": "foo",
                "is_enabled": True,
                "queues": [],
                "max_concurrency": 1,
                "min_concurrency": 1,
            }
            self.assertEqual({key: details[key] for key in expected}, expected)
            self.assertIsNone(self.result(instances.delete, "foo", "w1"))
            self.assertEqual(instances.all(None), ["w2"])

        def test_instance_again(self) -> None:
            """An instance that is added again is changed by what is given."""
            self.have_instance(max_concurrency=3)
            created, details = self.result(
                self.controller.instances.add, "foo", "w1", min_concurrency=2, wait=1.0
            )
            self.assertFalse(created)
            self.assertEqual((details["max_concurrency"], details["min_concurrency"]), (3, 2))

        def test_instance_of_another_app(self) -> None:
            """An instance's name is taken for every other app."""
            self.have_instance()
            self.result(self.controller.apps.add, "bar")
            self.refused(NameTaken, self.controller.instances.add, "bar", "w1")
            self.refused(NoSuchInstance, self.controller.instances.get, "bar", "w1")

        def test_commands(self) -> None:
            """Instances are disabled, enabled and restarted."""
            instances = self.controller.instances
            self.have_instance()
            for verb, enabled in ((instances.disable, False), (instances.enable, True)):
                self.assertIsNone(self.result(verb, "foo", "w1"))
                self.assertIs(self.result(instances.get, "foo", "w1")["is_enabled"], enabled)
            self.assertIsNone(self.result(instances.restart, None, "w1"))

        def test_health(self) -> None:
            """An instance's health has a verdict."""
            self.have_instance()
            for app in ("foo", None):
                self.assertIn("verdict", self.result(self.controller.instances.health, app, "w1"))

        def test_drain(self) -> None:
            """An instance that is drained is disabled; the answer is its details."""
            instances = self.controller.instances
            self.have_instance()
            self.assertIs(self.result(instances.drain, "foo", "w1")["is_enabled"], False)
            drained = self.result(instances.drain, None, "w1", deadline=5.0, wait=0.0)
            self.assertEqual(drained["name"], "w1")

        def test_autoscale(self) -> None:
            """The range of a pool is changed by its ends, and refused when they don't fit."""
            instances = self.controller.instances
            self.have_instance()
            changed = self.result(instances.set_autoscale, "foo", "w1", max=5, wait=0.0)
            self.assertEqual(changed, {"max": 5, "min": 1})
            self.assertEqual(self.result(instances.set_autoscale, None, "w1", min=0), {"max": 5, "min": 0})
            self.assertEqual(instances.autoscale("foo", "w1"), {"max": 5, "min": 0})
            self.refused(InvalidParameter, instances.set_autoscale, "foo", "w1", min=6)
            self.assertEqual(instances.autoscale("foo", "w1"), {"max": 5, "min": 0})

        def test_consumers(self) -> None:
            """An instance consumes from a declared queue, until that is cancelled."""
            instances = self.controller.instances
            self.have_instance()
            self.refused(NoSuchQueue, instances.consume, "foo", "w1", "tasks")
            self.result(self.controller.queues.add, "foo", "tasks")
            for _ in "twice":
                self.assertIn(self.result(instances.consume, "foo", "w1", "tasks", wait=0.0), (True, None))
            self.assertEqual(self.result(instances.get, "foo", "w1")["queues"], ["tasks"])
            self.assertIsNone(self.result(instances.cancel, "foo", "w1", "tasks", wait=0.0))
            self.assertEqual(self.result(instances.get, "foo", "w1")["queues"], [])
            self.refused(NotConsuming, instances.cancel, "foo", "w1", "tasks")

        def test_queues_at_creation(self) -> None:
            """An instance may be created with queues, which must be declared."""
            self.result(self.controller.apps.add, "foo")
            self.refused(NoSuchQueue, self.controller.instances.add, "foo", "w1", queues=["tasks"])
            self.assertEqual(self.controller.instances.all(None), [])
            self.result(self.controller.queues.add, "foo", "tasks")
            _, details = self.result(self.controller.instances.add, "foo", "w1", queues=["tasks"])
            self.assertEqual(details["queues"], ["tasks"])

        def test_log(self) -> None:
            """The log is text."""
            self.have_instance()
            self.assertIsInstance(self.result(self.controller.instances.log, "foo", "w1", tail=5), str)

        def test_dump(self) -> None:
            """Stacks are text; an instance without a worker has none."""
            instances = self.controller.instances
            self.have_instance()
            self.assertIn("MainThread", self.result(instances.dump, "foo", "w1", wait=1.0))
            self.result(instances.disable, "foo", "w1")
            self.refused(NoProcess, instances.dump, "foo", "w1")

        def test_stats(self) -> None:
            """The statistics come with the details."""
            self.have_instance()
            self.assertEqual(self.result(self.controller.instances.stats, "foo", "w1")["name"], "w1")

        def test_delete_app(self) -> None:
            """An app takes its instances and queue declarations with it, and nobody else's."""
            self.have_instance("w1")
            self.have_instance("w2", "bar")
            self.result(self.controller.queues.add, "foo", "tasks")
            self.result(self.controller.apps.delete, "foo")
            self.assertEqual(self.controller.instances.all(None), ["w2"])
            self.result(self.controller.apps.add, "foo")
            self.assertEqual(self.controller.queues.all("foo"), [])

        def test_no_such_app(self) -> None:
            """Nothing can be done with an app that does not exist."""
            apps, queues, instances = (
                self.controller.apps,
                self.controller.queues,
                self.controller.instances,
            )
            for verb, *args in (
                (apps.get,),
                (apps.delete,),
                (queues.all,),
                (queues.get, "q"),
                (queues.add, "q"),
                (queues.delete, "q"),
                (queues.inspect, "q"),
                (queues.pause, "q"),
                (queues.resume, "q"),
                (queues.purge, "q"),
                (instances.all,),
                (instances.get, "w1"),
                (instances.add, "w1"),
                (instances.add, None),
                (instances.delete, "w1"),
            ):
                self.refused(NoSuchApp, verb, "foo", *args)

        def test_no_such_queue(self) -> None:
            """Nothing can be done with a queue that is not declared."""
            self.result(self.controller.apps.add, "foo")
            self.refused(NoSuchQueue, self.controller.queues.get, "foo", "q")
            for verb in ("delete", "inspect", "pause", "resume", "purge"):
                self.refused(NoSuchQueue, getattr(self.controller.queues, verb), "foo", "q")

        def test_no_such_instance(self) -> None:
            """Nothing can be done with an instance that does not exist, whether or not its app is named."""
            instances = self.controller.instances
            self.result(self.controller.apps.add, "foo")
            for verb, *args in (
                (instances.get,),
                (instances.delete,),
                (instances.restart,),
                (instances.enable,),
                (instances.disable,),
                (instances.drain,),
                (instances.health,),
                (instances.stats,),
                (instances.autoscale,),
                (instances.set_autoscale,),
                (instances.log,),
                (instances.dump,),
                (instances.consumers,),
                (instances.consume, "q"),
                (instances.cancel, "q"),
            ):
                for app in ("foo", None):
                    self.refused(NoSuchInstance, verb, app, "w1", *args)

        def test_branches(self) -> None:
            """Live branches are listed and shown, others are not."""
            branches = self.controller.branches
            for id in branches.all():
                self.assertEqual(self.result(branches.get, id)["id"], id)
            self.assertNotEqual(branches.all(), [])
            self.refused(NoSuchBranch, branches.get, "nowhere")

        def test_cordoned(self) -> None:
            """A cordoned branch takes no new instances until it is uncordoned, and keeps what it has."""
            branches, instances = self.controller.branches, self.controller.instances
            self.have_instance()
            (id,) = branches.all()
            self.assertEqual(branches.get(id)["is_cordoned"], False)
            self.assertEqual(self.result(branches.cordon, id), {"is_cordoned": True, "draining": None})
            self.assertEqual(branches.get(id)["is_cordoned"], True)
            self.refused(NoPlace, instances.add, "foo", "w2")
            self.refused(BranchCordoned, instances.add, "foo", "w2", branch=id)
            self.assertFalse(self.result(instances.add, "foo", "w1", max_concurrency=3)[0])
            self.assertFalse(self.result(branches.uncordon, id)["is_cordoned"])
            self.assertTrue(self.result(instances.add, "foo", "w2")[0])

        def test_drained(self) -> None:
            """A drained branch is cordoned and tells what is left, until it is uncordoned."""
            branches = self.controller.branches
            self.have_instance()
            (id,) = branches.all()
            draining = self.result(branches.drain, id)["draining"]
            self.assertEqual((draining["left"], draining["moved"], draining["moving"]), (["w1"], {}, {}))
            self.assertEqual(branches.get(id)["draining"], draining)
            self.assertTrue(branches.get(id)["is_cordoned"])
            self.assertEqual(self.result(branches.uncordon, id), {"is_cordoned": False, "draining": None})

        def test_commanded(self) -> None:
            """A live branch is not evacuated, and stops when it is asked to; there must be such a branch."""
            branches = self.controller.branches
            (id,) = branches.all()
            self.refused(BranchLives, branches.evacuate, id)
            self.assertIsNone(self.result(branches.shutdown, id))
            for verb in ("cordon", "uncordon", "drain", "evacuate", "shutdown"):
                self.refused(NoSuchBranch, getattr(branches, verb), "nowhere")

        def test_placed(self) -> None:
            """Where an instance goes may be said in several ways; those that can't be are refused."""
            add = self.controller.instances.add
            self.result(self.controller.apps.add, "foo")
            (id,) = self.controller.branches.all()
            for number, where in enumerate(
                ({"branch": id}, {"placement": "least-loaded"}, {"placement": "round-robin", "label": []})
            ):
                self.assertTrue(self.result(add, "foo", f"w{number}", **where)[0])
            self.assertFalse(self.result(add, "foo", "w1", placement="least-loaded")[0])
            for error, wrong in (
                (NoSuchBranch, {"branch": "nowhere"}),
                (InvalidParameter, {"placement": "best"}),
                (InvalidParameter, {"placement": "least-loaded", "branch": id}),
                (InvalidParameter, {"label": ["gpu"]}),
                (InvalidParameter, {"label": ["gpu=yes"], "branch": id}),
                (NoPlace, {"label": ["gpu=yes"]}),
            ):
                self.refused(error, add, "foo", "w9", **wrong)

    return ControllerTests
