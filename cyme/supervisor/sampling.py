"""Sampling: how the supervisor learns what its workers take of the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyme.limits import over_age, over_memory
from cyme.supervisor.resolving import limits_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.interfaces import ICatalogue, IWorkers
    from cyme.limits import Resources
    from cyme.planning import Process
    from cyme.supervisor.world import World

#: The most seconds between two samples: how late a limit may be noticed.
SAMPLE_EVERY = 10.0


class Sampler:
    """Measures all workers again and again, one measurement after the other.

    :param interval: seconds between two full checks; samples are taken at least as often.
    :param look_at: called with the names of instances whose workers are over a limit.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        workers: IWorkers,
        world: World,
        *,
        interval: float,
        look_at: Callable[[Iterable[str]], None],
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._workers = workers
        self._world = world
        self._interval = min(interval, SAMPLE_EVERY)
        self._look_at = look_at
        self._under_way: Deferred[None] | None = None
        # It waits for the Deferred of its call, so that two samples never overlap.
        self._loop = LoopingCall(self._sample)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin to measure."""
        self._loop.start(self._interval)

    def stop(self) -> None:
        """Measure no more, and forget the measurement that is under way."""
        if self._loop.running:
            self._loop.stop()
        if self._under_way is not None:
            self._under_way.cancel()

    def _sample(self) -> Deferred[None]:
        def ended(failure: Failure | None) -> None:
            self._under_way = None
            if failure is not None and not failure.check(CancelledError):
                self._log.failure("{{Supervisor}} the workers could not be measured", failure)

        sample = self._under_way = Deferred.fromCoroutine(self._measure())
        return sample.addBoth(ended)

    async def _measure(self) -> None:
        if not self._workers.processes():
            return
        measured = await self._workers.resources()
        processes = self._workers.processes()
        for name, resources in measured.items():
            if name in processes:
                self._world.track(name).resources = resources
                if self._is_over(name, resources, processes[name]):
                    self._look_at([name])

    def _is_over(self, name: str, resources: Resources, process: Process) -> bool:
        """Whether a look is worth while; what is to be done is the plan's to say."""
        instance = self._catalogue.instance(name)
        app = self._catalogue.app(instance.app) if instance is not None else None
        if instance is None or app is None:
            return False
        max_memory, max_age, _ = limits_of(instance, app)
        age = self._clock.seconds() - process.started_at
        return over_memory(max_memory, resources) is not None or over_age(max_age, age) is not None
