"""A supervisor without workers: it says what a test told it to say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from cyme.declarations import Instance
from cyme.errors import NoDump, NoProcess
from cyme.interfaces import ISupervisor


@implementer(ISupervisor)
class FakeSupervisor:
    """Provides `ISupervisor`; every answer can be set, every call is recorded.

    :ivar running: the state of enabled instances that `statuses` does not name.
    :ivar statuses: instance name -> keys that differ from the usual status.
    :ivar answers: (instance name, command) -> what the worker answers; None without an entry.
    :ivar refusals: queue name -> the error that `declare` fails with.
    :ivar failure: the error that `ask` fails with, or None.
    :ivar lines: instance name -> its log.
    :ivar stacks: instance name -> what its worker prints; None for nothing. Others have no worker.
    :ivar dumped: (name, timeout) of each call of `dump`.
    :ivar woken: what `wake` was called with.
    :ivar waited: (name, timeout) of each call of `settled`.
    :ivar asked: (name, command) of each call of `ask`.
    :ivar declared: (name, queue) of each call of `declare`.
    :ivar hold: while true, what `settled` answers waits for `release`.
    """

    def __init__(self, running: str = "running") -> None:
        self.running = running
        self.statuses: dict[str, dict[str, Any]] = {}
        self.answers: dict[tuple[str, str], Any] = {}
        self.refusals: dict[str, Exception] = {}
        self.failure: Exception | None = None
        self.lines: dict[str, tuple[str, ...]] = {}
        self.stacks: dict[str, str | None] = {"w1": "MainThread\n"}
        self.dumped: list[tuple[str, float]] = []
        self.woken: list[tuple[str, ...] | None] = []
        self.waited: list[tuple[str, float]] = []
        self.asked: list[tuple[str, str]] = []
        self.declared: list[tuple[str, str]] = []
        self.hold = False
        self._held: list[Deferred[None]] = []

    def wake(self, names: Iterable[str] | None = None) -> None:
        self.woken.append(None if names is None else tuple(names))

    def status(self, instance: Instance) -> Mapping[str, Any]:
        runs = instance.is_enabled
        return {
            "state": self.running if runs else "disabled",
            "pid": 4711 if runs else None,
            "node": f"{instance.name}@host.example",
            "started_at": 1000.0 if runs else None,
            "is_current": runs,
            "is_consuming": runs,
            "last_pong": 1001.0 if runs else None,
            "failures": 0,
            "next_attempt": None,
            "last_exit": None,
            "draining": None,
            "problems": [],
            "progress": None,
            "resources": None,
            **self.statuses.get(instance.name, {}),
        }

    def settled(self, name: str, timeout: float) -> Deferred[None]:
        self.waited.append((name, timeout))
        if not self.hold:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._held.append(waiting)
        return waiting

    def release(self) -> None:
        """Fire everything that `settled` held back."""
        held, self._held = self._held, []
        for waiting in held:
            waiting.callback(None)

    def ask(self, name: str, command: str, *, timeout: float) -> Deferred[Any]:
        self.asked.append((name, command))
        if self.failure is not None:
            return fail(self.failure)
        return succeed(self.answers.get((name, command)))

    def health(self, name: str) -> Deferred[Mapping[str, Any]]:
        health: dict[str, Any] = {
            "verdict": "ok",
            "reason": None,
            "state": self.running,
            "process": None,
            "pong": {},
        }
        return succeed({**health, "consumers": {}, "progress": None, "drift": [], "at": 1002.0})

    def log_tail(self, name: str, lines: int) -> Deferred[tuple[str, ...]]:
        return succeed(self.lines.get(name, ())[-lines:])

    def dump(self, name: str, timeout: float) -> Deferred[str]:
        self.dumped.append((name, timeout))
        if name not in self.stacks:
            return fail(NoProcess(name))
        stacks = self.stacks[name]
        return succeed(stacks) if stacks is not None else fail(NoDump(name, timeout, "it is frozen"))

    def declare(self, name: str, queue: str) -> Deferred[bool]:
        self.declared.append((name, queue))
        refusal = self.refusals.get(queue)
        return fail(refusal) if refusal is not None else succeed(True)
