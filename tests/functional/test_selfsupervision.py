"""A branch that hangs, or of which a part is dead, ends; its workers don't."""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.functional.startcase import StartTestCase
from tests.support.guard import processes_naming
from tests.support.guarded import Guarded
from tests.support.http import Client
from tests.support.waiting import eventually

#: A branch as `cyme-branch` runs it, in which something goes wrong when it gets SIGUSR2.
PROGRAM = """
import re, signal, sys, time
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.tcp import Port
from cyme import branch, tap, watchdog

def fault():
    {fault}

signal.signal(signal.SIGUSR2, lambda *_: reactor.callFromThread(fault))
from cyme.cli import cyme_branch
{limits}
cyme_branch(sys.argv[1:])
"""

#: Seconds without progress after which the branches of these tests end.
LIMIT = 3.0

#: For a branch whose workers answer at once: the limit of a full check is like the others.
SHORT_CHECKS = f"tap.CHECK_LIMIT = {LIMIT}"

#: A branch sees sooner that its port is closed.
SHORT_PORT = f"branch.PORT_LIMIT = {LIMIT}"

#: A full check of the supervisor's that never ends.
ENDLESS_CHECK = "import cyme.supervisor.checks as c; c.Checks._examine_parts = lambda _: Deferred()"


class SelfSupervisionTestCase(StartTestCase):
    """A branch with a worker, and what goes wrong with it."""

    async def start(
        self, fault: str = "pass", *, limits: str = "", hang_limit: float = LIMIT, **env: str
    ) -> Guarded:
        """Start a branch in which `fault` can be made happen.

        :param limits: statements that change limits which no option sets.
        """
        program = PROGRAM.format(fault=fault, limits=limits)
        branch = self.run_command(
            *("python", "-c", program, ":0", "-D", self.root, "-b", "embedded"),
            *("--sup-interval=0.5", f"--hang-limit={hang_limit}", "--log-format=text"),
            **env,
        )
        url, _ = await self.ready(branch)
        self.http = Client(self, url)
        return branch

    async def create(self) -> int:
        """Have an instance run; its worker's pid."""
        await self.http.put("/foo/")
        details = (await self.http.put("/foo/instances/w1/", params={"wait": "60"})).json
        self.assertEqual(details["state"], "running", details)
        return int(details["pid"])

    async def assert_adopted(self, pid: int) -> None:
        """The worker lives, and the next start takes it over."""
        self.assertIn(pid, processes_naming(self.folder))
        again = await self.start()

        async def look() -> Any:
            details = (await self.http.get("/foo/instances/w1/")).json
            self.assertEqual((details["state"], details["pid"]), ("running", pid), details)
            return details

        await eventually(look, 60.0)
        again.signal(signal.SIGTERM)
        self.assertEqual(await self.ended(again), 0, again.log_text())
        await eventually(lambda: not self.left_over(), 30.0)

    async def go_wrong(self, fault: str, *words: str, status: int = 1, limits: str = "") -> str:
        """Have something go wrong in a branch with a worker; what its log says at its end."""
        branch = await self.start(fault, limits=limits)
        pid = await self.create()
        branch.signal(signal.SIGUSR2)
        self.assertEqual(await self.ended(branch), status, branch.log_text())
        log = branch.log_text()
        for word in words:
            self.assertIn(word, log)
        await self.assert_adopted(pid)
        return log


class HangTests(SelfSupervisionTestCase):
    """A reactor that makes no turn."""

    async def test_waits(self) -> None:
        """A reactor that waits for something ends with one critical line, its stacks and status 1."""
        log = await self.go_wrong(
            "time.sleep(600)", "no sign of life from the reactor", "Thread MainThread:", "in fault"
        )
        self.assertEqual(log.count("CRITICAL"), 1)

    async def test_lets_nobody_run(self) -> None:
        """A reactor that computes for ever and lets no other thread run is ended by the kernel's timer."""
        await self.go_wrong(
            "re.match('(a+)+$', 'a' * 60 + 'b')",
            " in fault",
            status=128 + signal.SIGPROF,
            limits="watchdog.CPU_MARGIN = 1.0",
        )

    async def test_paused(self) -> None:
        """A branch that is paused for longer than the limit goes on when it is resumed."""
        branch = await self.start()
        branch.signal(signal.SIGSTOP)
        # What passes here is the time that must not count.
        await deferLater(reactor, LIMIT * 2)
        branch.signal(signal.SIGCONT)
        for _ in range(3):
            await deferLater(reactor, LIMIT / 3)
            self.assertEqual((await self.http.get("/ping/")).status, 200)
        branch.signal(signal.SIGTERM)
        self.assertEqual(await self.ended(branch), 0, branch.log_text())


