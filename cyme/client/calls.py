"""Every operation of a branch's HTTP API as a `Call`: what is asked, and how the answer is read.

Pure: nothing is sent here. The clients' objects name these; both send the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast
from urllib.parse import quote

from cyme.client.types import (
    AppInfo,
    Autoscale,
    BranchInfo,
    Event,
    InstanceGlance,
    InstanceInfo,
    Outcome,
    QueueInfo,
    Rollout,
)
from cyme.client.wire import (
    Answer,
    Call,
    Listing,
    Request,
    given,
    json_body,
    path,
    query_of,
    read_json,
    read_names,
    read_nothing,
    read_object,
    read_objects,
    read_text,
)

T = TypeVar("T")

#: The most events, or instances, of one page.
PAGE = 1000
#: Seconds that a branch waits at most for a task, in one request.
WAIT_MOST = 60.0
#: Seconds that a restart of an app, and the stacks of a worker, may take unless `wait` says otherwise.
ROLLOUT_WAIT = 60.0
DUMP_WAIT = 5.0

EVENT_STREAM = "text/event-stream"


def _read(
    read: Callable[[Answer], T], *segments: str, query: str = "", patience: float = 0.0, also: int = 200
) -> Call[T]:
    return Call(
        request=Request(method="GET", path=path(*segments), query=query),
        read=read,
        is_safe=True,
        patience=patience,
        also=frozenset({also}),
    )


def _change(
    read: Callable[[Answer], T],
    *segments: str,
    parameters: Mapping[str, Any] | None = None,
    patience: float | None = None,
) -> Call[T]:
    headers, body = json_body(parameters or {})
    request = Request(method="POST", path=path(*segments), headers=headers, body=body)
    return Call(request=request, read=read, patience=patience or 0.0)


def _delete(read: Callable[[Answer], T], *segments: str, wait: float | None = None) -> Call[T]:
    request = Request(method="DELETE", path=path(*segments), query=query_of({"wait": wait}))
    return Call(request=request, read=read, patience=wait or 0.0)


def _now(nowait: bool, *name: str) -> tuple[str, ...]:
    """The last segments of a path, asynchronously or not."""
    return ("!", *name) if nowait else name


# -- branches and the rest ------------------------------------------------------------------


def ping() -> Call[str]:
    """Whether a branch lives."""
    return _read(lambda answer: str(read_object(answer)["ok"]), "ping")


def ready() -> Call[None]:
    """Whether it has all that it needs; `NotReady` says what is away."""
    call = _read(read_nothing, "ready")
    return Call(request=call.request, read=call.read)


def branches() -> Call[list[str]]:
    """The ids of the live branches."""
    return _read(read_names, "branches")


def branch(id: str) -> Call[BranchInfo]:
    """What a branch says of itself."""
    return _read(cast("Callable[[Answer], BranchInfo]", read_object), "branches", id)


def branch_action(id: str, action: str, nowait: bool = False) -> Call[dict[str, Any]]:
    """`cordon`, `uncordon`, `drain`, `evacuate` or `shutdown`."""
    return _change(read_object, "branches", *_now(nowait, id), action)


def events(
    app: str | None, instance: str | None, since: int | None, limit: int | None = None
) -> Call[list[Event]]:
    """A page of the why-log, of one instance or of the branch."""
    query = query_of({"since": since, "limit": limit})
    return _read(cast("Callable[[Answer], list[Event]]", read_json), *_events_at(app, instance), query=query)


def event_stream(app: str | None, instance: str | None, since: int | None, last_id: str) -> Request:
    """The same events live."""
    headers = [("Accept", EVENT_STREAM)] + ([("Last-Event-ID", last_id)] if last_id else [])
    query = query_of({"since": None if last_id else since})
    return Request(method="GET", path=path(*_events_at(app, instance)), query=query, headers=tuple(headers))


def read_event(data: str) -> Event:
    """The event of a frame of such a stream."""
    return cast("Event", json.loads(data))


def _events_at(app: str | None, instance: str | None) -> tuple[str, ...]:
    return ("events",) if instance is None else (*_instance(app, instance), "events")


# -- apps -----------------------------------------------------------------------------------


def _app_info(answer: Answer) -> AppInfo:
    return cast("AppInfo", read_object(answer))


def apps() -> Call[list[str]]:
    """The names of all apps."""
    return Call(request=Request(method="GET", path="/"), read=read_names, is_safe=True)


def app(name: str) -> Call[AppInfo]:
    """The configuration of an app."""
    return _read(_app_info, name)


def app_add(name: str | None, parameters: Mapping[str, Any], nowait: bool = False) -> Call[AppInfo]:
    """Create an app, or change it."""
    if name is None:
        headers, body = json_body(parameters)
        place = "/!/" if nowait else "/"
        return Call(request=Request(method="POST", path=place, headers=headers, body=body), read=_app_info)
    return _change(_app_info, *_now(nowait, name), parameters=parameters)


def app_delete(name: str, nowait: bool = False) -> Call[None]:
    """Delete an app with all that it has."""
    return _delete(read_nothing, *_now(nowait, name))


def _rollout(answer: Answer) -> Rollout:
    return cast("Rollout", read_object(answer))


def rollout(name: str) -> Call[Rollout]:
    """The last rolling restart of an app."""
    return _read(_rollout, name, "restart")


def rollout_begin(
    name: str,
    parallel: int | None = None,
    timeout: float | None = None,
    wait: float | None = None,
    nowait: bool = False,
) -> Call[Rollout]:
    """Restart an app's instances, one after the other."""
    return _change(
        _rollout,
        *_now(nowait, name),
        "restart",
        parameters={"parallel": parallel, "timeout": timeout, "wait": wait},
        patience=ROLLOUT_WAIT if wait is None else wait,
    )


