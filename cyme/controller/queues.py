"""The verbs of queue declarations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from attrs import evolve

from cyme.controller.deferring import returns_deferred
from cyme.controller.details import queue_details
from cyme.controller.names import queue_name
from cyme.controller.parameters import known
from cyme.controller.queueoptions import exchange_type, queue_options, short_string
from cyme.declarations import Declaration, Queue
from cyme.errors import NoSuchApp, NoSuchQueue

if TYPE_CHECKING:
    from cyme.interfaces import ICatalogue
    from cyme.narration import Narrator

PARAMETERS = ("exchange", "exchange_type", "routing_key", "options")


class Queues:
    """Adds, changes, shows and removes the queue declarations of apps."""

    def __init__(self, catalogue: ICatalogue, narrator: Narrator) -> None:
        self._catalogue = catalogue
        self._narrator = narrator

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
