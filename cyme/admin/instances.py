"""The pages of instances: all of them, one, its log, and the forms that make and change them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.python.failure import Failure

from cyme.admin import formats
from cyme.admin.answers import Answer, Page, Redirect, Stream
from cyme.admin.forms import Field, Form, of
from cyme.admin.overview import plots, shares
from cyme.admin.paging import ROWS, Paging, number_of, offset
from cyme.admin.rendering import STATES, path
from cyme.admin.visits import Visit
from cyme.api.instances import INSTANCE_PARAMETERS
from cyme.api.streams import wants_stream
from cyme.errors import CymeError

#: Lines of the log, and events, that the page of an instance shows.
LINES_SHOWN, EVENTS_SHOWN = 40, 12
#: Seconds for which a page waits for what a worker says.
WITHIN = 2.5
POOLS = ("prefork", "threads", "solo", "eventlet", "gevent")

#: What may be asked of the list: the names of its query's fields.
FILTERS = ("app", "branch", "state", "queue", "text")


def filters(asked: Mapping[str, str | None]) -> dict[str, str | None]:
    """What a list is narrowed to."""
    return {name: asked.get(name) or None for name in FILTERS}


async def show_all(visit: Visit) -> Answer:
    """The list, narrowed and paged."""
    asked = filters({name: visit.asked(name) for name in FILTERS})
    asked["app"] = visit.app(asked["app"])
    number = number_of(visit)
    found = await visit.controller.overview.instances(**asked, offset=offset(number), limit=ROWS)
    return Page(
        "instances.html",
        {
            **found,
            "asked": asked,
            "paging": Paging(number, found["matching"]),
            "shares": shares(found["states"]),
            "apps": visit_apps(visit),
            "branches": sorted(one["id"] for one in visit.controller.overview.branches()),
            "state_names": [*STATES, "attention"],
        },
    )


def visit_apps(visit: Visit) -> list[str]:
    """The apps that the visitor may see."""
    only = visit.visitor.app
    return [only] if only is not None else list(visit.controller.apps.all())


async def show(visit: Visit) -> Answer:
    """One instance."""
    name, controller = visit.names["name"], visit.controller
    details = await _details(visit, name)
    app = details["app"]
    problems: list[str] = []
    health: dict[str, Any] = {}
    log = None
    # Of one whose branch is away there is nothing to ask but what is written down here.
    if details["state"] != "lost":
        asked = [controller.instances.health(app, name), controller.instances.log(app, name, LINES_SHOWN)]
        found, log = await gatherResults([_or_none(visit, one, problems) for one in asked])
        health = found or {}
    happened = await controller.overview.events(instance=name, app=app, limit=EVENTS_SHOWN)
    queues = set(controller.queues.all(app))
    return Page(
        "instance.html",
        {
            "it": details,
            "reason": health.get("reason"),
            "drift": health.get("drift") or [],
            "missing": (health.get("consumers") or {}).get("missing") or [],
            "log": log,
            "events": happened["events"],
            "plots": await plots(visit, app, name),
            "problems": list(dict.fromkeys([*(details["problems"] or ()), *problems])),
            "other_queues": sorted(queues - set(details["queues"])),
        },
    )


async def log(visit: Visit) -> Answer:
    """An instance's log, live."""
    name = visit.names["name"]
    details = await _details(visit, name)
    if wants_stream(visit.request):
        return Stream(name, details["app"])
    problems: list[str] = []
    text = await _or_none(visit, visit.controller.instances.log(details["app"], name, 300), problems)
    return Page("log.html", {"it": details, "log": text, "problems": problems})


async def _details(visit: Visit, name: str) -> dict[str, Any]:
    found = visit.controller.instances.get(visit.visitor.app, name)
    details: dict[str, Any] = visit.shown(found if isinstance(found, dict) else await found)
    return details


def _or_none(visit: Visit, asked: Deferred[Any], problems: list[str]) -> Deferred[Any]:
    """What a verb answers; None where it can't, and the reason among the problems, or where it is slow."""

    def failed(failure: Failure) -> None:
        if not failure.check(TimeoutError):
            failure.trap(CymeError)
            problems.append(str(failure.value))

    return asked.addTimeout(WITHIN, visit.clock).addErrback(failed)


# -- forms --------------------------------------------------------------------------------


def _field(name: str, label: str, **more: Any) -> Field:
    return of(INSTANCE_PARAMETERS, name, label, **more)


def start_fields(kept: str) -> tuple[Field, ...]:
    """How a worker is started; an instance's say less than its app's.

    :param kept: what an empty field means.
    """
    group = "How its worker is started"
    pools = [("", kept), *((one, one) for one in POOLS)]
    return (
        _field(
            "celery_app", "Celery app", hint="as celery -A takes it, such as proj.celery:app", group=group
        ),
        _field("pool", "Pool", widget="select", options=pools, hint="", group=group),
        _field("arguments", "More arguments", hint="of celery worker, with shell quoting", group=group),
        _field("extra_config", "Settings", hint="key=value, with shell quoting", group=group),
        _field(
            "broker",
            "Broker",
            hint="a URL such as amqp://me:secret@host:5672/vhost",
            widget="secret",
            group=group,
        ),
        _field(
            "max_memory",
            "Memory at most",
            hint="bytes, or 300M, 1.5G; over it the worker is replaced; 0 for no limit",
            group="Limits",
        ),
        _field(
            "max_age",
            "Age at most",
            hint="seconds after which it is replaced; 0 for no limit",
            group="Limits",
        ),
        _field(
            "stall_timeout",
            "Stalled after",
            hint="seconds without progress on reserved tasks; 0 for never",
            group="Limits",
        ),
    )


