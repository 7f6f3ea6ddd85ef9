"""Reading a file that declares apps, queues and groups of instances.

::

    apps:
      shop:
        celery_app: proj.celery:app
        queues:
          tasks:
          mail: {exchange: mail, exchange_type: topic, routing_key: "mail.#"}
        instances:
          mailer: {queues: [mail]}
          web: {count: 3, queues: [tasks], max_concurrency: 4}

An entry with `count` is a group: `web-1`, `web-2` and so on. What is not said is not touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from attrs import field, frozen

#: Fields of apps, and of instances as overrides.
BROKER_FIELDS = ("broker", "hostname", "port", "userid", "password", "virtual_host")
START_FIELDS = (
    *BROKER_FIELDS,
    *("celery_app", "pool", "arguments", "extra_config", "max_memory", "max_age", "stall_timeout"),
)
INSTANCE_FIELDS = ("is_enabled", "max_concurrency", "min_concurrency", "queues", *START_FIELDS)
#: What counts only when an instance is created.
PLACING_FIELDS = ("branch", "placement", "label")
QUEUE_FIELDS = ("exchange", "exchange_type", "routing_key", "options", "paused")
#: The most instances of one group.
COUNT_MOST = 10_000

_TEXTS = frozenset({"broker", "hostname", "userid", "password", "virtual_host", "celery_app", "pool"}) | {
    *("arguments", "extra_config", "branch", "placement", "exchange", "exchange_type", "routing_key")
}
_FLAGS = frozenset({"is_enabled", "paused"})
_WHOLE = frozenset({"port", "max_concurrency", "min_concurrency", "count"})
_NUMBERS = frozenset({"max_age", "stall_timeout"})


class BadFile(Exception):
    """The file can't be what is wanted; says where."""


@frozen
class Wanted:
    """One app, queue or instance, with what the file says of it."""

    fields: Mapping[str, Any] = field(factory=dict)


@frozen
class WantedApp:
    """An app with what is in it.

    :ivar groups: the name of each group of instances -> how many there are to be.
    """

    fields: Mapping[str, Any] = field(factory=dict)
    queues: Mapping[str, Wanted] = field(factory=dict)
    instances: Mapping[str, Wanted] = field(factory=dict)
    groups: Mapping[str, int] = field(factory=dict)


#: What a file declares: app -> what is in it.
Cluster = Mapping[str, WantedApp]


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML without keys that stand twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, (str, int, float, bool, type(None))):
            raise BadFile(f"line {key_node.start_mark.line + 1}: a key must be a word")
        if key in found:
            raise BadFile(f"line {key_node.start_mark.line + 1}: {key!r} stands there twice")
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read(text: str) -> Cluster:
    """Read the text of a file.

    :raises BadFile: with the place and what is wrong there.
    """
    try:
        document = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise BadFile(f"{where}{getattr(problem, 'problem', None) or 'this is not YAML'}") from None
    top = _object(document, "the file", ("apps",))
    apps = _named(top.get("apps"), "apps")
    cluster = {name: _app(name, value) for name, value in apps.items()}
    seen: dict[str, str] = {}
    for name, app in cluster.items():
        for instance in app.instances:
            if instance in seen:
                raise BadFile(
                    f"apps.{name}.instances: {instance!r} is in app {seen[instance]!r}, too;"
                    " names of instances are unique in the cluster"
                )
            seen[instance] = name
    return cluster


def _app(name: str, value: Any) -> WantedApp:
    place = f"apps.{name}"
    fields = _object(value, place, (*START_FIELDS, "queues", "instances"))
    queues = {
        queue: Wanted(
            _checked(_object(said, f"{place}.queues.{queue}", QUEUE_FIELDS), f"{place}.queues.{queue}")
        )
        for queue, said in _named(fields.pop("queues", None), f"{place}.queues").items()
    }
    instances: dict[str, Wanted] = {}
    groups: dict[str, int] = {}
    for instance, said in _named(fields.pop("instances", None), f"{place}.instances").items():
        here = f"{place}.instances.{instance}"
        told = _checked(_object(said, here, ("count", *INSTANCE_FIELDS, *PLACING_FIELDS)), here)
        count = told.pop("count", None)
        names = [instance]
        if count is not None:
            if count > COUNT_MOST:
                raise BadFile(f"{here}.count: takes at most {COUNT_MOST}")
            groups[instance] = count
            names = [f"{instance}-{number}" for number in range(1, count + 1)]
        for one in names:
            if one in instances:
                raise BadFile(f"{here}: {one!r} is declared twice")
            instances[one] = Wanted(told)
        if "queues" in told:
            _declared(told["queues"], queues, here)
    return WantedApp(_checked(fields, place), queues, instances, groups)


def _declared(names: list[str], queues: Mapping[str, Wanted], place: str) -> None:
    missing = [name for name in names if name not in queues]
    if missing:
        raise BadFile(f"{place}.queues: the app declares no queue {missing[0]!r}; name it under its queues")


def _object(value: Any, place: str, known: tuple[str, ...]) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadFile(f"{place}: takes fields, {_kind(value)} stands there")
    for key in value:
        if key not in known:
            raise BadFile(f"{place}: {key!r} is not known there; it takes {', '.join(known)}")
    return dict(value)


def _named(value: Any, place: str) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        if len(set(value)) < len(value):
            raise BadFile(f"{place}: a name stands there twice")
        return dict.fromkeys(value)
    if not isinstance(value, dict):
        raise BadFile(f"{place}: takes names, {_kind(value)} stands there")
    for key in value:
        if not isinstance(key, str) or not key:
            raise BadFile(f"{place}: {key!r} is no name; write it in quotes")
    return dict(value)


def _checked(fields: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Fields of the right kinds; null counts as not said."""
    said = {name: value for name, value in fields.items() if value is not None}
    for name, value in said.items():
        here = f"{place}.{name}"
        if name in _TEXTS and not isinstance(value, str):
            raise BadFile(f"{here}: takes text; write {value!r} in quotes")
        if value == "":
            raise BadFile(f"{here}: must not be empty; leave it out to leave it as it is")
        if name in _FLAGS and not isinstance(value, bool):
            raise BadFile(f"{here}: takes true or false")
        if name in _WHOLE and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise BadFile(f"{here}: takes a whole number")
        if name in _NUMBERS and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0):
            raise BadFile(f"{here}: takes a number of seconds")
        if name in ("queues", "label"):
            said = {**said, name: _texts(value, here)}
        if name == "options" and not isinstance(value, dict):
            raise BadFile(f"{here}: takes fields")
        if name == "max_memory":
            said = {**said, name: _size(value, here)}
    if "broker" in said and "hostname" in said:
        raise BadFile(f"{place}: broker and hostname can't stand together")
    return said


def _texts(value: Any, place: str) -> list[str]:
    found = (
        value if isinstance(value, list) else [one.strip() for one in str(value).split(",") if one.strip()]
    )
    if not all(isinstance(one, str) for one in found):
        raise BadFile(f"{place}: takes a list of texts")
    return list(dict.fromkeys(found))


def _size(value: Any, place: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    text = str(value).strip().upper()
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    try:
        if text[-1:] in units:
            return int(float(text[:-1]) * units[text[-1]])
        return int(text)
    except ValueError:
        raise BadFile(f"{place}: takes a number of bytes, such as 1048576, 300M or 1.5G") from None


def _kind(value: Any) -> str:
    return {list: "a list", str: "text", bool: "true or false"}.get(type(value), f"{value!r}")
