"""Starts that are refused: one clear line, status 1, and nothing was started."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests.functional.startcase import StartTestCase
from tests.support.waiting import eventually


class CymeBranchTests(StartTestCase):
    """What `cyme-branch` refuses."""

    #: How a branch is started, up to its options.
    command: tuple[str, ...] = ("cyme-branch",)

    async def refused(self, *options: str, root: str | None = None) -> str:
        """Start a branch that can't be; the one line that it says, without its beginning."""
        process = self.run_command(*self.command, "-D", root or self.root, "-b", "embedded", *options)
        self.assertEqual(await self.ended(process), 1, process.log_text())
        lines = process.lines()
        self.assertEqual(len(lines), 1, lines)
        self.assertTrue(lines[0].startswith("cyme: "), lines)
        return lines[0].removeprefix("cyme: ")

    def assert_nothing_started(self) -> None:
        self.assertEqual(self.left_over(), [])
        self.assertFalse(os.path.exists(os.path.join(self.root, ".redis", "redis.json")))

    async def test_port_taken(self) -> None:
        """A port that somebody has is named."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            line = await self.refused(f":{port}")
        self.assertEqual(
            line,
            f"HTTP can't be served at 127.0.0.1, port {port}: Address already in use;"
            " --http names another address",
        )
        self.assert_nothing_started()

    async def test_foreign_address(self) -> None:
        """An address that this machine does not have is named (TEST-NET-1 is nobody's)."""
        line = await self.refused("--insecure", "192.0.2.1:0")
        self.assertIn("HTTP can't be served at 192.0.2.1, port 0: Cannot assign requested address", line)
        self.assert_nothing_started()

    async def test_no_folder(self) -> None:
        """A root folder that can't be made is named with the system's reason."""
        path = os.path.join(self.folder, "file", "root")
        Path(path).parent.write_text("")
        line = await self.refused(":0", root=path)
        self.assertTrue(line.startswith(f"the root folder {path} can't be used: Not a directory"), line)
        self.assert_nothing_started()

    async def test_not_writable(self) -> None:
        """A root folder that can't be written to is named; in procfs not even root can."""
        line = await self.refused(":0", root="/proc/self/task")
        self.assertIn("the root folder /proc/self/task can't be used: ", line)
        self.assert_nothing_started()

    async def test_held(self) -> None:
        """A root folder that a branch holds is refused with that branch's id and pid, and it goes on."""
        holder = self.run_command("cyme-branch", ":0", "-i", "first", "-D", self.root, "-b", "embedded")
        _, pid = await self.ready(holder)
        line = await self.refused(":0")
        self.assertEqual(line, f"branch first (pid {pid}) holds the root folder {self.root}")
        self.assertIsNone(holder.status)

    async def test_other_id(self) -> None:
        """A root folder that belongs to another branch is refused."""
        os.mkdir(self.root)
        Path(self.root, "branch.json").write_text('{"id": "first", "broker": "embedded"}')
        line = await self.refused(":0", "-i", "second")
        self.assertIn(f"the root folder {self.root} belongs to branch first, not to second", line)
        self.assert_nothing_started()

    async def test_database(self) -> None:
        """A database that can't be opened, or is none, is named."""
        no_database = os.path.join(self.folder, "text.db")
        Path(no_database).write_text("This is no database, and long enough to be seen to be none. " * 20)
        for path in ("/proc/nope/branch.db", no_database):
            self.assertIn(path, await self.refused(":0", "--database", f"sqlite:///{path}"))
        self.assert_nothing_started()

    async def test_long_path(self) -> None:
        """A root folder whose path is too long for the embedded Redis's socket is refused."""
        line = await self.refused(":0", root=os.path.join(self.root, "x" * 100))
        self.assertIn("bytes long, and 107 is the most", line)
        self.assert_nothing_started()

    async def test_log_file(self) -> None:
        """A log file that can't be opened is named."""
        line = await self.refused(":0", "-f", "/proc/nope/x.log")
        self.assertIn("the log file /proc/nope/x.log can't be opened: No such file or directory", line)
        self.assert_nothing_started()

    async def test_log(self) -> None:
        """With a log file the refusal stands there, too."""
        log = os.path.join(self.folder, "x.log")
        line = await self.refused(":0", "-f", log, "--database", "sqlite:////proc/nope/branch.db")
        (logged,) = Path(log).read_text().splitlines()
        self.assertRegex(logged, r"^\[[^]]+: CRITICAL/cyme\.tap\] ")
        self.assertTrue(logged.endswith(line), (logged, line))


class TwistdTests(CymeBranchTests):
    """What `twistd -n cyme` refuses: the same, in the same words."""

    command = ("twistd", "-n", "cyme")

    async def test_no_pidfile(self) -> None:
        """A refusal leaves no pid file behind."""
        await self.refused(":0", "--database", "sqlite:////proc/nope/branch.db")
        self.assertNotIn("twistd.pid", os.listdir(self.folder))


class DaemonTests(StartTestCase):
    """Refusals of daemons, which have no terminal any more."""

    async def refused(self, command: str, *arguments: str) -> str:
        """Start a daemon in vain; what its parent says."""
        process = self.run_command(command, *arguments)
        self.assertEqual(await self.ended(process), 1, process.log_text())
        # The parent ends when it is told, which the daemon does just before its own end.
        await eventually(lambda: not self.left_over(), 30.0, "the daemon's end")
        return process.log_text()

    async def check(self, *command: str) -> None:
        """The parent says that it failed and why; the log has it in full, in one line."""
        said = await self.refused(*command, "-D", self.root, "-b", "embedded", "--http", "unix:/proc/nope/x")
        self.assertIn("HTTP can't be served", said)
        (line,) = Path(self.root, "branch.log").read_text().splitlines()
        words = "HTTP can't be served at unix:/proc/nope/x: No such file"
        self.assertRegex(line, rf"^\[[^]]+: CRITICAL/cyme\.tap\] {words}")

    async def test_cyme_branch(self) -> None:
        """`cyme-branch --detach` fails when its daemon can't start, and leaves no pid file."""
        await self.check("cyme-branch", "--detach")
        self.assertNotIn("branch.pid", os.listdir(self.root))

    async def test_twistd(self) -> None:
        """`twistd cyme` fails when its daemon can't start, and leaves no pid file."""
        await self.check("twistd", "cyme")
        self.assertNotIn("twistd.pid", os.listdir(self.folder))

    async def test_held(self) -> None:
        """`cyme-branch --detach` says in the terminal that the root folder is held."""
        holder = self.run_command("cyme-branch", ":0", "-i", "first", "-D", self.root, "-b", "embedded")
        _, pid = await self.ready(holder)
        second = self.run_command("cyme-branch", "--detach", ":0", "-D", self.root)
        self.assertEqual(await self.ended(second), 1)
        self.assertEqual(
            second.lines(), [f"cyme: branch first (pid {pid}) holds the root folder {self.root}"]
        )