def _fields(visit: Visit, app: str, *, is_new: bool) -> tuple[Field, ...]:
    queues = [(name, name) for name in visit.controller.queues.all(app)]
    first: list[Field] = []
    if is_new:
        first.append(
            Field(name="name", label="Name", hint="unique in the cluster; empty for a generated one")
        )
    first += [
        _field("min_concurrency", "Processes at least", widget="number", hint="", value="1"),
        _field(
            "max_concurrency", "Processes at most", widget="number", hint="the pool grows up to it", value="1"
        ),
    ]
    if queues:
        first.append(
            Field(name="queues", label="Queues", widget="checks", options=queues, hint="it consumes from")
        )
    if is_new:
        live = [one["id"] for one in visit.controller.overview.branches() if not one["lost"]]
        first += [
            _field(
                "branch",
                "Branch",
                widget="select",
                options=[("", "the cluster picks one"), *((one, one) for one in live)],
                hint="where it runs",
                group="Where",
            ),
            _field("label", "Labels", hint="NAME=VALUE, which the branch has to have", group="Where"),
        ]
    return (*first, *start_fields("as its app has it" if is_new else "as it is"))


async def add(visit: Visit) -> Answer:
    """The form that makes one."""
    apps = visit_apps(visit)
    app = visit.app(visit.asked("app") or (apps[0] if len(apps) == 1 else None))
    if app is None:
        return Page("choose_app.html", {"apps": apps, "what": "instance"})
    visit.controller.apps.get(app)
    form = Form(fields=_fields(visit, app, is_new=True))
    queue = visit.asked("queue")
    if queue is not None:
        form = form.fill({"queues": (queue,)})
    if visit.is_post:
        form, values = form.read(visit.form)
        if not form.is_refused:
            name = values.pop("name", None)
            try:
                _, details = await visit.controller.instances.add(app, name, **values)
            except CymeError as error:
                form = form.refuse(error)
            else:
                return Redirect(path("instances", details["name"]), f"Added instance {details['name']}.")
    values = {
        "form": form,
        "title": "Add an instance",
        "lead": f"A Celery worker of app {app}, which is started at once and kept running.",
        "submit": "Add instance",
        "back": path("instances"),
        "app": app,
        "apps": apps,
    }
    return Page("form.html", values, 400 if form.is_refused else 200)


async def edit(visit: Visit) -> Answer:
    """The form that changes one."""
    name = visit.names["name"]
    details = await _details(visit, name)
    app = details["app"]
    shown = ("min_concurrency", "max_concurrency", "queues")
    form = Form(fields=_fields(visit, app, is_new=False)).fill({key: details[key] for key in shown})
    form = evolve(form, fields=[_with_present(one, details) for one in form.fields])
    if visit.is_post:
        form, values = form.read(visit.form)
        if not form.is_refused:
            same = {key for key in shown if values.get(key) == details[key]}
            changes = {key: value for key, value in values.items() if key not in same}
            try:
                await visit.controller.instances.add(app, name, **changes)
            except CymeError as error:
                form = form.refuse(error)
            else:
                done = f"Changed instance {name}." if changes else f"Nothing was to be changed of {name}."
                return Redirect(path("instances", name), done)
    values = {
        "form": form,
        "title": f"Change {name}",
        "lead": "Concurrency and queues change while it runs. For the rest its worker is restarted: "
        "it finishes what it runs first. An empty field stays as it is.",
        "submit": "Save changes",
        "back": path("instances", name),
        "app": app,
        "apps": [],
    }
    return Page("form.html", values, 400 if form.is_refused else 200)


def _with_present(field: Field, details: Mapping[str, Any]) -> Field:
    """Say beside a field that overrides something what holds now."""
    if not field.group:
        return field
    present = details["broker"].get("url") if field.name == "broker" else details.get(field.name)
    if present in (None, ""):
        return field
    shown = formats.size(present) if field.name == "max_memory" else str(present)
    return evolve(field, hint=f"{field.hint}; now {shown}" if field.hint else f"now {shown}")


async def names_of(visit: Visit, asked: Mapping[str, str | None]) -> Sequence[str]:
    """The names of all instances that a list is narrowed to, however long it is."""
    narrowed = filters(asked)
    narrowed["app"] = visit.app(narrowed["app"])
    names: list[str] = []
    while True:
        found = await visit.controller.overview.instances(**narrowed, offset=len(names), limit=1000)
        names += [row["name"] for row in found["rows"]]
        if len(found["rows"]) < 1000:
            return names
