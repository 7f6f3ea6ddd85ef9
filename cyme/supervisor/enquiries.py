"""Enquiries: what others want to know of an instance, and nothing that changes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cyme.errors import NoProcess, NoSuchInstance, NoSuchQueue
from cyme.planning import consumed
from cyme.supervisor.health import Evidence, health_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.interfaces import ICatalogue, IRemoteControl, IWorkers
    from cyme.planning import Desired, Policy
    from cyme.supervisor.checks import Checks
    from cyme.supervisor.world import World


class Enquiries:
    """Answers for the instances of one branch; see `cyme.interfaces.ISupervisor`."""

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        workers: IWorkers,
        remote: IRemoteControl,
        world: World,
        checks: Checks,
        *,
        policy: Policy,
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._workers = workers
        self._remote = remote
        self._world = world
        self._checks = checks
        self._policy = policy

    async def ask(self, name: str, command: str, timeout: float) -> Any:
        """Ask the worker a question."""
        desired = self._declared(name)
        answers = await self._remote.ask(desired.broker, command, [desired.node], timeout=timeout)
        return answers.get(desired.node)

    async def health(self, name: str) -> Mapping[str, Any]:
        """Say how an instance is, once what is not fresh was asked."""
        await self._checks.examine(self._declared(name))
        desired, observed = self._world.facts(name)
        tracked = self._world.track(name)
        evidence = Evidence(
            desired=desired,
            observed=observed,
            history=tracked.history,
            refused=dict(tracked.quarantined),
            process_state=self._workers.process_state(name),
            counts=tracked.counts,
            counted_at=tracked.counted_at,
        )
        return health_of(evidence, self._clock.seconds(), self._policy)

    async def dump(self, name: str, timeout: float) -> str:
        """Have the worker show its stacks."""
        if name not in self._workers.processes():
            raise NoProcess(name)
        return await self._workers.dump(name, timeout)

    async def declare(self, name: str, queue: str) -> bool:
        """Try a queue's declaration on the broker of an instance."""
        desired = self._declared(name)
        declaration = self._catalogue.queue(desired.app, queue)
        if declaration is None:
            raise NoSuchQueue(queue, desired.app)
        return await self._remote.declare(desired.broker, consumed(declaration))

    def _declared(self, name: str) -> Desired:
        desired = self._world.desired(name)
        if desired is None:
            raise NoSuchInstance(name)
        return desired
