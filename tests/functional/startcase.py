"""What the tests of starts and stops share: a folder of their own, and commands run in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.support.branch import BIN, READY
from tests.support.guard import kill_all_naming, processes_naming
from tests.support.guarded import Guarded

#: Seconds that a command may take to end that does not stay.
ENDS_WITHIN = 60.0


class StartTestCase(TestCase):
    """A folder, and commands of the installed programs that know of no branch but their own."""

    timeout = 180

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="cyme-start-")
        self.root = os.path.join(self.folder, "root")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.addCleanup(kill_all_naming, self.folder)

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("CYME_")}
        return own | {"TEST_ROOT_FOLDER": self.folder} | dict(more)

    def run_command(self, command: str, *arguments: str, **env: str) -> Guarded:
        """Start an installed program in the test's folder."""
        process = Guarded(
            [os.path.join(BIN, command), *arguments],
            self.environment(env),
            cwd=self.folder,
            root=self.folder,
        )
        self.addCleanup(process.kill)
        return process

    async def ended(self, process: Guarded) -> int:
        """Wait for a program's end; its status."""
        return await deferToThread(process.wait, ENDS_WITHIN)

    async def ready(self, process: Guarded) -> tuple[str, int]:
        """Wait until a branch is up; its URL and pid."""
        line = await self.said(process, "[READY]")
        match = READY.search(line)
        assert match is not None, line
        return match["url"], int(match["pid"])

    async def said(self, process: Guarded, words: str) -> str:
        """Wait for a line that has these words."""
        return await deferToThread(process.wait_for_line, lambda line: words in line, ENDS_WITHIN)

    def left_over(self) -> list[int]:
        """The pids of what still runs of this test."""
        return processes_naming(self.folder)
