"""The pages of queues. A queue's name may be anything, `..` too, so that it stands in the query string."""

from __future__ import annotations

import json
from typing import Any

from cyme.admin import formats
from cyme.admin.answers import Answer, Page, Redirect
from cyme.admin.forms import Field, Form, of
from cyme.admin.instances import visit_apps
from cyme.admin.paging import ROWS, Paging, number_of, offset
from cyme.admin.plots import plot
from cyme.admin.rendering import path
from cyme.admin.visits import Visit
from cyme.api.queues import DECLARATION_PARAMETERS
from cyme.errors import CymeError, NoSuchQueue

#: Instances that the page of a queue shows.
USERS_SHOWN = 50


async def show_all(visit: Visit) -> Answer:
    """All queues, with what their brokers count."""
    app = visit.app(visit.asked("app"))
    needle = (visit.asked("text") or "").casefold()
    everything = await visit.controller.overview.queues(app)
    rows = [one for one in everything if needle in f"{one['app']} {one['name']}".casefold()]
    number = number_of(visit)
    first = offset(number)
    return Page(
        "queues.html",
        {
            "rows": rows[first : first + ROWS],
            "paging": Paging(number, len(rows)),
            "total": len(everything),
            "asked": {"app": app, "text": visit.asked("text")},
            "apps": visit_apps(visit),
        },
    )


async def show(visit: Visit) -> Answer:
    """One queue."""
    app, name = _named(visit)
    controller = visit.controller
    details = visit.shown(await controller.queues.inspect(app, name))
    users = await controller.overview.instances(app=app, queue=name, limit=USERS_SHOWN)
    trends = await controller.overview.trends([("waiting", app, name)])
    return Page(
        "queue.html",
        {
            "app": app,
            "it": details,
            "options": json.dumps(details["options"], indent=2) if details["options"] else None,
            "users": users,
            "plots": [plot("Messages waiting", trends["series"][0], formats.number)],
        },
    )


def _named(visit: Visit) -> tuple[str, str]:
    """The app and the name of the queue that a page is about.

    :raises NoSuchApp, NoSuchQueue: when there is none.
    """
    app, name = visit.app(visit.query.get("app", "")) or "", visit.query.get("name", "")
    visit.controller.apps.get(app)
    if name not in visit.controller.queues.all(app):
        raise NoSuchQueue(name, app)
    return app, name


def _field(name: str, label: str, **more: Any) -> Field:
    return of(DECLARATION_PARAMETERS, name, label, **more)


def _fields(*, is_new: bool) -> tuple[Field, ...]:
    name = Field(name="name", label="Name", hint="anything printable but a slash", is_required=True)
    fields = (
        _field("exchange", "Exchange", hint="as the queue is called where it is empty"),
        _field("exchange_type", "Exchange type", hint="direct where it is empty"),
        _field("routing_key", "Routing key", hint="as the queue is called where it is empty"),
        _field(
            "options",
            "Options",
            widget="area",
            hint='a JSON object such as {"queue_durable": true}, as kombu\'s entry_to_queue takes them',
        ),
    )
    return (name, *fields) if is_new else fields


async def add(visit: Visit) -> Answer:
    """The form that declares one."""
    apps = visit_apps(visit)
    app = visit.app(visit.asked("app") or (apps[0] if len(apps) == 1 else None))
    if app is None:
        return Page("choose_app.html", {"apps": apps, "what": "queue"})
    visit.controller.apps.get(app)
    form = Form(fields=_fields(is_new=True))
    if visit.is_post:
        form, values = form.read(visit.form)
        if not form.is_refused:
            name = values.pop("name")
            try:
                await visit.controller.queues.add(app, name, **values)
            except CymeError as error:
                form = form.refuse(error)
            else:
                return Redirect(path("queue", app=app, name=name), f"Declared queue {name}.")
    values = {
        "form": form,
        "title": "Declare a queue",
        "lead": f"Instances of app {app} can consume from it then.",
        "submit": "Declare queue",
        "back": path("queues"),
        "app": app,
        "apps": apps,
    }
    return Page("form.html", values, 400 if form.is_refused else 200)


async def edit(visit: Visit) -> Answer:
    """The form that changes a declaration."""
    app, name = _named(visit)
    details = visit.controller.queues.get(app, name)
    present = {key: details[key] for key in ("exchange", "exchange_type", "routing_key")}
    present["options"] = json.dumps(details["options"], indent=2) if details["options"] else None
    form = Form(fields=_fields(is_new=False)).fill(present)
    if visit.is_post:
        form, values = form.read(visit.form)
        if not form.is_refused:
            try:
                await visit.controller.queues.add(app, name, **values)
            except CymeError as error:
                form = form.refuse(error)
            else:
                return Redirect(path("queue", app=app, name=name), f"Changed queue {name}.")
    values = {
        "form": form,
        "title": f"Change {name}",
        "lead": "A broker keeps a queue as it was first declared: what differs is refused by the instances "
        "that consume from it, until it is deleted there. An empty field stays as it is.",
        "submit": "Save changes",
        "back": path("queue", app=app, name=name),
        "app": app,
        "apps": [],
    }
    return Page("form.html", values, 400 if form.is_refused else 200)
