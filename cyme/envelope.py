"""What branches write to each other: requests and answers, to bytes and back.

Note [Wire format]
~~~~~~~~~~~~~~~~~~
A message is a JSON object in UTF-8. `v` is the version of this format; a branch that reads
another one refuses it by name, so a change that an older branch may ignore is a new field
(unknown ones are ignored) and any other change is a new version.

    request  {"v": 1, "kind": "request", "id", "actor", "name", "verb", "arguments",
              "branch", "reply_to", "deadline", "who"}
    answer   {"v": 1, "kind": "answer", "id", "branch", "ok": VALUE}
             {"v": 1, "kind": "answer", "id", "branch", "nok": {"error", "arguments"}}

`name` is null when the request is for whichever branch takes it, or for all. `branch` is the
sender. `deadline` is in seconds since the epoch: the bus drops what expires on its way, and this
says it once more to a branch that was frozen with the message in its hands. It supposes clocks
that differ by less than a caller waits. `who` says who asked, for the why-log alone (Note [Who
asked] in `cyme.asking`); a message of a branch that knew no such field is its own.

Note [Errors on the wire]
~~~~~~~~~~~~~~~~~~~~~~~~~
An error travels as the name of its class and its constructor's arguments, and only if its class
stands in `cyme.errors`: that table is all that a peer can make a branch construct. Everything else
is logged, under an incident id, where it happened, and arrives as `RemoteFailure` with that id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from attrs import field, frozen, validators

from cyme import errors
from cyme.errors import BodyTooLarge, CymeError, RemoteFailure

#: The version of the wire format.
VERSION = 1

#: The errors that travel, by name.
ERRORS: Mapping[str, type[CymeError]] = {
    name: thing
    for name, thing in vars(errors).items()
    if isinstance(thing, type) and issubclass(thing, CymeError)
}


class Unreadable(Exception):
    """A message that is not one of ours.

    :ivar request: the request's id and inbox as far as they could be read, so that
        its sender can be told; or None.
    :ivar version: the version of the wire format that it is in, where that is another one.
    """

    def __init__(
        self, problem: str, request: tuple[str, str] | None = None, version: str | None = None
    ) -> None:
        super().__init__(problem)
        self.request = request
        self.version = version


_text = validators.instance_of(str)
_object = validators.instance_of(dict)


def _number(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"a number is wanted, not {value!r:.50}")
    return float(value)


@frozen(kw_only=True)
class Request:
    """Somebody asks an actor to do something; see Note [Wire format]."""

    id: str = field(validator=_text)
    actor: str = field(validator=_text)
    name: str | None = field(validator=validators.optional(_text))
    verb: str = field(validator=_text)
    arguments: dict[str, Any] = field(validator=_object)
    branch: str = field(validator=_text)
    reply_to: str = field(validator=_text)
    deadline: float = field(converter=_number)
    who: str | None = field(default=None, validator=validators.optional(_text))


@frozen(kw_only=True)
class Answer:
    """What came of a request.

    :ivar ok: the verb's answer, any JSON value.
    :ivar nok: the error's class name and arguments, or None when there was none.
    """

    id: str = field(validator=_text)
    branch: str = field(validator=_text)
    ok: Any = None
    nok: dict[str, Any] | None = field(default=None, validator=validators.optional(_object))

    def result(self) -> Any:
        """The verb's answer.

        :raises CymeError: the error that the other side answered with.
        """
        if self.nok is not None:
            raise error_from(self.nok, self.branch)
        return self.ok


Message: TypeAlias = Request | Answer


def encode(message: Message, limit: int) -> bytes:
    """A message as bytes.

    :param limit: in bytes.
    :raises BodyTooLarge: when it is over the limit.
    :raises TypeError, ValueError: when it holds what JSON can't say.
    """
    if isinstance(message, Request):
        fields: dict[str, Any] = {
            "kind": "request",
            "id": message.id,
            "actor": message.actor,
            "name": message.name,
            "verb": message.verb,
            "arguments": message.arguments,
            "branch": message.branch,
            "reply_to": message.reply_to,
            "deadline": message.deadline,
            "who": message.who,
        }
    else:
        fields = {"kind": "answer", "id": message.id, "branch": message.branch}
        fields.update({"ok": message.ok} if message.nok is None else {"nok": message.nok})
    body = json.dumps({"v": VERSION, **fields}, ensure_ascii=False, allow_nan=False).encode()
    if len(body) > limit:
        raise BodyTooLarge(limit)
    return body


def decode(body: bytes, limit: int) -> Message:
    """The message in `body`.

    :param limit: in bytes.
    :raises Unreadable: when there is none.
    """
    if len(body) > limit:
        raise Unreadable(f"{len(body)} bytes, the limit is {limit}")
    try:
        fields = json.loads(body.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as problem:
        raise Unreadable(f"not JSON: {problem}") from None
    if not isinstance(fields, dict):
        raise Unreadable("not an object")
    version = fields.get("v")
    if type(version) is not int or version != VERSION:
        raise Unreadable(
            f"version {version!r:.50} of the wire format; this branch speaks version {VERSION}",
            _sender(fields),
            f"{version!r:.50}",
        )
    try:
        return _message(fields)
    except (KeyError, TypeError, ValueError) as problem:
        raise Unreadable(f"field {problem!s:.200}", _sender(fields)) from None


def _message(fields: dict[str, Any]) -> Message:
    kind = fields.get("kind")
    if kind == "request":
        return Request(
            id=fields["id"],
            actor=fields["actor"],
            name=fields["name"],
            verb=fields["verb"],
            arguments=fields["arguments"],
            branch=fields["branch"],
            reply_to=fields["reply_to"],
            deadline=fields["deadline"],
            who=fields.get("who"),
        )
    if kind == "answer":
        return Answer(id=fields["id"], branch=fields["branch"], ok=fields.get("ok"), nok=fields.get("nok"))
    raise ValueError(f"'kind' is {kind!r:.50}")


def _sender(fields: dict[str, Any]) -> tuple[str, str] | None:
    """Where to say that a request can't be read."""
    sender, inbox = fields.get("id"), fields.get("reply_to")
    return (sender, inbox) if isinstance(sender, str) and isinstance(inbox, str) else None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def error_to(error: CymeError) -> dict[str, Any]:
    """An error as it travels.

    :raises LookupError: when it is none of those that do.
    """
    name = type(error).__name__
    if ERRORS.get(name) is not type(error):
        raise LookupError(name)
    return {"error": name, "arguments": list(error.arguments)}


def error_from(nok: Mapping[str, Any], branch: str) -> CymeError:
    """The error that travelled; `RemoteFailure` for one that this branch does not know.

    :param branch: who sent it.
    """
    name, arguments = nok.get("error"), nok.get("arguments")
    if isinstance(name, str) and isinstance(arguments, list) and name in ERRORS:
        try:
            error = ERRORS[name](*arguments)
            error.sentence()
        except (TypeError, ValueError, LookupError):
            return RemoteFailure(branch, f"(an unreadable {name})")
        return error
    return RemoteFailure(branch, f"(an unknown error: {name!r:.100})")