def rollout_call_off(name: str, nowait: bool = False) -> Call[Rollout]:
    """Have nothing further restarted."""
    return _delete(_rollout, *_now(nowait, name), "restart")


# -- instances ------------------------------------------------------------------------------


def _instance_info(answer: Answer) -> InstanceInfo:
    return cast("InstanceInfo", read_object(answer))


def _glances(answer: Answer) -> Listing[InstanceGlance]:
    return cast("Listing[InstanceGlance]", read_objects(answer))


def _instance(app: str | None, name: str, nowait: bool = False) -> tuple[str, ...]:
    return (*(() if app is None else (app,)), "instances", *_now(nowait, name))


def instances(app: str | None) -> Call[list[str]]:
    """The names of the instances, of an app or of all."""
    return _read(read_names, *(() if app is None else (app,)), "instances")


def instance_details(app: str | None, offset: int, state: str | None) -> Call[Listing[InstanceGlance]]:
    """How instances are, in short: `PAGE` of them at most, behind the first `offset`."""
    query = query_of({"details": "true", "offset": offset, "limit": PAGE, "state": state})
    return _read(_glances, *(() if app is None else (app,)), "instances", query=query)


def instance(app: str | None, name: str) -> Call[InstanceInfo]:
    """An instance."""
    return _read(_instance_info, *_instance(app, name))


def instance_add(
    app: str,
    name: str | None,
    parameters: Mapping[str, Any],
    wait: float | None = None,
    nowait: bool = False,
) -> Call[InstanceInfo]:
    """Create an instance, or change it."""
    return _change(
        _instance_info,
        app,
        "instances",
        *_now(nowait, *(() if name is None else (name,))),
        parameters={**parameters, "wait": wait},
        patience=wait,
    )


def instance_delete(app: str | None, name: str, nowait: bool = False) -> Call[None]:
    """Delete an instance."""
    return _delete(read_nothing, *_instance(app, name, nowait))


def instance_action(app: str | None, name: str, action: str, nowait: bool = False) -> Call[None]:
    """`restart`, `enable` or `disable`."""
    return _change(read_nothing, *_instance(app, name, nowait), action)


