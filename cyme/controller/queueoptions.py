"""Options of a queue declaration, checked at the door.

Celery accepts any key and any type silently, and a worker then dies of some of them
(failure-modes F3), so a table here says which keys there are (requirements R52) and what
each takes. Whether a broker can make the queue is found out later, by trying.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from cyme.controller.parameters import TEXT_MOST, kind_of, text
from cyme.errors import InvalidParameter

#: The longest name or routing key, in bytes of UTF-8: AMQP's short string.
SHORT_STRING_MOST = 255
#: The ends of AMQP's longest whole number.
_LONG = range(-(2**63), 2**63)
_EXCHANGE_TYPE = re.compile(r"direct|topic|fanout|headers|x-[A-Za-z0-9._-]{1,100}")
#: How deep arguments may be nested.
_DEPTH_MOST = 10


def exchange_type(value: object) -> str:
    """The type of an exchange: AMQP's four, or a plug-in's.

    :raises InvalidParameter: when there is no such type.
    """
    checked = text("exchange_type", value)
    if not _EXCHANGE_TYPE.fullmatch(checked):
        raise InvalidParameter(
            "exchange_type", "takes direct, topic, fanout, headers, or a plug-in's 'x-...'"
        )
    return checked


def short_string(parameter: str, value: object) -> str:
    """Text that fits AMQP's short string.

    :raises InvalidParameter: when it does not.
    """
    checked = text(parameter, value)
    if len(checked.encode()) > SHORT_STRING_MOST:
        raise InvalidParameter(parameter, f"takes at most {SHORT_STRING_MOST} bytes")
    if not checked.isprintable():
        raise InvalidParameter(parameter, "takes printable characters")
    return checked


def queue_options(value: object) -> str:
    """Options as JSON text with sorted keys, as a declaration holds them.

    :raises InvalidParameter: when there is no such option, or it takes something else.
    """
    if not isinstance(value, Mapping):
        raise InvalidParameter("options", f"takes a JSON object, not {kind_of(value)}")
    for key, setting in value.items():
        check = _OPTIONS.get(key) if isinstance(key, str) else None
        if check is None:
            raise InvalidParameter("options", f"{_unknown(key)}; known are {', '.join(sorted(_OPTIONS))}")
        complaint = check(setting)
        if complaint is not None:
            raise InvalidParameter(
                "options", f"'{key}' {complaint}, not {kind_of(setting)} {_shown(setting)}"
            )
    words = json.dumps(value, sort_keys=True, allow_nan=False)
    if len(words) > TEXT_MOST:
        raise InvalidParameter("options", f"takes at most {TEXT_MOST} characters")
    return words


def _unknown(key: object) -> str:
    if key in ("exchange", "exchange_type", "routing_key"):
        return f"'{key}' is a parameter of its own"
    if key == "bindings":
        return "'bindings' can't be said in JSON, use 'binding_key'"
    return f"there is no option {_shown(key)}"


def _shown(value: object) -> str:
    return ascii(value)[:100]


# -- what each option takes: a complaint, or None -----------------------------------


def _boolean(value: object) -> str | None:
    return None if isinstance(value, bool) else "takes true or false"


def _words(value: object) -> str | None:
    try:
        short_string("", value)
    except InvalidParameter as refusal:
        return refusal.problem
    return None


def _delivery_mode(value: object) -> str | None:
    fine = isinstance(value, (int, str)) and not isinstance(value, bool)
    fine = fine and value in (1, 2, "transient", "persistent")
    return None if fine else "takes 1 or 2, or transient or persistent"


def _number(least: float, most: float, whole: bool) -> Callable[[object], str | None]:
    """A check of a number from `least` to `most`."""
    kinds = (int,) if whole else (int, float)
    complaint = f"takes a {'whole ' if whole else ''}number from {least} to {most}"

    def check(value: object) -> str | None:
        fine = isinstance(value, kinds) and not isinstance(value, bool) and least <= value <= most
        return None if fine else complaint

    return check


def _table(value: object) -> str | None:
    complaint = "takes an object of arguments with names of at most 255 bytes and values that AMQP has"
    return None if isinstance(value, Mapping) and _fits_table(value, _DEPTH_MOST) else complaint


def _fits_table(value: object, depth: int) -> bool:
    if depth == 0:
        return False
    if isinstance(value, Mapping):
        return all(_words(key) is None and _fits_table(inner, depth - 1) for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return all(_fits_table(inner, depth - 1) for inner in value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
        return True
    if isinstance(value, float):
        # Neither NaN nor infinity: JSON has neither.
        return value - value == 0
    return value is None or (isinstance(value, int) and value in _LONG)


#: Seconds that a queue may be told to live unused, or a message to wait: RabbitMQ's 32 bits of ms.
_SECONDS_MOST = 4_294_967
_COUNT = _number(0, 2**63 - 1, whole=True)

_OPTIONS: Mapping[str, Callable[[object], str | None]] = {
    "alias": _words,
    "auto_delete": _boolean,
    "binding_arguments": _table,
    "binding_key": _words,
    "consumer_arguments": _table,
    "delivery_mode": _delivery_mode,
    "durable": _boolean,
    "exchange_arguments": _table,
    "exchange_auto_delete": _boolean,
    "exchange_durable": _boolean,
    "exclusive": _boolean,
    "expires": _number(0.001, _SECONDS_MOST, whole=False),
    "max_length": _COUNT,
    "max_length_bytes": _COUNT,
    "max_priority": _number(1, 255, whole=True),
    "message_ttl": _number(0, _SECONDS_MOST, whole=False),
    "no_ack": _boolean,
    "no_declare": _boolean,
    "queue_arguments": _table,
    "queue_auto_delete": _boolean,
    "queue_durable": _boolean,
}
