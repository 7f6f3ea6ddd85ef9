"""The way into the reactor's thread pool for what blocks: it shows whether the pool gets on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from cyme.vitals import Pulse


class Threads:
    """Runs in the reactor's thread pool what blocks.

    :param reactor: an `IReactorThreads`.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pulse = Pulse()
        self._probing = False

    def run(self, function: Callable[[], Any]) -> Deferred[Any]:
        """Fire with what a function returned in another thread."""
        pool = self._reactor.getThreadPool()
        return self._pulse.during(deferToThreadPool(self._reactor, pool, function))

    def signs(self) -> Mapping[str, object]:
        """See `cyme.vitals.Signs`; others use the pool too, so something is run to see whether it can be."""
        if not self._probing:
            self._probing = True
            self.run(lambda: None).addBoth(self._probed)
        return self._pulse.signs("the reactor's thread pool")

    def _probed(self, _: object) -> None:
        self._probing = False
