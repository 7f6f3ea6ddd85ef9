"""What parameters may hold: types, ranges, and what they mean together."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cyme import brokers
from cyme.controller.names import queue_name
from cyme.controller.workerarguments import checked_arguments, checked_settings
from cyme.errors import InvalidParameter
from cyme.naming import CONCURRENCY_MOST, MEMORY_MOST, SECONDS_MOST

#: Parameters of a broker that mean something only together with `hostname`.
BROKER_PARTS = ("hostname", "port", "userid", "password", "virtual_host")
#: Parameters of apps, and of instances as overrides.
START_PARAMETERS = (
    *(*BROKER_PARTS, "broker", "celery_app", "pool", "arguments", "extra_config"),
    *("max_memory", "max_age", "stall_timeout"),
)
#: Pools that Celery 5 has.
POOLS = ("prefork", "processes", "threads", "solo", "eventlet", "gevent")
#: The longest text of a parameter, in characters.
TEXT_MOST = 16_384

_CELERY_APP = re.compile(
    r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*(:[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*)?"
)


def known(params: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Those of `params` that are given; None means "not given".

    :raises InvalidParameter: when one is not among `names`.
    """
    for parameter in params:
        if parameter not in names:
            takes = ", ".join(names) if names else "nothing"
            raise InvalidParameter(parameter[:100], f"not known here; this takes {takes}")
    return {parameter: value for parameter, value in params.items() if value is not None}


def text(parameter: str, value: object, most: int = TEXT_MOST) -> str:
    """Text that can be stored and given to a process.

    :param most: characters.
    """
    if not isinstance(value, str):
        raise InvalidParameter(parameter, f"takes text, not {kind_of(value)}")
    if len(value) > most:
        raise InvalidParameter(parameter, f"takes at most {most} characters")
    if "\0" in value:
        raise InvalidParameter(parameter, "must not hold a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidParameter(parameter, "is not UTF-8") from None
    return value


def whole(parameter: str, value: object, least: int, most: int) -> int:
    """A whole number from `least` to `most`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidParameter(parameter, f"takes a whole number, not {kind_of(value)}")
    if not least <= value <= most:
        raise InvalidParameter(parameter, f"takes a whole number from {least} to {most}")
    return value


def seconds(parameter: str, value: object, most: float) -> float:
    """A time in seconds from 0 to `most`."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise InvalidParameter(parameter, f"takes a number of seconds, not {kind_of(value)}")
    # Written so that NaN is refused too.
    if not 0 <= value <= most:
        raise InvalidParameter(parameter, f"takes a number of seconds from 0 to {most:g}")
    return float(value)


def boolean(parameter: str, value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise InvalidParameter(parameter, f"takes true or false, not {kind_of(value)}")
    return value


def concurrency(
    most: int, least: int, *, max_parameter: str = "max_concurrency", min_parameter: str = "min_concurrency"
) -> None:
    """Refuse ranges that Celery would accept and choke on (failure-modes F6).

    :param max_parameter: what the caller calls the upper end; so `min_parameter`.
    """
    whole(max_parameter, most, 1, CONCURRENCY_MOST)
    whole(min_parameter, least, 0, CONCURRENCY_MOST)
    if least > most:
        problem = f"the range would be {least} to {most}; takes at most {max_parameter}, which is {most}"
        raise InvalidParameter(min_parameter, problem)


def queue_names(parameter: str, value: object) -> tuple[str, ...]:
    """Names of queues, each once, in the order given."""
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise InvalidParameter(parameter, f"takes a list of queue names, not {kind_of(value)}")
    return tuple(dict.fromkeys(queue_name(name) for name in value))


def start_changes(given: Mapping[str, Any]) -> dict[str, Any]:
    """What `START_PARAMETERS` say, as fields of an `App` or an `Instance`.

    Without `hostname` and `broker` there is no `broker` in the answer: the other parameters
    of a broker mean nothing alone.

    :param given: only what was given; other parameters are passed over.
    :raises InvalidParameter: when one can't be.
    """
    changes: dict[str, Any] = {}
    broker = _broker(given)
    if broker is not None:
        changes["broker"] = broker
    if "celery_app" in given:
        changes["celery_app"] = _celery_app(given["celery_app"])
    if "pool" in given:
        changes["pool"] = _pool(given["pool"])
    if "arguments" in given:
        changes["arguments"] = checked_arguments("arguments", text("arguments", given["arguments"]))
    if "extra_config" in given:
        changes["extra_config"] = checked_settings(
            "extra_config", text("extra_config", given["extra_config"])
        )
    return {**changes, **_limits(given)}


def _limits(given: Mapping[str, Any]) -> dict[str, Any]:
    """The limits that are given; 0 takes one away."""
    limits: dict[str, Any] = {}
    if "max_memory" in given:
        limits["max_memory"] = whole("max_memory", given["max_memory"], 0, MEMORY_MOST) or None
    for parameter in ("max_age", "stall_timeout"):
        if parameter in given:
            limits[parameter] = seconds(parameter, given[parameter], SECONDS_MOST) or None
    return limits


def _broker(given: Mapping[str, Any]) -> str | None:
    parts: dict[str, Any] = {
        parameter: whole("port", value, 1, 65535) if parameter == "port" else text(parameter, value, 1024)
        for parameter, value in given.items()
        if parameter in BROKER_PARTS
    }
    if "broker" in given:
        if "hostname" in parts:
            raise InvalidParameter("broker", "can't be given together with hostname; give one of them")
        return brokers.checked(text("broker", given["broker"], 4096))
    if "hostname" not in parts:
        return None
    return brokers.from_parts(**parts)


def _celery_app(value: object) -> str:
    checked = text("celery_app", value, 255)
    if not _CELERY_APP.fullmatch(checked):
        problem = "takes what 'celery -A' takes: the dotted path of a module, perhaps with ':attribute'"
        raise InvalidParameter("celery_app", problem)
    return checked


def _pool(value: object) -> str:
    checked = text("pool", value)
    if checked not in POOLS:
        raise InvalidParameter("pool", f"takes one of {', '.join(POOLS)}")
    return checked


def kind_of(value: object) -> str:
    """What kind of thing a value is, in JSON's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "an object" if isinstance(value, Mapping) else "a list"
