"""What workers say of tasks: Celery's result messages, believed only as far as they can be read.

Note [Harmless answers]
~~~~~~~~~~~~~~~~~~~~~~~
Answers are stored many at once, and a batch that can't be stored is tried again until it can: one
that no database takes would keep all others back for ever. So what comes out of here is plain ASCII, with an
id of the right shape, and JSON that parses on any stack and that strict parsers take.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from attrs import frozen

from cyme.queued import TaskState
from cyme.taskids import node_in

#: A longer answer is none. A webhook's content may have a megabyte, and grows in base64 and JSON.
LARGEST_ANSWER = 32 * 1024 * 1024

#: How deeply a result's objects and lists may stand in each other. Far below the interpreter's recursion
#: limit: what parses in a thread of its own has to parse below a reactor's or SQLAlchemy's frames too.
MOST_DEPTH = 200


@frozen
class Answer:
    """A task's new state, as a worker says it.

    :ivar text: see `cyme.queued.Outcome`.
    """

    task_id: str
    state: TaskState
    text: str | None


def read_answer(body: bytes | str, content_type: object) -> Answer:
    """Read a result message.

    :raises ValueError: with what is wrong with it.
    """
    if content_type != "application/json":
        raise ValueError(f"it is {content_type!r}, not application/json")
    if len(body) > LARGEST_ANSWER:
        raise ValueError(f"it has {len(body)} bytes")
    try:
        said = json.loads(body, parse_float=_real, parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(said, dict):
        raise ValueError("it is no object")
    task_id = said.get("task_id")
    if not isinstance(task_id, str):
        raise ValueError("it has no task_id")
    if node_in(task_id) is None:
        raise ValueError("its task_id is none that a branch issues")
    try:
        state = TaskState(said.get("status"))
    except ValueError:
        raise ValueError(f"its status is {str(said.get('status'))[:40]!r}") from None
    result = said.get("result")
    if _is_deep(result):
        problem = {"type": "TooDeep", "message": f"its result has more than {MOST_DEPTH} levels"}
        return Answer(task_id, state, json.dumps({"result": None, "error": problem}))
    if state is TaskState.SUCCESS:
        return Answer(task_id, state, json.dumps({"result": result, "error": None}))
    if state in (TaskState.FAILURE, TaskState.RETRY, TaskState.REVOKED):
        return Answer(task_id, state, json.dumps({"result": None, "error": _error(result)}))
    return Answer(task_id, state, None)


def _real(text: str) -> float | None:
    """A number; NaN and the infinities, which are no JSON, become null, as JavaScript has it."""
    number = float(text)
    return number if isfinite(number) else None


def _is_deep(value: Any) -> bool:
    """Whether a value has more than `MOST_DEPTH` levels of objects and lists."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, (dict, list))
        ]
    return bool(level)


def _error(result: Any) -> dict[str, str]:
    """An exception, as Celery writes it into JSON, as a type and a message."""
    if not isinstance(result, dict):
        return {"type": "Exception", "message": "" if result is None else str(result)}
    message = result.get("exc_message", "")
    if isinstance(message, (list, tuple)):
        # The exception's arguments.
        message = ", ".join(part if isinstance(part, str) else json.dumps(part) for part in message)
    return {"type": str(result.get("exc_type") or "Exception"), "message": str(message)}
