"""Counting restarts of workers by why their last life ended, from the why-log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator

from attrs import define, field

from cyme.events import Event

#: The events that tell of a worker's life.
_OF_LIVES = frozenset({"started", "adopted", "ended"})
#: The reason of a start after an end that this branch did not see.
UNKNOWN = "unknown"


@define
class _Lives:
    """The lives of one instance's worker that are not counted yet.

    An end is known later than the start after it where the log has to be read first.
    """

    begun: int = 0
    ends: list[str] = field(factory=list)


class Restarts:
    """How often the workers of each instance were started again, since this branch's start."""

    def __init__(self) -> None:
        self._lives: dict[str, _Lives] = {}
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def written(self, events: Iterable[Event]) -> None:
        """Hear of events, in order."""
        for event in events:
            if event.instance is None or event.app is None or event.kind not in _OF_LIVES:
                continue
            lives = self._lives.setdefault(event.instance, _Lives())
            if event.kind == "ended":
                # The life that has ended began, whether or not this branch saw it.
                lives.begun = max(lives.begun, 1)
                lives.ends.append(_reason(event))
            else:
                lives.begun += 1
            if lives.ends and lives.begun > 1:
                lives.begun -= 1
                self._counts[event.app, event.instance, lives.ends.pop(0)] += 1

    def of(self, living: set[tuple[str, str]]) -> Iterator[tuple[tuple[str, str, str], int]]:
        """(app, instance, reason) and how often, of the instances there are; others are forgotten.

        :param living: app and name of each instance of this branch.
        """
        names = {name for _, name in living}
        for key in [key for key in self._counts if key[:2] not in living]:
            del self._counts[key]
        for name in [name for name in self._lives if name not in names]:
            del self._lives[name]
        yield from self._counts.items()


def _reason(event: Event) -> str:
    try:
        details = json.loads(event.details)
    except ValueError:
        return UNKNOWN
    reason = details.get("reason") if isinstance(details, dict) else None
    return reason if isinstance(reason, str) else UNKNOWN
