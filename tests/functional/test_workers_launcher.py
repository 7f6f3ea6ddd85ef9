"""Real processes: launched, found again, signalled, and noticed when they end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from cyme.workers import handle as handle_module
from cyme.workers.handle import Handle
from cyme.workers.launcher import ProcessLauncher
from tests.contracts.launcher import make_launcher_tests, until_reactor_runs
from tests.support.waiting import eventually, when_ended


class Processes:
    """Launches shells that do what they are told, in a folder of their own."""

    def __init__(self, test: TestCase) -> None:
        # Not in trial's folder: what is told by a fifo must not be far away.
        self.folder = Path(tempfile.mkdtemp(prefix="cyme-test-"))
        test.addCleanup(shutil.rmtree, self.folder)
        self.launcher = ProcessLauncher(reactor)
        self.fifo = self.path("fifo")
        os.mkfifo(self.fifo)
        self.argv = ("sh", "-c", f"read status < {self.fifo}; exit $status")
        self._test = test

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def settled(self, record: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._settled(record))

    async def _settled(self, record: str) -> None:
        await eventually(lambda: os.path.exists(record), 10, "the record")

    def end(self, handle: Any, status: int) -> None:
        # Opened for reading too, so that this waits for nobody.
        fifo = os.open(self.fifo, os.O_RDWR)
        self._test.addCleanup(os.close, fifo)
        os.write(fifo, b"%d\n" % status)

    async def run(self, *argv: str, env: dict[str, str] | None = None) -> Handle:
        """Launch a program and wait for its record."""
        record = self.path("w1.json")
        handle = self.launcher.launch(
            argv,
            {"PATH": os.environ["PATH"]} if env is None else env,
            record=record,
            log=self.path("w1.log"),
            identity="w1",
            ready=lambda: None,
        )
        assert isinstance(handle, Handle)
        self._test.addCleanup(self.clean_up, handle)
        await self._settled(record)
        return handle

    async def clean_up(self, handle: Handle) -> None:
        ended = handle.when_ended()
        handle.signal(signal.SIGKILL, group=True)
        await ended
        handle.release()

    def output(self) -> str:
        return Path(self.path("w1.log")).read_text()


class ProcessLauncherTests(make_launcher_tests(Processes)):  # type: ignore[misc]
    """`ProcessLauncher` and its handles keep the contract."""


class LaunchTests(TestCase):
    """What a child gets from the branch, and what it does not."""

    timeout = 30

    async def setUp(self) -> None:  # type: ignore[override]
        await until_reactor_runs()
        self.processes = Processes(self)

    async def output_of(self, *argv: str, **arguments: Any) -> str:
        handle = await self.processes.run(*argv, **arguments)
        self.assertEqual(await handle.when_ended(), (0, None))
        return self.processes.output()

    async def test_session(self) -> None:
        """A child leads a session of its own."""
        handle = await self.processes.run(*self.processes.argv)
        self.assertEqual((os.getsid(handle.pid), os.getpgid(handle.pid)), (handle.pid, handle.pid))

    async def test_descriptors(self) -> None:
        """A program inherits its input and its output, and nothing else."""
        script = "import os; print([fd for fd in range(256) if os.path.exists(f'/proc/self/fd/{fd}')])"
        self.assertEqual(await self.output_of(sys.executable, "-c", script), "[0, 1, 2]\n")

    async def test_environment(self) -> None:
        """A program has the environment that it was given, and nothing else."""
        # Without a locale Python would give it one.
        env = {"LC_ALL": "C.UTF-8", "ONLY": "this"}
        self.assertEqual(
            sorted((await self.output_of("env", env=env)).splitlines()), ["LC_ALL=C.UTF-8", "ONLY=this"]
        )

    async def test_output(self) -> None:
        """Both outputs are appended to the log, which is for the owner's eyes."""
        Path(self.processes.path("w1.log")).write_text("before\n")
        os.chmod(self.processes.path("w1.log"), 0o600)
        self.assertEqual(await self.output_of("sh", "-c", "echo out; echo err >&2"), "before\nout\nerr\n")

    async def test_private(self) -> None:
        """The log and the record are for the owner's eyes alone."""
        await self.output_of("true")
        for name in ("w1.log", "w1.json"):
            mode = os.stat(self.processes.path(name)).st_mode
            self.assertEqual((name, stat.S_IMODE(mode)), (name, 0o600))

    async def test_record_before(self) -> None:
        """The record of the process before is kept, that of the one before it is not."""
        pids = []
        for _ in range(3):
            handle = await self.processes.run("true")
            pids.append(handle.pid)
            await handle.when_ended()
        records = [self.processes.path(name) for name in ("w1.json.before", "w1.json")]
        self.assertEqual([json.loads(Path(path).read_text())["pid"] for path in records], pids[1:])

    async def test_no_such_program(self) -> None:
        """A program that is not there ends with 127, as from a shell, and the log says why."""
        handle = await self.processes.run("/no/such/program")
        self.assertEqual(await handle.when_ended(), (127, None))
        self.assertIn("/no/such/program can't be run", self.processes.output())

    async def test_record_cannot_be_written(self) -> None:
        """A child that can't leave its record does not go on."""
        os.mkdir(self.processes.path("w1.json"))
        handle = self.processes.launcher.launch(
            ("touch", self.processes.path("done")),
            {"PATH": os.environ["PATH"]},
            record=self.processes.path("w1.json"),
            log=self.processes.path("w1.log"),
            identity="w1",
            ready=lambda: None,
        )
        self.addCleanup(handle.release)
        self.assertEqual(await handle.when_ended(), (1, None))
        self.assertFalse(os.path.exists(self.processes.path("done")))

    def test_impossible_argument(self) -> None:
        """Arguments that no process can have are an OSError that does not repeat them."""
        with self.assertRaises(OSError) as caught:
            self.processes.launcher.launch(
                ("echo", "a\0b"),
                {},
                record=self.processes.path("w1.json"),
                log=self.processes.path("w1.log"),
                identity="w1",
                ready=lambda: None,
            )
        self.assertNotIn("b", str(caught.exception).partition(":")[2])


