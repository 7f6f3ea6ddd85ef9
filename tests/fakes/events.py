"""A why-log in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from cyme.events import Event
from cyme.interfaces import IEvents


@implementer(IEvents)
class FakeEvents:
    """Keeps events for as long as it lives; they can be read at once.

    :ivar recorded: all of them.
    """

    def __init__(self) -> None:
        self.recorded: list[Event] = []
        self._subscribers: list[Callable[[tuple[Event, ...]], None]] = []
        self._closed = False

    def record(
        self, kind: str, *, app: str | None = None, instance: str | None = None, who: str, **details: Any
    ) -> None:
        if self._closed:
            return
        text = json.dumps(details, default=str)
        number = len(self.recorded) + 1
        event = Event(
            id=number, at=0.0, branch="b1", app=app, instance=instance, kind=kind, who=who, details=text
        )
        self.recorded.append(event)
        for written in tuple(self._subscribers):
            written((event,))

    def read(
        self, *, since: int = 0, limit: int = 1000, app: str | None = None, instance: str | None = None
    ) -> Deferred[tuple[Event, ...]]:
        found = [
            one
            for one in self.recorded
            if one.id > since and app in (None, one.app) and instance in (None, one.instance)
        ]
        return succeed(tuple(found[:limit]))

    def newest(
        self,
        *,
        before: float | None = None,
        limit: int = 100,
        app: str | None = None,
        instance: str | None = None,
    ) -> Deferred[tuple[Event, ...]]:
        found = [
            one
            for one in reversed(self.recorded)
            if (before is None or one.at < before)
            and app in (None, one.app)
            and instance in (None, one.instance)
        ]
        return succeed(tuple(found[:limit]))

    def last(self) -> Deferred[int]:
        return succeed(len(self.recorded))

    def subscribe(self, written: Callable[[tuple[Event, ...]], None]) -> Callable[[], None]:
        self._subscribers.append(written)
        return lambda: self._subscribers.remove(written)

    def close(self) -> Deferred[None]:
        self._closed = True
        return succeed(None)
