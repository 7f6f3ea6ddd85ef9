"""Pages that stay fresh, and logs that are followed, as streams of events."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock

from cyme.admin import live, logtail
from cyme.errors import BranchAway, NoSuchInstance
from tests.fakes.controller import FakeController
from tests.support.pages import NOW, PagesCase


def told(connection: Any) -> list[dict[str, Any]]:
    """The events that a stream has told."""
    found = []
    for part in connection.received().split(b"\n\n"):
        for line in part.split(b"\n"):
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:]))
    return found


class StreamCase(PagesCase):
    """A test with a controller of which the test says what happens."""

    def setUp(self) -> None:
        clock = Clock()
        clock.advance(NOW)
        self.fake = FakeController()
        self.open(clock, self.fake)
        self.fake.apps.add("foo")
        self.fake.instances.add("foo", "w1")

    def end(self, connection: Any) -> None:
        """Have a client go away, unless it has."""
        if not getattr(connection.transport, "has_gone", False):
            connection.transport.has_gone = True
            connection.disconnect()


class LiveTests(StreamCase):
    """When pages fetch themselves anew."""

    def test_ticks(self) -> None:
        """A page is told every few seconds that something may have changed."""
        connection = self.browser.stream("/admin/live/")
        self.addCleanup(self.end, connection)
        self.assertIn(b"text/event-stream", connection.received())
        self.assertEqual(told(connection), [])
        self.clock.advance(live.EVERY)
        self.clock.advance(live.EVERY)
        self.assertEqual([one["kind"] for one in told(connection)], ["changed"] * 2)

    def test_event(self) -> None:
        """When something happens a page is told within a moment, once for all of it."""
        connection = self.browser.stream("/admin/live/")
        self.addCleanup(self.end, connection)
        (following,) = self.fake.events.followings
        following.happen()
        following.happen()
        self.clock.advance(live.GATHER)
        self.assertEqual(len(told(connection)), 1)

    def test_nobody_looks(self) -> None:
        """When the last page is left nothing goes on; for the next one it begins again."""
        connections = [self.browser.stream("/admin/live/") for _ in range(2)]
        for connection in connections:
            connection.disconnect()
        self.assertEqual(self.fake.events.followings[0].calls[-1], "stop")
        self.assertEqual([call for call in self.clock.getDelayedCalls() if "_tick" in str(call)], [])
        again = self.browser.stream("/admin/live/")
        self.addCleanup(self.end, again)
        self.clock.advance(live.EVERY)
        self.assertEqual(len(told(again)), 1)

    def test_no_events(self) -> None:
        """Where the why-log can't be followed there are ticks all the same."""
        self.patch(self.fake.events, "follow", lambda **_: 1 / 0)
        connection = self.browser.stream("/admin/live/")
        self.addCleanup(self.end, connection)
        self.clock.advance(live.EVERY)
        self.assertEqual(len(told(connection)), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stop(self) -> None:
        """A branch that stops ends its streams, and begins no more."""
        connection = self.browser.stream("/admin/live/")
        self.site.end_streams()
        self.assertIn(b"\r\n0\r\n", connection.received())
        late = self.browser.stream("/admin/live/")
        self.assertIn(b" 503 ", late.received())


class LogTests(StreamCase):
    """Logs that are followed."""

    def setUp(self) -> None:
        super().setUp()
        self.log = "one\ntwo\n"
        self.problem: Exception | None = None

        def read(app: str | None, name: str, tail: int = 100) -> Any:
            self.assertEqual((app, name), ("foo", "w1"))
            if self.problem is not None:
                raise self.problem
            return self.fake.answer(self.log)

        self.patch(self.fake.instances, "log", read)
        self.connection = self.browser.stream("/admin/instances/w1/log/")
        self.addCleanup(self.end, self.connection)

    def test_page(self) -> None:
        """Without a stream it is a page with the last lines."""
        self.assertIn("one two", self.page("/admin/instances/w1/log/"))

    def test_lines(self) -> None:
        """What stands there is told at once, and then what comes."""
        self.assertEqual(told(self.connection)[0]["add"], ["one", "two"])
        self.log += "three\n"
        self.clock.advance(logtail.SOON)
        self.assertEqual(told(self.connection)[1]["add"], ["three"])

    def test_quiet(self) -> None:
        """A log in which nothing happens is looked at ever less often, up to a bound."""
        reads: list[float] = []
        read = self.fake.instances.log

        def counted(*args: Any) -> Any:
            reads.append(self.clock.seconds())
            return read(*args)

        self.patch(self.fake.instances, "log", counted)
        self.clock.pump([0.25] * 120)
        self.assertLess(len(reads), 15)
        self.assertLessEqual(reads[-1] - reads[-2], logtail.SLOW + 0.25)
        self.assertEqual(len(told(self.connection)), 1)

    def test_away(self) -> None:
        """While the branch of the instance is away that is told, and the log goes on when it is back."""
        self.problem = BranchAway("b2")
        self.clock.advance(logtail.SOON)
        self.assertIn("b2", told(self.connection)[-1]["problem"])
        self.problem, self.log = None, "one\ntwo\nthree\n"
        self.clock.advance(logtail.SLOW)
        self.assertEqual(told(self.connection)[-1]["add"], ["three"])

    def test_deleted(self) -> None:
        """The stream ends when the instance is deleted."""
        self.problem = NoSuchInstance("w1")
        self.clock.advance(logtail.SOON)
        self.assertEqual(told(self.connection)[-1]["kind"], "gone")
        self.assertIn(b"\r\n0\r\n", self.connection.received())

    def test_failure(self) -> None:
        """What fails in a way that nobody thought of ends the stream and is logged."""
        self.problem = ZeroDivisionError()
        self.clock.advance(logtail.SOON)
        self.assertIn(b"\r\n0\r\n", self.connection.received())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_gone(self) -> None:
        """Nothing is read any more for a client that left."""
        self.end(self.connection)
        self.patch(self.fake.instances, "log", lambda *args: self.fail("it is read"))
        self.clock.advance(60)
