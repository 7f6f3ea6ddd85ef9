"""The world as the supervisor sees it: what is declared, what lives, what it remembers.

Only reads; it joins the catalogue, the workers and remote control into the values that
`cyme.planning` judges. An instance that is being moved is this branch's too when it is moved here:
its worker runs at both ends until the move is over (Note [Moves] in `cyme.controller.moving`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from cyme.declarations import Instance
from cyme.planning import Desired, Observed, Phase
from cyme.supervisor.resolving import Defaults, node_name, resolve
from cyme.supervisor.tracking import Tracked

if TYPE_CHECKING:
    from cyme.interfaces import ICatalogue, IRemoteControl, IWorkers


@frozen
class Target:
    """Where the worker of an instance is reached, whether that is still declared or not.

    :ivar node: its Celery node name.
    :ivar broker: the URL of its broker; None when nobody knows it any more.
    """

    name: str
    node: str
    broker: str | None


class World:
    """The instances of one branch.

    :param defaults: asked at each look, because the default broker may be chosen late.
    :ivar supervised_since: see `cyme.planning.Observed`.
    """

    supervised_since = 0.0

    def __init__(
        self,
        catalogue: ICatalogue,
        workers: IWorkers,
        remote: IRemoteControl,
        branch_id: str,
        defaults: Callable[[], Defaults],
    ) -> None:
        self._catalogue = catalogue
        self._workers = workers
        self._remote = remote
        self._branch_id = branch_id
        self._defaults = defaults
        self._memory: dict[str, Tracked] = {}
        # App -> whose worker is being replaced for a limit, and which process that was.
        self._turns: dict[str, tuple[str, int]] = {}

    def track(self, name: str) -> Tracked:
        """The memory of an instance; a new one if there was none."""
        return self._memory.setdefault(name, Tracked(name=name))

    def tracked(self) -> Mapping[str, Tracked]:
        """The memories that are held."""
        return self._memory

    def forget(self, name: str) -> None:
        """Drop the memory of an instance."""
        self._memory.pop(name, None)
        self._turns = {app: turn for app, turn in self._turns.items() if turn[0] != name}

    def facts(self, name: str) -> tuple[Desired | None, Observed]:
        """What an instance should be, and what is known of it now; creates no memory."""
        desired = self.desired(name)
        tracked = self._memory.get(name) or Tracked(name=name)
        broker = desired.broker if desired is not None else None
        return desired, Observed(
            process=self._workers.processes().get(name),
            heard=tracked.heard,
            broker_up=self._remote.reachable(broker) if broker is not None else None,
            broker_revived_at=self._remote.revived_at(broker) if broker is not None else None,
            leftovers=tracked.leftovers,
            quarantined=frozenset(tracked.quarantined),
            draining=tracked.draining is not None,
            resources=tracked.resources,
            may_replace=desired is None or self._may_replace(desired),
            supervised_since=self.supervised_since,
            ailment=tracked.ailment,
            ailing_since=tracked.ailing_since,
            owner=self._other_owner(name) if desired is None else None,
        )

    def take_turn(self, desired: Desired) -> None:
        """Take note that a worker is about to be replaced for a limit: others of its app wait."""
        process = self._workers.processes().get(desired.name)
        if process is not None:
            self._turns[desired.app] = (desired.name, process.pid)

    def _may_replace(self, desired: Desired) -> bool:
        """Whether no other worker of its app is being replaced for a limit."""
        name, pid = self._turns.get(desired.app, (desired.name, 0))
        if name == desired.name:
            return True
        process = self._workers.processes().get(name)
        if process is not None:
            return not (process.pid == pid or process.phase is Phase.STARTING)
        # It is started again in a moment, unless nobody wants that, or it failed and may back off.
        other, tracked = self.desired(name), self._memory.get(name)
        return other is None or not other.is_enabled or tracked is None or tracked.history.failures > 0

    def node(self, name: str) -> str:
        """The Celery node name of an instance."""
        return node_name(name, self._defaults())

    def target(self, name: str) -> Target:
        """Where the worker of an instance is reached."""
        return Target(name, self.node(name), self.broker_of(name))

    def drain_until(self, name: str) -> float | None:
        """When the tasks of a worker that is to stop must have ended, if somebody said so."""
        instance = self._catalogue.instance(name) or self.deleted().get(name)
        return instance.drain_until if instance is not None else None

    def desired(self, name: str) -> Desired | None:
        """What an instance should be; None if it is deleted or another branch's."""
        instance = self._catalogue.instance(name)
        if instance is None or not self._is_here(instance):
            return None
        return self._resolved(instance)

    def all_desired(self) -> list[Desired]:
        """What each instance of this branch should be."""
        own = filter(self._is_here, self._catalogue.instances())
        return [desired for one in own if (desired := self._resolved(one)) is not None]

    def living(self) -> Mapping[str, Sequence[Desired]]:
        """By broker, the instances whose workers live and are not about to stop."""
        processes = self._workers.processes()
        by_broker: dict[str, list[Desired]] = defaultdict(list)
        for desired in self.all_desired():
            process = processes.get(desired.name)
            if process is not None and process.phase is not Phase.STOPPING:
                by_broker[desired.broker].append(desired)
        return by_broker

    def deleted(self) -> Mapping[str, Instance]:
        """The tombstones of this branch's instances, by name."""
        return {
            one.name: one
            for one in self._catalogue.tombstones(Instance.kind)
            if isinstance(one, Instance) and self._is_here(one)
        }

    def elsewhere(self) -> list[str]:
        """The names of instances that are not this branch's, deleted ones included."""
        declared = (*self._catalogue.instances(), *self._catalogue.tombstones(Instance.kind))
        return [one.name for one in declared if isinstance(one, Instance) and not self._is_here(one)]

    def broker_of(self, name: str) -> str | None:
        """The broker of an instance, also of another branch's; a tombstone still knows it."""
        instance = self._catalogue.instance(name)
        desired = self._resolved(instance) if instance is not None else None
        if desired is not None:
            return desired.broker
        tombstone = self.deleted().get(name)
        # One that a person made with SQL names no broker, if neither instance nor app did.
        return tombstone.broker or self._defaults().broker if tombstone is not None else None

    def _is_here(self, instance: Instance) -> bool:
        """Whether a worker of an instance runs here, or is to."""
        return self._branch_id in (instance.branch, instance.moving_to)

    def _other_owner(self, name: str) -> str | None:
        instance = self._catalogue.instance(name)
        return None if instance is None or self._is_here(instance) else instance.branch

    def _resolved(self, instance: Instance) -> Desired | None:
        app = self._catalogue.app(instance.app)
        if app is None:
            return None
        return resolve(
            instance, app, lambda queue: self._catalogue.queue(instance.app, queue), self._defaults()
        )