class FindTests(TestCase):
    """Whom a record does not lead to."""

    timeout = 30

    async def setUp(self) -> None:  # type: ignore[override]
        await until_reactor_runs()
        self.processes = Processes(self)
        self.handle = await self.processes.run(*self.processes.argv)
        self.record = Path(self.processes.path("w1.json"))

    def change(self, **values: Any) -> None:
        self.record.write_text(json.dumps({**json.loads(self.record.read_text()), **values}))

    def find(self) -> Any:
        return self.processes.launcher.find(str(self.record))

    async def test_recycled_pid(self) -> None:
        """A process that has the recorded pid but another start time is not found."""
        stranger = subprocess.Popen(["sleep", "600"])
        self.addCleanup(stranger.wait)
        self.addCleanup(stranger.kill)
        self.change(pid=stranger.pid)
        self.assertIsNone(self.find())

    async def test_another_boot(self) -> None:
        """What an earlier boot of the machine recorded is not found."""
        self.change(boot_id="00000000-0000-0000-0000-000000000000")
        self.assertIsNone(self.find())

    async def test_zombie(self) -> None:
        """A process that has ended and is not reaped is not found."""
        process = subprocess.Popen(["sleep", "600"])
        self.addCleanup(process.wait)
        ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        self.change(pid=process.pid, start_ticks=int(ticks))
        found = self.find()
        self.assertEqual(found.pid, process.pid)
        found.release()
        process.kill()
        await when_ended(process.pid, 10)
        self.assertIsNone(self.find())

    async def test_damaged_record(self) -> None:
        """A file that is no record leads to nobody, whatever stands in it."""
        for content in (b"", b"{", b"\xff", b"[]", b"{}", b'{"pid": -1}', b'"text"'):
            self.record.write_bytes(content)
            self.assertIsNone(self.find(), content)
        for changed in ({"pid": 0}, {"pid": -1}, {"pid": True}, {"pid": "1"}, {"identity": None}):
            self.record.write_text(json.dumps(changed))
            self.assertIsNone(self.find(), changed)

    async def test_unreadable_record(self) -> None:
        """A record that can't be read leads to nobody."""
        self.record.unlink()
        self.record.mkdir()
        self.assertIsNone(self.find())


