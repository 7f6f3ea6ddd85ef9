"""Keeps the catalogues of all branches alike.

Note [Replication]
~~~~~~~~~~~~~~~~~~
What a branch writes it tells to all, once it is committed. That is fast, and may get lost: a branch
was away, or the bus was. So heartbeats carry the digest of the catalogue, and a branch
that hears a digest other than its own for more than a beat fetches from its sender what it lacks: first
the versions of all that the other holds, then those declarations that are newer than its own. It never
sends what the other lacks; the other hears of it the same way. Of two versions the higher one holds, in
whatever order they come, and tombstones are declarations like others; so all end with the same, and nothing
deleted comes back, for as long as its tombstone is kept (30 days).

Answers of another branch wait until what it told before them has been merged (`Actors.before_answers`;
a bus keeps the order of what one branch sends to another): who changes something through one branch
sees it there at once, whoever owns it.

Not taken over are declarations that this version does not understand (Note [Declarations on the wire]),
and those that were written more than a day from now: by a branch whose clock is wrong, they would
win over everything that is written until then. Both are logged, once for each writer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from json import dumps
from typing import TYPE_CHECKING, Any

from attrs import define
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyme.actors import verb
from cyme.declarations import COUNTER_BITS, Declaration, Version
from cyme.errors import CymeError
from cyme.wireforms import NotUnderstood, from_json, to_json

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.actors import Actors
    from cyme.interfaces import ICatalogue

#: Whom messages of replication are for.
ACTOR = "Catalogue"
#: Declarations of one message, and about how many bytes of them.
MOST_AT_ONCE, MOST_BYTES = 500, 1024 * 1024
#: Versions of one message.
MOST_VERSIONS = 5000
#: Declarations that wait to be merged; more are dropped, and fetched later.
MOST_WAITING = 20_000
#: Seconds that one question of an exchange may take, and for which news are worth hearing.
ANSWER_WITHIN = 20.0
#: The longest pause between two exchanges with a branch from which nothing new came, in seconds.
LONGEST_PAUSE = 300.0
#: Seconds that a version may be ahead of this branch's clock; see Note [Replication].
AHEAD_MOST = 86_400.0
#: Seconds for which tombstones are kept; an older one that is not held is not taken over any more.
TOMBSTONES_LIVE = 30 * 86_400.0
#: Complaints that are remembered, so that each is logged once.
MOST_COMPLAINTS = 1000


@define
class _Differing:
    """A branch whose catalogue differs.

    :ivar since: when that was heard first.
    :ivar not_before: when the next exchange may be.
    :ivar pause: seconds until the one after that, if nothing comes of it.
    """

    since: float
    not_before: float
    pause: float


class Replication:
    """Tells others what is written here, and fetches what is written elsewhere. See Note [Replication].

    :param clock: shows seconds since the epoch.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, catalogue: ICatalogue, actors: Actors, branch_id: str) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._actors = actors
        self._branch_id = branch_id
        self._differing: dict[str, _Differing] = {}
        self._exchange: Deferred[None] | None = None
        self._waiting_for_idle: list[Deferred[None]] = []
        self._waiting: deque[Declaration] = deque()
        self._is_merging = False
        self._received = self._merged = 0
        self._pending: deque[tuple[int, Deferred[None]]] = deque()
        self._complaints: set[tuple[str, str]] = set()
        actors.register(ACTOR, self, lambda: [branch_id])
        actors.before_answers(self.pending)
        catalogue.subscribe(self._written)

    def stop(self) -> None:
        """Fetch nothing more."""
        if self._exchange is not None:
            self._exchange.cancel()

    # -- telling ---------------------------------------------------------------------------

    def _written(self, declarations: tuple[Declaration, ...]) -> None:
        # What others wrote they have told everybody.
        own = [one for one in declarations if one.version.branch == self._branch_id]
        for news in _portions([to_json(one) for one in own]):
            telling = self._actors.announce(
                ACTOR, "news", within=ANSWER_WITHIN, branch=self._branch_id, declarations=news
            )
            telling.addErrback(self._untold)

    def _untold(self, failure: Failure) -> None:
        """Whoever does not hear it will ask."""
        self._log.debug("a change was not told to the others: {problem}", problem=failure.getErrorMessage())

    # -- hearing -----------------------------------------------------------------------------

    @verb("declarations", quiet=True)
    def news(self, name: str | None, *, branch: str, declarations: list[Any], **_: Any) -> None:
        """Hear what another branch has written."""
        if branch != self._branch_id and isinstance(declarations, list):
            self._take(str(branch), declarations)

    def pending(self) -> Deferred[None] | None:
        """Fire when all that was heard by now is held; None when it is."""
        if self._merged == self._received:
            return None
        merged: Deferred[None] = Deferred()
        self._pending.append((self._received, merged))
        return merged

    def _take(self, branch: str, values: Sequence[Any]) -> int:
        """Take declarations in; answers with how many are to be merged."""
        latest = int((self._clock.seconds() + AHEAD_MOST) * 1000) << COUNTER_BITS
        oldest = int((self._clock.seconds() - TOMBSTONES_LIVE) * 1000) << COUNTER_BITS
        taken = 0
        for value in values:
            if value is None:
                continue
            try:
                one = from_json(value)
            except NotUnderstood as problem:
                self._complain(branch, f"is not understood by this version of Cyme: {problem}")
                continue
            ours = self._catalogue.held((one.kind, *one.key))
            if one.version.stamp > latest:
                self._complain(one.version.branch, "was written in the future: a clock must be wrong")
            elif ours is None and one.deleted and one.version.stamp < oldest:
                continue
            elif ours is None or ours.version < one.version:
                if len(self._waiting) >= MOST_WAITING:
                    break
                self._waiting.append(one)
                taken += 1
        self._received += taken
        if taken and not self._is_merging:
            self._is_merging = True
            self._merge_some(None)
        return taken

    def _merge_some(self, _: object) -> None:
        """Merge what waits, a part at a time."""
        if not self._waiting:
            self._is_merging = False
            return
        some = [self._waiting.popleft() for _ in range(min(MOST_AT_ONCE, len(self._waiting)))]

        def failed(failure: Failure) -> None:
            self._log.failure("what other branches wrote can't be stored; it is fetched again", failure)

        def over(_: object) -> None:
            self._merged += len(some)
            while self._pending and self._pending[0][0] <= self._merged:
                self._pending.popleft()[1].callback(None)

        merging = self._catalogue.merge(some)
        merging.addErrback(failed).addCallback(over).addBoth(self._merge_some)

    def _complain(self, branch: str, problem: str) -> None:
        if (branch, problem) not in self._complaints and len(self._complaints) < MOST_COMPLAINTS:
            self._complaints.add((branch, problem))
            self._log.error(
                "a declaration that came from branch {branch} is left out: it {problem}",
                branch=branch,
                problem=problem,
            )

    # -- fetching ----------------------------------------------------------------------------

    def heard(self, branch: str, digest: str, *, is_new: bool, beat: float) -> None:
        """Compare with another branch's catalogue.

        :param is_new: whether it, or this branch, has just come.
        :param beat: seconds until it is heard again.
        """
        now = self._clock.seconds()
        if digest == self._catalogue.digest():
            self._differing.pop(branch, None)
            return
        differing = self._differing.get(branch)
        if differing is None:
            # What is on its way to one of the two explains most differences.
            differing = self._differing[branch] = _Differing(now, now if is_new else now + beat / 2, beat)
        if now >= differing.not_before and self._exchange is None:
            self._exchange = Deferred.fromCoroutine(self._fetch(branch, differing))
            self._exchange.addBoth(self._ended, branch)

    def when_idle(self, within: float) -> Deferred[None]:
        """Fire when nothing is being fetched, or after `within` seconds."""
        idle: Deferred[None] = Deferred()
        if self._exchange is None:
            idle.callback(None)
            return idle
        self._waiting_for_idle.append(idle)
        return idle.addTimeout(within, self._clock, onTimeoutCancel=lambda _result, _seconds: None)

    def lag(self) -> float:
        """Seconds for which the catalogue of some live branch has differed; 0 when none does."""
        now = self._clock.seconds()
        return max((now - differing.since for differing in self._differing.values()), default=0.0)

    def left(self, branch: str) -> None:
        """Forget a branch that is away."""
        self._differing.pop(branch, None)

    def _ended(self, result: object, branch: str) -> None:
        self._exchange = None
        idle, self._waiting_for_idle = self._waiting_for_idle, []
        for one in idle:
            if not one.called:
                one.callback(None)
        if isinstance(result, Failure):
            text = result.getErrorMessage()
            self._log.debug("nothing was fetched from {branch}: {problem}", branch=branch, problem=text)
            if not result.check(CymeError):
                self._log.failure("fetching from branch {branch} failed", result, branch=branch)

    async def _fetch(self, branch: str, differing: _Differing) -> None:
        """Take over what is newer at another branch."""
        differing.not_before = self._clock.seconds() + differing.pause
        differing.pause = min(2 * differing.pause, LONGEST_PAUSE)
        after: list[str] | None = None
        count = 0
        while True:
            page = await self._actors.call(
                ACTOR, branch, "versions", timeout=ANSWER_WITHIN, after=after, limit=MOST_VERSIONS
            )
            wanted = [name for name, version in _read_versions(page) if self._is_newer(name, version)]
            while wanted:
                got = await self._actors.call(
                    ACTOR,
                    branch,
                    "declarations",
                    timeout=ANSWER_WITHIN,
                    names=[list(name) for name in wanted[:MOST_AT_ONCE]],
                )
                if not isinstance(got, list) or not got:
                    break
                count += self._take(branch, got)
                await (self.pending() or _nothing())
                del wanted[: len(got)]
            if len(page) < MOST_VERSIONS:
                break
            after = list(page[-1][0])
        if count:
            differing.not_before = 0.0
            self._log.info(
                "{count} declarations that were not known were fetched from branch {branch}",
                count=count,
                branch=branch,
            )

    def _is_newer(self, name: tuple[str, ...], version: Version) -> bool:
        ours = self._catalogue.held(name)
        return ours is None or ours.version < version

    @verb(quiet=True)
    def versions(self, name: str | None, *, after: list[str] | None, limit: int) -> list[Any]:
        """Answer with (kind, *key), stamp and writer of what is held, in order.

        :param after: behind which to begin.
        """
        start = None if after is None else tuple(after)
        found = self._catalogue.versions(start, min(limit, MOST_VERSIONS))
        return [[one, version.stamp, version.branch] for one, version in found]

    @verb(quiet=True)
    def declarations(self, name: str | None, *, names: list[list[str]]) -> list[Any]:
        """Answer with the first of what is held under these names: as many as one message carries.

        What is held no more is null, so that each has its place.
        """
        held = (self._catalogue.held(tuple(one)) for one in names[:MOST_AT_ONCE])
        values = [None if one is None else to_json(one) for one in held]
        return next(_portions(values), [])


def _portions(values: Sequence[Any]) -> Iterator[list[Any]]:
    """Values in parts that one message carries each."""
    portion: list[Any] = []
    size = 0
    for value in values:
        length = len(dumps(value))
        if portion and (len(portion) >= MOST_AT_ONCE or size + length > MOST_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(value)
        size += length
    if portion:
        yield portion


def _read_versions(page: Any) -> list[tuple[tuple[str, ...], Version]]:
    try:
        return [(tuple(map(str, name)), Version(int(stamp), str(branch))) for name, stamp, branch in page]
    except (TypeError, ValueError):
        raise NotUnderstood("its versions can't be read") from None


def _nothing() -> Deferred[None]:
    nothing: Deferred[None] = Deferred()
    nothing.callback(None)
    return nothing
