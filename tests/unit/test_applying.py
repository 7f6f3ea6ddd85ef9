"""`cyme apply`: what a file may say, what has to be done then, and that it is done once."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cyme.client import Client
from cyme.commands.applying.command import as_json, carry_out, described, world_of
from cyme.commands.applying.files import BadFile, Cluster, Wanted, WantedApp, read
from cyme.commands.applying.plan import ActualApp, Step, plan, same_broker, without_password
from tests.support.memoryclient import MemoryTransport

CLUSTER = """
apps:
  shop:
    celery_app: proj.celery:app
    max_memory: 1.5G
    queues:
      tasks:
      mail: {exchange: mail, exchange_type: topic, routing_key: "mail.#", paused: true}
    instances:
      mailer: {queues: [mail]}
      web: {count: 2, queues: "tasks,mail", max_concurrency: 4}
  foo:
"""


class FileTests(SynchronousTestCase):
    """What a file says."""

    def test_read(self) -> None:
        """Apps, queues and groups of instances come out, with sizes and lists read."""
        cluster = read(CLUSTER)
        shop = cluster["shop"]
        self.assertEqual(shop.fields, {"celery_app": "proj.celery:app", "max_memory": 3 << 29})
        self.assertEqual(list(shop.queues), ["tasks", "mail"])
        self.assertEqual(list(shop.instances), ["mailer", "web-1", "web-2"])
        self.assertEqual(shop.instances["web-2"].fields, {"queues": ["tasks", "mail"], "max_concurrency": 4})
        self.assertEqual((shop.groups, cluster["foo"]), ({"web": 2}, WantedApp()))

    def test_empty(self) -> None:
        """A file may declare nothing."""
        self.assertEqual((read(""), read("apps:")), ({}, {}))

    def test_refused(self) -> None:
        """What can't be is refused with its place."""
        cases = {
            "a: [": "line",
            "- a": "the file: takes fields, a list stands there",
            "x: 1": "the file: 'x' is not known there; it takes apps",
            "apps: {foo: {pol: solo}}": "apps.foo: 'pol' is not known there",
            "apps: {foo: {pool: 3}}": "apps.foo.pool: takes text; write 3 in quotes",
            "apps: {1: {}}": "apps: 1 is no name",
            "apps: {foo: {}, foo: {}}": "line 1: 'foo' stands there twice",
            "apps: {foo: {queues: {q: {paused: 3}}}}": "apps.foo.queues.q.paused: takes true or false",
            "apps: {foo: {queues: {q: {options: x}}}}": "apps.foo.queues.q.options: takes fields",
            "apps: {foo: {instances: {w: {queues: [q]}}}}": "the app declares no queue 'q'",
            "apps: {foo: {instances: {w: {count: -1}}}}": "count: takes a whole number",
            "apps: {foo: {instances: {w: {count: 99999}}}}": "count: takes at most 10000",
            "apps: {foo: {instances: {w: {count: 2}, w-2: {}}}}": "'w-2' is declared twice",
            "apps: {foo: {instances: {w: }}, bar: {instances: {w: }}}": "is in app 'foo', too",
            "apps: {foo: {broker: a, hostname: b}}": "broker and hostname can't stand together",
            "apps: {foo: {max_memory: lots}}": "apps.foo.max_memory: takes a number of bytes",
            "apps: {foo: {arguments: ''}}": "apps.foo.arguments: must not be empty",
            "apps: {foo: {max_age: soon}}": "takes a number of seconds",
        }
        for text, words in cases.items():
            self.assertIn(words, str(self.assertRaises(BadFile, read, text)), text)


def world(**apps: ActualApp) -> dict[str, ActualApp]:
    return apps


def steps_of(cluster: Cluster, actual: Any, **options: Any) -> list[str]:
    return [step.sentence() for step in plan(cluster, actual, **options)]


