"""Having a new instance made on some branch: the asker's side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cyme.actors import ANYONE
from cyme.controller.placing import ROUND_ROBIN
from cyme.errors import BranchAway, BranchCordoned, BusAway, NoPlace, NoRoute

if TYPE_CHECKING:
    from cyme.actors import Actors
    from cyme.controller.placing import Places
    from cyme.membership import Membership

#: How often work is thrown that meets a branch which was cordoned, or began to stop, meanwhile.
THROWS_MOST = 3


class Placer:
    """Asks branches to take an instance.

    The methods take its name (None for a generated one), the seconds within which there is to be an
    answer, and the arguments of the verb `add` (`cyme.controller.owner`), whose answer they give.
    """

    def __init__(self, actors: Actors, presence: Membership, places: Places) -> None:
        self._actors = actors
        self._presence = presence
        self._places = places

    async def place(
        self,
        branch: str | None,
        labels: Sequence[str],
        how: str,
        name: str | None,
        timeout: float,
        arguments: dict[str, Any],
    ) -> Any:
        """Place it as its user wants it.

        :param branch: the branch to have it, or None.
        :param labels: what the branch has to have.
        :param how: one of `placing.PLACEMENTS`, where there is a choice.
        """
        if branch is not None:
            return await self._on(branch, labels, name, timeout, arguments)
        if labels or how != ROUND_ROBIN:
            return await self._pick(labels, how, name, timeout, arguments)
        return await self._throw(name, timeout, arguments)

    async def _on(
        self, branch: str, labels: Sequence[str], name: str | None, timeout: float, arguments: dict[str, Any]
    ) -> Any:
        """Place it on one branch.

        :raises NoSuchBranch, BranchAway, BranchCordoned, InvalidParameter: see `Places.require`.
        """
        self._places.require(branch, labels)
        try:
            return await self._actors.call(
                "Branch", branch, "place", timeout=timeout, instance=name, labels=labels, **arguments
            )
        except NoRoute as nobody:
            # The branch may be there and not find the way to something else.
            if nobody.arguments == ("Branch", branch):
                self._presence.finds_nobody(branch)
                raise self._places.away(branch) from None
            raise

    async def _pick(
        self, labels: Sequence[str], how: str, name: str | None, timeout: float, arguments: dict[str, Any]
    ) -> Any:
        """Place it on the first branch that takes it; what is known of them may be old.

        :param how: one of `placing.PLACEMENTS`.
        :raises NoPlace: when none does.
        """
        for branch in self._places.choose(labels, how):
            try:
                return await self._on(branch, labels, name, timeout, arguments)
            except (BranchAway, BranchCordoned):
                continue
        raise NoPlace(labels)

    async def _throw(self, name: str | None, timeout: float, arguments: dict[str, Any]) -> Any:
        """Have whichever branch is next take it.

        :raises NoPlace: when none does.
        """
        for _ in range(THROWS_MOST):
            try:
                return await self._actors.throw("Instance", name, "add", timeout=timeout, **arguments)
            except (BranchAway, BranchCordoned):
                continue
            except NoRoute as nobody:
                if nobody.arguments == ("Instance", ANYONE):
                    raise NoPlace from None
                raise
            except BusAway:
                # See Note [Names are unique] in `cyme.controller.claiming`.
                alone = self._places.alone()
                if alone is not None:
                    return await self._on(alone, (), name, timeout, arguments)
                if not self._actors.connected:
                    raise
                # The queue is on a node that is down. Should a branch have got it all the same: the
                # asker chose the name, so that there will be no second one.
                return await self._pick((), ROUND_ROBIN, name, timeout, arguments)
        raise NoPlace
