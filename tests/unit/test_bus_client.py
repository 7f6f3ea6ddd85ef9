"""One connection to a broker, and what is mended of txamqp."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from txamqp.client import ChannelClosed, Closed, ConnectionClosed

from cyme.bus.amqp.channel import code_of, problem_of
from cyme.bus.amqp.client import Client
from cyme.bus.amqp.fields import Unencodable
from cyme.bus.amqp.frames import BODY, HEADER, HEARTBEAT_FRAME, METHOD, content_frames, frame, method_frame
from tests.fakes.amqpserver import FakeServer, method_of

LIMIT = 1000


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def delivered(self, message: Any) -> None:
        if message.content is not None and message.content.body == b"bad":
            raise ZeroDivisionError
        self.events.append(message.content and message.content.body)

    def returned(self, properties: Any) -> None:
        self.events.append(("returned", properties))

    def confirmed(self, tag: int, multiple: bool, taken: bool) -> None:
        self.events.append(("confirmed", tag, multiple, taken))

    def cancelled(self, consumer: str) -> None:
        self.events.append(("cancelled", consumer))

    def closed(self, reason: Exception) -> None:
        self.events.append(("closed", problem_of(reason)))


class ClientCase(SynchronousTestCase):
    """A client and its server."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.server = FakeServer()
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))
        self.addCleanup(self.server.lose)

    def buildProtocol(self, addr: object) -> Client:
        return Client(self.clock, "/", heartbeat=10, properties={"connection_name": "é"}, body_most=LIMIT)

    def connect(self) -> Client:
        """A client that was let in."""
        client: Client = self.successResultOf(self.server.connect(self))
        entered = client.authenticate("user", "pässword", "PLAIN")
        self.server.turn()
        self.successResultOf(entered)
        return client

    def open(self) -> tuple[Client, Any, Heard]:
        """A client, a channel and its listener."""
        client, heard = self.connect(), Heard()
        opened = Deferred.fromCoroutine(client.open_channel(heard))
        self.server.turn()
        return client, self.successResultOf(opened), heard


class HandshakeTests(ClientCase):
    """How a client is let in."""

    def test_handshake(self) -> None:
        """The client shows itself, agrees on the server's smaller values and opens its virtual host."""
        client = self.connect()
        start, tune, opened = self.server.said
        self.assertEqual(start[1]["response"], "\0user\0pässword")
        self.assertTrue(start[1]["client-properties"]["capabilities"]["consumer_cancel_notify"])
        self.assertEqual(
            tune, ("connection.tune-ok", {"channel-max": 64, "frame-max": 131072, "heartbeat": 10})
        )
        self.assertEqual(opened[1]["virtual-host"], "/")
        self.assertEqual(client.MAX_LENGTH, 131072)

    def test_refused(self) -> None:
        """What the server says when it lets nobody in is the error."""
        client: Client = self.successResultOf(self.server.connect(self))
        entered = client.authenticate("user", "password", "PLAIN")
        self.server.say(0, "connection.close", 403, "ACCESS_REFUSED", 0, 0)
        failure = self.failureResultOf(entered, ConnectionClosed)
        self.assertEqual((problem_of(failure.value), code_of(failure.value)), ("403: ACCESS_REFUSED", 403))

    def test_no_password_wanted(self) -> None:
        """A server that knows no passwords is given up."""
        client: Client = self.successResultOf(self.server.connect(self))
        entered = client.authenticate("user", "password", "PLAIN")
        self.server.say(0, "connection.start", 0, 9, {}, "EXTERNAL", "en_US")
        self.failureResultOf(entered, Closed)
        self.assertTrue(self.server.is_cut_off)

    def test_something_else(self) -> None:
        """What does not speak AMQP is given up at its first words."""
        for words in (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"AMQP\x00\x00\x09\x01",
            b"\x16\x03\x01\x02\x00" + bytes(600),
        ):
            client: Client = self.successResultOf(self.server.connect(self))
            entered = client.authenticate("user", "password", "PLAIN")
            self.server.send(words)
            self.failureResultOf(entered, Closed)
            self.assertTrue(self.server.is_cut_off)
            self.server.lose()


