"""The catalogue: every declaration of the cluster, in memory, with the rules by which they merge.

Reads are answered from memory; a write is durable before it is visible. Which of two versions of
a declaration holds is decided by `Version` alone, so that branches agree without asking each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from zope.interface import implementer

from cyme.declarations import COUNTER_BITS, NEVER, App, Declaration, Instance, Queue, Version
from cyme.interfaces import ICatalogue

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.interfaces import IStore

T = TypeVar("T")

Identity = tuple[str, ...]


def identity(declaration: Declaration) -> Identity:
    """(kind, *key): what a declaration replaces, whatever its version."""
    return (declaration.kind, *declaration.key)


def same(one: Declaration, other: Declaration) -> bool:
    """Whether two declarations say the same, whoever wrote them and when."""
    return evolve(one, version=NEVER) == evolve(other, version=NEVER)


class HybridClock:
    """Gives stamps that grow, near to the wall clock and never behind a stamp it has seen."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._last = 0

    def next(self) -> int:
        """A stamp higher than all before it, also when the wall clock was set back."""
        self._last = max(int(self._clock.seconds() * 1000) << COUNTER_BITS, self._last + 1)
        return self._last

    def see(self, stamp: int) -> None:
        """Learn of a stamp that somebody gave."""
        self._last = max(self._last, stamp)


