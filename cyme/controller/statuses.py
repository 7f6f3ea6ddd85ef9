"""How all instances of the cluster are, at a glance: each branch tells in pages, and is asked seldom.

A page that shows thousands of instances, to several people, must not ask about each: what a branch
told holds for a moment (`FRESH`), and who asks meanwhile waits for the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.logger import Logger

from cyme.actors import verb
from cyme.controller.details import lost, moment
from cyme.errors import CymeError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.actors import Actors
    from cyme.controller.recency import LastEvents
    from cyme.declarations import Instance
    from cyme.interfaces import ICatalogue, ISupervisor
    from cyme.membership import Membership

#: Seconds for which what a branch told holds; and for which one that told nothing is left alone.
FRESH, SILENT = 1.0, 10.0
#: Seconds that a branch gets to tell.
WITHIN = 3.0
#: Instances that one answer tells of, and that are looked at in one go.
PAGE, LOOKS_AT_ONCE = 500, 100
#: What is told of an instance's problems, and the characters of each.
PROBLEMS_MOST, PROBLEM_MOST = 3, 300

#: The states that ought not to be.
AILING = frozenset({"unresponsive", "unknown", "backoff", "lost"})

_SAME = (
    "state",
    "pid",
    "started_at",
    "is_current",
    "is_consuming",
    "failures",
    "next_attempt",
    "draining",
    "progress",
)


def glance(status: Mapping[str, Any], last_event: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of a status (see `ISupervisor.status`) as much as a list shows."""
    told = {name: status[name] for name in _SAME}
    resources, last_exit = status["resources"], status["last_exit"]
    told["problems"] = [text[:PROBLEM_MOST] for text in (status["problems"] or ())[:PROBLEMS_MOST]]
    told["rss"] = resources["rss"] if resources else None
    told["processes"] = resources["processes"] if resources else None
    told["last_exit"] = {"reason": last_exit["reason"], "at": last_exit["at"]} if last_exit else None
    told["last_event"] = last_event
    return told


class StatusActor:
    """Tells how this branch's instances are.

    :param last_events: the last event of each.
    """

    def __init__(
        self, catalogue: ICatalogue, supervisor: ISupervisor, last_events: LastEvents, branch_id: str
    ) -> None:
        self._catalogue = catalogue
        self._supervisor = supervisor
        self._last_events = last_events
        self._branch_id = branch_id

    @verb(quiet=True)
    def statuses(self, name: str | None, *, after: str, limit: int) -> dict[str, Any]:
        """Answer with a glance at the first `limit` instances after a name; empty behind the last."""
        own = [one for one in self._catalogue.instances() if one.branch == self._branch_id]
        return self.glances([one for one in own if one.name > after][: min(limit, PAGE)])

    def glances(self, instances: Sequence[Instance]) -> dict[str, Any]:
        """A glance at each of several instances."""
        return {
            one.name: glance(self._supervisor.status(one), self._last_events.of(one.name))
            for one in instances
        }

    def own(self) -> list[Instance]:
        """The instances of this branch."""
        return [one for one in self._catalogue.instances() if one.branch == self._branch_id]


@define
class _Told:
    """What a branch told last.

    :ivar at: when that was, by the clock; None for never.
    :ivar asking: pending while it is asked.
    """

    statuses: dict[str, Any]
    at: float | None = None
    asking: Deferred[None] | None = None
    is_silent: bool = False


class Statuses:
    """How the instances of all branches are.

    :param here: tells of this branch's.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        actors: Actors,
        presence: Membership,
        here: StatusActor,
        branch_id: str,
    ) -> None:
        self._clock = clock
        self._actors = actors
        self._presence = presence
        self._here = here
        self._branch_id = branch_id
        self._told: dict[str, _Told] = {}

    async def refresh(self) -> tuple[str, ...]:
        """Ask the live branches that have not told just now; answers with the ids of the silent ones."""
        members = set(self._presence.members())
        for gone in self._told.keys() - members:
            del self._told[gone]
        told = {branch: self._told.setdefault(branch, _Told({})) for branch in sorted(members)}
        waiting = [asking for branch, one in told.items() if (asking := self._fresh(branch, one)) is not None]
        if waiting:
            await DeferredList(waiting)
        return tuple(branch for branch, one in told.items() if one.is_silent)

    def of(self, instance: Instance) -> dict[str, Any]:
        """How an instance is, as its branch told."""
        told = self._told.get(instance.branch)
        if told is None:
            since = self._presence.away_since(instance.branch)
            return glance(lost(None if since is None else moment(since)), None)
        found = told.statuses.get(instance.name)
        if found is not None:
            return dict(found)
        state = "unknown" if told.is_silent else "stopped"
        return {**glance(lost(None), None), "state": state, "problems": []}

    def state_of(self, instance: Instance) -> tuple[str, bool]:
        """An instance's state, and whether somebody ought to look at it."""
        told = self._told.get(instance.branch)
        if told is None:
            return "lost", True
        found = told.statuses.get(instance.name)
        if found is None:
            return ("unknown", True) if told.is_silent else ("stopped", False)
        return found["state"], needs_attention(found)

    # -- inside -----------------------------------------------------------------------

    def _fresh(self, branch: str, told: _Told) -> Deferred[None] | None:
        """What is to be waited for until what a branch told is fresh; None for nothing."""
        if told.asking is None:
            holds = SILENT if told.is_silent else FRESH
            if told.at is not None and self._clock.seconds() - told.at < holds:
                return None
            asking = Deferred.fromCoroutine(self._ask(branch, told))
            if asking.called:
                return None
            told.asking = asking
        waiting: Deferred[None] = Deferred()

        def over(_: Any) -> None:
            told.asking = None
            waiting.callback(None)

        told.asking.addBoth(over)
        return waiting

    async def _ask(self, branch: str, told: _Told) -> None:
        try:
            told.statuses = await (self._look() if branch == self._branch_id else self._tell(branch))
            told.is_silent = False
        except CymeError as problem:
            self._log.debug(
                "branch {branch} does not tell of its instances: {problem}",
                branch=branch,
                problem=str(problem),
            )
            told.is_silent = True
        except Exception:
            self._log.failure("branch {branch} can't be asked about its instances", branch=branch)
            told.is_silent = True
        told.at = self._clock.seconds()

    async def _look(self) -> dict[str, Any]:
        own = self._here.own()
        found: dict[str, Any] = {}
        for first in range(0, len(own), LOOKS_AT_ONCE):
            if first:
                await deferLater(self._clock, 0)
            found.update(self._here.glances(own[first : first + LOOKS_AT_ONCE]))
        return found

    async def _tell(self, branch: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        after = ""
        while True:
            page = await self._actors.call(
                "Branch", branch, "statuses", timeout=WITHIN, after=after, limit=PAGE
            )
            found.update(page)
            if len(page) < PAGE:
                return found
            after = max(page)


def needs_attention(status: Mapping[str, Any]) -> bool:
    """Whether a person ought to look at an instance."""
    return status["state"] in AILING or bool(status["problems"])
