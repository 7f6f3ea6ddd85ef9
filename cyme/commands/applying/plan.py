"""What has to be done so that a cluster is as a file declares it: a pure function of both.

A plan is a list of steps in an order in which they can be taken. A cluster on which a plan was
carried out needs none: see the property test.

Note [What instances inherit]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
A branch tells with what an instance is started, not whether the instance or its app says so. So an
instance that looks as declared may have it from its app; where the app is about to change in that
field, the instance is told too. And a limit of 0 is not "none" for an instance but "my app's".
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import field, frozen

from cyme.commands.applying.files import (
    BROKER_FIELDS,
    PLACING_FIELDS,
    Cluster,
    Wanted,
    WantedApp,
)

#: What is shown in place of a secret.
MASK = "***"
_LIMITS = ("max_memory", "max_age", "stall_timeout")


@frozen
class ActualApp:
    """An app as the branch tells of it, with its queues and instances."""

    info: Mapping[str, Any] = field(factory=dict)
    queues: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    instances: Mapping[str, Mapping[str, Any]] = field(factory=dict)


#: What there is: app -> what is in it; of the apps that the file names.
World = Mapping[str, ActualApp]


@frozen(kw_only=True)
class Step:
    """One thing to do.

    :ivar verb: `create`, `change`, `pause`, `resume` or `delete`.
    :ivar kind: `app`, `queue` or `instance`.
    :ivar parameters: what the branch is told.
    :ivar changes: field -> (before, after), for people; secrets are masked.
    """

    verb: str
    kind: str
    app: str
    name: str
    parameters: Mapping[str, Any] = field(factory=dict)
    changes: Mapping[str, tuple[Any, Any]] = field(factory=dict)

    def sentence(self) -> str:
        """What is done, in a line."""
        where = "" if self.kind == "app" else f" of app {self.app}"
        return f"{self.verb} {self.kind} {self.name}{where}"


def plan(cluster: Cluster, world: World, *, prune: bool = False) -> list[Step]:
    """The steps from what there is to what is declared; none where nothing is missing.

    Members of a declared group beyond its count are deleted; what else is not declared stays, unless
    `prune`: then queues and instances of the declared apps that the file does not name are deleted.
    """
    first: list[Step] = []
    last: list[Step] = []
    for name, app in cluster.items():
        actual = world.get(name)
        first += _app_steps(name, app, actual)
        there = actual or ActualApp()
        first += _queue_steps(name, app, there)
        first += _instance_steps(name, app, there)
        last += _removals(name, app, there, prune)
    return first + last


def _app_steps(name: str, wanted: WantedApp, actual: ActualApp | None) -> Iterator[Step]:
    if actual is None:
        yield Step(
            verb="create",
            kind="app",
            app=name,
            name=name,
            parameters=wanted.fields,
            changes=_new(wanted.fields),
        )
        return
    changes = differences(wanted.fields, actual.info)
    if changes:
        yield Step(
            verb="change",
            kind="app",
            app=name,
            name=name,
            parameters=_told(wanted.fields, changes),
            changes=changes,
        )


def _queue_steps(app: str, wanted: WantedApp, actual: ActualApp) -> Iterator[Step]:
    for name, queue in wanted.queues.items():
        fields = {one: value for one, value in queue.fields.items() if one != "paused"}
        there = actual.queues.get(name)
        if there is None:
            yield Step(
                verb="create", kind="queue", app=app, name=name, parameters=fields, changes=_new(fields)
            )
        else:
            changes = differences(fields, there)
            if changes:
                parameters = {one: fields[one] for one in changes}
                yield Step(
                    verb="change", kind="queue", app=app, name=name, parameters=parameters, changes=changes
                )
        is_paused = bool(there and there.get("paused"))
        wants = queue.fields.get("paused", is_paused)
        if wants != is_paused:
            verb = "pause" if wants else "resume"
            yield Step(verb=verb, kind="queue", app=app, name=name, changes={"paused": (is_paused, wants)})


def _instance_steps(app: str, wanted: WantedApp, actual: ActualApp) -> Iterator[Step]:
    # See Note [What instances inherit].
    later = {**actual.info, **wanted.fields}
    changing = differences(wanted.fields, actual.info)
    for name, instance in wanted.instances.items():
        there = actual.instances.get(name)
        if there is None:
            yield Step(
                verb="create",
                kind="instance",
                app=app,
                name=name,
                parameters=instance.fields,
                changes=_new(instance.fields),
            )
            continue
        fields = {one: value for one, value in instance.fields.items() if one not in PLACING_FIELDS}
        inherited = {one: later.get(one) for one in _LIMITS if one in fields and not fields[one]}
        changes = differences({**fields, **inherited}, there)
        changes |= {
            one: (None, _shown(one, fields[one]))
            for one in changing
            if one in fields and one not in changes and one not in inherited
        }
        if changes:
            yield Step(
                verb="change",
                kind="instance",
                app=app,
                name=name,
                parameters=_told(fields, changes),
                changes=changes,
            )


def _removals(app: str, wanted: WantedApp, actual: ActualApp, prune: bool) -> Iterator[Step]:
    for name in actual.instances:
        if name not in wanted.instances and (prune or _is_surplus(name, wanted.groups)):
            yield Step(verb="delete", kind="instance", app=app, name=name)
    for name in actual.queues:
        if prune and name not in wanted.queues:
            yield Step(verb="delete", kind="queue", app=app, name=name)


def _is_surplus(name: str, groups: Mapping[str, int]) -> bool:
    """Whether a name is one that a group had when it was larger."""
    found = re.fullmatch(r"(.+)-([1-9][0-9]{0,9})", name)
    return found is not None and found[1] in groups and int(found[2]) > groups[found[1]]


def _new(fields: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (None, _shown(name, value)) for name, value in fields.items()}


def _told(fields: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What is said to change: where the broker changes, all of it."""
    told = {name: fields[name] for name in changes if name in fields}
    if any(name in BROKER_FIELDS for name in told):
        told.update({name: value for name, value in fields.items() if name in BROKER_FIELDS})
    return told


