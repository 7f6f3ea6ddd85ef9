"""Declarations as JSON between branches, and back.

Note [Declarations on the wire]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
    {"kind": "instance", "name": "w1", "app": "foo", ..., "version": [STAMP, BRANCH]}

A field that has its default is left out, so that branches of an earlier version, which lack a new
field, understand all declarations in which nobody uses it. One that does use it they refuse whole,
by its name, and hold what they had: a declaration that lost a field on its way through them would
come back to others under the same version, which is to mean one thing everywhere. They have it
when they are upgraded. A password in a broker's URL travels as it is: the bus is as secret as the
database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, get_args

import attrs

from cyme.declarations import Declaration, Turn, Version
from cyme.faults import fault_of

#: The kinds of declarations, by name.
KINDS: Mapping[str, type[Any]] = {kind.kind: kind for kind in get_args(Declaration)}

#: The longest text and the longest list, and the highest number, that a declaration from elsewhere may have.
TEXT_MOST, LIST_MOST, NUMBER_MOST = 1024 * 1024, 1_000_000, 2**63 - 1


class NotUnderstood(ValueError):
    """What another branch sent is no declaration that this version knows; the text says why."""


def to_json(declaration: Declaration) -> dict[str, Any]:
    """A declaration as JSON, see Note [Declarations on the wire]."""
    found: dict[str, Any] = {"kind": declaration.kind}
    for field in attrs.fields(type(declaration)):
        value = getattr(declaration, field.name)
        if field.default is attrs.NOTHING or value != field.default:
            found[field.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, (Version, Turn)):
        return list(attrs.astuple(value))
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def from_json(value: object) -> Declaration:
    """The declaration that another branch sent.

    :raises NotUnderstood: when it is none.
    """
    if not isinstance(value, dict):
        raise NotUnderstood("it is no object")
    kind = KINDS.get(str(value.get("kind")))
    if kind is None:
        raise NotUnderstood(f"the kind {value.get('kind')!r:.50} is not known")
    fields = {field.name: field for field in attrs.fields(kind)}
    unknown = sorted(str(name) for name in value if name != "kind" and name not in fields)
    if unknown:
        raise NotUnderstood(f"the field {unknown[0]!r:.50} of {kind.kind}s is not known")
    given = {}
    for name, field in fields.items():
        if name in value:
            try:
                given[name] = _READERS[str(field.type)](value[name])
            except (TypeError, ValueError, KeyError):
                raise NotUnderstood(f"the field {name!r} of this {kind.kind} can't be") from None
        elif field.default is attrs.NOTHING:
            raise NotUnderstood(f"this {kind.kind} has no {name!r}")
    declaration: Declaration = kind(**given)
    fault = fault_of(declaration)
    if fault is not None:
        raise NotUnderstood(fault)
    return declaration


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > TEXT_MOST:
        raise TypeError
    # Half of a surrogate pair is JSON, but no text that a database takes.
    value.encode()
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or abs(value) > NUMBER_MOST:
        raise TypeError
    return value


def _real(value: Any) -> float:
    if type(value) not in (int, float) or not isfinite(value):
        raise TypeError
    return float(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > LIST_MOST:
        raise TypeError
    return value


def _version(value: Any) -> Version:
    stamp, branch = _list(value)
    if _whole(stamp) < 1:
        raise ValueError
    return Version(stamp, _text(branch))


def _turn(value: Any) -> Turn:
    name, generation, began_at = _list(value)
    return Turn(_text(name), _whole(generation), _real(began_at))


def _pair(value: Any) -> tuple[str, str]:
    first, second = _list(value)
    return _text(first), _text(second)


def _optional(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _several(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: tuple(read(one) for one in _list(value))


#: A field's type, as it is written in `cyme.declarations` -> what reads its JSON.
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "str": _text,
    "str | None": _optional(_text),
    "bool": _truth,
    "int": _whole,
    "int | None": _optional(_whole),
    "float": _real,
    "float | None": _optional(_real),
    "Version": _version,
    "tuple[str, ...]": _several(_text),
    "tuple[Turn, ...]": _several(_turn),
    "tuple[tuple[str, str], ...]": _several(_pair),
}
