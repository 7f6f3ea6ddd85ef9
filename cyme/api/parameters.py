"""What a request may say besides its path: declared parameters, each with its type and range.

A declaration is all there is to know of a parameter: requests are checked against it
and the API's description is made from it. What depends on more than one value (names,
min and max together) is the controller's to judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from attrs import field, frozen
from twisted.web.server import Request

from cyme.api import jsontext
from cyme.api.bodies import body_fields, query_fields
from cyme.errors import InvalidParameter
from cyme.naming import LABEL, is_label

#: How much of a parameter's name an error repeats, in characters.
QUOTED = 64

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class Kind(Protocol):
    """A type of parameter: how it is written in text and in JSON."""

    @property
    def takes(self) -> str:
        """What a value must be, as the end of the sentence "takes …"."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """The same as a JSON schema, of the value in JSON."""

    def from_text(self, text: str) -> Any:
        """Read a value of a query or a form.

        :raises ValueError: when it is none.
        """

    def from_json(self, value: Any) -> Any:
        """Read a value of a JSON object.

        :raises ValueError: when it is none.
        """


@frozen
class Text:
    """Any text.

    :ivar most: characters; the default is far under what the kernel takes as one
        argument of a command (128 KiB).
    """

    most: int = 16_384

    @property
    def takes(self) -> str:
        return f"text of at most {self.most} characters, without NUL"

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"type": "string", "maxLength": self.most, "pattern": r"^[^\x00\uD800-\uDFFF]*$"}

    def from_text(self, text: str) -> str:
        if len(text) > self.most or jsontext.FORBIDDEN.search(text):
            raise ValueError
        return text

    def from_json(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError
        return self.from_text(value)


@frozen
class Whole:
    """A whole number in a range, both ends included."""

    least: int
    most: int

    @property
    def takes(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    def from_text(self, text: str) -> int:
        # Not `int` alone: it also takes white space, underscores and digits of other scripts.
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError
        return self.from_json(int(text))

    def from_json(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not self.least <= value <= self.most:
            raise ValueError
        return value


@frozen
class Seconds:
    """A duration in seconds, from none to `most`."""

    most: float

    @property
    def takes(self) -> str:
        return f"a number of seconds from 0 to {self.most:g}"

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"type": "number", "minimum": 0, "maximum": self.most}

    def from_text(self, text: str) -> float:
        # Not `float` alone: it also takes white space, underscores, and words such as "nan".
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", text):
            raise ValueError
        return self.from_json(float(text))

    def from_json(self, value: Any) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= self.most:
            raise ValueError
        return float(value)


@frozen
class Size:
    """A number of bytes up to `most`, as `1048576`, `300M` or `1.5G`: units of 1024, in any case."""

    most: int

    @property
    def schema(self) -> Mapping[str, Any]:
        number = r"^([0-9]{1,18}|[0-9]{1,18}(\.[0-9]{1,9})?[kKmMgGtT])?$"
        text = {"type": "string", "pattern": number}
        return {"anyOf": [{"type": "integer", "minimum": 0, "maximum": self.most}, text]}

    @property
    def takes(self) -> str:
        return f"a number of bytes from 0 to {self.most}, also with K, M, G or T behind it (of 1024)"

    def from_text(self, text: str) -> int:
        if re.fullmatch(r"[0-9]{1,18}", text):
            return self.from_json(int(text))
        number = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([kmgt])", text, re.ASCII | re.IGNORECASE)
        if number is None:
            raise ValueError
        return self.from_json(int(Decimal(number[1]) * _UNITS[number[2].lower()]))

    def from_json(self, value: Any) -> int:
        if isinstance(value, str):
            return self.from_text(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= self.most:
            raise ValueError
        return value


@frozen
class Flag:
    """Yes or no."""

    takes = "one of true, false, 1, 0, yes, no"
    schema: Mapping[str, Any] = field(init=False, default={"type": "boolean"})

    def from_text(self, text: str) -> bool:
        word = text.lower()
        if word in ("true", "1", "yes"):
            return True
        if word in ("false", "0", "no"):
            return False
        raise ValueError

    def from_json(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value


@frozen
class Names:
    """Several names; in text they are separated by commas."""

    most: int = 1000

    @property
    def takes(self) -> str:
        return f"at most {self.most} names, separated by commas or as a JSON list"

    @property
    def schema(self) -> Mapping[str, Any]:
        # A comma, or white space around it, would make other names of it in a query.
        name = {"type": "string", "pattern": r"^[^\x00-\x20,\uD800-\uDFFF]+$"}
        return {"type": "array", "items": name, "maxItems": self.most}

    def from_text(self, text: str) -> list[str]:
        return self.from_json([name.strip() for name in text.split(",")])

    def from_json(self, value: Any) -> list[str]:
        if not isinstance(value, list) or len(value) > self.most:
            raise ValueError
        if not all(isinstance(name, str) and name and not jsontext.FORBIDDEN.search(name) for name in value):
            raise ValueError
        return value


@frozen
class OneOf:
    """One of some words."""

    words: tuple[str, ...]

    @property
    def takes(self) -> str:
        return f"one of {', '.join(self.words)}"

    @property
    def schema(self) -> Mapping[str, Any]:
        return {"type": "string", "enum": list(self.words)}

    def from_text(self, text: str) -> str:
        return self.from_json(text)

    def from_json(self, value: Any) -> str:
        if value not in self.words:
            raise ValueError
        return str(value)


@frozen
class Labels:
    """Labels `NAME=VALUE`; in text they are separated by commas."""

    most: int = 64

    @property
    def takes(self) -> str:
        return f"NAME=VALUE, such as gpu=yes; at most {self.most}, separated by commas or as a JSON list"

    @property
    def schema(self) -> Mapping[str, Any]:
        label = {"type": "string", "pattern": f"^(?:{LABEL})$"}
        return {"type": "array", "items": label, "maxItems": self.most}

    def from_text(self, text: str) -> list[str]:
        return self.from_json([label.strip() for label in text.split(",")])

    def from_json(self, value: Any) -> list[str]:
        if not isinstance(value, list) or len(value) > self.most or not all(map(is_label, value)):
            raise ValueError
        return value


@frozen
class Object:
    """A JSON object; in a query or a form it is given as its JSON text."""

    takes = f"a JSON object, at most {jsontext.MOST_DEPTH} levels deep, no key twice"
    schema: Mapping[str, Any] = field(init=False, default={"type": "object"})

    def from_text(self, text: str) -> dict[str, Any]:
        return self.from_json(jsontext.loads(text))

    def from_json(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError
        return value


@frozen(kw_only=True)
class Parameter:
    """One parameter of a route.

    :ivar aliases: other spellings of `name`.
    :ivar repeats: whether it may be given several times; its values are lists, of which it is the sum.
    """

    name: str
    kind: Kind
    description: str
    aliases: tuple[str, ...] = ()
    repeats: bool = False


class Reader:
    """Reads the parameters that one route declares from its requests."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self._known: Mapping[str, Parameter] = {
            spelling: parameter
            for parameter in parameters
            for spelling in (parameter.name, *parameter.aliases)
        }
        names = ", ".join(parameter.name for parameter in parameters)
        self._unknown = f"is not known here; this takes {names or 'no parameters'}"

    def query(self, request: Request) -> dict[str, Any]:
        """The parameters that the query string gives, those without a value left out.

        :raises InvalidParameter: when one is unknown, given twice or not what it takes.
        :raises MalformedRequest: when the query string can't be read.
        """
        return self._read(query_fields(request), _from_text)

    def query_and_body(self, request: Request) -> dict[str, Any]:
        """The same of query string and body together; the query string wins.

        :raises MalformedBody: when the body can't be read.
        """
        fields, are_json = body_fields(request)
        given = self._read(fields, _from_json if are_json else _from_text)
        given.update(self.query(request))
        return given

    def _read(self, fields: Iterable[tuple[str, Any]], convert: Callable[[Kind, Any], Any]) -> dict[str, Any]:
        given: dict[str, Any] = {}
        seen: set[str] = set()
        for name, value in fields:
            parameter = self._known.get(name)
            if parameter is None:
                raise InvalidParameter(name[:QUOTED], self._unknown)
            if parameter.name in seen and not parameter.repeats:
                raise InvalidParameter(name, "is given twice")
            seen.add(parameter.name)
            if value is None or value == "":
                continue
            try:
                read = convert(parameter.kind, value)
                given[parameter.name] = given.get(parameter.name, []) + read if parameter.repeats else read
            except jsontext.NotJSON as error:
                raise InvalidParameter(name, f"takes {parameter.kind.takes}: {error}") from None
            except ValueError:
                raise InvalidParameter(name, f"takes {parameter.kind.takes}") from None
        return given


def _from_text(kind: Kind, value: Any) -> Any:
    return kind.from_text(value)


def _from_json(kind: Kind, value: Any) -> Any:
    return kind.from_json(value)
