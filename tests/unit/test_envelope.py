"""What branches write to each other."""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cyme import errors
from cyme.envelope import ERRORS, Answer, Request, Unreadable, decode, encode, error_from, error_to
from cyme.errors import BodyTooLarge, CymeError, NoReply, NoSuchApp, RemoteFailure

LIMIT = 10_000

REQUEST = Request(
    id="r1",
    actor="Instance",
    name="w1",
    verb="consume",
    arguments={"queue": "tâsks", "wait": 1.5},
    branch="b1",
    reply_to="inbox",
    deadline=1000.5,
    who="http 192.0.2.1",
)

#: One value for each error's constructor, by its argument's name.
VALUES = {"limit": 1000, "seconds": 2.5, "app": "foo"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def fields(**changed: Any) -> dict[str, Any]:
    """The request as JSON fields, some of them changed; None leaves one out."""
    whole = {**json.loads(encode(REQUEST, LIMIT)), **changed}
    return {key: value for key, value in whole.items() if value is not None or key == "name"}


class EnvelopeTests(SynchronousTestCase):
    """Messages to bytes and back."""

    def test_request(self) -> None:
        """A request survives the way."""
        for name in ("w1", None):
            request = evolve(REQUEST, name=name)
            self.assertEqual(decode(encode(request, LIMIT), LIMIT), request)

    def test_answer(self) -> None:
        """An answer survives the way, whether it holds a value or an error."""
        for answer in (
            Answer(id="r1", branch="b1", ok={"name": "w1", "queues": ["a"]}),
            Answer(id="r1", branch="b1", ok=None),
            Answer(id="r1", branch="b1", nok=error_to(NoSuchApp("foo"))),
        ):
            self.assertEqual(decode(encode(answer, LIMIT), LIMIT), answer)

    def test_shape(self) -> None:
        """The bytes are the JSON that the wire format promises."""
        self.assertEqual(
            json.loads(encode(REQUEST, LIMIT)),
            {
                "v": 1,
                "kind": "request",
                "id": "r1",
                "actor": "Instance",
                "name": "w1",
                "verb": "consume",
                "arguments": {"queue": "tâsks", "wait": 1.5},
                "branch": "b1",
                "reply_to": "inbox",
                "deadline": 1000.5,
                "who": "http 192.0.2.1",
            },
        )

    def test_without_who(self) -> None:
        """A request of a branch that says nothing about who asked is read all the same."""
        self.assertEqual(decode(json.dumps(fields(who=None)).encode(), LIMIT), evolve(REQUEST, who=None))

    def test_unknown_fields(self) -> None:
        """Fields that this version does not know are ignored."""
        self.assertEqual(decode(json.dumps(fields(colour="blue")).encode(), LIMIT), REQUEST)

    def test_unknown_version(self) -> None:
        """Another version is refused by name, and the sender's address is read all the same."""
        for version in (2, 0, "1", 1.0, True, None):
            with self.assertRaises(Unreadable) as caught:
                decode(json.dumps(fields(v=version)).encode(), LIMIT)
            self.assertIn("this branch speaks version 1", str(caught.exception))
            self.assertEqual(caught.exception.request, ("r1", "inbox"))

    def test_unreadable(self) -> None:
        """What is no message is refused, whatever it is."""
        cases: list[bytes] = [
            b"",
            b"\xff",
            b"{",
            b"[]",
            b"null",
            b'"text"',
            b"[" * 100_000,
            b'{"v": 1, "kind": "request"}',
            b'{"v": 1, "kind": "answer", "id": NaN, "branch": "b1"}',
            b'{"v": 1, "kind": "answer", "id": "r1", "branch": "b1", "ok": Infinity}',
        ]
        changed: list[dict[str, Any]] = [
            {"kind": "gossip"},
            {"kind": None},
            {"id": 1},
            {"id": None},
            {"actor": ["Instance"]},
            {"name": 5},
            {"verb": None},
            {"arguments": []},
            {"branch": {}},
            {"reply_to": 1},
            {"deadline": "soon"},
            {"deadline": True},
        ]
        cases += [json.dumps(fields(**change)).encode() for change in changed]
        cases.append(json.dumps({"v": 1, "kind": "answer", "id": "r1", "branch": "b1", "nok": []}).encode())
        for body in cases:
            with self.assertRaises(Unreadable, msg=body[:100]):
                decode(body, 1_000_000)

    @given(json_values)
    def test_any_json(self, value: Any) -> None:
        """No JSON value whatever breaks the reading of a message."""
        for body in (value, {"v": 1, "kind": "request", "id": value}, fields(arguments=value)):
            try:
                decode(json.dumps(body).encode(), LIMIT)
            except Unreadable:
                pass

    @given(st.binary())
    def test_any_bytes(self, body: bytes) -> None:
        """No bytes whatever break the reading of a message."""
        self.assertRaises(Unreadable, decode, body, LIMIT)

    @given(json_values)
    def test_any_answer(self, value: Any) -> None:
        """Every JSON value can be an answer, and arrives as it was."""
        try:
            body = encode(Answer(id="r1", branch="b1", ok=value), LIMIT)
        except (UnicodeEncodeError, BodyTooLarge):
            return
        answer = decode(body, LIMIT)
        assert isinstance(answer, Answer)
        self.assertEqual(answer.result(), value)

    def test_limit(self) -> None:
        """What is over the limit is neither written nor read."""
        body = encode(REQUEST, LIMIT)
        self.assertEqual(decode(body, len(body)), REQUEST)
        self.assertRaises(BodyTooLarge, encode, REQUEST, len(body) - 1)
        self.assertRaises(Unreadable, decode, body, len(body) - 1)

    def test_unsayable(self) -> None:
        """What JSON can't say is refused before it is sent."""
        for value in (float("nan"), object(), {1, 2}, b"bytes", "\ud800"):
            request = evolve(REQUEST, arguments={"value": value})
            self.assertRaises((TypeError, ValueError), encode, request, LIMIT)


class ErrorsOnTheWireTests(SynchronousTestCase):
    """Errors to JSON and back."""

    def test_every_error(self) -> None:
        """Every error of `cyme.errors` arrives as itself, saying the same."""
        for error_class in ERRORS.values():
            names = error_class.__init__.__annotations__
            arguments = [VALUES.get(name, name) for name in names if name not in ("return", "arguments")]
            error = error_class(*arguments)
            arrived = error_from(json.loads(json.dumps(error_to(error))), "b2")
            self.assertIs(type(arrived), error_class)
            self.assertEqual((arrived.arguments, str(arrived)), (error.arguments, str(error)))

    def test_table(self) -> None:
        """The table holds the errors of `cyme.errors` and nothing else."""
        self.assertIs(ERRORS["NoSuchApp"], NoSuchApp)
        self.assertEqual({thing.__module__ for thing in ERRORS.values()}, {errors.__name__})

    def test_not_in_table(self) -> None:
        """An error from elsewhere does not travel, also not under the name of one that does."""

        class Private(CymeError):
            pass

        class NoSuchApp(CymeError):
            pass

        self.assertRaises(LookupError, error_to, Private("secret"))
        self.assertRaises(LookupError, error_to, NoSuchApp("foo"))

    def test_unknown(self) -> None:
        """An error that this branch does not know, or can't build, is its sender's failure."""
        cases: list[dict[str, Any]] = [
            {},
            {"error": "NoSuchThing", "arguments": []},
            {"error": "Exception", "arguments": ["x"]},
            {"error": "Any", "arguments": ["x"]},
            {"error": ["NoSuchApp"], "arguments": ["x"]},
            {"error": "NoSuchApp", "arguments": {}},
            {"error": "NoSuchApp", "arguments": []},
            {"error": "NoSuchApp", "arguments": ["a", "b", "c"]},
            {"error": "NoReply", "arguments": ["Instance", "w1", "soon"]},
        ]
        for nok in cases:
            error = error_from(nok, "b2")
            self.assertIsInstance(error, RemoteFailure, nok)
            self.assertEqual(error.arguments[0], "b2")
            self.assertTrue(str(error))

    def test_result(self) -> None:
        """An answer with an error raises it."""
        answer = Answer(id="r1", branch="b1", nok=error_to(NoReply("Instance", "w1", 5.0)))
        with self.assertRaises(NoReply) as caught:
            answer.result()
        self.assertEqual(caught.exception.arguments, ("Instance", "w1", 5.0))
