"""Routes of instances: the workers, what they consume from, how they are and what they say."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from cyme.access import Scope
from cyme.api import answers, schemas
from cyme.api.apps import START_PARAMETERS
from cyme.api.parameters import Flag, Labels, Names, OneOf, Parameter, Seconds, Text, Whole
from cyme.api.routing import DELETE, READ, WRITE, Route
from cyme.errors import InvalidParameter
from cyme.planning import ATTENTION, State

#: More processes than one machine runs; the bound keeps nonsense out of the database.
MOST_CONCURRENCY = 10_000

#: The longest wait for an effect; a client that wants more asks again.
MOST_WAIT = 600.0

#: The longest deadline of a drain: a week.
MOST_DEADLINE = 7 * 24 * 3600.0

_WAIT = Parameter(
    name="wait", kind=Seconds(MOST_WAIT), description="how long to wait for the effect before answering"
)

INSTANCE_PARAMETERS = (
    _WAIT,
    Parameter(name="branch", kind=Text(128), description="the branch to run on; else the cluster picks one"),
    Parameter(
        name="placement",
        kind=OneOf(("round-robin", "least-loaded")),
        description="how the cluster picks: in turn, or the branch with the least to do",
    ),
    Parameter(
        name="label",
        kind=Labels(),
        description="what the branch has to have, now and when the instance is moved; may be repeated",
        repeats=True,
    ),
    Parameter(name="is_enabled", kind=Flag(), description="whether its worker is to run"),
    Parameter(
        name="max_concurrency",
        kind=Whole(1, MOST_CONCURRENCY),
        description="the most processes of its pool",
    ),
    Parameter(
        name="min_concurrency",
        kind=Whole(0, MOST_CONCURRENCY),
        description="the least processes of its pool",
    ),
    Parameter(name="queues", kind=Names(), description="the queues to consume from, all of them declared"),
    *START_PARAMETERS,
)

LIST_PARAMETERS = (
    Parameter(
        name="details",
        kind=Flag(),
        description="how each is declared and how it is, in short, in place of its name",
    ),
    Parameter(
        name="state",
        kind=OneOf((*(state.value for state in State), ATTENTION)),
        description="with details: those in this state; `attention` for all that ought to be looked at",
    ),
    Parameter(name="offset", kind=Whole(0, 10**9), description="with details: how many to leave out"),
    Parameter(name="limit", kind=Whole(1, 1000), description="with details: the most; 100 without it"),
)

AUTOSCALE_PARAMETERS = (
    Parameter(name="max", kind=Whole(1, MOST_CONCURRENCY), description="the most processes of the pool"),
    Parameter(name="min", kind=Whole(0, MOST_CONCURRENCY), description="the least processes of the pool"),
    _WAIT,
)


def _in_app(rest: str = "") -> tuple[str, ...]:
    """The spellings of a place of one instance, its app named."""
    return (f"/<app>/instances/<name>/{rest}", f"/<app>/instance/<name>/{rest}")


def _anywhere(rest: str = "") -> tuple[str, ...]:
    """The spellings of a place of one instance, its app named or not."""
    return (*_in_app(rest), f"/instances/<name>/{rest}")


def _asynchronously(paths: tuple[str, ...], segment: str = "<name>") -> tuple[str, ...]:
    """The same paths with `!` before a segment."""
    return tuple(path.replace(segment, f"!/{segment}") for path in paths)


def _list(
    controller: Any, app: str | None = None, details: bool = False, **which: Any
) -> list[str] | Deferred[list[Any]]:
    """The names of the instances, or some of them at a glance."""
    names: list[str] = controller.instances.all(app)
    if details:
        shown: Deferred[dict[str, Any]] = controller.overview.instances(app=app, **which)
        return shown.addCallback(lambda told: answers.Listing(told["rows"], told["silent"]))
    for parameter in which:
        raise InvalidParameter(parameter, "goes together with details=true")
    return names


def _action(action: str, summary: str) -> Route:
    def verb(controller: Any, name: str, app: str | None = None) -> Any:
        return getattr(controller.instances, action)(app, name)

    return Route(
        paths=_anywhere(f"{action}/"),
        asynchronous_paths=_asynchronously(_anywhere(f"{action}/")),
        methods=WRITE,
        summary=summary,
        verb=verb,
        answer=answers.done,
        scheduled=answers.scheduled,
        answers=((200, "it is asked for, durably"),),
        scope=Scope.OPERATE,
    )


_CONSUMER = _anywhere("queues/<queue>/")
_CONSUMER_ASYNCHRONOUSLY = (*_asynchronously(_CONSUMER), *_asynchronously(_CONSUMER, "<queue>"))

ROUTES = (
    Route(
        paths=("/<app>/instances/", "/instances/"),
        methods=READ,
        summary="the names of the instances, over all branches; with `details`, how they are",
        parameters=LIST_PARAMETERS,
        shape=schemas.INSTANCES,
        verb=_list,
        answer=answers.listing,
        answers=((200, "the names, or what each is at a glance, by name"),),
    ),
    Route(
        paths=("/<app>/instances/",),
        asynchronous_paths=("/<app>/instances/!/",),
        methods=WRITE,
        summary="create an instance with a generated name",
        parameters=INSTANCE_PARAMETERS,
        shape=schemas.INSTANCE,
        verb=lambda controller, app, **given: controller.instances.add(app, None, **given),
        answer=answers.added,
        scheduled=answers.scheduled_addition,
        answers=((201, "the new instance"),),
        awaits=True,
    ),
    Route(
        paths=_anywhere(),
        methods=READ,
        summary="an instance: how it is declared and how it is",
        shape=schemas.INSTANCE,
        verb=lambda controller, name, app=None: controller.instances.get(app, name),
        answer=answers.document,
        answers=((200, "the instance"),),
    ),
    Route(
        paths=_in_app(),
        asynchronous_paths=_asynchronously(_in_app()),
        methods=WRITE,
        summary="create an instance, or change it",
        parameters=INSTANCE_PARAMETERS,
        shape=schemas.INSTANCE,
        verb=lambda controller, app, name, **given: controller.instances.add(app, name, **given),
        answer=answers.added,
        scheduled=answers.scheduled_addition,
        answers=((201, "the new instance"), (200, "the instance, which existed")),
        awaits=True,
    ),
    Route(
        paths=_anywhere(),
        asynchronous_paths=_asynchronously(_anywhere()),
        methods=DELETE,
        summary="delete an instance; its worker stops warmly",
        verb=lambda controller, name, app=None: controller.instances.delete(app, name),
        answer=answers.done,
        scheduled=answers.scheduled,
        answers=((200, "it is forgotten"),),
    ),
    _action("restart", "restart the worker of an instance warmly"),
    _action("enable", "have the worker of an instance run"),
    _action("disable", "have the worker of an instance stopped"),
    Route(
        paths=_anywhere("drain/"),
        asynchronous_paths=_asynchronously(_anywhere("drain/")),
        methods=WRITE,
        summary="have a worker finish what runs, then stopped and kept so",
        parameters=(
            Parameter(
                name="deadline",
                kind=Seconds(MOST_DEADLINE),
                description="until what still runs is given back to the broker; an hour without it",
            ),
            _WAIT,
        ),
        scope=Scope.OPERATE,
        verb=lambda controller, name, app=None, **given: controller.instances.drain(app, name, **given),
        answer=answers.document,
        scheduled=answers.scheduled,
        answers=((200, "the instance; `draining` says how far it is"),),
        awaits=True,
    ),
    Route(
        paths=_anywhere("stats/"),
        methods=READ,
        summary="configuration details and what the worker says of itself",
        verb=lambda controller, name, app=None: controller.instances.stats(app, name),
        answer=answers.document,
        answers=((200, "the statistics"),),
    ),
    Route(
        paths=_anywhere("health/"),
        methods=READ,
        summary="whether it does its work: process, pong, consumers, progress, drift, and one verdict",
        verb=lambda controller, name, app=None: controller.instances.health(app, name),
        answer=answers.health,
        answers=((200, "ok, starting or draining"), (503, "any other verdict; the body is the same")),
    ),
    Route(
        paths=_anywhere("autoscale/"),
        methods=READ,
        summary="the bounds of the pool",
        shape=schemas.AUTOSCALE,
        verb=lambda controller, name, app=None: controller.instances.autoscale(app, name),
        answer=answers.document,
        answers=((200, "max and min"),),
    ),
    Route(
        paths=_anywhere("autoscale/"),
        asynchronous_paths=_asynchronously(_anywhere("autoscale/")),
        methods=WRITE,
        summary="change the bounds of the pool; what is not given stays",
        parameters=AUTOSCALE_PARAMETERS,
        scope=Scope.OPERATE,
        shape=schemas.AUTOSCALE,
        verb=lambda controller, name, app=None, **given: controller.instances.set_autoscale(
            app, name, **given
        ),
        answer=answers.document,
        scheduled=answers.scheduled,
        answers=((200, "max and min"),),
        awaits=True,
    ),
    Route(
        paths=_anywhere("log/"),
        methods=READ,
        summary="the last lines of the worker's log",
        parameters=(
            Parameter(name="tail", kind=Whole(1, 10_000), description="how many lines; 100 without it"),
        ),
        verb=lambda controller, name, app=None, **given: controller.instances.log(app, name, **given),
        answer=answers.text,
        answers=((200, "the lines, as text"),),
    ),
    Route(
        paths=_anywhere("dump/"),
        refused_paths=_asynchronously(_anywhere("dump/")),
        methods=WRITE,
        summary="the stacks of the worker's main process, which its log then has too",
        parameters=(
            Parameter(
                name="wait",
                kind=Seconds(MOST_WAIT),
                description="how long the worker has to print them; 5 seconds without it",
            ),
        ),
        scope=Scope.OPERATE,
        verb=lambda controller, name, app=None, **given: controller.instances.dump(app, name, **given),
        answer=answers.text,
        answers=((200, "the stacks, as text"),),
    ),
    Route(
        paths=_anywhere("queues/"),
        methods=READ,
        summary="the queues that the worker consumes from now, each with its declaration",
        shape=schemas.CONSUMERS,
        verb=lambda controller, name, app=None: controller.instances.consumers(app, name),
        answer=answers.document,
        answers=((200, "the queues by name"),),
    ),
    Route(
        paths=_CONSUMER,
        asynchronous_paths=_CONSUMER_ASYNCHRONOUSLY,
        methods=WRITE,
        summary="have an instance consume from a queue",
        parameters=(_WAIT,),
        scope=Scope.OPERATE,
        verb=lambda controller, name, queue, app=None, **given: controller.instances.consume(
            app, name, queue, **given
        ),
        answer=answers.consuming,
        scheduled=answers.scheduled,
        answers=((201, "it consumes from it"),),
        awaits=True,
    ),
    Route(
        paths=_CONSUMER,
        asynchronous_paths=_CONSUMER_ASYNCHRONOUSLY,
        methods=DELETE,
        summary="have an instance stop consuming from a queue",
        parameters=(_WAIT,),
        scope=Scope.OPERATE,
        verb=lambda controller, name, queue, app=None, **given: controller.instances.cancel(
            app, name, queue, **given
        ),
        answer=answers.done,
        scheduled=answers.scheduled,
        answers=((200, "it no longer consumes from it"),),
        awaits=True,
    ),
)
