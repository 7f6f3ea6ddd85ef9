"""`Workers` over processes that are none: what its contract does not say."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from signal import SIGKILL, SIGQUIT, SIGTERM
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.planning import Exit
from cyme.workers.proc import boot_id, incarnation_of
from cyme.workers.resources import Usage
from cyme.workers.service import Workers
from tests.contracts.workers import desired
from tests.fakes.launcher import FakeHandle, FakeLauncher, FakeProcess


class ServiceTestCase(SynchronousTestCase):
    """Workers whose processes, threads and time are fake."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.launcher = FakeLauncher(self.clock)
        self.root = Path(self.mktemp())
        self.root.mkdir()
        self.ended: list[tuple[str, Exit]] = []
        self.usages: dict[int, Usage] = {}
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))
        self.workers = self.make()

    def make(self) -> Workers:
        workers = Workers(
            self.clock,
            self.launcher,
            self.root,
            celery_loglevel="INFO",
            env={"PATH": "/bin"},
            warm_timeout=60.0,
            cold_timeout=10.0,
            in_thread=execute,
            measure=self.measure,
        )
        workers.subscribe(ready=lambda name: None, ended=lambda name, exit: self.ended.append((name, exit)))
        self.addCleanup(workers.release)
        return workers

    def measure(self, pids: Collection[int]) -> Mapping[int, Usage]:
        return {pid: self.usages[pid] for pid in pids if pid in self.usages}

    def start(self, name: str = "w1") -> FakeProcess:
        self.workers.start(desired(name))
        return self.launcher.launched[-1]


class ResourcesTests(ServiceTestCase):
    """What workers take."""

    def use(self, process: FakeProcess, cpu_seconds: float) -> None:
        """Have a worker have taken so much processor time."""
        self.usages[process.pid] = Usage(
            rss=1 << 20, cpu_seconds=cpu_seconds, processes=2, open_files=9, open_files_limit=None
        )

    def percent(self, name: str = "w1") -> float | None:
        found = self.successResultOf(self.workers.resources())
        return found[name].cpu_percent

    def test_percent(self) -> None:
        """The share of a processor is that since the measurement before, and never negative."""
        worker = self.start()
        self.use(worker, 3.0)
        self.assertIsNone(self.percent())
        self.clock.advance(10)
        self.use(worker, 8.0)
        self.assertEqual(self.percent(), 50.0)
        self.clock.advance(10)
        self.use(worker, 6.0)
        self.assertEqual(self.percent(), 0.0)

    def test_same_moment(self) -> None:
        """Where no time has passed there is no share to tell."""
        self.use(self.start(), 3.0)
        self.percent()
        self.assertIsNone(self.percent())

    def test_gone(self) -> None:
        """A worker that could not be measured is left out, the others are not."""
        self.start("w1")
        self.use(self.start("w2"), 1.0)
        self.assertEqual(list(self.successResultOf(self.workers.resources())), ["w2"])

    def test_replaced_meanwhile(self) -> None:
        """What was measured of a worker is not told of the one that has replaced it meanwhile."""
        waiting: list[Deferred[Any]] = []

        def in_thread(run: Any) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1].addCallback(lambda _: run())

        first = self.start()
        self.use(first, 1.0)
        self.workers._in_thread = in_thread
        asked = self.workers.resources()
        first.end(0)
        self.use(self.start(), 1.0)
        waiting[0].callback(None)
        self.assertEqual(self.successResultOf(asked), {})


