"""The verbs of the why-log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cyme.controller.deferring import returns_deferred
from cyme.controller.following import Document, Followers, Following
from cyme.controller.parameters import whole
from cyme.errors import NoSuchInstance

if TYPE_CHECKING:
    from cyme.interfaces import ICatalogue, IEvents

#: The most events that one answer holds.
LIMIT_MOST = 1000
#: The highest id that a database can give.
SINCE_MOST = 2**63 - 1


class History:
    """Shows what happened on this branch, and why."""

    def __init__(self, catalogue: ICatalogue, events: IEvents) -> None:
        self._catalogue = catalogue
        self._events = events
        self._followers = Followers(events)

    @returns_deferred
    async def read(
        self, app: str | None = None, instance: str | None = None, *, since: int = 0, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Fire with the first `limit` events after the id `since`, of one instance or of all.

        :raises NoSuchInstance: when there is no such instance (of that app).
        """
        whole("since", since, 0, SINCE_MOST)
        whole("limit", limit, 1, LIMIT_MOST)
        self._require(app, instance)
        found = await self._events.read(since=since, limit=limit, instance=instance)
        return [event.document() for event in found]

    @returns_deferred
    async def follow(
        self,
        app: str | None = None,
        instance: str | None = None,
        *,
        since: int | None = None,
        deliver: Callable[[Document], None],
        failed: Callable[[], None],
    ) -> Following:
        """Have events delivered as they happen, of one instance or of all; fires with the follower.

        It is paused at first; from its `resume` to its `stop`, `deliver` is called with each event
        after the id `since` (None: that happens from now on), in order, each of them once. It
        goes on when the instance is deleted.

        :param failed: called when it can't go on, for a database that can't be read.
        :raises NoSuchInstance: when there is no such instance (of that app).
        :raises InvalidParameter: when there is no event `since` yet.
        """
        if since is not None:
            whole("since", since, 0, SINCE_MOST)
        self._require(app, instance)
        return await self._followers.follow(instance, since, deliver, failed)

    def _require(self, app: str | None, instance: str | None) -> None:
        if instance is not None:
            held = self._catalogue.instance(instance)
            if held is None or app not in (None, held.app):
                raise NoSuchInstance(instance, app)
