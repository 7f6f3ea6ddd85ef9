"""Processes that are none: they get ready, and end, when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from cyme.interfaces import IHandle, ILauncher

Outcome = tuple[int | None, int | None]


@define(eq=False)
class FakeProcess:
    """A process as `FakeLauncher` has it.

    :ivar signals: what was sent to it, in order: (number, to the whole group).
    :ivar ends_on: signal number -> (exit status, signal) that it ends with when it gets that
        signal, in a later turn of the clock.
    :ivar prints_on: signal number -> what it appends to its log when it gets that signal.
    """

    pid: int
    argv: tuple[str, ...]
    env: dict[str, str]
    record: str
    log: str
    identity: str
    started_at: float
    _clock: IReactorTime = field(alias="clock")
    _ready: Callable[[], None] | None = field(alias="ready")
    signals: list[tuple[int, bool]] = field(factory=list)
    ends_on: dict[int, Outcome] = field(factory=dict)
    prints_on: dict[int, str] = field(factory=dict)
    outcome: Outcome | None = None
    handles: list[FakeHandle] = field(factory=list)

    def say_ready(self) -> None:
        """Have it say that it serves."""
        assert self.outcome is None, f"process {self.pid} has ended"
        assert self._ready is not None, f"process {self.pid} has said so already"
        ready, self._ready = self._ready, None
        ready()

    def end(self, status: int | None = None, signal: int | None = None) -> None:
        """Have it end."""
        assert self.outcome is None, f"process {self.pid} has ended"
        self.outcome = (status, signal)
        for handle in list(self.handles):
            handle.ended()

    def take(self, number: int, group: bool) -> None:
        """Get a signal."""
        self.signals.append((number, group))
        if number in self.prints_on:
            with open(self.log, "a") as log:
                log.write(self.prints_on[number])
        if self.outcome is None and number in self.ends_on:
            self._clock.callLater(0, self._end_by, number)

    def _end_by(self, number: int) -> None:
        if self.outcome is None:
            self.end(*self.ends_on[number])


@implementer(IHandle)
class FakeHandle:
    """A handle of a `FakeProcess`; whatever is asked of it after `release` is a fault.

    :param knows: whether the exit status is told.
    """

    def __init__(self, process: FakeProcess, *, knows: bool) -> None:
        self.pid = process.pid
        self.started_at = process.started_at
        self.identity = process.identity
        self.released = False
        self._process = process
        self._knows = knows
        self._waiting: list[Deferred[Outcome]] = []
        process.handles.append(self)

    def signal(self, number: int, *, group: bool = False) -> None:
        assert not self.released, f"signal {number} to process {self.pid} that was let go"
        self._process.take(number, group)

    def when_ended(self) -> Deferred[Outcome]:
        assert not self.released, f"process {self.pid} was let go"
        waiter: Deferred[Outcome] = Deferred()
        self._waiting.append(waiter)
        if self._process.outcome is not None:
            self.ended()
        return waiter

    def release(self) -> None:
        self.released = True
        self._waiting.clear()
        if self in self._process.handles:
            self._process.handles.remove(self)

    def ended(self) -> None:
        """Tell those who wait."""
        outcome = self._process.outcome
        assert outcome is not None
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(outcome if self._knows else (None, None))


@implementer(ILauncher)
class FakeLauncher:
    """Provides `ILauncher`; the processes are there for tests to play with.

    :ivar launched: all that were ever launched, in order.
    :ivar refuse: the error that `launch` raises, or None.
    :ivar ends_on: what new processes have as their `FakeProcess.ends_on`.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.launched: list[FakeProcess] = []
        self.refuse: OSError | None = None
        self.ends_on: dict[int, Outcome] = {}

    def launch(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        record: str,
        log: str,
        identity: str,
        ready: Callable[[], None],
    ) -> FakeHandle:
        if self.refuse is not None:
            raise self.refuse
        assert self._living(record) is None, f"the process that wrote {record} still lives"
        process = FakeProcess(
            pid=2001 + len(self.launched),
            argv=tuple(argv),
            env=dict(env),
            record=record,
            log=log,
            identity=identity,
            started_at=self._clock.seconds(),
            clock=self._clock,
            ready=ready,
            ends_on=dict(self.ends_on),
        )
        self.launched.append(process)
        return FakeHandle(process, knows=True)

    def find(self, record: str) -> FakeHandle | None:
        process = self._living(record)
        return None if process is None else FakeHandle(process, knows=False)

    def _living(self, record: str) -> FakeProcess | None:
        for process in self.launched:
            if process.record == record and process.outcome is None:
                return process
        return None
