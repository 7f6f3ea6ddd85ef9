"""Keeps what the broker has in line with what is wanted, many changes at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed

K = TypeVar("K", bound=Hashable)


class Mirror(Generic[K]):
    """Brings changes of a set to the broker, for as long as one connection lasts.

    Whoever changes the set says so by `changed`. What changes while others are brought waits for the
    next round, and what changed back by then is not brought at all.

    :param wanted: the set; it is read, never changed.
    :param bring: is given up to `most` members, each with whether it is wanted now; they hold when
        it is done.
    :param failed: called with the error when `bring` fails; nothing is brought any more.
    """

    def __init__(
        self,
        wanted: set[K],
        bring: Callable[[Sequence[tuple[K, bool]]], Awaitable[None]],
        most: int,
        failed: Callable[[Exception], None],
    ) -> None:
        self._wanted = wanted
        self._bring = bring
        self._most = most
        self._failed = failed
        self._held: set[K] = set()
        self._changed: dict[K, None] = dict.fromkeys(wanted)
        self._waiting: list[Deferred[None]] = []
        self._running: Deferred[None] | None = None
        self._is_started = False
        self._is_stopped = False

    def start(self) -> Deferred[None]:
        """Bring all that is wanted; fires when it holds."""
        self._is_started = True
        self._run()
        return self.settled()

    def changed(self, member: K) -> None:
        """A member was added to the set or removed from it."""
        if not self._is_stopped:
            self._changed[member] = None
            self._run()

    def settled(self) -> Deferred[None]:
        """Fire when all that has changed until now holds, or never will."""
        if self._running is None:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def stop(self) -> None:
        """Bring nothing any more."""
        self._is_stopped = True
        if self._running is not None:
            self._running.cancel()

    def _run(self) -> None:
        if self._running is None and self._is_started:
            running = Deferred.fromCoroutine(self._rounds())
            if not running.called:
                self._running = running

    async def _rounds(self) -> None:
        try:
            while (self._changed or self._waiting) and not self._is_stopped:
                members, self._changed = list(self._changed), {}
                waiting, self._waiting = self._waiting, []
                try:
                    for start in range(0, len(members), self._most):
                        await self._round(members[start : start + self._most])
                finally:
                    _fire(waiting)
        except CancelledError:
            pass
        except Exception as problem:
            self._is_stopped = True
            self._failed(problem)
        finally:
            self._running = None
            waiting, self._waiting = self._waiting, []
            _fire(waiting)

    async def _round(self, members: Sequence[K]) -> None:
        steps = [(one, one in self._wanted) for one in members]
        steps = [(one, wanted) for one, wanted in steps if wanted != (one in self._held)]
        if not steps:
            return
        await self._bring(steps)
        for one, wanted in steps:
            if wanted:
                self._held.add(one)
            else:
                self._held.discard(one)


def _fire(waiting: Sequence[Deferred[None]]) -> None:
    for one in waiting:
        if not one.called:
            one.callback(None)
