"""The controller: every verb, over a store in memory and a supervisor that says what it is told."""

from __future__ import annotations

import re
from typing import Any, cast
from uuid import UUID

from attrs import evolve
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from cyme.bus.local import LocalBus, Switch
from cyme.catalogue import Catalogue
from cyme.controller import Controller, make_controller
from cyme.controller.history import LOOK_EVERY
from cyme.declarations import App, Declaration, Instance
from cyme.errors import (
    BranchAway,
    BrokerAway,
    BusAway,
    DeclarationMismatch,
    InvalidName,
    InvalidParameter,
    NameTaken,
    NoDump,
    NoProcess,
    NoReply,
    NoRoute,
    NoSuchApp,
    NoSuchBranch,
    NoSuchInstance,
    NoSuchQueue,
    NotConsuming,
)
from cyme.membership import Membership
from tests.contracts.controller import make_controller_tests
from tests.fakes.controller import FakeController
from tests.fakes.events import FakeEvents
from tests.fakes.gateway import FakeGateway
from tests.fakes.remote import FakeRemoteControl
from tests.fakes.store import MemoryStore
from tests.fakes.supervisor import FakeSupervisor
from tests.support.meeting import meet

DEFAULT = "amqp://guest:guest@127.0.0.1:5672//"


class Members(Membership):
    """Membership that believes in more members."""

    others: tuple[str, ...] = ()

    def members(self) -> tuple[str, ...]:
        return tuple(sorted((*super().members(), *self.others)))


class Branch:
    """All that a controller stands on, for one branch."""

    def __init__(self, case: SynchronousTestCase, clock: Clock, id: str = "b1", switch: Switch | None = None):
        self.case = case
        self.clock = clock
        self.id = id
        self.store = MemoryStore()
        self.catalogue = Catalogue(clock, self.store, id)
        self.supervisor = FakeSupervisor()
        self.bus = LocalBus(clock, switch)
        meeting = meet(clock, self.catalogue, id, self.bus, make_membership=Members)
        self.presence: Any = meeting.membership
        self.actors = meeting.actors
        self.default_broker = DEFAULT
        self.events = FakeEvents()
        self.remote = FakeRemoteControl(clock)
        self.gateway = FakeGateway(clock, id)
        self.controller: Controller = make_controller(
            clock,
            self.catalogue,
            self.supervisor,
            self.actors,
            self.presence,
            id,
            lambda: self.default_broker,
            self.events,
            self.remote,
            self.gateway,
        )

    def start(self) -> None:
        self.case.successResultOf(self.catalogue.load())
        self.case.successResultOf(self.actors.start())
        self.case.addCleanup(self.actors.stop)
        self.controller.rolling.startService()
        self.case.addCleanup(self.controller.rolling.stopService)

    def turn(self) -> None:
        self.clock.advance(0)

    def declare(self, *declarations: Declaration) -> None:
        """Write declarations as they are."""
        self.case.successResultOf(self.catalogue.change(lambda: declarations))


def started_branch(case: SynchronousTestCase) -> Branch:
    clock = Clock()
    clock.advance(1_000_000)
    branch = Branch(case, clock)
    branch.start()
    return branch


def real_controller(case: SynchronousTestCase) -> tuple[Any, Any]:
    branch = started_branch(case)
    branch.supervisor.answers[("w1", "active_queues")] = []
    return branch.controller, branch.turn


def fake_controller(case: SynchronousTestCase) -> tuple[Any, Any]:
    return FakeController(), lambda: None


class RealControllerContractTests(make_controller_tests(real_controller)):  # type: ignore[misc]
    """The controller is one."""


class FakeControllerContractTests(make_controller_tests(fake_controller)):  # type: ignore[misc]
    """The fake that others test with does what the controller does."""


class ControllerTestCase(SynchronousTestCase):
    """A branch with an app `foo`."""

    def setUp(self) -> None:
        self.branch = started_branch(self)
        self.clock = self.branch.clock
        self.catalogue = self.branch.catalogue
        self.supervisor = self.branch.supervisor
        self.controller = self.branch.controller
        self.apps = self.controller.apps
        self.queues = self.controller.queues
        self.instances = self.controller.instances
        self.result(self.apps.add("foo"))

    def result(self, asked: Any) -> Any:
        self.branch.turn()
        return self.successResultOf(asked) if isinstance(asked, Deferred) else asked

    def refused(self, error: type[Exception], verb: Any, *args: Any, **kwargs: Any) -> Any:
        """Expect a refusal, and that it changed nothing."""
        before = dict(self.branch.store.rows)
        asked = maybeDeferred(verb, *args, **kwargs)
        self.branch.turn()
        value = self.failureResultOf(asked, error).value
        self.assertEqual(self.branch.store.rows, before)
        self.assertTrue(str(value))
        return value

    def add(self, name: str | None = "w1", **params: Any) -> dict[str, Any]:
        created, details = self.result(self.instances.add("foo", name, **params))
        self.assertTrue(created)
        return details

    def instance(self, name: str = "w1") -> Instance:
        instance = self.catalogue.instance(name)
        assert instance is not None
        return instance


