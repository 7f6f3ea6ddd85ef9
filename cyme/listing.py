"""Asks the bus which branches live, without being one (requirements R16)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from cyme.actors import Actors, verb
from cyme.errors import BusAway
from cyme.membership import ACTOR

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.interfaces import IMessageBus

#: What one who only asks is called in messages.
ASKER = "cyme-list-branches"
#: The columns of the table: a fact's name and its heading.
_COLUMNS = (("id", "BRANCH"), ("url", "URL"), ("version", "VERSION"), ("instances", "INSTANCES"))


class _Nobody:
    """Who asks is asked too, and no branch."""

    @verb(quiet=True)
    def facts(self, name: str | None) -> None:
        """Have nothing to tell."""


async def list_branches(
    clock: IReactorTime, bus: IMessageBus, timeout: float, limit: int | None = None
) -> list[dict[str, Any]]:
    """The facts that each live branch tells of itself, by id.

    :param bus: not started yet; it is stopped again.
    :param timeout: seconds in which a branch has to answer.
    :param limit: so many answers are enough.
    :raises BusAway: when the bus can't be reached.
    """
    found: dict[str, dict[str, Any]] = {}
    actors = Actors(clock, bus, ASKER, tuple)
    actors.register(ACTOR, _Nobody(), list)

    def take(branch: str, facts: Any) -> None:
        if isinstance(facts, Mapping):
            found[branch] = dict(facts)
            if limit is not None and len(found) >= limit:
                asking.cancel()

    try:
        await actors.start()
        if not bus.connected:
            raise BusAway
        asking = Deferred.fromCoroutine(actors.survey(ACTOR, "facts", take, timeout=timeout))
        asking.addErrback(lambda failure: None if limit is not None and len(found) >= limit else failure)
        await asking
    finally:
        await actors.stop()
    return [found[branch] for branch in sorted(found)][:limit]


def table(branches: Sequence[Mapping[str, Any]]) -> str:
    """Branches as a table for people, a line each."""
    rows = [[heading for _, heading in _COLUMNS] + ["LOAD"]]
    for one in branches:
        load = one.get("load_average") or ["-"]
        rows.append([str(one.get(name, "-")) for name, _ in _COLUMNS] + [str(load[0])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