class PlanTests(SynchronousTestCase):
    """What has to be done."""

    def test_from_nothing(self) -> None:
        """Apps come before their queues, queues before the instances that consume from them."""
        self.assertEqual(
            steps_of(read(CLUSTER), {}),
            [
                "create app shop",
                "create queue tasks of app shop",
                "create queue mail of app shop",
                "pause queue mail of app shop",
                "create instance mailer of app shop",
                "create instance web-1 of app shop",
                "create instance web-2 of app shop",
                "create app foo",
            ],
        )

    def test_table(self) -> None:
        """Each difference is a step; what the file does not say is none."""
        info = {"name": "w", "queues": ["b", "a"], "max_concurrency": 1, "arguments": "-l  info"}
        cases: list[tuple[WantedApp, ActualApp, list[str]]] = [
            (WantedApp({"pool": "solo"}), ActualApp({"pool": "solo"}), []),
            (WantedApp({"pool": "solo"}), ActualApp({"pool": None}), ["change app foo"]),
            (WantedApp({"max_age": 0}), ActualApp({"max_age": None}), []),
            (WantedApp(), ActualApp({"pool": "solo"}), []),
            (
                WantedApp(instances={"w": Wanted({"queues": ["a", "b"], "arguments": "-l 'info'"})}),
                ActualApp(instances={"w": info}),
                [],
            ),
            (
                WantedApp(instances={"w": Wanted({"max_concurrency": 2, "branch": "b9", "label": ["a=b"]})}),
                ActualApp(instances={"w": info}),
                ["change instance w of app foo"],
            ),
            (
                WantedApp(queues={"q": Wanted({"routing_key": "x"})}),
                ActualApp(queues={"q": {"routing_key": None, "paused": True}}),
                ["change queue q of app foo"],
            ),
            (
                WantedApp(queues={"q": Wanted({"paused": False})}),
                ActualApp(queues={"q": {"paused": True}}),
                ["resume queue q of app foo"],
            ),
            (
                WantedApp(instances={"w-1": Wanted()}, groups={"w": 1}),
                ActualApp(instances={"w-1": {}, "w-2": {}, "w-x": {}, "x-2": {}, "w-02": {}}),
                ["delete instance w-2 of app foo"],
            ),
            (WantedApp(), ActualApp(queues={"q": {}}, instances={"w": {}}), []),
        ]
        for wanted, actual, expected in cases:
            self.assertEqual(steps_of({"foo": wanted}, {"foo": actual}), expected)

    def test_prune(self) -> None:
        """With `prune` what is not declared goes, instances before queues; other apps stay."""
        actual = world(foo=ActualApp(queues={"q": {}}, instances={"w": {}}))
        self.assertEqual(
            steps_of({"foo": WantedApp()}, actual, prune=True),
            ["delete instance w of app foo", "delete queue q of app foo"],
        )

    def test_brokers(self) -> None:
        """A broker is the same in all its spellings, and another one with another password."""

        def there(url: str, password: str | None) -> dict[str, Any]:
            return {"url": without_password(url), "password": password}

        guest = there("amqp://guest:guest@h:5672//", "guest")
        for url in ("amqp://h", "amqp://h//", "amqp://guest:guest@h:5672/%2F", "amqp://guest@h/"):
            self.assertTrue(same_broker(url, guest), url)
        for url in ("amqp://h2", "amqp://h:5673", "amqp://h/other", "amqp://u:p@h", "redis://h"):
            self.assertFalse(same_broker(url, guest), url)
        secret = there("redis://:s3@h:6379/3", "s3")
        self.assertTrue(same_broker("redis://:s3@h/3", secret))
        self.assertFalse(same_broker("redis://:other@h/3", secret))
        self.assertTrue(same_broker("redis://:other@h/3", there("redis://:s3@h/3", None)))

    def test_secrets(self) -> None:
        """No password is in what is printed of a plan, for people or programs."""
        cluster = {
            "a": WantedApp({"broker": "amqp://me:s3cret@h//?password=s3cret"}),
            "b": WantedApp({"hostname": "h", "password": "s3cret"}),
        }
        actual = world(b=ActualApp({"broker": {"hostname": "h", "password": "s3cret2", "url": "amqp://h"}}))
        steps = plan(cluster, actual)
        self.assertEqual([step.name for step in steps], ["a", "b"])
        self.assertNotIn("s3cret", "\n".join(described(steps, True)) + str(as_json(steps)))
        self.assertEqual(steps[1].parameters, {"hostname": "h", "password": "s3cret"})

    def test_described(self) -> None:
        """A plan shows each field of a change, before and after."""
        step = Step(
            verb="change",
            kind="app",
            app="foo",
            name="foo",
            changes={"pool": (None, "solo"), "max_age": (1, 2)},
        )
        lines = described([step], False)
        self.assertIn("~ change app foo", lines[0])
        self.assertEqual(lines[1:], ["    pool: solo", "    max_age: 1 -> 2"])