def instance_drain(
    app: str | None,
    name: str,
    deadline: float | None = None,
    wait: float | None = None,
    nowait: bool = False,
) -> Call[InstanceInfo]:
    """Have a worker finish what runs, and stay stopped."""
    return _change(
        _instance_info,
        *_instance(app, name, nowait),
        "drain",
        parameters={"deadline": deadline, "wait": wait},
        patience=wait,
    )


def instance_stats(app: str | None, name: str) -> Call[dict[str, Any]]:
    """Configuration, and under `stats` what the worker says of itself."""
    return _read(read_object, *_instance(app, name), "stats")


def instance_health(app: str | None, name: str) -> Call[dict[str, Any]]:
    """The evidence of an instance's health, and its `verdict`, good or bad."""
    return _read(read_object, *_instance(app, name), "health", also=503)


def instance_log(app: str | None, name: str, tail: int | None = None) -> Call[str]:
    """The last lines of a worker's log."""
    return _read(read_text, *_instance(app, name), "log", query=query_of({"tail": tail}))


def instance_dump(app: str | None, name: str, wait: float | None = None) -> Call[str]:
    """The stacks of a worker's main process."""
    return _change(
        read_text,
        *_instance(app, name),
        "dump",
        parameters={"wait": wait},
        patience=DUMP_WAIT if wait is None else wait,
    )


def _autoscale(answer: Answer) -> Autoscale:
    return cast("Autoscale", read_object(answer))


def autoscale(app: str | None, name: str) -> Call[Autoscale]:
    """The bounds of a pool."""
    return _read(_autoscale, *_instance(app, name), "autoscale")


def autoscale_change(
    app: str | None,
    name: str,
    max: int | None,
    min: int | None,
    wait: float | None = None,
    nowait: bool = False,
) -> Call[Autoscale]:
    """Change the bounds of a pool; what is None stays."""
    return _change(
        _autoscale,
        *_instance(app, name, nowait),
        "autoscale",
        parameters={"max": max, "min": min, "wait": wait},
        patience=wait,
    )


# -- consumers and queues -------------------------------------------------------------------


def consumers(app: str | None, name: str) -> Call[dict[str, Any]]:
    """The queues that a worker consumes from now, each with its declaration."""
    return _read(read_object, *_instance(app, name), "queues")


def consumer_add(
    app: str | None, name: str, queue: str, wait: float | None = None, nowait: bool = False
) -> Call[dict[str, Any]]:
    """Have an instance consume from a queue."""
    place = (*_instance(app, name, nowait), "queues", queue)
    return _change(read_object, *place, parameters={"wait": wait}, patience=wait)


def consumer_delete(
    app: str | None, name: str, queue: str, wait: float | None = None, nowait: bool = False
) -> Call[dict[str, Any]]:
    """Have an instance stop consuming from a queue."""
    return _delete(read_object, *_instance(app, name, nowait), "queues", queue, wait=wait)


def _queue_info(answer: Answer) -> QueueInfo:
    return cast("QueueInfo", read_object(answer))


def queues(app: str) -> Call[list[str]]:
    """The names of an app's queue declarations."""
    return _read(read_names, app, "queues")


def queue(app: str, name: str) -> Call[QueueInfo]:
    """A declaration, and what its broker counts."""
    return _read(_queue_info, app, "queues", name)


def queue_add(app: str, name: str, parameters: Mapping[str, Any], nowait: bool = False) -> Call[QueueInfo]:
    """Declare a queue, or change its declaration."""
    return _change(_queue_info, app, "queues", *_now(nowait, name), parameters=parameters)


def queue_parameters(
    exchange: str | None,
    exchange_type: str | None,
    routing_key: str | None,
    options: Mapping[str, Any] | None,
    more_options: Mapping[str, Any],
) -> dict[str, Any]:
    """What a queue is declared with; options are in two places for programs of the first Cyme."""
    all_options = {**(options or {}), **more_options} if options is not None or more_options else None
    return {
        "exchange": exchange,
        "exchange_type": exchange_type,
        "routing_key": routing_key,
        "options": all_options,
    }


