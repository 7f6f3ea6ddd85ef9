"""The why-log of a real branch, over HTTP."""

from __future__ import annotations

import os
import signal
from typing import Any

from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnEmbedded
from tests.support.waiting import eventually


class EventsTests(OnEmbedded, BranchTestCase):
    """What happened, and why."""

    async def test_story(self) -> None:
        """The log tells the story of an instance, and still does after the branch was killed."""
        before = await self.create()
        os.kill(before["pid"], signal.SIGKILL)
        await self.until_replaced(before["pid"])

        async def told() -> Any:
            events = await self.ask("GET", "/foo/instances/w1/events/")
            self.assertEqual([event["kind"] for event in events].count("running"), 2)
            return events

        events = await eventually(told, 20.0)
        kinds = [event["kind"] for event in events]
        self.assertEqual(kinds[:3], ["instance-created", "started", "running"])
        [ended] = [event for event in events if event["kind"] == "ended"]
        self.assertEqual(ended["details"]["signal"], "SIGKILL")
        await self.branch.kill()
        await self.start()
        again = await self.ask("GET", "/instances/w1/events", params={"limit": "1000"})
        self.assertEqual(again[: len(events)], events)
        last = events[-1]["id"]
        later = await self.ask("GET", "/events/", params={"since": str(last)})
        self.assertTrue(all(event["id"] > last for event in later))
        await self.ask("GET", "/events/", 400, params={"since": "yesterday"})
        await self.ask("GET", "/foo/instances/w9/events/", 404)
