"""The routes, from the OpenAPI document that a branch serves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tables import heading, literal, plain, table

from cyme.api import openapi
from cyme.api.site import all_routes

#: The topics, in the order in which somebody meets them, and what each is about.
TOPICS: Mapping[str, str] = {
    "apps": "An app is what instances, queues and tasks belong to.",
    "instances": "An instance is one Celery worker, as it is declared and as it is.",
    "queues": "A queue belongs to an app; instances consume from it.",
    "tasks": "What was queued, and what became of it.",
    "rolling restarts": "A rolling restart replaces the workers of an app one after the other.",
    "events": "What happened, and why.",
    "branches": "The branches of the cluster.",
    "branch": "The branch that is asked.",
}
#: The order of the methods of one place.
_METHODS = ("get", "put", "post", "delete")


def document() -> dict[str, Any]:
    """The document as a branch serves it."""
    return openapi.document(all_routes(dict))


def text() -> str:
    """All routes, by topic."""
    described = document()
    by_topic: dict[str, dict[tuple[Any, ...], _Operation]] = {topic: {} for topic in TOPICS}
    for path, item in described["paths"].items():
        for method, operation in item.items():
            [topic] = operation["tags"]
            key = (operation["summary"], operation["description"])
            of_topic = by_topic[topic]  # a topic that is new has to be put in order above
            if key not in of_topic:
                of_topic[key] = _Operation(operation)
            of_topic[key].add(method, path)
    parts = []
    for topic, operations in by_topic.items():
        title = topic[0].upper() + topic[1:]
        parts += [f".. _http-{topic.replace(' ', '-')}:\n", heading(title, "-"), TOPICS[topic] + "\n"]
        parts += [operation.text() for operation in operations.values()]
    return "\n".join(parts)


class _Operation:
    """One operation, at all of its places."""

    def __init__(self, first: Mapping[str, Any]) -> None:
        self._described = first
        self._methods: list[str] = []
        self._paths: list[str] = []

    def add(self, method: str, path: str) -> None:
        if method not in self._methods:
            self._methods.append(method)
        if path not in self._paths:
            self._paths.append(path)

    def text(self) -> str:
        at_once = [path for path in self._paths if "!" in path]
        waiting = [path for path in self._paths if "!" not in path]
        methods = "|".join(sorted((one.upper() for one in self._methods), key=_order))
        first = waiting[0]
        label = re.sub(r"[^a-z]+", "-", f"{self._methods[0]} {first}".lower()).strip("-")
        parts = [f".. _http-{label}:\n", heading(literal(f"{methods} {first}"), "~")]
        parts.append(f"{plain(_sentence(self._described['summary']))}\n")
        if waiting[1:]:
            parts.append("Also at " + ", ".join(map(literal, waiting[1:])) + ".\n")
        if at_once:
            parts.append("Without waiting for the effect: " + ", ".join(map(literal, at_once)) + ".\n")
        parts.append(f"{plain(self._described['description'])}\n")
        parts += [self._parameters(), self._answers()]
        return "\n".join(part for part in parts if part)

    def _parameters(self) -> str:
        rows = []
        for one in self._described["parameters"]:
            if one["in"] == "query":
                meaning, _, takes = one["description"].partition("; takes ")
                rows.append([literal(one["name"]), plain(meaning), plain(takes)])
        return table(("Parameter", "Meaning", "Takes"), rows, "15 45 40")

    def _answers(self) -> str:
        rows = []
        for status, answer in sorted(self._described["responses"].items()):
            if "$ref" in answer:
                continue
            kinds = answer["content"]
            shapes = [_shape(kind, described["schema"]) for kind, described in kinds.items()]
            rows.append([status, plain(answer["description"]), "; ".join(shapes)])
        if any("!" in path for path in self._paths) and not any(row[0] == "202" for row in rows):
            rows.append(["202", "it is asked for, and not waited for (paths with ``!``)", "JSON: an object"])
        refused = [
            status for status, answer in sorted(self._described["responses"].items()) if "$ref" in answer
        ]
        if refused:
            rows.append([", ".join(refused), "a problem, see :ref:`http-problems`", "JSON: the problem"])
        return table(("Status", "When", "Body"), rows, "15 40 45")


def _order(method: str) -> int:
    return _METHODS.index(method.lower())


def _sentence(summary: str) -> str:
    return summary[0].upper() + summary[1:] + "."


def _shape(kind: str, schema: Mapping[str, Any]) -> str:
    if kind == openapi.STREAM:
        return "to clients that ask for ``text/event-stream``: a stream of events"
    if kind == openapi.PROBLEM:
        return ""
    if kind == openapi.TEXT:
        return "plain text"
    return f"JSON: {_of(schema)}"


def _of(schema: Mapping[str, Any]) -> str:
    """A schema in words."""
    if "anyOf" in schema:
        return " or ".join(_of(one) for one in schema["anyOf"])
    if "$ref" in schema:
        return "a problem"
    kind: str = schema.get("type", "anything")
    if kind == "array":
        items = schema["items"]
        return "a list of names" if items.get("type") == "string" else f"a list; each {_of(items)}"
    if kind == "object" and schema.get("properties"):
        return ", ".join(literal(name) for name in schema["properties"])
    return {"object": "an object", "string": "text", "null": "null", "anything": "any JSON"}.get(kind, kind)
