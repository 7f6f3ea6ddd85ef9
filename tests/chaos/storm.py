"""A storm: everything dies at random under load, and in the end everything has to be as declared.

`python -m tests.chaos.storm --seconds 600 --seed N`, or `make chaos`. Workers, pool processes, the
branch and the broker are killed and frozen while tasks and configuration are written. What was
acknowledged has to be true in the end: see `Storm.verdict`. The seed decides what is done and in
which order; the machine decides what that meets, so that a seed does not repeat a run exactly.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from tests.chaos.faults import Fault, Faults
from tests.chaos.lookout import Lookout, all_events, said_by_celery, strays, unjust
from tests.chaos.model import APP, Declared, Model, Writer, Wrong
from tests.chaos.stream import TaskStream
from tests.functional.branchcase import PROJECT
from tests.support.branch import BranchProcess
from tests.support.rabbitmq import breakable_rabbitmq
from tests.support.waiting import eventually

QUEUES = ("red", "green", "blue")

#: The names of the instances, those of each writer apart.
NAMES = (("a1", "a2", "a3"), ("b1", "b2", "b3"))

#: The instance that does what is left to do at the end.
LAST = "last"

#: Of two rounds of faults, how often the second begins before the first is made good.
OVERLAPPING = 0.3


class Storm:
    """One storm.

    :param cleanups: has `addCleanup`, as a test has.
    :param seconds: how long faults are made.
    :param outage: the longest that the broker is away, in seconds; its first outage lasts so long.
    :param say: told the progress, a line each.
    :param options: more options of the branch.
    :param patience: seconds within which everything is to be as declared after a fault.
    """

    def __init__(
        self,
        cleanups: Any,
        *,
        seed: int,
        seconds: float,
        outage: float,
        say: Callable[[str], None],
        options: tuple[str, ...] = (),
        patience: float = 180.0,
    ) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)
        self.model = Model()
        self._cleanups = cleanups
        self._seed = seed
        self._seconds = seconds
        self._outage = outage
        self._say = say
        self._options = options
        self._patience = patience

    async def run(self) -> list[str]:
        """Go through it; what is wrong in the end, a line each."""
        await self._set_up()
        writers = [
            Writer(self.model, names, QUEUES, self._client, self._chance(f"writes {names}"), pause=1.0)
            for names in NAMES
        ]
        writing = gatherResults(
            [Deferred.fromCoroutine(writer.run()) for writer in writers], consumeErrors=True
        )
        self._stream.start()
        try:
            wrong = await self._rage(writing)
            for writer in writers:
                writer.stop()
            await writing
            for writer in writers:
                # What became of a write whose answer was lost is the branch's to say.
                await eventually(writer.all_decided, self._patience, "an answer about every instance")
            return wrong or await self.verdict()
        except Wrong as broken:
            return [str(broken)]
        finally:
            writing.addErrback(lambda _: None)
            for writer in writers:
                writer.stop()
            await deferToThread(self._stream.stop)

    async def _set_up(self) -> None:
        folder = tempfile.mkdtemp(prefix="cyme-storm-")
        self._cleanups.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        self._broker = await deferToThread(breakable_rabbitmq)
        self._cleanups.addCleanup(deferToThread, self._broker.mend)
        self._vhost = await deferToThread(self._broker.new_vhost)
        self._url = self._broker.url(self._vhost)
        self._branch = BranchProcess(
            self._cleanups, *self._options, broker=self._url, env={"PYTHONPATH": PROJECT}
        )
        await self._branch.start()
        self._client = self._branch.client()
        await self._client.put(f"/{APP}/", json={"celery_app": "proj.celery:app"})
        for queue in QUEUES:
            await self._client.put(f"/{APP}/queues/{queue}/")
        self._lookout = Lookout(self.model, self._client, self._say)
        self._stream = TaskStream(
            self._url, QUEUES, os.path.join(folder, "done"), self._chance("tasks"), pause=0.2
        )
        self._faults = Faults(
            self._branch,
            self._broker,
            self._vhost,
            self._client,
            self.model,
            self._chance("faults"),
            outage=self._outage,
        )
        self._say("the branch is up")

    def _chance(self, what: str) -> random.Random:
        """Random numbers of its own for each part, so that none disturbs another's."""
        return random.Random(f"{self._seed} {what}")

    # -- faults ----------------------------------------------------------------------

    async def _rage(self, writing: Deferred[Any]) -> list[str]:
        """Make faults until the time is over, or the writers find something wrong.

        :return: what was never made good, if anything.
        """
        chance = self._chance("rounds")
        until = reactor.seconds() + self._seconds
        while reactor.seconds() < until and not writing.called:
            await deferLater(reactor, chance.uniform(0.5, 3.0))
            fault = await self._fault()
            if fault is None:
                continue
            kind, names = fault.kind, set(fault.names)
            if chance.random() < OVERLAPPING:
                await deferLater(reactor, chance.uniform(0, 2.0))
                another = await self._fault()
                if another is not None:
                    kind, names = "two at once", names | set(another.names)
            over = reactor.seconds()
            wrong = await self._lookout.until_as_declared(names, self._patience)
            if wrong:
                story = f"not as declared {self._patience:g} s after {kind}"
                return [f"{story}: {name}: {how}" for name, how in wrong.items()]
            self.times[kind].append(reactor.seconds() - over)
            self._say(f"  as declared after {reactor.seconds() - over:.2f} s; {self._counts()}")
        return []

    async def _fault(self) -> Fault | None:
        kind = self._faults.choose()
        fault = await self._faults.make(kind)
        if fault is not None:
            self._say(f"{fault.kind}: {fault.told}")
        return fault

    def _counts(self) -> str:
        return (
            f"{len(self._stream.acknowledged)} tasks and {sum(self.model.acknowledged.values())} writes"
            " acknowledged"
        )

    # -- the end -------------------------------------------------------------------------

    async def verdict(self) -> list[str]:
        """When all is quiet: what is not as it was acknowledged, a line each."""
        self._say("the storm is over")
        wrong = await self._lookout.until_as_declared(self.model.names(), self._patience)
        problems = [f"not as declared: {name}: {how}" for name, how in wrong.items()]
        problems += await self._compare_names()
        problems += await self._compare_with_celery()
        problems += await self._finish_tasks()
        problems += await self._look_for_strays()
        problems += unjust(await all_events(self._client), self._faults.frozen)
        problems += await self._stop_branch()
        return problems

    def _declared(self) -> dict[str, Declared]:
        decided = {name: self.model.possible(name)[0] for name in self.model.names()}
        return {name: value for name, value in decided.items() if value is not None}

    async def _compare_names(self) -> list[str]:
        names = set((await self._client.get(f"/{APP}/instances/")).json)
        queues = set((await self._client.get(f"/{APP}/queues/")).json)
        problems = []
        if names != self._declared().keys():
            problems.append(f"there are the instances {sorted(names)}, and not {sorted(self._declared())}")
        if queues != set(QUEUES):
            problems.append(f"there are the queues {sorted(queues)}")
        return problems

    async def _compare_with_celery(self) -> list[str]:
        expected = {
            f"{name}@{socket.gethostname()}": ({f"dq.{name}", *one.queues}, (one.most, one.least))
            for name, one in self._declared().items()
            if one.is_enabled
        }
        said = await deferToThread(said_by_celery, self._url, len(expected))
        return [
            f"Celery says of {node} {said.get(node)}, and not {expected.get(node)}"
            for node in sorted(said.keys() | expected.keys())
            if said.get(node) != expected.get(node)
        ]

    async def _finish_tasks(self) -> list[str]:
        """Have all tasks done that are left, by a worker that consumes from all queues."""
        await deferToThread(self._stream.stop)
        made = await self._client.put(
            f"/{APP}/instances/{LAST}/", json={"queues": QUEUES, "max_concurrency": 4}
        )
        if made.status != 201:
            return [f"no instance could be made in the end: {made.text}"]
        try:
            await eventually(lambda: not self._stream.missing(), self._patience)
        except AssertionError:
            missing = sorted(self._stream.missing())
            return [f"{len(missing)} tasks that were acknowledged are lost: {missing[:20]}"]
        return []

    async def _look_for_strays(self) -> list[str]:
        leaders = {self._branch.pid}
        for name in [*self._declared(), LAST]:
            answer = await self._client.get(f"/{APP}/instances/{name}/")
            if answer.status != 200:
                return [f"{name} can't be looked at: {answer.text}"]
            leaders.add(answer.json["pid"])
        found = await deferToThread(strays, self._branch.root, leaders)
        return [f"processes {found} belong to no instance"] if found else []

    async def _stop_branch(self) -> list[str]:
        problems = []
        status = await self._branch.terminate(timeout=120.0)
        if status != 0:
            problems.append(f"the branch ended with status {status}")
        left = self._branch.left_over()
        if left:
            problems.append(f"processes {left} are left")
        for log in [*self._faults.logs, self._branch.log_text()]:
            at = log.find("Traceback")
            if at >= 0:
                problems.append(f"the branch failed somewhere: {log[max(at - 300, 0) : at + 1500]}")
        return problems

    def report(self) -> list[str]:
        """Figures, a line each."""
        done = self._stream.done()
        writes = ", ".join(f"{times} {kind}" for kind, times in sorted(self.model.acknowledged.items()))
        lines = [
            f"{len(self._stream.acknowledged)} tasks acknowledged, {done.total() - len(done)} of them done"
            f" more than once, {self._stream.refused} not acknowledged",
            f"{sum(self.model.acknowledged.values())} writes acknowledged: {writes}",
            f"{'seconds until all is as declared, after':42}{'times':>6}{'median':>9}{'worst':>9}",
        ]
        for kind, times in sorted(self.times.items()):
            lines.append(f"  {kind:40}{len(times):6}{median(times):9.2f}{max(times):9.2f}")
        return lines