def queue_delete(app: str, name: str, nowait: bool = False) -> Call[None]:
    """Delete a declaration."""
    return _delete(read_nothing, app, "queues", *_now(nowait, name))


def queue_action(app: str, name: str, action: str, nowait: bool = False) -> Call[None]:
    """`pause` or `resume`."""
    return _change(read_nothing, app, "queues", *_now(nowait, name), action)


def queue_purge(app: str, name: str) -> Call[int]:
    """Remove the messages that wait in a queue; how many they were."""
    return _change(lambda answer: int(read_object(answer)["purged"]), app, "queues", name, "purge")


# -- tasks ----------------------------------------------------------------------------------

_OPTIONS = {
    "timeout": "Cyme-Timeout",
    "retries": "Cyme-Retries",
    "delay": "Cyme-Delay",
    "deduplication_id": "Cyme-Deduplication-Id",
    "callback": "Cyme-Callback",
    "failure_callback": "Cyme-Failure-Callback",
}


def _queued(answer: Answer) -> dict[str, Any]:
    task: dict[str, Any] = {}
    if answer.body:
        task = read_object(answer)
    # An answer to HEAD has no body.
    task.setdefault("uuid", answer.headers.get("location", "").strip("/").rpartition("/")[2])
    if not task["uuid"]:
        raise ValueError("it names no task")
    return task


def queue_request(
    app: str,
    url: str,
    queue: str | None = None,
    *,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
    **options: Any,
) -> Call[dict[str, Any]]:
    """Have a worker make an HTTP request.

    :param headers: for the target.
    :param options: see `QueueingParameters`.
    :raises TypeError: for an option that there is not.
    :raises ValueError: for a header that can't be sent.
    """
    unknown = sorted(options.keys() - _OPTIONS.keys())
    if unknown:
        raise TypeError(f"{unknown[0]!r} is not known here; this takes {', '.join(_OPTIONS)}")
    sent = [(_OPTIONS[name], _number(value)) for name, value in given(options).items()]
    for name, value in headers:
        plain = name.lower() in ("content-type", "content-encoding")
        sent.append((name if plain else f"Cyme-Forward-{name}", value))
    for name, value in sent:
        if any(ord(one) < 32 or ord(one) == 127 for one in name + value):
            raise ValueError(f"header {name!r} has control characters")
    place = path(app, "queue", *(() if queue is None else (queue,)))
    request = Request(
        method=method.upper(),
        path=place,
        # As the only parameter it reaches the branch as it is, whatever stands between.
        query=f"url={quote(url, safe=':/')}",
        headers=tuple(sent),
        body=body,
    )
    return Call(request=request, read=_queued)


def _number(value: Any) -> str:
    return f"{value:f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def send_task(
    app: str, task: str, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
) -> Call[dict[str, Any]]:
    """Have a worker run a Celery task of the app.

    :param options: see `SendingParameters`.
    """
    parameters = {"args": list(args), "kwargs": dict(kwargs or {}), **options}
    return _change(_queued, app, "task", task, parameters=parameters)


def task_state(app: str, uuid: str) -> Call[str]:
    """The state of a task."""
    return _read(lambda answer: str(read_object(answer)["state"]), app, "query", uuid, "state")


def _outcome(answer: Answer) -> Outcome:
    return cast("Outcome", read_object(answer))


def task_result(app: str, uuid: str) -> Call[Outcome]:
    """What came of a task so far."""
    return _read(_outcome, app, "query", uuid, "result")


def task_wait(app: str, uuid: str, timeout: float) -> Call[tuple[bool, Outcome]]:
    """What came of a task, as soon as it has ended; whether it has."""

    def read(answer: Answer) -> tuple[bool, Outcome]:
        return answer.status == 200, _outcome(answer)

    return _read(read, app, "query", uuid, "wait", query=query_of({"timeout": timeout}), patience=timeout)


def task_revoke(app: str, uuid: str) -> Call[str]:
    """Have a task not run; its state then."""
    return _delete(lambda answer: str(read_object(answer).get("state", "")), app, "query", uuid)