class AppsTests(ControllerTestCase):
    """Apps."""

    def test_details(self) -> None:
        """A new app has the default broker, shown with the five keys of the product document and more."""
        created, details = self.result(self.apps.add("bar"))
        self.assertTrue(created)
        limits = ["max_memory", "max_age", "stall_timeout"]
        parameters = ["celery_app", "arguments", "extra_config", "pool", *limits]
        self.assertEqual(list(details), ["name", "broker", *parameters])
        broker = details.pop("broker")
        five = {"password": "guest", "hostname": "127.0.0.1", "userid": "guest", "port": 5672}
        self.assertEqual({key: broker[key] for key in [*five, "virtual_host"]}, {**five, "virtual_host": "/"})
        self.assertEqual(broker["transport"], "amqp")
        self.assertNotIn("guest:guest", broker["url"])
        self.assertEqual(details, {"name": "bar", **dict.fromkeys(parameters)})

    def test_default_broker_is_not_stored(self) -> None:
        """An app that names no broker goes with the default, also when that changes."""
        app = self.catalogue.app("foo")
        assert app is not None
        self.assertIsNone(app.broker)
        self.branch.default_broker = "amqp://guest:guest@other:5672//"
        self.assertEqual(self.apps.get("foo")["broker"]["hostname"], "other")

    def test_parameters(self) -> None:
        """Everything that can be said of an app is stored and shown."""
        params: dict[str, Any] = {
            **{"celery_app": "proj:app", "pool": "threads", "arguments": "-E", "extra_config": "a=b"},
            **{"max_memory": 300 << 20, "max_age": 3600.0, "stall_timeout": 60.0},
        }
        _, details = self.result(self.apps.add("bar", broker="redis://:pw@r:6379/1", **params))
        self.assertEqual({key: details[key] for key in params}, params)
        self.assertEqual(details["broker"]["password"], "pw")
        self.assertNotIn("pw", details["broker"]["url"])
        self.assertEqual(self.apps.get("bar"), details)

    def test_generated_name(self) -> None:
        """An app without a name is called by a UUID."""
        _, details = self.result(self.apps.add(None))
        self.assertEqual(str(UUID(details["name"])), details["name"])

    def test_edit_broker(self) -> None:
        """The broker is edited by its parts; without a host name it stays as it is."""
        created, details = self.result(
            self.apps.add("foo", hostname="w1", userid="me", password="me", virtual_host="/")
        )
        self.assertFalse(created)
        self.assertEqual((details["broker"]["hostname"], details["broker"]["port"]), ("w1", 5672))
        created, again = self.result(self.apps.add("foo", password="other"))
        self.assertEqual((created, again), (False, details))

    def test_not_given(self) -> None:
        """None means "not given" and changes nothing."""
        self.result(self.apps.add("foo", pool="solo", arguments="-E"))
        _, details = self.result(self.apps.add("foo", pool=None, arguments=None, hostname=None))
        self.assertEqual((details["pool"], details["arguments"]), ("solo", "-E"))

    def test_nothing_to_write(self) -> None:
        """An app that is added again without parameters is not written again."""
        before = self.catalogue.app("foo")
        self.result(self.apps.add("foo"))
        self.assertIs(self.catalogue.app("foo"), before)

    def test_bad_input(self) -> None:
        """Bad input is refused, and changes nothing."""
        for params in (
            {"colour": "blue"},
            {"queues": ["a"]},
            {"broker": "amqp://a//", "hostname": "b"},
            {"broker": "nonsense"},
            {"port": "5672"},
            {"port": 0},
            {"hostname": "a b"},
            {"pool": "custom"},
            {"celery_app": "a b"},
            {"arguments": "-c 4"},
            {"arguments": "'"},
            {"extra_config": "a"},
            {"pool": "solo", "extra_config": "a"},
        ):
            for name in ("foo", "new", None):
                self.refused(InvalidParameter, self.apps.add, name, **params)
        self.refused(InvalidName, self.apps.add, "admin", pool="solo")

    def test_delete(self) -> None:
        """An app goes with its instances and queues in one transaction; nobody sees half of it."""
        self.result(self.queues.add("foo", "tasks"))
        self.add("w1", queues=["tasks"])
        self.add("w2", broker="amqp://guest:guest@own:5672//")
        writes: list[tuple[Declaration, ...]] = []
        self.catalogue.subscribe(writes.append)
        self.result(self.apps.delete("foo"))
        self.assertEqual(len(writes), 1)
        deleted = {(one.kind, *one.key) for one in writes[0] if one.deleted}
        expected = {("app", "foo"), ("queue", "foo", "tasks"), ("instance", "w1"), ("instance", "w2")}
        self.assertEqual(deleted, expected)

    def test_tombstones_keep_brokers(self) -> None:
        """Tombstones of an app's instances know the broker that each used."""
        self.result(self.apps.add("foo", hostname="of-app"))
        self.add("w1")
        self.add("w2", hostname="own")
        self.result(self.apps.delete("foo"))
        brokers = [one.broker for one in self.catalogue.tombstones("instance") if isinstance(one, Instance)]
        hosts = ["of-app", "own"]
        self.assertEqual(brokers, [f"amqp://guest:guest@{host}:5672//" for host in hosts])

    def test_store_fails(self) -> None:
        """A write that the store refuses fails, and is not visible."""
        self.branch.store.fail_with = OSError("disk full")
        self.failureResultOf(self.apps.add("bar"), OSError)
        self.assertEqual(self.apps.all(), ["foo"])

    def test_bus_away(self) -> None:
        """Apps and queues can be changed while the bus is away."""
        self.branch.bus.stop()
        self.assertTrue(self.result(self.apps.add("bar"))[0])
        self.assertTrue(self.result(self.queues.add("bar", "tasks"))[0])


