"""The vocabulary: how an instance is, and where in its life its worker is."""

from __future__ import annotations

from enum import Enum


class State(str, Enum):
    """How an instance is, in the words that the API, the pages and the metrics share."""

    DISABLED = "disabled"
    STARTING = "starting"
    RUNNING = "running"
    UNRESPONSIVE = "unresponsive"
    UNKNOWN = "unknown"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    STOPPED = "stopped"
    LOST = "lost"


#: In place of a state, in a list: those that a person ought to look at.
ATTENTION = "attention"


class Phase(str, Enum):
    """Where a worker process is in its life, as far as its own branch knows."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
