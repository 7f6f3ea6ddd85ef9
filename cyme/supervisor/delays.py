"""Delayed calls that can be called off together, so that a service leaves none behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Delays:
    """The delayed calls of one service."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._pending: set[IDelayedCall] = set()

    def later(self, delay: float, call: Callable[..., Any], *arguments: Any) -> IDelayedCall:
        """Have `call(*arguments)` called after `delay` seconds."""

        def run() -> None:
            self._pending.discard(delayed)
            call(*arguments)

        delayed = self._clock.callLater(delay, run)
        self._pending.add(delayed)
        return delayed

    def call_off(self, delayed: IDelayedCall) -> None:
        """Cancel one call; no error if it was made already."""
        self._pending.discard(delayed)
        if delayed.active():
            delayed.cancel()

    def call_off_all(self) -> None:
        """Cancel every call that was not made yet."""
        for delayed in list(self._pending):
            self.call_off(delayed)
