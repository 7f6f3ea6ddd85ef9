"""Saying again and again what goes wrong again and again, but not each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


class Seldom:
    """Says when something is to be logged that may happen very often.

    :param every: seconds between two times.
    """

    def __init__(self, clock: IReactorTime, every: float) -> None:
        self._clock = clock
        self._every = every
        self._last: float | None = None
        self._count = 0

    def due(self) -> int:
        """How often it happened since it was logged last, this time included; 0 if not to be logged now."""
        self._count += 1
        now = self._clock.seconds()
        if self._last is not None and now - self._last < self._every:
            return 0
        self._last = now
        count, self._count = self._count, 0
        return count
