"""JSON that came from a stranger: read strictly, within bounds, and refused with a reason."""

from __future__ import annotations

import json
import math
import re
from typing import Any

#: How deeply objects and lists may stand in each other. Far below the interpreter's
#: recursion limit, so that whatever passes here can be written as JSON again anywhere.
MOST_DEPTH = 16

#: How many digits a whole number may have: it has to fit 64 bits (databases, AMQP).
MOST_DIGITS = 18

#: What no text may hold: NUL ends C strings (argv, environment), a lone surrogate is no UTF-8.
FORBIDDEN = re.compile("[\0\ud800-\udfff]")


class NotJSON(ValueError):
    """The text is not JSON that this API takes; the message says why, without quoting values."""


def loads(text: str) -> Any:
    """Read JSON.

    :raises NotJSON: when it does not parse, has a key twice, NaN or Infinity, a number
        out of bounds, too many levels, NUL or half a surrogate pair.
    """
    try:
        value = _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise NotJSON(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise NotJSON(f"more than {MOST_DEPTH} levels deep") from None
    _check(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise NotJSON(f"the key {twice[:64]!r} is given twice")
    return fields


def _whole(text: str) -> int:
    if len(text.lstrip("-")) > MOST_DIGITS:
        raise NotJSON(f"a number has more than {MOST_DIGITS} digits")
    return int(text)


def _real(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise NotJSON("a number is too big")
    return number


def _constant(text: str) -> float:
    raise NotJSON(f"{text} is not JSON")


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_whole, parse_float=_real, parse_constant=_constant
)


def _check(value: Any) -> None:
    rest = [(value, 1)]
    while rest:
        item, depth = rest.pop()
        if isinstance(item, str):
            if FORBIDDEN.search(item):
                raise NotJSON("a text holds NUL or half a surrogate pair")
        elif isinstance(item, (dict, list)):
            if depth > MOST_DEPTH:
                raise NotJSON(f"more than {MOST_DEPTH} levels deep")
            if isinstance(item, dict):
                rest.extend((key, depth) for key in item)
                item = list(item.values())
            rest.extend((inner, depth + 1) for inner in item)