class QueuesTests(ControllerTestCase):
    """Queue declarations."""

    def test_details(self) -> None:
        """What was not given is null; what holds then stands beside it."""
        _, details = self.result(self.queues.add("foo", "tasks"))
        self.assertEqual(
            details,
            {
                "name": "tasks",
                "exchange": None,
                "exchange_type": None,
                "routing_key": None,
                "options": None,
                "effective": {"exchange": "tasks", "exchange_type": "direct", "routing_key": "tasks"},
                "paused": False,
            },
        )

    def test_parameters(self) -> None:
        """Everything that can be said of a queue is stored and shown."""
        params = {
            "exchange": "e",
            "exchange_type": "topic",
            "routing_key": "a.#",
            "options": {"durable": False, "queue_arguments": {"x-max-priority": 5}},
        }
        _, details = self.result(self.queues.add("foo", "tasks", **params))
        effective = details.pop("effective")
        self.assertEqual(details, {"name": "tasks", **params, "paused": False})
        self.assertEqual(effective, {key: params[key] for key in effective})

    def test_counts(self) -> None:
        """A queue is shown with what the app's broker counts of it."""
        self.result(self.queues.add("foo", "tasks"))

        def counted() -> tuple[Any, Any]:
            shown = self.result(self.queues.inspect("foo", "tasks"))
            return shown["messages"], shown["consumers"]

        remote = self.branch.remote
        self.assertEqual(counted(), (0, 0))
        remote.node(DEFAULT, "w1@host").queues.add("tasks")
        remote.depths["tasks"] = 7
        self.assertEqual(counted(), (7, 1))
        remote.broker_down(DEFAULT)
        self.assertEqual(counted(), (None, None))
        self.failureResultOf(self.queues.purge("foo", "tasks"), BrokerAway)
        self.result(self.apps.add("foo", broker="redis://localhost/3"))
        self.assertEqual(counted(), (None, None))
        self.assertEqual(self.result(self.queues.purge("foo", "tasks")), {"purged": 7})
        self.assertEqual(remote.purged, [("redis://localhost/3", "tasks")])

    def test_slow_count(self) -> None:
        """A broker that takes long to count holds no answer up."""
        self.result(self.queues.add("foo", "tasks"))
        never: Deferred[Any] = Deferred()
        self.patch(self.branch.remote, "count", lambda broker, queues: never)
        asked = self.queues.inspect("foo", "tasks")
        self.assertNoResult(asked)
        self.branch.clock.advance(3)
        self.assertIsNone(self.successResultOf(asked)["messages"])

    def test_limits(self) -> None:
        """A limit of 0 takes an instance's own away, and then its app's."""
        self.result(self.apps.add("foo", max_memory=500, max_age=60))
        self.add(max_memory=300)
        limits = []
        for change in (
            {},
            {"max_memory": 0},
            {"stall_timeout": 5},
        ):
            _, details = self.result(self.instances.add("foo", "w1", **change))
            limits.append((details["max_memory"], details["max_age"], details["stall_timeout"]))
        self.result(self.apps.add("foo", max_memory=0, max_age=0))
        details = self.result(self.instances.get("foo", "w1"))
        limits.append((details["max_memory"], details["max_age"], details["stall_timeout"]))
        expected = [(300, 60.0, None), (500, 60.0, None), (500, 60.0, 5.0), (None, None, 5.0)]
        self.assertEqual(limits, expected)

    def test_change(self) -> None:
        """A repeat changes what is given and leaves the rest; without parameters it changes nothing."""
        self.result(self.queues.add("foo", "tasks", exchange="e", options={"durable": True}))
        created, details = self.result(self.queues.add("foo", "tasks", routing_key="r", options={}))
        self.assertFalse(created)
        self.assertEqual((details["exchange"], details["routing_key"], details["options"]), ("e", "r", {}))
        self.assertEqual(self.result(self.queues.add("foo", "tasks")), (False, details))

    def test_apps_are_apart(self) -> None:
        """Each app has its own declarations."""
        self.result(self.apps.add("bar"))
        self.result(self.queues.add("foo", "tasks", exchange="e"))
        self.result(self.queues.add("bar", "tasks"))
        self.result(self.queues.delete("foo", "tasks"))
        self.assertEqual((self.queues.all("foo"), self.queues.all("bar")), ([], ["tasks"]))

    def test_bad_input(self) -> None:
        """Bad input is refused, and changes nothing."""
        self.result(self.queues.add("foo", "tasks"))
        for params in (
            {"colour": "blue"},
            {"exchange": 5},
            {"exchange": "x" * 256},
            {"exchange_type": "nonsense"},
            {"routing_key": "\0"},
            {"options": "{}"},
            {"options": {"durable": "yes"}},
            {"options": {"colour": "blue"}},
            {"exchange": "e", "options": []},
        ):
            self.refused(InvalidParameter, self.queues.add, "foo", "tasks", **params)
            self.refused(InvalidParameter, self.queues.add, "foo", "new", **params)
        self.refused(InvalidName, self.queues.add, "foo", "a/b")

    def test_delete(self) -> None:
        """With a declaration, every instance of its app stops consuming, in the same transaction."""
        self.result(self.apps.add("bar"))
        for app in ("foo", "bar"):
            self.result(self.queues.add(app, "tasks"))
            self.result(self.queues.add(app, "other"))
            self.result(self.instances.add(app, f"w-{app}", queues=["tasks", "other"]))
        writes: list[tuple[Declaration, ...]] = []
        self.catalogue.subscribe(writes.append)
        self.result(self.queues.delete("foo", "tasks"))
        self.assertEqual([sorted(one.kind for one in write) for write in writes], [["instance", "queue"]])
        self.assertEqual(self.instance("w-foo").queues, ("other",))
        self.assertEqual(self.instance("w-bar").queues, ("tasks", "other"))


