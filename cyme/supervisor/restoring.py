"""Has put back what workers held that have ended, where the broker does not do so itself.

RabbitMQ does when a connection breaks; for Redis see Note [Who holds what on Redis] in
`cyme.holders`. What the broker does itself costs nothing here but a call.

Note [Not at once]: a worker that was killed leaves connections that Redis does not know to be
dead for a moment, with a question for messages waiting on them. What is put into the queue in
that moment goes there, and is lost. So there is a pause, which is also time for its last commands
to arrive.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from cyme.interfaces import IRemoteControl, IWorkers
    from cyme.supervisor.delays import Delays
    from cyme.supervisor.world import World

#: Seconds between the end of a worker and the restoring of what it held; see Note [Not at once].
PAUSE = 1.0
#: Seconds for which a broker that is away is waited for. Then the visibility timeout has done it,
#: unless the app has a longer one.
PATIENCE = 3600.0
#: Processes that one call is about, so that Redis is kept for a moment only.
MOST_AT_ONCE = 50


class Restoring:
    """What is to be restored: processes that have ended, by their brokers."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, workers: IWorkers, remote: IRemoteControl, world: World, delays: Delays
    ) -> None:
        self._clock = clock
        self._workers = workers
        self._remote = remote
        self._world = world
        self._delays = delays
        self._waiting: dict[str, dict[str, float]] = defaultdict(dict)
        self._under_way: set[str] = set()
        self._is_stopped = False

    def collect(self) -> None:
        """Have restored what those held that have ended since this was called last."""
        brokers = set()
        now = self._clock.seconds()
        for name, incarnation in self._workers.take_ended():
            broker = self._world.broker_of(name)
            if broker is not None:
                self._waiting[broker][incarnation] = now
                brokers.add(broker)
        for broker in brokers:
            if self._is_stopped:
                self._restore(broker)
            else:
                self._delays.later(PAUSE, self._restore, broker)

    def again(self) -> None:
        """Try once more where it did not succeed."""
        limit = self._clock.seconds() - PATIENCE
        for broker, waiting in list(self._waiting.items()):
            for incarnation in [one for one, since in waiting.items() if since < limit]:
                del waiting[incarnation]
            self._restore(broker)

    def stop(self) -> None:
        """Wait for nothing any more; what ends from now on is restored at once."""
        self._is_stopped = True
        self.again()

    def _restore(self, broker: str) -> None:
        waiting = self._waiting.get(broker)
        if not waiting:
            self._waiting.pop(broker, None)
        elif broker not in self._under_way:
            self._under_way.add(broker)
            holders = tuple(waiting)[:MOST_AT_ONCE]
            restoring = self._remote.restore(broker, holders)
            restoring.addCallback(self._restored, broker, holders)
            restoring.addErrback(self._failed, broker)

    def _restored(self, count: int, broker: str, holders: tuple[str, ...]) -> None:
        self._under_way.discard(broker)
        for one in holders:
            self._waiting[broker].pop(one, None)
        if count:
            self._log.info(
                "{{Supervisor}} {count} messages that ended workers held are back in their queues",
                count=count,
            )
        self._restore(broker)

    def _failed(self, failure: Failure, broker: str) -> None:
        """The next full check tries again, and so does the broker's return."""
        self._under_way.discard(broker)
        self._log.info(
            "{{Supervisor}} what ended workers held is not back in the queues yet: {problem}",
            problem=failure.getErrorMessage(),
        )
