"""Which broker is the default one."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from cyme.broker_choice import choose

CANDIDATE = "amqp://candidate//"


class ChooseTests(SynchronousTestCase):
    """Every way to the choice."""

    def setUp(self) -> None:
        self.asked: list[str] = []

    def choose(self, explicit: str | None, remembered: str | None, answers: bool = False) -> tuple[str, str]:
        def probe(url: str) -> bool:
            self.asked.append(url)
            return answers

        choice = choose(explicit, remembered, CANDIDATE, probe)
        return choice.broker, choice.reason

    def test_explicit(self) -> None:
        """What --broker says is never replaced, and nothing is looked for."""
        self.assertEqual(self.choose("redis://x", "amqp://y", True)[0], "redis://x")
        self.assertEqual(self.choose("embedded", None, True)[0], "embedded")
        self.assertEqual(self.asked, [])

    def test_remembered(self) -> None:
        """A remembered broker is used without looking whether a better one is there now."""
        self.assertEqual(self.choose(None, "embedded", True)[0], "embedded")
        self.assertEqual(self.choose(None, CANDIDATE)[0], CANDIDATE)
        self.assertEqual(self.asked, [])

    def test_found(self) -> None:
        """At the first start an AMQP broker that answers is taken."""
        broker, reason = self.choose(None, None, True)
        self.assertEqual((broker, self.asked), (CANDIDATE, [CANDIDATE]))
        self.assertIn("found", reason)

    def test_none(self) -> None:
        """At the first start without one, the choice is the embedded Redis."""
        broker, reason = self.choose(None, None)
        self.assertEqual((broker, self.asked), ("embedded", [CANDIDATE]))
        self.assertIn("no AMQP broker answered", reason)
