"""The metrics of a real branch, its alert rules, and whether it is ready."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.threads import deferToThread

import cyme
from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnRabbitMQ
from tests.support.rabbitmq import breakable_rabbitmq
from tests.support.waiting import eventually

ETC = Path(cyme.__file__).parent.parent / "etc"


def promtool(*arguments: str, text: str = "") -> str:
    """Run promtool; what it says. Blocks.

    :raises AssertionError: when it finds something.
    """
    done = subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, cwd=ETC)
    said = done.stdout + done.stderr
    assert not done.returncode, said
    return said


class MetricsTests(OnRabbitMQ, BranchTestCase):
    """A branch with a worker."""

    async def scrape(self) -> dict[tuple[str, ...], float]:
        answer = await self.http.get("/metrics")
        self.assertEqual(answer.status, 200)
        self.assertIn("version=0.0.4", answer.headers["content-type"])
        # It says nothing where there is nothing to find.
        said = await deferToThread(promtool, "check", "metrics", text=answer.text)
        self.assertEqual(said, "")
        found = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                key = (sample.name, *(value for _, value in sorted(sample.labels.items())))
                found[key] = sample.value
        return found

    async def test_scraped(self) -> None:
        """A worker is told while it is there, with why it was restarted; promtool finds nothing."""
        details = await self.create()
        found = await self.scrape()
        self.assertEqual(found["cyme_instance_up", "foo", "w1"], 1)
        self.assertEqual(found["cyme_bus_up",], 1)
        self.assertEqual(found["cyme_http_requests_total", "PUT", "/<app>/instances/<name>/", "201"], 1)
        self.assertGreaterEqual(found["cyme_supervision_pass_duration_seconds_count",], 1)
        self.assertGreaterEqual(found["cyme_bus_confirm_duration_seconds_count",], 1)
        await self.ask("PUT", "/foo/queues/tasks/", 201)
        await self.ask("POST", "/foo/instances/w1/queues/tasks/", 201)

        async def queue_is_told() -> Any:
            found = await self.scrape()
            return found.get(("cyme_queue_consumers", "foo", "tasks"), 0) == 1

        await eventually(queue_is_told, 60.0)
        await self.ask("POST", "/instances/w1/restart/")
        await self.until_replaced(details["pid"])

        async def is_counted() -> Any:
            return (await self.scrape()).get(("cyme_instance_restarts_total", "foo", "w1", "stopped"))

        self.assertEqual(await eventually(is_counted, 30.0), 1)
        await self.ask("DELETE", "/instances/w1/")
        self.assertEqual([key for key in await self.scrape() if "w1" in key], [])

    async def test_rules(self) -> None:
        """The alert rules are valid, and tell what they are for and nothing else."""
        await deferToThread(promtool, "check", "rules", "cyme-alerts.yml")
        await deferToThread(promtool, "test", "rules", "cyme-alerts-test.yml")


class ReadyTests(OnRabbitMQ, BranchTestCase):
    """A branch whose broker goes away."""

    def branch_broker(self) -> str:
        self.node = breakable_rabbitmq()
        self.addCleanup(deferToThread, self.node.mend)
        return self.node.new_url()

    async def test_away(self) -> None:
        """`/ready/` names what is away, and the metrics say so; both are well again with the broker."""
        self.assertEqual((await self.http.get("/ready/")).status, 200)
        await deferToThread(self.node.kill)

        async def names_both() -> Any:
            answer = await self.http.get("/ready/")
            return answer.status == 503 and sorted(answer.json["away"]) == ["broker", "bus"]

        await eventually(names_both, 30.0)
        text = (await self.http.get("/metrics")).text
        self.assertIn("cyme_bus_up 0.0", text)
        await deferToThread(self.node.mend)

        async def is_ready() -> Any:
            return (await self.http.get("/ready/")).status == 200

        await eventually(is_ready, 60.0)