NAMES = st.sampled_from(["a", "b", "c"])
QUEUES = st.dictionaries(
    st.sampled_from(["q", "r", "s t"]),
    st.fixed_dictionaries(
        {},
        optional={
            "exchange": st.sampled_from(["x", "y"]),
            "exchange_type": st.sampled_from(["direct", "topic"]),
            "options": st.sampled_from([{}, {"durable": True}]),
            "paused": st.booleans(),
        },
    ),
)
START = {
    "pool": st.sampled_from(["solo", "prefork"]),
    "arguments": st.sampled_from(["-l info", "-l  'info'"]),
    "extra_config": st.sampled_from(["worker.a=b"]),
    "max_memory": st.sampled_from([0, 1 << 30]),
    "max_age": st.sampled_from([0, 60, 60.5]),
    "broker": st.sampled_from(["redis://:pw@h/3", "amqp://h", "redis://:other@h/3"]),
}


@st.composite
def apps(draw: Any, prefix: str) -> WantedApp:
    queues = draw(QUEUES)
    fields = st.fixed_dictionaries(
        {},
        optional={
            **START,
            "is_enabled": st.just(False),
            "max_concurrency": st.integers(2, 4),
            "min_concurrency": st.integers(0, 1),
            "queues": st.lists(st.sampled_from(sorted(queues)), unique=True) if queues else st.just([]),
        },
    )
    named = draw(st.dictionaries(NAMES, fields, max_size=2))
    instances = {f"{prefix}{name}": Wanted(value) for name, value in named.items()}
    count = draw(st.integers(0, 3))
    told = Wanted(draw(fields))
    instances.update({f"{prefix}g-{number}": told for number in range(1, count + 1)})
    start = draw(st.fixed_dictionaries({}, optional=START))
    return WantedApp(
        start, {name: Wanted(value) for name, value in queues.items()}, instances, {f"{prefix}g": count}
    )


@st.composite
def clusters(draw: Any) -> Cluster:
    return {name: draw(apps(name)) for name in draw(st.lists(st.sampled_from(["foo", "bar"]), unique=True))}


class ApplyingTests(SynchronousTestCase):
    """Plans that are carried out, on a branch in memory with the real API."""

    def apply(self, client: Client, cluster: Cluster, prune: bool) -> int:
        steps = plan(cluster, world_of(client, cluster), prune=prune)
        for step in steps:
            carry_out(client, step, None)
        return len(steps)

    @given(first=clusters(), second=clusters(), prune=st.booleans())
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    def test_twice(self, first: Cluster, second: Cluster, prune: bool) -> None:
        """Whatever was there, once a plan is carried out there is nothing left to do."""
        client = Client("http://127.0.0.1:8000", transport=MemoryTransport(self))
        for cluster in (first, second):
            self.apply(client, cluster, prune)
            self.assertEqual(plan(cluster, world_of(client, cluster), prune=prune), [])
            for name, app in cluster.items():
                actual = world_of(client, cluster)[name]
                found = (set(actual.queues), set(actual.instances))
                wanted = (set(app.queues), set(app.instances))
                if prune:
                    self.assertEqual(found, wanted)
                else:
                    self.assertLessEqual(wanted[0], found[0])
                    self.assertLessEqual(wanted[1], found[1])