class StartTests(ServiceTestCase):
    """What is launched."""

    def test_launch(self) -> None:
        """A worker's command line, environment and files are those that belong to it."""
        process = self.start()
        self.assertEqual(process.argv[:4], ("celery", "-A", "cyme.tasks", "worker"))
        self.assertEqual(
            (process.env["CELERY_BROKER_URL"], process.env["PATH"]), ("amqp://user:secret@broker//", "/bin")
        )
        self.assertEqual(process.record, str(self.root / "w1" / "worker.json"))
        self.assertEqual(process.log, str(self.root / "w1" / "worker.log"))
        self.assertEqual(json.loads(process.identity), {"name": "w1", "fingerprint": desired().fingerprint})

    def test_stale_pid_file(self) -> None:
        """A pid file that an earlier worker left is removed first."""
        stale = self.root / "w1" / "worker.pid"
        stale.parent.mkdir()
        stale.write_text("1")
        self.start()
        self.assertFalse(stale.exists())

    def test_refused(self) -> None:
        """A worker that can't be launched is not there."""
        self.launcher.refuse = OSError("out of processes")
        with self.assertRaises(OSError):
            self.workers.start(desired())
        self.assertEqual(self.workers.processes(), {})

    def test_bad_name(self) -> None:
        """A name that would lead elsewhere starts nothing."""
        with self.assertRaises(ValueError):
            self.workers.start(desired("../w1"))
        self.assertEqual(self.launcher.launched, [])

    def test_dead_at_once(self) -> None:
        """A worker that ended before it was known ends after its start has returned, not in it."""
        launch = self.launcher.launch

        def launch_and_end(*arguments: object, **keywords: object) -> FakeHandle:
            handle = launch(*arguments, **keywords)  # type: ignore[arg-type]
            self.launcher.launched[-1].end(signal=SIGKILL)
            return handle

        self.patch(self.launcher, "launch", launch_and_end)
        self.workers.start(desired())
        self.assertEqual((self.ended, list(self.workers.processes())), ([], ["w1"]))
        self.clock.advance(0)
        self.assertEqual(([name for name, _ in self.ended], self.workers.processes()), (["w1"], {}))


