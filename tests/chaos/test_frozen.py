"""A worker that is frozen is silent, as a dead one is, and is alive again at once (failure-modes F26)."""

from __future__ import annotations

import os
import signal
from typing import Any

from tests.chaos.chaoscase import HOLD_OFF, ChaosCase
from tests.support.waiting import eventually


class FrozenTests(ChaosCase):
    """One that stays frozen is replaced: tests.functional.test_supervision."""

    command = "impatient"

    async def freeze(self) -> Any:
        """An instance whose worker is frozen; its details before."""
        before = await self.create()
        os.kill(before["pid"], signal.SIGSTOP)
        return before

    async def test_thawed(self) -> None:
        """A worker that was silent for a while goes on as if nothing had been."""
        before = await self.freeze()
        await self.branch.wait_for_line("no answer from")
        os.kill(before["pid"], signal.SIGCONT)
        told = (await self.instance())["last_pong"]

        async def heard() -> Any:
            details = await self.instance()
            self.assertGreater(details["last_pong"], told)
            self.assertEqual(details["state"], "running")
            return details

        await eventually(heard, 30.0)
        await self.assert_same_life(before)

    async def test_with_its_broker(self) -> None:
        """As long as the broker is frozen too nothing is concluded, and for a while after; then it is."""
        before = await self.freeze()
        self.broker.freeze()
        await self.until_state("unknown", timeout=60.0)
        checks = self.branch.log_text().count("wake-up")
        await eventually(lambda: self.branch.log_text().count("wake-up") >= checks + 2, 60.0)
        details = await self.instance()
        self.assertEqual((details["state"], details["pid"]), ("unknown", before["pid"]))
        self.broker.thaw()
        await self.until_state("stopping")
        happened = await eventually(self.story, 20.0)
        self.assertIn("without an answer", happened["stopping"]["details"]["reason"])
        self.assertGreaterEqual(happened["stopping"]["at"], happened["broker-back"]["at"] + HOLD_OFF - 0.1)

    async def story(self) -> Any:
        """The events of the instance up to its end, by their kinds."""
        events = await self.ask("GET", "/foo/instances/w1/events/", params={"limit": "1000"})
        by_kind = {event["kind"]: event for event in events}
        self.assertIn("stopping", by_kind)
        return by_kind