class GroupTests(TestCase):
    """Process groups, and their end."""

    timeout = 30

    async def setUp(self) -> None:  # type: ignore[override]
        await until_reactor_runs()
        self.processes = Processes(self)

    async def with_member(self, **env: str) -> tuple[Handle, int]:
        """A leader and the pid of another process of its group."""
        argv = ("sh", "-c", "sleep 600 & echo $!; read x < $0", self.processes.fifo)
        handle = await self.processes.run(*argv, env={"PATH": os.environ["PATH"], **env})
        await eventually(self.processes.output, 10, "the pid of the member")
        return handle, int(self.processes.output())

    async def survives(self, handle: Handle, member: int) -> None:
        """End the leader; the other one lives."""
        ended = handle.when_ended()
        handle.signal(signal.SIGKILL)
        await ended
        os.kill(member, 0)

    async def test_group(self) -> None:
        """A signal to the group reaches all of it."""
        handle, member = await self.with_member()
        handle.signal(signal.SIGKILL, group=True)
        await when_ended(member, 10)
        await handle.when_ended()

    async def test_left_over(self) -> None:
        """What outlives its leader can be killed after the leader was reaped."""
        handle, member = await self.with_member()
        await self.survives(handle, member)
        handle.signal(signal.SIGKILL, group=True)
        await when_ended(member, 10)

    async def test_left_over_on_an_old_kernel(self) -> None:
        """So it can where the kernel does not know groups by pidfd."""
        self.patch(handle_module, "PIDFD_SIGNAL_PROCESS_GROUP", 1 << 30)
        await self.test_left_over()

    async def test_without_pidfd(self) -> None:
        """A child of our own can be signalled when no pidfd was to be had."""

        def no_more(pid: int) -> int:
            raise OSError(24, "Too many open files")

        self.patch(os, "pidfd_open", no_more)
        handle, member = await self.with_member()
        await self.survives(handle, member)
        handle.signal(signal.SIGTERM)
        handle.signal(signal.SIGKILL, group=True)
        await eventually(lambda: not os.path.exists(f"/proc/{member}"), 10, "its end")

    async def test_found_too_late(self) -> None:
        """What outlived its leader unnoticed is killed when its record is read, if it names the folder."""
        for env, is_ours in (({"LOG": self.processes.path("w1.log")}, True), ({}, False)):
            handle, member = await self.with_member(**env)
            await self.survives(handle, member)
            self.assertIsNone(self.processes.launcher.find(self.processes.path("w1.json")))
            if is_ours:
                await when_ended(member, 10)
            else:
                os.kill(member, signal.SIGKILL)  # it lives: no ProcessLookupError
            os.unlink(self.processes.path("w1.json"))
            os.truncate(self.processes.path("w1.log"), 0)

    async def test_frozen(self) -> None:
        """A frozen process is killed all the same."""
        handle = await self.processes.run(*self.processes.argv)
        handle.signal(signal.SIGSTOP)
        handle.signal(signal.SIGTERM)
        ended = handle.when_ended()
        handle.signal(signal.SIGKILL, group=True)
        self.assertEqual(await ended, (None, signal.SIGKILL))

    async def test_released(self) -> None:
        """What was let go gets no more signals."""
        handle, member = await self.with_member()
        pidfd = os.pidfd_open(handle.pid)
        self.addCleanup(os.close, pidfd)
        handle.release()
        handle.signal(signal.SIGKILL, group=True)
        os.kill(member, 0)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.kill(member, signal.SIGKILL)
