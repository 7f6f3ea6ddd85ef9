"""What was acknowledged survives kill -9 of the branch at any moment."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnEmbedded

#: How often the branch is killed, and the longest it may live, in seconds.
KILLS = 6
LONGEST_LIFE = 0.6


class DurabilityTests(OnEmbedded, BranchTestCase):
    """A stream of writes and a branch that is killed at random points of it."""

    async def test_kill_at_random_points(self) -> None:
        """After each kill everything that was acknowledged is there, with the last acknowledged values."""
        seed = random.randrange(2**32)
        chance = random.Random(seed)
        acknowledged: dict[str, int | None] = {}
        uncertain: dict[str, int | None] = {}
        for _ in range(KILLS):
            stream = Deferred.fromCoroutine(self.write(chance, acknowledged, uncertain))
            await deferLater(reactor, chance.uniform(0.05, LONGEST_LIFE))
            await self.branch.kill()
            await stream
            await self.start()
            await self.compare(acknowledged, uncertain, seed)
        self.assertGreater(len(acknowledged), 10)

    async def write(
        self,
        chance: random.Random,
        acknowledged: dict[str, int | None],
        uncertain: dict[str, int | None],
    ) -> None:
        """Write until the branch is gone, several at a time, noting what it acknowledged."""
        uncertain.clear()

        async def one(number: int) -> bool:
            # Each writer has names of its own, so that the last acknowledged value is the last one.
            name = f"app{number}-{chance.randrange(6)}"
            value: int | None = chance.choice([None, *range(1, 100)])
            uncertain[name] = value
            try:
                if value is None:
                    answer = await self.http.delete(f"/{name}/", timeout=20)
                else:
                    answer = await self.http.put(
                        f"/{name}/", json={"extra_config": f"worker_concurrency={value}"}, timeout=20
                    )
            except Exception:
                return False
            self.assertIn(answer.status, (200, 201, 404), answer.text)
            acknowledged[name] = value
            del uncertain[name]
            return True

        async def writer(number: int) -> None:
            while await one(number):
                pass

        await gatherResults([Deferred.fromCoroutine(writer(number)) for number in range(4)])

    async def compare(
        self, acknowledged: dict[str, int | None], uncertain: dict[str, int | None], seed: int
    ) -> None:
        """Hold what the branch knows against what it acknowledged; learn what became of the rest."""
        there: list[str] = await self.ask("GET", "/")
        for name in acknowledged.keys() | uncertain.keys():
            value: int | None = None
            if name in there:
                config: Any = (await self.ask("GET", f"/{name}/"))["extra_config"]
                value = int(config.partition("=")[2])
            allowed = {acknowledged.get(name)} | ({uncertain[name]} if name in uncertain else set())
            self.assertIn(value, allowed, f"{name}; seed {seed}")
            acknowledged[name] = value
