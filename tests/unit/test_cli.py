"""The command `cyme-branch`: its own options, and what it tells twistd's runner."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from cyme import cli
from cyme.cli import BranchOptions, cyme_branch, runner_options
from cyme.rootfolder import RootFolder
from cyme.tap import Options


def parse(*arguments: str) -> BranchOptions:
    options = BranchOptions({})
    options.parseOptions(arguments)
    return options


class BranchOptionsTests(SynchronousTestCase):
    """What `cyme-branch` takes."""

    def test_more(self) -> None:
        """It takes all that `twistd cyme` takes, and what the process is told."""
        known = set(Options({})) | {"detach", "pidfile", "uid", "gid", "umask"}
        self.assertEqual(set(BranchOptions({})), known)

    def test_process(self) -> None:
        """Users and groups go by name or number, the mask is octal."""
        options = parse("--uid=root", "--gid=0", "--umask=027", "--pidfile=/p")
        self.assertEqual([options[name] for name in ("uid", "gid", "umask", "pidfile")], [0, 0, 0o27, "/p"])

    def test_refused(self) -> None:
        """What makes no sense is refused by name, before anything is done."""
        cases = {
            "--uid=no-such-user": "--uid: there is no user 'no-such-user'",
            "--gid=no-such-group": "--gid: there is no group 'no-such-group'",
            "--umask=9": "--umask: '9' is not a mask: three octal digits, like 027",
            "--sup-interval=x": "--sup-interval: 'x' is not",
        }
        for argument, words in cases.items():
            self.assertIn(words, str(self.assertRaises(UsageError, parse, argument)))

    def test_detach(self) -> None:
        """A daemon has its log and pid file in the root folder unless told otherwise."""
        options = parse("--detach", "-D", "/r")
        self.assertEqual((options["pidfile"], options.settings.logfile), ("/r/branch.pid", "/r/branch.log"))
        self.assertEqual(parse("--detach", "--pidfile=/p")["pidfile"], "/p")
        self.assertIsNone(parse()["pidfile"])

    def test_help(self) -> None:
        """The help is the command's own, not twistd's."""
        text = str(BranchOptions({}))
        self.assertTrue(text.startswith("Usage: cyme-branch [options] [address]\n"))
        for words in ("--detach", "--umask=", "--broker=", "cyme-branch :8001 -i branch1 -D cyme/branch1/"):
            self.assertIn(words, text)
        self.assertNotIn("twistd", text)


class RunnerTests(SynchronousTestCase):
    """What twistd's runner is told."""

    def test_terminal(self) -> None:
        """In the terminal there is no daemon and no pid file."""
        options = parse("-D", "/r")
        config = runner_options(options)
        self.assertTrue(config["nodaemon"])
        self.assertFalse(config["pidfile"])
        self.assertTrue(config["no_save"])
        self.assertIs(config.subOptions, options)
        self.assertIs(options.parent, config)

    def test_daemon(self) -> None:
        """With --detach there are both; users, groups and the mask are passed on."""
        config = runner_options(parse("--detach", "-D", "/r", "--uid=0", "--gid=0", "--umask=027"))
        self.assertFalse(config["nodaemon"])
        self.assertEqual(config["pidfile"], "/r/branch.pid")
        self.assertEqual([config[name] for name in ("uid", "gid", "umask")], [0, 0, 0o27])

    def test_service(self) -> None:
        """The runner finds the maker of the service without a search for plug-ins."""
        config = runner_options(parse("-D", "/r"))
        self.assertIs(config.loadedPlugins[config.subCommand].options, Options)


class CommandTests(SynchronousTestCase):
    """The command as a whole."""

    def setUp(self) -> None:
        self.ran: list[Any] = []
        self.said = io.StringIO()
        self.patch(cli, "runApp", self.ran.append)
        self.patch(sys, "stderr", self.said)
        self.path = os.path.abspath(self.mktemp())
        self.patch(os, "environ", {})

    def test_runs(self) -> None:
        """A good command line is run, in a root folder that was made."""
        cyme_branch([":8001", "-i", "branch1", "-D", self.path])
        self.assertEqual(self.ran[0].subOptions.settings.id, "branch1")
        self.assertTrue(os.path.isdir(self.path))

    def refused(self, *arguments: str) -> str:
        ended = self.assertRaises(SystemExit, cyme_branch, arguments)
        self.assertEqual((ended.code, self.ran), (1, []))
        return self.said.getvalue()

    def test_usage(self) -> None:
        """A bad command line is told on standard error, with status 1 and the way to the help."""
        text = self.refused("--sup-interval=x")
        self.assertEqual(
            text,
            "cyme-branch: --sup-interval: 'x' is not a number of seconds of at least 0.1\n"
            "Try 'cyme-branch --help'.\n",
        )

    def test_root_folder(self) -> None:
        """A root folder that can't be made is told before anything is run."""
        text = self.refused("-D", "/proc/nope/x")
        self.assertTrue(text.startswith("cyme: the root folder /proc/nope/x can't be used:"), text)
        self.assertEqual(text.count("\n"), 1)

    def test_held(self) -> None:
        """A daemon is not begun in a root folder that is held."""
        root = RootFolder(self.path, generate_id=str)
        root.open("other")
        self.addCleanup(root.close)
        text = self.refused("--detach", "-D", self.path)
        self.assertEqual(text, f"cyme: branch other (pid {os.getpid()}) holds the root folder {self.path}\n")
