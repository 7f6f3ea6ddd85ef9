"""The pages of one branch, which show what others have."""

from __future__ import annotations

import re

from tests.functional.clustercase import ClusterTestCase
from tests.support.http import Client
from tests.support.waiting import eventually


class ClusterPagesTests(ClusterTestCase):
    """Pages of a branch that has no instance itself."""

    async def words(self, client: Client, path: str) -> str:
        """The words of a page."""
        answer = await client.get(f"/admin/{path}")
        self.assertEqual(answer.status, 200, answer.text)
        _, _, main = answer.text.partition("<main")
        return " ".join(re.sub(r"<[^>]*>", " ", main).split())

    async def seen(self, path: str, *expected: str) -> None:
        """Wait until a page says all of that."""

        async def look() -> bool:
            words = await self.words(self.http, path)
            for one in expected:
                self.assertIn(one, words)
            return True

        await eventually(look, 60.0)

    async def test_elsewhere(self) -> None:
        """What another branch has is shown as if it were here, and as lost when that branch is killed."""
        await self.ask("PUT", "/foo/", 201)
        await self.known_there("/foo/")
        await self.ask("PUT", "/foo/instances/w1/", 201, params={"wait": "60", "branch": "branch2"}, json={})
        await self.seen("instances/", "w1 running foo branch2")
        await self.seen("instances/w1/", "w1 running", "Its worker answers", "ready.", "started")
        await self.seen("events/?instance=w1", "running")
        await self.seen("branches/", "branch1 asked", "branch2")
        queued = await self.ask_there("POST", "/foo/task/proj.add/", 202, json={})
        await self.seen("tasks/", queued["uuid"], "branch2")
        await self.seen(f"tasks/{queued['uuid']}/", "celery")
        await self.second.kill()
        await self.seen("instances/", "w1 lost")
        await self.seen("", "1 branch is away", "1 is lost")
        await self.seen("branches/branch2/", "It is away since", "Evacuate")
        await self.seen("instances/w1/", "its branch is away")
