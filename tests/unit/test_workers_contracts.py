"""The contracts of workers and launchers, kept by the fakes and by `Workers` over a fake launcher."""

from __future__ import annotations

from pathlib import Path
from signal import SIGUSR1
from typing import Any

from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.planning import Desired
from cyme.workers.proc import Condition
from cyme.workers.resources import Usage
from cyme.workers.service import Workers
from tests.contracts.launcher import make_launcher_tests
from tests.contracts.workers import STACKS, make_workers_tests
from tests.fakes.launcher import FakeLauncher
from tests.fakes.workers import FakeWorkers

#: How a worker is that could print its stacks.
CATCHES = Condition("S", 1 << SIGUSR1 - 1)


def printed(stacks: str) -> str:
    """What Celery prints of one thread, in which `stacks` stands."""
    rule = "=" * 49 + "\n"
    return f"{stacks}{rule}LOCAL VARIABLES\n{rule}{{'password': 'secret'}}\n\n\n"


USAGE = Usage(rss=50 << 20, cpu_seconds=1.0, processes=2, open_files=9, open_files_limit=1024)


class OverFakeLauncher:
    """`Workers` over processes that are none."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.launcher = FakeLauncher(self.clock)
        self.root = Path(test.mktemp())
        self.root.mkdir()
        self.workers = self.make()
        test.addCleanup(lambda: test.assertEqual(self.clock.getDelayedCalls(), []))
        test.addCleanup(self.workers.release)

    def make(self) -> Workers:
        return Workers(
            self.clock,
            self.launcher,
            self.root,
            celery_loglevel="INFO",
            env={},
            in_thread=execute,
            condition=lambda pid: CATCHES,
            measure=lambda pids: dict.fromkeys(pids, USAGE),
            incarnation=lambda pid: f"boot/{pid}/1",
        )

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def process(self, name: str) -> Any:
        pid = self.workers.processes()[name].pid
        return next(one for one in self.launcher.launched if one.pid == pid)

    def say_ready(self, name: str) -> None:
        self.process(name).say_ready()

    def end(self, name: str, *, status: int | None = None, signal: int | None = None) -> None:
        self.process(name).end(status, signal)

    def leave_running(self, desired: Desired) -> None:
        earlier = self.make()
        earlier.start(desired)
        earlier.release()

    def print_stacks(self, name: str) -> None:
        process = self.process(name)
        Path(process.log).write_text("a line\n")
        process.prints_on[SIGUSR1] = printed(STACKS)

    def write_log(self, name: str, lines: tuple[str, ...]) -> None:
        Path(self.process(name).log).write_text("".join(f"{line}\n" for line in lines))


class Faked(FakeWorkers):
    """The fake, with the names that its contract's tests use."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self.clock = Clock()
        super().__init__(self.clock)

    @property
    def workers(self) -> FakeWorkers:
        return self

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def print_stacks(self, name: str) -> None:
        self.stacks[name] = STACKS

    def write_log(self, name: str, lines: tuple[str, ...]) -> None:
        self.lines[name] = lines


class FakedLauncher:
    """The fake launcher; its processes are ended by SIGTERM and SIGKILL."""

    argv = ("sleep", "600")

    def __init__(self, test: SynchronousTestCase) -> None:
        from twisted.internet import reactor

        self.launcher = FakeLauncher(reactor)
        self.launcher.ends_on = {15: (None, 15), 9: (None, 9)}

    def path(self, name: str) -> str:
        return f"/nowhere/{name}"

    def settled(self, record: str) -> Deferred[None]:
        return succeed(None)

    def end(self, handle: Any, status: int) -> None:
        next(one for one in self.launcher.launched if one.pid == handle.pid).end(status)


class WorkersTests(make_workers_tests(OverFakeLauncher)):  # type: ignore[misc]
    """`Workers` keeps the contract."""


class FakeWorkersTests(make_workers_tests(Faked)):  # type: ignore[misc]
    """`FakeWorkers` keeps the contract."""


class FakeLauncherTests(make_launcher_tests(FakedLauncher)):  # type: ignore[misc]
    """`FakeLauncher` and `FakeHandle` keep the contract."""
