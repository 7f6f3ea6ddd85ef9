"""The bus over RabbitMQ against a broker in memory: every way in which a connection fails to be made."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from cyme.bus.amqp import bus as buses
from cyme.bus.amqp.bus import AMQPBus
from cyme.bus.amqp.session import STEP_WITHIN
from cyme.errors import BusAway, NoRoute
from tests.fakes.amqpserver import FakeServer

#: Seconds between two attempts, times their number.
PAUSE = 3.0


class ConnectionCase(SynchronousTestCase):
    """A bus, and a server that it connects to."""

    url = "amqp://user:s3cret@broker//"

    def setUp(self) -> None:
        self.clock = Clock()
        self.server = FakeServer()
        self.asked: list[str] = []
        self.received: list[bytes] = []
        self.changes: list[bool] = []
        self.log: list[LogEvent] = []
        self.patch(buses, "endpoint_of", self.endpoint_of)
        self.bus = AMQPBus(self.clock, self.url, name="b1", retry_policy=lambda number: PAUSE * number)
        self.bus.subscribe(self.changes.append)
        globalLogPublisher.addObserver(self.log.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.log.append)
        self.addCleanup(self.finish)

    def endpoint_of(self, reactor: Any, address: Any) -> FakeServer:
        self.asked.append(address.host)
        return self.server

    def finish(self) -> None:
        stopped = self.bus.stop()
        self.server.turn()
        self.successResultOf(stopped)
        self.server.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        said = "\n".join(formatEvent(event) for event in self.log)
        self.assertNotIn("s3cret", said)

    def receive(self, body: bytes) -> Deferred[None]:
        self.received.append(body)
        return succeed(None)

    def start(self) -> Deferred[None]:
        started = self.bus.start(self.receive)
        self.server.turn()
        return started

    def lose(self) -> None:
        self.server.lose()

    def advance(self, seconds: float) -> None:
        """Let time pass; the server answers what comes."""
        self.clock.advance(seconds)
        self.server.turn()


class AttemptsTests(ConnectionCase):
    """Connections that are not made, and those that follow."""

    def test_connected(self) -> None:
        """A bus that is connected has declared, bound and consumed what it was told to."""
        self.bus.own("Instance", "w1")
        self.bus.accept("Branch")
        self.successResultOf(self.start())
        self.assertEqual(self.changes, [True])
        said = self.server.said
        self.assertIn("confirm.select", self.server.names())
        declared = {args["queue"]: args for name, args in said if name == "queue.declare"}
        inbox, work = declared[self.bus.inbox], declared["cyme.any.Branch"]
        self.assertTrue(inbox["exclusive"])
        self.assertTrue(work["durable"] and work["arguments"]["x-expires"] and not work["exclusive"])
        bound = [(args["exchange"], args["routing-key"]) for name, args in said if name == "queue.bind"]
        self.assertEqual(bound, [("cyme.all", ""), ("cyme.Instance", "w1")])
        self.server.deliver(b"hello")
        self.assertEqual(self.received, [b"hello"])

    def test_hang_anywhere(self) -> None:
        """A broker that falls silent at any step is given up in time, and the next attempt succeeds."""
        self.bus.own("Instance", "w1")
        self.successResultOf(self.start())
        steps = self.server.names().index("basic.consume") + 2
        self.lose()
        for step in range(steps):
            self.server.silent_from = step
            self.advance(1000.0)
            self.assertFalse(self.bus.connected, step)
            self.advance(STEP_WITHIN)
            self.assertFalse(self.bus.connected, step)
            self.assertTrue(self.server.is_cut_off, step)
            self.server.silent_from = None
            self.server.lose()
            self.advance(1000.0)
            self.assertTrue(self.bus.connected, step)
            self.lose()
            self.assertFalse(self.bus.connected, step)

    def test_hang_at_work(self) -> None:
        """A broker that does not answer about work keeps back nothing but that work."""
        self.bus.accept("Instance")
        self.successResultOf(self.start())
        steps = len(self.server.said)
        first = self.server.names().index("basic.consume") + 2
        self.lose()
        for step in range(first, steps + 1):
            self.server.silent_from = step
            self.advance(1000.0)
            self.advance(STEP_WITHIN)
            self.assertTrue(self.bus.connected, step)
            self.failureResultOf(self.bus.to_any("Instance", b"work", expires=5.0), BusAway)
            self.server.silent_from = None
            self.lose()

    def test_refused(self) -> None:
        """While nobody answers, the start is over soon, pauses grow, and the problem is said once."""
        self.server.refuses = True
        self.successResultOf(self.start())
        self.assertFalse(self.bus.connected)
        for number in (1, 2, 3):
            self.assertEqual(len(self.asked), number)
            self.advance(PAUSE * number)
        warned = [event for event in self.log if "can't be reached" in formatEvent(event)]
        self.assertEqual(len(warned), 1)
        self.assertIn("amqp://user:***@broker", formatEvent(warned[0]))

    def test_slow_start(self) -> None:
        """A start does not wait for a broker that says nothing."""
        self.server.silent_from = 0
        started = self.start()
        self.assertNoResult(started)
        self.clock.advance(buses.START_WITHIN)
        self.successResultOf(started)

    def test_stopped_while_connecting(self) -> None:
        """A bus that is stopped while it connects cuts the connection off and ends the start."""
        self.server.silent_from = 4
        started = self.start()
        self.successResultOf(self.bus.stop())
        self.successResultOf(started)
        self.assertTrue(self.server.is_cut_off)

    def test_short_lived(self) -> None:
        """Connections that are lost as soon as they are made are not made again at once for ever."""
        self.start()
        for number in (1, 2, 3):
            self.lose()
            self.advance(PAUSE * number - 0.1)
            self.assertFalse(self.bus.connected)
            self.advance(0.1)
            self.assertTrue(self.bus.connected)

    def test_signs(self) -> None:
        """Each attempt is progress; a bus that is connected and has nothing to send shows nothing."""
        self.assertEqual(self.bus.connecting(), {})
        self.server.refuses = True
        self.start()
        before = self.bus.connecting()
        self.assertNotEqual(before, {})
        self.advance(PAUSE)
        self.assertNotEqual(self.bus.connecting(), before)
        self.assertEqual(self.bus.signs(), {})
        self.server.refuses = False
        self.advance(PAUSE * 2)
        self.assertEqual((self.bus.connecting(), self.bus.signs()), ({}, {}))
        sent = self.bus.to_all(b"hello", expires=5.0)
        before = self.bus.signs()
        self.assertNotEqual(before, {})
        self.server.say(1, "basic.ack", 1, False)
        self.successResultOf(sent)
        self.assertEqual(self.bus.signs(), {})


class SeveralTests(ConnectionCase):
    """Several URLs."""

    url = "amqp://user:s3cret@a;amqp://user:s3cret@b;amqp://user:s3cret@c"

    def test_round(self) -> None:
        """All are tried without a pause before there is one; a lost one is followed by the next."""
        self.server.refuses = True
        self.successResultOf(self.start())
        self.assertEqual(self.asked, ["a", "b", "c"])
        self.server.refuses = False
        self.advance(PAUSE)
        self.assertEqual(self.asked[3:], ["a"])
        self.advance(100.0)
        self.lose()
        self.assertNotIn("s3cret", repr(self.log))
        self.advance(0.0)
        self.assertEqual(self.asked[4:], ["b"])
        self.assertTrue(self.bus.connected)


class ConnectedTests(ConnectionCase):
    """A bus that is connected."""

    def setUp(self) -> None:
        super().setUp()
        self.successResultOf(self.start())

    def confirm(self, number: int) -> None:
        self.server.say(1, "basic.ack", number, False)

    def test_owned_while_away(self) -> None:
        """What is owned and disowned while the bus is away holds from its return."""
        self.bus.own("Instance", "w1")
        self.server.turn()
        self.lose()
        self.bus.own("Instance", "w2")
        self.bus.disown("Instance", "w1")
        self.successResultOf(self.bus.settled())
        self.advance(PAUSE)
        bound = [args["routing-key"] for name, args in self.server.said if name == "queue.bind"]
        self.assertEqual(bound, ["", "w2"])

    def test_owned_while_connecting(self) -> None:
        """What is owned while a connection is being made is bound too."""
        self.lose()
        self.server.silent_from = 6
        self.advance(PAUSE)
        self.assertFalse(self.bus.connected)
        self.bus.own("Instance", "w9")
        self.server.silent_from = None
        self.advance(STEP_WITHIN)
        self.server.lose()
        self.advance(PAUSE * 5)
        self.assertIn("w9", [args.get("routing-key") for _, args in self.server.said])

    def test_settled(self) -> None:
        """What is owned is settled when the broker has said so, or does not answer for long."""
        self.bus.own("Instance", "w1")
        settled = self.bus.settled()
        self.assertNoResult(settled)
        self.server.turn()
        self.successResultOf(settled)
        self.bus.own("Instance", "w2")
        settled = self.bus.settled()
        self.clock.pump([1.0] * 10)
        self.successResultOf(settled)

    def test_unbound_actor(self) -> None:
        """The exchange of an actor is declared before anything is sent to it for the first time."""
        for _ in range(2):
            self.bus.to_owner("Rare", "x", b"hello", expires=5.0).addErrback(lambda _: None)
        self.server.turn()
        self.assertEqual(self.server.names()[-3:], ["exchange.declare", "basic.publish", "basic.publish"])
        published = self.server.said[-1][1]
        self.assertTrue(published["mandatory"])

    def test_no_name(self) -> None:
        """A name that can be nobody's has no route, and can't be owned."""
        self.failureResultOf(self.bus.to_owner("Instance", "x" * 300, b"hello", expires=5.0), NoRoute)
        self.failureResultOf(self.bus.to_inbox("é" * 200, b"hello", expires=5.0), NoRoute)
        self.failureResultOf(self.bus.to_any("\ud800", b"hello", expires=5.0), NoRoute)
        self.assertRaises(ValueError, self.bus.own, "Instance", "\ud800")

    def test_in_flight(self) -> None:
        """What is on its way when the connection is lost fails, and is not sent again."""
        sent = self.bus.to_all(b"hello", expires=5.0)
        self.server.turn()
        self.lose()
        self.failureResultOf(sent, BusAway)
        self.advance(PAUSE)
        self.assertTrue(self.bus.connected)
        self.assertNotIn("basic.publish", self.server.names())

    def test_blocked(self) -> None:
        """A broker that reads nothing is sent nothing, until it reads again."""
        self.server.say(0, "connection.blocked", "low on memory")
        self.failureResultOf(self.bus.to_all(b"hello", expires=5.0), BusAway)
        self.bus.own("Instance", "w1")
        self.server.turn()
        self.assertNotIn("w1", [args.get("routing-key") for _, args in self.server.said])
        self.server.say(0, "connection.unblocked")
        self.server.turn()
        self.assertIn("w1", [args.get("routing-key") for _, args in self.server.said])
        sent = self.bus.to_all(b"hello", expires=5.0)
        self.confirm(1)
        self.successResultOf(sent)

    def test_some_full(self) -> None:
        """What is sent to all is sent, although one branch has too much to do already."""
        sent = self.bus.to_all(b"hello", expires=5.0)
        self.server.say(1, "basic.nack", 1, False, False)
        self.successResultOf(sent)
        sent = self.bus.to_inbox("x", b"hello", expires=5.0)
        self.server.say(1, "basic.nack", 2, False, False)
        self.failureResultOf(sent, BusAway)

    def test_too_many(self) -> None:
        """Messages over what can be handled at the same time are dropped, and that is said now and then."""
        self.patch(buses, "HANDLING_MOST", 2)
        waiting: list[Deferred[None]] = []

        def receive(body: bytes) -> Deferred[None]:
            waiting.append(Deferred())
            return waiting[-1]

        self.bus._receive = receive
        for _ in range(5):
            self.server.deliver(b"hello")
        self.assertEqual((len(waiting), self.bus.counts["dropped"]), (2, 3))
        waiting[0].callback(None)
        self.server.deliver(b"hello")
        self.assertEqual(len(waiting), 3)
        dropped = [event for event in self.log if "dropped" in formatEvent(event)]
        self.assertEqual(len(dropped), 1)

    def take(self) -> Deferred[None]:
        """Have the bus accept work and be given some; fire the answer to have it done."""
        working: Deferred[None] = Deferred()

        def receive(body: bytes) -> Deferred[None]:
            self.received.append(body)
            return working

        self.bus._receive = receive
        self.bus.accept("Instance")
        self.server.turn()
        self.server.deliver(b"work", channel=2, consumer="cyme.any.Instance")
        self.server.turn()
        self.assertEqual(self.received, [b"work"])
        self.assertNotIn("basic.ack", self.server.names())
        return working

    def test_work_done(self) -> None:
        """Work is acknowledged when it is done."""
        self.take().callback(None)
        self.server.turn()
        self.assertEqual(self.server.said[-1], ("basic.ack", {"delivery-tag": 1, "multiple": False}))

    def test_work_overdue(self) -> None:
        """Work that is never done is acknowledged in the end, once."""
        working = self.take()
        for _ in range(60):
            self.server.live()
            self.advance(10.0)
        self.assertEqual(self.server.names().count("basic.ack"), 1)
        working.callback(None)
        self.server.turn()
        self.assertEqual(self.server.names().count("basic.ack"), 1)

    def test_work_and_stop(self) -> None:
        """A bus that stops takes no more work, and acknowledges none that it has not handled."""
        self.take()
        stopped = self.bus.stop()
        self.server.deliver(b"more", channel=2, consumer="cyme.any.Instance")
        self.server.turn()
        self.successResultOf(stopped)
        self.assertEqual(self.received, [b"work"])
        self.assertNotIn("basic.ack", self.server.names())

    def test_work_of_a_lost_connection(self) -> None:
        """Work that is done after its connection was lost is not acknowledged on the next."""
        working = self.take()
        self.lose()
        self.advance(PAUSE)
        self.server.deliver(b"other", channel=2, consumer="cyme.any.Instance")
        working.callback(None)
        self.server.turn()
        self.assertEqual(self.server.names().count("basic.ack"), 1)

    def test_malformed_work(self) -> None:
        """Work that is malformed is acknowledged, so that it never comes again."""
        self.bus.accept("Instance")
        self.server.turn()
        self.patch(self.server.protocol, "body_most", 3)
        self.server.deliver(b"long", channel=2, consumer="cyme.any.Instance")
        self.server.turn()
        self.assertEqual((self.server.names()[-1], self.received), ("basic.ack", []))

    def test_declined_work(self) -> None:
        """Work that comes before the broker knows that it is declined goes back."""
        self.bus.accept("Instance")
        self.server.turn()
        self.bus.decline("Instance")
        self.server.deliver(b"work", channel=2, consumer="cyme.any.Instance")
        self.server.turn()
        self.assertEqual(self.server.names()[-2:], ["basic.cancel", "basic.reject"])

    def test_clumsy_subscriber(self) -> None:
        """A subscriber that fails is logged, and the others are told."""

        def fail(connected: bool) -> None:
            raise ZeroDivisionError

        self.bus._subscribers.insert(0, fail)
        self.lose()
        self.assertEqual(self.changes, [True, False])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stop(self) -> None:
        """A bus that is stopped says goodbye, and does not wait for long for an answer."""
        self.server.silent_from = 0
        stopped = self.bus.stop()
        self.assertEqual(self.changes, [True, False])
        self.assertNoResult(stopped)
        self.clock.advance(2.0)
        self.successResultOf(stopped)
        self.assertTrue(self.server.is_cut_off)