class InstancesTests(ControllerTestCase):
    """Instances of this branch."""

    def test_details(self) -> None:
        """A new instance is shown as in the product document, with more behind."""
        details = self.add()
        first = ["is_enabled", "name", "queues", "broker", "max_concurrency", "min_concurrency"]
        more = ["app", "branch", "moving_to", "labels", "pool", "arguments", "extra_config", "celery_app"]
        more += ["max_memory", "max_age", "stall_timeout"]
        status = list(self.supervisor.status(self.instance()))
        self.assertEqual(list(details), [*first, *more, *status])
        self.assertEqual((details["app"], details["branch"], details["state"]), ("foo", "b1", "running"))
        self.assertEqual(details["broker"]["hostname"], "127.0.0.1")
        self.assertEqual(self.result(self.instances.get("foo", "w1")), details)

    def test_stored(self) -> None:
        """A new instance belongs to this branch and knows when it was made."""
        self.add()
        instance = self.instance()
        self.assertEqual((instance.branch, instance.created_at), ("b1", 1_000_000.0))
        self.assertEqual((instance.is_enabled, instance.generation), (True, 0))

    def test_generated_name(self) -> None:
        """An instance without a name is called by a UUID."""
        details = self.add(None)
        self.assertEqual(str(UUID(details["name"])), details["name"])

    def test_parameters(self) -> None:
        """Everything that can be said of an instance is stored and shown."""
        self.result(self.queues.add("foo", "a"))
        params: dict[str, Any] = {
            "is_enabled": False,
            "max_concurrency": 8,
            "min_concurrency": 0,
            "queues": ["a"],
            "celery_app": "proj",
            "pool": "threads",
            "arguments": "-E",
            "extra_config": "x=1",
            "max_memory": 300 << 20,
            "max_age": 3600.0,
            "stall_timeout": 60.0,
        }
        details = self.add(**params, hostname="own", port=5)
        self.assertEqual({key: details[key] for key in params}, params)
        self.assertEqual((details["broker"]["hostname"], details["broker"]["port"]), ("own", 5))
        self.assertEqual(details["state"], "disabled")

    def test_words_of_the_app(self) -> None:
        """Where an instance says nothing, its app's words hold, also when they change."""
        self.add(pool="solo")
        self.result(self.apps.add("foo", pool="threads", arguments="-E", hostname="of-app"))
        details = self.result(self.instances.get("foo", "w1"))
        self.assertEqual((details["pool"], details["arguments"]), ("solo", "-E"))
        self.assertEqual(details["broker"]["hostname"], "of-app")

    def test_change(self) -> None:
        """A repeat changes what is given and leaves the rest."""
        self.add(max_concurrency=4, pool="threads")
        created, details = self.result(
            self.instances.add("foo", "w1", max_concurrency=6, branch="b1", is_enabled=False)
        )
        self.assertFalse(created)
        shown = (details["max_concurrency"], details["pool"], details["is_enabled"])
        self.assertEqual(shown, (6, "threads", False))

    def test_range_is_checked_against_what_is_there(self) -> None:
        """One end of a range is judged together with the other end as it is stored."""
        self.add(max_concurrency=4, min_concurrency=2)
        self.refused(InvalidParameter, self.instances.add, "foo", "w1", max_concurrency=1)
        self.refused(InvalidParameter, self.instances.add, "foo", "w1", min_concurrency=5)
        self.refused(InvalidParameter, self.instances.add, "foo", "w2", min_concurrency=2)
        self.refused(InvalidParameter, self.instances.set_autoscale, "foo", "w1", max=1)

    def test_bad_input(self) -> None:
        """Bad input is refused, and changes nothing."""
        self.add()
        self.result(self.queues.add("foo", "a"))
        for params in (
            {"colour": "blue"},
            {"generation": 5},
            {"deleted": True},
            {"created_at": 5.0},
            {"is_enabled": 1},
            {"max_concurrency": 0},
            {"max_concurrency": True},
            {"min_concurrency": -1},
            {"max_concurrency": 2, "min_concurrency": 3},
            {"queues": "a"},
            {"pool": "nonsense"},
            {"arguments": "--pidfile=x"},
            {"broker": "amqp://a//", "hostname": "b"},
            {"wait": -1},
            {"wait": "5"},
            {"wait": 10_000.0},
            {"branch": 5},
        ):
            for name in ("w1", "w2", None):
                self.refused(InvalidParameter, self.instances.add, "foo", name, **params)
        self.refused(InvalidName, self.instances.add, "foo", "branch.db")
        self.refused(InvalidName, self.instances.add, "foo", "w1", queues=[5])
        self.refused(NoSuchQueue, self.instances.add, "foo", "w1", queues=["a", "b"])

    def test_taken(self) -> None:
        """A name of an instance of another app is taken; the error says by whom."""
        self.add()
        self.result(self.apps.add("bar"))
        error = self.refused(NameTaken, self.instances.add, "bar", "w1")
        self.assertEqual(error.arguments, ("w1", "foo"))

    def test_branch(self) -> None:
        """An instance may be placed on a branch by its id."""
        self.assertEqual(self.add(branch="b1")["branch"], "b1")

    def test_no_such_branch(self) -> None:
        """An instance can't be placed on a branch that does not live."""
        self.refused(NoSuchBranch, self.instances.add, "foo", "w1", branch="b9")
        self.branch.presence.others = ("b9",)
        self.refused(BranchAway, self.instances.add, "foo", "w1", branch="b9")

    def test_other_branch(self) -> None:
        """An instance that exists is not moved by asking for it on another branch."""
        self.add()
        self.refused(InvalidParameter, self.instances.add, "foo", "w1", branch="b2")

    def test_wait(self) -> None:
        """With `wait` the answer comes once nothing is left to do, and says how it went then."""
        self.supervisor.hold = True
        self.supervisor.running = "starting"
        asked = self.instances.add("foo", "w1", wait=7.0)
        self.branch.turn()
        self.assertNoResult(asked)
        self.assertEqual(self.instances.all("foo"), ["w1"])
        self.assertEqual(self.supervisor.waited, [("w1", 7.0)])
        self.supervisor.running = "running"
        self.supervisor.release()
        self.assertEqual(self.result(asked)[1]["state"], "running")

    def test_no_wait(self) -> None:
        """Without `wait`, or for a disabled instance, nothing is waited for."""
        self.add("w1")
        self.add("w2", wait=5.0, is_enabled=False)
        self.assertEqual(self.supervisor.waited, [])

    def test_deleted_while_waited_for(self) -> None:
        """An instance that is deleted while somebody waits for it is answered as it was stored."""
        self.supervisor.hold = True
        asked = self.instances.add("foo", "w1", wait=7.0)
        self.branch.turn()
        self.result(self.instances.delete("foo", "w1"))
        self.supervisor.release()
        self.assertEqual(self.result(asked)[1]["name"], "w1")

    def test_redelivered(self) -> None:
        """A placement that arrives twice makes one instance, named or not."""
        bodies: list[bytes] = []
        to_any = self.branch.bus.to_any

        def twice(actor: str, body: bytes, *, expires: float) -> Deferred[None]:
            bodies.append(body)
            to_any(actor, body, expires=expires)
            return to_any(actor, body, expires=expires)

        self.patch(self.branch.bus, "to_any", twice)
        self.add(None)
        self.add("w1")
        self.assertEqual(len(bodies), 2)
        self.assertEqual(len(self.instances.all("foo")), 2)

    def test_app_deleted_on_the_way(self) -> None:
        """An instance whose app is deleted while it is being placed is not made."""
        asked = self.instances.add("foo", "w1")
        self.result(self.apps.delete("foo"))
        self.failureResultOf(asked, NoSuchApp)
        self.assertEqual(self.instances.all(None), [])

    def test_two_at_once(self) -> None:
        """Of two who add the same instance at the same time, one creates and the other changes it."""
        one = self.instances.add("foo", "w1", max_concurrency=2)
        other = self.instances.add("foo", "w1", pool="solo")
        self.branch.turn()
        self.assertEqual([self.successResultOf(asked)[0] for asked in (one, other)], [True, False])
        self.assertEqual((self.instance().max_concurrency, self.instance().pool), (2, "solo"))

    def test_bus_away(self) -> None:
        """While the bus is away nothing is placed, but what this branch has obeys and can be read."""
        self.add()
        self.branch.bus.stop()
        self.branch.presence.others = ("b2",)
        self.refused(BusAway, self.instances.add, "foo", "w2")
        self.refused(BusAway, self.instances.add, "foo", "w2", branch="b1")
        self.result(self.instances.disable("foo", "w1"))
        self.assertFalse(self.result(self.instances.get("foo", "w1"))["is_enabled"])

    def test_bus_away_alone(self) -> None:
        """A branch that never heard of another one does without the bus."""
        self.branch.bus.stop()
        details = self.add("w2")
        self.assertEqual(details["branch"], "b1")
        self.branch.declare(Instance(name="w3", app="foo", branch="b2"))
        self.refused(BusAway, self.instances.add, "foo", "w4")

    def test_delete(self) -> None:
        """A deleted instance leaves a tombstone with its broker, and its name is free."""
        self.add()
        self.result(self.instances.delete("foo", "w1"))
        (tombstone,) = self.catalogue.tombstones("instance")
        assert isinstance(tombstone, Instance)
        self.assertEqual((tombstone.name, tombstone.broker), ("w1", DEFAULT))
        failed = self.branch.actors.call("Instance", "w1", "get")
        self.failureResultOf(failed, NoRoute)
        self.assertIsNone(self.add()["arguments"])
        self.assertIsNone(self.instance().broker)

    def test_restart(self) -> None:
        """Each restart counts the generation up."""
        self.add()
        for generation in (1, 2):
            self.result(self.instances.restart(None, "w1"))
            self.assertEqual(self.instance().generation, generation)

    def test_enable(self) -> None:
        """To disable and to enable is to change the declaration, once."""
        self.add()
        writes: list[tuple[Declaration, ...]] = []
        self.catalogue.subscribe(writes.append)
        for verb, enabled in ((self.instances.disable, False), (self.instances.enable, True)):
            for _ in "twice":
                self.result(verb("foo", "w1"))
                self.assertIs(self.instance().is_enabled, enabled)
        self.assertEqual(len(writes), 2)

    def test_another_apps_instance(self) -> None:
        """No verb reaches an instance through another app."""
        self.add()
        self.result(self.apps.add("bar"))
        for verb, *args in (
            (self.instances.get,),
            (self.instances.delete,),
            (self.instances.restart,),
            (self.instances.stats,),
            (self.instances.autoscale,),
            (self.instances.set_autoscale,),
            (self.instances.log,),
            (self.instances.dump,),
            (self.instances.consumers,),
            (self.instances.consume, "q"),
            (self.instances.cancel, "q"),
        ):
            error = self.refused(NoSuchInstance, verb, "bar", "w1", *args)
            self.assertEqual(error.arguments, ("w1", "bar"))

    def test_started_with_instances(self) -> None:
        """A branch that starts with instances in its store answers for them."""
        self.add()
        self.branch.actors.stop()
        again = Branch(self, self.clock)
        again.store.rows.update(self.branch.store.rows)
        again.start()
        self.result(again.controller.instances.restart("foo", "w1"))
        instance = again.catalogue.instance("w1")
        assert instance is not None
        self.assertEqual(instance.generation, 1)


