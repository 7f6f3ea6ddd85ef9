"""Counting what happens: requests, checks, messages."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

#: The methods that have a series of their own.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"})
#: The label of what has no series of its own.
OTHER = "other"

_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_PASS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BUS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Measures:
    """The instruments of one branch.

    :ivar registry: what they are in; nothing of it is shared by the process.
    """

    def __init__(self) -> None:
        # A series more for each counter, which says when it began, and which nothing here needs.
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "cyme_http_requests",
            "HTTP requests that were answered, by the route as it is declared.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "cyme_http_request_duration_seconds",
            "Time from a complete HTTP request to the end of its answer.",
            ("route",),
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )
        self._passes = Histogram(
            "cyme_supervision_pass_duration_seconds",
            "Time that a full check of the supervisor took.",
            buckets=_PASS_SECONDS,
            registry=self.registry,
        )
        self._confirms = Histogram(
            "cyme_bus_confirm_duration_seconds",
            "Time until the broker confirmed a message between branches.",
            buckets=_BUS_SECONDS,
            registry=self.registry,
        )

    def answered(self, route: str | None, method: str, status: int, seconds: float) -> None:
        """Count an HTTP request.

        :param route: its path as it is declared; None for one that nothing serves.
        """
        known = route or OTHER
        self._requests.labels(known, method if method in METHODS else OTHER, str(status)).inc()
        self._request_seconds.labels(known).observe(seconds)

    def passed(self, seconds: float) -> None:
        """Count a full check of the supervisor."""
        self._passes.observe(seconds)

    def confirmed(self, seconds: float) -> None:
        """Count a message between branches that the broker has confirmed."""
        self._confirms.observe(seconds)