class CallTests(ClientCase):
    """What is asked of the server."""

    def test_answers(self) -> None:
        """Each call gets its own answer, in order."""
        client, channel, _ = self.open()
        declared = channel.queue_declare(queue="q")
        consumed = channel.basic_consume(queue="q")
        self.server.turn()
        self.assertEqual(self.successResultOf(declared).consumer_count, 0)
        self.assertEqual(self.successResultOf(consumed).method.name, "consume-ok")

    def test_unencodable(self) -> None:
        """A call that has no bytes fails alone: nothing of it is sent, and the next one works."""
        client, channel, _ = self.open()
        before = len(self.server.transport.value())
        for arguments in ({"k": object()}, None, {"k": 1 << 70}):
            self.failureResultOf(channel.queue_declare(queue="q", arguments=arguments), Unencodable)
        self.failureResultOf(channel.basic_publish(routing_key="é" * 200), Unencodable)
        self.assertEqual(len(self.server.transport.value()), before)
        declared = channel.queue_declare(queue="grüße", arguments={"none": None, "list": [True]})
        self.server.turn()
        self.successResultOf(declared)
        self.assertEqual(self.server.said[-1][1]["queue"], "grüße")

    def test_nowait(self) -> None:
        """A call without an answer is done when it is sent."""
        _, channel, _ = self.open()
        self.assertIsNone(self.successResultOf(channel.queue_bind(queue="q", exchange="e", nowait=True)))

    def test_cancelled_call(self) -> None:
        """An answer that nobody waits for any more is not taken for another's."""
        _, channel, _ = self.open()
        first, second = channel.queue_declare(queue="q"), channel.basic_consume(queue="q")
        first.cancel()
        self.failureResultOf(first)
        self.server.turn()
        self.assertEqual(self.successResultOf(second).method.name, "consume-ok")

    def test_channel_closed(self) -> None:
        """A refusal closes the channel: what was asked, and will be, fails with its words."""
        client, channel, heard = self.open()
        declared = channel.queue_declare(queue="q")
        self.server.say(1, "channel.close", 406, "PRECONDITION_FAILED", 50, 10)
        self.failureResultOf(declared, ChannelClosed)
        self.failureResultOf(channel.queue_declare(queue="q"), ChannelClosed)
        self.assertEqual(heard.events, [("closed", "406: PRECONDITION_FAILED")])
        self.server.turn()
        self.assertIn("channel.close-ok", self.server.names())
        again = Deferred.fromCoroutine(client.open_channel(Heard()))
        self.server.turn()
        self.assertEqual(self.successResultOf(again).id, 1)

    def test_left(self) -> None:
        """A channel that is left tells nobody that it is closed."""
        client, channel, heard = self.open()
        channel.leave()
        self.server.turn()
        self.assertEqual(heard.events, [])
        self.assertNotIn(1, client.channels)

    def test_lost(self) -> None:
        """A lost connection fails what was asked, and nobody waits for the server to read again."""
        client, channel, heard = self.open()
        declared = channel.queue_declare(queue="q")
        self.server.say(0, "connection.blocked", "low on memory")
        waiting = client.when_heeded()
        self.assertNoResult(waiting)
        self.server.lose()
        self.failureResultOf(declared, Closed)
        self.successResultOf(waiting)
        self.assertEqual(len(heard.events), 1)
        self.failureResultOf(Deferred.fromCoroutine(client.open_channel(heard)), Closed)

    def test_too_many_channels(self) -> None:
        """No more channels are opened than were agreed on."""
        client, _, _ = self.open()
        client.channels_most = 1
        self.failureResultOf(Deferred.fromCoroutine(client.open_channel(Heard())), Closed)