class WorkersTests(ControllerTestCase):
    """Verbs that speak with the worker."""

    def setUp(self) -> None:
        super().setUp()
        self.result(self.queues.add("foo", "tasks"))
        self.add()

    def test_stats(self) -> None:
        """What the worker says of itself comes under `stats`, behind the details."""
        self.supervisor.answers["w1", "stats"] = {"total": {"t": 1}}
        stats = self.result(self.instances.stats("foo", "w1"))
        self.assertEqual(stats.pop("stats"), {"total": {"t": 1}})
        self.assertEqual(stats, self.result(self.instances.get("foo", "w1")))

    def test_stats_silent(self) -> None:
        """A silent worker has no statistics; one that does not run is not asked."""
        self.assertIsNone(self.result(self.instances.stats("foo", "w1"))["stats"])
        self.supervisor.statuses["w1"] = {"pid": None}
        self.assertIsNone(self.result(self.instances.stats("foo", "w1"))["stats"])
        self.assertEqual(self.supervisor.asked, [("w1", "stats")])

    def test_broker_away(self) -> None:
        """While the broker is away the worker can't be asked."""
        self.supervisor.failure = BrokerAway("amqp://host//", "connection refused")
        self.refused(BrokerAway, self.instances.stats, "foo", "w1")
        self.refused(BrokerAway, self.instances.consumers, "foo", "w1")

    def test_log(self) -> None:
        """The log is its last lines."""
        self.supervisor.lines["w1"] = tuple(f"line {number}" for number in range(200))
        self.assertEqual(self.result(self.instances.log("foo", "w1", tail=2)), "line 198\nline 199\n")
        self.assertEqual(self.result(self.instances.log("foo", "w1")).count("\n"), 100)

    def test_log_without_lines(self) -> None:
        """An instance without a log has an empty one."""
        self.assertEqual(self.result(self.instances.log("foo", "w1")), "")

    def test_log_is_bounded(self) -> None:
        """Of a log with long lines the end is given, however it has to be escaped."""
        self.supervisor.lines["w1"] = ("\x1b" * 5_000_000, "the end")
        log = self.result(self.instances.log("foo", "w1"))
        self.assertTrue(log.endswith("the end\n"))
        self.assertEqual(len(log), 1024 * 1024)

    def test_dump(self) -> None:
        """The worker's stacks are what it prints in the time that it is given."""
        self.supervisor.stacks["w1"] = "MainThread\n..."
        self.assertEqual(self.result(self.instances.dump(None, "w1", wait=2.0)), "MainThread\n...")
        self.result(self.instances.dump("foo", "w1"))
        self.assertEqual(self.supervisor.dumped, [("w1", 2.0), ("w1", 5.0)])

    def test_no_dump(self) -> None:
        """A worker that prints nothing is told apart from one that is not there."""
        self.supervisor.stacks["w1"] = None
        self.assertIn("printed no stacks", str(self.refused(NoDump, self.instances.dump, "foo", "w1")))
        self.result(self.instances.disable("foo", "w1"))
        self.refused(NoProcess, self.instances.dump, "foo", "w1")
        for wait in (-1, 601, "5"):
            self.refused(InvalidParameter, self.instances.dump, "foo", "w1", wait=wait)

    def test_bad_tail(self) -> None:
        """The number of lines is a whole number within reason."""
        for tail in (0, -1, 10_001, "5", 1.0, True):
            self.refused(InvalidParameter, self.instances.log, "foo", "w1", tail=tail)

    def test_set_autoscale(self) -> None:
        """A range is stored, then its effect is waited for."""
        self.supervisor.hold = True
        asked = self.instances.set_autoscale("foo", "w1", max=4, wait=3.0)
        self.branch.turn()
        self.assertNoResult(asked)
        self.assertEqual(self.instances.autoscale("foo", "w1"), {"max": 4, "min": 1})
        self.assertEqual(self.supervisor.waited, [("w1", 3.0)])
        self.supervisor.release()
        self.assertEqual(self.result(asked), {"max": 4, "min": 1})

    def test_bad_autoscale(self) -> None:
        """A range that can't be is refused in the words of the caller."""
        for params in (
            {"max": 0},
            {"max": -1},
            {"min": -1},
            {"max": "4"},
            {"min": 1.5},
            {"max": 1, "min": 2},
            {"max": 10_001},
            {"max": 2, "wait": -1},
        ):
            error = self.refused(InvalidParameter, self.instances.set_autoscale, "foo", "w1", **params)
            self.assertIn(error.parameter, ("max", "min", "wait"))

    def test_consumers(self) -> None:
        """What the worker consumes from is told by queue, each as the worker declares it."""
        queues = [{"name": "dq.w1", "exchange": {"name": "dq.w1"}}, {"name": "tasks"}]
        self.supervisor.answers["w1", "active_queues"] = queues
        consumers = self.result(self.instances.consumers("foo", "w1"))
        self.assertEqual(consumers, {"dq.w1": queues[0], "tasks": queues[1]})

    def test_consumers_of_nobody(self) -> None:
        """A worker that does not run consumes from nothing; one that is silent can't tell."""
        self.refused(NoReply, self.instances.consumers, "foo", "w1")
        self.supervisor.statuses["w1"] = {"pid": None}
        self.assertEqual(self.result(self.instances.consumers("foo", "w1")), {})

    def test_consume(self) -> None:
        """A queue is tried on the broker, then stored, then its effect is waited for."""
        self.result(self.instances.consume("foo", "w1", "tasks", wait=2.0))
        self.assertEqual(self.supervisor.declared, [("w1", "tasks")])
        self.assertEqual(self.supervisor.waited, [("w1", 2.0)])
        self.assertEqual(self.instance().queues, ("tasks",))

    def test_consume_of_disabled(self) -> None:
        """For a disabled instance nothing is tried and nothing is waited for."""
        self.result(self.instances.disable("foo", "w1"))
        self.result(self.instances.consume("foo", "w1", "tasks"))
        self.assertEqual((self.supervisor.declared, self.supervisor.waited), ([], []))
        self.assertEqual(self.instance().queues, ("tasks",))

    def test_consume_refused_by_broker(self) -> None:
        """What the broker refuses is not stored."""
        for refusal in (DeclarationMismatch("tasks", "x-max-priority"), BrokerAway("amqp://h//", "no")):
            self.supervisor.refusals["tasks"] = refusal
            error = self.refused(type(refusal), self.instances.consume, "foo", "w1", "tasks")
            self.assertEqual(error.arguments, refusal.arguments)

    def test_queue_deleted_meanwhile(self) -> None:
        """A queue whose declaration is deleted while it is being tried is not consumed from."""
        trying: Deferred[None] = Deferred()
        self.patch(self.supervisor, "declare", lambda name, queue: trying)
        asked = self.instances.consume("foo", "w1", "tasks")
        self.branch.turn()
        self.result(self.queues.delete("foo", "tasks"))
        trying.callback(None)
        self.branch.turn()
        self.failureResultOf(asked, NoSuchQueue)
        self.assertEqual(self.instance().queues, ())

    def test_private_queue(self) -> None:
        """An instance's private queue can be neither added nor cancelled; another's is a queue like any."""
        for verb in (self.instances.consume, self.instances.cancel):
            self.refused(InvalidParameter, verb, "foo", "w1", "dq.w1")
        self.refused(NotConsuming, self.instances.cancel, "foo", "w1", "dq.w2")

    def test_cancel(self) -> None:
        """A cancelled queue is taken from the declaration, then its effect is waited for."""
        self.result(self.queues.add("foo", "other"))
        self.result(self.instances.add("foo", "w1", queues=["tasks", "other"]))
        self.result(self.instances.cancel("foo", "w1", "tasks", wait=2.0))
        self.assertEqual(self.instance().queues, ("other",))
        self.assertEqual(self.supervisor.waited, [("w1", 2.0)])

    def test_bad_wait(self) -> None:
        """A wait that can't be is refused before anything is done."""
        for verb in (self.instances.consume, self.instances.cancel):
            for wait in (-1, "5", 10_000.0):
                self.refused(InvalidParameter, verb, "foo", "w1", "tasks", wait=wait)
        self.assertEqual(self.supervisor.declared, [])

    def test_longer_than_a_call(self) -> None:
        """A wait that is longer than an answer usually takes is waited for all the same."""
        self.supervisor.hold = True
        asked = self.instances.consume("foo", "w1", "tasks", wait=300.0)
        self.branch.turn()
        self.clock.advance(299.0)
        self.assertNoResult(asked)
        self.supervisor.release()
        self.result(asked)