def differences(wanted: Mapping[str, Any], actual: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Field -> (before, after), of those wanted that are not so."""
    found = {}
    broker = actual.get("broker") or {}
    for name, value in wanted.items():
        if name == "broker":
            before = broker.get("url")
            if not same_broker(value, broker):
                found[name] = (before, _shown(name, value))
        elif name in BROKER_FIELDS:
            # Without a host the other parts of a broker count for nothing.
            before = broker.get(name)
            is_hidden = name == "password" and before in (None, MASK)
            if "hostname" in wanted and not is_hidden and before != value:
                found[name] = (_shown(name, before), _shown(name, value))
        elif not _equal(name, value, actual.get(name)):
            found[name] = (actual.get(name), value)
    return found


def _equal(name: str, wanted: Any, actual: Any) -> bool:
    if name in ("arguments", "extra_config"):
        return _words(wanted) == _words(actual)
    if name == "queues":
        return set(wanted) == set(actual or ())
    if name in _LIMITS or name == "options":
        return (wanted or None) == (actual or None)
    return bool(wanted == actual)


def _words(text: str | None) -> list[str]:
    try:
        return shlex.split(text or "")
    except ValueError:
        return [text or ""]


def _shown(name: str, value: Any) -> Any:
    if name == "password" and value is not None:
        return MASK
    return without_password(value) if name == "broker" and isinstance(value, str) else value


def without_password(url: str) -> str:
    """Broker URLs as they may be shown."""
    masked = re.sub(r"(://[^:/@;]*:)([^@;]*)@", rf"\g<1>{MASK}@", url)
    return re.sub(r"([?&][^=&]*(?:pass|secret|token)[^=&]*=)([^&;]*)", rf"\g<1>{MASK}", masked, flags=re.I)


def same_broker(url: str, there: Mapping[str, Any]) -> bool:
    """Whether a URL names the broker that a branch tells of, as far as it tells.

    What a URL leaves out has the values that are usual for it: `amqp://h` is `amqp://guest:guest@h:5672//`.
    """
    told = there.get("url")
    if told is None:
        return False
    if ";" in url or ";" in told:
        return without_password(url) == str(told)
    wanted, actual = _parts(url), _parts(told)
    secret = there.get("password")
    if secret is None or secret == MASK or not wanted["password"]:
        wanted["password"] = actual["password"] = None
    else:
        actual["password"] = secret
    return bool(wanted == actual)


_PORTS = {"amqp": 5672, "pyamqp": 5672, "amqps": 5671, "redis": 6379, "rediss": 6379, "sentinel": 26379}


def _parts(url: str) -> dict[str, Any]:
    if "+" in url.partition("://")[0]:
        return {"url": without_password(url), "password": None}
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    is_amqp = scheme in ("amqp", "amqps", "pyamqp")
    try:
        port = parts.port
    except ValueError:
        port = None
    path = unquote(parts.path[1:])
    return {
        "scheme": scheme,
        "hostname": parts.hostname,
        "port": port or _PORTS.get(scheme),
        "userid": unquote(parts.username or "") or ("guest" if is_amqp else None),
        "password": unquote(parts.password or "") or ("guest" if is_amqp else None),
        "path": path or ("/" if is_amqp else "0"),
        "query": re.sub(r"=[^&]*", "=", parts.query) if "***" in parts.query else parts.query,
    }


__all__ = ["ActualApp", "Step", "Wanted", "World", "differences", "plan", "same_broker", "without_password"]
