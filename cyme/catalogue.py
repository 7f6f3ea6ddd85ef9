"""The catalogue: every declaration of the cluster, in memory, with the rules by which they merge.

Reads are answered from memory; a write is durable before it is visible. Which of two versions of
a declaration holds is decided by `Version` alone, so that branches agree without asking each other.

Note [Changes by hand]
~~~~~~~~~~~~~~~~~~~~~~
A person may change the database with SQL. Nobody gives such a change a version, so it is found by
comparing: a row that says something else than what is held, under a version that is not higher,
was changed by hand, and is taken over as if it had been declared here now. Under a higher version
it was written by another branch that shares the database, and is held as it is. A change through
Cyme writes the whole row from memory: it wins over a change by hand that no `refresh` has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import copy_context
from hashlib import blake2b
from sys import intern
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from cyme.asking import DATABASE, START, Asker, asked_by
from cyme.declarations import (
    COUNTER_BITS,
    NEVER,
    App,
    BranchState,
    Declaration,
    Instance,
    Queue,
    Rollout,
    Version,
)
from cyme.faults import Unreadable, fault_of
from cyme.interfaces import ICatalogue

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.interfaces import IStore

T = TypeVar("T")

Identity = tuple[str, ...]
#: What is listed together: a kind, of one app or (None) of all.
Group = tuple[str, str | None]


def identity(declaration: Declaration | Unreadable) -> Identity:
    """(kind, *key): what a declaration replaces, whatever its version."""
    return (declaration.kind, *declaration.key)


def same(one: Declaration, other: Declaration) -> bool:
    """Whether two declarations say the same, whoever wrote them and when."""
    return one == other or evolve(one, version=NEVER) == evolve(other, version=NEVER)


def newer(one: Declaration | None, other: Declaration) -> Declaration:
    """That of two declarations of one identity which holds; `one` if they have one version."""
    return other if one is None or one.version < other.version else one


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
        self._branch_id = intern(branch_id)
        self._stamps = HybridClock(clock)
        self._lock = DeferredLock()
        self._held: dict[Identity, Declaration] = {}
        # Of all that is held, see `_digest_of`.
        self._digest = 0
        # The living of each group by key, and those that were asked for, in order.
        self._groups: dict[Group, dict[Identity, Declaration]] = {}
        self._sorted: dict[Group, tuple[Any, ...]] = {}
        # What was left out of the last refresh, and why: so that it is logged once.
        self._left_out: dict[Identity, str] = {}
        self._subscribers: list[Callable[[tuple[Declaration, ...]], None]] = []

    # -- reads ----------------------------------------------------------------------------

    def app(self, name: str) -> App | None:
        return self._living((App.kind, name))  # type: ignore[return-value]

    def apps(self) -> Sequence[App]:
        return self._listed((App.kind, None))

    def queue(self, app: str, name: str) -> Queue | None:
        return self._living((Queue.kind, app, name))  # type: ignore[return-value]

    def queues(self, app: str) -> Sequence[Queue]:
        return self._listed((Queue.kind, app))

    def instance(self, name: str) -> Instance | None:
        return self._living((Instance.kind, name))  # type: ignore[return-value]

    def instances(self, app: str | None = None) -> Sequence[Instance]:
        return self._listed((Instance.kind, app))

    def rollout(self, app: str) -> Rollout | None:
        return self._living((Rollout.kind, app))  # type: ignore[return-value]

    def rollouts(self) -> Sequence[Rollout]:
        return self._listed((Rollout.kind, None))

    def digest(self) -> str:
        return f"{self._digest:016x}"

    def versions(self, after: Identity | None, limit: int) -> Sequence[tuple[Identity, Version]]:
        found = sorted(name for name in self._held if after is None or name > after)[:limit]
        return [(name, self._held[name].version) for name in found]

    def held(self, name: Identity) -> Declaration | None:
        return self._held.get(name)

    def branch(self, name: str) -> BranchState:
        return self._living((BranchState.kind, name)) or BranchState(name=name)  # type: ignore[return-value]

    def branches(self) -> Sequence[BranchState]:
        return self._listed((BranchState.kind, None))

    def tombstones(self, kind: str) -> Sequence[Declaration]:
        found = (one for one in self._held.values() if one.kind == kind and one.deleted)
        return sorted(found, key=lambda one: one.key)

    # -- writes ---------------------------------------------------------------------------

    def load(self) -> Deferred[None]:
        return self._exclusively(self._load)

    def change(self, decide: Callable[[], Iterable[Declaration]]) -> Deferred[tuple[Declaration, ...]]:
        return self._exclusively(lambda: self._change(decide))

    def refresh(self) -> Deferred[frozenset[Identity]]:
        return self._exclusively(lambda: self._refresh(DATABASE))

    def merge(self, declarations: Iterable[Declaration]) -> Deferred[tuple[Declaration, ...]]:
        wanted = tuple(declarations)
        return self._exclusively(lambda: self._merge(wanted))

    def prune(self, before: float) -> Deferred[int]:
        return self._exclusively(lambda: self._prune(before))

    def subscribe(self, changed: Callable[[tuple[Declaration, ...]], None]) -> None:
        self._subscribers.append(changed)

    # -- inside, each under the lock ----------------------------------------------------------

    async def _load(self) -> None:
        await self._refresh(START)

    async def _change(self, decide: Callable[[], Iterable[Declaration]]) -> tuple[Declaration, ...]:
        wanted = tuple(decide())
        await self._write([self._stamped(one) for one in wanted if not self._is_held(one)])
        return tuple(self._held.get(identity(one), one) for one in wanted)

    async def _merge(self, declarations: tuple[Declaration, ...]) -> tuple[Declaration, ...]:
        best: dict[Identity, Declaration] = {}
        for one in declarations:
            name = identity(one)
            if newer(best.get(name, self._held.get(name)), one) is one:
                best[name] = one
        news = tuple(one for name, one in best.items() if one is not self._held.get(name))
        await self._write(news)
        return news

    async def _prune(self, before: float) -> int:
        oldest = int(before * 1000) << COUNTER_BITS
        old = [one for one in self._held.values() if one.deleted and one.version.stamp < oldest]
        if old:
            await self._store.remove(old)
        for one in old:
            del self._held[identity(one)]
            self._digest ^= _digest_of(one)
        return len(old)

    async def _write(self, declarations: Sequence[Declaration]) -> None:
        """Make declarations durable, then visible, then known."""
        if declarations:
            await self._store.save(declarations)
            for declaration in declarations:
                self._hold(declaration)
            self._tell(declarations)

    def _hold(self, declaration: Declaration) -> None:
        self._stamps.see(declaration.version.stamp)
        name = identity(declaration)
        previous = self._held.pop(name, None)
        if previous is not None:
            self._unlist(name, previous)
            self._digest ^= _digest_of(previous)
        self._held[name] = declaration
        self._digest ^= _digest_of(declaration)
        if not declaration.deleted:
            for group in _groups_of(declaration):
                self._groups.setdefault(group, {})[name] = declaration
                self._sorted.pop(group, None)

    def _unlist(self, name: Identity, declaration: Declaration) -> None:
        for group in _groups_of(declaration):
            members = self._groups.get(group, {})
            members.pop(name, None)
            self._sorted.pop(group, None)
            if not members:
                self._groups.pop(group, None)

    def _tell(self, declarations: Sequence[Declaration]) -> None:
        for changed in tuple(self._subscribers):
            try:
                changed(tuple(declarations))
            except Exception:
                self._log.failure("a subscriber to the catalogue failed")

    def _stamped(self, declaration: Declaration) -> Declaration:
        """The declaration as if written here now."""
        version = Version(self._stamps.next(), self._branch_id)
        if not isinstance(declaration, Instance):
            return evolve(declaration, version=version)
        # Thousands of instances name few apps, branches, brokers and queues: one copy of each.
        broker = declaration.broker and intern(declaration.broker)
        app, branch = intern(declaration.app), intern(declaration.branch)
        queues = tuple(map(intern, declaration.queues))
        return evolve(declaration, version=version, app=app, branch=branch, broker=broker, queues=queues)

    def _is_held(self, declaration: Declaration) -> bool:
        held = self._held.get(identity(declaration))
        return declaration.deleted if held is None else same(held, declaration)

    # -- see Note [Changes by hand] ---------------------------------------------------------------

    async def _refresh(self, adopting: Asker) -> frozenset[Identity]:
        """Take over what the database says.

        :param adopting: who is said to have asked for what is held as it is found.
        """
        stored: dict[Identity, Declaration] = {}
        problems: dict[Identity, str] = {}
        for one in await self._store.load():
            if isinstance(one, Unreadable):
                problems[identity(one)] = one.problem
            else:
                stored[identity(one)] = one
        adopted, by_hand = _differences(self._held, stored, problems)
        self._complain(problems)
        news = [one for one in adopted if not self._is_held(one)]
        written = [self._stamped(one) for one in by_hand]
        if written:
            await self._store.save(written)
        for one in (*adopted, *written):
            self._hold(one)
        for one_asker, told in ((adopting, news), (DATABASE, written)):
            if told:
                with asked_by(one_asker):
                    self._tell(told)
        return frozenset(map(identity, (*news, *written)))

    def _complain(self, problems: dict[Identity, str]) -> None:
        """Log what is left out, once for as long as it stays so."""
        for name, problem in problems.items():
            if self._left_out.get(name) != problem:
                self._log.error(
                    "what the database says of the {kind} {name} can't be, and is left out: {problem}",
                    kind=name[0],
                    name="/".join(name[1:]),
                    problem=problem,
                )
        self._left_out = problems

    # -- small things ---------------------------------------------------------------------------

    def _living(self, name: Identity) -> Declaration | None:
        held = self._held.get(name)
        return None if held is None or held.deleted else held

    def _listed(self, group: Group) -> tuple[Any, ...]:
        """The living of a group in order; kept until one of them changes."""
        found = self._sorted.get(group)
        if found is None:
            members = self._groups.get(group)
            if members is None:
                return ()
            found = self._sorted[group] = tuple(sorted(members.values(), key=_key))
        return found

    def _exclusively(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Deferred[T]:
        """Run one piece of work at a time.

        The work goes on when its caller loses interest: the Deferred that it gets is not the one
        that the work runs in, since a write that was begun must also become visible.
        """
        answer: Deferred[T] = Deferred(lambda _: None)
        # Whoever releases the lock is not who asked, see Note [Who asked] in `cyme.asking`.
        context = copy_context()

        def begin() -> Deferred[T]:
            return context.run(Deferred.fromCoroutine, work())

        def deliver(result: Any) -> None:
            if not answer.called:
                answer.callback(result)
            elif isinstance(result, Failure):
                self._log.failure("a change failed whose caller is gone", result)

        self._lock.run(begin).addBoth(deliver)
        return answer


def _digest_of(declaration: Declaration) -> int:
    """64 bits of what a declaration is and when it was written; together, in any order, by exclusive or."""
    version = declaration.version
    text = "\0".join((*identity(declaration), str(version.stamp), version.branch))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _key(declaration: Declaration) -> tuple[str, ...]:
    return declaration.key


def _groups_of(declaration: Declaration) -> tuple[Group, ...]:
    """The groups that a declaration is listed in."""
    if isinstance(declaration, (App, Rollout, BranchState)):
        return ((declaration.kind, None),)
    if isinstance(declaration, Queue):
        return ((Queue.kind, declaration.app),)
    return ((Instance.kind, None), (Instance.kind, declaration.app))


def _differences(
    held: Mapping[Identity, Declaration],
    stored: Mapping[Identity, Declaration],
    problems: dict[Identity, str],
) -> tuple[list[Declaration], list[Declaration]]:
    """What the store says otherwise than the catalogue, see Note [Changes by hand].

    :param problems: what is to be left out, and why; more is put in.
    :return: what is to be held as it is, and what is to be written as if declared here.
    """
    adopted: dict[Identity, Declaration] = {}
    by_hand: dict[Identity, Declaration] = {}
    for name, row in stored.items():
        ours = held.get(name)
        if row == ours:
            continue
        fault = fault_of(row)
        if fault is not None:
            problems[name] = fault
        elif (NEVER if ours is None else ours.version) < row.version:
            adopted[name] = row
        elif not (row.deleted if ours is None else same(ours, row)):
            by_hand[name] = row
    for name, ours in held.items():
        if not (ours.deleted or name in stored or name in problems):
            by_hand[name] = evolve(ours, deleted=True)

    after = {**held, **adopted, **by_hand}
    for name, one in after.items():
        if isinstance(one, (App, BranchState)) or one.deleted:
            continue
        app = (App.kind, one.app)
        if app in by_hand and by_hand[app].deleted:
            by_hand[name] = evolve(one, deleted=True)
            adopted.pop(name, None)
        elif name in by_hand and app not in problems and (app not in after or after[app].deleted):
            problems[name] = f"there is no app {one.app!r}"
            del by_hand[name]
    return list(adopted.values()), [_buried(one, held) if one.deleted else one for one in by_hand.values()]


def _buried(tombstone: Declaration, held: Mapping[Identity, Declaration]) -> Declaration:
    """A tombstone that knows the broker its worker used, where its app named that."""
    if isinstance(tombstone, Instance) and tombstone.broker is None:
        app = held.get((App.kind, tombstone.app))
        if isinstance(app, App):
            return evolve(tombstone, broker=app.broker)
    return tombstone