class HistoryTests(ControllerTestCase):
    """The why-log."""

    def read(self, *arguments: Any, **options: Any) -> list[Any]:
        return list(self.result(self.controller.events.read(*arguments, **options)))

    def test_declarations(self) -> None:
        """Every change of a declaration is an event that says what holds now, and no secret."""
        self.result(self.apps.add("bar", broker="amqp://me:hidden@h//", extra_config="k=hidden"))
        self.result(self.queues.add("foo", "tasks", routing_key="rk"))
        self.result(self.instances.add("foo", "w1", max_concurrency=3))
        self.result(self.instances.delete("foo", "w1"))
        events = self.read()
        self.assertEqual(
            [(event["kind"], event["app"], event["instance"]) for event in events],
            [
                ("app-created", "foo", None),
                ("app-created", "bar", None),
                ("queue-created", "foo", None),
                ("instance-created", "foo", "w1"),
                ("instance-deleted", "foo", "w1"),
            ],
        )
        self.assertEqual(events[3]["details"]["max_concurrency"], 3)
        self.assertEqual(events[2]["details"], {"queue": "tasks", "routing_key": "rk", "paused": False})
        self.assertNotIn("hidden", str(events))

    def test_since(self) -> None:
        """Reading goes on behind the last event that is known, for as many as are wanted."""
        for name in ("a", "b", "c"):
            self.result(self.apps.add(name))
        [first] = self.read(limit=1)
        rest = self.read(since=first["id"], limit=2)
        self.assertEqual([event["app"] for event in rest], ["a", "b"])

    def test_instance(self) -> None:
        """An instance's events are its own alone; there must be such an instance."""
        self.result(self.instances.add("foo", "w1"))
        self.result(self.instances.add("foo", "w2"))
        self.assertEqual({event["instance"] for event in self.read("foo", "w1")}, {"w1"})
        self.refused(NoSuchInstance, self.controller.events.read, "foo", "w9")

    def test_bad_bounds(self) -> None:
        """Bounds out of range are refused by name."""
        for bounds in ({"since": -1}, {"limit": 0}, {"limit": 1001}):
            self.refused(InvalidParameter, self.controller.events.read, **bounds)


