"""What goes wrong in a storm: each fault is made, and taken back where it can be."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Collection

from attrs import frozen
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.chaos.lookout import is_alive
from tests.chaos.model import APP, Model
from tests.support.branch import BranchProcess
from tests.support.http import Client
from tests.support.rabbitmq import RabbitMQ

#: Seconds that the branch is away, at most.
LONGEST_ABSENCE = 3.0

#: Seconds that a worker is frozen at most when it is thawed again.
LONGEST_FREEZE = 4.0


@frozen
class Fault:
    """A fault that is over.

    :ivar kind: its name.
    :ivar told: what it was done to.
    :ivar names: the instances that it may have harmed.
    """

    kind: str
    told: str
    names: Collection[str]


class Faults:
    """Makes faults at random.

    :param outage: the longest that the broker is away, in seconds; its first outage lasts so long.
    :ivar frozen: how often each instance's worker was frozen.
    """

    def __init__(
        self,
        branch: BranchProcess,
        broker: RabbitMQ,
        vhost: str,
        client: Client,
        model: Model,
        chance: random.Random,
        *,
        outage: float,
    ) -> None:
        self.frozen: Counter[str] = Counter()
        self.logs: list[str] = []
        self._branch = branch
        self._broker = broker
        self._vhost = vhost
        self._client = client
        self._model = model
        self._chance = chance
        self._outage = outage
        self._had_outage = False
        #: Kind -> how likely it is, and what does it.
        self._kinds: dict[str, tuple[int, Callable[[], Awaitable[tuple[str, Collection[str]] | None]]]] = {
            "worker killed": (4, self._kill_worker),
            "pool child killed": (4, self._kill_child),
            "worker frozen a while": (2, self._freeze_a_while),
            "worker frozen for good": (1, self._freeze_for_good),
            "branch killed": (3, self._kill_branch),
            "broker killed": (2, self._kill_broker),
            "broker stopped": (1, self._stop_broker),
            "broker paused": (2, self._pause_broker),
            "connections closed": (2, self._close_connections),
        }

    def choose(self) -> str:
        """The kind of the next fault."""
        weights = [weight for weight, _ in self._kinds.values()]
        [kind] = self._chance.choices(list(self._kinds), weights)
        return kind

    async def make(self, kind: str) -> Fault | None:
        """Make a fault; returns when it is over, or None when there was nothing to do it to."""
        done = await self._kinds[kind][1]()
        return None if done is None else Fault(kind, *done)

    # -- workers -------------------------------------------------------------------

    async def _victim(self) -> tuple[str, int, list[int]] | None:
        """An instance that runs, its worker's pid, and those of its pool."""
        names = sorted(self._model.existing())
        self._chance.shuffle(names)
        for name in names:
            try:
                answer = await self._client.get(f"/{APP}/instances/{name}/stats/", timeout=10.0)
            except Exception:
                continue
            if answer.status == 200 and answer.json["state"] == "running" and answer.json["stats"]:
                details = answer.json
                return name, details["pid"], details["stats"]["pool"]["processes"]
        return None

    async def _kill_worker(self) -> tuple[str, Collection[str]] | None:
        victim = await self._victim()
        if victim is None or not _send(victim[1], signal.SIGKILL):
            return None
        return f"{victim[0]}, pid {victim[1]}", [victim[0]]

    async def _kill_child(self) -> tuple[str, Collection[str]] | None:
        victim = await self._victim()
        if victim is None or not victim[2] or not _send(self._chance.choice(victim[2]), signal.SIGKILL):
            return None
        return victim[0], [victim[0]]

    async def _freeze_a_while(self) -> tuple[str, Collection[str]] | None:
        victim = await self._victim()
        if victim is None or not self._freeze(victim[0], victim[1]):
            return None
        seconds = self._chance.uniform(0.5, LONGEST_FREEZE)
        await deferLater(reactor, seconds)
        _send(victim[1], signal.SIGCONT)
        return f"{victim[0]}, pid {victim[1]}, for {seconds:.1f} s", [victim[0]]

    async def _freeze_for_good(self) -> tuple[str, Collection[str]] | None:
        victim = await self._victim()
        if victim is None or not self._freeze(victim[0], victim[1]):
            return None
        return f"{victim[0]}, pid {victim[1]}", [victim[0]]

    def _freeze(self, name: str, pid: int) -> bool:
        if not _send(pid, signal.SIGSTOP):
            return False
        self.frozen[name] += 1
        return True

    # -- the branch ------------------------------------------------------------------

    async def _kill_branch(self) -> tuple[str, Collection[str]]:
        await self._branch.kill()
        self.logs.append(self._branch.log_text())
        seconds = self._chance.uniform(0, LONGEST_ABSENCE)
        await deferLater(reactor, seconds)
        await self._branch.start()
        self._client.url = self._branch.url.rstrip("/")
        return f"away for {seconds:.1f} s", self._model.names()

    # -- the broker --------------------------------------------------------------------

    async def _kill_broker(self) -> tuple[str, Collection[str]]:
        return await self._break_broker(self._broker.kill)

    async def _stop_broker(self) -> tuple[str, Collection[str]]:
        return await self._break_broker(self._broker.stop)

    async def _pause_broker(self) -> tuple[str, Collection[str]]:
        return await self._break_broker(self._broker.freeze)

    async def _break_broker(self, how: Callable[[], None]) -> tuple[str, Collection[str]]:
        seconds = self._chance.uniform(1.0, self._outage) if self._had_outage else self._outage
        self._had_outage = True
        await deferToThread(how)
        await deferLater(reactor, seconds)
        await deferToThread(self._broker.mend)
        return f"for {seconds:.1f} s", self._model.names()

    async def _close_connections(self) -> tuple[str, Collection[str]]:
        await deferToThread(self._broker.close_connections, self._vhost)
        return "all", self._model.names()


def _send(pid: int, number: int) -> bool:
    """Signal a process that is alive; whether it was."""
    if number != signal.SIGCONT and not is_alive(pid):
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
