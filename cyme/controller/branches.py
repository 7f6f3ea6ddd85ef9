"""The verbs of branches: the asker's side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyme.controller.cordoning import branch_details, change_branch
from cyme.controller.deferring import returns_deferred
from cyme.errors import BranchAway, NoRoute, NoSuchBranch

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.actors import Actors
    from cyme.controller.evacuating import Evacuating
    from cyme.controller.placing import Places
    from cyme.interfaces import ICatalogue, IEvents
    from cyme.membership import Membership


class Branches:
    """Shows the live branches, and says what they, or those that are away, are to do."""

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        actors: Actors,
        presence: Membership,
        places: Places,
        events: IEvents,
        evacuating: Evacuating,
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._actors = actors
        self._presence = presence
        self._places = places
        self._events = events
        self._evacuating = evacuating

    def all(self) -> list[str]:
        """The ids of the live branches."""
        return list(self._presence.members())

    def get(self, id: str) -> dict[str, Any]:
        """What a live branch says of itself, and what was asked of it; see `Presence.heartbeat`.

        :raises NoSuchBranch: when there is no live branch of that id.
        """
        about = self._presence.about(id)
        if about is None:
            raise NoSuchBranch(id)
        return {**about, **branch_details(self._catalogue, id)}

    @returns_deferred
    async def cordon(self, id: str) -> dict[str, Any]:
        """Have a branch take no new instances, also one that is away: it learns of it.

        :return: fires with what was asked of the branch, see `branch_details`.
        :raises NoSuchBranch: when nobody has heard of it.
        """
        return await self._ask_or_write(id, "cordon")

    @returns_deferred
    async def uncordon(self, id: str) -> dict[str, Any]:
        """Have a branch take new instances again; a drain of it ends where it is.

        :raises NoSuchBranch: when nobody has heard of it.
        """
        return await self._ask_or_write(id, "uncordon")

    @returns_deferred
    async def drain(self, id: str) -> dict[str, Any]:
        """Have a branch take no new instances and move those that it has to others.

        :return: fires once that is asked for, durably; `draining` tells how far it is.
        :raises NoSuchBranch, BranchAway: when it does not live.
        """
        self._places.require_alive(id)
        return await self._ask(id, "drain")

    @returns_deferred
    async def shutdown(self, id: str) -> None:
        """Have a branch stop in good order, as SIGTERM does; fires before it does.

        :raises NoSuchBranch, BranchAway: when it does not live.
        """
        self._places.require_alive(id)
        await self._ask(id, "shutdown")

    @returns_deferred
    async def evacuate(self, id: str) -> dict[str, Any]:
        """Give the instances of a branch that is away to live branches.

        When it returns after all it stops its workers of those that others have then.

        :return: fires with `moved`, instance -> branch, and `left`, instance -> why.
        :raises NoSuchBranch: when nobody has heard of it.
        :raises BranchLives: when it does not need that.
        :raises NameClaimed: while another branch does this already.
        """
        return await self._evacuating.evacuate(id)

    async def _ask(self, id: str, verb: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = await self._actors.call("Branch", id, verb)
            return answer
        except NoRoute:
            self._presence.finds_nobody(id)
            raise self._places.away(id) from None

    async def _ask_or_write(self, id: str, verb: str) -> dict[str, Any]:
        try:
            self._places.require_alive(id)
            return await self._ask(id, verb)
        except BranchAway:
            await change_branch(self._clock, self._catalogue, self._events, id, verb)
            return branch_details(self._catalogue, id)
