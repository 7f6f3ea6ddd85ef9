"""The verbs of queue declarations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.defer import TimeoutError

from cyme.controller.deferring import returns_deferred
from cyme.controller.details import queue_details
from cyme.controller.names import queue_name
from cyme.controller.parameters import known
from cyme.controller.queueoptions import exchange_type, queue_options, short_string
from cyme.declarations import Declaration, Queue
from cyme.errors import BrokerAway, NoSuchApp, NoSuchQueue

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.interfaces import ICatalogue, IRemoteControl
    from cyme.narration import Narrator

#: Seconds that a broker gets to count a queue.
COUNT_WITHIN = 3.0
PARAMETERS = ("exchange", "exchange_type", "routing_key", "options")


class Queues:
    """Adds, changes, shows, pauses, empties and removes the queue declarations of apps.

    :param default_broker: gives the URL of the broker of apps that name none.
    """

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        remote: IRemoteControl,
        narrator: Narrator,
        default_broker: Callable[[], str],
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._remote = remote
        self._narrator = narrator
        self._default_broker = default_broker

    def all(self, app: str) -> list[str]:
        """The names of an app's queue declarations.

        :raises NoSuchApp: when there is no such app.
        """
        self._require_app(app)
        return [queue.name for queue in self._catalogue.queues(app)]

    def get(self, app: str, name: str) -> dict[str, Any]:
        """One declaration.

        :raises NoSuchApp, NoSuchQueue: when there is none.
        """
        return queue_details(self._queue(app, name))

    @returns_deferred
    async def inspect(self, app: str, name: str) -> dict[str, Any]:
        """Fire with a declaration, and under `messages` and `consumers` what the app's broker counts.

        Both are None where the broker can't tell or is away, and 0 where it does not have the queue.

        :raises NoSuchApp, NoSuchQueue: when there is none.
        """
        queue = self._queue(app, name)
        messages = consumers = None
        try:
            counting = self._remote.count(self._broker(app), [name])
            counts = await counting.addTimeout(COUNT_WITHIN, self._clock)
        except (BrokerAway, TimeoutError):
            counts = None
        if counts is not None:
            count = counts[name]
            messages, consumers = (0, 0) if count is None else (count.messages, count.consumers)
        return {**queue_details(queue), "messages": messages, "consumers": consumers}

    @returns_deferred
    async def add(self, app: str, name: str, **params: Any) -> tuple[bool, dict[str, Any]]:
        """Declare a queue, or change its declaration by the parameters given.

        :param params: `exchange`, `exchange_type`, `routing_key` (text), and `options` (a mapping,
            see `cyme.controller.queueoptions`), which replaces all options there were.
        :return: fires with (whether it is new, the declaration).
        :raises NoSuchApp: when there is no such app.
        :raises InvalidName, InvalidParameter: when something can't be; nothing is changed.
        """
        self._require_app(app)
        queue_name(name)
        changes = self._changes(known(params, PARAMETERS))
        created = False

        def decide() -> list[Declaration]:
            nonlocal created
            self._require_app(app)
            there = self._catalogue.queue(app, name)
            created = there is None
            return [evolve(there or Queue(app=app, name=name), **changes)]

        async def work() -> dict[str, Any]:
            (queue,) = await self._catalogue.change(decide)
            assert isinstance(queue, Queue)
            return queue_details(queue)

        details = await self._narrator.narrated("Queue", "add", {"name": name, **changes}, work)
        return created, details

    @returns_deferred
    async def delete(self, app: str, name: str) -> None:
        """Remove a declaration; in the same transaction, every instance stops consuming from it.

        :raises NoSuchApp, NoSuchQueue: when there is none.
        """

        def decide() -> Iterator[Declaration]:
            yield evolve(self._queue(app, name), deleted=True)
            for instance in self._catalogue.instances(app):
                if name in instance.queues:
                    yield evolve(instance, queues=tuple(one for one in instance.queues if one != name))

        async def work() -> None:
            await self._catalogue.change(decide)

        await self._narrator.narrated("Queue", "delete", {"name": name}, work)

    @returns_deferred
    async def pause(self, app: str, name: str) -> None:
        """Have no instance consume from a queue, until `resume`.

        :raises NoSuchApp, NoSuchQueue: when there is none.
        """
        await self._set_paused(app, name, True)

    @returns_deferred
    async def resume(self, app: str, name: str) -> None:
        """Have the instances consume again that are declared to.

        :raises NoSuchApp, NoSuchQueue: when there is none.
        """
        await self._set_paused(app, name, False)

    @returns_deferred
    async def purge(self, app: str, name: str) -> dict[str, int]:
        """Remove the messages that wait in a queue of the app's broker; fires with `{"purged": number}`.

        :raises NoSuchApp, NoSuchQueue: when there is none.
        :raises BrokerAway: when the broker can't be reached.
        """
        self._queue(app, name)

        async def work() -> dict[str, int]:
            return {"purged": await self._remote.purge(self._broker(app), name)}

        return await self._narrator.narrated("Queue", "purge", {"name": name}, work)

    async def _set_paused(self, app: str, name: str, paused: bool) -> None:
        def decide() -> list[Declaration]:
            return [evolve(self._queue(app, name), paused=paused)]

        async def work() -> None:
            await self._catalogue.change(decide)

        await self._narrator.narrated("Queue", "pause" if paused else "resume", {"name": name}, work)

    def _broker(self, app: str) -> str:
        there = self._catalogue.app(app)
        return (there.broker if there is not None else None) or self._default_broker()

    def _changes(self, given: dict[str, Any]) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        if "exchange" in given:
            changes["exchange"] = short_string("exchange", given["exchange"])
        if "exchange_type" in given:
            changes["exchange_type"] = exchange_type(given["exchange_type"])
        if "routing_key" in given:
            changes["routing_key"] = short_string("routing_key", given["routing_key"])
        if "options" in given:
            changes["options"] = queue_options(given["options"])
        return changes

    def _require_app(self, app: str) -> None:
        if self._catalogue.app(app) is None:
            raise NoSuchApp(app)

    def _queue(self, app: str, name: str) -> Queue:
        self._require_app(app)
        queue = self._catalogue.queue(app, name)
        if queue is None:
            raise NoSuchQueue(name, app)
        return queue
