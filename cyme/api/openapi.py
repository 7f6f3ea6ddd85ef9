"""The API's description, OpenAPI 3.1, made from the same declarations that serve the routes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cyme import __version__
from cyme.access import Scope
from cyme.api import answers, schemas
from cyme.api.parameters import Parameter
from cyme.api.queueing import METHODS
from cyme.api.routing import READ, Answer, Route
from cyme.api.schemas import Schema
from cyme.naming import PLAIN, QUEUE_NAME_MOST

JSON, FORM, PROBLEM = "application/json", "application/x-www-form-urlencoded", "application/problem+json"
STREAM, TEXT = "text/event-stream", "text/plain"

#: What is answered when something is away, or slow. A 500 is a fault, and in no description.
AWAY = (503, 504)
#: The longest text whose bound a query is told to have: the head of a request has 16 KiB at most, and
#: so it is that which bounds a longer one.
IN_QUERY_MOST = 1000

_UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
#: The segments of paths.
SEGMENTS: Mapping[str, tuple[str, Schema]] = {
    "app": ("the app", {"type": "string", "pattern": f"^{PLAIN}$"}),
    "name": ("the instance", {"type": "string", "pattern": f"^{PLAIN}$"}),
    "branch": ("the branch", {"type": "string", "pattern": f"^{PLAIN}$"}),
    "queue": (
        "the queue",
        {"type": "string", "pattern": r"^[A-Za-z0-9._ -]+$", "maxLength": QUEUE_NAME_MOST},
    ),
    "task": ("the task, as Celery calls it", {"type": "string", "pattern": r"^[A-Za-z0-9_.]+$"}),
    "uuid": ("the task's id", {"type": "string", "pattern": _UUID}),
}
#: The shape of what a way to answer says by itself.
_SHAPES: Mapping[Answer, Schema] = {
    answers.listing: schemas.NAMES,
    answers.done: schemas.OK,
    answers.consuming: schemas.OK,
    answers.scheduled: schemas.OK,
    answers.scheduled_addition: schemas.NAME,
    answers.events: schemas.EVENTS,
    answers.health: schemas.HEALTH,
    answers.queued_task: schemas.TASK,
}
_PLAIN_TEXT = frozenset({answers.text, answers.metrics})

_INTRODUCTION = (
    "Any branch answers for the whole cluster. Every path is served with and without its trailing slash."
    " `PUT` and `POST` do the same. A path with `!` is asynchronous: its answer does not wait for the effect."
    " Parameters come in the query, a form or a JSON object; the query wins; an empty text is not given."
    " Errors are `application/problem+json`."
)
_QUEUEING = (
    "Queue a request instead of making it: `VERB /APP/queue/QUEUE/URL`, or `VERB /APP/queue/URL` for the"
    " app's default queue, where URL begins with `http://` or `https://` and stands as it is, its query"
    " too. A worker makes the same request later: method, body, and the headers that came as"
    " `Cyme-Forward-NAME`. Methods: " + ", ".join(METHODS) + ". 202 when the broker has it; `Location` is"
    " where to ask for the result."
)


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The description of routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        for path in route.paths:
            _add(paths, path, route, _responses(route, route.answer, route.answers))
        scheduled = ((202, "it is asked for, and not waited for"),)
        for path in route.asynchronous_paths:
            assert route.scheduled is not None
            _add(paths, path, route, _responses(route, route.scheduled, scheduled), is_asynchronous=True)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Cyme",
            "version": __version__,
            "description": f"{_INTRODUCTION}\n\n{_QUEUEING}",
            "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
        },
        "paths": paths,
        "security": [{}, {"bearer": []}, {"basic": []}],
        "components": {
            "schemas": {"Problem": schemas.PROBLEM},
            "responses": {
                "Problem": {
                    "description": "what is wrong, in words",
                    "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "a token of the branch's"},
                "basic": {"type": "http", "scheme": "basic", "description": "the token as the password"},
            },
        },
    }


def _add(
    paths: dict[str, dict[str, Any]],
    path: str,
    route: Route,
    responses: Mapping[str, Any],
    *,
    is_asynchronous: bool = False,
) -> None:
    shown = re.sub(r"<(\w+)>", r"{\1}", path)
    item = paths.setdefault(shown, {})
    segments = [
        {"name": name, "in": "path", "required": True, "description": SEGMENTS[name][0], "schema": schema}
        for name in re.findall(r"<(\w+)>", path)
        for schema in (SEGMENTS[name][1],)
    ]
    parameters = [
        one for one in route.parameters if not (is_asynchronous and route.awaits and one.name == "wait")
    ]
    for method in route.methods:
        operation: dict[str, Any] = {
            "operationId": _id(method, shown),
            "summary": route.summary,
            "description": f"Needs the scope `{route.needs.word}`.",
            "tags": [_tag(path)],
            "parameters": [*segments, *map(_in_query, parameters)],
            "responses": responses,
        }
        if route.needs is not Scope.READ:
            scopes = [route.needs.word]
            operation["security"] = [{}, {"bearer": scopes}, {"basic": scopes}]
        if route.methods != READ and method != "DELETE" and parameters:
            operation["requestBody"] = _body(parameters)
        item[method.lower()] = operation


def _in_query(parameter: Parameter) -> dict[str, Any]:
    schema = parameter.kind.schema
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": "query",
        "required": False,
        "description": f"{parameter.description}; takes {parameter.kind.takes}",
    }
    if schema.get("maxLength", 0) > IN_QUERY_MOST:
        schema = {key: value for key, value in schema.items() if key != "maxLength"}
    if schema.get("type") == "object" or (schema.get("type") == "array" and "items" not in schema):
        # Written as JSON in a query.
        return {**described, "content": {JSON: {"schema": schema}}}
    if schema.get("type") == "array":
        described |= {"style": "form", "explode": False}
    return {**described, "schema": schema}


def _body(parameters: Iterable[Parameter]) -> dict[str, Any]:
    properties = {
        one.name: {**one.kind.schema, "description": f"{one.description}; takes {one.kind.takes}"}
        for one in parameters
    }
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"required": False, "content": {JSON: {"schema": schema}}}


def _responses(
    route: Route, answer: Answer, described: Iterable[tuple[int, str]]
) -> dict[str, Any]:
    shape = route.shape if answer is route.answer and route.shape is not None else _SHAPES.get(answer)
    found: dict[str, Any] = {}
    for status, when in described:
        if status >= 400 and answer is not answers.health:
            found[str(status)] = {"$ref": "#/components/responses/Problem"}
            continue
        if answer in _PLAIN_TEXT:
            content: dict[str, Any] = {TEXT: {"schema": {"type": "string"}}}
        else:
            content = {JSON: {"schema": shape if shape is not None else schemas.ANY_OBJECT}}
        if route.follow is not None and status == 200:
            content[STREAM] = {"schema": {"type": "string"}}
        found[str(status)] = {"description": when, "content": content}
    if answer is answers.health:
        found["503"]["content"][PROBLEM] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    problem = {"$ref": "#/components/responses/Problem"}
    return {**found, "4XX": problem, **{str(status): found.get(str(status), problem) for status in AWAY}}


def _id(method: str, path: str) -> str:
    words = re.findall(r"[A-Za-z0-9]+|!", path)
    return "_".join([method.lower(), *("asynchronously" if word == "!" else word for word in words)])


def _tag(path: str) -> str:
    """What an operation is about: the kind of thing that its path ends in."""
    for word, tag in (
        ("/query/", "tasks"),
        ("/task/", "tasks"),
        ("/branches/", "branches"),
        ("/events/", "events"),
        ("/instance", "instances"),
        ("/queues/", "queues"),
        ("/restart/", "rolling restarts"),
        ("<app>", "apps"),
    ):
        if word in path:
            return tag
    return "apps" if path in ("/", "/!/") else "branch"


def routes(described: Callable[[], Mapping[str, Any]]) -> tuple[Route, ...]:
    """The route of the description itself.

    :param described: gives it.
    """
    return (
        Route(
            paths=("/openapi.json",),
            methods=READ,
            summary="this description, OpenAPI 3.1",
            is_common=True,
            passes_on=True,
            verb=lambda controller: described(),
            answer=answers.document,
            answers=((200, "the description"),),
        ),
    )
