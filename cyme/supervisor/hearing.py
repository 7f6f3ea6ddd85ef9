"""What workers say, read: pure functions from remote control's answers to `Heard`.

The shapes are Celery 5's: `active_queues` answers a list of queues, `stats` a mapping
with `autoscaler` where the worker has one. Anything else counts as not known.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve

from cyme.planning import Heard, QueueCount
from cyme.supervisor.progress import progressed, total_of


def consumers_of(answer: Any) -> frozenset[str] | None:
    """The names of the queues in an answer to `active_queues`; None when it can't be read."""
    if not isinstance(answer, list):
        return None
    return frozenset(
        queue["name"] for queue in answer if isinstance(queue, dict) and isinstance(queue.get("name"), str)
    )


def autoscale_of(answer: Any) -> tuple[int, int] | None:
    """(max, min) in an answer to `stats`; None when the worker has no autoscaler."""
    scaler = answer.get("autoscaler") if isinstance(answer, dict) else None
    if not isinstance(scaler, dict):
        return None
    most, least = scaler.get("max"), scaler.get("min")
    return (most, least) if isinstance(most, int) and isinstance(least, int) else None


def error_of(answer: Any) -> str | None:
    """The complaint in an answer to a command, or None when it agreed."""
    if isinstance(answer, dict) and "error" in answer:
        return str(answer["error"])
    return None


def answered(heard: Heard, now: float) -> Heard:
    """Take note of an answer, whatever it was."""
    return evolve(heard, pong_at=now, missed=0)


def interrogated(
    heard: Heard, now: float, queues: Any, stats: Any, active: Any = None, reserved: Any = None
) -> Heard:
    """Take in a worker's answers to questions of those names; None for one that did not come."""
    consumers = consumers_of(queues)
    scale = autoscale_of(stats)
    total = total_of(stats)
    return evolve(
        answered(heard, now),
        consumers=heard.consumers if consumers is None else consumers,
        consumers_at=heard.consumers_at if consumers is None else now,
        autoscale=heard.autoscale if stats is None else scale,
        begun=heard.begun if total is None else (total, now),
        progress=progressed(heard.progress, now, stats, active, reserved),
    )


def counted(heard: Heard, private: QueueCount | None) -> Heard:
    """Take note of what the broker counts of a worker's private queue."""
    if private is None or private.consumers > 0:
        return evolve(heard, uncounted=0, has_reconsumed=False)
    return evolve(heard, uncounted=heard.uncounted + 1)


def missed(heard: Heard) -> Heard:
    """Take note of a question that was left unanswered."""
    return evolve(heard, missed=heard.missed + 1)
