"""`cyme-branch` as people use it: in a terminal and as a daemon."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

from twisted.internet.threads import deferToThread

import cyme
from tests.functional.branchcase import BranchTestCase
from tests.functional.startcase import StartTestCase
from tests.support.brokers import OnEmbedded
from tests.support.http import Client
from tests.support.ports import free_ports
from tests.support.waiting import eventually, when_ended


class TerminalTests(StartTestCase):
    """In a terminal, logging to standard output."""

    async def test_as_documented(self) -> None:
        """The product document's command starts a branch, which keeps to the folder that it names."""
        (port,) = free_ports(1)
        branch = self.run_command(
            "cyme-branch", f":{port}", "-i", "branch1", "-D", "cyme/branch1/", CYME_BROKER="embedded"
        )
        url, pid = await self.ready(branch)
        self.assertEqual((url, pid), (f"http://127.0.0.1:{port}/", branch.pid))
        http = Client(self, url)
        self.assertEqual((await http.get("/ping/")).json, {"ok": "pong"})
        self.assertEqual((await http.get("/branches/")).json, ["branch1"])
        about = (await http.get("/branches/branch1/")).json
        self.assertEqual((about["url"], about["port"], about["version"]), (url, port, cyme.__version__))
        self.assertEqual(os.listdir(self.folder), ["cyme"])
        branch.signal(signal.SIGTERM)
        self.assertEqual(await self.ended(branch), 0, branch.log_text())
        self.assertEqual(self.left_over(), [])
        self.assertEqual(os.listdir(self.folder), ["cyme"])

    async def start(self, *options: str, **env: str) -> tuple[str, int]:
        """Start a branch in the test's folder; its URL and pid."""
        self.branch = self.run_command("cyme-branch", "-D", self.root, "-b", "embedded", *options, **env)
        return await self.ready(self.branch)

    async def stop(self) -> None:
        self.branch.signal(signal.SIGTERM)
        self.assertEqual(await self.ended(self.branch), 0, self.branch.log_text())
        self.assertEqual(self.left_over(), [])

    async def test_every_signal(self) -> None:
        """Each signal that asks for a stop gets a clean one, with status 0."""
        for number in (signal.SIGTERM, signal.SIGINT):
            await self.start(":0")
            self.branch.signal(number)
            self.assertEqual(await self.ended(self.branch), 0, self.branch.log_text())
            self.assertEqual(self.left_over(), [])

    async def test_reload(self) -> None:
        """A branch without a terminal takes SIGHUP for a wish to read again, and lives on."""
        await self.start(":0")
        self.branch.signal(signal.SIGHUP)
        await self.said(self.branch, "SIGHUP: there is nothing to read again")
        await self.stop()

    async def test_at_once(self) -> None:
        """A stop right after the port was bound is as clean as any other."""
        branch = self.run_command("cyme-branch", ":0", "-D", self.root, "-b", "embedded")
        await self.said(branch, "broker embedded")
        branch.signal(signal.SIGTERM)
        self.assertEqual(await self.ended(branch), 0, branch.log_text())
        await eventually(lambda: not self.left_over(), 30.0)

    async def test_id_stays(self) -> None:
        """A branch without an id makes one up once, and keeps it."""
        await self.start(":0")
        first = json.loads(Path(self.root, "branch.json").read_text())["id"]
        await self.stop()
        url, _ = await self.start(":0")
        self.assertEqual((await Client(self, url).get("/branches/")).json, [first])
        await self.stop()

    async def test_v6(self) -> None:
        """An IPv6 address in brackets is bound."""
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError as problem:
            self.skipTest(f"this machine has no IPv6 loopback: {problem}")
        url, _ = await self.start("[::1]:0")
        self.assertTrue(url.startswith("http://[::1]:"), url)
        await self.stop()

    async def test_unix_socket(self) -> None:
        """An endpoint string takes the branch to a unix socket."""
        path = os.path.join(self.folder, "http.sock")
        branch = self.run_command(
            "cyme-branch", "-D", self.root, "-b", "embedded", f"--http=unix:{path}", "-i", "b1"
        )
        await deferToThread(
            branch.wait_for_line, lambda line: f"[READY] branch b1 at unix:{path}" in line, 60.0
        )

        def ask() -> bytes:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.sendall(b"GET /ping/ HTTP/1.0\r\nHost: x\r\n\r\n")
                return b"".join(iter(lambda: client.recv(4096), b""))

        self.assertIn(b"pong", await deferToThread(ask))
        branch.signal(signal.SIGTERM)
        self.assertEqual(await self.ended(branch), 0, branch.log_text())

    async def test_without_http(self) -> None:
        """Without HTTP the branch is up all the same, and says that it serves none."""
        branch = self.run_command(
            "cyme-branch", "-D", self.root, "-b", "embedded", "--without-http", "-i", "b1"
        )
        await self.said(branch, "[READY] branch b1 without HTTP")
        branch.signal(signal.SIGTERM)
        self.assertEqual(await self.ended(branch), 0, branch.log_text())

    async def test_json(self) -> None:
        """As JSON, every line of the log is an object."""
        branch = self.run_command(
            "cyme-branch", ":0", "-D", self.root, "-b", "embedded", "--log-format=json", CYME_LOGLEVEL="debug"
        )
        await self.said(branch, "[READY]")
        branch.signal(signal.SIGTERM)
        self.assertEqual(await self.ended(branch), 0)
        entries = [json.loads(line) for line in branch.lines()]
        for entry in entries:
            self.assertLessEqual({"time", "level", "source", "message"}, set(entry))
        self.assertIn("debug", {entry["level"] for entry in entries})

    async def test_configuration_file(self) -> None:
        """A configuration file sets what the command line leaves open."""
        file = os.path.join(self.folder, "cyme.conf")
        Path(file).write_text(
            f"[cyme]\nid = from-file\nbroker = embedded\ninstance-dir = {self.root}\nhttp = :0\n"
        )
        branch = self.run_command("cyme-branch", "--config", file)
        url, _ = await self.ready(branch)
        self.assertEqual((await Client(self, url).get("/branches/")).json, ["from-file"])
        branch.signal(signal.SIGTERM)
        self.assertEqual(await self.ended(branch), 0)

    async def test_stacks(self) -> None:
        """SIGUSR1 has the stacks of all threads written to the log, and nothing else, however often."""
        url, _ = await self.start(":0")
        for _ in range(50):
            self.branch.signal(signal.SIGUSR1)
            self.assertEqual((await Client(self, url).get("/ping/")).status, 200)
        await self.said(self.branch, "Thread MainThread:")
        self.assertEqual((await Client(self, url).get("/ping/")).status, 200)
        await self.stop()

    async def test_log_moved(self) -> None:
        """After logrotate moved the log away, lines and stacks go to a new one."""
        log = os.path.join(self.folder, "x.log")
        branch = self.run_command("cyme-branch", ":0", "-D", self.root, "-b", "embedded", "-f", log)
        await eventually(lambda: os.path.exists(log) and "[READY]" in Path(log).read_text(), 60.0)
        os.rename(log, log + ".1")
        branch.signal(signal.SIGTERM)
        self.assertEqual(await self.ended(branch), 0)
        self.assertIn("stopped", Path(log).read_text())
        self.assertEqual(branch.lines(), [])

    async def test_usage(self) -> None:
        """A bad option is one line, the way to the help, and status 1."""
        process = self.run_command("cyme-branch", "--warm-timeout=x", "-D", self.root)
        self.assertEqual(await self.ended(process), 1)
        self.assertEqual(
            process.lines(),
            [
                "cyme-branch: --warm-timeout: 'x' is not a number of seconds of at least 0",
                "Try 'cyme-branch --help'.",
            ],
        )
        self.assertFalse(os.path.exists(self.root))

    async def test_help_and_version(self) -> None:
        """`--help` and `--version` tell and do nothing else."""
        told = self.run_command("cyme-branch", "--help")
        self.assertEqual(await self.ended(told), 0)
        self.assertIn("--wait-after-broker-revived=", told.log_text())
        version = self.run_command("cyme-branch", "--version")
        self.assertEqual(await self.ended(version), 0)
        self.assertEqual(version.lines(), [f"cyme v{cyme.__version__}"])
        self.assertEqual(os.listdir(self.folder), [])


