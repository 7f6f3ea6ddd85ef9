"""The page of the why-log."""

from __future__ import annotations

from cyme.admin.answers import Answer, Page
from cyme.admin.instances import visit_apps
from cyme.admin.visits import Visit

#: Events of one page.
SHOWN = 100


async def show_all(visit: Visit) -> Answer:
    """What happened last on all branches, the newest first."""
    app = visit.app(visit.asked("app"))
    instance, before = visit.asked("instance"), _time(visit.asked("before"))
    found = await visit.controller.overview.events(app=app, instance=instance, before=before, limit=SHOWN)
    events = found["events"]
    return Page(
        "events.html",
        {
            "events": events,
            "silent": found["silent"],
            "asked": {"app": app, "instance": instance},
            "apps": visit_apps(visit),
            "before": before,
            "older": events[-1]["at"] if len(events) == SHOWN else None,
        },
    )


def _time(text: str | None) -> float | None:
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if 0 <= found < 1e11 else None
