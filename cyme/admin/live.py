"""Tells open pages when to fetch themselves anew, as Server-Sent Events.

What a page shows is made in one place only: its template. So a stream says *that* something may have
changed, and the page asks for itself again and takes over what differs. That is at once when the
branch's why-log gets a new event, and every few seconds for what no event tells of (memory, depths of
queues, what happens elsewhere). Browsers close the stream of a page that nobody looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from cyme.interfaces import IController

#: Seconds between two ticks without an event; and for which events are gathered for one.
EVERY, GATHER = 2.0, 0.25


class Ticking:
    """One page's stream; see `cyme.api.streams.Following`."""

    def __init__(self, ticks: Ticks, deliver: Callable[[Mapping[str, Any]], None]) -> None:
        self._ticks = ticks
        self._deliver = deliver
        self.position = ticks.number
        self.is_paused = True

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def look(self) -> None:
        pass

    def stop(self) -> None:
        self._ticks.leave(self)

    def tick(self, number: int) -> None:
        """Say that something may have changed, unless the client does not read."""
        self.position = number
        if not self.is_paused:
            self._deliver({"id": number, "kind": "changed"})


class Ticks:
    """The clock of all open pages; it stands still while there are none."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, controller: IController) -> None:
        self._clock = clock
        self._controller = controller
        self._pages: set[Ticking] = set()
        self._next: IDelayedCall | None = None
        self._following: Any = None
        self.number = 0

    async def follow(
        self,
        *,
        since: int | None,
        deliver: Callable[[Mapping[str, Any]], None],
        failed: Callable[[], None],
    ) -> Ticking:
        """Have a page told; what it missed is one fetch, which it makes when it is connected."""
        page = Ticking(self, deliver)
        self._pages.add(page)
        if self._next is None:
            self._next = self._clock.callLater(EVERY, self._tick)
        if self._following is None:
            await self._follow_events()
        return page

    def leave(self, page: Ticking) -> None:
        """Tell a page nothing any more."""
        self._pages.discard(page)
        if not self._pages:
            self.close()

    def close(self) -> None:
        """Stand still."""
        self._pages.clear()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._following is not None:
            self._following.stop()
            self._following = None

    async def _follow_events(self) -> None:
        try:
            following = await self._controller.events.follow(deliver=self._happened, failed=self._lost)
        except Exception:
            # There are ticks without it.
            self._log.failure("open pages hear of events late")
            return
        if not self._pages or self._following is not None:
            following.stop()
            return
        self._following = following
        following.resume()

    def _lost(self) -> None:
        self._following = None

    def _happened(self, document: Mapping[str, Any]) -> None:
        if self._next is not None and self._next.getTime() > self._clock.seconds() + GATHER:
            self._next.reset(GATHER)

    def _tick(self) -> None:
        self._next = self._clock.callLater(EVERY, self._tick)
        self.number += 1
        for page in tuple(self._pages):
            try:
                page.tick(self.number)
            except Exception:
                self._log.failure("an open page can't be told that something changed")


#: See `Ticks.follow`.
Follow = Callable[..., Deferred[Ticking]]
