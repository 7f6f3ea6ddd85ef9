"""Remote control without threads: lines over sessions that the test plays."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from cyme.errors import BrokerAway
from cyme.remote import RemoteControl
from cyme.remote.lines import ECHO_INTERVAL, ECHO_TIMEOUT, MOST_QUESTIONS, Line
from cyme.remote.mailbox import Envelope, Question
from tests.contracts.remote import make_remote_tests
from tests.fakes.remote import FakeRemoteControl

BROKER = "amqp://user:s3cr3t@broker:5672//"


class FakeWorld:
    """The fake, for its contract."""

    def __init__(self, case: TestCase) -> None:
        self._clock = Clock()
        self.remote = FakeRemoteControl(self._clock)
        self.broker, self.absent = BROKER, "amqp://user:hidden@nowhere//"
        for name in ("w1@host", "w2@host", "mute@host"):
            self.remote.node(self.broker, name)
        self.remote.mute("mute@host")
        self.remote.broker_down(self.absent)
        case.addCleanup(lambda: case.assertEqual(self._clock.getDelayedCalls(), []))
        case.addCleanup(self.remote.close)

    def known(self, broker: str) -> Deferred[bool]:
        return succeed(bool(self.remote.reachable(broker)))

    def pass_time(self, seconds: float) -> Deferred[None]:
        self._clock.advance(seconds)
        return succeed(None)


def fake_world(case: TestCase) -> Deferred[Any]:
    """A fixture for the contract."""
    return succeed(FakeWorld(case))


class FakeRemoteControlTests(make_remote_tests(fake_world)):  # type: ignore[misc]
    """`FakeRemoteControl` keeps the contract."""


class FakeScriptTests(SynchronousTestCase):
    """What tests can make the fake do."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.remote = FakeRemoteControl(self.clock)
        self.remote.node(BROKER, "w1@host")

    def ask(self) -> Any:
        return self.remote.ask(BROKER, "ping", ["w1@host"], timeout=1)

    def test_delay(self) -> None:
        """Answers take as long as the script says, and never longer than the question's time."""
        self.remote.delay = 0.5
        asked = self.ask()
        self.clock.advance(0.4)
        self.assertNoResult(asked)
        self.clock.advance(0.1)
        self.assertEqual(len(self.successResultOf(asked)), 1)
        self.remote.delay = 2
        asked = self.ask()
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(asked), {})

    def test_outage(self) -> None:
        """An outage fails questions, is told to subscribers, and ends in a revival."""
        told: list[tuple[str, bool]] = []
        self.remote.subscribe(lambda broker, reachable: told.append((broker, reachable)))
        self.remote.delay = 0.5
        asked = self.ask()
        self.remote.broker_down(BROKER)
        self.failureResultOf(asked, BrokerAway)
        self.clock.advance(7)
        self.remote.broker_up(BROKER)
        self.assertEqual(told, [(BROKER, False), (BROKER, True)])
        self.assertEqual(self.remote.revived_at(BROKER), 7)


@define(eq=False)
class PlayedSession:
    """A session without a thread or a broker."""

    url: str
    listener: Line
    reply_key: str = "key"
    started: bool = False
    stopped: bool = False
    joined: bool = False
    refuse: bool = False
    turns: int | None = None
    sent: list[tuple[Question, Envelope]] = field(factory=list)
    forgotten: list[Question] = field(factory=list)

    def start(self) -> None:
        if self.refuse:
            raise RuntimeError("can't start new thread")
        self.started = True

    def submit(self, question: Question, envelope: Envelope) -> None:
        self.sent.append((question, envelope))

    def forget(self, question: Question) -> None:
        self.forgotten.append(question)

    def stop(self) -> None:
        self.stopped = True

    def progress(self) -> object:
        return self.turns

    def join(self) -> None:
        self.joined = True

    def reply(self, text: str, which: int = -1) -> None:
        """Play the thread that received a reply."""
        question, _ = self.sent[which]
        if question.take(text):
            self.listener.answered(self, question)


