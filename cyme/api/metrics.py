"""The route of the metrics."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from cyme.api import answers
from cyme.api.routing import READ, Route


def routes(scrape: Callable[[], Deferred[bytes]]) -> tuple[Route, ...]:
    """The routes.

    :param scrape: fires with the text of the metrics.
    """
    return (
        Route(
            paths=("/metrics",),
            methods=READ,
            summary="what a monitoring system reads, as Prometheus has it",
            passes_on=True,
            verb=lambda controller: scrape(),
            answer=answers.metrics,
            answers=((200, "the metrics"),),
        ),
    )
