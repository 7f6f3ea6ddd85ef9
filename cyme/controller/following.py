"""Following the why-log: what it holds from some event on, and then what happens, as it happens.

Note [No gap, no repeat]
~~~~~~~~~~~~~~~~~~~~~~~~
A follower has a *position*: it was given every event of its own up to this id, and none after it.
Events reach it in two ways, and only in the order of their ids:

* read from the database after its position, page by page; the position is then the last of the
  page, or, behind the last page, what was known to be written before that page was read (no id
  becomes visible after a higher one: `IStore.append_events`);
* handed on as they were written, without a read, only where nothing can stand between them and
  the position: it reads nothing now, is not paused, and the first of them is the very next id.

Anything else is but a reason to read. So a follower that registers before it asks where the log
ends misses nothing written in between; one that lags, because its reader is slow, keeps nothing
but its position; and events of other branches in a shared database, of which nobody here is told,
come with the next read: at the latest when `look` is called, and always before what follows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger

from cyme.errors import InvalidParameter

if TYPE_CHECKING:
    from cyme.interfaces import IEvents

Document = Mapping[str, Any]

#: Events that one read asks for, and the most that are handed on without one.
PAGE = 50
#: The most characters of the details of events that are handed on without a read.
HANDED_ON_MOST = 65_536
#: Reads that all followers together have under way: the database has other work.
READS_AT_ONCE = 2


@frozen
class _Batch:
    """Events that were written together.

    :ivar documents: none where they are too many to be handed on.
    """

    first: int
    last: int
    documents: Sequence[Document]


class Following:
    """One follower of the why-log; paused at first. See Note [No gap, no repeat].

    :param read: fires with the documents of the page after an id.
    :param instance: whose events it wants; None for all.
    :param deliver: called with each event's document.
    :param failed: called once when it can't go on; it is stopped then.
    """

    _log = Logger()

    def __init__(
        self,
        read: Callable[[Following, int], Deferred[Sequence[Document]]],
        instance: str | None,
        deliver: Callable[[Document], None],
        failed: Callable[[], None],
    ) -> None:
        self._read = read
        #: Whose events it wants.
        self.instance = instance
        self._deliver = deliver
        self._failed = failed
        #: Up to which id it was given all.
        self.position = 0
        #: Whether it was stopped.
        self.stopped = False
        self._heard = 0
        self._must_look = False
        self._paused = True
        self._reading = False

    # -- for the reader -----------------------------------------------------------------

    def pause(self) -> None:
        """Deliver nothing more until `resume`; may be called from within `deliver`."""
        self._paused = True

    def resume(self) -> None:
        """Deliver what there is, and what comes."""
        self._paused = False
        self._go_on()

    def look(self) -> None:
        """Read the database, also if nobody said that there is something new."""
        self._must_look = True
        self._go_on()

    def stop(self) -> None:
        """Deliver nothing any more; may be called again, and from within `deliver`."""
        self.stopped = True

    # -- for those who know -------------------------------------------------------------

    def begin(self, position: int, newest: int) -> None:
        """Know where to begin, and the newest id there is."""
        self.position = position
        self._heard = max(self._heard, newest)

    def hear(self, batch: _Batch) -> None:
        """Events were written."""
        self._heard = max(self._heard, batch.last)
        if batch.documents and batch.first == self.position + 1 and not (self._reading or self._paused):
            self._hand_on(batch)
        self._go_on()

    # -- inside ---------------------------------------------------------------------------

    def _hand_on(self, batch: _Batch) -> None:
        for document in batch.documents:
            if self._paused or self.stopped:
                return
            self.position = document["id"]
            if self.instance in (None, document["instance"]):
                self._deliver(document)

    def _go_on(self) -> None:
        if self._is_due() and not self._reading:
            self._reading = True
            Deferred.fromCoroutine(self._catch_up())

    def _is_due(self) -> bool:
        behind = self._must_look or self.position < self._heard
        return behind and not (self._paused or self.stopped)

    async def _catch_up(self) -> None:
        try:
            while self._is_due():
                await self._read_page()
        except Exception:
            self._log.failure("the why-log can't be followed further")
            if not self.stopped:
                self.stop()
                self._failed()
        finally:
            self._reading = False

    async def _read_page(self) -> None:
        self._must_look = False
        heard = self._heard
        page = await self._read(self, self.position)
        if page:
            self._heard = max(self._heard, page[-1]["id"])
        if len(page) >= PAGE:
            self._must_look = True
        for document in page:
            if self._paused or self.stopped:
                return
            self.position = document["id"]
            self._deliver(document)
        if len(page) < PAGE:
            self.position = max(self.position, heard)


class Followers:
    """All that follow the why-log of this branch."""

    _log = Logger()

    def __init__(self, events: IEvents) -> None:
        self._events = events
        self._gate = DeferredSemaphore(READS_AT_ONCE)
        self._followers: list[Following] = []
        events.subscribe(self._written)

    async def follow(
        self,
        instance: str | None,
        since: int | None,
        deliver: Callable[[Document], None],
        failed: Callable[[], None],
    ) -> Following:
        """A follower from behind the event `since` on; None: from now on.

        :raises InvalidParameter: when there is no event `since` yet: there would be none for long.
        """
        following = Following(self._read, instance, deliver, failed)
        # Before the log is asked where it ends, see Note [No gap, no repeat].
        self._followers.append(following)
        try:
            newest = await self._events.last()
            require_written(since, newest)
        except Exception:
            following.stop()
            self._drop_stopped()
            raise
        following.begin(newest if since is None else since, newest)
        return following

    def _read(self, following: Following, position: int) -> Deferred[Sequence[Document]]:
        async def page() -> Sequence[Document]:
            if following.stopped:
                return ()
            found = await self._events.read(since=position, limit=PAGE, instance=following.instance)
            return [event.document() for event in found]

        return self._gate.run(lambda: Deferred.fromCoroutine(page()))

    def _written(self, events: Sequence[Any]) -> None:
        self._drop_stopped()
        if not (events and self._followers):
            return
        few = len(events) <= PAGE and sum(len(event.details) for event in events) <= HANDED_ON_MOST
        documents = [event.document() for event in events] if few else []
        batch = _Batch(events[0].id, events[-1].id, documents)
        for following in tuple(self._followers):
            try:
                following.hear(batch)
            except Exception:
                self._log.failure("a follower of the why-log failed")

    def _drop_stopped(self) -> None:
        self._followers = [one for one in self._followers if not one.stopped]


def require_written(since: int | None, newest: int) -> None:
    """Refuse to begin behind an event that there is not.

    :raises InvalidParameter: then.
    """
    if since is not None and since > newest:
        raise InvalidParameter("since", f"there is no event {since} yet; the newest is {newest}")