@implementer(ICatalogue)
class Catalogue:
    """The declarations of the cluster.

    :param branch_id: goes into the versions of what is written here.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, store: IStore, branch_id: str) -> None:
        self._store = store
        self._branch_id = branch_id
        self._stamps = HybridClock(clock)
        self._lock = DeferredLock()
        self._held: dict[Identity, Declaration] = {}
        self._sorted: dict[tuple[str, str | None], tuple[Any, ...]] = {}
        self._subscribers: list[Callable[[tuple[Declaration, ...]], None]] = []

    # -- reads ----------------------------------------------------------------------------

    def app(self, name: str) -> App | None:
        return self._living((App.kind, name))  # type: ignore[return-value]

    def apps(self) -> Sequence[App]:
        return self._listed(App.kind, None)

    def queue(self, app: str, name: str) -> Queue | None:
        return self._living((Queue.kind, app, name))  # type: ignore[return-value]

    def queues(self, app: str) -> Sequence[Queue]:
        return self._listed(Queue.kind, app)

    def instance(self, name: str) -> Instance | None:
        return self._living((Instance.kind, name))  # type: ignore[return-value]

    def instances(self, app: str | None = None) -> Sequence[Instance]:
        return self._listed(Instance.kind, app)

    def tombstones(self, kind: str) -> Sequence[Declaration]:
        found = (one for one in self._held.values() if one.kind == kind and one.deleted)
        return sorted(found, key=lambda one: one.key)

    # -- writes ---------------------------------------------------------------------------

    def load(self) -> Deferred[None]:
        return self._exclusively(self._load)

    def change(self, decide: Callable[[], Iterable[Declaration]]) -> Deferred[tuple[Declaration, ...]]:
        return self._exclusively(lambda: self._change(decide))

    def refresh(self) -> Deferred[frozenset[Identity]]:
        return self._exclusively(self._refresh)

    def merge(self, declarations: Iterable[Declaration]) -> Deferred[tuple[Declaration, ...]]:
        return self._exclusively(lambda: self._merge(tuple(declarations)))

    def prune(self, before: float) -> Deferred[int]:
        return self._exclusively(lambda: self._prune(before))

    def subscribe(self, changed: Callable[[tuple[Declaration, ...]], None]) -> None:
        self._subscribers.append(changed)

    # -- inside, each under the lock ----------------------------------------------------------

    async def _load(self) -> None:
        for declaration in await self._store.load():
            self._hold(declaration)

    async def _change(self, decide: Callable[[], Iterable[Declaration]]) -> tuple[Declaration, ...]:
        wanted = tuple(decide())
        news = tuple(one for one in wanted if not self._is_held(one))
        await self._write([self._stamped(one) for one in news])
        return tuple(self._held.get(identity(one), one) for one in wanted)

    async def _refresh(self) -> frozenset[Identity]:
        stored = {identity(one): one for one in await self._store.load()}
        edited = [
            self._stamped(row)
            for name, row in stored.items()
            if self._was_edited(self._held.get(name), row) and self._makes_sense(row, stored)
        ]
        vanished = [
            self._stamped(evolve(held, deleted=True))
            for name, held in self._held.items()
            if name not in stored and not held.deleted
        ]
        await self._write([*edited, *vanished])
        return frozenset(map(identity, [*edited, *vanished]))

    async def _merge(self, declarations: tuple[Declaration, ...]) -> tuple[Declaration, ...]:
        best: dict[Identity, Declaration] = {}
        for one in declarations:
            held = best.get(identity(one)) or self._held.get(identity(one))
            if held is None or held.version < one.version:
                best[identity(one)] = one
        news = tuple(best.values())
        await self._write(news)
        return news

    async def _prune(self, before: float) -> int:
        oldest = int(before * 1000) << COUNTER_BITS
        old = [one for one in self._held.values() if one.deleted and one.version.stamp < oldest]
        await self._store.remove(old)
        for one in old:
            del self._held[identity(one)]
        return len(old)

    async def _write(self, declarations: Sequence[Declaration]) -> None:
        """Make declarations durable, then visible, then known."""
        if not declarations:
            return
        await self._store.save(declarations)
        for declaration in declarations:
            self._hold(declaration)
        for changed in self._subscribers:
            try:
                changed(tuple(declarations))
            except Exception:
                self._log.failure("a subscriber to the catalogue failed")

    def _hold(self, declaration: Declaration) -> None:
        self._stamps.see(declaration.version.stamp)
        self._held[identity(declaration)] = declaration
        group = declaration.app if isinstance(declaration, (Queue, Instance)) else None
        self._sorted.pop((declaration.kind, group), None)
        self._sorted.pop((declaration.kind, None), None)

    def _stamped(self, declaration: Declaration) -> Declaration:
        return evolve(declaration, version=Version(self._stamps.next(), self._branch_id))

    def _is_held(self, declaration: Declaration) -> bool:
        held = self._held.get(identity(declaration))
        return declaration.deleted if held is None else same(held, declaration)

    # -- what somebody else wrote into the database -----------------------------------------------

    def _was_edited(self, held: Declaration | None, row: Declaration) -> bool:
        """Whether a row says something that this branch did not write.

        A higher version is another branch's write to a shared database; it is taken over like
        an edit, since its values are what holds.
        """
        if held is None:
            return not row.deleted
        return not same(held, row)

    def _makes_sense(self, row: Declaration, stored: Mapping[Identity, Declaration]) -> bool:
        """Refuse what a person wrote that no request could have declared; it is logged, and left."""
        problem = None
        if isinstance(row, Instance):
            if row.min_concurrency < 0 or not 1 <= row.max_concurrency >= row.min_concurrency:
                problem = "0 <= min_concurrency <= max_concurrency does not hold, or max_concurrency < 1"
            elif (App.kind, row.app) not in stored and not row.deleted:
                problem = f"there is no app {row.app!r}"
        if problem is not None:
            self._log.error(
                "a change of the {kind} {name} in the database can't be, and is left out: {problem}",
                kind=row.kind,
                name=row.name,
                problem=problem,
            )
        return problem is None

    # -- small things ---------------------------------------------------------------------------

    def _living(self, name: Identity) -> Declaration | None:
        held = self._held.get(name)
        return None if held is None or held.deleted else held

    def _listed(self, kind: str, group: str | None) -> tuple[Any, ...]:
        """The living declarations of a kind (and an app) in order; kept until one of them changes."""
        found = self._sorted.get((kind, group))
        if found is None:
            members = (
                one
                for one in self._held.values()
                if one.kind == kind and not one.deleted and group in (None, getattr(one, "app", None))
            )
            found = self._sorted[kind, group] = tuple(sorted(members, key=lambda one: one.key))
        return found

    def _exclusively(self, work: Callable[[], Any]) -> Deferred[Any]:
        """Run one piece of work at a time.

        The work goes on when its caller loses interest: the Deferred that it gets is not the one
        that the work runs in, since a write that was begun must also become visible.
        """
        answer: Deferred[Any] = Deferred(lambda _: None)

        def deliver(result: Any) -> None:
            if not answer.called:
                answer.callback(result)

        self._lock.run(lambda: Deferred.fromCoroutine(work())).addBoth(deliver)
        return answer
