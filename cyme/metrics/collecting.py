"""Turning what is known at a scrape into families of metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import field, frozen
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

#: The states in which a worker counts as up; in the second nobody can ask it.
_UP = frozenset({"running", "unknown"})


@frozen(kw_only=True)
class Instance:
    """An instance of this branch: how it is declared, and how it is (`ISupervisor.status`)."""

    app: str
    name: str
    is_enabled: bool
    status: Mapping[str, Any]


@frozen(kw_only=True)
class Known:
    """What a branch knows at a scrape.

    :ivar restarts: (app, name of the instance, reason) -> how often.
    :ivar queues: (app, queue) -> messages and consumers, of those that this branch has counted.
    :ivar brokers: a broker's URL without password -> whether it answers; without those of which that is
        not known.
    :ivar branches: "live" and "away" -> how many.
    :ivar bus: what became of messages between branches -> how many.
    :ivar lag: seconds for which another branch's catalogue has differed.
    :ivar declarations: a kind -> how many there are.
    """

    branch: str
    version: str
    instances: Iterable[Instance] = ()
    restarts: Mapping[tuple[str, str, str], int] = field(factory=dict)
    queues: Mapping[tuple[str, str], tuple[int, int]] = field(factory=dict)
    brokers: Mapping[str, bool] = field(factory=dict)
    branches: Mapping[str, int] = field(factory=dict)
    is_bus_up: bool = True
    bus: Mapping[str, int] = field(factory=dict)
    lag: float = 0.0
    declarations: Mapping[str, int] = field(factory=dict)
    is_database_up: bool = True


def families(known: Known) -> Iterator[Metric]:
    """All families, in the order in which they are told."""
    yield InfoMetricFamily(
        "cyme_branch", "This branch.", value={"branch": known.branch, "version": known.version}
    )
    yield from _instances(list(known.instances))
    restarts = CounterMetricFamily(
        "cyme_instance_restarts",
        "How often a worker was started again, by why its last life ended, since this branch's start.",
        labels=("app", "name", "reason"),
    )
    for (app, name, reason), count in known.restarts.items():
        restarts.add_metric((app, name, reason), count)
    yield restarts
    yield from _queues(known.queues)
    brokers = GaugeMetricFamily(
        "cyme_broker_up", "Whether a broker answers, of those that this branch uses.", labels=("broker",)
    )
    for url, is_up in known.brokers.items():
        brokers.add_metric((url,), is_up)
    yield brokers
    yield from _cluster(known)


def _instances(instances: list[Instance]) -> Iterator[Metric]:
    # Not "instance": that is what Prometheus calls the branch that it scrapes.
    of = ("app", "name")
    up = GaugeMetricFamily(
        "cyme_instance_up",
        "Whether the worker of an instance runs; also while nobody can ask it, since its broker is away.",
        labels=of,
    )
    desired = GaugeMetricFamily("cyme_instance_desired", "Whether it is to run.", labels=of)
    started = GaugeMetricFamily(
        "cyme_instance_start_time_seconds", "When its worker was started, since the epoch.", labels=of
    )
    pong = GaugeMetricFamily(
        "cyme_instance_last_pong_timestamp_seconds", "When it answered last, since the epoch.", labels=of
    )
    memory = GaugeMetricFamily(
        "cyme_instance_memory_bytes",
        "Resident memory of its processes; what they share counts for each of them.",
        labels=of,
    )
    processor = CounterMetricFamily(
        "cyme_instance_cpu_seconds", "Processor time of its processes.", labels=of
    )
    processes = GaugeMetricFamily("cyme_instance_processes", "Its processes.", labels=of)
    files = GaugeMetricFamily(
        "cyme_instance_open_files", "Open file descriptors of its processes.", labels=of
    )
    failures = GaugeMetricFamily(
        "cyme_instance_failures", "Starts that failed in a row; 0 once one has answered.", labels=of
    )
    states: Counter[str] = Counter()
    for one in instances:
        status, labels = one.status, (one.app, one.name)
        states[status["state"]] += 1
        up.add_metric(labels, status["state"] in _UP)
        desired.add_metric(labels, one.is_enabled)
        failures.add_metric(labels, status["failures"])
        for family, value in ((started, status["started_at"]), (pong, status["last_pong"])):
            if value is not None:
                family.add_metric(labels, value)
        resources = status["resources"]
        if resources is not None:
            memory.add_metric(labels, resources["rss"])
            processor.add_metric(labels, resources["cpu_seconds"])
            processes.add_metric(labels, resources["processes"])
            if resources["open_files"] is not None:
                files.add_metric(labels, resources["open_files"])
    yield from (up, desired, started, pong, memory, processor, processes, files, failures)
    counted = GaugeMetricFamily(
        "cyme_instances", "Instances of this branch, by the state that they are in.", labels=("state",)
    )
    for state, count in sorted(states.items()):
        counted.add_metric((state,), count)
    yield counted


def _queues(queues: Mapping[tuple[str, str], tuple[int, int]]) -> Iterator[Metric]:
    of = ("app", "queue")
    messages = GaugeMetricFamily("cyme_queue_messages", "Messages that wait in a queue.", labels=of)
    consumers = GaugeMetricFamily("cyme_queue_consumers", "Consumers of a queue.", labels=of)
    for labels, (waiting, consuming) in queues.items():
        messages.add_metric(labels, waiting)
        consumers.add_metric(labels, consuming)
    yield from (messages, consumers)


def _cluster(known: Known) -> Iterator[Metric]:
    branches = GaugeMetricFamily(
        "cyme_branches", "Branches of the cluster that this one knows.", labels=("presence",)
    )
    for presence, count in sorted(known.branches.items()):
        branches.add_metric((presence,), count)
    yield branches
    yield GaugeMetricFamily(
        "cyme_bus_up", "Whether this branch reaches the others' bus.", value=float(known.is_bus_up)
    )
    bus = CounterMetricFamily(
        "cyme_bus_messages", "Messages between branches, by what became of them.", labels=("outcome",)
    )
    for outcome, count in sorted(known.bus.items()):
        bus.add_metric((outcome,), count)
    yield bus
    yield GaugeMetricFamily(
        "cyme_catalogue_lag_seconds",
        "For how long the catalogue of another branch has differed from this one's.",
        value=known.lag,
    )
    declarations = GaugeMetricFamily(
        "cyme_catalogue_declarations", "Declarations in the catalogue.", labels=("kind",)
    )
    for kind, count in sorted(known.declarations.items()):
        declarations.add_metric((kind,), count)
    yield declarations
    yield GaugeMetricFamily(
        "cyme_database_up", "Whether the database could be used last.", value=float(known.is_database_up)
    )
