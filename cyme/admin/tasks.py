"""The pages of queued requests and named tasks."""

from __future__ import annotations

import json
from typing import Any

from cyme.admin.answers import Answer, Page, Redirect
from cyme.admin.instances import visit_apps
from cyme.admin.rendering import path
from cyme.admin.visits import Visit

#: Tasks that the list shows, and characters of a result.
SHOWN, TEXT_MOST = 100, 100_000


async def show_all(visit: Visit) -> Answer:
    """The tasks that were queued last; or the one whose id is looked for."""
    uuid = (visit.asked("uuid") or "").strip()
    if uuid:
        return Redirect(path("tasks", uuid))
    app = visit.app(visit.asked("app"))
    found = await visit.controller.overview.tasks(app=app, limit=SHOWN)
    return Page("tasks.html", {**found, "asked": {"app": app}, "apps": visit_apps(visit), "shown": SHOWN})


async def show(visit: Visit) -> Answer:
    """One task, and what came of it."""
    task = await visit.controller.overview.task(visit.visitor.app, visit.names["uuid"])
    response = (
        task["result"] if isinstance(task["result"], dict) and "status_code" in task["result"] else None
    )
    return Page(
        "task.html",
        {
            "it": task,
            "response": response,
            "content": _text(response["content"] if response else task["result"]),
            "may_end": task["state"] in ("PENDING", "STARTED", "RETRY"),
        },
    )


def _text(value: Any) -> str | None:
    """A result as text, shortened."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return text if len(text) <= TEXT_MOST else f"{text[:TEXT_MOST]}…"
