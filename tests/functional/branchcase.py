"""What functional tests of a whole branch share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from celery import Celery
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

import tests.support
from tests.support.branch import BranchProcess
from tests.support.http import Answer, Client
from tests.support.waiting import eventually

#: The folder of the user's own project, see `tests/support/project`.
PROJECT = str(Path(tests.support.__file__).parent / "project")


class BranchTestCase(TestCase):
    """A test with one branch, its HTTP client and Celery as its user has it.

    A subclass adds `OnRabbitMQ` or `OnEmbedded`.
    """

    timeout = 180
    options: tuple[str, ...] = ("--sup-interval", "2", "--warm-timeout", "10")
    #: How the branch is started, see `tests.support.branch.COMMANDS`.
    command = "cyme-branch"
    #: Seconds for which a branch's reactor may be held up, see `cyme.stalls`.
    stall_limit = 0.1
    branch: BranchProcess
    http: Client

    def branch_broker(self) -> str:
        raise NotImplementedError

    def celery_broker(self, branch: Any) -> str:
        raise NotImplementedError

    async def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="cyme-test-")
        self.addCleanup(self.remove_folder)
        self.branch = self.make_branch(broker=self.branch_broker())
        await self.start()
        self.addCleanup(self.assert_no_stall)

    def assert_no_stall(self) -> None:
        """Fail when something has held up the branch's reactor, whatever the test was about."""
        self.assertEqual([line for line in self.branch.process.lines() if "held up" in line], [])

    def remove_folder(self) -> None:
        for name in os.listdir(self.folder):
            os.unlink(os.path.join(self.folder, name))
        os.rmdir(self.folder)

    def make_branch(self, *options: str, **arguments: Any) -> BranchProcess:
        watched = ("--stall-limit", str(self.stall_limit))
        return BranchProcess(
            self,
            *(*self.options, *watched, *options),
            env={"PYTHONPATH": PROJECT},
            command=self.command,
            **arguments,
        )

    async def start(self) -> None:
        """Start the branch, for the first time or again."""
        await self.branch.start()
        self.http = self.branch.client()

    def path(self, name: str) -> str:
        """The path of a file that tasks may write."""
        return os.path.join(self.folder, name)

    async def ask(self, method: str, path: str, status: int = 200, **arguments: Any) -> Any:
        """Send a request and return the JSON of its answer, which must have this status."""
        answer: Answer = await self.http.ask(method, path, **arguments)
        self.assertEqual(answer.status, status, answer.text)
        return answer.json

    async def create(self, name: str = "w1", app: str = "foo", **parameters: Any) -> Any:
        """Create an app (if it is not there) and a running instance of it."""
        await self.http.put(f"/{app}/")
        details = await self.ask(
            "PUT", f"/{app}/instances/{name}/", 201, params={"wait": "60"}, json=parameters
        )
        self.assertEqual(details["state"], "running", details)
        return details

    async def instance(self, name: str = "w1") -> Any:
        return await self.ask("GET", f"/instances/{name}/")

    async def until_state(self, state: str, name: str = "w1", timeout: float = 60.0) -> Any:
        """Wait until an instance is in a state; its details."""

        async def look() -> Any:
            details = await self.instance(name)
            self.assertEqual(details["state"], state, details)
            return details

        return await eventually(look, timeout)

    async def until_replaced(self, pid: int, name: str = "w1") -> Any:
        """Wait until an instance runs with another process than `pid`; its details."""

        async def look() -> Any:
            details = await self.instance(name)
            self.assertEqual((details["state"], details["pid"] == pid), ("running", False), details)
            return details

        return await eventually(look, 60.0)

    async def queues_of(self, name: str = "w1", app: str = "foo") -> set[str]:
        """The queues that the worker consumes from, as it says itself."""
        return set(await self.ask("GET", f"/{app}/instances/{name}/queues/"))

    def celery(self) -> Celery:
        """Celery as a user of the branch's default broker has it."""
        app = Celery("user", broker=self.celery_broker(self.branch), set_as_current=False)
        self.addCleanup(app.close)
        return app

    async def control(self, command: str, *arguments: Any, **options: Any) -> Any:
        """Run a command of `celery control` as somebody else would."""
        app = self.celery()
        return await deferToThread(
            lambda: getattr(app.control, command)(*arguments, reply=True, timeout=2.0, **options)
        )

    async def send(self, task: str, *arguments: Any, **options: Any) -> None:
        """Send a task by plain Celery."""
        app = self.celery()
        await deferToThread(lambda: app.send_task(task, args=arguments, ignore_result=True, **options))

    async def file(self, name: str, timeout: float = 60.0) -> str:
        """Wait for a file that a task writes; its text."""
        path = Path(self.path(name))
        await eventually(path.exists, timeout, f"the file {name}")
        return path.read_text()
