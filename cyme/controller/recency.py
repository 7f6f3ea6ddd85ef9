"""The last event of each instance, kept in memory so that a list of them costs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

if TYPE_CHECKING:
    from cyme.interfaces import IEvents

#: Instances of which it is kept; and events that are read at the first question.
MOST, READ_AT_FIRST = 20_000, 1000


class LastEvents:
    """Knows the last event of each instance of this branch, from the first question on."""

    _log = Logger()

    def __init__(self, events: IEvents) -> None:
        self._events = events
        self._last: dict[str, Any] = {}
        self._is_read = False
        events.subscribe(self._written)

    def of(self, instance: str) -> Mapping[str, Any] | None:
        """What happened to an instance last, and when; None while that is not known."""
        if not self._is_read:
            self._is_read = True
            Deferred.fromCoroutine(self._read())
        found = self._last.get(instance)
        return None if found is None else {"kind": found.kind, "at": found.at}

    async def _read(self) -> None:
        try:
            for event in await self._events.newest(limit=READ_AT_FIRST):
                if event.instance is not None:
                    self._last.setdefault(event.instance, event)
        except Exception:
            self._log.failure("the last events can't be read")

    def _written(self, events: Sequence[Any]) -> None:
        for event in events:
            if event.instance is None:
                continue
            # The one that was changed last is the last in order, so that the first may go.
            self._last.pop(event.instance, None)
            self._last[event.instance] = event
            if len(self._last) > MOST:
                del self._last[next(iter(self._last))]
