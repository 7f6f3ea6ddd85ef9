"""Metrics: what is told of a branch, and what is no more."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import evolve
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import cyme
from cyme.catalogue import Catalogue
from cyme.declarations import App, Instance, Queue
from cyme.events import Event
from cyme.metrics.facts import Facts
from cyme.metrics.measures import Measures
from cyme.metrics.restarts import Restarts
from cyme.metrics.scraping import LOOKS_AT_ONCE, Scraper
from tests.fakes.remote import FakeRemoteControl
from tests.fakes.store import MemoryStore
from tests.fakes.supervisor import FakeSupervisor

ETC = Path(cyme.__file__).parent.parent / "etc"
BROKER = "redis://me:s3cret@b//"
RESOURCES = {"rss": 1000, "cpu_seconds": 2.5, "processes": 3, "open_files": None}


class Presence:
    """Three branches, one of which is away."""

    def members(self) -> tuple[str, ...]:
        return ("b1", "b2")

    def known(self) -> tuple[str, ...]:
        return ("b1", "b2", "b3")


class Bus:
    """A bus that has sent something."""

    connected = True
    counts = {"sent": 7, "dropped": 1}


class Statuses(FakeSupervisor):
    """A supervisor whose instances are as a test says.

    :ivar changes: name -> keys of a status.
    """

    def __init__(self) -> None:
        super().__init__()
        self.changes: dict[str, dict[str, Any]] = {}

    def status(self, instance: Instance) -> Any:
        return {**super().status(instance), **self.changes.get(instance.name, {})}


def event(kind: str, name: str = "w1", **details: Any) -> Event:
    return Event(
        at=0.0, branch="b1", app="foo", instance=name, kind=kind, who="x", details=json.dumps(details)
    )


class MetricsCase(SynchronousTestCase):
    """A branch that can be scraped."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.catalogue = Catalogue(self.clock, MemoryStore(), "b1")
        self.successResultOf(self.catalogue.load())
        self.supervisor = Statuses()
        self.remote = FakeRemoteControl(self.clock)
        self.bus = Bus()
        self.measures, self.restarts = Measures(), Restarts()
        self.queues: dict[tuple[str, str], tuple[int, int]] = {}
        self.problem: str | None = None
        self.threads: list[Callable[[], bytes]] = []
        facts = Facts(
            branch_id="b1",
            version="1.2",
            catalogue=self.catalogue,
            remote=self.remote,
            presence=Presence(),
            bus=self.bus,
            default_broker=lambda: BROKER,
            redacted=lambda url: url.replace("s3cret", "***"),
            queues=lambda: self.queues,
            lag=lambda: 4.5,
            database_problem=lambda: self.problem,
        )
        self.facts = facts
        self.scraper = Scraper(
            clock=self.clock,
            catalogue=self.catalogue,
            supervisor=self.supervisor,
            branch_id="b1",
            measures=self.measures,
            restarts=self.restarts,
            known=facts.known,
            in_thread=self.in_thread,
        )
        self.declare(App(name="foo"), Queue(app="foo", name="q"), Instance(name="w1", app="foo", branch="b1"))

    def in_thread(self, function: Callable[[], bytes]) -> Deferred[bytes]:
        self.threads.append(function)
        return succeed(function())

    def declare(self, *declarations: Any) -> None:
        self.successResultOf(self.catalogue.change(lambda: declarations))

    def scrape(self) -> dict[tuple[str, ...], float]:
        """All samples: (name, label values in the order of the labels' names) -> value."""
        scraping = self.scraper.text()
        for _ in range(100):
            self.clock.advance(0)
        found = {}
        for family in text_string_to_metric_families(self.successResultOf(scraping).decode()):
            self.assertTrue(family.documentation, family.name)
            for sample in family.samples:
                values = tuple(value for _, value in sorted(sample.labels.items()))
                key = (sample.name, *values)
                found[key] = sample.value
        return found


