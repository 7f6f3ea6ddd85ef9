"""How a worker's stacks are asked for, and found in what it writes."""

from __future__ import annotations

from pathlib import Path
from signal import SIGKILL, SIGUSR1
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.errors import NoDump
from cyme.workers.dumps import KEPT, MOST, READ_MOST, Following, stacks_in
from cyme.workers.proc import Condition, parse_condition
from cyme.workers.service import Workers
from tests.contracts.workers import desired
from tests.fakes.launcher import FakeLauncher

RULE = "=" * 49
#: What Celery 5.7 printed of two threads, shortened.
PRINTED = f"""\
MainThread
{RULE}
  File "child.py", line 173, in <module>
    main()
  File "eventio.py", line 83, in poll
    return self._epoll.poll(timeout if timeout is not None else -1)
           ^^^^^^^^^^^^^^^^
{RULE}
LOCAL VARIABLES
{RULE}
{{'sep': '{RULE}',
 'tmap': {{140416171031424: <_MainThread(MainThread, started 140416171031424)>}}}}


ThreadPoolExecutor-0_0
{RULE}
  File "thread.py", line 81, in _worker
    work_item.run()
{RULE}
LOCAL VARIABLES
{RULE}
{{'password': 'secret'}}


"""
EXPECTED = f"""\
MainThread
{RULE}
  File "child.py", line 173, in <module>
    main()
  File "eventio.py", line 83, in poll
    return self._epoll.poll(timeout if timeout is not None else -1)
           ^^^^^^^^^^^^^^^^

ThreadPoolExecutor-0_0
{RULE}
  File "thread.py", line 81, in _worker
    work_item.run()
"""


class FoundTests(SynchronousTestCase):
    """Which part of a log is stacks."""

    def test_found(self) -> None:
        """The stacks stand in the log among other lines; variables are left out."""
        self.assertEqual(stacks_in(f"a line\n{PRINTED}another\n"), EXPECTED)

    def test_none(self) -> None:
        """Where no stack was printed, or not yet all of it, there is none."""
        for text in ("", "a line\n", f"{RULE}\n{RULE}\n", PRINTED[:200]):
            self.assertEqual(stacks_in(text), "")

    def test_bounded(self) -> None:
        """Stacks that are too long are cut, and say so."""
        found = stacks_in(PRINTED.replace("    main()\n", "    main()\n" * 100_000))
        self.assertLess(len(found), MOST + 100)
        self.assertTrue(found.endswith("(cut)\n"))

    def test_condition(self) -> None:
        """A process's state and the signals that it catches are read of its status."""
        status = "Name:\tcelery\nState:\tT (stopped)\nSigIgn:\t0000000001001000\nSigCgt:\t0000000180000200\n"
        condition = parse_condition(status)
        self.assertEqual((condition.state, condition.catches(10), condition.catches(12)), ("T", True, False))
        for wrong in ("", "State:\tT (stopped)\n", "State:\tS\nSigCgt:\tx\n"):
            with self.assertRaises(ValueError):
                parse_condition(wrong)


class FollowingTests(SynchronousTestCase):
    """What is read of a log that others write."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.write_text(PRINTED)
        self.file = Following(self.path)
        self.file.begin()

    def write(self, text: str) -> None:
        with open(self.path, "a") as file:
            file.write(text)

    def test_since(self) -> None:
        """Only what was written since the beginning counts, in however many pieces."""
        self.assertFalse(self.file.go_on())
        self.write("a line\nMainThr")
        self.assertTrue(self.file.go_on())
        self.assertEqual(self.file.stacks(), "")
        self.write(PRINTED[7:])
        self.assertTrue(self.file.go_on())
        self.assertEqual(self.file.stacks(), EXPECTED)

    def test_emptied(self) -> None:
        """A log that was emptied meanwhile is read from its start."""
        self.path.write_text("")
        self.write(PRINTED[: len(PRINTED) // 2])
        self.file.go_on()
        self.assertTrue(self.file.stacks())

    def test_bounded(self) -> None:
        """Of a log that grows without a stack little is kept, and of endless stacks not all."""
        self.write("a line\n" * KEPT)
        self.file.go_on()
        self.assertEqual(len(self.file.read), KEPT)
        self.write(PRINTED + "x" * (READ_MOST + 1000))
        for _ in range(5):
            self.file.go_on()
        self.assertLessEqual(len(self.file.read), READ_MOST)
        self.assertEqual(self.file.stacks(), EXPECTED)


class DumpTests(SynchronousTestCase):
    """When a worker is sent the signal, and when not."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.launcher = FakeLauncher(self.clock)
        self.condition: Condition | None = Condition("S", 1 << SIGUSR1 - 1)
        root = Path(self.mktemp())
        root.mkdir()
        self.workers = Workers(
            self.clock,
            self.launcher,
            root,
            celery_loglevel="INFO",
            env={},
            in_thread=execute,
            condition=lambda pid: self.condition,
        )
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))
        self.addCleanup(self.workers.release)
        self.workers.start(desired())
        (self.process,) = self.launcher.launched
        Path(self.process.log).touch()

    def advance(self, seconds: float) -> None:
        for _ in range(round(seconds * 20)):
            self.clock.advance(0.05)

    def why_not(self, dumped: Deferred[Any]) -> str:
        return str(self.failureResultOf(dumped, NoDump).value)

    def test_process_alone(self) -> None:
        """The signal goes to the main process once, and not to its pool."""
        self.process.prints_on[SIGUSR1] = PRINTED
        dumped = self.workers.dump("w1", 5.0)
        self.advance(1)
        self.assertEqual(self.successResultOf(dumped), EXPECTED)
        self.assertEqual(self.process.signals, [(SIGUSR1, False)])

    def test_starting(self) -> None:
        """A worker that would die of the signal does not get it before it catches it."""
        self.condition = Condition("R", 0)
        self.process.prints_on[SIGUSR1] = PRINTED
        early, late = self.workers.dump("w1", 1.0), self.workers.dump("w1", 5.0)
        self.advance(2)
        self.assertEqual(self.process.signals, [])
        self.assertIn("still starting", self.why_not(early))
        self.condition = Condition("R", 1 << SIGUSR1 - 1)
        self.advance(1)
        self.assertEqual(self.successResultOf(late), EXPECTED)

    def test_why_not(self) -> None:
        """A worker that prints nothing is told by what its process is at."""
        caught = 1 << SIGUSR1 - 1
        for state, why in (("T", "stopped, by SIGSTOP"), ("D", "disk"), ("S", "C code")):
            self.condition = Condition(state, caught)
            dumped = self.workers.dump("w1", 1.0)
            self.advance(1.1)
            self.assertIn(why, self.why_not(dumped))

    def test_ends(self) -> None:
        """A worker that ends meanwhile is waited for no longer, and its successor gets no signal."""
        self.condition = Condition("R", 0)
        dumped = self.workers.dump("w1", 5.0)
        self.process.end(signal=SIGKILL)
        self.condition = Condition("R", 1 << SIGUSR1 - 1)
        self.workers.start(desired())
        self.advance(0.1)
        self.assertIn("it has ended", self.why_not(dumped))
        self.assertEqual(self.launcher.launched[-1].signals, [])

    def test_no_log(self) -> None:
        """Where the log is gone, that is what is said."""
        Path(self.process.log).unlink()
        self.assertIn("No such file", self.why_not(self.workers.dump("w1", 5.0)))