class DeadPartTests(SelfSupervisionTestCase):
    """A part that makes no progress, while the reactor does."""

    async def test_port(self) -> None:
        """An HTTP port that is closed ends the branch."""
        await self.go_wrong(
            "[one.stopListening() for one in reactor.getReaders() if isinstance(one, Port)]",
            "no sign of life from the HTTP port",
            "Thread MainThread:",
            limits=SHORT_PORT,
        )

    async def test_forgotten_port(self) -> None:
        """So does one that the reactor does not look at any more."""
        await self.go_wrong(
            "[reactor.removeReader(one) for one in reactor.getReaders() if isinstance(one, Port)]",
            "no sign of life from the HTTP port",
            limits=SHORT_PORT,
        )

    async def test_database(self) -> None:
        """A database's thread that hangs ends the branch; the stacks show where it was."""
        await self.go_wrong(
            "from cyme.store import declarationrows; declarationrows.thd_load = lambda _: time.sleep(600)",
            "no sign of life from the database's thread",
            "in thd_begun\n",
        )

    async def test_supervisor(self) -> None:
        """A full check of the supervisor's that never ends, ends the branch."""
        await self.go_wrong(
            ENDLESS_CHECK, "no sign of life from the supervisor's full check", limits=SHORT_CHECKS
        )

    async def test_thread_pool(self) -> None:
        """Threads of the reactor that all hang end the branch."""
        await self.go_wrong(
            "[reactor.callInThread(time.sleep, 600) for _ in range(50)]",
            "no sign of life from the reactor's thread pool",
        )

    async def test_remote_control(self) -> None:
        """A remote control's thread that hangs ends the branch."""
        await self.go_wrong(
            "import cyme.remote.wires as w; w._RedisWire.turn = lambda *_: time.sleep(600)",
            "no sign of life from the remote control of redis+socket://",
        )


class NothingDeadTests(SelfSupervisionTestCase):
    """What is no reason to end."""

    async def test_frozen_redis(self) -> None:
        """A Redis that takes requests and does not answer, for far longer than the limit, ends nothing."""
        branch = await self.start(hang_limit=8.0)
        pid = await self.create()
        with open(os.path.join(self.root, ".redis", "redis.json"), encoding="utf-8") as file:
            redis = json.load(file)["pid"]
        os.kill(redis, signal.SIGSTOP)
        # What passes here is the time that must not count.
        await deferLater(reactor, 20.0)
        self.assertEqual((await self.http.get("/ping/")).status, 200)
        os.kill(redis, signal.SIGCONT)
        branch.signal(signal.SIGTERM)
        self.assertEqual(await self.ended(branch), 0, branch.log_text())
        self.assertNotIn(pid, self.left_over())


class ServiceManagerTests(SelfSupervisionTestCase):
    """A service manager such as systemd, played by a socket."""

    def setUp(self) -> None:
        super().setUp()
        self.heard: list[str] = []
        path = os.path.join(self.folder, "notify")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.listener.close)
        self.listener.bind(path)
        self.listener.settimeout(60.0)
        self.env = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000000"}

    async def hear(self) -> list[str]:
        """The next message, as lines."""
        message = (await deferToThread(self.listener.recv, 4096)).decode()
        self.heard.append(message)
        return message.split("\n")

    async def until(self, line: str) -> list[str]:
        """Hear until a message has a line; that message."""
        while line not in (message := await self.hear()):
            pass
        return message

    async def test_life(self) -> None:
        """A branch says when it is up, that it lives, how it is, and that it stops, however long it takes."""
        branch = await self.start(**self.env)
        ready = await self.until("READY=1")
        self.assertRegex(ready[1], "^STATUS=http://127.0.0.1:[0-9]+/, 0 workers")
        await self.create()
        while "1 workers" not in "".join(await self.hear()):
            pass
        began = reactor.seconds()
        for _ in range(4):
            await self.until("WATCHDOG=1")
        self.assertLess(reactor.seconds() - began, 4.0)
        branch.signal(signal.SIGTERM)
        stopping = await self.until("STOPPING=1")
        self.assertIn("EXTEND_TIMEOUT_USEC=30000000", stopping)
        self.assertEqual(await self.ended(branch), 0, branch.log_text())

    async def test_silent(self) -> None:
        """A branch of which a part is dead says no more that it lives, even before it ends."""
        branch = await self.start(ENDLESS_CHECK, limits=SHORT_CHECKS, **self.env)
        await self.until("READY=1")
        branch.signal(signal.SIGUSR2)
        self.assertEqual(await self.ended(branch), 1, branch.log_text())
        self.assertNotIn("STOPPING=1", "".join(self.heard))
