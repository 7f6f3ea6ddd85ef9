"""The shapes of answers, as JSON schemas; objects may have more keys than are told here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cyme.planning import State

Schema = Mapping[str, Any]

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_FLAG: Schema = {"type": "boolean"}
_TIME: Schema = {"type": "number", "description": "seconds since the epoch"}
_OBJECT: Schema = {"type": "object"}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _listed(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _object(properties: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required}


#: Names, of apps, instances, queues or branches.
NAMES = _listed(_TEXT)
OK = _object({"ok": _TEXT})
NAME = _object({"name": _TEXT})
BROKER = _object(
    {
        "hostname": _or_null(_TEXT),
        "port": _or_null(_COUNT),
        "userid": _or_null(_TEXT),
        "password": {**_or_null(_TEXT), "description": "`***` for those who may not set it"},
        "virtual_host": _or_null(_TEXT),
        "transport": _TEXT,
        "url": {**_TEXT, "description": "without the password"},
    }
)
_START: Mapping[str, Schema] = {
    "celery_app": _or_null(_TEXT),
    "arguments": _or_null(_TEXT),
    "extra_config": _or_null(_TEXT),
    "pool": _or_null(_TEXT),
    "max_memory": _or_null(_COUNT),
    "max_age": _or_null(_NUMBER),
    "stall_timeout": _or_null(_NUMBER),
}
APP = _object({"name": _TEXT, "broker": BROKER, **_START})
INSTANCE = _object(
    {
        "is_enabled": _FLAG,
        "name": _TEXT,
        "queues": NAMES,
        "broker": BROKER,
        "max_concurrency": _COUNT,
        "min_concurrency": _COUNT,
        "app": _TEXT,
        "branch": _TEXT,
        "moving_to": _or_null(_TEXT),
        "labels": NAMES,
        **_START,
        "state": {"type": "string", "enum": [state.value for state in State]},
        "pid": _or_null(_COUNT),
        "node": _or_null(_TEXT),
        "started_at": _or_null(_TIME),
        "is_current": _or_null(_FLAG),
        "is_consuming": _or_null(_FLAG),
        "last_pong": _or_null(_TIME),
        "failures": _or_null(_COUNT),
        "next_attempt": _or_null(_TIME),
        "last_exit": _or_null(_OBJECT),
        "draining": _or_null(_OBJECT),
        "problems": _listed(_TEXT),
        "resources": _or_null(_OBJECT),
    }
)
#: An instance in a list that tells more than names.
GLANCE = _object(
    {
        "name": _TEXT,
        "app": _TEXT,
        "branch": _TEXT,
        "moving_to": _or_null(_TEXT),
        "is_enabled": _FLAG,
        "queues": NAMES,
        "max_concurrency": _COUNT,
        "min_concurrency": _COUNT,
        "state": {"type": "string", "enum": [state.value for state in State]},
        "pid": _or_null(_COUNT),
        "started_at": _or_null(_TIME),
        "is_current": _or_null(_FLAG),
        "is_consuming": _or_null(_FLAG),
        "failures": _or_null(_COUNT),
        "next_attempt": _or_null(_TIME),
        "draining": _or_null(_OBJECT),
        "problems": _listed(_TEXT),
        "rss": {**_or_null(_COUNT), "description": "bytes"},
        "processes": _or_null(_COUNT),
        "last_exit": _or_null(_OBJECT),
        "last_event": _or_null(_OBJECT),
    }
)
INSTANCES: Schema = {"anyOf": [NAMES, _listed(GLANCE)]}
#: What an instance's drain tells: where it is, and that it is stopped.
QUEUE = _object(
    {
        "name": _TEXT,
        "exchange": _or_null(_TEXT),
        "exchange_type": _or_null(_TEXT),
        "routing_key": _or_null(_TEXT),
        "options": _or_null(_OBJECT),
        "effective": _object({"exchange": _TEXT, "exchange_type": _TEXT, "routing_key": _TEXT}),
        "paused": _FLAG,
        "messages": _or_null(_COUNT),
        "consumers": _or_null(_COUNT),
    },
    optional=("messages", "consumers"),
)
CONSUMERS: Schema = {"type": "object", "additionalProperties": _OBJECT}
AUTOSCALE = _object({"max": _COUNT, "min": _COUNT})
BRANCH = _object(
    {
        "id": _TEXT,
        "url": _or_null(_TEXT),
        "port": _or_null(_COUNT),
        "version": _TEXT,
        "instances": _COUNT,
        "load_average": _or_null(_listed(_NUMBER)),
        "is_cordoned": _FLAG,
    }
)
EVENT = _object(
    {
        "id": _COUNT,
        "at": _TIME,
        "branch": _TEXT,
        "app": _or_null(_TEXT),
        "instance": _or_null(_TEXT),
        "kind": _TEXT,
        "who": _TEXT,
        "details": _OBJECT,
    }
)
EVENTS = _listed(EVENT)
STATE = _object({"state": _TEXT})
RESULT = _object({"state": _TEXT, "result": {}})
TASK = _object({"uuid": _TEXT, "queue": _TEXT, "broker": _TEXT})
HEALTH = _object({"verdict": _TEXT})
ANY_OBJECT = _OBJECT
#: An error, as RFC 9457 has it, with `nok` for clients of the first Cyme.
PROBLEM = _object(
    {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": _TEXT,
        "nok": _listed(_TEXT),
    }
)
