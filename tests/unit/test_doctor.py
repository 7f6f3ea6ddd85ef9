"""`cyme doctor`: what facts mean, and how those of this machine are found."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from cyme.client import Client, errors
from cyme.commands.doctor import gathering
from cyme.commands.doctor.facts import BrokerFacts, Clock, Facts, FolderFacts
from cyme.commands.doctor.findings import Finding, examine, version_of
from tests.support.memoryclient import MemoryTransport

FINE = Facts(
    version="1", url="http://h", branches=[{"id": "b1", "version": "1", "disk_use": 10.0, "cpus": 2}]
)
REDIS = BrokerFacts(url="redis://h", transport="redis", product="Redis", version="7.0.1")
RABBITMQ = BrokerFacts(url="amqp://h", transport="amqp", product="RabbitMQ", version="3.10.8")
FOLDER = FolderFacts(path="/r", free=9 << 30, free_inodes=0.9, pid=1, files_limit=4096, files_open=30)


def wrong(facts: Facts) -> list[Finding]:
    return [finding for finding in examine(facts) if finding.level != "fine"]


class FindingsTests(SynchronousTestCase):
    """What is wrong, and what to do."""

    def one(self, level: str, *words: str, **facts: Any) -> None:
        """Exactly one thing is wrong."""
        found = wrong(evolve(FINE, **facts))
        self.assertEqual([finding.level for finding in found], [level], found)
        for word in words:
            self.assertIn(word, f"{found[0].subject}: {found[0].what}")
        self.assertTrue(found[0].do)

    def test_fine(self) -> None:
        """Where nothing is wrong, it is said what was looked at."""
        facts = evolve(FINE, brokers=[REDIS, RABBITMQ], folders=[FOLDER], instances=[{"state": "running"}])
        subjects = [finding.subject for finding in examine(facts)]
        self.assertEqual(wrong(facts), [])
        self.assertEqual(
            subjects, ["branch b1", "broker redis://h", "broker amqp://h", "instances", "folder /r"]
        )

    def branch(self, **more: Any) -> list[Mapping[str, Any]]:
        return [{**FINE.branches[0], **more}]

    def test_branches(self) -> None:
        """Full disks, high load, other versions, cordons and drains that are held up are told."""
        self.one("warning", "90 % full", branches=self.branch(disk_use=90.0))
        self.one("problem", "98 % full", branches=self.branch(disk_use=98.0))
        self.one("warning", "load was 9", branches=self.branch(load_average=[0, 0, 9.0]))
        self.one("warning", "cordoned", branches=self.branch(is_cordoned=True))
        drain = {"problem": "no place"}
        self.one("warning", "no place", branches=self.branch(is_cordoned=True, draining=drain))
        self.one("warning", "version 2", branches=self.branch(version="2"))
        self.one("warning", "1, 2", branches=[*FINE.branches, *self.branch(id="b2", version="2")])
        self.one("problem", "b9", missing=["b9"])
        self.one("problem", "bus", away={"bus": "lost"})

    def test_clocks(self) -> None:
        """A clock that is off is told as far as it can be measured."""
        here = Clock(branch="b1", skew=0.0)
        self.one("warning", "5 s ahead", clocks=[here, Clock(branch="b2", skew=5.0, error=1.0)])
        self.one("problem", "60 s behind", clocks=[here, Clock(branch="b2", skew=-60.0, error=1.0)])
        self.one("warning", "refused", clocks=[Clock(branch="b2", problem="refused")])
        unsure = evolve(FINE, clocks=[here, Clock(branch="b2", skew=3.0, error=2.0)])
        self.assertEqual(wrong(unsure), [])

    def test_brokers(self) -> None:
        """Brokers that are away, too old, or set up to lose tasks are told."""
        self.one("problem", "refused", brokers=[evolve(RABBITMQ, version=None, problem="refused")])
        self.one("problem", "too old", brokers=[evolve(RABBITMQ, version="3.7.28")])
        self.one("problem", "too old", brokers=[evolve(REDIS, version="4.0")])
        self.one("problem", "low on memory", brokers=[evolve(RABBITMQ, alarm="low on memory")])
        self.one("warning", "LavinMQ", brokers=[evolve(RABBITMQ, product="LavinMQ")])
        lossy = {"maxmemory": "100", "maxmemory-policy": "allkeys-lru", "appendonly": "yes"}
        self.one("problem", "throws tasks away", brokers=[evolve(REDIS, settings=lossy)])
        self.one("warning", "append-only", brokers=[evolve(REDIS, settings={"appendonly": "no"})])

    def test_settings(self) -> None:
        """Settings of Celery that are known to hurt are told, as far as they do on that broker."""
        amqp: dict[str, Any] = {"transport": "amqp", "hostname": "h", "password": "x"}
        redis = {**amqp, "transport": "redis"}
        cases = [
            (amqp, {"extra_config": "task_acks_late=True"}, "consumer_timeout"),
            (redis, {"extra_config": "task_acks_late=True"}, "visibility timeout"),
            (amqp, {"extra_config": "control_queue_exclusive=false"}, "control queues"),
            (amqp, {"arguments": "--max-tasks-per-child 100"}, "stall"),
            ({**amqp, "password": "guest"}, {}, "guest"),
        ]
        for broker, more, words in cases:
            self.one(
                "warning" if "control" not in words else "problem",
                words,
                apps=[{"name": "foo", "broker": broker, **more}],
            )

    def test_instances(self) -> None:
        """Instances that are not well, or can't scale as they are told to, are told."""
        self.one(
            "problem",
            "backoff: crashed",
            instances=[{"name": "w", "state": "backoff", "problems": ["crashed"]}],
        )
        self.one("warning", "x", instances=[{"name": "w", "state": "running", "problems": ["x"]}])
        scaling = {"name": "w", "app": "foo", "state": "running", "min_concurrency": 1, "max_concurrency": 4}
        self.one("warning", "can't grow", instances=[{**scaling, "pool": "solo"}])
        quorum = {"name": "q", "options": {"queue_arguments": {"x-queue-type": "quorum"}}}
        self.one(
            "warning", "quorum queue q", instances=[{**scaling, "queues": ["q"]}], queues=[("foo", quorum)]
        )

    def test_queues(self) -> None:
        """Messages that nobody will take are told, unless the queue is paused."""
        queue = {"name": "q", "messages": 3, "consumers": 0}
        self.one("warning", "foo/q: 3 messages", queues=[("foo", queue)])
        self.assertEqual(wrong(evolve(FINE, queues=[("foo", {**queue, "paused": True})])), [])

    def test_folders(self) -> None:
        """Folders that can't be used, or that others may look into, are told."""
        cases: list[tuple[str, str, dict[str, Any]]] = [
            ("problem", "does not exist", {"exists": False}),
            ("problem", "not a folder", {"is_folder": False}),
            ("problem", "%", {"path": "/a%b"}),
            ("problem", "can't write", {"writable": False}),
            ("warning", "mode 755", {"mode": 0o755}),
            ("warning", "500M", {"free": 500 << 20}),
            ("warning", "inodes", {"free_inodes": 0.001}),
            ("warning", "128 files", {"files_limit": 128}),
        ]
        for level, words, more in cases:
            self.one(level, words, folders=[evolve(FOLDER, **more)])

    def test_order(self) -> None:
        """Problems come first."""
        facts = evolve(FINE, missing=["b9"], branches=self.branch(is_cordoned=True), brokers=[REDIS])
        self.assertEqual([one.level for one in examine(facts)], ["problem", "warning", "fine"])

    def test_versions(self) -> None:
        """Versions are compared as numbers."""
        self.assertEqual((version_of("3.10.8+1"), version_of(None), version_of("x")), ((3, 10, 8), (), ()))


