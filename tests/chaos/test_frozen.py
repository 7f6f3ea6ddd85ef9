"""A worker that is frozen is silent, as a dead one is, and is alive again at once (failure-modes F26)."""

from __future__ import annotations

import os
import signal
from typing import Any

from twisted.internet.threads import deferToThread

from tests.chaos.chaoscase import ChaosCase
from tests.support.waiting import eventually, when_ended


class FrozenTests(ChaosCase):
    """One that stays frozen is replaced: tests.functional.test_supervision."""

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
        """As long as the broker is frozen too nothing is concluded; then the worker is replaced."""
        before = await self.freeze()
        self.broker.freeze()
        await self.until_state("unknown", timeout=60.0)
        checks = self.branch.log_text().count("wake-up")
        await eventually(lambda: self.branch.log_text().count("wake-up") >= checks + 4, 60.0)
        self.assertEqual((await self.instance())["pid"], before["pid"])
        self.broker.thaw()
        events = await self.until_stopped(before)
        back = [event["at"] for event in events if event["kind"] == "broker-back"][-1]
        [stopped] = [event for event in events if event["kind"] == "stopping"]
        self.assertIn("without an answer", stopped["details"]["reason"])
        self.assertGreater(stopped["at"], back + 5.9)

    async def until_stopped(self, before: Any) -> Any:
        """Wait until another worker runs; what is in the why-log then."""
        await self.until_replaced(before["pid"])
        await when_ended(before["pid"], 10.0)
        return await self.ask("GET", "/foo/instances/w1/events/", params={"limit": "1000"})

    async def test_proof(self) -> None:
        """However fast silence is counted, a frozen broker is found out before a worker is judged."""
        before = await self.create()
        for _ in range(2):
            self.broker.freeze()
            await self.until_state("unknown", timeout=60.0)
            await deferToThread(self.broker.mend)
            await self.until_state("running")
        await self.assert_same_life(before)
