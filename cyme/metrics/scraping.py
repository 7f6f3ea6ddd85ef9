"""Answering a scrape: a bit at a time, and the text in another thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen
from prometheus_client import GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from cyme.metrics.collecting import Instance, Known, families

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.interfaces import ICatalogue, ISupervisor
    from cyme.metrics.measures import Measures
    from cyme.metrics.restarts import Restarts

#: Instances that are looked at in one go before the reactor gets its turn.
LOOKS_AT_ONCE = 100


class _Families:
    """A collector of families that are there already."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = tuple(found)

    def collect(self) -> Iterable[Metric]:
        return self._found


@frozen(kw_only=True)
class Scraper:
    """Tells all metrics of a branch.

    :ivar known: what is known of all but the instances.
    :ivar in_thread: fires with what a function returned in another thread.
    """

    clock: IReactorTime
    catalogue: ICatalogue
    supervisor: ISupervisor
    branch_id: str
    measures: Measures
    restarts: Restarts
    known: Callable[[], Known]
    in_thread: Callable[[Callable[[], bytes]], Deferred[bytes]]

    def text(self) -> Deferred[bytes]:
        """Fire with the metrics in the text format of Prometheus, version 0.0.4."""
        return Deferred.fromCoroutine(self._text())

    async def _text(self) -> bytes:
        instances = []
        own = [one for one in self.catalogue.instances() if one.branch == self.branch_id]
        for number, one in enumerate(own, 1):
            status: Mapping[str, Any] = self.supervisor.status(one)
            instances.append(Instance(app=one.app, name=one.name, is_enabled=one.is_enabled, status=status))
            if number % LOOKS_AT_ONCE == 0:
                await deferLater(self.clock, 0)
        living = {(one.app, one.name) for one in own}
        known = evolve(self.known(), instances=instances, restarts=dict(self.restarts.of(living)))

        def render() -> bytes:
            registry = CollectorRegistry()
            registry.register(_Families(families(known)))
            for collector in (ProcessCollector, PlatformCollector, GCCollector):
                collector(registry=registry)
            return generate_latest(self.measures.registry) + generate_latest(registry)

        return await self.in_thread(render)
