"""A short storm; `make chaos` is the long one."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.chaos.storm import Storm

#: Seconds in which faults are made.
SECONDS = 10.0


class StormTests(TestCase):
    """Everything at once."""

    timeout = 280

    async def test_short(self) -> None:
        """Whatever dies under load, what was acknowledged is true in the end, and nothing is left over."""
        told: list[str] = []
        storm = Storm(
            self,
            seed=20,
            seconds=SECONDS,
            outage=2.0,
            say=told.append,
            options=("--sup-interval", "2", "--warm-timeout", "5", "--wait-after-broker-revived", "10"),
            patience=90.0,
        )
        problems = await storm.run()
        self.assertEqual(problems, [], "\n".join(told))
        self.assertTrue(storm.times, told)
