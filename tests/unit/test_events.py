"""The why-log, over a store in memory."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.events import BUFFER, DETAILS_MOST, GATHER, KEEP_SECONDS, PRUNE_INTERVAL, RETRY_AFTER, Events
from tests.contracts.events import make_events_tests
from tests.fakes.events import FakeEvents
from tests.fakes.store import MemoryStore


def real(test: Any) -> Any:
    """Events over a store in memory, see `make_events_tests`."""
    clock = Clock()
    return Events(clock, MemoryStore(), "b1"), clock.advance


class EventsContractTests(make_events_tests(real)):  # type: ignore[misc]
    """The real why-log."""


class FakeEventsTests(make_events_tests(lambda test: (FakeEvents(), lambda seconds: None))):  # type: ignore[misc]
    """The fake why-log."""


class BufferTests(SynchronousTestCase):
    """What happens between recording and writing."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.events = Events(self.clock, self.store, "b1")

    def kinds(self) -> list[str]:
        return [one.kind for one in self.store.events]

    def test_database_away(self) -> None:
        """Events that could not be written are written once when the database is back."""
        self.store.fail_with = OSError("gone")
        self.events.record("start", who="supervisor")
        self.clock.advance(GATHER)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.store.fail_with = None
        self.clock.advance(RETRY_AFTER)
        self.assertEqual(self.kinds(), ["start"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_overflow(self) -> None:
        """More than the buffer holds is counted, and the count is an event."""
        for _ in range(BUFFER + 3):
            self.events.record("start", who="supervisor")
        self.clock.advance(GATHER)
        self.assertEqual(len(self.store.events), BUFFER + 1)
        self.assertEqual((self.kinds()[-1], self.store.events[-1].details), ("lost", '{"count": 3}'))

    def test_failing_subscriber(self) -> None:
        """A subscriber that fails keeps nobody else from hearing."""
        heard: list[Any] = []
        self.events.subscribe(lambda events: 1 / 0)  # type: ignore[arg-type, return-value]
        self.events.subscribe(heard.extend)
        self.events.record("start", who="supervisor")
        self.clock.advance(GATHER)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(heard), 1)

    def details(self, **given: Any) -> Any:
        """What an event tells whose details are given."""
        self.events.record("strange", who="supervisor", **given)
        self.clock.advance(GATHER)
        return self.store.events[-1].document()["details"]

    def test_secrets(self) -> None:
        """No event has a password, wherever in it a URL stands."""
        told = self.details(
            log=["connecting to amqp://me:s3cret@h//", {"url": "redis://:s3cret@h/0"}],
            password="s3cret",
            problem=OSError("https://h/?user=me&password=s3cret&x=1"),
            nothing="amqp://guest@h//",
        )
        self.assertNotIn("s3cret", str(told))
        self.assertEqual(told["log"][0], "connecting to amqp://me:***@h//")
        self.assertEqual(told["problem"], "https://h/?user=me&password=***&x=1")
        self.assertEqual(told["nothing"], "amqp://guest@h//")

    def test_long_details(self) -> None:
        """Details that are too long keep all that is short, and the beginnings of the rest."""
        told = self.details(status=1, log=["a line " + "x" * 20_000] * 20)
        self.assertEqual((told["status"], len(told["log"])), (1, 20))
        self.assertTrue(all(line.startswith("a line xx") for line in told["log"]))
        self.assertLessEqual(len(self.store.events[-1].details), DETAILS_MOST)
        self.assertIn("too_long", self.details(names=list(range(50_000))))

    def test_no_numbers(self) -> None:
        """Numbers that JSON does not have become text, also those that a person wrote."""
        self.assertEqual(self.details(age=float("nan")), {"age": "nan"})
        event = evolve(self.store.events[-1], details='{"age": Infinity}')
        self.assertEqual(event.document()["details"], {"age": "Infinity"})

    def test_strange_words(self) -> None:
        """A kind or an asker that no database takes is made one that it does."""
        self.events.record("k" * 99, who="http \0\ud800" + "x" * 99)
        self.clock.advance(GATHER)
        [event] = self.store.events
        self.assertEqual((len(event.kind), event.who[:8], len(event.who)), (64, "http ??x", 64))

    def test_pruned(self) -> None:
        """Events go when they are too old, at the next write after a while."""
        self.events.record("old", who="supervisor")
        self.clock.advance(GATHER)
        self.clock.advance(KEEP_SECONDS + PRUNE_INTERVAL)
        self.events.record("new", who="supervisor")
        self.clock.advance(GATHER)
        self.assertEqual(self.kinds(), ["new"])
