"""`twistd cyme`: the plug-in in twistd's own hands."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import cyme
from tests.functional.startcase import StartTestCase
from tests.support.http import Client
from tests.support.waiting import eventually, when_ended


class TwistdTests(StartTestCase):
    """Real `twistd` commands."""

    async def test_help(self) -> None:
        """twistd lists the plug-in, and shows its help and version."""
        listed = self.run_command("twistd", "--help")
        self.assertEqual(await self.ended(listed), 0)
        self.assertRegex(listed.log_text(), r"(?m)^    cyme +The control plane for Celery")
        told = self.run_command("twistd", "cyme", "--help")
        self.assertEqual(await self.ended(told), 0)
        self.assertIn("Usage: twistd [options] cyme [options] [address]", told.log_text())
        version = self.run_command("twistd", "cyme", "--version")
        self.assertEqual(await self.ended(version), 0)
        self.assertEqual(version.lines(), [f"cyme v{cyme.__version__}"])

    async def test_usage(self) -> None:
        """A bad option is named in the last line, with status 1."""
        process = self.run_command("twistd", "-n", "cyme", "--sup-interval=never")
        self.assertEqual(await self.ended(process), 1)
        self.assertIn("--sup-interval: 'never' is not a number of seconds", process.lines()[-1])

    async def test_terminal(self) -> None:
        """`twistd -n` runs a branch, which stops with status 0 and leaves nothing."""
        branch = self.run_command(
            "twistd", "-n", "--pidfile=", "cyme", ":0", "-D", self.root, "-b", "embedded"
        )
        url, pid = await self.ready(branch)
        self.assertEqual(pid, branch.pid)
        self.assertEqual((await Client(self, url).get("/ping/")).status, 200)
        branch.signal(signal.SIGTERM)
        self.assertEqual(await self.ended(branch), 0, branch.log_text())
        self.assertEqual(self.left_over(), [])
        for line in branch.lines():
            self.assertRegex(line, r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: (INFO|WARNING)/cyme\.")

    async def test_twistds_log_options(self) -> None:
        """twistd's own --logfile is where the branch logs; its own --logger logs in the branch's place."""
        log = os.path.join(self.folder, "t.log")
        options = ("cyme", ":0", "-D", self.root, "-b", "embedded")
        branch = self.run_command("twistd", "-n", "--pidfile=", f"--logfile={log}", *options)
        await eventually(
            lambda: os.path.exists(log) and "INFO/cyme.branch] [READY]" in Path(log).read_text(), 60.0
        )
        branch.signal(signal.SIGTERM)
        self.assertEqual(await self.ended(branch), 0)
        other = self.run_command(
            "twistd", "-n", "--pidfile=", "--logger=twisted.logger.globalLogPublisher.__class__", *options
        )
        await eventually(lambda: Path(self.root, ".redis", "redis.sock").exists(), 60.0)
        other.signal(signal.SIGTERM)
        self.assertEqual(await self.ended(other), 0)
        self.assertNotIn("[READY]", other.log_text())

    async def test_daemon(self) -> None:
        """`twistd` without -n makes a daemon that logs to the root folder."""
        parent = self.run_command("twistd", "cyme", ":0", "-i", "b1", "-D", self.root, "-b", "embedded")
        self.assertEqual(await self.ended(parent), 0, parent.log_text())
        log = Path(self.root, "branch.log")
        await eventually(lambda: "[READY] branch b1" in log.read_text(), 60.0)
        pid = int(Path(self.folder, "twistd.pid").read_text())
        ended = when_ended(pid, 60.0)
        os.kill(pid, signal.SIGTERM)
        await ended
        await eventually(lambda: not self.left_over(), 30.0)
        self.assertNotIn("twistd.pid", os.listdir(self.folder))
