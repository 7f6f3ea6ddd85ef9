"""The sample session of the README, run as it is written."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

import cyme
from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnEmbedded, OnRabbitMQ

README = Path(cyme.__file__).resolve().parent.parent / "README.rst"

#: The statuses of the session's requests, in their order.
STATUSES = {
    "A session": [201, 201, 201, 201, 200, 200, 201, 200, 201, 200, 200, 200, 200, 200, 200, 200, 400],
    "Requests as tasks": [201, 201, 202, 200, 202, 200, 200, 200, 202, 200, 202],
    "Queues": [201, 201, 200, 200, 200, 200],
    "Your own Celery application": [201, 200],
    "Is it well?": [201, 201, 200, 200, 200],
    "Restarting an application": [200, 200, 200],
    "What happened, and why": [200],
}


def commands(section: str) -> list[str]:
    """The curl commands of a section of the README, without those whose answer never ends."""
    text = README.read_text()
    start = text.index(f"\n{section}\n=")
    following = re.search(r"\n\n\n[^\n]+\n=+\n", text[start + 2 :])
    end = start + 2 + following.start() if following else len(text)
    found = re.findall(r"^    \$ (curl .*)$", text[start:end], re.MULTILINE)
    return [command for command in found if " -N " not in command]


def run(command: str, url: str) -> tuple[int, Any]:
    """Run a curl command against `url` instead of the address in the README; status and JSON."""
    argv = shlex.split(command.replace("http://localhost:8001", url.rstrip("/")))
    argv[1:1] = ["--silent", "--show-error", "--max-time", "90"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    head, _, body = done.stdout.partition("\n\n")
    return int(head.split()[1]), (json.loads(body) if body.lstrip()[:1] in ("{", "[") else body)


class ReadmeTests:
    """What holds on every broker."""

    async def session(self: Any, section: str) -> list[Any]:
        """Run a section's commands; the bodies of the answers."""
        bodies = []
        statuses = []
        uuid = ""
        for command in commands(section):
            status, body = await deferToThread(run, command.replace("UUID", uuid), self.branch.url)
            uuid = body.get("uuid", uuid) if isinstance(body, dict) else uuid
            statuses.append(status)
            bodies.append((command, body))
        self.assertEqual(statuses, STATUSES[section], bodies)
        return [body for _, body in bodies]

    async def test_session(self: Any) -> None:
        """Each command of the sample session gets the status that its text promises."""
        bodies = await self.session("A session")
        self.assertEqual(bodies[0]["name"], "foo")
        self.assertEqual(bodies[3]["state"], "running")
        self.assertEqual(bodies[4], ["w1"])
        self.assertEqual(bodies[7], ["tasks"])
        self.assertEqual(bodies[10]["stats"]["autoscaler"]["max"], 4)
        self.assertEqual(bodies[-1]["status"], 400)

    async def test_requests(self: Any) -> None:
        """Requests and named tasks are queued, asked about and revoked as the README says."""
        await self.create()
        bodies = await self.session("Requests as tasks")
        self.assertEqual((bodies[3]["state"], bodies[3]["result"]["status_code"]), ("SUCCESS", 200))
        self.assertEqual([bodies[5]["state"], bodies[7]["state"]], ["PENDING", "REVOKED"])
        result = await self.ask("GET", f"/foo/query/{bodies[8]['uuid']}/wait/")
        self.assertEqual((result["state"], result["result"]["status_code"]), ("SUCCESS", 201))
        self.assertEqual((await self.ask("GET", "/bar/"))["pool"], "solo")

    async def test_queues(self: Any) -> None:
        """A queue is counted, paused, emptied and resumed as the README says."""
        bodies = await self.session("Queues")
        self.assertEqual((bodies[4], bodies[5]), ({"purged": 0}, {"ok": "ok"}))

    async def test_own_application(self: Any) -> None:
        """An application with a Celery app of its own is created as the README says."""
        body, limited = await self.session("Your own Celery application")
        self.assertEqual(body["celery_app"], "proj.celery:app")
        self.assertEqual((limited["max_memory"], limited["max_age"]), (3 << 29, 86_400.0))

    async def test_is_it_well(self: Any) -> None:
        """A worker that runs is well, and drains, as the README says."""
        bodies = await self.session("Is it well?")
        self.assertEqual(bodies[2]["verdict"], "ok")
        self.assertEqual((bodies[3]["state"], bodies[3]["draining"]), ("disabled", None))

    async def test_restart(self: Any) -> None:
        """An application is restarted, looked at and left alone as the README says."""
        await self.create()
        bodies = await self.session("Restarting an application")
        self.assertEqual([body["state"] for body in bodies], ["finished"] * 3)

    async def test_what_happened(self: Any) -> None:
        """The why-log is read as the README says."""
        [events] = await self.session("What happened, and why")
        self.assertIsInstance(events, list)


class ReadmeOnRabbitMQTests(OnRabbitMQ, ReadmeTests, BranchTestCase):
    """The README's session with RabbitMQ."""


class ReadmeOnEmbeddedTests(OnEmbedded, ReadmeTests, BranchTestCase):
    """The README's session with the embedded Redis."""