class RemoteControlTests(SynchronousTestCase):
    """The reactor's half of remote control."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.sessions: list[PlayedSession] = []
        self.delays: list[int] = []
        self.told: list[tuple[str, bool]] = []
        self.refuse = False
        self.remote = RemoteControl(
            self.clock, retry_policy=self.delay, connect_timeout=5.0, make_session=self.make_session
        )
        self.remote.subscribe(lambda broker, reachable: self.told.append((broker, reachable)))
        self.addCleanup(self.finish)

    def finish(self) -> None:
        self.remote.close()
        for session in self.sessions:
            session.listener.ended(session, "it was closed")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def delay(self, failures: int) -> float:
        self.delays.append(failures)
        return float(failures)

    def make_session(self, url: str, listener: Line) -> PlayedSession:
        session = PlayedSession(url, listener, refuse=self.refuse)
        self.sessions.append(session)
        return session

    def connected(self, has_heartbeats: bool = True) -> PlayedSession:
        self.remote.reachable(BROKER)
        session = self.sessions[-1]
        session.listener.opened(session, has_heartbeats)
        return session

    def lose(self, session: PlayedSession, problem: str = "connection refused") -> None:
        session.listener.ended(session, problem)

    def ask(self, *nodes: str, timeout: float = 3.0, **arguments: Any) -> Deferred[Any]:
        return self.remote.ask(BROKER, "ping", nodes, arguments, timeout=timeout)

    def test_asking_makes_the_connection(self) -> None:
        """The first look at a broker begins its one connection; until that stands nothing is known."""
        self.assertIsNone(self.remote.reachable(BROKER))
        self.assertIsNone(self.remote.reachable(BROKER))
        failure = self.failureResultOf(self.ask("w1@host"), BrokerAway)
        self.assertNotIn("s3cr3t", str(failure.value))
        self.assertEqual([session.started for session in self.sessions], [True])

    def test_opened(self) -> None:
        """A first connection is told to subscribers and is no revival."""
        self.connected()
        self.assertEqual(self.told, [(BROKER, True)])
        self.assertEqual((self.remote.reachable(BROKER), self.remote.revived_at(BROKER)), (True, None))

    def test_signs(self) -> None:
        """A thread shows that it connects, then its turns; one that is lost shows nothing."""
        self.remote.reachable(BROKER)
        (name,) = self.remote.connecting()
        self.assertNotIn("s3cr3t", name)
        self.assertEqual(self.remote.serving(), {})
        session = self.connected()
        session.turns = 1
        (name,) = first = self.remote.serving()
        self.assertNotIn("s3cr3t", name)
        self.assertEqual((self.remote.serving(), self.remote.connecting()), (first, {}))
        session.turns = 2
        self.assertNotEqual(self.remote.serving(), first)
        self.lose(session)
        self.assertEqual((self.remote.serving(), self.remote.connecting()), ({}, {}))

    def test_back_off(self) -> None:
        """A broker that stays away is tried again as the policy says, and told of once."""
        self.remote.reachable(BROKER)
        for failures in (1, 2, 3):
            self.lose(self.sessions[-1])
            self.clock.advance(failures - 0.1)
            self.assertEqual(len(self.sessions), failures)
            self.clock.advance(0.1)
            self.assertEqual(len(self.sessions), failures + 1)
        self.assertEqual((self.delays, self.told), ([1, 2, 3], [(BROKER, False)]))

    def test_revived(self) -> None:
        """A broker that comes back is revived at that time, and its failures are forgotten."""
        self.lose(self.connected())
        self.clock.advance(1)
        self.connected()
        self.assertEqual(self.remote.revived_at(BROKER), 1001)
        self.assertEqual(self.told, [(BROKER, True), (BROKER, False), (BROKER, True)])
        self.lose(self.sessions[-1])
        self.assertEqual(self.delays, [1, 1])

    def test_no_thread(self) -> None:
        """When the system has no thread for a connection, that is tried again too."""
        self.refuse = True
        self.assertFalse(self.remote.reachable(BROKER))
        self.refuse = False
        self.clock.advance(1)
        self.connected()
        self.assertTrue(self.remote.reachable(BROKER))

    def test_alternatives(self) -> None:
        """Attempts go through the URLs of a broker in turn."""
        broker = "amqp://one//;amqp://two//"
        self.remote.reachable(broker)
        for _ in range(2):
            self.lose(self.sessions[-1])
            self.clock.advance(3)
        self.assertEqual(
            [session.url for session in self.sessions], ["amqp://one//", "amqp://two//", "amqp://one//"]
        )

    def test_answered(self) -> None:
        """A question fires once all have answered, and leaves nothing behind."""
        session = self.connected()
        asked = self.ask("a", "b")
        session.reply('{"a": 1}')
        self.assertNoResult(asked)
        session.reply('{"b": 2}')
        self.assertEqual(self.successResultOf(asked), {"a": 1, "b": 2})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_strangers(self) -> None:
        """Answers of nodes that were not asked, and second answers, are left out."""
        session = self.connected()
        asked = self.ask("a", "b")
        session.reply('{"a": 1, "stranger": 3}')
        session.reply('{"a": 4}')
        session.reply('{"b": 2}')
        self.assertEqual(self.successResultOf(asked), {"a": 1, "b": 2})

    def test_node_named_twice(self) -> None:
        """A node that is named twice is asked and awaited once."""
        session = self.connected()
        asked = self.ask("a", "a")
        session.reply('{"a": 1}')
        self.assertEqual(self.successResultOf(asked), {"a": 1})

    def test_deadline(self) -> None:
        """At its deadline a question fires with what came; what comes later is dropped."""
        session = self.connected()
        asked = self.ask("a", "b")
        session.reply('{"a": 1}')
        self.clock.advance(3)
        self.assertEqual(self.successResultOf(asked), {"a": 1})
        self.assertEqual(session.forgotten, [session.sent[0][0]])
        session.reply('{"b": 2}')

    def test_lost(self) -> None:
        """Questions under way fail at once when the connection is lost."""
        session = self.connected()
        asked = self.ask("a")
        self.lose(session)
        self.failureResultOf(asked, BrokerAway)
        self.failureResultOf(self.ask("a"), BrokerAway)

    def test_cancelled(self) -> None:
        """A cancelled question leaves nothing behind."""
        session = self.connected()
        asked = self.ask("a")
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual((len(session.forgotten), self.clock.getDelayedCalls()), (1, []))

    def test_no_json(self) -> None:
        """Arguments that are no JSON fail that question and nothing else."""
        self.connected()
        self.failureResultOf(self.ask("a", x=object()), TypeError)
        self.assertTrue(self.remote.reachable(BROKER))

    def test_too_many(self) -> None:
        """Questions beyond a bound are refused, not kept."""
        session = self.connected()
        for _ in range(MOST_QUESTIONS):
            self.ask("a").addErrback(lambda failure: failure.trap(BrokerAway))
        self.failureResultOf(self.ask("a"), BrokerAway)
        self.assertEqual(len(session.sent), MOST_QUESTIONS)

    def test_silence_is_looked_into(self) -> None:
        """When nobody answers, the broker has to bring a message back, or counts as away."""
        session = self.connected()
        asked = self.ask("a")
        self.clock.advance(3)
        _, echo = session.sent[-1]
        self.assertEqual((echo.exchange, echo.routing_key), ("reply.celery.pidbox", "key"))
        self.assertNoResult(asked)
        self.assertTrue(self.remote.reachable(BROKER))
        self.clock.advance(ECHO_TIMEOUT)
        self.failureResultOf(asked, BrokerAway)
        self.assertFalse(self.remote.reachable(BROKER))
        self.assertTrue(session.stopped)
        session.listener.ended(session, "it was closed")
        self.clock.advance(1)
        self.assertEqual((len(self.sessions), self.delays), (2, [1]))

    def test_broker_that_echoes(self) -> None:
        """A broker that brings the message back stays reachable; one look at a time is enough."""
        session = self.connected()
        asked = [self.ask("a", timeout=1), self.ask("b", timeout=2)]
        given_up = self.ask("c", timeout=2)
        self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual(len(session.sent), 4)
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        session.reply('{"": {"ok": "echo"}}')
        self.assertEqual([self.successResultOf(one) for one in asked], [{}, {}])
        self.clock.advance(ECHO_TIMEOUT)
        self.assertTrue(self.remote.reachable(BROKER))

    def test_partial_silence(self) -> None:
        """When somebody answered, nothing is to be looked into."""
        session = self.connected()
        self.ask("a", "b")
        session.reply('{"a": 1}')
        self.clock.advance(3)
        self.assertEqual(len(session.sent), 1)

    def test_no_heartbeats(self) -> None:
        """Without heartbeats the broker has to bring a message back at intervals."""
        session = self.connected(has_heartbeats=False)
        for beats in (1, 2):
            self.clock.advance(ECHO_INTERVAL)
            self.assertEqual(len(session.sent), beats)
            session.reply('{"": {"ok": "echo"}}')
        self.clock.advance(ECHO_INTERVAL)
        self.clock.advance(ECHO_TIMEOUT)
        self.assertFalse(self.remote.reachable(BROKER))

    def test_retain(self) -> None:
        """Connections that are left out end, and begin anew when they are wanted again."""
        session = self.connected()
        asked = self.ask("a")
        self.remote.retain([])
        self.failureResultOf(asked, BrokerAway)
        self.assertTrue(session.stopped)
        session.listener.ended(session, "it was closed")
        self.clock.advance(60)
        self.assertEqual((len(self.sessions), self.told), (1, [(BROKER, True)]))
        self.assertIsNone(self.remote.reachable(BROKER))
        self.assertEqual(len(self.sessions), 2)

    def test_retain_while_connecting(self) -> None:
        """A connection that comes to stand after it was left out changes nothing."""
        self.remote.reachable(BROKER)
        [session] = self.sessions
        self.remote.retain([])
        session.listener.opened(session, False)
        self.assertEqual((self.told, self.clock.getDelayedCalls()), ([], []))

    def test_failing_subscriber(self) -> None:
        """A subscriber that fails is logged, and the others are told."""
        told: list[bool] = []

        def fail(broker: str, reachable: bool) -> None:
            raise ValueError("mine")

        self.remote.subscribe(fail)
        self.remote.subscribe(lambda broker, reachable: told.append(reachable))
        self.connected()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(told, [True])

    def test_close(self) -> None:
        """`close` fires when the last thread has ended."""
        session = self.connected()
        closed = self.remote.close()
        self.assertTrue(session.stopped)
        self.assertNoResult(closed)
        session.listener.ended(session, "it was closed")
        self.successResultOf(closed)
        self.assertTrue(session.joined)
        self.assertFalse(self.remote.reachable("amqp://another//"))
        self.assertEqual(len(self.sessions), 1)

    def test_close_waits_for_those_left_out(self) -> None:
        """A connection that was left out before, and whose thread lives, is waited for too."""
        session = self.connected()
        self.remote.retain([])
        closed = self.remote.close()
        self.assertNoResult(closed)
        session.listener.ended(session, "it was closed")
        self.successResultOf(closed)

    def test_close_is_bounded(self) -> None:
        """`close` does not wait for ever for a thread that hangs."""
        self.connected()
        closed = self.remote.close()
        self.clock.advance(60)
        self.successResultOf(closed)

    def test_close_with_nothing(self) -> None:
        """Without connections `close` fires at once."""
        self.successResultOf(self.remote.close())

    def test_secrets(self) -> None:
        """What stands for a line in the log is without its password."""
        session = self.connected()
        self.assertNotIn("s3cr3t", repr(session.listener))
