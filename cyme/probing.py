"""Notices that the owner of something has gone while it is being asked.

Note [Gone meanwhile]
~~~~~~~~~~~~~~~~~~~~~
A message finds its way to an inbox whose branch was killed a moment ago, and nobody will ever answer it.
So while answers are awaited, each owner is sent a message every second that asks for nothing: one whose
deadline has passed, which is dropped unread. When there is no way to the owner any more, nobody answers.
Whether it had done what it was asked before it went, nobody can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cyme.errors import NoRoute

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds between two looks.
INTERVAL = 1.0

Owned = tuple[str, str]


class Probing:
    """Looks after those who are asked; see Note [Gone meanwhile].

    :param probe: sends the owner of (actor, name) a message that asks for nothing.
    """

    def __init__(self, clock: IReactorTime, probe: Callable[[str, str], Deferred[None]]) -> None:
        self._clock = clock
        self._probe = probe
        self._watched: dict[Owned, list[Callable[[], None]]] = {}
        self._next: IDelayedCall | None = None

    def watch(self, actor: str, name: str, gone: Callable[[], None]) -> Callable[[], None]:
        """Have `gone` called when there is no way any more; call the answer to end it."""
        watching = self._watched.setdefault((actor, name), [])
        watching.append(gone)
        if self._next is None:
            self._next = self._clock.callLater(INTERVAL, self._look)

        def end() -> None:
            watching.remove(gone)
            if not watching and self._watched.get((actor, name)) is watching:
                del self._watched[actor, name]
            if not self._watched and self._next is not None:
                self._next.cancel()
                self._next = None

        return end

    def _look(self) -> None:
        self._next = self._clock.callLater(INTERVAL, self._look)
        for actor, name in list(self._watched):
            self._probe(actor, name).addErrback(self._failed, (actor, name))

    def _failed(self, failure: Failure, owned: Owned) -> None:
        # A bus that is away may come back, with the answer.
        if failure.check(NoRoute):
            for gone in list(self._watched.get(owned, ())):
                gone()
