"""A page of the documentation, done as its reader would do it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.functional.branchcase import PROJECT
from tests.support.branch import BIN, START_TIMEOUT, STOP_TIMEOUT, clean_environment
from tests.support.guard import kill_all_naming
from tests.support.guarded import Ended, Guarded
from tests.support.ports import ports_for_later
from tests.support.rabbitmq import shared_rabbitmq
from tests.support.samples import Block, Command, Mark, read
from tests.support.sources import TOP
from tests.support.transcripts import matches, shortened

#: The ports of the pages.
PORTS = ("8001", "8002", "8443")
#: Seconds that a command may take.
WITHIN = 120.0
#: Seconds after which a stream of events has shown what it has.
STREAMED_FOR = 2.0

#: curl as the pages have it, which leaves the headers of the answer where they are found again.
_CURL = """#!/bin/sh
exec "{curl}" --silent --show-error --dump-header "{headers}" "$@"
"""
#: Before and after each command: one shell is like the next.
_SHELL = """
[ ! -e "{state}" ] || . "{state}"
(exit {before})
{command}
__status=$?
{{ export -p; printf 'umask %s\\ncd %q\\n' "$(umask)" "$PWD"; }} > "{state}"
exit $__status
"""
_BRANCH = re.compile(r"(?<![\w/-])cyme-branch (?!.*(--help|--version|\|))")
_CHANGES = re.compile(r" (-X|-d|--json|-N) |/queue/|/task/")
_ASKS = re.compile(r"cyme (\S+ )*(events|health|get|list|top|branches|stats|doctor|log)\b")


class PageCase(TestCase):
    """Does a page: its commands in one folder, from the top to the bottom."""

    timeout = 240
    #: Seconds for which what is only looked at may still be otherwise than it is shown.
    looked_at_for = 45.0

    def set_up_pages(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="cyme-sample-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.addCleanup(kill_all_naming, self.folder)
        self.work = os.path.join(self.folder, "work")
        os.mkdir(self.work)
        programs = os.path.join(self.folder, "bin")
        os.mkdir(programs)
        self.headers = os.path.join(self.folder, "headers")
        curl = Path(programs, "curl")
        curl.write_text(_CURL.format(curl=shutil.which("curl"), headers=self.headers))
        curl.chmod(0o755)
        self.ports = dict(zip(PORTS, map(str, ports_for_later(len(PORTS))), strict=True))
        self.broker = ""
        self.uuid = "UUID"
        self.before = 0
        self.branches: list[Guarded] = []
        self.scope: dict[str, Any] = {}
        self.said = ""
        self.environment = {
            **clean_environment(),
            "PATH": os.pathsep.join([programs, BIN, os.environ["PATH"]]),
            "PYTHONPATH": PROJECT,
            "TEST_ROOT_FOLDER": self.folder,
            "TERM": "dumb",
            # A broker that a machine happens to have is not for tests.
            "CYME_PROBE_BROKER": "amqp://guest:guest@127.0.0.1:1//",
            "CYME_SUP_INTERVAL": "2",
            "CYME_WARM_TIMEOUT": "10",
        }

    async def do_pages(self, kind: str, *pages: str) -> None:
        """Start what pages need, and do all that they say (if any), one after the other.

        :param kind: the setting of all of them.
        :raises AssertionError: with page and line, where something comes that is not as the page says.
        """
        self.set_up_pages()
        if kind in ("rabbitmq", "shared") or any("amqp://" in (TOP / page).read_text() for page in pages):
            self.broker = await deferToThread(lambda: shared_rabbitmq().new_url())
        if kind in ("embedded", "rabbitmq", "shared"):
            first = f"cyme-branch :8001 -i branch1 -D cyme/branch1/ --broker {self.broker or 'embedded'}"
            await self.do(f"before {pages}", Command(1, first, ()))
        for page in pages:
            Path(self.folder, "state").unlink(missing_ok=True)
            for found in read(page):
                await self.do_part(page, found)

    async def do_part(self, page: str, found: Mark | Block) -> None:
        if isinstance(found, Mark):
            if found.word == "before":
                await self.do(page, Command(found.line, found.text, ()))
            elif found.word == "prints":
                self.assertIn(found.text, self.said, f"{page}:{found.line}: the block above prints that")
        elif not found.is_run:
            pass
        elif found.file is not None:
            Path(self.work, os.path.basename(found.file)).write_text(self.here(found.text) + "\n")
        elif found.language == "console":
            commands = found.commands()
            for number, command in enumerate(commands):
                asked = any(one.text == "echo $?" for one in commands[number + 1 : number + 2])
                await self.do(page, command, may_fail=asked)
        elif found.language == "python":
            await self.do_python(found)

    def here(self, text: str) -> str:
        """A sample with what the test has started, instead of what the page names."""
        for port, own in self.ports.items():
            text = re.sub(rf"(?<=:){port}\b", own, text)
        if self.broker:
            text = re.sub(r"amqp://[^\s'\"]+", self.broker, text)
        return re.sub(r"\bUUID\b", self.uuid, text)

    def there(self, text: str) -> str:
        """What came, as the page would have it."""
        for port, own in self.ports.items():
            text = re.sub(rf"(?<=:){own}\b", port, text)
        return text

    async def do(self, page: str, command: Command, *, may_fail: bool = False) -> None:
        """Do a command until what comes is as it is to be.

        :param may_fail: whether the page asks for its status next.
        """
        text = self.here(command.text)
        if text == "^C":
            await self.stop_branches(page, command)
            return
        do = self.start_branch if _BRANCH.search(text) else self.run_command
        only_looks = (text.startswith("curl ") and not _CHANGES.search(text)) or _ASKS.match(text)
        end = time.monotonic() + (self.looked_at_for if only_looks else 0.0)
        while True:
            status, came = await deferToThread(do, text)
            came = self.there(came)
            problem = self.problem(command, 0 if may_fail else status, came)
            if problem is None or time.monotonic() > end:
                break
            await deferToThread(time.sleep, 0.1)
        if problem is not None:
            log = "\n".join(line for branch in self.branches for line in branch.lines()[-10:])
            self.fail(f"{page}:{command.line}: $ {command.text}\n{problem}\n-- the branches:\n{log}")
        self.before = status
        if match := re.search(r'"uuid": "([^"]+)"', came):
            self.uuid = match[1]

    def problem(self, command: Command, status: int, came: str) -> str | None:
        """What is otherwise than the page says, or None."""
        shown = [re.sub(r"\bUUID\b", self.uuid, line) for line in command.shown]
        if shown and not matches(shown, came):
            return "shown:\n" + "\n".join(command.shown) + f"\ncame (status {status}):\n{shortened(came)}"
        says_status = any(line.startswith("HTTP/1.1 ") for line in command.shown)
        if command.text.startswith("curl ") and not says_status:
            answered = self.status()
            if answered is not None and answered >= 400:
                return f"answered with {answered}: {shortened(came)}"
        if status and " -N " not in command.text:
            return f"ended with {status}: {shortened(came)}"
        return None

    def status(self) -> int | None:
        """The status of the last answer; None where the last request got none."""
        headers = Path(self.headers)
        found = re.findall(r"^HTTP/\S+ (\d+)", headers.read_text() if headers.exists() else "", re.MULTILINE)
        return int(found[-1]) if found else None

    def shell(self, command: str) -> list[str]:
        state = os.path.join(self.folder, "state")
        return ["bash", "-c", _SHELL.format(state=state, before=self.before, command=command)]

    def run_command(self, text: str) -> tuple[int, str]:
        """Run a command; its exit status and output. Blocks."""
        if " -N " in text:
            text = text.replace("curl ", f"curl --max-time {STREAMED_FOR} ", 1)
        Path(self.headers).unlink(missing_ok=True)
        done = subprocess.run(
            self.shell(text),
            env=self.environment,
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=WITHIN,
        )
        return done.returncode, done.stdout.decode(errors="replace")

    def start_branch(self, text: str) -> tuple[int, str]:
        """Start a branch; 0 once it is up, or its status if it has ended, and what it said. Blocks."""
        text = text.replace("cyme-branch ", "exec cyme-branch ", 1)
        branch = Guarded(self.shell(text), self.environment, cwd=self.work, root=self.folder)
        self.addCleanup(branch.kill)
        try:
            branch.wait_for_line(lambda line: "[READY]" in line, START_TIMEOUT)
        except Ended:
            return branch.status or 0, branch.log_text()
        self.branches.append(branch)
        return 0, branch.log_text()

    async def stop_branches(self, page: str, command: Command) -> None:
        for branch in self.branches:
            branch.signal(signal.SIGINT)
        for branch in self.branches:
            status = await deferToThread(branch.wait, STOP_TIMEOUT)
            if status not in (0, 137):
                self.fail(f"{page}:{command.line}: a branch ended with {status}:\n{branch.log_text()}")
        self.branches = []

    async def do_python(self, block: Block) -> None:
        """Run a block of Python, and the function `main` if it is one that is given the reactor."""
        source = "\n" * (block.begins - 1) + self.here(block.text)
        said = io.StringIO()

        def run() -> None:
            with contextlib.redirect_stdout(said):
                exec(compile(source, block.page, "exec"), self.scope)

        await deferToThread(run)
        main = self.scope.pop("main", None)
        if iscoroutinefunction(main):
            with contextlib.redirect_stdout(said):
                await main(reactor)
        self.said = self.there(said.getvalue())
