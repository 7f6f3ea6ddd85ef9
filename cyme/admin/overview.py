"""The first page: how the whole cluster is, in a sentence, a bar and three plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cyme.admin import formats
from cyme.admin.answers import Answer, Page
from cyme.admin.plots import Plot, plot
from cyme.admin.visits import Visit

#: Instances that ought to be looked at, and events, that the page shows.
AILING_SHOWN, EVENTS_SHOWN = 8, 12


async def show(visit: Visit) -> Answer:
    """The overview."""
    controller, app = visit.controller, visit.app()
    ailing = await controller.overview.instances(app=app, state="attention", limit=AILING_SHOWN)
    happened = await controller.overview.events(app=app, limit=EVENTS_SHOWN)
    apps = [app] if app is not None else controller.apps.all()
    branches = controller.overview.branches()
    total = sum(count for state, count in ailing["states"].items() if state != "attention")
    return Page(
        "overview.html",
        {
            "plots": await plots(visit, app or "", ""),
            "states_of": ailing["states"],
            "total": total,
            "sentence": sentence(total, ailing["states"]),
            "ailing": ailing,
            "events": happened["events"],
            "silent": sorted({*ailing["silent"], *happened["silent"]}),
            "apps": apps,
            "queue_count": sum(len(controller.queues.all(one)) for one in apps),
            "branches": branches,
            "lost": [one["id"] for one in branches if one["lost"]],
        },
    )


async def plots(visit: Visit, app: str, instance: str) -> Sequence[Plot]:
    """The plots of all, of an app, or of an instance: of the queues, the tasks and the memory."""
    keys = [] if instance else [("waiting", app, "")]
    keys += [("tasks", app, instance), ("memory", app, instance)]
    trends = await visit.controller.overview.trends(keys)
    return [
        plot(TITLES[key[0]], series, formats.size if key[0] == "memory" else formats.number)
        for key, series in zip(keys, trends["series"], strict=True)
    ]


TITLES = {"waiting": "Messages waiting", "tasks": "Tasks begun per second", "memory": "Memory"}

#: State -> what a number of instances does, for the sentence: one, several.
_DOES: Mapping[str, tuple[str, str]] = {
    "starting": ("is starting", "are starting"),
    "stopping": ("is stopping", "are stopping"),
    "stopped": ("has stopped", "have stopped"),
    "unknown": ("is out of reach", "are out of reach"),
    "unresponsive": ("does not answer", "do not answer"),
    "backoff": ("backs off", "back off"),
    "lost": ("is lost", "are lost"),
    "disabled": ("is disabled", "are disabled"),
}


def sentence(total: int, states: Mapping[str, int]) -> str:
    """How the instances are, in a sentence."""
    running = states.get("running", 0)
    if not total:
        return "There are no instances yet."
    if running == total:
        return "The one instance runs." if total == 1 else f"All {formats.number(total)} instances run."
    others: list[str] = []
    for state, (one, several) in _DOES.items():
        count = states.get(state, 0)
        if count:
            others.append(f"{formats.number(count)} {one if count == 1 else several}")
    many = formats.number(total)
    what = "instance runs" if total == 1 else "instances run"
    return f"{formats.number(running)} of {many} {what}; {formats.listed(others, 9)}."


def shares(states: Mapping[str, Any]) -> dict[str, int]:
    """The states alone, without what is counted beside them."""
    return {state: count for state, count in states.items() if state != "attention"}
