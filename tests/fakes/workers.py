"""Workers without processes: they live and end when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from attrs import evolve
from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from cyme.errors import NoDump
from cyme.interfaces import IWorkers
from cyme.limits import Resources
from cyme.planning import Desired, Exit, Phase, Process


@implementer(IWorkers)
class FakeWorkers:
    """Provides `IWorkers`; starts nothing, and a worker that is told to stop waits for `end`.

    :ivar started: what was started, in order.
    :ivar stopped: the names that were told to stop, in order; one that is told twice is there once.
    :ivar deadlines: name -> the seconds that a worker got for its tasks, of its last stop.
    :ivar folder_names: the names that have a folder.
    :ivar lines: worker name -> its log.
    :ivar process_states: worker name -> the letter of its state; those that are not here sleep.
    :ivar stacks: worker name -> what it prints; without an entry it prints nothing.
    :ivar rss: worker name -> its resident memory in bytes; 50 MiB for those that are not there.
    :ivar without_pool: workers of which only the main process is left.
    :ivar unmeasurable: the error that `resources` fails with, or None.
    :ivar measured: how often `resources` was asked for.
    :ivar refuse: the error that `start` raises, or None.
    :ivar has_ended: name and incarnation of the processes that nobody has asked for yet.
    :ivar released: whether `release` was called.
    :ivar hurried: whether `hurry` was called.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._living: dict[str, Process] = {}
        self._left: dict[str, Process] = {}
        self._stopping: dict[str, list[Deferred[Exit]]] = {}
        self._subscribers: list[tuple[Callable[[str], None], Callable[[str, Exit], None]]] = []
        self._pid = 1000
        self.started: list[Desired] = []
        self.stopped: list[str] = []
        self.deadlines: dict[str, float | None] = {}
        self.folder_names: set[str] = set()
        self.lines: dict[str, tuple[str, ...]] = {}
        self.process_states: dict[str, str] = {}
        self.stacks: dict[str, str] = {}
        self.rss: dict[str, int] = {}
        self.without_pool: set[str] = set()
        self.unmeasurable: Exception | None = None
        self.measured = 0
        self.refuse: OSError | None = None
        self.has_ended: list[tuple[str, str]] = []
        self.released = False
        self.hurried = False

    # -- what tests say -----------------------------------------------------------

    def leave_running(self, desired: Desired) -> None:
        """Have a worker run that an earlier life of the branch started."""
        self._left[desired.name] = evolve(self._process(desired), adopted=True)
        self.folder_names.add(desired.name)

    def say_ready(self, name: str) -> None:
        """Have the living worker `name` say that it serves."""
        assert name in self._living, f"no worker {name!r} lives"
        for ready, _ in self._subscribers:
            ready(name)

    def end(
        self, name: str, *, status: int | None = None, signal: int | None = None, expected: bool | None = None
    ) -> None:
        """Have the living worker `name` end.

        :param expected: what its `Exit` says; None for whether it was told to stop.
        """
        assert name in self._living, f"no worker {name!r} lives"
        process = self._living.pop(name)
        self.has_ended.append((name, f"boot/{process.pid}/1"))
        waiting = self._stopping.pop(name, [])
        now = self._clock.seconds()
        exit = Exit(
            status=status,
            signal=signal,
            at=now,
            lived=now - process.started_at,
            expected=process.phase is Phase.STOPPING if expected is None else expected,
        )
        for _, ended in self._subscribers:
            ended(name, exit)
        for stopped in waiting:
            stopped.callback(exit)

    # -- IWorkers -----------------------------------------------------------------

    def adopt(self, names: Iterable[str]) -> Deferred[tuple[str, ...]]:
        adopted = tuple(name for name in names if name in self._left)
        for name in adopted:
            self._living[name] = self._left.pop(name)
        return succeed(adopted)

    def start(self, desired: Desired) -> Process:
        if desired.name in self._living:
            raise ValueError(f"a worker {desired.name!r} lives already")
        if self.refuse is not None:
            raise self.refuse
        assert desired.name not in self._left, f"{desired.name!r} runs and was not adopted"
        process = self._living[desired.name] = self._process(desired)
        self.started.append(desired)
        self.folder_names.add(desired.name)
        return process

    def mark_running(self, name: str) -> None:
        process = self._living.get(name)
        if process is not None and process.phase is Phase.STARTING:
            self._living[name] = evolve(process, phase=Phase.RUNNING)

    def stop(self, name: str, within: float | None = None) -> Deferred[Exit]:
        if name not in self._living:
            return fail(KeyError(name))
        self.deadlines[name] = within
        if name not in self._stopping:
            self.stopped.append(name)
            self._living[name] = evolve(self._living[name], phase=Phase.STOPPING)
        stopped: Deferred[Exit] = Deferred()
        self._stopping.setdefault(name, []).append(stopped)
        return stopped

    def take_ended(self) -> tuple[tuple[str, str], ...]:
        ended, self.has_ended = self.has_ended, []
        return tuple(ended)

    def processes(self) -> Mapping[str, Process]:
        return dict(self._living)

    def process_state(self, name: str) -> str | None:
        return self.process_states.get(name, "S") if name in self._living else None

    def resources(self) -> Deferred[Mapping[str, Resources]]:
        self.measured += 1
        if self.unmeasurable is not None:
            return fail(self.unmeasurable)
        now = self._clock.seconds()
        return succeed(
            {
                name: Resources(
                    rss=self.rss.get(name, 50 << 20),
                    cpu_seconds=1.0,
                    # Its main process, and one of its pool.
                    processes=1 if name in self.without_pool else 2,
                    at=now,
                )
                for name in self._living
            }
        )

    def subscribe(self, *, ready: Callable[[str], None], ended: Callable[[str, Exit], None]) -> None:
        self._subscribers.append((ready, ended))

    def folders(self, names: Iterable[str]) -> Deferred[frozenset[str]]:
        return succeed(frozenset(self.folder_names.intersection(names)))

    def remove_folder(self, name: str) -> Deferred[None]:
        if name in self._living:
            return fail(ValueError(f"the worker {name!r} lives"))
        self.folder_names.discard(name)
        self.lines.pop(name, None)
        return succeed(None)

    def log_tail(self, name: str, lines: int) -> Deferred[tuple[str, ...]]:
        return succeed(self.lines.get(name, ())[-lines:] if lines > 0 else ())

    def dump(self, name: str, timeout: float) -> Deferred[str]:
        if name not in self._living:
            return fail(KeyError(name))
        if name in self.stacks:
            return succeed(self.stacks[name])
        silent: Deferred[str] = Deferred()
        self._clock.callLater(timeout, silent.errback, NoDump(name, timeout, "it is frozen"))
        return silent

    def stop_all(self) -> Deferred[None]:
        return gatherResults([self.stop(name) for name in self._living]).addCallback(lambda _: None)

    def hurry(self) -> None:
        self.hurried = True
        for name in self._living:
            self.stop(name)

    def release(self) -> None:
        self.released = True
        self._living.clear()
        self._stopping.clear()

    def _process(self, desired: Desired) -> Process:
        self._pid += 1
        return Process(
            pid=self._pid,
            started_at=self._clock.seconds(),
            fingerprint=desired.fingerprint,
            phase=Phase.STARTING,
        )
