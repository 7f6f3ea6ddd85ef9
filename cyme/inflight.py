"""Counts the HTTP requests that are being answered, so that a stop can let them finish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request


class InFlight(Resource):
    """Stands before the resource that answers everything.

    :param answers: a leaf.
    :param end_endless: ends the answers that would never end by themselves.
    """

    isLeaf = True

    def __init__(self, answers: IResource, end_endless: Callable[[], None]) -> None:
        super().__init__()
        self._end_endless = end_endless
        self._answers = answers
        self._count = 0
        self._waiting: list[Deferred[None]] = []

    def render(self, request: Request) -> Any:
        self._count += 1
        request.notifyFinish().addBoth(self._finished)
        return self._answers.render(request)

    def none(self) -> Deferred[None]:
        """End the endless answers, at once, and fire when no request is being answered."""
        self._end_endless()
        if self._count == 0:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def _finished(self, _: object) -> None:
        """However it ended; a client that went away is not waited for."""
        self._count -= 1
        if self._count == 0:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                if not each.called:
                    each.callback(None)
