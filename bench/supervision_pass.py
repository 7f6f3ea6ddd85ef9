"""What one full check by the supervisor costs, up to 1,000 instances.

The supervisor, the catalogue, its SQLite store and remote control are the real ones. The workers'
processes are pretended, and what they answer comes from simulated_workers.py, through a real broker.
A pass reads the database, asks `ping`, `active_queues` and `stats`, and looks at every instance.
Beside it, in turn with it and in the same process:

  raw rounds            the same three questions by py-amqp alone, on a kept connection
  app.control.inspect   one of the questions as Celery's own client asks it

Targets for the largest number: at most 3 times the three raw rounds, 250 ms of processor time
(of all threads), 100 ms without a turn of the reactor; and as many broadcasts as for the smallest.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from machine import Children, a_broker, import_project, wait_quiet
from pidbox import Pidbox
from reporting import Report, make_parser, median_ratio, sizes
from simulated_workers import HOST, broadcasts, instance_names, node_of, start
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater, react

import_project()

from cyme.catalogue import Catalogue  # noqa: E402
from cyme.declarations import App, Instance  # noqa: E402
from cyme.planning import Policy, State  # noqa: E402
from cyme.remote import RemoteControl  # noqa: E402
from cyme.store import SQLStore  # noqa: E402
from cyme.supervisor.resolving import Defaults, resolve  # noqa: E402
from cyme.supervisor.service import Supervisor  # noqa: E402
from tests.fakes.events import FakeEvents  # noqa: E402
from tests.fakes.workers import FakeWorkers  # noqa: E402

COMMANDS = ("ping", "active_queues", "stats")
RATIO_TARGET = 3.0
CPU_TARGET = 250.0
STALL_TARGET = 100.0

#: Seconds between two turns by which stalls are seen.
TICK = 0.005


class Progress:
    """Knows when a pass is over: every question is answered and nothing more is due at once.

    It sits between the supervisor and the two things by which work goes on: the clock's calls
    without delay, and answers.
    """

    def __init__(self) -> None:
        self._due = 0
        self._open = 0
        self._asked = 0
        self._waiter: Deferred[None] | None = None

    def next_end(self) -> Deferred[None]:
        """Fire at the end of the next pass."""
        self._asked = 0
        self._waiter = Deferred()
        return self._waiter

    def began(self, *, question: bool) -> None:
        if question:
            self._asked += 1
            self._open += 1
        else:
            self._due += 1

    def ended(self, *, question: bool) -> None:
        if question:
            self._open -= 1
            # Who asked is yet to hear of it.
            reactor.callLater(0, self._see)
        else:
            self._due -= 1
            self._see()

    def _see(self) -> None:
        if self._asked and not self._open and not self._due and self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            waiter.callback(None)


class WatchedClock:
    """The reactor's clock, which tells of calls without delay."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.seconds = reactor.seconds

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        if delay:
            return reactor.callLater(delay, call, *args, **kw)

        def run() -> None:
            try:
                call(*args, **kw)
            finally:
                self._progress.ended(question=False)

        self._progress.began(question=False)
        return reactor.callLater(0, run)


class WatchedRemoteControl(RemoteControl):
    """The real remote control, which tells of its questions."""

    progress: Progress

    def ask(self, *args: Any, **kw: Any) -> Deferred[dict[str, Any]]:
        def ended(result: Any) -> Any:
            self.progress.ended(question=True)
            return result

        self.progress.began(question=True)
        return super().ask(*args, **kw).addBoth(ended)


class StallWatch:
    """The longest that the reactor went without a turn, beyond `TICK`."""

    def __init__(self) -> None:
        self._loop = LoopingCall(self._tick)
        self._last = 0.0
        self.longest = 0.0

    def start(self) -> None:
        self.longest = 0.0
        self._last = time.monotonic()
        self._loop.start(TICK, now=False)

    def stop(self) -> None:
        self._tick()
        self._loop.stop()

    def _tick(self) -> None:
        now = time.monotonic()
        self.longest = max(self.longest, now - self._last - TICK)
        self._last = now


