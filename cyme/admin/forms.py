"""Forms: declared fields, read by the rules of the API's parameters, and shown again when refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from cyme.api import jsontext
from cyme.api.parameters import Kind, Parameter
from cyme.errors import CymeError, InvalidName, InvalidParameter


@frozen(kw_only=True)
class Field:
    """One field of a form.

    :ivar label: what it is called, and `hint` what it is good for.
    :ivar kind: how its text is read; None for text as it is.
    :ivar widget: how it is shown: `text`, `number`, `area`, `select`, `checks` or `secret`.
    :ivar options: value and label of each that can be chosen, for `select` and `checks`.
    :ivar value: what it holds: a text, or of `checks` a tuple of them.
    :ivar problem: what is wrong with that, or None.
    :ivar clears: whether an empty text is a value of its own, and not "as it is".
    :ivar group: in which part of the form it stands; an empty text for the first.
    """

    name: str
    label: str
    hint: str = ""
    kind: Kind | None = None
    widget: str = "text"
    options: Sequence[tuple[str, str]] = ()
    value: Any = ""
    problem: str | None = None
    clears: bool = False
    is_required: bool = False
    group: str = ""


@frozen(kw_only=True)
class Form:
    """Fields together, and what is wrong with all of them.

    :ivar problem: what is wrong with none of them alone, or None.
    """

    fields: Sequence[Field]
    problem: str | None = None

    @property
    def is_refused(self) -> bool:
        """Whether something is wrong."""
        return self.problem is not None or any(one.problem is not None for one in self.fields)

    @property
    def groups(self) -> Sequence[tuple[str, Sequence[Field]]]:
        """The fields, in their parts."""
        names = dict.fromkeys(one.group for one in self.fields)
        return [(name, [one for one in self.fields if one.group == name]) for name in names]

    def fill(self, values: Mapping[str, Any]) -> Form:
        """The same with values where there are any."""
        return evolve(
            self,
            fields=[
                evolve(one, value=_shown(one, values[one.name])) if one.name in values else one
                for one in self.fields
            ],
        )

    def read(self, posted: Mapping[str, Sequence[str]]) -> tuple[Form, dict[str, Any]]:
        """What was posted: the form as it was filled in, and the values of fields that hold one.

        Look at `is_refused` before the values are used.
        """
        fields: list[Field] = []
        values: dict[str, Any] = {}
        for one in self.fields:
            texts = posted.get(one.name, ())
            if one.widget == "checks":
                filled = evolve(one, value=tuple(texts), problem=None)
                values[one.name] = list(texts)
            else:
                text = (texts[-1] if texts else "").replace("\r\n", "\n")
                if one.widget != "area":
                    text = text.strip()
                # What was typed stays, but for secrets: they are not sent back.
                filled = evolve(one, value="" if one.widget == "secret" else text, problem=None)
                if text or (one.clears and one.name in posted):
                    try:
                        values[one.name] = text if one.kind is None or not text else one.kind.from_text(text)
                    except jsontext.NotJSON as problem:
                        filled = evolve(filled, problem=f"takes {_takes(one)}: {problem}")
                    except ValueError:
                        filled = evolve(filled, problem=f"takes {_takes(one)}")
                elif one.is_required:
                    filled = evolve(filled, problem="is needed")
            fields.append(filled)
        return Form(fields=fields), values

    def refuse(self, error: CymeError) -> Form:
        """The same with what the controller found wrong, next to the field that it is about."""
        name = problem = None
        if isinstance(error, InvalidParameter):
            name, problem = error.parameter, error.problem
        elif isinstance(error, InvalidName):
            name, problem = "name", str(error.arguments[2])
        if not any(one.name == name for one in self.fields):
            return evolve(self, problem=str(error))
        return evolve(
            self,
            fields=[evolve(one, problem=problem) if one.name == name else one for one in self.fields],
        )


def of(parameters: Sequence[Parameter], name: str, label: str, **more: Any) -> Field:
    """A field for one of the API's parameters; its hint, unless another is given, is the API's."""
    (parameter,) = (one for one in parameters if one.name == name)
    hint = more.pop("hint", parameter.description)
    return Field(name=name, label=label, kind=parameter.kind, hint=hint, **more)


def _shown(field: Field, value: Any) -> Any:
    if field.widget == "checks":
        return tuple(value or ())
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _takes(field: Field) -> str:
    return field.kind.takes if field.kind is not None else "text"
