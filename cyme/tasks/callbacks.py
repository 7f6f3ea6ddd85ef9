"""Tells the URLs that want to know of a request's end: each a request of its own, queued likewise."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import uuid4

from cyme.tasks.messages import WEBHOOK, put_beside

#: More attempts that a callback has, after its first one.
RETRIES = 5

#: State -> the option with the URL that wants to know.
OPTIONS = {"SUCCESS": "callback", "FAILURE": "failure_callback"}

#: Options that a callback shares with the request that it tells of.
_SHARED = ("timeout", "max_redirects", "allow", "deny", "max_deliveries")


def call_back(app: Any, task_id: str, state: str, result: Any, request: Any) -> None:
    """Queue the callback for a request's end, if it has one.

    :param result: as the branch gets it.
    :param request: Celery's `Context`; any task's.
    """
    if getattr(request, "task", None) == WEBHOOK:
        kwargs = callback(task_id, state, result, request.kwargs or {})
        if kwargs is not None:
            put_beside(app, request, str(uuid4()), kwargs)


def callback(task_id: str, state: str, result: Any, kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments of the task that tells of a request's end; None when nobody wants to know.

    A callback has none itself, so it ends there.
    """
    options = kwargs.get("options")
    if not isinstance(options, dict) or state not in OPTIONS:
        return None
    url = options.get(OPTIONS[state])
    if not url:
        return None
    return {
        "request": {
            "method": "POST",
            "url": url,
            "headers": [["Content-Type", "application/json"]],
            "body": base64.b64encode(document(task_id, state, result).encode()).decode("ascii"),
        },
        "options": {
            **{name: options[name] for name in _SHARED if name in options},
            "retries": RETRIES,
            "max_response": 0,
            "callback": None,
            "failure_callback": None,
            "deliveries": 0,
        },
    }


def document(task_id: str, state: str, result: Any) -> str:
    """What is posted: the response, or why there is none."""
    body: dict[str, Any] = {"uuid": task_id, "state": state}
    if state == "SUCCESS":
        body["result"] = result
    else:
        message = " ".join(str(each) for each in result["exc_message"])
        body["error"] = {"type": result["exc_type"], "message": message}
    return json.dumps(body, default=str)
