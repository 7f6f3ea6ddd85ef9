"""Placing: which branch gets an instance, from what presence and the catalogue know.

The judgement is pure: candidates are values, and two branches that know the same choose the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from attrs import frozen

from cyme.controller.details import moment
from cyme.errors import BranchAway, BranchCordoned, InvalidParameter, NoPlace, NoSuchBranch
from cyme.naming import is_label

if TYPE_CHECKING:
    from cyme.interfaces import ICatalogue

#: How a branch is chosen, where there is a choice: in turn, or the one with the least to do.
ROUND_ROBIN = "round-robin"
LEAST_LOADED = "least-loaded"
PLACEMENTS = (ROUND_ROBIN, LEAST_LOADED)

#: The most labels of one branch, or that one instance asks for.
LABELS_MOST = 64


@frozen(kw_only=True)
class Candidate:
    """A live branch, as far as it matters to who gets an instance.

    :ivar instances: how many it owns, or is about to own.
    :ivar cpus: how many processors its machine has.
    :ivar load: of its machine, averaged over a minute; 0 where that is not known.
    :ivar labels: `NAME=VALUE` of each.
    :ivar accepts: whether it takes new instances.
    """

    id: str
    instances: int = 0
    cpus: int = 1
    load: float = 0.0
    labels: frozenset[str] = frozenset()
    accepts: bool = True


def fitting(candidates: Iterable[Candidate], labels: Collection[str]) -> list[Candidate]:
    """Those that take new instances and have all of the labels, by id."""
    found = [one for one in candidates if one.accepts and one.labels.issuperset(labels)]
    return sorted(found, key=lambda one: one.id)


def by_load(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Candidates in the order in which they have something to do, those with least first.

    That is what runs on a machine and what may begin to, for each of its processors: its load and
    its instances. Of those with the same, the one with fewer instances comes first, then by id.
    """
    return sorted(candidates, key=lambda one: (_busyness(one), one.instances, one.id))


def _busyness(one: Candidate) -> float:
    return round((one.load + one.instances) / max(1, one.cpus), 3)


def in_turn(candidates: Sequence[Candidate], turn: int) -> list[Candidate]:
    """Candidates in the order in which they are tried at the given turn."""
    if not candidates:
        return []
    first = turn % len(candidates)
    return [*candidates[first:], *candidates[:first]]


def label(parameter: str, value: object) -> str:
    """A label as one asks for it, `NAME=VALUE`.

    :raises InvalidParameter: when it is none.
    """
    if not is_label(value):
        raise InvalidParameter(parameter, f"takes NAME=VALUE, such as gpu=yes, not {str(value)[:100]!r}")
    return str(value)


def labels_of(parameter: str, values: object) -> tuple[str, ...]:
    """Labels as one asks for them, each once, in order.

    :raises InvalidParameter: when one of them is none, or two contradict each other.
    """
    if not isinstance(values, (list, tuple)) or len(values) > LABELS_MOST:
        raise InvalidParameter(parameter, f"takes at most {LABELS_MOST} labels NAME=VALUE")
    found = sorted({label(parameter, value) for value in values})
    names = Counter(one.partition("=")[0] for one in found)
    for name, count in names.items():
        if count > 1:
            raise InvalidParameter(parameter, f"asks for two values of {name!r}, and no branch has both")
    return tuple(found)


def placement(parameter: str, value: object) -> str:
    """A way to choose a branch.

    :raises InvalidParameter: when there is none of that name.
    """
    if value not in PLACEMENTS:
        raise InvalidParameter(parameter, f"takes one of {', '.join(PLACEMENTS)}")
    return str(value)


class Members(Protocol):
    """What is used of `cyme.membership.Membership`."""

    def members(self) -> Sequence[str]: ...

    def about(self, branch: str) -> dict[str, Any] | None: ...

    def known(self) -> Sequence[str]: ...

    def away_since(self, branch: str) -> float | None: ...


class Places:
    """The branches that there are for instances."""

    def __init__(self, catalogue: ICatalogue, presence: Members) -> None:
        self._catalogue = catalogue
        self._presence = presence
        self._turn = 0

    def alone(self) -> str | None:
        """The id of this branch while it has never heard of another one, else None."""
        known = {*self._presence.known(), *(one.branch for one in self._catalogue.instances())}
        known.update(one.name for one in self._catalogue.branches())
        return known.pop() if len(known) == 1 else None

    def choose(
        self, labels: Collection[str], how: str = LEAST_LOADED, without: Collection[str] = ()
    ) -> list[str]:
        """The ids of the branches that may get an instance, the first choice first.

        :param without: branches that are left out.
        :raises NoPlace: when there are none.
        """
        found = [one for one in fitting(self.candidates(), labels) if one.id not in without]
        if not found:
            raise NoPlace(sorted(labels))
        if how == LEAST_LOADED:
            return [one.id for one in by_load(found)]
        self._turn += 1
        return [one.id for one in in_turn(found, self._turn - 1)]

    def candidates(self) -> list[Candidate]:
        """The live branches. What they own is known here earlier than they tell it."""
        counts = Counter(one.moving_to or one.branch for one in self._catalogue.instances())
        facts = {id: self._presence.about(id) for id in self._presence.members()}
        return [self._candidate(id, about, counts[id]) for id, about in facts.items() if about is not None]

    def require(self, branch: str, labels: Collection[str] = ()) -> None:
        """Refuse a branch that can't get an instance.

        :raises NoSuchBranch: when nobody has heard of it.
        :raises BranchAway: when it does not live now.
        :raises BranchCordoned: when it takes no new instances.
        :raises InvalidParameter: when it lacks one of the labels.
        """
        self.require_alive(branch)
        about = self._presence.about(branch) or {}
        candidate = self._candidate(branch, about, 0)
        if not candidate.accepts:
            raise BranchCordoned(branch)
        missing = sorted(set(labels) - candidate.labels)
        if missing:
            raise InvalidParameter("label", f"branch {branch!r} has no label {', '.join(missing)}")

    def require_alive(self, branch: str) -> None:
        """Refuse a branch that does not live.

        :raises NoSuchBranch: when nobody has heard of it.
        :raises BranchAway: when it was there before.
        """
        if branch not in self._presence.members():
            raise self.away(branch) if self.is_known(branch) else NoSuchBranch(branch)

    def away(self, branch: str) -> BranchAway:
        """What to say of a branch that does not live."""
        since = self._presence.away_since(branch)
        return BranchAway(branch, None if since is None else moment(since))

    def is_known(self, branch: str) -> bool:
        """Whether anybody has heard of a branch: it was seen, or the catalogue tells of it."""
        return (
            branch in self._presence.known()
            or self._catalogue.branch(branch) in self._catalogue.branches()
            or any(branch in (one.branch, one.moving_to) for one in self._catalogue.instances())
        )

    def _candidate(self, id: str, about: Mapping[str, Any], instances: int) -> Candidate:
        load = about.get("load_average") or [0.0]
        labels: Mapping[str, str] = about.get("labels") or {}
        return Candidate(
            id=id,
            instances=instances,
            cpus=about.get("cpus") or 1,
            load=load[0],
            labels=frozenset(f"{name}={value}" for name, value in labels.items()),
            accepts=about.get("accepts", True) and not self._catalogue.branch(id).is_cordoned,
        )