class EndTests(ServiceTestCase):
    """What happens at the end of a worker."""

    def test_left_over(self) -> None:
        """What is left of a worker's process group is killed, and the process let go."""
        process = self.start()
        process.end(status=0)
        self.assertEqual(process.signals, [(SIGKILL, True)])
        self.assertEqual(process.handles, [])

    def test_ladder(self) -> None:
        """A worker that does not stop is killed after both deadlines; its end was expected."""
        process = self.start()
        process.ends_on = {SIGKILL: (None, SIGKILL)}
        stopped = self.workers.stop("w1")
        self.clock.advance(60)
        self.assertEqual(process.signals, [(SIGTERM, False), (SIGQUIT, False)])
        self.assertNoResult(stopped)
        self.clock.advance(10)
        self.assertEqual(process.signals[2], (SIGKILL, True))
        exit = self.successResultOf(stopped)
        self.assertEqual((exit.signal, exit.expected, exit.lived), (SIGKILL, True, 70.0))

    def test_hurry(self) -> None:
        """In a hurry everybody stops coldly, also those who are told afterwards."""
        first, second = self.start("w1"), self.start("w2")
        self.workers.stop("w1")
        self.workers.hurry()
        self.assertEqual([first.signals, second.signals], [[(15, False), (3, False)], [(3, False)]])
        third = self.start("w3")
        self.workers.stop("w3")
        self.assertEqual(third.signals, [(3, False)])

    def test_failing_subscriber(self) -> None:
        """A subscriber that fails keeps nobody else from being told."""

        def fail(*_: object) -> None:
            raise RuntimeError("a bug")

        self.workers.subscribe(ready=fail, ended=fail)
        told: list[str] = []
        self.workers.subscribe(ready=told.append, ended=lambda name, exit: told.append(name))
        process = self.start()
        stopped = self.workers.stop("w1")
        process.say_ready()
        process.end(status=0)
        self.successResultOf(stopped)
        self.assertEqual(told, ["w1", "w1"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_release(self) -> None:
        """Workers that are let go get no signal any more, also those that were stopping."""
        process = self.start()
        self.workers.stop("w1")
        self.workers.release()
        self.clock.advance(600)
        process.say_ready()
        process.end(status=0)
        self.assertEqual((process.signals, self.ended), ([(SIGTERM, False)], []))


class AdoptTests(ServiceTestCase):
    """Whom a new life of the branch takes over."""

    def another_life(self) -> None:
        self.workers.release()
        self.workers = self.make()

    def test_stop(self) -> None:
        """An adopted worker is stopped by the same ladder."""
        process = self.start()
        self.another_life()
        self.successResultOf(self.workers.adopt(["w1"]))
        stopped = self.workers.stop("w1")
        process.end(status=0)
        exit = self.successResultOf(stopped)
        self.assertEqual((exit.status, exit.signal, exit.expected), (None, None, True))
        self.assertEqual(process.signals, [(SIGTERM, False), (SIGKILL, True)])

    def test_twice(self) -> None:
        """A worker is adopted once."""
        self.start()
        self.another_life()
        self.assertEqual(self.successResultOf(self.workers.adopt(["w1", "w1"])), ("w1",))

    def test_strangers(self) -> None:
        """A record with an identity that is not this worker's leads to nobody, who is let go."""
        identity = json.dumps({"name": "w2", "fingerprint": "f"})
        for wrong in (identity, "", "[]", "{", json.dumps({"name": "w1"}), "\x00"):
            process = self.start()
            self.workers.release()
            process.identity = wrong
            self.assertEqual(self.successResultOf(self.workers.adopt(["w1"])), ())
            self.assertEqual((process.handles, process.signals), ([], []))
            process.end()

    def test_bad_names(self) -> None:
        """A name that leads elsewhere keeps nobody else from being adopted."""
        self.start()
        self.another_life()
        self.assertEqual(self.successResultOf(self.workers.adopt(["../w1", "w1"])), ("w1",))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_ended_meanwhile(self) -> None:
        """The processes of records are told whose processes live no more, whoever lives in their place."""
        folder = self.root / "w1"
        folder.mkdir()
        record = {"pid": os.getpid(), "boot_id": boot_id(), "started_at": 1.0, "identity": ""}
        living = incarnation_of(os.getpid())
        assert living is not None
        prefix, _, ticks = living.rpartition("/")
        for name, start_ticks in (("worker.json", int(ticks)), ("worker.json.before", int(ticks) + 1)):
            (folder / name).write_text(json.dumps({**record, "start_ticks": start_ticks}))
        (self.root / "w2").mkdir()
        (self.root / "w2" / "worker.json").write_text("{")
        self.successResultOf(self.workers.adopt(["../w1", "w1", "w2", "w3"]))
        ended = ("w1", f"{prefix}/{int(ticks) + 1}")
        self.assertEqual(self.workers.take_ended(), (ended,))
        other_boot = {**record, "boot_id": "b", "start_ticks": int(ticks)}
        (folder / "worker.json").write_text(json.dumps(other_boot))
        self.successResultOf(self.workers.adopt(["w1"]))
        self.assertEqual(self.workers.take_ended(), (("w1", f"b/{os.getpid()}/{ticks}"), ended))
        self.flushLoggedErrors(ValueError)

    def test_sweeps(self) -> None:
        """What an earlier life did not get round to removing is removed."""
        (self.root / ".removed-x" / "w9").mkdir(parents=True)
        self.successResultOf(self.workers.adopt([]))
        self.assertEqual(list(self.root.iterdir()), [])

    def test_cannot_sweep(self) -> None:
        """Adoption does not fail for what can't be removed."""
        self.root.rmdir()
        self.assertEqual(self.successResultOf(self.workers.adopt([])), ())


class FolderTests(ServiceTestCase):
    """What workers leave."""

    def test_bad_names(self) -> None:
        """A name that leads elsewhere has no log and nothing to be removed."""
        self.failureResultOf(self.workers.remove_folder("../w1"), ValueError)
        self.failureResultOf(self.workers.log_tail("../w1", 1), ValueError)
