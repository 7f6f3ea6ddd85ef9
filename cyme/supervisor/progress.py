"""Progress: what a worker's own counters say about whether its tasks move.

Note [Blocked]
~~~~~~~~~~~~~~
A wedged pool looks like an idle one, but for reserved tasks that never begin (failure-modes F2).
One look can't tell: a task may have been reserved a moment ago. So a worker is *blocked* from the
first of two looks in a row that both saw reserved tasks and between which no task began.
"""

from __future__ import annotations

from typing import Any

from cyme.planning import Progress


def progressed(
    before: Progress | None, now: float, stats: Any, active: Any, reserved: Any
) -> Progress | None:
    """What is known of a worker's progress after its answers to `stats`, `active` and `reserved`.

    :param before: what was known; None for nothing.
    :param now: seconds since the epoch.
    :return: `before` when an answer is missing or can't be read.
    """
    total = total_of(stats)
    if total is None or not isinstance(active, list) or not isinstance(reserved, list):
        return before
    began = [task.get("time_start") for task in active if isinstance(task, dict)]
    times = [float(one) for one in began if isinstance(one, (int, float)) and not isinstance(one, bool)]
    blocked_since = None
    if reserved and before is not None and before.reserved and before.total == total:
        blocked_since = before.at if before.blocked_since is None else before.blocked_since
    return Progress(
        at=now,
        total=total,
        running=len(active),
        reserved=len(reserved),
        # Another machine's clock can't be meant, but a task's start in the future can't be true.
        newest_began=min(max(times), now) if times else None,
        blocked_since=blocked_since,
    )


def total_of(stats: Any) -> int | None:
    """How many tasks have begun in an answer to `stats`; None when it can't be read."""
    totals = stats.get("total") if isinstance(stats, dict) else None
    if not isinstance(totals, dict):
        return None
    return sum(one for one in totals.values() if isinstance(one, int))
