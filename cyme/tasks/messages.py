"""Messages of the webhook task that workers publish: the next attempt, a copy, a callback."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cyme.tasks.publishing import publish

#: The task's name.
WEBHOOK = "cyme.tasks.webhook"


def put_again(
    app: Any, request: Any, options: Mapping[str, Any], *, retries: int, countdown: float | None = None
) -> None:
    """Queue a task that is running once more, as itself, where it came from.

    :param request: Celery's `Context` of the run.
    :param options: the options that it shall have.
    :param countdown: seconds until it is due.
    """
    _put(
        app,
        request,
        request.id,
        {**request.kwargs, "options": dict(options)},
        retries=retries,
        countdown=countdown,
        expires=request.expires,
        reply_to=request.reply_to,
        root_id=request.root_id,
        parent_id=request.parent_id,
    )


def put_beside(app: Any, request: Any, task_id: str, kwargs: Mapping[str, Any]) -> None:
    """Queue another request, where a task came from."""
    _put(app, request, task_id, kwargs, root_id=request.root_id, parent_id=request.id)


def _put(app: Any, request: Any, task_id: str, kwargs: Mapping[str, Any], **options: Any) -> None:
    # What stands in logs and events: no headers, which hold credentials.
    shown = f"{{'request': {kwargs['request'].get('method')}}}"
    message = app.amqp.as_task_v2(
        task_id, WEBHOOK, kwargs=dict(kwargs), argsrepr="()", kwargsrepr=shown, ignore_result=True, **options
    )
    # Not by the queue's name, as Celery does it: it would declare that queue the way that it
    # thinks best, and a queue that exists otherwise refuses that.
    source = request.delivery_info or {}
    publish(
        app,
        json.dumps(message.body),
        exchange=source.get("exchange") or "",
        routing_key=source.get("routing_key"),
        headers=message.headers,
        priority=source.get("priority") or 0,
        delivery_mode=2,
        **message.properties,
    )
