"""Giving the instances of a branch that is away to branches that live.

Note [Evacuation]
~~~~~~~~~~~~~~~~~
Who evacuates writes what is another branch's: nobody else can. Each instance is one change, made
only while the branch is still away, and gives it a new owner under a new version. When the branch
returns it hears of those versions and stops its workers of those instances; what it wrote itself
before it was away is older. Two that evacuate the same branch keep out of each other's way by a
claim; where that does not reach (a partition), the versions decide once more, as for everything.

A branch that is away may be alive: cut off from the bus, its workers go on, and those of the same
instances elsewhere work beside them. So nobody does this by himself unless he was told to
(`--evacuate-after`), and never while the bus is away from him.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from cyme.asking import Asker, asked_by, asker
from cyme.declarations import Declaration, Instance
from cyme.errors import BranchLives, CymeError, NoPlace, NoSuchBranch

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.actors import Actors
    from cyme.controller.placing import Members, Places
    from cyme.interfaces import ICatalogue, IEvents

#: Seconds between two looks for branches that are away for too long, at most.
LOOK_EVERY = 5.0


class Evacuating(Service):
    """Evacuates branches when asked, or when they are away for too long; see Note [Evacuation].

    :param connected: whether the bus is there.
    :param after: seconds after which a branch that is away is evacuated; None for never.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        actors: Actors,
        presence: Members,
        places: Places,
        events: IEvents,
        branch_id: str,
        connected: Callable[[], bool],
        after: float | None,
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._actors = actors
        self._presence = presence
        self._places = places
        self._events = events
        self._branch_id = branch_id
        self._connected = connected
        self._after = after
        # Branch -> since when it is seen to be away, seconds since the epoch.
        self._away_since: dict[str, float] = {}
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def startService(self) -> None:
        """Begin to look for branches that are away, if that is wanted."""
        super().startService()
        if self._after is not None:
            self._loop.start(min(LOOK_EVERY, max(1.0, self._after / 2)))

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()

    async def evacuate(self, branch: str) -> dict[str, Any]:
        """Give the instances of a branch to others; see `Branches.evacuate`."""
        self._require_away(branch)
        if not self._places.is_known(branch):
            raise NoSuchBranch(branch)
        release = await self._actors.claim("Branch", branch)
        moved: dict[str, str] = {}
        left: dict[str, str] = {}
        try:
            for instance in [one for one in self._catalogue.instances() if one.branch == branch]:
                self._require_away(branch)
                try:
                    target = self._target(instance)
                except NoPlace as problem:
                    left[instance.name] = str(problem)
                    continue
                if await self._rehome(branch, instance.name, target):
                    moved[instance.name] = target
        finally:
            release()
            if moved:
                self._events.record(
                    "branch-evacuated", who=asker().who, branch=branch, moved=moved, left=left
                )
        return {"branch": branch, "moved": moved, "left": left}

    # -- inside -----------------------------------------------------------------------

    def _require_away(self, branch: str) -> None:
        if branch in self._presence.members():
            raise BranchLives(branch)

    def _target(self, instance: Instance) -> str:
        """Where an instance goes: where it was going, if it was, for it runs there already."""
        going = instance.moving_to
        if going is not None and going in self._presence.members():
            return going
        return self._places.choose(instance.labels)[0]

    async def _rehome(self, branch: str, name: str, target: str) -> bool:
        """Write an instance's new owner; whether it was still the old one's."""

        def decide() -> list[Declaration]:
            instance = self._catalogue.instance(name)
            if instance is None or instance.branch != branch:
                return []
            return [evolve(instance, branch=target, moving_to=None)]

        return bool(await self._catalogue.change(decide))

    def _look(self) -> Deferred[None]:
        looking = Deferred.fromCoroutine(self._evacuate_overdue())
        return looking.addErrback(
            lambda failure: self._log.failure("looking for branches that are away failed", failure)
        )

    async def _evacuate_overdue(self) -> None:
        assert self._after is not None
        now = self._clock.seconds()
        members = self._presence.members()
        if not self._connected() or not members:
            # Who hears nobody knows nothing about anybody.
            self._away_since.clear()
            return
        away = {one.branch for one in self._catalogue.instances()} - set(members)
        self._away_since = {branch: self._away_since.get(branch, now) for branch in away}
        if min(members) != self._branch_id:
            return
        for branch, since in sorted(self._away_since.items()):
            if now - since < self._after:
                continue
            self._log.warn(
                "branch {branch} is away for {seconds:.0f} s, and is evacuated",
                branch=branch,
                seconds=now - since,
            )
            try:
                with asked_by(Asker("evacuate-after")):
                    await self.evacuate(branch)
            except CymeError as problem:
                self._log.warn(
                    "branch {branch} can't be evacuated now: {problem}", branch=branch, problem=str(problem)
                )
