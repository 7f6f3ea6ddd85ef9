"""What is asked of a branch as such, on its own side: the actor `Branch`'s verbs of life.

What has to hold also when the branch dies is a declaration (`BranchState`), so that it is known
everywhere, and learned by a branch that was away when it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import evolve

from cyme.actors import verb
from cyme.asking import asker
from cyme.controller.details import instance_details
from cyme.declarations import BranchState, Declaration
from cyme.errors import BranchCordoned, NoSuchInstance

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.actors import Actors
    from cyme.interfaces import ICatalogue, IEvents, ISupervisor

#: Seconds until a branch that was asked to stop does so: its answer is on its way by then.
SHUT_DOWN_AFTER = 0.2

#: What becomes of what was asked of a branch, given it and the time.
Transition = Callable[[BranchState, float], BranchState]


def cordoned(state: BranchState, now: float) -> BranchState:
    """It takes no new instances."""
    return evolve(state, is_cordoned=True)


def uncordoned(state: BranchState, now: float) -> BranchState:
    """It takes new instances, and keeps those that it has."""
    return BranchState(name=state.name)


def draining(state: BranchState, now: float) -> BranchState:
    """It takes none, and those that it has are moved; asked for again it goes on."""
    if state.is_draining:
        return evolve(state, is_cordoned=True)
    return BranchState(name=state.name, is_cordoned=True, draining_since=now)


#: Verb -> what it makes of a branch, and how the why-log calls that.
TRANSITIONS: dict[str, tuple[Transition, str]] = {
    "cordon": (cordoned, "branch-cordoned"),
    "uncordon": (uncordoned, "branch-uncordoned"),
    "drain": (draining, "branch-drain-began"),
}


async def change_branch(
    clock: IReactorTime, catalogue: ICatalogue, events: IEvents, branch: str, what: str
) -> None:
    """Have it stored what is asked of a branch.

    :param what: a key of `TRANSITIONS`.
    """
    transition, kind = TRANSITIONS[what]
    before: list[BranchState] = []

    def decide() -> list[Declaration]:
        state = catalogue.branch(branch)
        before.append(state)
        after = transition(state, clock.seconds())
        return [after] if after != evolve(state, version=after.version) else []

    if await catalogue.change(decide):
        events.record(kind, who=asker().who, branch=branch)


def branch_details(catalogue: ICatalogue, branch: str) -> dict[str, Any]:
    """What was asked of a branch and how far that is, as users read it."""
    state = catalogue.branch(branch)
    return {"is_cordoned": state.is_cordoned, "draining": _draining_details(catalogue, state)}


def _draining_details(catalogue: ICatalogue, state: BranchState) -> dict[str, Any] | None:
    if not state.is_draining:
        return None
    own = [one for one in catalogue.instances() if one.branch == state.name]
    return {
        "since": state.draining_since,
        "ended_at": state.drained_at if not own else None,
        "moved": dict(state.moved),
        "moving": {one.name: one.moving_to for one in own if one.moving_to is not None},
        "left": [one.name for one in own if one.moving_to is None],
        "problem": state.problem,
    }


class CordonActor:
    """What can be asked of this branch itself, and of those instances that are being moved to it.

    :param shut_down: stops the branch as SIGTERM does.
    """

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        supervisor: ISupervisor,
        events: IEvents,
        branch_id: str,
        default_broker: Callable[[], str],
        shut_down: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._supervisor = supervisor
        self._events = events
        self._branch_id = branch_id
        self._default_broker = default_broker
        self._shut_down = shut_down

    @verb()
    async def cordon(self, name: str) -> dict[str, Any]:
        """Take no new instances; answers with `branch_details`."""
        return await self._change("cordon")

    @verb()
    async def uncordon(self, name: str) -> dict[str, Any]:
        """Take new instances again, and have those stay that are here; answers with `branch_details`."""
        return await self._change("uncordon")

    @verb()
    async def drain(self, name: str) -> dict[str, Any]:
        """Take none, and have all that are here moved; answers with `branch_details`."""
        return await self._change("drain")

    @verb()
    def shutdown(self, name: str) -> None:
        """Stop the branch in good order, once this is answered (requirements R26)."""
        self._events.record("branch-shut-down", who=asker().who, branch=self._branch_id)
        self._clock.callLater(SHUT_DOWN_AFTER, self._shut_down)

    @verb()
    def node(self, name: str, *, instance: str) -> dict[str, Any]:
        """Answer with the Celery node name that an instance's worker would have here."""
        found = self._catalogue.instance(instance)
        if found is None:
            raise NoSuchInstance(instance)
        return {"node": self._supervisor.status(found)["node"]}

    @verb("wait")
    async def guest(self, name: str, *, instance: str, wait: float) -> dict[str, Any]:
        """Answer with the details of an instance that is being moved here, as it is here.

        :param wait: seconds to wait until nothing is left to do for it.
        """
        found = self._catalogue.instance(instance)
        if found is None or self._branch_id not in (found.branch, found.moving_to):
            raise NoSuchInstance(instance)
        if found.branch != self._branch_id and self._catalogue.branch(self._branch_id).is_cordoned:
            raise BranchCordoned(self._branch_id)
        if wait > 0 and found.is_enabled:
            await self._supervisor.settled(instance, wait)
        found = self._catalogue.instance(instance) or found
        app = self._catalogue.app(found.app)
        status = self._supervisor.status(found)
        return instance_details(found, app, self._default_broker(), status)

    async def _change(self, what: str) -> dict[str, Any]:
        await change_branch(self._clock, self._catalogue, self._events, self._branch_id, what)
        return branch_details(self._catalogue, self._branch_id)


def follow_cordon(catalogue: ICatalogue, actors: Actors, branch_id: str) -> None:
    """Have this branch take thrown instances exactly while it is not cordoned."""

    def changed(declarations: tuple[Declaration, ...]) -> None:
        for one in declarations:
            if isinstance(one, BranchState) and one.name == branch_id:
                actors.accept("Instance", not catalogue.branch(branch_id).is_cordoned)

    catalogue.subscribe(changed)
