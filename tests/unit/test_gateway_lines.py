"""The reactor's half of the gateway's connections, with sessions that do as they are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.errors import BrokerAway, Unroutable
from cyme.gateway.answers import MOST_DEPTH, Answer, read_answer
from cyme.gateway.lines import CONFIRM_TIMEOUT, STORE_AGAIN, CollectingLine, PublishingLine
from cyme.gateway.messages import Kind, Outgoing, Texts, body_of
from cyme.queued import TaskState
from tests.contracts.gateway import MESSAGE

URL = "amqp://me:secret@broker//"
ID = "01234567-0000-8000-8000-000000000000"


class FakeSession:
    """A session whose thread is the test."""

    def __init__(self, url: str, line: Any) -> None:
        self.url = url
        self.line = line
        self.sent: list[list[str]] = []
        self.is_stopped = False

    def start(self) -> None:
        pass

    def stop(self) -> None:
        self.is_stopped = True

    def join(self) -> None:
        pass

    def progress(self) -> object:
        return 1

    def submit(self, messages: list[Outgoing]) -> None:
        self.sent.append([one.task_id for one in messages])


def message(task_id: str) -> Outgoing:
    return Outgoing(task_id, Kind(MESSAGE.queue, "t", None), b"[]", None, None)


class LineCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sessions: list[FakeSession] = []

    def make(self, url: str, line: Any) -> FakeSession:
        self.sessions.append(FakeSession(url, line))
        return self.sessions[-1]


class PublishingTests(LineCase):
    """`PublishingLine`."""

    def setUp(self) -> None:
        super().setUp()
        self.line = PublishingLine(self.clock, URL, self.make, lambda failures: 5.0 * failures)
        self.line.connect()

    def test_confirmed(self) -> None:
        """A message is published when the broker confirms it, and each on its own."""
        first, second = (self.line.publish(message(one)) for one in ("t1", "t2"))
        self.line.settled(self.sessions[0], [("t2", None)])
        self.assertNoResult(first)
        self.successResultOf(second)
        self.line.settled(self.sessions[0], [("t1", Unroutable("q", "amqp://broker", "NO_ROUTE"))])
        self.failureResultOf(first, Unroutable)

    def test_together(self) -> None:
        """What is asked for in one turn of the reactor travels together."""
        waiting = [self.line.publish(message(one)) for one in ("t1", "t2")]
        self.assertEqual(self.sessions[0].sent, [])
        self.clock.advance(0)
        self.assertEqual(self.sessions[0].sent, [["t1", "t2"]])
        self.line.settled(self.sessions[0], [("t1", None), ("t2", None)])
        for one in waiting:
            self.successResultOf(one)

    def test_lost(self) -> None:
        """What is not confirmed when the connection is lost has failed; then it is tried again."""
        waiting = self.line.publish(message("t1"))
        self.line.ended(self.sessions[0], "it was reset")
        problem = self.failureResultOf(waiting, BrokerAway).value
        self.assertIn("it was reset", str(problem))
        self.assertNotIn("secret", str(problem))
        self.failureResultOf(self.line.publish(message("t2")), BrokerAway)
        self.clock.advance(5.0)
        again = self.line.publish(message("t3"))
        self.line.settled(self.sessions[1], [("t3", None)])
        self.successResultOf(again)

    def test_silence(self) -> None:
        """A broker that does not confirm in time has failed, and gets a new connection."""
        first = self.line.publish(message("t1"))
        self.clock.advance(CONFIRM_TIMEOUT - 1)
        second = self.line.publish(message("t2"))
        self.line.settled(self.sessions[0], [("t1", None)])
        self.successResultOf(first)
        self.clock.advance(1)
        self.assertNoResult(second)
        self.clock.advance(CONFIRM_TIMEOUT - 1)
        self.failureResultOf(second, BrokerAway)
        self.assertTrue(self.sessions[0].is_stopped)
        self.line.ended(self.sessions[0], "late")
        self.clock.advance(5.0)
        self.line.opened(self.sessions[1])
        self.assertTrue(self.line.reachable)

    def test_late_confirm(self) -> None:
        """A confirm for what was given up changes nothing."""
        waiting = self.line.publish(message("t1"))
        self.line.ended(self.sessions[0], "it was reset")
        self.failureResultOf(waiting, BrokerAway)
        self.line.settled(self.sessions[0], [("t1", None)])

    def test_close(self) -> None:
        """A line is closed when its thread has ended, and leaves no call behind."""
        waiting = self.line.publish(message("t1"))
        closed = self.line.close()
        self.failureResultOf(waiting, BrokerAway)
        self.assertNoResult(closed)
        self.line.ended(self.sessions[0], "it was closed")
        self.successResultOf(closed)
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class CollectingTests(LineCase):
    """`CollectingLine`."""

    def setUp(self) -> None:
        super().setUp()
        self.kept: list[list[Answer]] = []
        self.outcome: Callable[[], Deferred[None]] = lambda: succeed(None)
        self.line = CollectingLine(self.clock, URL, self.make, lambda failures: 5.0, store=self.keep)
        self.line.connect()
        self.stored: list[str] = []

    def keep(self, answers: list[Answer]) -> Deferred[None]:
        self.kept.append(answers)
        return self.outcome()

    def arrive(self, name: str) -> None:
        answers = [Answer(name, TaskState.SUCCESS, None)]
        self.line.arrived(self.sessions[-1], answers, [], lambda: self.stored.append(name))

    def test_stored(self) -> None:
        """A batch is acknowledged once it is stored."""
        waiting: Deferred[None] = Deferred()
        self.outcome = lambda: waiting
        self.arrive("t1")
        self.assertEqual(self.stored, [])
        waiting.callback(None)
        self.assertEqual(self.stored, ["t1"])

    def test_not_stored(self) -> None:
        """A batch that can't be stored is not acknowledged, and tried again until it can."""
        self.outcome = lambda: fail(OSError("disk full"))
        self.arrive("t1")
        self.clock.advance(STORE_AGAIN)
        self.assertEqual((len(self.kept), self.stored), (2, []))
        self.outcome = lambda: succeed(None)
        self.clock.advance(STORE_AGAIN)
        self.assertEqual(self.stored, ["t1"])

    def test_order(self) -> None:
        """A batch is not acknowledged before those that came earlier: to AMQP that is one acknowledgement."""
        self.outcome = lambda: fail(OSError("disk full"))
        self.arrive("t1")
        self.outcome = lambda: succeed(None)
        self.arrive("t2")
        self.assertEqual(self.stored, [])
        self.clock.advance(STORE_AGAIN)
        self.assertEqual(self.stored, ["t1", "t2"])

    def test_lost_while_stored(self) -> None:
        """What is stored, or is not, after its connection was lost has no consequence."""
        waiting: list[Deferred[None]] = []

        def outcome() -> Deferred[None]:
            waiting.append(Deferred())
            return waiting[-1]

        self.outcome = outcome
        self.arrive("t1")
        self.arrive("t2")
        self.line.ended(self.sessions[0], "it was reset")
        self.clock.advance(5.0)
        self.arrive("t1")
        waiting[0].callback(None)
        waiting[1].errback(OSError("disk full"))
        self.assertEqual((self.stored, self.clock.getDelayedCalls()), ([], []))
        waiting[2].callback(None)
        self.assertEqual(self.stored, ["t1"])

    def test_lost(self) -> None:
        """A batch of a connection that was lost is not written again: it comes again."""
        self.outcome = lambda: fail(OSError("disk full"))
        self.arrive("t1")
        self.line.ended(self.sessions[0], "it was reset")
        self.clock.advance(STORE_AGAIN)
        self.assertEqual((len(self.kept), self.stored), (1, []))


