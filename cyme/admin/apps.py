"""The pages of apps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from cyme.admin import formats
from cyme.admin.answers import Answer, Page, Redirect
from cyme.admin.forms import Field, Form
from cyme.admin.instances import start_fields, visit_apps
from cyme.admin.overview import plots, shares
from cyme.admin.rendering import path
from cyme.admin.visits import Visit
from cyme.errors import CymeError, NoSuchRollout


async def show_all(visit: Visit) -> Answer:
    """All apps, with how their instances are."""
    states = await visit.controller.overview.states()
    rows = []
    needle = (visit.asked("text") or "").casefold()
    for name in visit_apps(visit):
        details = visit.shown(visit.controller.apps.get(name))
        if needle and needle not in name.casefold():
            continue
        of_app = states["apps"].get(name, {})
        rows.append(
            {
                "name": name,
                "broker": details["broker"].get("url"),
                "celery_app": details.get("celery_app"),
                "queues": len(visit.controller.queues.all(name)),
                "shares": shares(of_app),
                "instances": sum(shares(of_app).values()),
                "attention": of_app.get("attention", 0),
            }
        )
    values = {
        "rows": rows,
        "silent": states["silent"],
        "text": visit.asked("text"),
        "total": len(visit_apps(visit)),
    }
    return Page("apps.html", values)


async def show(visit: Visit) -> Answer:
    """One app."""
    name, controller = visit.names["app"], visit.controller
    app = visit.app(name)
    assert app is not None
    details = visit.shown(controller.apps.get(app))
    states = await controller.overview.states()
    happened = await controller.overview.events(app=app, limit=10)
    of_app = shares(states["apps"].get(app, {}))
    return Page(
        "app.html",
        {
            "it": details,
            "shares": of_app,
            "instances": sum(of_app.values()),
            "queues": await controller.overview.queues(app),
            "rollout": _rollout(visit, app),
            "events": happened["events"],
            "plots": await plots(visit, app, ""),
            "silent": states["silent"],
        },
    )


def _rollout(visit: Visit, app: str) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = visit.controller.rollouts.get(app)
        return found
    except NoSuchRollout:
        return None


def _fields(*, is_new: bool) -> tuple[Field, ...]:
    name = Field(
        name="name", label="Name", hint="letters, digits, dots, underscores and hyphens", is_required=True
    )
    started = start_fields("prefork" if is_new else "as it is")
    hints = {
        "broker": "a URL such as amqp://me:secret@host:5672/vhost; empty for the branch's default broker",
        "celery_app": "as celery -A takes it; empty for Cyme's own, which makes HTTP requests",
    }
    fields = [evolve(one, hint=hints.get(one.name, one.hint) if is_new else one.hint) for one in started]
    group = "How its workers are started"
    fields = [evolve(one, group=group if one.group != "Limits" else one.group) for one in fields]
    return (name, *fields) if is_new else tuple(fields)


async def add(visit: Visit) -> Answer:
    """The form that makes one."""
    form = Form(fields=_fields(is_new=True))
    if visit.is_post:
        form, values = form.read(visit.form)
        if not form.is_refused:
            name = values.pop("name")
            try:
                if name in visit.controller.apps.all():
                    form = evolve(form, problem=f"There is an app {name} already.")
                else:
                    await visit.controller.apps.add(name, **values)
            except CymeError as error:
                form = form.refuse(error)
            if not form.is_refused:
                return Redirect(path("apps", name), f"Added app {name}.")
    values = {
        "form": form,
        "title": "Add an app",
        "lead": "An app is a broker, and how the workers on it are started. Its instances and queues come "
        "after it.",
        "submit": "Add app",
        "back": path("apps"),
        "app": None,
        "apps": [],
    }
    return Page("form.html", values, 400 if form.is_refused else 200)


async def edit(visit: Visit) -> Answer:
    """The form that changes one."""
    name = visit.app(visit.names["app"])
    assert name is not None
    details = visit.controller.apps.get(name)
    form = Form(fields=[_filled(one, details) for one in _fields(is_new=False)])
    before = {one.name: one.value for one in form.fields}
    if visit.is_post:
        form, values = form.read(visit.form)
        if not form.is_refused:
            typed = {one.name: one.value for one in form.fields}
            changes = {
                key: value for key, value in values.items() if typed[key] != before[key] or key == "broker"
            }
            try:
                await visit.controller.apps.add(name, **changes)
            except CymeError as error:
                form = form.refuse(error)
            else:
                done = f"Changed app {name}." if changes else f"Nothing was to be changed of {name}."
                return Redirect(path("apps", name), done)
    values = {
        "form": form,
        "title": f"Change {name}",
        "lead": "What changes here restarts the workers that it is for: they finish what they run first. "
        "An empty field stays as it is.",
        "submit": "Save changes",
        "back": path("apps", name),
        "app": None,
        "apps": [],
    }
    return Page("form.html", values, 400 if form.is_refused else 200)


def _filled(field: Field, details: Mapping[str, Any]) -> Field:
    if field.name == "broker":
        return evolve(field, hint=f"{field.hint}; now {details['broker'].get('url') or 'the default one'}")
    if field.name == "max_memory" and details.get("max_memory"):
        field = evolve(field, hint=f"{field.hint}; now {formats.size(details['max_memory'])}")
    return Form(fields=[field]).fill({field.name: details.get(field.name)}).fields[0]