class InstanceTests(MetricsCase):
    """What is told of instances."""

    def test_values(self) -> None:
        """Each instance of this branch is told as it is declared and as it is; of others nothing is."""
        self.supervisor.changes["w1"] = {"state": "running", "resources": RESOURCES, "started_at": 5.0}
        self.declare(
            Instance(name="w2", app="foo", branch="b1", is_enabled=False),
            Instance(name="w3", app="foo", branch="b2"),
        )
        self.supervisor.changes["w2"] = {"state": "disabled", "resources": None, "started_at": None}
        found = self.scrape()
        for name, value in (
            ("up", 1),
            ("desired", 1),
            ("memory_bytes", 1000),
            ("cpu_seconds_total", 2.5),
            ("processes", 3),
            ("start_time_seconds", 5),
        ):
            self.assertEqual(found[f"cyme_instance_{name}", "foo", "w1"], value, name)
        for name in ("up", "desired"):
            self.assertEqual(found[f"cyme_instance_{name}", "foo", "w2"], 0, name)
        for absent in ("memory_bytes", "start_time_seconds", "open_files"):
            self.assertNotIn((f"cyme_instance_{absent}", "foo", "w2"), found)
        self.assertNotIn(("cyme_instance_open_files", "foo", "w1"), found)
        self.assertEqual([key for key in found if "w3" in key], [])
        self.assertEqual((found["cyme_instances", "running"], found["cyme_instances", "disabled"]), (1, 1))

    def test_ends(self) -> None:
        """The series of what is deleted end, restarts too."""
        self.restarts.written([event("ended", reason="crashed"), event("started")])
        self.assertEqual(self.scrape()["cyme_instance_restarts_total", "foo", "w1", "crashed"], 1)
        instance = self.catalogue.instance("w1")
        assert instance is not None
        self.declare(evolve(instance, deleted=True))
        self.assertEqual([key for key in self.scrape() if "w1" in key], [])
        self.declare(evolve(instance, deleted=False))
        self.assertNotIn(("cyme_instance_restarts_total", "foo", "w1", "crashed"), self.scrape())

    def test_restarts(self) -> None:
        """A restart counts under the reason of the end before it; a first start is none."""
        self.restarts.written([event("started"), event("running"), event("ended", reason="crashed")])
        self.restarts.written([event("started"), event("ended", reason="out-of-memory"), event("started")])
        self.restarts.written([event("ended"), event("started"), evolve(event("ended"), details="[")])
        self.restarts.written([event("started"), Event(at=0.0, branch="b1", kind="started", who="x")])
        # The log of the life before is read while the next one has begun.
        self.restarts.written([event("started"), event("ended", reason="stopped")])
        # This branch was not there when these workers began.
        self.restarts.written([event("adopted", "w2"), event("ended", "w2", reason="killed")])
        self.restarts.written([event("ended", "w3", reason="killed"), event("started", "w3")])
        self.declare(*[Instance(name=name, app="foo", branch="b1") for name in ("w2", "w3")])
        found = {key: value for key, value in self.scrape().items() if "restarts" in key[0]}
        name = "cyme_instance_restarts_total"
        self.assertEqual(
            found,
            {
                (name, "foo", "w1", "crashed"): 1,
                (name, "foo", "w1", "out-of-memory"): 1,
                (name, "foo", "w1", "unknown"): 2,
                (name, "foo", "w1", "stopped"): 1,
                (name, "foo", "w3", "killed"): 1,
            },
        )

    def test_many(self) -> None:
        """Many instances are looked at a part at a time, and the text is made in another thread."""
        many = [Instance(name=f"x{number}", app="foo", branch="b1") for number in range(3 * LOOKS_AT_ONCE)]
        self.declare(*many)
        scraping = self.scraper.text()
        self.assertNoResult(scraping)
        self.assertEqual(len(self.threads), 0)
        self.clock.advance(0)
        self.successResultOf(scraping)
        self.assertEqual(len(self.threads), 1)


class ClusterTests(MetricsCase):
    """What is told of the rest."""

    def test_values(self) -> None:
        """Queues that were counted, brokers in use without passwords, branches, the bus and the catalogue."""
        self.queues[("foo", "q")] = (5, 2)
        self.remote.broker_up(BROKER)
        self.declare(Instance(name="w4", app="foo", branch="b1", broker="redis://other"))
        self.remote.broker_down("redis://other")
        found = self.scrape()
        for key, value in {
            ("cyme_queue_messages", "foo", "q"): 5,
            ("cyme_queue_consumers", "foo", "q"): 2,
            ("cyme_broker_up", "redis://me:***@b//"): 1,
            ("cyme_broker_up", "redis://other"): 0,
            ("cyme_branches", "live"): 2,
            ("cyme_branches", "away"): 1,
            ("cyme_bus_up",): 1,
            ("cyme_bus_messages_total", "sent"): 7,
            ("cyme_catalogue_lag_seconds",): 4.5,
            ("cyme_catalogue_declarations", "instance"): 2,
            ("cyme_database_up",): 1,
            ("cyme_branch_info", "b1", "1.2"): 1,
        }.items():
            self.assertEqual(found.get(key), value, key)

    def test_away(self) -> None:
        """What is away is told in words to whoever asks whether the branch is ready."""
        self.assertEqual(self.facts.away(), {})
        self.bus.connected = False
        self.problem = "it is full"
        self.assertEqual(sorted(self.facts.away()), ["bus", "database"])
        found = self.scrape()
        self.assertEqual((found["cyme_bus_up",], found["cyme_database_up",]), (0, 0))

    def test_measures(self) -> None:
        """Requests, full checks and messages are counted as they happen; what is no route is one series."""
        for route, method in (("/<app>/", "GET"), (None, "GET"), (None, "BREW"), (None, "FOO")):
            self.measures.answered(route, method, 200, 0.02)
        self.measures.passed(1.5)
        self.measures.confirmed(0.001)
        found = self.scrape()
        self.assertEqual(found["cyme_http_requests_total", "GET", "/<app>/", "200"], 1)
        self.assertEqual(found["cyme_http_requests_total", "other", "other", "200"], 2)
        self.assertEqual(found["cyme_http_request_duration_seconds_count", "other"], 3)
        self.assertEqual(found["cyme_supervision_pass_duration_seconds_sum",], 1.5)
        self.assertEqual(found["cyme_bus_confirm_duration_seconds_count",], 1)
        self.assertEqual([key for key in found if key[0].endswith("_created")], [])


class EtcTests(MetricsCase):
    """The dashboard and the alert rules."""

    def test_names(self) -> None:
        """Every metric that they name is told."""
        self.queues[("foo", "q")] = (5, 2)
        self.remote.broker_up(BROKER)
        self.measures.answered("/", "GET", 200, 0.1)
        self.supervisor.changes["w1"] = {"state": "running", "resources": RESOURCES}
        self.restarts.written([event("ended", reason="crashed"), event("started")])
        told = {key[0] for key in self.scrape()}
        for file in ("cyme-alerts.yml", "cyme-dashboard.json"):
            named = set(re.findall(r"\bcyme_[a-z_]+", (ETC / file).read_text()))
            self.assertGreater(len(named), 8)
            self.assertEqual(named - told, set(), file)
