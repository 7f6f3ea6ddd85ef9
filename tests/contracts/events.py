"""What every `IEvents` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from cyme.interfaces import IEvents


def make_events_tests(
    fixture: Callable[[SynchronousTestCase], tuple[Any, Callable[[float], None]]],
) -> type[SynchronousTestCase]:
    """Tests of an `IEvents`.

    :param fixture: makes an empty one, and what lets time pass in seconds.
    """

    class EventsTests(SynchronousTestCase):
        def setUp(self) -> None:
            self.events, self.advance = fixture(self)

        def read(self, **which: Any) -> list[str]:
            return [one.kind for one in self.successResultOf(self.events.read(**which))]

        def test_interface(self) -> None:
            """It provides `IEvents`."""
            verifyObject(IEvents, self.events)

        def test_read(self) -> None:
            """What was recorded is read a moment later, in order, narrowed to what is asked for."""
            self.events.record("start", app="foo", instance="w1", who="supervisor", pid=7)
            self.events.record("change", app="foo", who="http")
            self.advance(0.1)
            self.assertEqual(self.read(), ["start", "change"])
            self.assertEqual(self.read(instance="w1"), ["start"])
            self.assertEqual(self.read(app="bar"), [])
            self.assertEqual(self.read(limit=1), ["start"])
            first, _ = self.successResultOf(self.events.read())
            self.assertEqual(self.read(since=first.id), ["change"])

        def test_newest(self) -> None:
            """The newest events come first, narrowed to what is asked for."""
            for kind, instance in (("start", "w1"), ("exit", "w2"), ("start", "w2")):
                self.events.record(kind, app="foo", instance=instance, who="supervisor")
            self.advance(0.1)

            def newest(**which: Any) -> list[Any]:
                found = self.successResultOf(self.events.newest(**which))
                return [(one.kind, one.instance) for one in found]

            self.assertEqual(newest(), [("start", "w2"), ("exit", "w2"), ("start", "w1")])
            self.assertEqual(newest(limit=1), [("start", "w2")])
            self.assertEqual(newest(app="foo", instance="w1"), [("start", "w1")])
            self.assertEqual(newest(app="bar"), [])
            self.assertEqual(newest(before=-1.0), [])

        def test_last(self) -> None:
            """The newest event that can be read is known by its id."""
            self.assertEqual(self.successResultOf(self.events.last()), 0)
            self.events.record("start", who="supervisor")
            self.events.record("exit", who="supervisor")
            self.advance(0.1)
            found = self.successResultOf(self.events.read())
            self.assertEqual(self.successResultOf(self.events.last()), found[-1].id)

        def test_subscribe(self) -> None:
            """A subscriber hears of what can be read, until it ends that."""
            heard: list[Any] = []
            end = self.events.subscribe(heard.extend)
            self.events.record("start", who="supervisor")
            self.advance(0.1)
            end()
            self.events.record("exit", who="supervisor")
            self.advance(0.1)
            self.assertEqual([one.kind for one in heard], ["start"])
            self.assertGreater(heard[0].id, 0)

        def test_strange_details(self) -> None:
            """Details that JSON does not have fail nobody."""
            self.events.record("start", who="supervisor", thing=object())
            self.advance(0.1)
            self.assertEqual(self.read(), ["start"])

        def test_close(self) -> None:
            """Closing writes what waits; what comes after is dropped."""
            self.events.record("start", who="supervisor")
            self.successResultOf(self.events.close())
            self.events.record("exit", who="supervisor")
            self.advance(0.1)
            self.assertEqual(self.read(), ["start"])

    return EventsTests
