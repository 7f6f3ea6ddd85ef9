"""The lines to all brokers that are in use.

A broker is published to while an app has it, from the first task on. Results are collected from it
for as long as some may come: an app may get another broker, or be deleted, while its tasks run. So that
is stored, before the first task is published.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, TimeoutError
from twisted.logger import Logger

from cyme.brokers import redacted
from cyme.gateway.lines import CollectingLine, Line, PublishingLine

if TYPE_CHECKING:
    from cyme.interfaces import ITaskStore

#: Seconds for which a task may be put off; it is kept for as much longer, and so have results to be awaited.
PUT_OFF = 7 * 86400.0
#: Seconds for which it is stored that results may come, beyond the time in which they do.
SLACK = 3600.0
#: Seconds after which what had waited at a broker was collected, as far as can be told.
COLLECTED_WITHIN = 5.0
#: Seconds that threads get to end.
CLOSE_WITHIN = 8.0


class Brokers:
    """Publishing and collecting lines, by broker.

    :param kept: seconds for which a task of which nothing is heard is kept.
    :param make_publishing: from a broker's URL to a line that is not connected yet; so the other.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        store: ITaskStore,
        *,
        kept: float,
        make_publishing: Callable[[str], PublishingLine],
        make_collecting: Callable[[str], CollectingLine],
    ) -> None:
        self._reactor = reactor
        self._store = store
        self._awaited = kept + PUT_OFF
        self._make_publishing = make_publishing
        self._make_collecting = make_collecting
        self._publishing: dict[str, PublishingLine] = {}
        self._collecting: dict[str, CollectingLine] = {}
        self._until: dict[str, float] = {}
        self._ending: set[Deferred[None]] = set()

    async def start(self) -> None:
        """Collect from where results may come."""
        now = self._reactor.seconds()
        for broker, until in (await self._store.used_brokers()).items():
            if until > now:
                self._until[broker] = until
                self._collect(broker)

    def ready(self, broker: str) -> PublishingLine | None:
        """The line to publish to a broker, or None where `prepare` has to come first."""
        if self._until.get(broker, 0.0) < self._reactor.seconds() + self._awaited:
            return None
        return self._publishing.get(broker)

    async def prepare(self, broker: str) -> PublishingLine:
        """Store that results may come from a broker, and make its lines."""
        until = self._reactor.seconds() + self._awaited + SLACK
        await self._store.use_broker(broker, until)
        self._until[broker] = max(until, self._until.get(broker, 0.0))
        self._collect(broker)
        line = self._publishing.get(broker)
        if line is None:
            line = self._publishing[broker] = self._make_publishing(broker)
            line.connect()
        return line

    async def reach(self, broker: str) -> None:
        """Make sure that a broker can be published to, and that results come from it.

        :raises BrokerAway: when that can't be said.
        """
        line = self.ready(broker) or await self.prepare(broker)
        await line.when_reachable()
        collecting = self._collecting[broker]
        # Who publishes over Redis notices only then that the connection is gone.
        if collecting.reachable is False:
            raise collecting.away()

    def is_heard(self, broker: str) -> bool | None:
        """Whether a broker can be published to, and what had waited there has been collected.

        None where `prepare` has to come first.
        """
        publishing, collecting = self._publishing.get(broker), self._collecting.get(broker)
        if publishing is None or collecting is None:
            return None
        if not (publishing.reachable and collecting.reachable):
            return False
        return bool(collecting.reachable_since + COLLECTED_WITHIN <= self._reactor.seconds())

    def retain(self, brokers: Iterable[str]) -> None:
        """Let go of the lines that are of no use any more.

        :param brokers: those that apps have now.
        """
        kept, now = set(brokers), self._reactor.seconds()
        for broker in [one for one in self._publishing if one not in kept]:
            self._end(self._publishing.pop(broker))
        for broker in [
            one for one in self._collecting if one not in kept and self._until.get(one, 0.0) < now
        ]:
            self._end(self._collecting.pop(broker))
            self._until.pop(broker, None)

    async def close(self) -> None:
        """End all lines."""
        for lines in (self._publishing, self._collecting):
            for line in lines.values():
                self._end(line)
            lines.clear()
        try:
            await DeferredList(list(self._ending)).addTimeout(CLOSE_WITHIN, self._reactor)
        except TimeoutError:
            self._log.warn(
                "{count} connections of the gateway have not closed in time", count=len(self._ending)
            )

    def serving(self) -> Mapping[str, object]:
        """What the threads of connections that were made are at, see `cyme.vitals.Signs`."""
        return self._signs(serving=True)

    def connecting(self) -> Mapping[str, object]:
        """What the threads are at that connect."""
        return self._signs(serving=False)

    def _signs(self, *, serving: bool) -> Mapping[str, object]:
        return {
            f"the {line.purpose} of {redacted(line.url)}": sign[1]
            for line in (*self._publishing.values(), *self._collecting.values())
            if (sign := line.sign()) is not None and sign[0] is serving
        }

    def _collect(self, broker: str) -> None:
        if broker not in self._collecting:
            line = self._collecting[broker] = self._make_collecting(broker)
            line.connect()

    def _end(self, line: Line) -> None:
        ended = line.close()
        self._ending.add(ended)

        def forget(_: object) -> None:
            self._ending.discard(ended)

        ended.addBoth(forget)