class AnswersTests(SynchronousTestCase):
    """What workers say."""

    def test_garbage(self) -> None:
        """What is no result is refused, whatever it is."""
        for body, kind in (
            (b"{", "application/json"),
            (b"\xff", "application/json"),
            (b"[]", "application/json"),
            (b"{}", "application/json"),
            (b'{"task_id": 7, "status": "SUCCESS"}', "application/json"),
            (b'{"task_id": "t", "status": "SUCCESS"}', "application/json"),
            (b'{"task_id": "\\ud800", "status": "SUCCESS"}', "application/json"),
            (f'{{"task_id": "{ID}", "status": "DONE"}}'.encode(), "application/json"),
            (f'{{"task_id": "{ID}", "status": []}}'.encode(), "application/json"),
            (b"[" * 100_000, "application/json"),
            (b"\x80\x04.", "application/x-python-serialize"),
            (b"{}", None),
        ):
            with self.assertRaises(ValueError, msg=repr(body[:40])):
                read_answer(body, kind)

    def test_failure(self) -> None:
        """An exception becomes a type and a message, in whatever shape it comes."""
        for result, error in (
            ({"exc_type": "E", "exc_message": ["a", 1], "exc_module": "m"}, ["E", "a, 1"]),
            ({"exc_type": "E", "exc_message": "a"}, ["E", "a"]),
            ({}, ["Exception", ""]),
            ("text", ["Exception", "text"]),
            (None, ["Exception", ""]),
        ):
            body = {"task_id": ID, "status": "FAILURE", "result": result}
            text = read_answer(json.dumps(body).encode(), "application/json").text
            self.assertEqual(
                json.loads(text or ""),
                {"result": None, "error": dict(zip(("type", "message"), error, strict=True))},
            )

    def success(self, result: str) -> Any:
        """What is kept of a result that is this JSON text."""
        body = f'{{"task_id": "{ID}", "status": "SUCCESS", "result": {result}}}'
        answer = read_answer(body.encode(), "application/json")
        self.assertIs(answer.state, TaskState.SUCCESS)
        text = answer.text or ""
        self.assertTrue(text.isascii())
        return json.loads(text, parse_constant=self.fail)

    def test_no_json(self) -> None:
        """Numbers that Python writes and strict JSON lacks are null."""
        kept = self.success('[NaN, Infinity, -Infinity, 1e999, 1.5, "NaN", "\\ud800"]')
        self.assertEqual(kept, {"result": [None, None, None, None, 1.5, "NaN", "\ud800"], "error": None})

    def test_deep(self) -> None:
        """A result of many levels is kept, one of too many is not: the task has succeeded all the same."""
        for brackets in (("[", "]"), ('{"a": ', "}")):
            opened, closed = (bracket * MOST_DEPTH for bracket in brackets)
            kept = self.success(f"{opened}7{closed}")
            self.assertIsNone(kept["error"])
            self.assertIn("7", json.dumps(kept["result"]))
            kept = self.success(f"[{opened}7{closed}]")
            self.assertIsNone(kept["result"])
            self.assertIn("levels", kept["error"]["message"])