class DaemonTests(StartTestCase):
    """`--detach`."""

    async def test_daemon(self) -> None:
        """A daemon's parent ends with status 0; the daemon logs, has a pid file, and stops cleanly."""
        parent = self.run_command("cyme-branch", ":0", "--detach", "-i", "b1", "-D", "r", "-b", "embedded")
        self.assertEqual(await self.ended(parent), 0, parent.log_text())
        root = Path(self.folder, "r")
        log = root / "branch.log"
        await eventually(lambda: "[READY] branch b1" in log.read_text(), 60.0, "the branch")
        pid = int((root / "branch.pid").read_text())
        self.assertIn(pid, self.left_over())
        ended = when_ended(pid, 60.0)
        os.kill(pid, signal.SIGTERM)
        await ended
        await eventually(lambda: not self.left_over(), 30.0)
        self.assertNotIn("branch.pid", os.listdir(root))
        self.assertIn("stopped", log.read_text())
        self.assertNotIn("Traceback", log.read_text())


class SecondSignalTests(OnEmbedded, BranchTestCase):
    """A stop that takes too long for whoever waits for it."""

    options = ("--warm-timeout", "120")

    async def test_hurried(self) -> None:
        """A second signal stops a worker cold that still has a task."""
        await self.create(celery_app="proj.celery:app")
        await self.send("proj.celery.wait_for", self.path("task"), self.path("never"), queue="dq.w1")
        await self.file("task.begun")
        self.branch.process.signal(signal.SIGTERM)
        await self.branch.wait_for_line("stopping 1 workers warmly, up to 120.0 s; signal again")
        self.branch.process.signal(signal.SIGTERM)
        await self.branch.wait_for_line("stopping the workers cold")
        self.assertEqual(await deferToThread(self.branch.process.wait, 45.0), 0)
        self.assertEqual(self.branch.left_over(), [])
        self.assertFalse(os.path.exists(self.path("task.ended")))


class LateFailureTests(StartTestCase):
    """What fails when the reactor runs already."""

    async def test_redis(self) -> None:
        """An embedded Redis that can't start ends the branch with one critical line and status 1."""
        folder = os.path.join(self.root, ".redis")
        os.makedirs(folder)
        Path(folder, "appendonly.aof").write_text("This is no append-only file.\n")
        branch = self.run_command("cyme-branch", ":0", "-D", self.root, "-b", "embedded")
        self.assertEqual(await self.ended(branch), 1, branch.log_text())
        (line,) = (line for line in branch.lines() if "CRITICAL" in line)
        self.assertIn(f"the embedded Redis ended at its start; {folder}/redis.log says why", line)
        self.assertIn("Bad file format", Path(folder, "redis.log").read_text())
        self.assertIn("stopped", branch.lines()[-1])
        self.assertEqual(self.left_over(), [])