class ComingTests(ClientCase):
    """What the server says by itself."""

    def test_notices(self) -> None:
        """Confirms, refusals, cancelled consumers and blocked connections are heard of."""
        client, _, heard = self.open()
        self.server.say(1, "basic.ack", 3, True)
        self.server.say(1, "basic.nack", 4, False, True)
        self.server.say(1, "basic.cancel", "tag", True)
        self.assertEqual(
            heard.events, [("confirmed", 3, True, True), ("confirmed", 4, False, False), ("cancelled", "tag")]
        )
        self.server.say(0, "connection.blocked", "")
        self.assertIsNotNone(client.blocked)
        waiting = client.when_heeded()
        self.server.say(0, "connection.unblocked")
        self.assertIsNone(client.blocked)
        self.successResultOf(waiting)

    def test_returned(self) -> None:
        """A message that comes back comes with its properties."""
        _, _, heard = self.open()
        self.server.say(1, "basic.return", 312, "NO_ROUTE", "e", "k")
        basic = method_of("basic.return").klass
        self.server.send(b"".join(content_frames(1, basic, {"message-id": "7"}, b"body", 4096)))
        self.assertEqual(heard.events, [("returned", {"message-id": "7"})])

    def test_bodies(self) -> None:
        """A body of several frames is whole, whatever bytes are where they meet, and however they arrive."""
        _, _, heard = self.open()
        body = b"text" * 20 + "é".encode() * 50 + b"\xff\xfe" * 20
        whole = method_frame(1, method_of("basic.deliver"), ("tag", 1, False, "", ""))
        whole += b"".join(content_frames(1, method_of("basic.deliver").klass, {}, body, 49))
        for size in (1, 7, 50, len(whole)):
            for start in range(0, len(whole), size):
                self.server.send(whole[start : start + size])
        self.assertEqual(heard.events, [body] * 4)

    def test_malformed_and_too_long(self) -> None:
        """A message that is malformed or too long is known to have come, and none of it is kept."""
        _, channel, heard = self.open()
        self.server.deliver(bytes(LIMIT + 1), most=100)
        self.assertEqual(channel._pieces, [])
        self.server.say(1, "basic.deliver", "tag", 1, False, "", "")
        flags = b"\x20\x00" + b"\x00\x00\x00\x09\x01k?"
        self.server.send(frame(HEADER, 1, b"\x00\x3c\x00\x00" + bytes(7) + b"\x03" + flags))
        self.server.send(frame(BODY, 1, b"abc"))
        self.server.deliver(b"good")
        self.assertEqual(heard.events, [None, None, b"good"])

    def test_clumsy_listener(self) -> None:
        """What a listener does wrong is logged, and the connection goes on."""
        _, _, heard = self.open()
        self.server.deliver(b"bad")
        self.server.deliver(b"good")
        self.assertEqual(heard.events, [b"good"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_broken_rules(self) -> None:
        """A server that breaks the rules is given up, once."""
        deliver = method_frame(1, method_of("basic.deliver"), ("tag", 1, False, "", ""))
        header = frame(HEADER, 1, b"\x00\x3c\x00\x00" + bytes(7) + b"\x03\x00\x00")
        cases = (
            frame(BODY, 1, b"abc"),
            header,
            deliver + deliver,
            deliver + header + frame(BODY, 1, b"abcd"),
            deliver + frame(HEADER, 1, b""),
            frame(METHOD, 1, b""),
            frame(METHOD, 1, b"\x00\x3c\x00\x47" + bytes(9)),
            frame(METHOD, 1, b"\x00\x3c\x00\x50"),
            frame(5, 1, b""),
            method_frame(1, method_of("queue.declare-ok"), ("q", 0, 0)),
            b"\x01\x00\x01\xff\xff\xff\xff",
            frame(BODY, 1, b"abc")[:-1] + b"\x00",
        )
        for data in cases:
            _, _, heard = self.open()
            self.server.send(data + b"\x00")
            self.assertTrue(self.server.is_cut_off, data)
            self.assertEqual([event[0] for event in heard.events], ["closed"], data)
            self.server.lose()

    def test_closed_channel(self) -> None:
        """What still comes on a channel that was closed is ignored."""
        client, _, heard = self.open()
        self.server.say(1, "channel.close", 406, "PRECONDITION_FAILED", 50, 10)
        self.server.deliver(b"late")
        self.assertFalse(self.server.is_cut_off)
        self.assertEqual(len(heard.events), 1)


class HeartbeatTests(ClientCase):
    """Signs of life, both ways."""

    def test_sent(self) -> None:
        """Where nothing else is said, a sign of life goes out."""
        self.connect()
        before = self.server.transport.value()
        self.clock.pump([5.0] * 2)
        self.assertEqual(self.server.transport.value(), before + HEARTBEAT_FRAME)

    def test_silence(self) -> None:
        """A server that is silent for longer than two intervals is given up; a sign of life is enough."""
        _, channel, heard = self.open()
        for _ in range(20):
            self.clock.advance(5.0)
            self.server.live()
        self.clock.pump([5.0] * 5)
        self.assertFalse(self.server.is_cut_off)
        self.clock.advance(5.0)
        self.assertTrue(self.server.is_cut_off)
        self.assertEqual(heard.events, [("closed", "the broker has given no sign of life for 20 s")])

    def test_servers_interval(self) -> None:
        """The server's interval holds where it is shorter."""
        client: Client = self.successResultOf(self.server.connect(self))
        client.authenticate("user", "password", "PLAIN").addErrback(lambda _: None)
        self.server.say(0, "connection.tune", 10, 4096, 2)
        self.assertEqual((client.heartbeat, client.channels_most, client.MAX_LENGTH), (2, 10, 4096))
        self.clock.pump([1.0] * 6)
        self.assertTrue(self.server.is_cut_off)