class Scene:
    """A supervisor of `count` instances that run."""

    def __init__(self, broker: str, folder: str, count: int) -> None:
        self._broker = broker
        self._count = count
        self._store = SQLStore(reactor, f"sqlite:///{os.path.join(folder, f'{count}.db')}", "b1")
        self._catalogue = Catalogue(reactor, self._store, "bench")
        self._workers = FakeWorkers(reactor)
        self._remote = WatchedRemoteControl(reactor, retry_policy=lambda failures: 1.0)
        self._remote.progress = self._progress = Progress()
        self._defaults = Defaults(broker=broker, host=HOST)
        self._supervisor = Supervisor(
            WatchedClock(self._progress),
            self._catalogue,
            self._workers,
            self._remote,
            FakeEvents(),
            branch_id="bench",
            defaults=lambda: self._defaults,
            interval=86400.0,
            policy=Policy(),
            jitter=lambda: 0.0,
        )

    async def start(self) -> None:
        """Store the instances, have their workers run, and do the first pass."""
        self._store.open()
        await self._catalogue.load()
        app = App(name="foo")
        instances = [Instance(name=name, app="foo", branch="bench") for name in instance_names(self._count)]
        await self._catalogue.change(lambda: [app, *instances])
        for instance in instances:
            self._workers.leave_running(resolve(instance, app, lambda queue: None, self._defaults))
        await self._workers.adopt(instance.name for instance in instances)
        for instance in instances:
            self._workers.mark_running(instance.name)
        while not self._remote.reachable(self._broker):
            await deferLater(reactor, 0.01)
        over = self._progress.next_end()
        await self._supervisor.startService()
        await over

    async def a_pass(self) -> None:
        """Do a full check.

        :raises RuntimeError: when afterwards not every instance is known to have answered in it.
        """
        began = reactor.seconds()
        over = self._progress.next_end()
        self._supervisor.wake()
        await over.addTimeout(60.0, reactor)
        self._began = began

    def check(self) -> None:
        """See that the last pass heard every worker, found all well, and did nothing about it.

        :raises RuntimeError: when it did not.
        """
        for instance in self._catalogue.instances():
            status = self._supervisor.status(instance)
            if status["state"] != State.RUNNING or status["last_pong"] < self._began:
                raise RuntimeError(f"{instance.name} after a pass: {status}")
        if self._workers.started or self._workers.stopped:
            raise RuntimeError("the pass has started or stopped workers")

    async def stop(self) -> None:
        self._supervisor.stopService()
        await self._remote.close()
        await self._store.close()


class Measured:
    """The samples of one number of instances, in seconds."""

    def __init__(self) -> None:
        self.passes: list[float] = []
        self.cpu: list[float] = []
        self.stalls: list[float] = []
        self.rounds: dict[str, list[float]] = {command: [] for command in COMMANDS}
        self.raw: list[float] = []
        self.raw_cpu: list[float] = []
        self.inspect: list[float] = []
        self.broadcasts: list[int] = []


async def measure(options: Namespace, broker: str, folder: str, count: int, inspects: bool) -> Measured:
    """Take all samples for one number of instances.

    :param inspects: whether to ask by `app.control.inspect` too; a question waits its time-out out.
    """
    measured = Measured()
    nodes = [node_of(name) for name in instance_names(count)]
    with Children() as children:
        fleet = start(children, broker, count)
        scene = Scene(broker, folder, count)
        pidbox, watch = Pidbox(broker), StallWatch()
        await scene.start()
        for command in COMMANDS:
            pidbox.round(command, nodes)
        for _ in range(options.runs):
            wait_quiet(options.wait_quiet)
            broadcasts(fleet)
            # A turn, so that the pass does not find the reactor late from what came before.
            await deferLater(reactor, 0.05)
            watch.start()
            began, cpu = time.monotonic(), time.process_time()
            await scene.a_pass()
            measured.passes.append(time.monotonic() - began)
            measured.cpu.append(time.process_time() - cpu)
            watch.stop()
            measured.stalls.append(watch.longest)
            scene.check()
            measured.broadcasts.append(broadcasts(fleet))
            began, cpu = time.monotonic(), time.process_time()
            for command, taken in measured.rounds.items():
                asked = time.monotonic()
                pidbox.round(command, nodes)
                taken.append(time.monotonic() - asked)
            measured.raw.append(time.monotonic() - began)
            measured.raw_cpu.append(time.process_time() - cpu)
            if inspects:
                measured.inspect.append(time_inspect(broker, count))
        pidbox.close()
        await scene.stop()
    return measured


