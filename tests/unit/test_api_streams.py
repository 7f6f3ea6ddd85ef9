"""Events as a stream: who gets one, what it looks like, and how it ends."""

from __future__ import annotations

import json
import re
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.access.tokenfile import TokenFile
from cyme.api.site import Limits, make_site
from cyme.api.streams import KEEP_ALIVE, READS_WITHIN, STREAMS_MOST, frame
from tests.fakes.controller import FakeController, FakeFollowing
from tests.support.httpmemory import Connection, Response, request

STREAM = ("Accept", "text/event-stream")


class StreamCase(SynchronousTestCase):
    """A site over a controller with an instance."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.controller = FakeController()
        self.controller.apps.add("foo")
        self.controller.instances.add("foo", "w1")
        self.site = make_site(
            self.clock,
            self.controller,
            limits=Limits(request_body=1000, connections_of_one=1000), tokens=TokenFile(None),
            allowed_origins=(),
            check_host=True,
            readiness=dict,
        )
        self.addCleanup(self.site.end_streams)

    def ask(self, target: str = "/events/", method: str = "GET", **headers: str) -> Response:
        """Send a request whose answer is complete."""
        given = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return request(self.site, method, target, headers=given)

    def open(self, target: str = "/events/", **headers: str) -> Connection:
        """Begin a stream."""
        connection = Connection(self.site)
        given = [(name.replace("_", "-"), value) for name, value in headers.items()]
        connection.request("GET", target, headers=[STREAM, *given])
        return connection

    @property
    def following(self) -> FakeFollowing:
        """What the newest stream follows."""
        return self.controller.events.followings[-1]

    def parts(self, connection: Connection) -> list[bytes]:
        """What a stream has sent, as its client reads it, and b"END" when it has ended."""
        head, _, rest = connection.received().partition(b"\r\n\r\n")
        self.assertIn(b"\r\nContent-Type: text/event-stream\r\n", head)
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            chunk, rest = rest[: int(size, 16)], rest[int(size, 16) + 2 :]
            body += chunk or b"END\n\n"
        return body.split(b"\n\n")[:-1]


class AcceptTests(StreamCase):
    """Who gets a stream, and who a list."""

    def test_accept(self) -> None:
        """A stream is for clients that name it and don't prefer JSON; JSON is the default."""
        for accept, streams in {
            "text/event-stream": True,
            "Text/Event-Stream;charset=utf-8": True,
            "text/event-stream, application/json;q=0.9": True,
            "text/event-stream, */*": True,
            "text/event-stream;q=0.5, */*;q=0.1": True,
            "application/json;q=0.2, text/event-stream;q=0.3": True,
            "text/event-stream, application/json;q=0": True,
            "": False,
            "*/*": False,
            "text/*": False,
            "text/html, */*;q=0.8": False,
            "application/json": False,
            "application/json, text/event-stream": False,
            "text/event-stream;q=0.5, application/json;q=0.6": False,
            "text/event-stream;q=0.5, application/*": False,
            "text/event-stream;q=0.1, */*": False,
            "text/event-stream;q=0": False,
            "text/event-stream;q=much": False,
            ";;,,q=1": False,
        }.items():
            connection = Connection(self.site)
            connection.request("GET", "/events/", headers=[("Accept", accept)])
            self.assertEqual(b"text/event-stream" in connection.received(), streams, accept)
            connection.disconnect()

    def test_head(self) -> None:
        """`HEAD` tells what a stream would be, and leaves nothing behind."""
        answer = self.ask(method="HEAD", Accept="text/event-stream")
        self.assertEqual((answer.status, answer.header("Content-Type")), (200, "text/event-stream"))
        self.assertEqual((self.following.calls, self.clock.getDelayedCalls()), (["stop"], []))

    def test_where(self) -> None:
        """A stream begins behind `Last-Event-ID`, else behind `since`, else now."""
        for target, headers, since in (
            ("/events/", {}, None),
            ("/events/?since=7", {}, 7),
            ("/events/?since=7", {"Last_Event_ID": "9"}, 9),
            ("/foo/instances/w1/events", {"Last_Event_ID": "0"}, 0),
            ("/instances/w1/events/", {"Last_Event_ID": ""}, None),
        ):
            self.open(target, **headers).disconnect()
            self.assertEqual(self.following.since, since, target)

    def test_refused(self) -> None:
        """What can't be followed is refused with a problem, and no stream begins."""
        for target, headers, status in (
            ("/events/", {"Last_Event_ID": "yesterday"}, 400),
            ("/events/", {"Last_Event_ID": "-1"}, 400),
            ("/events/", {"Last_Event_ID": "9" * 30}, 400),
            ("/events/?since=x", {}, 400),
            ("/events/?limit=5", {}, 400),
            ("/events/?colour=blue", {}, 400),
            ("/foo/instances/w9/events/", {}, 404),
            ("/nobody/instances/w1/events/", {}, 404),
        ):
            answer = self.ask(target, Accept="text/event-stream", **headers)
            self.assertEqual((answer.status, answer.json["status"]), (status, status), target)
        self.assertEqual((self.controller.events.followings, self.clock.getDelayedCalls()), ([], []))