class TwoBranchesTests(SynchronousTestCase):
    """A cluster of two."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        switch = Switch()
        self.here = Branch(self, self.clock, "b1", switch)
        self.there = Branch(self, self.clock, "b2", switch)
        for branch, other in ((self.here, "b2"), (self.there, "b1")):
            branch.presence.others = (other,)
            branch.start()
            branch.declare(App(name="foo"))

    def result(self, asked: Any) -> Any:
        self.clock.advance(0)
        return self.successResultOf(asked)

    def add(self) -> None:
        self.result(self.here.controller.instances.add("foo", "w1", branch="b2"))

    def test_placed(self) -> None:
        """An instance is placed on the branch that was asked for, which owns it; who asked knows it."""
        created, details = self.result(self.here.controller.instances.add("foo", "w1", branch="b2"))
        self.assertEqual((created, details["branch"]), (True, "b2"))
        self.assertIsNotNone(self.there.catalogue.instance("w1"))
        self.assertEqual(self.here.catalogue.instance("w1"), self.there.catalogue.instance("w1"))

    def test_spread(self) -> None:
        """Instances that are for any branch spread over all."""
        branches = {
            self.result(self.here.controller.instances.add("foo", None))[1]["branch"] for _ in range(2)
        }
        self.assertEqual(branches, {"b1", "b2"})

    def test_owner_is_asked(self) -> None:
        """How an instance is, only its owner says."""
        self.add()
        self.there.supervisor.running = "unresponsive"
        details = self.result(self.here.controller.instances.get("foo", "w1"))
        self.assertEqual(details["state"], "unresponsive")

    def test_owner_changes(self) -> None:
        """What is asked of an instance, its owner does."""
        self.add()
        self.result(self.here.controller.instances.restart("foo", "w1"))
        self.result(self.here.controller.instances.add("foo", "w1", pool="solo"))
        theirs, ours = (branch.catalogue.instance("w1") for branch in (self.there, self.here))
        assert theirs is not None and ours is not None
        self.assertEqual((theirs.generation, theirs.pool), (1, "solo"))
        self.assertEqual(ours, theirs)

    def test_owner_refuses(self) -> None:
        """A refusal of the owner arrives as what it is."""
        self.add()
        asked = self.here.controller.instances.consume("foo", "w1", "nothing")
        self.clock.advance(0)
        self.failureResultOf(asked, NoSuchQueue)

    def test_events(self) -> None:
        """What happened to an instance its owner tells, whoever is asked; also as it happens."""
        self.add()
        told = self.there.events
        told.record("worker-started", instance="w1", who="supervisor")
        told.record("worker-started", instance="w2", who="supervisor")
        told.record("worker-ready", instance="w1", who="supervisor")
        events = self.result(self.here.controller.events.read("foo", "w1", since=0, limit=10))
        kinds = [one["kind"] for one in events]
        self.assertEqual(kinds[-2:], ["worker-started", "worker-ready"])
        more = self.result(self.here.controller.events.read("foo", "w1", since=events[-2]["id"]))
        self.assertEqual([one["kind"] for one in more], ["worker-ready"])
        heard: list[Any] = []
        following = self.result(
            self.here.controller.events.follow(
                "foo", "w1", since=events[-2]["id"], deliver=heard.append, failed=self.fail
            )
        )
        following.resume()
        told.record("worker-ended", instance="w1", who="supervisor")
        for _ in range(3):
            self.clock.advance(LOOK_EVERY)
            self.clock.advance(0)
            self.clock.advance(0)
        self.assertEqual([one["kind"] for one in heard], ["worker-ready", "worker-ended"])
        following.stop()
        self.clock.advance(LOOK_EVERY)
        self.clock.advance(LOOK_EVERY)
        future = self.here.controller.events.follow(
            "foo", "w1", since=99, deliver=heard.append, failed=self.fail
        )
        self.clock.advance(0)
        self.failureResultOf(future, InvalidParameter)

    def test_just_deleted(self) -> None:
        """An instance that its owner has just deleted is not there, and its branch not away."""
        self.add()
        self.there.declare(evolve(Instance(name="w1", app="foo", branch="b2"), deleted=True))
        asked = self.here.controller.instances.restart("foo", "w1")
        self.clock.advance(0)
        self.failureResultOf(asked, NoSuchInstance)

    def test_lost(self) -> None:
        """An instance whose branch is away is shown as declared, and lost; it takes no command."""
        self.add()
        self.there.actors.stop()
        details = self.result(self.here.controller.instances.get("foo", "w1"))
        self.assertEqual((details["state"], details["branch"], details["pid"]), ("lost", "b2", None))
        known = self.here.supervisor.status(Instance(name="w1", app="foo", branch="b2"))
        self.assertEqual(set(known) - set(details), set())
        self.assertIn("is away since 1970-01-12T", details["problems"][0])
        self.failureResultOf(self.here.controller.instances.restart("foo", "w1"), BranchAway)

    def test_frozen(self) -> None:
        """A branch that does not answer is waited for until the deadline."""
        self.add()
        self.there.bus._receive = lambda body: Deferred()
        asked = self.here.controller.instances.get("foo", "w1")
        self.clock.advance(59.0)
        self.assertNoResult(asked)
        self.clock.advance(1.0)
        self.failureResultOf(asked, NoReply)

    def test_quicker_branch(self) -> None:
        """A placement that finds the instance on another branch makes no second one, but changes that."""
        self.add()
        work = {"instance": "w1", "app": "foo", "generated": "x", "wait": 0.0, "pool": "solo"}
        details = self.result(self.there.actors.call("Branch", "b1", "place", **work))
        self.assertEqual((details["branch"], details["pool"], details["created"]), ("b2", "solo", False))
        self.there.actors.stop()
        asked = self.here.actors.call("Branch", "b1", "place", **work)
        self.clock.advance(0)
        self.failureResultOf(asked, NoRoute)


class LogTests(ControllerTestCase):
    """What the log says, in the words of the product document."""

    def setUp(self) -> None:
        super().setUp()
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def lines(self) -> list[str]:
        return [
            formatEvent(event) for event in self.events if event["log_namespace"] == "cyme.narration.Narrator"
        ]

    def test_add(self) -> None:
        """A new instance is announced, and then shown, as in the product document."""
        name = self.add(None)["name"]
        asked, answered = self.lines()
        self.assertEqual(asked, "{b1} --> Instance.add(name=None)")
        self.assertTrue(
            answered.startswith(f"{{b1}} <-- ok={{'is_enabled': True, 'name': '{name}', "), answered
        )

    def test_verbs(self) -> None:
        """Every change is announced by its verb, its name and what was given."""
        self.add("w1", max_concurrency=2, wait=1.0)
        self.result(self.apps.add("bar", pool="solo"))
        self.result(self.queues.add("foo", "tasks", exchange="e"))
        self.result(self.instances.consume("foo", "w1", "tasks"))
        self.result(self.instances.set_autoscale("foo", "w1", max=3))
        self.result(self.instances.delete("foo", "w1"))
        self.result(self.queues.delete("foo", "tasks"))
        self.result(self.apps.delete("foo"))
        announced = [line.partition("--> ")[2] for line in self.lines() if "-->" in line]
        self.assertEqual(
            announced,
            [
                "Instance.add(name='w1', max_concurrency=2)",
                "App.add(name='bar', pool='solo')",
                "Queue.add(name='tasks', exchange='e')",
                "Instance.consume(name='w1', queue='tasks')",
                "Instance.autoscale(name='w1', max=3, min=None)",
                "Instance.delete(name='w1')",
                "Queue.delete(name='tasks')",
                "App.delete(name='foo')",
            ],
        )

    def test_refusal(self) -> None:
        """A refusal of the owner is logged."""
        self.add()
        self.refused(NotConsuming, self.instances.cancel, "foo", "w1", "q")
        self.assertTrue(any(re.match(r"\{b1\} <-- nok=NotConsuming: ", line) for line in self.lines()))

    def test_secrets(self) -> None:
        """No password comes into the log, in none of its forms."""
        secret = "Tr0ub4dor"
        self.result(self.apps.add("bar", hostname="h", userid="u", password=secret))
        self.result(self.instances.add("bar", "w1", broker=f"amqp://u:{secret}@h:5672//", wait=1.0))
        self.result(self.instances.add("bar", "w2", hostname="h", password=secret))
        self.result(self.instances.stats("bar", "w1"))
        self.result(
            self.apps.add("bar", extra_config=f"result_backend=redis://:{secret}@h/0", arguments="-E")
        )
        self.assertTrue(len(self.lines()) >= 10)
        for event in self.events:
            self.assertNotIn(secret, formatEvent(event))