def time_inspect(broker: str, count: int) -> float:
    """Ask all workers for their statistics as Celery documents it, in seconds."""
    from celery import Celery

    with Celery(broker=broker) as app:
        began = time.monotonic()
        answers = app.control.inspect().stats() or {}
        took = time.monotonic() - began
    if len(answers) != count:
        print(f"  app.control.inspect has heard {len(answers)} of {count} workers")
    return took


def milliseconds(values: list[float]) -> list[float]:
    return [value * 1000 for value in values]


async def run(options: Namespace, broker: str) -> None:
    report = Report("supervision_pass", options.json)
    found: dict[int, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="cyme-bench-") as folder:
        for count in options.instances:
            one = found[count] = await measure(
                options, broker, folder, count, inspects=count == max(options.instances)
            )
            report.row(f"{count} instances, pass", "ms", milliseconds(one.passes))
            report.row(f"{count} instances, pass, processor", "ms", milliseconds(one.cpu))
            report.row(f"{count} instances, pass, longest stall", "ms", milliseconds(one.stalls))
            report.row(f"{count} instances, pass, broadcasts", "", one.broadcasts)
            report.row(f"{count} instances, three raw rounds", "ms", milliseconds(one.raw))
            for command, taken in one.rounds.items():
                report.row(f"{count} instances, raw round of {command}", "ms", milliseconds(taken))
            report.row(f"{count} instances, three raw rounds, processor", "ms", milliseconds(one.raw_cpu))
            if one.inspect:
                case = f"{count} instances, one question by app.control.inspect"
                report.row(case, "ms", milliseconds(one.inspect))
    judge(report, found)


def judge(report: Report, found: dict[int, Measured]) -> None:
    """Compare the largest number of instances with the targets."""
    least, most = min(found), max(found)
    large = found[most]

    def middle(values: list[float]) -> float:
        return statistics.median(values) * 1000

    label = f"pass over {most} instances"
    ratio = median_ratio(large.passes, large.raw)
    report.target(
        label, middle(large.passes), "ms", beside="three raw rounds", ratio=ratio, ratio_at_most=RATIO_TARGET
    )
    cpu_ratio = median_ratio(large.cpu, large.raw_cpu)
    report.target(
        f"{label}, processor",
        middle(large.cpu),
        "ms",
        beside="three raw rounds",
        ratio=cpu_ratio,
        at_most=CPU_TARGET,
    )
    report.target(f"{label}, longest stall", middle(large.stalls), "ms", at_most=STALL_TARGET)
    grown = max(large.broadcasts) / max(found[least].broadcasts)
    report.target(
        f"{label}, broadcasts",
        max(large.broadcasts),
        "",
        beside=f"pass over {least}",
        ratio=grown,
        ratio_at_most=1.0,
    )


def main() -> None:
    parser = make_parser(__doc__, runs=7)
    parser.add_argument(
        "--instances",
        type=sizes,
        default=[10, 100, 1000],
        metavar="N,N,...",
        help="numbers of instances (10,100,1000)",
    )
    options = parser.parse_args()
    with a_broker(options) as broker:
        react(lambda _: Deferred.fromCoroutine(run(options, broker)))


if __name__ == "__main__":
    main()