class TellTests(StreamCase):
    """What a stream sends."""

    def test_events(self) -> None:
        """A stream tells its place at first, then each event with id, kind and document."""
        connection = self.open(Last_Event_ID="41")
        self.following.happen("started", pid=7)
        first, event = self.parts(connection)
        self.assertEqual(first, b"retry: 2000\nid: 41")
        fields = dict(line.split(": ", 1) for line in event.decode().split("\n"))
        self.assertEqual((fields["id"], fields["event"]), ("42", "started"))
        self.assertEqual(json.loads(fields["data"])["details"], {"pid": 7})

    def test_strange_event(self) -> None:
        """No text in an event breaks its frame."""
        sent = frame({"id": 1, "kind": "a\r\ndata: b\n\nid: 9", "details": "\n\nid: 7\r"})
        self.assertEqual(len(re.findall(rb"[\r\n]", sent)), 4)
        self.assertTrue(sent.endswith(b"\n\n"))

    def test_keep_alive(self) -> None:
        """A quiet stream sends a comment now and then, and outlives the site's time-out."""
        connection = self.open()
        self.clock.pump([KEEP_ALIVE] * 10)
        self.assertEqual(self.parts(connection)[1:], [b":"] * 10)
        self.assertFalse(connection.transport.disconnecting)
        self.assertEqual(self.following.calls.count("look"), 10)

    def test_busy(self) -> None:
        """A stream that told something of late sends no comment."""
        connection = self.open()
        self.following.happen()
        self.clock.advance(KEEP_ALIVE)
        self.assertNotIn(b":", self.parts(connection))
        self.clock.advance(KEEP_ALIVE)
        self.assertIn(b":", self.parts(connection))


class EndTests(StreamCase):
    """Slow readers, clients that go, and branches that stop."""

    def test_slow_reader(self) -> None:
        """A client that does not keep up pauses what it follows until it has read on."""
        connection = self.open()
        producer: Any = connection.transport.producer
        producer.pauseProducing()
        self.clock.advance(KEEP_ALIVE)
        self.assertEqual(self.following.calls, ["resume", "pause"])
        self.assertEqual(len(self.parts(connection)), 1)
        producer.resumeProducing()
        self.assertEqual(self.following.calls[2:], ["resume"])

    def test_no_reader(self) -> None:
        """A client that reads nothing for long is cut off."""
        connection = self.open()
        producer: Any = connection.transport.producer
        producer.pauseProducing()
        self.clock.pump([KEEP_ALIVE] * int(READS_WITHIN / KEEP_ALIVE - 1))
        producer.pauseProducing()
        self.assertFalse(connection.transport.disconnecting)
        self.clock.advance(KEEP_ALIVE)
        self.assertTrue(connection.transport.disconnecting)

    def test_client_gone(self) -> None:
        """A client that goes away leaves nothing behind."""
        connection = self.open()
        connection.disconnect()
        self.assertEqual(self.following.calls, ["resume", "stop"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.site._streams._open, set())

    def test_gone_early(self) -> None:
        """A client that goes away before its stream begins leaves nothing behind."""
        self.controller.held = []
        connection = self.open()
        connection.disconnect()
        self.controller.release()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.site._streams._open, set())

    def test_stop(self) -> None:
        """A branch that stops ends its streams at once, each as a complete answer, and begins none."""
        connections = [self.open(), self.open("/instances/w1/events/")]
        connections[1].transport.producer.pauseProducing()  # type: ignore[union-attr]
        self.site.end_streams()
        for connection in connections:
            self.assertEqual(self.parts(connection)[-1], b"END")
        self.assertEqual([each.calls[-1] for each in self.controller.events.followings], ["stop"] * 2)
        self.assertEqual(self.ask(Accept="text/event-stream").status, 503)
        self.assertEqual(self.ask().status, 200)

    def test_stop_early(self) -> None:
        """A stream that was about to begin when the branch stopped is refused."""
        self.controller.held = []
        connection = self.open()
        self.site.end_streams()
        self.controller.release()
        self.assertEqual(connection.response().status, 503)
        self.assertEqual(self.following.calls, ["stop"])

    def test_unreadable(self) -> None:
        """A stream whose events can't be read any more ends, so that its client comes back."""
        connection = self.open()
        self.following.fail()
        self.assertEqual(self.parts(connection)[-1], b"END")

    def test_next_request(self) -> None:
        """The connection of a stream that has ended serves the next request."""
        connection = self.open()
        self.following.fail()
        connection.transport.clear()
        connection.request("GET", "/ping/")
        self.assertEqual(connection.response().status, 200)

    def test_too_many(self) -> None:
        """Streams over the limit are refused until one has ended."""
        connections = [self.open() for _ in range(STREAMS_MOST)]
        answer = self.ask(Accept="text/event-stream")
        self.assertEqual((answer.status, answer.header("Retry-After")), (503, "5"))
        self.assertIn("100 clients", answer.json["detail"])
        self.assertEqual(self.ask().status, 200)
        connections[3].disconnect()
        self.assertEqual(self.parts(self.open())[0][:6], b"retry:")
