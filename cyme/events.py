"""The why-log: what happened, why, and who asked, kept in the database.

Note [Recording]
~~~~~~~~~~~~~~~~
Whoever records must never wait or fail: an event goes into a bounded buffer, and a moment later
the whole buffer is one transaction in the database's thread. A batch that can't be written is
tried again with the next; what overflows the buffer is counted, and the count becomes an event.
The price: a branch that is killed within that moment loses the buffer. No acknowledged change is
lost with it, only the line that tells of it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from cyme.asking import WHO_MOST
from cyme.interfaces import IEvents
from cyme.narration import without_credentials

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from cyme.interfaces import IStore

#: Seconds in which events are gathered for one transaction.
GATHER = 0.05
#: Seconds until a batch that could not be written is tried again.
RETRY_AFTER = 5.0
#: The most events that wait to be written; what comes then pushes out nothing, and is counted.
BUFFER = 10_000
#: Seconds between two prunings, the age of the oldest event that is kept, and how many are kept.
PRUNE_INTERVAL = 600.0
KEEP_SECONDS = 30 * 24 * 3600.0
KEEP_COUNT = 100_000
#: The most characters of an event's kind, which a column of the database holds.
KIND_MOST = 64
#: The most characters of an event's details, as JSON.
DETAILS_MOST = 65_536
#: To how many characters each text in details is shortened until they are short enough.
SHORTER = (4096, 512, 64)


@frozen(kw_only=True)
class Event:
    """One thing that happened.

    :ivar id: its place in the order of all events; 0 until it is written.
    :ivar at: seconds since the epoch.
    :ivar branch: the branch that it happened on.
    :ivar app, instance: what it is about, where it is about one.
    :ivar who: who did it, or asked for it: "supervisor", "http ADDRESS" and so on (`cyme.asking`);
        "branch ID" for a declaration that was written there.
    :ivar details: a JSON object, as text.
    """

    id: int = 0
    at: float
    branch: str
    app: str | None = None
    instance: str | None = None
    kind: str
    who: str
    details: str = "{}"

    def document(self) -> dict[str, Any]:
        """The event as JSON has it."""
        return {
            "id": self.id,
            "at": self.at,
            "branch": self.branch,
            "app": self.app,
            "instance": self.instance,
            "kind": self.kind,
            "who": self.who,
            "details": _decoded(self.details),
        }


@implementer(IEvents)
class Events:
    """Writes events to a store in batches, see Note [Recording].

    :param branch_id: the branch that they happen on.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, store: IStore, branch_id: str) -> None:
        self._clock = clock
        self._store = store
        self._branch_id = branch_id
        self._waiting: deque[Event] = deque()
        self._lost = 0
        self._call: IDelayedCall | None = None
        self._writing: Deferred[None] | None = None
        self._pruned_at: float | None = None
        self._closed = False
        self._subscribers: list[Callable[[tuple[Event, ...]], None]] = []

    # -- IEvents ------------------------------------------------------------------------

    def record(
        self, kind: str, *, app: str | None = None, instance: str | None = None, who: str, **details: Any
    ) -> None:
        if self._closed:
            return
        if len(self._waiting) >= BUFFER:
            self._lost += 1
            return
        self._waiting.append(
            Event(
                at=self._clock.seconds(),
                branch=self._branch_id,
                app=app,
                instance=instance,
                kind=_word(kind, KIND_MOST),
                who=_word(who, WHO_MOST),
                details=_encoded(details),
            )
        )
        self._write_after(GATHER)

    def read(
        self, *, since: int = 0, limit: int = 1000, app: str | None = None, instance: str | None = None
    ) -> Deferred[tuple[Event, ...]]:
        return self._store.read_events(since, limit, app, instance)

    def newest(
        self,
        *,
        before: float | None = None,
        limit: int = 100,
        app: str | None = None,
        instance: str | None = None,
    ) -> Deferred[tuple[Event, ...]]:
        return self._store.newest_events(before, limit, app, instance)

    def last(self) -> Deferred[int]:
        return self._store.last_event()

    def subscribe(self, written: Callable[[tuple[Event, ...]], None]) -> Callable[[], None]:
        self._subscribers.append(written)

        def end() -> None:
            if written in self._subscribers:
                self._subscribers.remove(written)

        return end

    def close(self) -> Deferred[None]:
        self._closed = True
        return Deferred.fromCoroutine(self._drain())

    # -- inside -------------------------------------------------------------------------

    async def _drain(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._writing is not None:
            done: Deferred[None] = Deferred()
            self._writing.addBoth(lambda _: done.callback(None))
            await done
        if self._waiting:
            await self._write()

    def _write_after(self, seconds: float) -> None:
        if self._call is None and self._writing is None and not self._closed:
            self._call = self._clock.callLater(seconds, self._begin)

    def _begin(self) -> None:
        self._call = None
        writing = Deferred.fromCoroutine(self._write()).addCallback(self._written)
        if not writing.called:
            self._writing = writing

    def _written(self, worked: bool) -> None:
        self._writing = None
        if self._waiting:
            self._write_after(GATHER if worked else RETRY_AFTER)

    async def _write(self) -> bool:
        """Write what waits; never fails, says whether it worked."""
        batch = tuple(self._waiting)
        lost = self._lost
        if lost:
            text = _encoded({"count": lost})
            batch = (*batch, evolve(batch[-1], app=None, instance=None, kind="lost", details=text))
        try:
            stored = await self._store.append_events(batch)
        except Exception:
            self._log.failure("{count} events can't be written now", count=len(batch))
            return False
        for _ in range(len(batch) - bool(lost)):
            self._waiting.popleft()
        self._lost -= lost
        for written in tuple(self._subscribers):
            try:
                written(stored)
            except Exception:
                self._log.failure("a subscriber to the events failed")
        await self._prune()
        return True

    async def _prune(self) -> None:
        now = self._clock.seconds()
        if self._pruned_at is not None and now < self._pruned_at + PRUNE_INTERVAL:
            return
        self._pruned_at = now
        try:
            await self._store.prune_events(now - KEEP_SECONDS, KEEP_COUNT)
        except Exception:
            self._log.failure("old events can't be removed now")


def _encoded(details: dict[str, Any]) -> str:
    """Details as JSON, whatever they are, without passwords and of bounded length."""
    try:
        for most in (DETAILS_MOST, *SHORTER):
            text = json.dumps(_fit(details, most))
            if len(text) <= DETAILS_MOST:
                return text
    except (TypeError, ValueError, RecursionError):
        return json.dumps({"unreadable": sorted(details)})
    return json.dumps({"too_long": len(text)})


def _fit(value: Any, most: int) -> Any:
    """A value as JSON has it, its texts without passwords and shortened to `most` characters."""
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and isfinite(value)):
        return value
    if isinstance(value, Mapping):
        return {str(key): "***" if key == "password" else _fit(inner, most) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_fit(inner, most) for inner in value]
    text = without_credentials(str(value))
    return text if len(text) <= most else f"{text[:most]}…"


def _word(text: str, most: int) -> str:
    """Text that any database takes, whoever sent it: one that does not fit would hold up the others."""
    return "".join(one if one.isprintable() else "?" for one in text[:most])


def _decoded(text: str) -> Any:
    """What a row's details say; a person may have written anything there."""
    try:
        return json.loads(text, parse_constant=str)
    except (TypeError, ValueError, RecursionError):
        return {}
