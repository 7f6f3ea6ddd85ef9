"""The supervisor itself: it wakes up, looks, and has done what the plan says.

It wakes at an interval for a full check (`cyme.supervisor.checks`) and at once for single
instances when something happened: a process ended, a worker became ready, a declaration
changed, a broker came back, somebody asked.

Note [Looks and lanes]
~~~~~~~~~~~~~~~~~~~~~~
A *look* is synchronous and cheap: it plans from what is known now and, when there are steps,
starts them in the instance's *lane*. Two lanes never wait for each other, so that a worker
that drains for an hour delays nobody; and one instance never has two lanes, so that a plan is
never made in the middle of another plan's execution. When a lane ends the instance is looked at
again, whatever happened meanwhile. A look right after a process ended needs no question to
anybody, which is why a killed worker is replaced within milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from cyme.declarations import App, BranchState, Declaration, Instance, Queue, Rollout
from cyme.errors import BrokerAway
from cyme.exits import Reason
from cyme.interfaces import ISupervisor
from cyme.planning import (
    CleanUp,
    Desired,
    Exit,
    Observed,
    Phase,
    Policy,
    Start,
    State,
    Step,
    Stop,
    after_exit,
    broker_returned,
    forgiven,
    plan,
    state_of,
)
from cyme.supervisor.checks import Checks
from cyme.supervisor.delays import Delays
from cyme.supervisor.endings import Endings
from cyme.supervisor.enquiries import Enquiries
from cyme.supervisor.executing import Executor, StepFailed
from cyme.supervisor.hearing import answered
from cyme.supervisor.oomkills import OomWatch
from cyme.supervisor.questions import Questions
from cyme.supervisor.resolving import Defaults
from cyme.supervisor.restoring import Restoring
from cyme.supervisor.sampling import Sampler
from cyme.supervisor.status import status_of
from cyme.supervisor.tracking import Tracked
from cyme.supervisor.world import World

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from cyme.interfaces import ICatalogue, IEvents, IRemoteControl, IWorkers

#: Seconds until a command that failed is tried again.
RETRY_AFTER = 5.0
#: Seconds between two looks for workers that are to be asked whether something moves in them.
STALL_WATCH_INTERVAL = 2.0
#: Instances looked at in one go before the reactor gets its turn.
LOOKS_AT_ONCE = 50
#: The states in which there is nothing to wait for.
SETTLED = frozenset({State.RUNNING, State.DISABLED, State.BACKOFF, State.UNKNOWN, State.UNRESPONSIVE})


@implementer(ISupervisor)
class Supervisor(Service):
    """Keeps the instances of one branch as they are declared.

    :param interval: seconds between two full checks.
    :param jitter: gives numbers from 0 to 1, for back-off.
    :param defaults: asked at each look, because the default broker may be chosen late.
    :param passed: called with the seconds that each full check took.
    :param oom_kills: how often the kernel has killed for want of memory, None if that is not known.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        workers: IWorkers,
        remote: IRemoteControl,
        events: IEvents,
        *,
        branch_id: str,
        defaults: Callable[[], Defaults],
        interval: float,
        policy: Policy,
        jitter: Callable[[], float],
        oom_kills: Callable[[], int | None] = lambda: None,
        passed: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._workers = workers
        self._remote = remote
        self._events = events
        self._interval = interval
        self._policy = policy
        self._jitter = jitter
        self._world = World(catalogue, workers, remote, branch_id, defaults)
        self._delays = Delays(clock)
        self._questions = Questions(clock, remote)
        self._executor = Executor(clock, workers, remote, self._questions, policy.warm_timeout, self._record)
        self._checks = Checks(
            clock,
            catalogue,
            workers,
            remote,
            self._world,
            self._questions,
            self._delays,
            policy=policy,
            look_at=self.wake,
            passed=passed,
        )
        self._enquiries = Enquiries(
            clock, catalogue, workers, remote, self._world, self._checks, policy=policy
        )
        self._sampler = Sampler(clock, catalogue, workers, self._world, interval=interval, look_at=self.wake)
        self._restoring = Restoring(clock, workers, remote, self._world, self._delays)
        self._oom = OomWatch(oom_kills)
        self._endings = Endings(
            workers,
            self._delays,
            self._oom,
            policy=policy,
            jitter=jitter,
            record=self._record,
            look=self._look,
        )
        self._due: set[str] = set()
        self._pass_at: IDelayedCall | None = None
        self._is_begun = False
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock
        self._stall_watch = LoopingCall(self._watch_stalls)
        self._stall_watch.clock = clock
        workers.subscribe(ready=self._worker_ready, ended=self._worker_ended)
        remote.subscribe(self._broker_changed)
        catalogue.subscribe(self._declarations_changed)

    # -- Service --------------------------------------------------------------

    def startService(self) -> Deferred[None]:
        """Adopt the workers that live already, then begin to supervise.

        :return: fires when the workers are adopted.
        """
        super().startService()
        names = [one.name for one in self._world.all_desired()]
        return Deferred.fromCoroutine(self._begin([*names, *self._world.deleted()]))

    async def _begin(self, names: Sequence[str]) -> None:
        # A branch that was killed may have left workers of what others have now: they are stopped.
        names = [*names, *await self._workers.folders(self._world.elsewhere())]
        adopted = await self._workers.adopt(names)
        self._world.supervised_since = self._clock.seconds()
        self._restoring.collect()
        if adopted:
            self._log.info(
                "{{Supervisor}} adopted {count} workers: {names}", count=len(adopted), names=adopted
            )
        for name in adopted:
            self._record("adopted", name, pid=self._workers.processes()[name].pid)
        self._checks.examine_logs(adopted)
        self._run_loop()
        if self.running:
            self._stall_watch.start(STALL_WATCH_INTERVAL, now=False)
            self._sampler.start()

    def _run_loop(self) -> None:
        """Run the loop for ever; `Checks.full` never fails, but a loop that ended would go unnoticed."""

        def ended(failure: Failure) -> None:
            self._log.failure("{{Supervisor}} the loop ended and is started again", failure)
            self._delays.later(min(self._interval, RETRY_AFTER), self._run_loop)

        self._is_begun = True
        if self.running:
            self._loop.start(self._interval, now=True).addErrback(ended)

    def _watch_stalls(self) -> None:
        try:
            self._checks.watch_stalls()
        except Exception:
            self._log.failure("{{Supervisor}} the watch for stalled workers failed once")

    def _tick(self) -> Deferred[None]:
        self._oom.refresh()
        self._restoring.again()
        return self._checks.full()

    def stopService(self) -> None:
        """Stop supervising; workers are left as they are."""
        super().stopService()
        for loop in (self._loop, self._stall_watch):
            if loop.running:
                loop.stop()
        self._checks.stop()
        self._sampler.stop()
        self._delays.call_off_all()
        self._restoring.stop()
        for tracked in list(self._world.tracked().values()):
            for job in (tracked.ladder, tracked.lane):
                if job is not None:
                    job.cancel()
            self._release_waiters(tracked)

    def signs(self) -> Mapping[str, object]:
        """See `cyme.vitals.Signs`."""
        if self._is_begun and self.running and not self._loop.running:
            return {"the supervisor's loop": "ended"}
        return self._checks.signs()

    # -- ISupervisor ------------------------------------------------------------

    def wake(self, names: Iterable[str] | None = None) -> None:
        if not self.running:
            return
        if names is None:
            self._checks.full()
            return
        self._due.update(names)
        if self._due and self._pass_at is None:
            self._pass_at = self._delays.later(0, self._pass)

    def status(self, instance: Instance) -> Mapping[str, Any]:
        name = instance.name
        tracked = self._world.tracked().get(name) or Tracked(name=name)
        desired, observed = self._world.facts(name)
        return status_of(
            tracked, desired, observed, self._world.node(name), self._clock.seconds(), self._policy
        )

    def settled(self, name: str, timeout: float) -> Deferred[None]:
        tracked = self._world.track(name)
        waiter: Deferred[None] = Deferred()
        limit = self._delays.later(timeout, waiter.callback, None)
        tracked.waiters.append(waiter)

        def done(result: Any) -> Any:
            tracked.waiters.remove(waiter)
            self._delays.call_off(limit)
            return result

        waiter.addBoth(done)
        self.wake([name])
        return waiter

    def ask(self, name: str, command: str, *, timeout: float) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._enquiries.ask(name, command, timeout))

    def health(self, name: str) -> Deferred[Mapping[str, Any]]:
        return Deferred.fromCoroutine(self._enquiries.health(name))

    def log_tail(self, name: str, lines: int) -> Deferred[tuple[str, ...]]:
        return self._workers.log_tail(name, lines)

    def dump(self, name: str, timeout: float) -> Deferred[str]:
        return Deferred.fromCoroutine(self._enquiries.dump(name, timeout))

    def declare(self, name: str, queue: str) -> Deferred[bool]:
        return Deferred.fromCoroutine(self._enquiries.declare(name, queue))

    # -- what happens -------------------------------------------------------------

    def _worker_ready(self, name: str) -> None:
        """Ping at once instead of at the ladder's next rung."""
        self._end_ladder(self._world.track(name))
        self._look(name)

    def _worker_ended(self, name: str, exit: Exit) -> None:
        tracked = self._world.track(name)
        tracked.resources = None
        if tracked.emptying is not None:
            tracked.emptying.cancel()
        self._end_ladder(tracked)
        self._endings.ended(tracked, exit, supervised=bool(self.running))
        self._restoring.collect()

    def _broker_changed(self, broker: str, reachable: bool) -> None:
        affected = [one.name for one in self._world.all_desired() if one.broker == broker]
        if not reachable or self._remote.revived_at(broker) is not None:
            for name in affected:
                self._record("broker-back" if reachable else "broker-away", name)
        if reachable:
            for tracked in [self._world.track(name) for name in affected]:
                tracked.history = broker_returned(tracked.history)
            self._log.info("{{Supervisor}} the broker of {count} instances answers", count=len(affected))
            self._checks.broker_revived(broker)
            self._restoring.again()
            self._delays.later(self._policy.wait_after_broker_revived + 0.1, self.wake)
        self.wake(affected)

    def _declarations_changed(self, declarations: tuple[Declaration, ...]) -> None:
        """Look at what a change concerns; whoever touches an instance forgives its failures."""
        concerned: set[str] = set()
        for declaration in declarations:
            if isinstance(declaration, (Rollout, BranchState)):
                continue  # what they do to an instance is a change of that
            if isinstance(declaration, Instance):
                concerned.add(declaration.name)
                if declaration.name in self._world.deleted():
                    # It may have left something, even if no worker of it lives now.
                    self._world.track(declaration.name).leftovers = True
            else:
                app = declaration.name if isinstance(declaration, App) else declaration.app
                concerned.update(instance.name for instance in self._catalogue.instances(app))
                if isinstance(declaration, Queue):
                    self._redeclared(declaration)
        for name in concerned & self._world.tracked().keys():
            tracked = self._world.track(name)
            tracked.history = forgiven(tracked.history)
            tracked.quarantined.clear()
        self.wake(concerned)

    def _redeclared(self, queue: Queue) -> None:
        """Have consumers of a queue whose declaration changed take it up anew.

        A worker reports a consumer by its name only, so a look would see no difference. What is
        to end because the queue is paused must not be forgotten.
        """
        if queue.paused:
            return
        for instance in self._catalogue.instances(queue.app):
            tracked = self._world.tracked().get(instance.name)
            if queue.name in instance.queues and tracked is not None and tracked.heard.consumers is not None:
                tracked.heard = evolve(tracked.heard, consumers=tracked.heard.consumers - {queue.name})

    # -- looks and lanes, see Note [Looks and lanes] ---------------------------------

    def _pass(self) -> None:
        """Look at what is due, a bounded number at a time."""
        self._pass_at = None
        for _ in range(min(LOOKS_AT_ONCE, len(self._due))):
            name = self._due.pop()
            try:
                self._look(name)
            except Exception:
                self._log.failure("{{Supervisor}} {name}: the look at it failed", name=name)
        if self._due:
            self._pass_at = self._delays.later(0, self._pass)

    def _look(self, name: str) -> None:
        tracked = self._world.track(name)
        if tracked.busy:
            self._hasten(tracked)
        if tracked.busy or tracked.examining is not None or not self.running:
            return
        desired, observed = self._world.facts(name)
        now = self._clock.seconds()
        steps = plan(name, desired, observed, tracked.history, now, self._policy)
        self._set_timer(tracked, now)
        if steps:
            tracked.busy = True
            if isinstance(steps[0], Stop) and steps[0].in_turn and desired is not None:
                self._world.take_turn(desired)
            lane = Deferred.fromCoroutine(self._run(steps, desired, tracked))
            tracked.lane = lane if tracked.busy else None
            lane.addErrback(self._broke, tracked)
        elif desired is None and observed.process is None and not tracked.leftovers:
            self._untrack(tracked)
        else:
            self._climb(tracked, desired, observed)
            state = state_of(desired, observed, tracked.history, now, self._policy)
            if state in SETTLED and not (state is State.RUNNING and tracked.heard.consumers is None):
                self._release_waiters(tracked)

    def _hasten(self, tracked: Tracked) -> None:
        """Bring the deadline of a stop forward, when somebody asked for that meanwhile."""
        draining = tracked.draining
        if draining is None:
            return
        until = self._world.drain_until(tracked.name)
        if until is None or until >= draining.deadline:
            return
        tracked.draining = evolve(draining, deadline=until)
        process = self._workers.processes().get(tracked.name)
        if process is not None and process.phase is Phase.STOPPING:
            left = max(0.0, until - self._clock.seconds())
            self._workers.stop(tracked.name, left).addErrback(self._broke, tracked)

    async def _run(self, steps: Sequence[Step], desired: Desired | None, tracked: Tracked) -> None:
        """Run an instance's steps in order; one that fails puts off those that follow."""
        try:
            for step in steps:
                await self._executor.run(step, desired, self._world.target(tracked.name), tracked)
            tracked.problem = tracked.problem if isinstance(steps[0], Stop) else None
        except Exception as error:
            self._step_failed(tracked, steps[0], error)
        finally:
            tracked.busy = False
            tracked.lane = None
        self.wake([tracked.name])

    def _step_failed(self, tracked: Tracked, first: Step, error: Exception) -> None:
        if isinstance(error, CancelledError):
            return
        tracked.problem = str(error)
        self._record("failed", tracked.name, step=type(first).__name__, problem=str(error))
        now = self._clock.seconds()
        if isinstance(first, Start):
            never = Exit(status=None, signal=None, at=now, lived=0.0, expected=False)
            history = evolve(tracked.history, failures=max(1, tracked.history.failures))
            tracked.history = after_exit(
                history,
                never,
                failed=True,
                jitter=self._jitter(),
                policy=self._policy,
                reason=Reason.NOT_STARTED,
            )
        elif isinstance(first, CleanUp):
            # The next full check finds the folder again; a broker that is gone for good is
            # asked once a minute, not every few seconds.
            tracked.leftovers = False
        else:
            tracked.history = evolve(tracked.history, retry_at=now + RETRY_AFTER)
        if isinstance(error, (StepFailed, BrokerAway, OSError)):
            self._log.warn(
                "{{Supervisor}} {name}: {problem}; tried again later", name=tracked.name, problem=str(error)
            )
        else:
            self._log.failure("{{Supervisor}} {name}: a step failed", name=tracked.name)

    def _climb(self, tracked: Tracked, desired: Desired | None, observed: Observed) -> None:
        """Begin to ping a worker that is starting."""
        process = observed.process
        if tracked.ladder is not None or desired is None or process is None:
            return
        if process.phase is Phase.STARTING:
            tracked.ladder = ladder = Deferred.fromCoroutine(self._questions.climb(desired))
            ladder.addCallback(self._pong, desired, tracked)
            ladder.addErrback(self._broke, tracked)

    def _pong(self, _: None, desired: Desired, tracked: Tracked) -> None:
        """Welcome a worker that answered for the first time, and ask what it does."""
        tracked.ladder = None
        self._workers.mark_running(desired.name)
        tracked.heard = answered(tracked.heard, self._clock.seconds())
        tracked.ailment = None
        self._log.info("{{Supervisor}} {name} successfully restarted", name=desired.name)
        self._record("running", desired.name)
        self._checks.interrogate(desired)

    def _end_ladder(self, tracked: Tracked) -> None:
        ladder, tracked.ladder = tracked.ladder, None
        if ladder is not None:
            ladder.cancel()

    def _broke(self, failure: Failure, tracked: Tracked) -> None:
        if not failure.check(CancelledError, BrokerAway):
            self._log.failure("{{Supervisor}} {name}: supervising it failed", failure, name=tracked.name)

    def _record(self, kind: str, name: str, **details: Any) -> None:
        """Take note of something that happened to an instance, in the why-log."""
        instance = self._catalogue.instance(name) or self._world.deleted().get(name)
        app = instance.app if instance is not None else None
        self._events.record(kind, app=app, instance=name, who="supervisor", **details)

    # -- memory ---------------------------------------------------------------------

    def _untrack(self, tracked: Tracked) -> None:
        if tracked.timer is not None:
            self._delays.call_off(tracked.timer)
        self._release_waiters(tracked)
        self._world.forget(tracked.name)

    def _release_waiters(self, tracked: Tracked) -> None:
        for waiter in tracked.waiters[:]:
            waiter.callback(None)

    def _set_timer(self, tracked: Tracked, now: float) -> None:
        """Have the instance looked at again when its back-off or its hold-off is over."""
        if tracked.timer is not None:
            self._delays.call_off(tracked.timer)
            tracked.timer = None
        ahead = [at - now for at in (tracked.history.next_attempt, tracked.history.retry_at) if at > now]
        if ahead:
            tracked.timer = self._delays.later(min(ahead), self.wake, [tracked.name])
