"""Real branches: `cyme-branch` or `twistd -n cyme` in a process and a folder of their own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.support.guard import kill_all_naming, processes_naming
from tests.support.guarded import Ended, Guarded
from tests.support.http import Client

#: The line by which a branch says that everything is up.
READY = re.compile(r"\[READY\] branch (?P<id>\S+) at (?P<url>(?:http|unix:)\S+) \(pid (?P<pid>\d+)\)")

#: Seconds that a branch may take to start; it takes about one on an idle machine.
START_TIMEOUT = 60.0

#: Seconds that a clean stop may take, workers included.
STOP_TIMEOUT = 60.0

#: The folder of the programs that were installed beside this Python.
BIN = os.path.dirname(sys.executable)

#: Seconds that an impatient branch waits where the wait does not grow; jitter makes it up to twice as long.
STEADY = 1.0

#: `cyme-branch` with shorter waits of those that no option sets: for an answer, for the end of a worker
#: that is stopped coldly, and between attempts where the wait does not grow.
IMPATIENT = f"""
import sys
from functools import partial
from cyme import planning
from cyme.cli import cyme_branch
from cyme.supervisor import questions
from cyme.workers import service
questions.ANSWER_TIMEOUT = 1.0
service.Workers = partial(service.Workers, cold_timeout=1.0)
planning.Policy = partial(planning.Policy, steady={STEADY})
cyme_branch(sys.argv[1:])
"""

#: `cyme-branch` as the process that orphans fall to, as they do to the first process of a container.
SUBREAPER = """
import ctypes, sys
from cyme.cli import cyme_branch
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
cyme_branch(sys.argv[1:])
"""

#: How each command is started, up to its options.
COMMANDS: Mapping[str, Sequence[str]] = {
    "cyme-branch": [os.path.join(BIN, "cyme-branch")],
    "impatient": [sys.executable, "-c", IMPATIENT],
    "subreaper": [sys.executable, "-c", SUBREAPER],
    "twistd": [os.path.join(BIN, "twistd"), "-n", "--pidfile=", "cyme"],
}


def clean_environment() -> dict[str, str]:
    """This process's environment without settings for Cyme, and without what trial adds.

    `trial --jobs` puts its own import path into PYTHONPATH, which would reach everything
    that the tests start and make it find what is not installed.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONPATH" and not name.startswith("CYME_")
    }


class BranchProcess:
    """One branch. It lives until the end of the test, and so do its workers at most.

    :param broker: a URL, `embedded`, or None to say nothing about it.
    :param options: more options of the command.
    :param root: a root folder to use; by default a new one, removed with the test.
    :param env: variables beside this process's own, see `clean_environment`.
    :param command: one of `COMMANDS`.
    """

    def __init__(
        self,
        test: TestCase,
        *options: str,
        broker: str | None = None,
        branch_id: str = "branch1",
        http: str = "127.0.0.1:0",
        root: str | None = None,
        env: Mapping[str, str] | None = None,
        command: str = "cyme-branch",
    ) -> None:
        self.id = branch_id
        self.root = root or tempfile.mkdtemp(prefix="cyme-branch-")
        self.url = ""
        self._test = test
        self._argv = [*COMMANDS[command], "-i", branch_id, "-D", self.root, "--http", http]
        if broker is not None:
            self._argv += ["--broker", broker]
        self._argv += options
        self._env = clean_environment()
        # By this a left-over of the test is known, whatever it is (see `guard.processes_naming`).
        self._env["TEST_ROOT_FOLDER"] = self.root
        self._env.update(env or {})
        self._process: Guarded | None = None
        test.addCleanup(self.destroy)

    async def start(self, *, timeout: float = START_TIMEOUT) -> BranchProcess:
        """Start it, or start it again in the same root folder; returns once it serves.

        :raises Ended: when it ended before it served; the text has what it said.
        """
        self._process = self.launch()
        line = await deferToThread(
            self._process.wait_for_line, lambda line: READY.search(line) is not None, timeout
        )
        match = READY.search(line)
        assert match is not None
        self.url = match["url"]
        return self

    def launch(self) -> Guarded:
        """Start it without waiting for anything; for tests of a start that fails."""
        if self._process is not None and self._process.status is None:
            raise RuntimeError("it runs already")
        self._process = Guarded(self._argv, self._env, cwd=self.root, root=self.root)
        return self._process

    @property
    def process(self) -> Guarded:
        """The process of its present or last life."""
        assert self._process is not None, "it was never started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    def client(self) -> Client:
        """A new HTTP client for its present address."""
        return Client(self._test, self.url)

    async def wait_for_line(self, text: str, timeout: float = 30.0, *, skip: int = 0) -> str:
        """The first line of its log (after the first `skip` lines) that contains `text`."""
        return await deferToThread(self.process.wait_for_line, lambda line: text in line, timeout, skip=skip)

    async def terminate(self, *, timeout: float = STOP_TIMEOUT) -> int:
        """Stop it in good order; its exit status.

        :raises Ended: when it still runs after `timeout` seconds.
        """
        self.process.signal(signal.SIGTERM)
        return await deferToThread(self.process.wait, timeout)

    async def kill(self) -> None:
        """Kill the branch with -9; its workers live on. Returns when it is gone."""
        self.process.signal(signal.SIGKILL)
        await deferToThread(self.process.wait, 10.0)

    def log_text(self) -> str:
        """What its present or last life has written."""
        return self.process.log_text()

    def left_over(self) -> list[int]:
        """The pids of all processes that belong to its root folder, the branch itself included."""
        return processes_naming(self.root)

    def destroy(self) -> None:
        """Kill the branch and all that it started, and remove its root folder."""
        if self._process is not None:
            try:
                self._process.kill()
            except Ended:
                pass
        kill_all_naming(self.root)
        shutil.rmtree(self.root, ignore_errors=True)
