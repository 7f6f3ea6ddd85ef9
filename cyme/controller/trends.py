"""What the past hour looked like: samples of queues, memory and tasks, in memory.

Note [What a trend knows]
~~~~~~~~~~~~~~~~~~~~~~~~~
Each branch samples the workers of its own instances; the depths of queues are sampled by the live
branch whose id comes first, for all, since the count is the same wherever it is asked. Samples lie in
rings of one hour, one for each instance, app and queue, and one for all: so much memory and no more.
They are in no database: a branch that is started again begins with an empty hour, and when another
branch takes over the sampling of queues, it begins with an empty hour of these, to which what the
earlier one still has is added while that lives (`merged`).
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isnan, nan
from typing import TYPE_CHECKING, Any, TypeAlias

from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from cyme.errors import BrokerAway

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.interfaces import ICatalogue, IRemoteControl, ISupervisor

#: Seconds between two samples, and how many are kept of each series.
STEP = 15.0
POINTS = 240
#: The most series; what comes then has none.
MOST_SERIES = 4000
#: The most queues of one broker that are counted in one sample.
MOST_QUEUES = 500
#: Seconds that a broker gets to count.
COUNT_WITHIN = 5.0
#: Instances that are looked at in one go before the reactor gets its turn.
LOOKS_AT_ONCE = 100

#: What is sampled: messages that wait in a queue; bytes of resident memory; tasks begun in a second.
WAITING, MEMORY, TASKS = "waiting", "memory", "tasks"
KINDS = (WAITING, MEMORY, TASKS)

#: Kind, app, and queue or instance; an empty text stands for all.
Key: TypeAlias = tuple[str, str, str]


class Trend:
    """One series: the values of the last `POINTS` slots of `STEP` seconds."""

    __slots__ = ("_newest", "_values")

    def __init__(self) -> None:
        self._values = array("d", [nan]) * POINTS
        self._newest = 0

    def put(self, slot: int, value: float) -> None:
        """Take the value of a slot; one that is older than the newest changes nothing."""
        if slot < self._newest:
            return
        for missed in range(max(self._newest + 1, slot - POINTS + 1), slot):
            self._values[missed % POINTS] = nan
        self._values[slot % POINTS] = value
        self._newest = slot

    def until(self, slot: int) -> list[float | None]:
        """The values of the `POINTS` slots up to one; None where there is none."""
        found = []
        for one in range(slot - POINTS + 1, slot + 1):
            is_held = self._newest - POINTS < one <= self._newest
            value = self._values[one % POINTS] if is_held else nan
            found.append(None if isnan(value) else value)
        return found

    def is_over(self, slot: int) -> bool:
        """Whether there is nothing in it of the slots up to one."""
        return slot - self._newest >= POINTS


class _Counter:
    """The rate at which a worker begins tasks, from what it counts now and then."""

    __slots__ = ("_at", "_rate", "_total")

    def __init__(self) -> None:
        self._at = 0.0
        self._total = 0
        self._rate: float | None = None

    def rate(self, progress: Mapping[str, Any] | None) -> float | None:
        """Tasks in a second between the last two counts; None before there are two."""
        if progress is None:
            self._at, self._rate = 0.0, None
        elif progress["at"] > self._at:
            if self._at and progress["total"] >= self._total:
                self._rate = (progress["total"] - self._total) / (progress["at"] - self._at)
            else:
                # A new process counts from 0; what it did before it was asked first is nobody's rate.
                self._rate = None
            self._at, self._total = progress["at"], progress["total"]
        return self._rate


class Trends(Service):
    """Samples again and again, see Note [What a trend knows].

    :param counts_queues: whether this branch samples the depths of queues now.
    :param default_broker: gives the URL of the broker of apps that name none.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        supervisor: ISupervisor,
        remote: IRemoteControl,
        branch_id: str,
        counts_queues: Callable[[], bool],
        default_broker: Callable[[], str],
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._supervisor = supervisor
        self._remote = remote
        self._branch_id = branch_id
        self._counts_queues = counts_queues
        self._default_broker = default_broker
        #: (app, queue) -> messages and consumers, of those that were counted last.
        self.counts: Mapping[tuple[str, str], tuple[int, int]] = {}
        self._series: dict[Key, Trend] = {}
        self._counters: dict[str, _Counter] = {}
        self._sampling: Deferred[None] | None = None
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock

    def startService(self) -> None:
        """Begin to sample."""
        super().startService()
        self._loop.start(STEP)

    def stopService(self) -> None:
        """Sample no more."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        if self._sampling is not None:
            self._sampling.cancel()

    @property
    def slot(self) -> int:
        """The slot of now."""
        return int(self._clock.seconds() // STEP)

    def series(self, key: Key, slot: int) -> list[float | None] | None:
        """The values of a series up to a slot, or None when there is no such series."""
        trend = self._series.get(key)
        return None if trend is None else trend.until(slot)

    # -- inside -----------------------------------------------------------------------

    def _tick(self) -> None:
        if self._sampling is not None:
            return  # a broker is slow; the next one will do

        def ended(result: Any) -> None:
            self._sampling = None

        sampling = Deferred.fromCoroutine(self._sample())
        sampling.addErrback(self._failed)
        if not sampling.called:
            self._sampling = sampling
        sampling.addBoth(ended)

    def _failed(self, failure: Any) -> None:
        if self.running:
            self._log.failure("sampling failed once", failure)

    async def _sample(self) -> None:
        slot = self.slot
        values: dict[Key, float] = defaultdict(float)
        await self._sample_workers(values)
        self.counts = await self._sample_queues(values) if self._counts_queues() else {}
        # Those of all first, so that they are never the ones for which there is no room.
        for key in sorted(values, key=lambda one: (bool(one[1]), bool(one[2]))):
            self._put(key, slot, values[key])
        if slot % POINTS == 0:
            self._forget(slot)

    def _put(self, key: Key, slot: int, value: float) -> None:
        trend = self._series.get(key)
        if trend is None:
            if len(self._series) >= MOST_SERIES:
                return
            trend = self._series[key] = Trend()
        trend.put(slot, value)

    def _forget(self, slot: int) -> None:
        """Let go of what has ended an hour ago."""
        for key in [key for key, trend in self._series.items() if trend.is_over(slot)]:
            del self._series[key]
        names = {one.name for one in self._catalogue.instances()}
        for name in self._counters.keys() - names:
            del self._counters[name]

    async def _sample_workers(self, values: dict[Key, float]) -> None:
        own = [one for one in self._catalogue.instances() if one.branch == self._branch_id]
        for number, instance in enumerate(own):
            if number % LOOKS_AT_ONCE == LOOKS_AT_ONCE - 1:
                await deferLater(self._clock, 0)
            status = self._supervisor.status(instance)
            resources = status["resources"]
            rate = self._counters.setdefault(instance.name, _Counter()).rate(status["progress"])
            for kind, value in ((MEMORY, resources and resources["rss"]), (TASKS, rate)):
                if value is not None:
                    _add(values, kind, instance.app, instance.name, value)

    async def _sample_queues(self, values: dict[Key, float]) -> dict[tuple[str, str], tuple[int, int]]:
        counts = await self.count(app.name for app in self._catalogue.apps())
        for (app_name, name), (messages, _) in counts.items():
            _add(values, WAITING, app_name, name, messages)
        return counts

    async def count(self, apps: Iterable[str]) -> dict[tuple[str, str], tuple[int, int]]:
        """Messages and consumers of apps' queues, by app and name; without those nobody can count now."""
        by_broker: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for name in apps:
            app = self._catalogue.app(name)
            if app is not None:
                queues = [(name, queue.name) for queue in self._catalogue.queues(name)]
                by_broker[app.broker or self._default_broker()] += queues
        # Side by side: one that is slow shall not make the others late.
        asked = [Deferred.fromCoroutine(self._ask(*one)) for one in by_broker.items()]
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for counts in await gatherResults(asked, consumeErrors=True):
            found.update(counts)
        return found

    async def _ask(
        self, broker: str, queues: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[int, int]]:
        names = list(dict.fromkeys(name for _, name in queues))[:MOST_QUEUES]
        if not names or self._remote.reachable(broker) is False:
            return {}
        try:
            counts = await self._remote.count(broker, names).addTimeout(COUNT_WITHIN, self._clock)
        except (BrokerAway, TimeoutError):
            return {}
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for key in queues:
            if counts is not None and key[1] in counts:
                count = counts[key[1]]
                found[key] = (0, 0) if count is None else (count.messages, count.consumers)
        return found


def _add(values: dict[Key, float], kind: str, app: str, name: str, value: float) -> None:
    for key in ((kind, "", ""), (kind, app, ""), (kind, app, name)):
        values[key] += value


def merged(kind: str, several: Sequence[tuple[int, Sequence[float | None]]]) -> list[float | None]:
    """What several branches sampled, as one series that ends with the newest of their slots.

    What workers take adds up; of a queue's depth, which was the same for all who asked, the
    greatest is taken.

    :param several: of each branch its newest slot, and the values up to it.
    """
    newest = max((slot for slot, _ in several), default=0)
    combine = max if kind == WAITING else sum
    columns: list[list[float]] = [[] for _ in range(POINTS)]
    for slot, values in several:
        first = POINTS - len(values) - (newest - slot)
        for number, value in enumerate(values):
            if value is not None and 0 <= first + number < POINTS:
                columns[first + number].append(value)
    return [float(combine(column)) if column else None for column in columns]
