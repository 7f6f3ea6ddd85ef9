"""What workers say of tasks: Celery's result messages, believed only as far as they can be read."""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen

from cyme.queued import TaskState

#: A longer answer is none. A webhook's content may have a megabyte, and grows in base64 and JSON.
LARGEST_ANSWER = 32 * 1024 * 1024


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
        said = json.loads(body)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(said, dict):
        raise ValueError("it is no object")
    task_id = said.get("task_id")
    if not isinstance(task_id, str):
        raise ValueError("it has no task_id")
    try:
        state = TaskState(said.get("status"))
    except ValueError:
        raise ValueError(f"its status is {str(said.get('status'))[:40]!r}") from None
    result = said.get("result")
    if state is TaskState.SUCCESS:
        return Answer(task_id, state, json.dumps({"result": result, "error": None}))
    if state in (TaskState.FAILURE, TaskState.RETRY, TaskState.REVOKED):
        return Answer(task_id, state, json.dumps({"result": None, "error": _error(result)}))
    return Answer(task_id, state, None)


def _error(result: Any) -> dict[str, str]:
    """An exception, as Celery writes it into JSON, as a type and a message."""
    if not isinstance(result, dict):
        return {"type": "Exception", "message": "" if result is None else str(result)}
    message = result.get("exc_message", "")
    if isinstance(message, (list, tuple)):
        # The exception's arguments.
        message = ", ".join(part if isinstance(part, str) else json.dumps(part) for part in message)
    return {"type": str(result.get("exc_type") or "Exception"), "message": str(message)}
