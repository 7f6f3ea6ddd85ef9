"""Changes of declarations as events: what changed, and who asked, whatever lies between."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest

from cyme.access.tokenfile import TokenFile
from cyme.api.access import asker_of
from cyme.api.site import Limits, make_site
from cyme.asking import CONTROLLER, Asker, asked_by, asker
from cyme.bus.local import Switch
from cyme.catalogue import Catalogue
from cyme.controller.changes import Changes
from cyme.declarations import App, Instance, Queue, Version
from tests.fakes.events import FakeEvents
from tests.fakes.store import MemoryStore
from tests.support.httpmemory import request
from tests.unit.test_controller import Branch, started_branch

ANNE = Asker("http 192.0.2.7")
BOB = Asker("http 192.0.2.8")
FOO = App(name="foo")
W1 = Instance(name="w1", app="foo", branch="b1")


def told(events: FakeEvents) -> list[tuple[str, str]]:
    """The kind of each event, and who asked."""
    return [(one.kind, one.who) for one in events.recorded]


class AskingTests(SynchronousTestCase):
    """Who asks for what is done now."""

    def test_nobody(self) -> None:
        """What nobody said is Python code that calls the controller."""
        self.assertEqual(asker(), CONTROLLER)

    def test_within(self) -> None:
        """Who asked is known to all that is called within, and to nobody behind it, also on failure."""

        def fail() -> None:
            with asked_by(ANNE):
                with asked_by(BOB):
                    self.assertEqual(asker(), BOB)
                self.assertEqual(asker(), ANNE)
                raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, fail)
        self.assertEqual(asker(), CONTROLLER)

    def test_coroutine(self) -> None:
        """A coroutine keeps who asked for it, whoever lets it go on."""
        wait: Deferred[None] = Deferred()

        async def work() -> Asker:
            await wait
            return asker()

        with asked_by(ANNE):
            working = Deferred.fromCoroutine(work())
        with asked_by(BOB):
            wait.callback(None)
        self.assertEqual(self.successResultOf(working), ANNE)


class ChangesTests(SynchronousTestCase):
    """Changes as the catalogue tells them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.store = MemoryStore()
        self.catalogue, self.events = self.begin()

    def begin(self) -> tuple[Catalogue, FakeEvents]:
        """A life of the branch."""
        catalogue, events = Catalogue(self.clock, self.store, "b1"), FakeEvents()
        Changes(catalogue, events, "b1")
        self.successResultOf(catalogue.load())
        return catalogue, events

    def change(self, *declarations: Any) -> None:
        self.successResultOf(self.catalogue.change(lambda: declarations))

    def details(self) -> Any:
        return self.events.recorded[-1].document()["details"]

    def test_kinds(self) -> None:
        """What is new, what changed and what is gone are told apart; what stays is not told."""
        queue = Queue(app="foo", name="q", options='{"durable": true}')
        self.change(FOO, queue, W1)
        self.change(FOO, evolve(queue, routing_key="r"), evolve(W1, generation=1))
        self.change(FOO)
        self.change(evolve(W1, deleted=True), evolve(queue, deleted=True), evolve(FOO, deleted=True))
        self.assertEqual(
            [kind for kind, _ in told(self.events)],
            [
                *("app-created", "queue-created", "instance-created"),
                *("queue-changed", "instance-changed"),
                *("instance-deleted", "queue-deleted", "app-deleted"),
            ],
        )
        self.assertEqual(self.events.recorded[3].document()["details"]["queue"], "q")

    def test_fields(self) -> None:
        """A change is told by the fields that changed, before and after, and no others."""
        self.change(FOO, W1)
        self.change(evolve(W1, max_concurrency=4, queues=("a",), pool="threads"))
        self.assertEqual(
            self.details(),
            {
                "changed": ["queues", "max_concurrency", "pool"],
                "before": {"queues": [], "max_concurrency": 1, "pool": None},
                "after": {"queues": ["a"], "max_concurrency": 4, "pool": "threads"},
            },
        )

    def test_secrets(self) -> None:
        """A broker is told without its password; what may hold any secret is only named."""
        self.change(evolve(FOO, broker="amqp://me:s3cret@h//", arguments="--x s3cret"))
        self.change(evolve(FOO, broker="redis://:s3cret@h/1?password=s3cret", extra_config="a=s3cret"))
        self.assertEqual(self.details()["changed"], ["broker", "arguments", "extra_config"])
        self.assertEqual(self.details()["before"], {"broker": "amqp://me:***@h//"})
        self.assertNotIn("s3cret", str(self.events.recorded))

    def test_start(self) -> None:
        """What a branch finds in its database when it starts is no change; a person's is."""
        self.change(FOO, W1)
        self.store.rows["app", "bar"] = App(name="bar")
        self.catalogue, self.events = self.begin()
        self.assertEqual(told(self.events), [("app-created", "database")])
        self.change(evolve(W1, max_concurrency=2))
        self.assertEqual(told(self.events)[1:], [("instance-changed", "controller")])

    def test_by_hand(self) -> None:
        """What a person changed in the database is told with its fields, as the database's doing."""
        self.change(FOO, W1)
        self.store.rows["instance", "w1"] = evolve(self.catalogue.instances()[0], max_concurrency=3)
        with asked_by(ANNE):
            self.successResultOf(self.catalogue.refresh())
        self.assertEqual(told(self.events)[2:], [("instance-changed", "database")])
        self.assertEqual(self.details()["after"], {"max_concurrency": 3})

    def test_merged(self) -> None:
        """What another branch wrote and sent is told as its doing."""
        self.successResultOf(self.catalogue.merge([evolve(FOO, version=Version(1 << 60, "b2"))]))
        self.assertEqual(told(self.events), [("app-created", "branch b2")])

    def test_shared_database(self) -> None:
        """What another branch wrote into a shared database was told there, and is not told again."""
        self.store.rows["app", "foo"] = evolve(FOO, version=Version(1 << 60, "b2"))
        self.successResultOf(self.catalogue.refresh())
        self.assertIsNotNone(self.catalogue.app("foo"))
        self.assertEqual(told(self.events), [])

    def test_side_by_side(self) -> None:
        """Of changes that wait for each other, each is told as its own asker's."""
        saves: list[Deferred[None]] = []

        def save(declarations: Any) -> Deferred[None]:
            saves.append(Deferred())
            return saves[-1]

        self.store.save = save  # type: ignore[method-assign]
        for someone, app in ((ANNE, "a"), (BOB, "b"), (ANNE, "c")):
            with asked_by(someone):
                self.catalogue.change(lambda app=app: [App(name=app)])  # type: ignore[misc]
        while saves:
            saves.pop(0).callback(None)
        self.assertEqual([who for _, who in told(self.events)], [ANNE.who, BOB.who, ANNE.who])


