"""Which branches live: each tells all others that it does, and how it is.

Note [Beats]
~~~~~~~~~~~~
A branch that gets on the bus says hello, and everybody answers it with the facts about itself; so a
newcomer knows all within a moment. Then it sends a beat every few seconds, less often the more there
are, and says in it how often that is; who misses three in a row is away. A clean stop says goodbye. That
a branch is gone is also clear when nobody has its inbox any more, so a call that finds no way to a branch
(`NoRoute`) counts as its goodbye.

While the bus is away nobody is heard, and the only member is this branch itself; the others are away
since then, until they are heard again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import define
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from cyme.actors import verb
from cyme.errors import CymeError
from cyme.presence import Presence

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from cyme.actors import Actors
    from cyme.interfaces import IMessageBus
    from cyme.replication import Replication

#: Whom messages of membership are for.
ACTOR = "Presence"
#: Seconds between two beats, for up to so many members; with more of them it is longer.
BEAT, BEAT_MEMBERS = 2.0, 20
#: Beats that may be missed.
MISSES = 3
#: Seconds for which answers to a hello are waited for.
HELLO_WITHIN = 5.0
#: Seconds after which a branch that starts has heard somebody, if there is anybody; and within which what
#: they know is fetched.
GREETED_WITHIN, KNOWN_WITHIN = 0.25, 10.0
#: Members, and branches that have left, that are remembered.
MOST_MEMBERS, MOST_LEFT = 10_000, 10_000
#: Characters of a branch's id, and facts that it may tell.
_ID = re.compile(r"[^\s/]{1,255}")
FACTS_MOST = 100


@define
class _Member:
    """Another branch.

    :ivar life: tells one life of the branch from the next.
    :ivar deadline: when it is away if nothing is heard of it, by the clock.
    """

    facts: Mapping[str, Any]
    life: str
    deadline: float
    heard_at: float


class Membership:
    """The live branches, and those that have left.

    :param clock: shows seconds since the epoch.
    :param presence: the facts about this branch.
    :param life: a text that no other life of this branch has.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        bus: IMessageBus,
        actors: Actors,
        presence: Presence,
        replication: Replication,
        digest: Callable[[], str],
        *,
        branch_id: str,
        life: str,
    ) -> None:
        self._clock = clock
        self._bus = bus
        self._actors = actors
        self._presence = presence
        self._replication = replication
        self._digest = digest
        self._branch_id = branch_id
        self._life = life
        self._began_at = clock.seconds()
        self._members: dict[str, _Member] = {}
        self._left: dict[str, float] = {}
        self._next: IDelayedCall | None = None
        self._is_up = False
        self._has_twin = False
        self._subscribers: list[Callable[[str, bool], None]] = []
        actors.register(ACTOR, self, list)
        bus.subscribe(self._bus_changed)

    # -- what is known -----------------------------------------------------------------------

    def members(self) -> tuple[str, ...]:
        """The ids of the live branches, sorted; this one is always among them."""
        return tuple(sorted((self._branch_id, *self._members)))

    def about(self, branch: str) -> dict[str, Any] | None:
        """The facts about a live branch, JSON-able (requirements R26, R95); None if it is not live."""
        if branch == self._branch_id:
            return self._presence.heartbeat()
        member = self._members.get(branch)
        return None if member is None else dict(member.facts)

    def away_since(self, branch: str) -> float | None:
        """When a branch was last known to be there, in seconds since the epoch; None for one that is live.

        For one that was never heard, the time from which on it would have been.
        """
        if branch == self._branch_id or branch in self._members:
            return None
        return self._left.get(branch, self._began_at)

    def known(self) -> tuple[str, ...]:
        """The ids of the live branches and of those that have left."""
        return (*self.members(), *self._left)

    def subscribe(self, changed: Callable[[str, bool], None]) -> None:
        """Have `changed` called with a branch's id, and whether it has come or gone."""
        self._subscribers.append(changed)

    def finds_nobody(self, branch: str) -> None:
        """Take note that no message reaches a branch."""
        self._lose(branch)

    # -- start and stop ---------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        """Say hello, now or when the bus is there, and begin to beat.

        Fires when what others know is known here too, of those who answer soon: a branch that was
        away must not act on what it had before. At once while the bus is away.
        """
        self._is_up = True
        if not self._bus.connected:
            return succeed(None)
        self._bus_changed(True)
        clock: Any = self._clock
        greeted: Deferred[None] = deferLater(clock, GREETED_WITHIN)
        return greeted.addCallback(lambda _: self._replication.when_idle(KNOWN_WITHIN))

    def stop(self) -> Deferred[None]:
        """Say goodbye; fires when the bus has it, or can't take it."""
        self._is_up = False
        self._cancel()
        self._replication.stop()
        leaving = self._actors.announce(
            ACTOR, "goodbye", within=BEAT, branch=self._branch_id, life=self._life
        )
        return leaving.addErrback(lambda _: None)

    def _bus_changed(self, is_connected: bool) -> None:
        self._cancel()
        if not is_connected:
            for branch in list(self._members):
                self._lose(branch)
        elif self._is_up:
            Deferred.fromCoroutine(self._say_hello()).addErrback(
                lambda failure: self._log.failure("saying hello failed", failure)
            )
            self._later()

    async def _say_hello(self) -> None:
        try:
            await self._actors.survey(
                ACTOR, "hello", self._answered, timeout=HELLO_WITHIN, facts=self._facts()
            )
        except CymeError as problem:
            self._log.debug("hello was not heard: {problem}", problem=str(problem))

    def _answered(self, branch: str, facts: Any) -> None:
        self._hear(branch, facts)

    # -- beats ---------------------------------------------------------------------------------

    @property
    def _interval(self) -> float:
        return BEAT * max(1.0, (len(self._members) + 1) / BEAT_MEMBERS)

    def _later(self) -> None:
        self._next = self._clock.callLater(self._interval, self._beat)

    def _cancel(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _beat(self) -> None:
        self._later()
        now = self._clock.seconds()
        for branch, member in list(self._members.items()):
            if now >= member.deadline:
                self._lose(branch, member.heard_at)
        telling = self._actors.announce(ACTOR, "beat", within=self._interval, facts=self._facts())
        telling.addErrback(lambda _: None)

    def _facts(self) -> dict[str, Any]:
        """What others are told; what is not for users has no name that facts about a branch may have."""
        return {
            **self._presence.heartbeat(),
            "_life": self._life,
            "_beat": self._interval,
            "_digest": self._digest(),
        }

    # -- what others say -------------------------------------------------------------------------

    @verb("facts", quiet=True)
    def hello(self, name: str | None, *, facts: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        """Meet a branch that has come; answers with the facts about this one."""
        self._hear(None, facts)
        return self._facts()

    @verb("facts", quiet=True)
    def beat(self, name: str | None, *, facts: Mapping[str, Any], **_: Any) -> None:
        """Hear that a branch lives."""
        self._hear(None, facts)

    @verb(quiet=True)
    def facts(self, name: str | None, **_: Any) -> dict[str, Any]:
        """Answer with the facts about this branch; who asks need not be one."""
        return self._presence.heartbeat()

    @verb(quiet=True)
    def goodbye(self, name: str | None, *, branch: str, life: str, **_: Any) -> None:
        """Hear that a branch leaves."""
        member = self._members.get(branch)
        if member is not None and member.life == life:
            self._lose(branch)

    def _hear(self, sender: str | None, facts: Any) -> None:
        """Take in what a branch says of itself.

        :param sender: who sent it, where that is known.
        """
        try:
            branch, life, digest = str(facts["id"]), str(facts["_life"]), str(facts["_digest"])
            beat = min(max(float(facts["_beat"]), 0.1), 3600.0)
            shown = {str(key): value for key, value in facts.items() if not str(key).startswith("_")}
        except (KeyError, TypeError, ValueError, AttributeError):
            self._log.debug("a beat that can't be read")
            return
        if len(shown) > FACTS_MOST or not _ID.fullmatch(branch) or sender not in (None, branch):
            return
        if branch == self._branch_id:
            self._check_twin(life)
            return
        now = self._clock.seconds()
        before = self._members.get(branch)
        if before is None and len(self._members) >= MOST_MEMBERS:
            return
        self._members[branch] = _Member(shown, life, now + (MISSES + 0.5) * beat, now)
        is_new = before is None or before.life != life
        if before is None:
            self._left.pop(branch, None)
            self._log.info("branch {branch} has come", branch=branch)
            self._tell(branch, True)
        self._replication.heard(branch, digest, is_new=is_new, beat=beat)

    def _check_twin(self, life: str) -> None:
        """Complain, once, of another branch with this one's id."""
        if life != self._life and not self._has_twin:
            self._has_twin = True
            self._log.error(
                "there is another branch with the id {branch} on this bus: stop one of them, or start it"
                " with another --id",
                branch=self._branch_id,
            )

    def _lose(self, branch: str, since: float | None = None) -> None:
        if self._members.pop(branch, None) is None:
            return
        if len(self._left) >= MOST_LEFT:
            del self._left[next(iter(self._left))]
        self._left[branch] = self._clock.seconds() if since is None else since
        self._replication.left(branch)
        self._log.info("branch {branch} is away", branch=branch)
        self._tell(branch, False)

    def _tell(self, branch: str, has_come: bool) -> None:
        for changed in self._subscribers:
            try:
                changed(branch, has_come)
            except Exception:
                self._log.failure("who follows the branches failed")
