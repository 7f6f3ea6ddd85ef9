"""What every `IWorkers` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from cyme.errors import NoDump
from cyme.interfaces import IWorkers
from cyme.planning import Desired, Exit, Phase

#: How long the workers of these tests live, in seconds.
LIFETIME = 7.0
#: What a worker's dump is.
STACKS = "MainThread\n" + "=" * 49 + '\n  File "proj.py", line 7, in sleep\n    time.sleep(600)\n'


class WorkersFixture(Protocol):
    """Workers, and what their tests need of their world; everything happens at once."""

    workers: Any

    def advance(self, seconds: float) -> None:
        """Let time pass."""

    def say_ready(self, name: str) -> None:
        """Have a living worker say that it serves."""

    def end(self, name: str, *, status: int | None = None, signal: int | None = None) -> None:
        """Have a living worker end."""

    def leave_running(self, desired: Desired) -> None:
        """Have a worker run that an earlier life of the branch started."""

    def print_stacks(self, name: str) -> None:
        """Have a living worker print the stacks `STACKS` when it is asked for them."""

    def write_log(self, name: str, lines: tuple[str, ...]) -> None:
        """Have a worker log some lines."""


def desired(name: str = "w1", **values: Any) -> Desired:
    """A worker to be started."""
    return Desired(
        name=name,
        app="foo",
        node=f"{name}@host",
        broker="amqp://user:secret@broker//",
        celery_app="cyme.tasks",
        **values,
    )


def make_workers_tests(fixture: Callable[[SynchronousTestCase], WorkersFixture]) -> type[SynchronousTestCase]:
    """Make the tests of one provider of `IWorkers`."""

    class WorkersTests(SynchronousTestCase):
        """The contract of `IWorkers`."""

        def setUp(self) -> None:
            self.fixture = fixture(self)
            self.workers = self.fixture.workers
            self.ready: list[str] = []
            self.ended: list[tuple[str, Exit]] = []
            self.workers.subscribe(
                ready=self.ready.append, ended=lambda name, exit: self.ended.append((name, exit))
            )

        def phase(self, name: str = "w1") -> Phase:
            return self.workers.processes()[name].phase

        def test_interface(self) -> None:
            """The workers provide their interface."""
            verifyObject(IWorkers, self.workers)

        def test_start(self) -> None:
            """A worker that was started is there, starting, with what it was started with."""
            wanted = desired()
            process = self.workers.start(wanted)
            self.assertEqual(self.workers.processes(), {"w1": process})
            self.assertEqual(
                (process.fingerprint, process.phase, process.adopted),
                (wanted.fingerprint, Phase.STARTING, False),
            )

        def test_start_twice(self) -> None:
            """A worker that lives is not started again."""
            self.workers.start(desired())
            with self.assertRaises(ValueError):
                self.workers.start(desired())

        def test_copy(self) -> None:
            """What the workers were is not changed by what becomes of them."""
            before = self.workers.processes()
            self.workers.start(desired())
            self.assertEqual(before, {})

        def test_running(self) -> None:
            """A worker runs once it was heard; one that is not there is no matter."""
            self.workers.start(desired())
            self.workers.mark_running("w1")
            self.workers.mark_running("w2")
            self.assertEqual(self.phase(), Phase.RUNNING)

        def test_ready(self) -> None:
            """When a worker says that it serves, subscribers are told; that alone is not running."""
            self.workers.start(desired())
            self.fixture.say_ready("w1")
            self.assertEqual(self.ready, ["w1"])
            self.assertEqual(self.phase(), Phase.STARTING)

        def test_end(self) -> None:
            """When a worker ends, it is gone and subscribers are told how it ended."""
            self.workers.start(desired())
            self.fixture.advance(LIFETIME)
            self.fixture.end("w1", signal=9)
            (name, exit), *rest = self.ended
            self.assertEqual((name, rest), ("w1", []))
            self.assertEqual(
                (exit.status, exit.signal, exit.lived, exit.expected), (None, 9, LIFETIME, False)
            )
            self.assertEqual(self.workers.processes(), {})

        def test_replacement(self) -> None:
            """A worker can be replaced by whoever is told of its end, in the same moment."""
            self.workers.subscribe(
                ready=lambda name: None, ended=lambda name, exit: self.workers.start(desired())
            )
            first = self.workers.start(desired())
            self.fixture.end("w1", status=1)
            self.assertNotEqual(self.workers.processes()["w1"].pid, first.pid)

        def test_stop(self) -> None:
            """A worker that is told to stop is stopping until it has ended; its end was expected."""
            self.workers.start(desired())
            self.workers.mark_running("w1")
            stopped = self.workers.stop("w1")
            self.assertEqual(self.phase(), Phase.STOPPING)
            self.assertNoResult(stopped)
            self.fixture.end("w1", status=0)
            exit = self.successResultOf(stopped)
            self.assertEqual((exit.status, exit.expected), (0, True))
            self.assertEqual(self.ended, [("w1", exit)])

        def test_stop_twice(self) -> None:
            """A second stop joins the first."""
            self.workers.start(desired())
            both = self.workers.stop("w1"), self.workers.stop("w1")
            self.fixture.end("w1", status=0)
            self.assertEqual(self.successResultOf(both[0]), self.successResultOf(both[1]))

        def test_stop_none(self) -> None:
            """A worker that is not there can't be stopped."""
            self.failureResultOf(self.workers.stop("w1"), KeyError)

        def test_no_longer_running(self) -> None:
            """A late pong of a worker that stops changes nothing."""
            self.workers.start(desired())
            self.workers.stop("w1")
            self.workers.mark_running("w1")
            self.assertEqual(self.phase(), Phase.STOPPING)
            self.fixture.end("w1", status=0)

        def test_stop_all(self) -> None:
            """All are stopped side by side, and all have ended when it fires."""
            for name in ("w1", "w2"):
                self.workers.start(desired(name))
            stopped = self.workers.stop_all()
            self.assertEqual({self.phase("w1"), self.phase("w2")}, {Phase.STOPPING})
            self.fixture.end("w2", status=0)
            self.assertNoResult(stopped)
            self.fixture.end("w1", status=0)
            self.successResultOf(stopped)

        def test_stop_all_of_none(self) -> None:
            """Where no worker is, all have stopped."""
            self.successResultOf(self.workers.stop_all())

        def test_adopt(self) -> None:
            """A worker of an earlier life is taken over, with what it was started with then."""
            wanted = desired()
            self.fixture.leave_running(wanted)
            adopted = self.workers.adopt(["w1", "w2"])
            self.assertEqual(self.successResultOf(adopted), ("w1",))
            process = self.workers.processes()["w1"]
            self.assertEqual(
                (process.fingerprint, process.phase, process.adopted),
                (wanted.fingerprint, Phase.STARTING, True),
            )

        def test_adopted_ends(self) -> None:
            """The end of an adopted worker is noticed."""
            self.fixture.leave_running(desired())
            self.successResultOf(self.workers.adopt(["w1"]))
            self.fixture.end("w1")
            self.assertEqual(
                [(name, exit.status, exit.signal) for name, exit in self.ended], [("w1", None, None)]
            )

        def test_release(self) -> None:
            """Workers that were let go are no longer there, and their end is nobody's business."""
            self.workers.start(desired())
            self.workers.release()
            self.assertEqual(self.workers.processes(), {})
            self.assertEqual(self.ended, [])

        def test_resources(self) -> None:
            """Each worker that lives is measured, and nobody where none does."""
            self.assertEqual(self.successResultOf(self.workers.resources()), {})
            for name in ("w1", "w2"):
                self.workers.start(desired(name))
            self.fixture.advance(LIFETIME)
            self.fixture.end("w2", status=0)
            [(name, found)] = self.successResultOf(self.workers.resources()).items()
            self.assertEqual(name, "w1")
            self.assertGreater(found.rss, 0)
            self.assertGreaterEqual(found.processes, 1)
            self.assertGreaterEqual(found.at, LIFETIME)

        def test_folders(self) -> None:
            """A worker that was started has a folder until it is removed, and can be started again."""
            self.workers.start(desired())
            self.assertEqual(self.successResultOf(self.workers.folders(["w1", "w2"])), {"w1"})
            self.fixture.end("w1", status=0)
            self.assertEqual(self.successResultOf(self.workers.folders(["w1"])), {"w1"})
            self.successResultOf(self.workers.remove_folder("w1"))
            self.assertEqual(self.successResultOf(self.workers.folders(["w1"])), frozenset())
            self.workers.start(desired())
            self.assertEqual(self.successResultOf(self.workers.folders(["w1"])), {"w1"})

        def test_remove_folder_of_none(self) -> None:
            """Removing what is not there is no error."""
            self.successResultOf(self.workers.remove_folder("w1"))

        def test_remove_folder_of_a_living_worker(self) -> None:
            """The folder of a living worker is not removed."""
            self.workers.start(desired())
            self.failureResultOf(self.workers.remove_folder("w1"), ValueError)

        def test_log_tail(self) -> None:
            """The last lines of a log are told, and none where there is no log."""
            self.workers.start(desired())
            self.fixture.write_log("w1", ("one", "two", "three"))
            self.assertEqual(self.successResultOf(self.workers.log_tail("w1", 2)), ("two", "three"))
            self.assertEqual(self.successResultOf(self.workers.log_tail("w1", 0)), ())
            self.assertEqual(self.successResultOf(self.workers.log_tail("w2", 2)), ())

        def test_take_ended(self) -> None:
            """Each process that has ended is told once, those that were stopped and adopted too."""
            self.fixture.leave_running(desired("w2"))
            self.successResultOf(self.workers.adopt(["w1", "w2"]))
            self.workers.start(desired("w1"))
            self.assertEqual(self.workers.take_ended(), ())
            processes = self.workers.processes()
            self.workers.stop("w1")
            for name in ("w1", "w2"):
                self.fixture.end(name, status=0)
            self.assertEqual(
                self.workers.take_ended(),
                tuple((name, f"boot/{processes[name].pid}/1") for name in ("w1", "w2")),
            )
            self.assertEqual(self.workers.take_ended(), ())

        def test_process_state(self) -> None:
            """A living worker's process has a state, one that is not there has none."""
            self.workers.start(desired())
            self.assertIsNone(self.workers.process_state("w2"))
            self.fixture.end("w1", status=0)
            self.assertIsNone(self.workers.process_state("w1"))

        def test_dump(self) -> None:
            """A worker's stacks are told, the thread's name first."""
            self.workers.start(desired())
            self.fixture.print_stacks("w1")
            dumped = self.workers.dump("w1", 5.0)
            for _ in range(4):
                self.fixture.advance(0.25)
            self.assertEqual(self.successResultOf(dumped), STACKS)

        def test_silent_dump(self) -> None:
            """A worker that prints nothing is not waited for any longer."""
            self.workers.start(desired())
            self.fixture.write_log("w1", ("a line",))
            dumped = self.workers.dump("w1", 5.0)
            self.fixture.advance(4.0)
            self.assertNoResult(dumped)
            self.fixture.advance(1.5)
            problem = self.failureResultOf(dumped, NoDump).value
            self.assertIn("'w1' printed no stacks within 5 s", str(problem))

        def test_dump_none(self) -> None:
            """A worker that is not there has no stacks."""
            self.failureResultOf(self.workers.dump("w1", 5.0), KeyError)

        def test_hurry(self) -> None:
            """Whoever is in a hurry stops all that live."""
            self.workers.start(desired())
            self.workers.hurry()
            self.assertEqual(self.phase(), Phase.STOPPING)

    return WorkersTests