class GatheringTests(SynchronousTestCase):
    """Facts as they are found."""

    def test_folder(self) -> None:
        """A folder's permissions, room and holder are found; so is that there is none."""
        path = self.mktemp()
        self.assertFalse(gathering.look_at(path).exists)
        os.mkdir(path, 0o750)
        with open(os.path.join(path, "branch.lock"), "w") as stream:
            stream.write(f"{os.getpid()}\n")
        found = gathering.look_at(path)
        self.assertEqual((found.mode, found.writable, found.pid), (0o750, True, os.getpid()))
        self.assertGreater(found.files_limit or 0, found.files_open or 0)
        with open(os.path.join(path, "branch.lock"), "w") as stream:
            stream.write("rubbish")
        self.assertIsNone(gathering.look_at(path).pid)
        self.assertFalse(gathering.look_at(os.path.join(path, "branch.lock")).is_folder)

    def test_brokers(self) -> None:
        """A broker that is away is told without its password, and so is one whose password is hidden."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        for transport in ("amqp", "redis"):
            found = gathering.ask_broker(f"{transport}://me:s3cret@127.0.0.1:{port}//")
            self.assertIn("refused", str(found.problem))
            self.assertNotIn("s3cret", str(found))
        hidden = gathering.ask_broker("amqp://me:***@127.0.0.1//")
        self.assertIn("--broker", str(hidden.problem))
        self.assertEqual([one.level for one in wrong(evolve(FINE, brokers=[hidden]))], ["warning"])
        masked = {"url": "amqp://me:***@h//", "password": "***"}
        self.assertEqual(gathering._url({"broker": masked}), "amqp://me:***@h//")

    def test_clocks(self) -> None:
        """Branches are compared by what their own answers say; who can't be asked is told."""
        dates = {"http://a": "Mon, 23 Nov 2026 10:00:00 GMT", "http://b": "Mon, 23 Nov 2026 10:01:00 GMT"}

        def ask(url: str) -> str:
            if url not in dates:
                raise errors.Unreachable("GET", url, "refused")
            return dates[url]

        branches = [{"id": one, "url": f"http://{one}"} for one in "abc"] + [{"id": "d", "url": None}]
        found = {clock.branch: clock for clock in gathering.clocks(branches, ask)}
        assert found["a"].skew is not None and found["b"].skew is not None
        self.assertAlmostEqual(found["b"].skew - found["a"].skew, 60.0, places=1)
        self.assertIn("refused", str(found["c"].problem))
        self.assertIn("no URL", str(found["d"].problem))

    def test_gather(self) -> None:
        """All of a branch is looked at, with the passwords of its brokers where they may be known."""
        client = Client("http://127.0.0.1:8000", transport=MemoryTransport(self))
        asked: list[str] = []

        def ask(url: str) -> BrokerFacts:
            asked.append(url)
            return evolve(RABBITMQ, url=url)

        self.patch(gathering, "ask_broker", ask)
        app = client.add("foo", broker="amqp://me:a%2Fb@127.0.0.1//")
        app.queues.add("q")
        app.instances.add("w1", is_enabled=False)
        facts = gathering.gather(client, None, ["redis://x"], ["/nowhere"])
        self.assertEqual(asked, ["redis://x", "amqp://me:a%2Fb@127.0.0.1//"])
        counts = (len(facts.branches), len(facts.apps), len(facts.instances), len(facts.queues))
        self.assertEqual((counts, facts.folders[0].exists), ((1, 1, 1, 1), False))