# -- the program -------------------------------------------------------------------


class Cleanups:
    """What is to be done at the end, the last first."""

    def __init__(self) -> None:
        self._all: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    def addCleanup(self, function: Callable[..., Any], *arguments: Any, **more: Any) -> None:
        self._all.append((function, arguments, more))

    async def run(self) -> None:
        """Do it all."""
        while self._all:
            function, arguments, more = self._all.pop()
            try:
                await maybeDeferred(function, *arguments, **more)
            except Exception as error:
                print(f"a cleanup failed: {error!r}", flush=True)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.storm", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long faults are made (600)")
    parser.add_argument("--seed", type=int, default=None, help="what is done, and in which order (random)")
    parser.add_argument(
        "--outage",
        type=float,
        default=10.0,
        help="the longest that the broker is away, in seconds; its first outage lasts so long (10)",
    )
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = random.randrange(2**32)
    return arguments


async def play(arguments: argparse.Namespace, cleanups: Cleanups) -> int:
    """Run a storm and report; the exit status."""
    began = reactor.seconds()

    def say(line: str) -> None:
        print(f"{reactor.seconds() - began:7.1f} s  {line}", flush=True)

    storm = Storm(
        cleanups,
        seed=arguments.seed,
        seconds=arguments.seconds,
        outage=arguments.outage,
        say=say,
        options=("--sup-interval", "10", "--warm-timeout", "20"),
    )
    try:
        problems = await storm.run()
        print("\n".join(["", *storm.report()]))
    finally:
        await cleanups.run()
    print("\n".join(["", *problems, f"seed {arguments.seed}: " + ("FAILED" if problems else "all is well")]))
    return 1 if problems else 0


def main() -> int:
    arguments = read_arguments()
    print(f"seed {arguments.seed}, {arguments.seconds:g} s", flush=True)
    status = [1]  # until it is known better
    cleanups = Cleanups()

    def begin() -> None:
        playing = Deferred.fromCoroutine(play(arguments, cleanups))

        def ended(result: Any) -> None:
            if isinstance(result, int):
                status[0] = result
            elif isinstance(result, Failure) and not result.check(CancelledError):
                result.printTraceback()
            if reactor.running:
                reactor.callLater(0, stop)

        def stop() -> None:
            try:
                reactor.stop()
            except Exception:
                pass  # it is being stopped, by Ctrl-C

        def interrupted() -> Deferred[Any]:
            # By Ctrl-C, unless it has ended: what it has started ends first.
            if not playing.called:
                status[0] = 130
                playing.cancel()
            return Deferred.fromCoroutine(cleanups.run())

        playing.addBoth(ended)
        reactor.addSystemEventTrigger("before", "shutdown", interrupted)

    reactor.callWhenRunning(begin)
    reactor.run()
    return status[0]


if __name__ == "__main__":
    sys.exit(main())
