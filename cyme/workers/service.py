"""The workers of a branch: started, adopted, stopped, and what is left of them."""

from __future__ import annotations

import json
import os
import signal as signals
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from zope.interface import implementer

from cyme.interfaces import IHandle, ILauncher, IWorkers
from cyme.limits import Resources
from cyme.naming import is_plain_name
from cyme.planning import Desired, Exit, Process
from cyme.workers.command import worker_argv, worker_env
from cyme.workers.dumps import Dumping
from cyme.workers.folders import Files, existing, folder_of, remove, sweep
from cyme.workers.life import Ladder, Life, Subject, begin
from cyme.workers.logtail import tail
from cyme.workers.proc import Condition, incarnation_of, read_condition, read_ended, read_stat
from cyme.workers.resources import Usage, measure

T = TypeVar("T")

#: Runs what blocks elsewhere than in the reactor's thread, and fires with what it returned.
InThread = Callable[[Callable[[], Any]], "Deferred[Any]"]


@define(eq=False)
class _Worker:
    """A living worker process."""

    name: str
    handle: IHandle
    life: Life
    started_at: float
    incarnation: str | None
    stopping: bool = False
    measured: Resources | None = None
    stopped: list[Deferred[Exit]] = field(factory=list)


@implementer(IWorkers)
class Workers:
    """Provides `IWorkers` by processes of an `ILauncher`.

    :param reactor: an `IReactorTime` and `IReactorThreads`.
    :param root: the branch's root folder; each worker has a folder in it.
    :param celery_loglevel: Celery's name of a log level.
    :param env: what the workers' environment is made of, see `worker_env`.
    :param warm_timeout: seconds that a worker has for its tasks once it is to stop.
    :param cold_timeout: seconds that it has then to give them back, before it is killed.
    :param in_thread: runs what blocks; None for the reactor's thread pool.
    :param condition: how a process is, by its pid.
    :param measure: measures the trees of processes, by pid; blocks.
    :param incarnation: names a living process, by its pid, see `cyme.holders`.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        launcher: ILauncher,
        root: str | os.PathLike[str],
        *,
        celery_loglevel: str,
        env: Mapping[str, str] = os.environ,
        warm_timeout: float = 60.0,
        cold_timeout: float = 10.0,
        in_thread: InThread | None = None,
        condition: Callable[[int], Condition | None] = read_condition,
        measure: Callable[[Collection[int]], Mapping[int, Usage]] = measure,
        incarnation: Callable[[int], str | None] = incarnation_of,
    ) -> None:
        self._clock = reactor
        self._launcher = launcher
        self._root = Path(root)
        self._celery_loglevel = celery_loglevel
        self._env = env
        self._ladder = Ladder(warm_timeout, cold_timeout)
        self._in_thread = in_thread or (lambda run: deferToThreadPool(reactor, reactor.getThreadPool(), run))
        self._dumping = Dumping(reactor, self._in_thread, condition)
        self._measure = measure
        self._incarnation = incarnation
        self._workers: dict[str, _Worker] = {}
        # Beside it, since it is copied far more often than it changes.
        self._processes: dict[str, Process] = {}
        self._has_ended: list[tuple[str, str]] = []
        self._is_hurried = False
        self._subscribers: list[tuple[Callable[[str], None], Callable[[str, Exit], None]]] = []

    # -- they come ------------------------------------------------------------------

    def adopt(self, names: Iterable[str]) -> Deferred[tuple[str, ...]]:
        return Deferred.fromCoroutine(self._adopt(tuple(names)))

    async def _adopt(self, names: Sequence[str]) -> tuple[str, ...]:
        adopted = []
        for name in names:
            try:
                if name not in self._workers and self._adopt_one(name):
                    adopted.append(name)
            except Exception:
                self._log.failure("{name} can't be adopted", name=name)
        try:
            self._has_ended += await self._in_thread(partial(self._read_ended, names))
        except Exception:
            self._log.failure("nobody knows which workers ended while no branch was there")
        try:
            await self._in_thread(partial(sweep, self._root))
        except OSError as problem:
            self._log.warn("what is left of removed workers stays: {problem}", problem=str(problem))
        return tuple(adopted)

    def _adopt_one(self, name: str) -> bool:
        files = self._files(name)
        handle = self._launcher.find(str(files.record))
        if handle is None:
            return False
        fingerprint = _fingerprint_in(handle.identity, name)
        if fingerprint is None:
            self._log.warn(
                "process {pid} wrote {path}, but is no worker {name}",
                pid=handle.pid,
                path=str(files.record),
                name=name,
            )
            handle.release()
            return False
        self._keep(name, handle, fingerprint, adopted=True)
        return True

    def start(self, desired: Desired) -> Process:
        name = desired.name
        if name in self._workers:
            raise ValueError(f"a worker {name!r} lives already")
        files = self._files(name)
        files.prepare()
        argv = worker_argv(desired, files, self._celery_loglevel)
        handle = self._launcher.launch(
            argv,
            worker_env(self._env, desired),
            record=str(files.record),
            log=str(files.log),
            identity=_identity(desired),
            ready=partial(self._said_ready, name),
        )
        self._log.debug("{argv}", argv=" ".join(argv))
        return self._keep(name, handle, desired.fingerprint, adopted=False)

    def _keep(self, name: str, handle: IHandle, fingerprint: str, *, adopted: bool) -> Process:
        life = begin(Subject(name, handle, self._clock, self._ladder, self._log))
        phase = life.phase()
        assert phase is not None
        process = self._processes[name] = Process(
            pid=handle.pid,
            started_at=handle.started_at,
            fingerprint=fingerprint,
            phase=phase,
            adopted=adopted,
        )
        incarnation = self._incarnation(handle.pid)
        worker = self._workers[name] = _Worker(name, handle, life, handle.started_at, incarnation)
        ended = handle.when_ended()
        if ended.called:
            # Nobody is called back before this worker is known to whoever started it.
            ended.addCallback(lambda how: self._clock.callLater(0, self._ended, worker, how))
        else:
            ended.addCallback(partial(self._ended, worker))
        return process

    def mark_running(self, name: str) -> None:
        worker = self._workers.get(name)
        if worker is not None:
            worker.life.mark_running()
            self._renew(worker)

    def _said_ready(self, name: str) -> None:
        if name in self._workers:
            for ready, _ in self._subscribers:
                self._call(ready, name)

    # -- they go ----------------------------------------------------------------------

    def stop(self, name: str, within: float | None = None) -> Deferred[Exit]:
        worker = self._workers.get(name)
        if worker is None:
            return fail(KeyError(name))
        stopped: Deferred[Exit] = Deferred()
        worker.stopped.append(stopped)
        if self._is_hurried:
            worker.life.hurry()
        else:
            worker.life.stop(within)
        worker.stopping = True
        self._renew(worker)
        return stopped

    def stop_all(self) -> Deferred[None]:
        warm = self._ladder.warm
        return gatherResults([self.stop(name, warm) for name in self._workers]).addCallback(lambda _: None)

    def hurry(self) -> None:
        self._is_hurried = True
        for worker in self._workers.values():
            worker.life.hurry()
            worker.stopping = True
            self._renew(worker)

    def release(self) -> None:
        workers, self._workers = self._workers, {}
        self._processes.clear()
        for worker in workers.values():
            worker.life.over()
            worker.handle.release()

    def _ended(self, worker: _Worker, how: tuple[int | None, int | None]) -> None:
        """Tell everybody at once: whoever replaces the worker does so in this very turn."""
        if self._workers.get(worker.name) is not worker:
            return
        del self._workers[worker.name]
        del self._processes[worker.name]
        worker.life.over()
        # See Note [Process groups] in cyme.workers.handle.
        worker.handle.signal(signals.SIGKILL, group=True)
        worker.handle.release()
        if worker.incarnation is not None:
            self._has_ended.append((worker.name, worker.incarnation))
        status, number = how
        now = self._clock.seconds()
        exit = Exit(
            status=status,
            signal=number,
            at=now,
            lived=now - worker.started_at,
            expected=worker.stopping,
        )
        for _, ended in self._subscribers:
            self._call(ended, worker.name, exit)
        for stopped in worker.stopped:
            stopped.callback(exit)

    def _read_ended(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """The processes of which records are left and that live no more; blocks."""
        found = []
        for name in filter(is_plain_name, names):
            files = self._files(name)
            found += [(name, read_ended(str(record))) for record in (files.record, files.record_before)]
        return [(name, incarnation) for name, incarnation in found if incarnation is not None]

    def take_ended(self) -> tuple[tuple[str, str], ...]:
        ended, self._has_ended = self._has_ended, []
        return tuple(ended)

    # -- how they are -----------------------------------------------------------------

    def processes(self) -> Mapping[str, Process]:
        return dict(self._processes)

    def process_state(self, name: str) -> str | None:
        worker = self._workers.get(name)
        stat = read_stat(worker.handle.pid) if worker is not None else None
        return stat.state if stat is not None else None

    def resources(self) -> Deferred[Mapping[str, Resources]]:
        return Deferred.fromCoroutine(self._resources())

    async def _resources(self) -> Mapping[str, Resources]:
        workers = list(self._workers.values())
        if not workers:
            return {}
        usages = await self._in_thread(partial(self._measure, [one.handle.pid for one in workers]))
        now = self._clock.seconds()
        found = {}
        for one in workers:
            usage = usages.get(one.handle.pid)
            if usage is not None and self._workers.get(one.name) is one:
                found[one.name] = one.measured = _resources_of(usage, one.measured, now)
        return found

    def subscribe(self, *, ready: Callable[[str], None], ended: Callable[[str, Exit], None]) -> None:
        self._subscribers.append((ready, ended))

    # -- what they leave --------------------------------------------------------------

    def folders(self, names: Iterable[str]) -> Deferred[frozenset[str]]:
        return self._in_thread(partial(existing, self._root, tuple(names)))

    def remove_folder(self, name: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._remove_folder(name))

    async def _remove_folder(self, name: str) -> None:
        if name in self._workers:
            raise ValueError(f"the worker {name!r} lives")
        # Not in the reactor's thread: on a busy disk even a rename was seen to take 0.2 s.
        await self._in_thread(partial(remove, self._root, name))

    def log_tail(self, name: str, lines: int) -> Deferred[tuple[str, ...]]:
        return self._in_thread(lambda: tail(self._files(name).log, lines))

    # -- what they are at -------------------------------------------------------------

    def dump(self, name: str, timeout: float) -> Deferred[str]:
        worker = self._workers.get(name)
        if worker is None:
            return fail(KeyError(name))
        return Deferred.fromCoroutine(
            self._dumping.take(
                name,
                worker.handle,
                self._files(name).log,
                lambda: self._workers.get(name) is worker,
                timeout,
            )
        )

    # -- helpers ------------------------------------------------------------------------

    def _files(self, name: str) -> Files:
        return Files(folder_of(self._root, name))

    def _renew(self, worker: _Worker) -> None:
        phase = worker.life.phase()
        process = self._processes[worker.name]
        if phase is not None and phase is not process.phase:
            self._processes[worker.name] = evolve(process, phase=phase)

    def _call(self, subscriber: Callable[..., None], *arguments: object) -> None:
        try:
            subscriber(*arguments)
        except Exception:
            self._log.failure("a subscriber of the workers failed")


def _identity(desired: Desired) -> str:
    """What a worker's record says of it beside its pid."""
    return json.dumps({"name": desired.name, "fingerprint": desired.fingerprint})


def _resources_of(usage: Usage, before: Resources | None, now: float) -> Resources:
    """What a worker takes now, and its share of the processor since it was measured before."""
    percent = None
    if before is not None and now > before.at:
        # A process that left the tree took its time along.
        used = max(0.0, usage.cpu_seconds - before.cpu_seconds)
        percent = round(100 * used / (now - before.at), 1)
    return Resources(
        rss=usage.rss,
        cpu_seconds=usage.cpu_seconds,
        cpu_percent=percent,
        processes=usage.processes,
        open_files=usage.open_files,
        open_files_limit=usage.open_files_limit,
        at=now,
    )


def _fingerprint_in(identity: str, name: str) -> str | None:
    """What the worker `name` was started with, or None if this is not its identity."""
    try:
        document = json.loads(identity)
    except ValueError:
        return None
    if not isinstance(document, dict) or document.get("name") != name:
        return None
    fingerprint = document.get("fingerprint")
    return fingerprint if isinstance(fingerprint, str) else None
