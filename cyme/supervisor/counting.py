"""Counting: what brokers say about the consumers that workers claim to have (failure-modes F1).

Others may consume from a shared queue too; from `dq.NAME` nobody but the worker does. So a count
of 0 there, while the worker says that it consumes, tells of a worker that waits for messages
which never come.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger

from cyme.errors import BrokerAway
from cyme.planning import Desired, Phase
from cyme.supervisor.hearing import counted

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.interfaces import IRemoteControl, IWorkers
    from cyme.supervisor.delays import Delays
    from cyme.supervisor.tracking import Tracked
    from cyme.supervisor.world import World

#: Seconds that a count may take, and for which it counts as fresh.
COUNT_WITHIN = 3.0
COUNT_FRESH = 5.0
#: Seconds until a worker is counted again whose consumer the broker did not know.
COUNT_AGAIN_AFTER = 5.0
#: The most workers of one broker that are counted in one check; the others come in the next.
MOST_COUNTED = 50


class Counting:
    """Has brokers count consumers, and takes note.

    :param look_at: called with the names of instances that are to be looked at.
    :param run: runs a coroutine whose failure is logged and goes no further.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        workers: IWorkers,
        remote: IRemoteControl,
        world: World,
        delays: Delays,
        *,
        look_at: Callable[[Iterable[str]], None],
        run: Callable[[Coroutine[Deferred[Any], Any, None]], Deferred[None]],
    ) -> None:
        self._clock = clock
        self._workers = workers
        self._remote = remote
        self._world = world
        self._delays = delays
        self._look_at = look_at
        self._run = run
        self._to_count_again: set[str] = set()

    async def count_oldest(self, broker: str, living: Sequence[Desired]) -> None:
        """Count the private queues of those that wait longest for it."""
        tracked = self._world.tracked()
        oldest = sorted(living, key=lambda one: tracked[one.name].counted_at or 0.0)[:MOST_COUNTED]
        await self._count(broker, {one.name: [one.private_queue] for one in oldest})

    async def count_all_of(self, desired: Desired) -> None:
        """Count all queues of one instance, unless that was done just now."""
        tracked = self._world.track(desired.name)
        if tracked.counted_at is not None and self._clock.seconds() < tracked.counted_at + COUNT_FRESH:
            return
        queues = [desired.private_queue, *(queue.name for queue in desired.queues)]
        await self._count(desired.broker, {desired.name: queues})

    async def _count(self, broker: str, queues: Mapping[str, Sequence[str]]) -> None:
        """Take note of what a broker counts of instances' queues.

        :param queues: instance -> queues, its private one first.
        """
        if not queues or not self._remote.reachable(broker):
            return
        every = list(dict.fromkeys(queue for several in queues.values() for queue in several))
        try:
            counts = await self._remote.count(broker, every).addTimeout(COUNT_WITHIN, self._clock)
        except (BrokerAway, TimeoutError):
            return
        now = self._clock.seconds()
        uncounted = set()
        for name, several in queues.items():
            tracked = self._world.tracked().get(name)
            if tracked is None:
                continue
            tracked.counted_at = now
            tracked.counts = None if counts is None else {queue: counts.get(queue) for queue in several}
            if counts is not None and self._claims(tracked, several[0]):
                tracked.heard = counted(tracked.heard, counts.get(several[0]))
                if tracked.heard.uncounted:
                    uncounted.add(name)
        if uncounted:
            self._log.warn(
                "{{Supervisor}} the broker counts no consumer of {names}", names=sorted(uncounted)[:10]
            )
            self._look_at(uncounted)
            self._count_later(broker, {name: queues[name] for name in uncounted - self._to_count_again})

    def _claims(self, tracked: Tracked, private: str) -> bool:
        """Whether a worker says that it consumes, and nothing explains why its broker would not know."""
        process = self._workers.processes().get(tracked.name)
        running = process is not None and process.phase is Phase.RUNNING
        says_so = tracked.heard.consumers is not None and private in tracked.heard.consumers
        return running and says_so and not tracked.heard.missed and not tracked.busy

    def _count_later(self, broker: str, queues: Mapping[str, Sequence[str]]) -> None:
        if queues:
            self._to_count_again |= queues.keys()
            self._delays.later(COUNT_AGAIN_AFTER, self._count_again, broker, queues)

    def _count_again(self, broker: str, queues: Mapping[str, Sequence[str]]) -> None:
        self._to_count_again -= queues.keys()
        living = self._workers.processes()
        again = {name: several for name, several in queues.items() if name in living}
        self._run(self._count(broker, again))