class ClientTests(SynchronousTestCase):
    """How HTTP clients are named."""

    def test_addresses(self) -> None:
        """A client is named by its address; one on a Unix socket has none."""
        for address, who in (
            (IPv4Address("TCP", "192.0.2.7", 5), "http 192.0.2.7"),
            (IPv6Address("TCP", "2001:db8::7", 5), "http 2001:db8::7"),
            (UNIXAddress(None), "http unix"),
            (None, "http"),
        ):
            client = DummyRequest([b""])
            client.getClientAddress = lambda address=address: address  # type: ignore[method-assign, misc]
            self.assertEqual(asker_of(client), Asker(who))  # type: ignore[arg-type]


class WayTests(SynchronousTestCase):
    """From where something is asked to where it is done."""

    def test_http(self) -> None:
        """What was asked for over HTTP names the client's address, in each verb and on every thing."""
        branch = started_branch(self)
        site = make_site(
            branch.clock,
            branch.controller,
            limits=Limits(request_body=1000), tokens=TokenFile(None),
            allowed_origins=(),
            check_host=True,
            readiness=dict,
        )
        for method, target in (
            ("PUT", "/foo/"),
            ("PUT", "/foo/queues/q/"),
            ("PUT", "/foo/instances/w1/?queues=q"),
            ("POST", "/foo/instances/w1/restart/"),
            ("POST", "/foo/instances/!/w1/disable/"),
            ("DELETE", "/foo/queues/q/"),
            ("DELETE", "/foo/"),
        ):
            self.assertLess(request(site, method, target).status, 300, target)
        self.assertEqual({who for _, who in told(branch.events)}, {"http 192.0.2.1"})
        self.assertEqual(len(branch.events.recorded), 9)

    def test_python(self) -> None:
        """What Python code asked for names the controller."""
        branch = started_branch(self)
        self.successResultOf(branch.controller.apps.add("foo"))
        added = branch.controller.instances.add("foo", "w1")
        branch.turn()
        self.successResultOf(added)
        self.assertEqual({who for _, who in told(branch.events)}, {"controller"})

    def test_elsewhere(self) -> None:
        """The owner's why-log names who asked another branch, and which."""
        clock = Clock()
        clock.advance(1_000_000)
        switch = Switch()
        here, there = (Branch(self, clock, name, switch) for name in ("b1", "b2"))
        for branch, other in ((here, "b2"), (there, "b1")):
            branch.presence.others = (other,)
            branch.start()
            branch.declare(FOO)
        with asked_by(ANNE):
            asked = here.controller.instances.add("foo", "w1", branch="b2")
        clock.advance(0)
        self.successResultOf(asked)
        event = there.events.recorded[-1]
        self.assertEqual((event.kind, event.who), ("instance-created", ANNE.who))
        self.assertEqual(event.document()["details"]["asked_at"], "b1")