class TextsTests(SynchronousTestCase):
    """Messages for kombu's virtual transports."""

    def test_template(self) -> None:
        """Two messages of a kind differ in what is theirs alone, and hold what Celery needs."""
        texts = Texts("cyme.results.b1", "cyme@here")
        kind = Kind(MESSAGE.queue, "proj.add", 3)
        body = body_of([1], {"x": "<é>"})
        for name in ("t1", "t2"):
            said = json.loads(texts.of(Outgoing(name, kind, body, None, None), f"tag {name}"))
            self.assertEqual((said["headers"]["id"], said["headers"]["root_id"]), (name, name))
            self.assertEqual(said["headers"]["task"], "proj.add")
            properties = said["properties"]
            self.assertEqual(properties["correlation_id"], name)
            self.assertEqual(properties["delivery_tag"], f"tag {name}")
            self.assertEqual((properties["reply_to"], properties["priority"]), ("cyme.results.b1", 3))

    def test_times(self) -> None:
        """Times are as Celery reads them."""
        texts = Texts("cyme.results.b1", "cyme@here")
        kind = Kind(MESSAGE.queue, "proj.add", None)
        said = json.loads(texts.of(Outgoing("t1", kind, b"[]", 0.5, 86400.0), "tag"))
        self.assertEqual(said["headers"]["eta"], "1970-01-01T00:00:00.500000+00:00")
        self.assertEqual(said["headers"]["expires"], "1970-01-02T00:00:00+00:00")
