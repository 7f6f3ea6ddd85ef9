"""A store in memory."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from cyme.declarations import Declaration
from cyme.events import Event
from cyme.faults import Unreadable
from cyme.interfaces import IStore


@implementer(IStore)
class MemoryStore:
    """Keeps declarations for as long as it lives.

    :ivar rows: (kind, *key) -> what is stored; to be changed as a person would with SQL.
    :ivar fail_with: what every call fails with; None for no failure.
    :ivar save_fails_with: what `save` alone fails with.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[str, ...], Declaration | Unreadable] = {}
        self.events: list[Event] = []
        self.fail_with: Exception | None = None
        self.save_fails_with: Exception | None = None

    def open(self) -> None:
        pass

    def load(self) -> Deferred[tuple[Declaration | Unreadable, ...]]:
        return self._answer(tuple(self.rows.values()))

    def save(self, declarations: Sequence[Declaration]) -> Deferred[None]:
        if self.save_fails_with is not None:
            return fail(self.save_fails_with)
        if self.fail_with is None:
            for one in declarations:
                if self._is_not_older(one):
                    self.rows.update({(one.kind, *one.key): one})
        return self._answer(None)

    def remove(self, declarations: Sequence[Declaration]) -> Deferred[None]:
        if self.fail_with is None:
            for one in declarations:
                if self._is_not_older(one):
                    self.rows.pop((one.kind, *one.key), None)
        return self._answer(None)

    def append_events(self, events: Sequence[Event]) -> Deferred[tuple[Event, ...]]:
        first = self.events[-1].id + 1 if self.events else 1
        stored = tuple(evolve(one, id=number) for number, one in enumerate(events, first))
        if self.fail_with is None:
            self.events.extend(stored)
        return self._answer(stored)

    def read_events(
        self, since: int, limit: int, app: str | None, instance: str | None
    ) -> Deferred[tuple[Event, ...]]:
        found = [
            one
            for one in self.events
            if one.id > since and app in (None, one.app) and instance in (None, one.instance)
        ]
        return self._answer(tuple(found[:limit]))

    def last_event(self) -> Deferred[int]:
        return self._answer(self.events[-1].id if self.events else 0)

    def prune_events(self, before: float, keep: int) -> Deferred[None]:
        kept = [one for one in self.events if one.at >= before]
        self.events = kept[max(0, len(kept) - keep) :]
        return self._answer(None)

    def close(self) -> Deferred[None]:
        return succeed(None)

    def _is_not_older(self, declaration: Declaration) -> bool:
        there = self.rows.get((declaration.kind, *declaration.key))
        return not isinstance(there, Declaration) or there.version <= declaration.version

    def _answer(self, result):  # type: ignore[no-untyped-def]
        return succeed(result) if self.fail_with is None else fail(self.fail_with)
