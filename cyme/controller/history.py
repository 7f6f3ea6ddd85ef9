"""The verbs of the why-log.

Each branch keeps the why-log of what happened on it, and so that of the instances that it owns; of an
instance of another branch that one is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from cyme.actors import verb
from cyme.controller.deferring import returns_deferred
from cyme.controller.following import PAGE, Document, Followers, Following, require_written
from cyme.controller.parameters import whole
from cyme.errors import NoSuchInstance

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.actors import Actors
    from cyme.interfaces import ICatalogue, IEvents

#: The most events that one answer holds.
LIMIT_MOST = 1000
#: Seconds between two looks at the why-log of another branch, for each who follows one of its instances.
LOOK_EVERY = 1.0
#: The highest id that a database can give.
SINCE_MOST = 2**63 - 1


class HistoryActor:
    """What can be asked of the why-log of this branch's instances."""

    def __init__(self, events: IEvents) -> None:
        self._events = events

    @verb(quiet=True)
    async def events(self, name: str | None, *, since: int, limit: int) -> list[dict[str, Any]]:
        """Answer with the first `limit` events of an instance after the id `since`."""
        found = await self._events.read(since=since, limit=min(limit, LIMIT_MOST), instance=name)
        return [event.document() for event in found]

    @verb(quiet=True)
    async def last_event(self, name: str | None) -> int:
        """Answer with the id of the newest event of all."""
        return await self._events.last()


class History:
    """Shows what happened on this branch and to the instances of all, and why."""

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        events: IEvents,
        actors: Actors,
        branch_id: str,
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._events = events
        self._actors = actors
        self._branch_id = branch_id
        self._followers = Followers(events)

    @returns_deferred
    async def read(
        self, app: str | None = None, instance: str | None = None, *, since: int = 0, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Fire with the first `limit` events after the id `since`, of one instance or of all.

        :raises NoSuchInstance: when there is no such instance (of that app).
        :raises NoRoute: when its branch is away.
        """
        whole("since", since, 0, SINCE_MOST)
        whole("limit", limit, 1, LIMIT_MOST)
        if instance is not None and self._is_elsewhere(app, instance):
            return await self._ask(instance, since, limit)
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
        if instance is not None and self._is_elsewhere(app, instance):
            return await self._follow_elsewhere(instance, since, deliver, failed)
        return await self._followers.follow(instance, since, deliver, failed)

    def _is_elsewhere(self, app: str | None, instance: str) -> bool:
        """Whether an instance is another branch's.

        :raises NoSuchInstance: when there is no such instance (of that app).
        """
        held = self._catalogue.instance(instance)
        if held is None or app not in (None, held.app):
            raise NoSuchInstance(instance, app)
        return held.branch != self._branch_id

    async def _ask(self, instance: str, since: int, limit: int) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = await self._actors.call(
            "Instance", instance, "events", since=since, limit=limit
        )
        return events

    async def _follow_elsewhere(
        self,
        instance: str,
        since: int | None,
        deliver: Callable[[Document], None],
        failed: Callable[[], None],
    ) -> Following:
        """Follow an instance of another branch: nobody says when something happens, so that is asked."""

        def read(following: Following, position: int) -> Deferred[Sequence[Document]]:
            return Deferred.fromCoroutine(self._ask(instance, position, PAGE))

        following = Following(read, instance, deliver, failed)
        newest = await self._actors.call("Instance", instance, "last_event")
        require_written(since, newest)
        following.begin(newest if since is None else since, newest)

        def look() -> None:
            if not following.stopped:
                following.look()
                self._clock.callLater(LOOK_EVERY, look)

        self._clock.callLater(LOOK_EVERY, look)
        return following
