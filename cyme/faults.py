"""What is wrong with declarations that did not come through the controller: rows that a person wrote."""

from __future__ import annotations

import json
import shlex

from attrs import frozen

from cyme.declarations import App, BranchState, Declaration, Instance, Queue, Rollout
from cyme.naming import (
    BRANCH_FILES,
    CONCURRENCY_MOST,
    MEMORY_MOST,
    SECONDS_MOST,
    is_label,
    is_plain_name,
    is_queue_name,
)


@frozen
class Unreadable:
    """What stands in a store in a declaration's place and can't be one.

    :ivar problem: what is wrong with it; no secret.
    """

    kind: str
    key: tuple[str, ...]
    problem: str


def fault_of(declaration: Declaration) -> str | None:
    """What makes a declaration one that no branch may act on; None for nothing.

    For what did not come through the controller, which refuses more and more kindly: a row that
    a person wrote. Names become folders and node names, texts become arguments of processes.
    """
    if isinstance(declaration, Queue):
        fault = _name_fault(declaration.app) or _queue_name_fault(declaration.name)
        return fault or _options_fault(declaration)
    if isinstance(declaration, Rollout):
        return _rollout_fault(declaration)
    if isinstance(declaration, BranchState):
        return _name_fault(declaration.name)
    fault = _name_fault(declaration.name) or _arguments_fault(declaration) or _limits_fault(declaration)
    if fault is None and isinstance(declaration, Instance):
        fault = _instance_fault(declaration)
    return fault


def _name_fault(name: str) -> str | None:
    return None if is_plain_name(name) else "its name is not allowed"


def _queue_name_fault(name: str) -> str | None:
    return None if is_queue_name(name) else "the name of a queue is not allowed"


def _options_fault(queue: Queue) -> str | None:
    try:
        options = json.loads(queue.options or "{}")
    except (ValueError, RecursionError):
        options = None
    return None if isinstance(options, dict) else "its options are not a JSON object"


def _arguments_fault(declaration: App | Instance) -> str | None:
    texts = (declaration.broker, declaration.celery_app, declaration.pool)
    split = (declaration.arguments, declaration.extra_config)
    if any("\0" in text for text in (*texts, *split) if text):
        return "it holds a NUL character"
    try:
        for text in split:
            shlex.split(text or "")
    except ValueError as problem:
        return f"its arguments or settings can't be split: {problem}"
    return None


def _limits_fault(declaration: App | Instance) -> str | None:
    for name in ("max_memory", "max_age", "stall_timeout"):
        most = MEMORY_MOST if name == "max_memory" else SECONDS_MOST
        limit = getattr(declaration, name)
        # Written so that NaN is found too.
        if limit is not None and not 0 <= limit <= most:
            return f"0 <= {name} <= {most:.0f} does not hold"
    return None


def _instance_fault(instance: Instance) -> str | None:
    if instance.name.startswith(BRANCH_FILES):
        return "its name is not allowed"
    # A branch, like an app, is named in paths and routing keys.
    fault = _name_fault(instance.app) or _name_fault(instance.branch)
    if fault is None and instance.moving_to is not None:
        fault = _name_fault(instance.moving_to)
    if fault is not None:
        return "the name of its app or of its branch is not allowed"
    if not 0 <= instance.min_concurrency <= instance.max_concurrency <= CONCURRENCY_MOST:
        return f"0 <= min_concurrency <= max_concurrency <= {CONCURRENCY_MOST} does not hold"
    if instance.max_concurrency < 1:
        return "max_concurrency is less than 1"
    if not all(map(is_label, instance.labels)):
        return "its labels are not all NAME=VALUE"
    return next(filter(None, map(_queue_name_fault, instance.queues)), None)


def _rollout_fault(rollout: Rollout) -> str | None:
    names = (rollout.app, rollout.branch, *rollout.waiting, *(turn.name for turn in rollout.under_way))
    if any(map(_name_fault, names)):
        return "the name of its app, of its branch or of an instance is not allowed"
    return None if rollout.parallel >= 1 else "parallel is less than 1"
