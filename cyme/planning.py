"""The supervisor's judgement as pure functions: what should be, what is, what is to be done.

`plan` takes what one instance should be (`Desired`), what was seen of it (`Observed`),
how its last lives ended (`History`) and the time, and answers with steps. Steps are
values: tests compare them, `cyme.supervisor.executing` runs them. Nothing here does I/O,
reads a clock or draws a random number.
"""

from __future__ import annotations

import hashlib
import json
from enum import Enum
from typing import TypeAlias

from attrs import evolve, field, frozen

from cyme.exits import RULES, Reason, Waits
from cyme.limits import Resources, over_age, over_memory

#: Celery pools that `autoscale` can grow and shrink; the others die of it (failure-modes F7).
GROWING_POOLS = frozenset({"prefork", "processes"})


class State(str, Enum):
    """How an instance is, in the words that the API, the pages and the metrics share."""

    DISABLED = "disabled"
    STARTING = "starting"
    RUNNING = "running"
    UNRESPONSIVE = "unresponsive"
    UNKNOWN = "unknown"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    STOPPED = "stopped"
    LOST = "lost"


class Phase(str, Enum):
    """Where a worker process is in its life, as far as its own branch knows."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


# -- what should be -----------------------------------------------------------


@frozen(kw_only=True)
class ConsumedQueue:
    """A queue with everything that a worker needs to declare and consume from it.

    :ivar options: JSON text of an object; `{}` when there are none.
    """

    name: str
    exchange: str
    exchange_type: str
    routing_key: str
    options: str = "{}"


@frozen(kw_only=True)
class Desired:
    """One instance as its declaration, its app and the branch's defaults together make it.

    :ivar node: the Celery node name, `NAME@HOST`.
    :ivar broker: the broker's URL with its password.
    :ivar celery_app: what `celery -A` takes.
    :ivar arguments: more `celery worker` arguments, split.
    :ivar extra_config: `key=value` settings, split.
    :ivar queues: what it consumes from beside its private queue.
    :ivar drain_until: until when a stop may wait for running tasks, seconds since the epoch;
        None for as long as every stop may take.
    :ivar max_memory: bytes of its whole tree above which it is replaced; None for no limit.
    :ivar max_age: seconds after which it is replaced; None for no limit.
    :ivar stall_timeout: seconds for which reserved tasks may wait while none begins, until the
        worker counts as stalled; None for any time.

    The last three are no part of the fingerprint: a new limit restarts nothing by itself.
    """

    name: str
    app: str
    node: str
    broker: str
    celery_app: str
    pool: str = "prefork"
    arguments: tuple[str, ...] = ()
    extra_config: tuple[str, ...] = ()
    queues: tuple[ConsumedQueue, ...] = ()
    max_concurrency: int = 1
    min_concurrency: int = 1
    generation: int = 0
    is_enabled: bool = True
    drain_until: float | None = None
    max_memory: int | None = None
    max_age: float | None = None
    stall_timeout: float | None = None
    fingerprint: str = field(init=False)

    @fingerprint.default
    def _compute_fingerprint(self) -> str:
        """Digest what a worker is started with: another digest asks for a warm restart."""
        started_with: list[object] = [
            self.node,
            self.broker,
            self.celery_app,
            self.pool,
            self.arguments,
            self.extra_config,
            self.generation,
        ]
        if not self.autoscales:
            started_with.append(self.max_concurrency)
        return hashlib.sha256(json.dumps(started_with).encode()).hexdigest()[:16]

    @property
    def private_queue(self) -> str:
        """The queue that this instance alone consumes from, always."""
        return f"dq.{self.name}"

    @property
    def autoscales(self) -> bool:
        """Whether the pool can grow and shrink while the worker runs."""
        return self.pool in GROWING_POOLS


# -- what is --------------------------------------------------------------------


@frozen(kw_only=True)
class Process:
    """A living worker process.

    :ivar started_at: seconds since the epoch.
    :ivar fingerprint: `Desired.fingerprint` at its start.
    :ivar adopted: whether an earlier life of the branch started it.
    """

    pid: int
    started_at: float
    fingerprint: str
    phase: Phase
    adopted: bool = False


@frozen(kw_only=True)
class Exit:
    """How a worker process ended.

    :ivar status: the exit status; None when a signal ended it, or when it was adopted
        (then nobody is told).
    :ivar signal: the signal's number, or None.
    :ivar at: seconds since the epoch.
    :ivar lived: seconds from its start.
    :ivar expected: whether the branch had asked it to stop.
    """

    status: int | None
    signal: int | None
    at: float
    lived: float
    expected: bool


@frozen
class QueueCount:
    """What a broker counts of a queue."""

    messages: int
    consumers: int


@frozen(kw_only=True)
class Progress:
    """What a worker's counters said about its tasks.

    :ivar at: when it said so, seconds since the epoch.
    :ivar total: how many tasks have begun since its start.
    :ivar running, reserved: how many run, and how many it has fetched that did not begin.
    :ivar newest_began: when the youngest of those that run began, seconds since the epoch.
    :ivar blocked_since: since when tasks are reserved and none began; None when that is not so.
    """

    at: float
    total: int
    running: int
    reserved: int
    newest_began: float | None = None
    blocked_since: float | None = None


@frozen(kw_only=True)
class Heard:
    """What the worker last said over remote control.

    :ivar pong_at: when it last answered anything, seconds since the epoch; None for never.
    :ivar missed: questions in a row that it left unanswered while its broker could be reached.
    :ivar consumers: names of the queues it consumes from; None while not known.
    :ivar consumers_at: when it said so, seconds since the epoch.
    :ivar autoscale: (max, min) of its pool; None while not known or when it has no autoscaler.
    :ivar progress: what moves in it; None while it was not asked.
    :ivar uncounted: how many times in a row the broker counted no consumer of its private queue
        while it said that it consumes from it.
    :ivar has_reconsumed: whether its consumers were made anew since.
    """

    pong_at: float | None = None
    missed: int = 0
    consumers: frozenset[str] | None = None
    consumers_at: float | None = None
    autoscale: tuple[int, int] | None = None
    progress: Progress | None = None
    uncounted: int = 0
    has_reconsumed: bool = False


#: Of a worker that was never heard.
SILENT = Heard()


@frozen(kw_only=True)
class Observed:
    """Everything seen of one instance.

    :ivar process: its worker process, or None.
    :ivar broker_up: whether its broker can be reached; None while that is not known.
    :ivar broker_revived_at: when the broker last came back after an outage that was
        noticed; None if there was none.
    :ivar leftovers: whether a folder of it lies in the root folder.
    :ivar quarantined: queues that the broker refused to declare as they are declared.
    :ivar draining: whether it is being emptied before it is stopped.
    :ivar resources: what the worker took when it was last measured; None if it never was.
    :ivar may_replace: whether no other worker of its app is being replaced for a limit.
    :ivar supervised_since: when this life of the branch began to listen, seconds since the epoch;
        workers that it adopts are older.
    :ivar ailment: what a silent worker suffers from, if its log tells.
    :ivar ailing_since: when that was found, seconds since the epoch.
    """

    process: Process | None = None
    heard: Heard = SILENT
    broker_up: bool | None = None
    broker_revived_at: float | None = None
    leftovers: bool = False
    quarantined: frozenset[str] = frozenset()
    draining: bool = False
    resources: Resources | None = None
    may_replace: bool = True
    supervised_since: float = 0.0
    ailment: Reason | None = None
    ailing_since: float = 0.0


@frozen(kw_only=True)
class History:
    """How the last lives of an instance's worker ended, and what follows from it.

    :ivar failures: lives in a row that ended unasked and were too short.
    :ivar reason: why the last life ended.
    :ivar next_attempt: seconds since the epoch before which it is not started again.
    :ivar retry_at: seconds since the epoch before which no command is sent to it,
        because the last one failed.
    :ivar awaits_broker: whether it is not started while its broker is known to be away.
    """

    failures: int = 0
    last_exit: Exit | None = None
    reason: Reason | None = None
    next_attempt: float = 0.0
    retry_at: float = 0.0
    awaits_broker: bool = False


#: Of an instance that never ran.
BLANK = History()


# -- what is to be done -----------------------------------------------------------


@frozen
class Start:
    """Start a worker."""

    desired: Desired


@frozen
class Stop:
    """Stop the worker by the ladder.

    :ivar failed: whether its life counts as one that failed.
    :ivar drains: whether it is emptied first, while it can say how far it is.
    :ivar until: when its tasks must have ended, seconds since the epoch; None for as long as
        every stop may take.
    :ivar dumps: whether its stacks are taken first: it is stopped because nothing moves in it.
    :ivar in_turn: whether it is for a limit: of one app, one worker at a time is replaced so.
    :ivar cause: why, by name, if it does.
    """

    name: str
    reason: str
    failed: bool = False
    drains: bool = True
    until: float | None = None
    dumps: bool = False
    in_turn: bool = False
    cause: Reason = Reason.UNRESPONSIVE


@frozen
class AddConsumer:
    """Have the worker consume from a queue."""

    name: str
    queue: ConsumedQueue


@frozen
class CancelConsumer:
    """Have the worker stop consuming from a queue."""

    name: str
    queue: str


@frozen
class Reconsume:
    """Have the worker cancel its consumers and make them anew: the broker does not know them."""

    name: str
    queues: tuple[ConsumedQueue, ...]


@frozen
class SetAutoscale:
    """Change the range of the worker's pool."""

    name: str
    maximum: int
    minimum: int


@frozen
class CleanUp:
    """Remove what the worker of a deleted instance left: its queue, its folder."""

    name: str


Step: TypeAlias = Start | Stop | AddConsumer | CancelConsumer | Reconsume | SetAutoscale | CleanUp


@frozen(kw_only=True)
class Policy:
    """The numbers that judgement uses, all in seconds but `misses`.

    :ivar misses: unanswered questions in a row after which a worker is unresponsive;
        one lost pong never restarts anything (failure-modes F14).
    :ivar start_timeout: how long a worker may take until its first pong.
    :ivar warm_timeout: how long a worker that is to stop has for its tasks, unless somebody
        gave another deadline.
    :ivar wait_after_broker_revived: how long nothing is concluded from silence after
        the broker came back; kombu reconnects within 30 s (requirements R88).
    :ivar reconsume_after: counts in a row without its consumer, after which a worker is to consume
        anew (failure-modes F1).
    :ivar deaf_after: such counts after which it is restarted.
    :ivar stable_after: a life as long as this makes the failures before it forgotten.
    :ivar steady: the wait where it does not grow; jitter makes it up to twice as long.
    :ivar consumer_timeout_grace: how long the running tasks of a worker may take after its
        broker closed its channel (failure-modes F12); Celery takes no more and ends with them.
    """

    misses: int = 3
    start_timeout: float = 60.0
    warm_timeout: float = 60.0
    wait_after_broker_revived: float = 35.0
    reconsume_after: int = 2
    deaf_after: int = 4
    stable_after: float = 30.0
    backoff_first: float = 1.0
    backoff_most: float = 60.0
    steady: float = 5.0
    consumer_timeout_grace: float = 3600.0


def plan(
    name: str,
    desired: Desired | None,
    observed: Observed,
    history: History,
    now: float,
    policy: Policy,
) -> tuple[Step, ...]:
    """Say what is to be done for one instance, in order.

    :param desired: None for an instance that was deleted or belongs to another branch.
    :param now: seconds since the epoch.
    """
    process = observed.process
    if process is None:
        if desired is None:
            return (CleanUp(name),) if observed.leftovers and now >= history.retry_at else ()
        held = history.awaits_broker and observed.broker_up is False
        if desired.is_enabled and now >= history.next_attempt and not held:
            return (Start(desired),)
        return ()
    if process.phase is Phase.STOPPING:
        return ()
    if desired is None:
        return (Stop(name, "removed"),)
    if process.adopted and observed.broker_up is None:
        # In a moment it can be asked what it does, and need not be stopped blindly.
        return ()
    if not desired.is_enabled:
        reason = "disabled" if desired.drain_until is None else "drained"
        return (Stop(name, reason, until=desired.drain_until),)
    if process.fingerprint != desired.fingerprint:
        return (Stop(name, "what it is started with has changed"),)
    problem = silence(process, observed, now, policy)
    if problem is not None:
        cause = observed.ailment or Reason.UNRESPONSIVE
        return (Stop(name, problem, failed=True, cause=cause, drains=False),)
    stalled = stall(desired, observed, now, policy)
    if stalled is not None:
        return (Stop(name, stalled, failed=True, cause=Reason.STALLED, drains=False, dumps=True),)
    replacement = _replacement(process, desired, observed, now, policy)
    if replacement is not None and observed.may_replace:
        return (replacement,)
    if process.phase is Phase.RUNNING and observed.broker_up and now >= history.retry_at:
        if observed.heard.uncounted >= policy.deaf_after:
            deaf = f"deaf: the broker counts no consumer of {desired.private_queue}"
            return (Stop(name, deaf, failed=True, cause=Reason.DEAF),)
        return _corrections(desired, observed, policy)
    return ()


def silence(process: Process, observed: Observed, now: float, policy: Policy) -> str | None:
    """Say why a worker's silence condemns it, or None.

    While the broker is away, or came back only just now, silence means nothing
    (failure-modes F13): *unknown*, never *down*.
    """
    if not observed.broker_up:
        return None
    heard_since = max(process.started_at, observed.supervised_since)
    if observed.broker_revived_at is not None:
        if now < observed.broker_revived_at + policy.wait_after_broker_revived:
            return None
        heard_since = max(heard_since, observed.broker_revived_at)
    if observed.ailment is Reason.CONSUMER_TIMEOUT:
        if now >= observed.ailing_since + policy.consumer_timeout_grace:
            return f"its tasks still run {policy.consumer_timeout_grace:g} s after the consumer time-out"
    elif process.phase is Phase.STARTING:
        if now - heard_since >= policy.start_timeout:
            return f"no pong within {policy.start_timeout:g} s of its start"
    elif observed.heard.missed >= policy.misses:
        return f"unresponsive: {observed.heard.missed} questions in a row without an answer"
    return None


def stall(desired: Desired, observed: Observed, now: float, policy: Policy) -> str | None:
    """Say why a worker counts as stalled, or None; only where the instance sets a time for it.

    A long task is legal: what counts is that reserved tasks wait, that none began, and that
    the youngest of those that run is not young either (failure-modes F2).
    """
    progress, limit = observed.heard.progress, desired.stall_timeout
    if limit is None or progress is None or progress.blocked_since is None or not observed.broker_up:
        return None
    since = max(progress.blocked_since, progress.newest_began or 0.0)
    if observed.broker_revived_at is not None:
        since = max(since, observed.broker_revived_at + policy.wait_after_broker_revived)
    # Judged by when it was last asked: what happened since is not known.
    if progress.at - since < limit:
        return None
    return f"stalled: {progress.reserved} tasks are reserved, and none began for {progress.at - since:.0f} s"


def _replacement(
    process: Process, desired: Desired, observed: Observed, now: float, policy: Policy
) -> Stop | None:
    """Stop a worker that is over a limit, so that it starts anew.

    One that is over its limit of memory as soon as it is up would be so for ever: that is a
    failure, which backs off (failure-modes F17). Age alone is no reason to take down a worker
    while its broker is away (F13), or before it has run at all.
    """
    age = now - process.started_at
    reason = over_memory(desired.max_memory, observed.resources)
    if reason is not None:
        failed = age < policy.stable_after
        return Stop(desired.name, reason, failed=failed, cause=Reason.OVER_LIMIT, in_turn=True)
    if process.phase is Phase.RUNNING and observed.broker_up:
        reason = over_age(desired.max_age, age)
        if reason is not None:
            return Stop(desired.name, reason, in_turn=True)
    return None


def _corrections(desired: Desired, observed: Observed, policy: Policy) -> tuple[Step, ...]:
    """Compare what a running worker said with what its declaration says."""
    steps: list[Step] = []
    heard = observed.heard
    if heard.consumers is not None:
        private = ConsumedQueue(
            name=desired.private_queue,
            exchange=desired.private_queue,
            exchange_type="direct",
            routing_key=desired.private_queue,
        )
        wanted = {queue.name: queue for queue in (private, *desired.queues)}
        if heard.uncounted >= policy.reconsume_after and not heard.has_reconsumed:
            known = tuple(queue for queue in wanted.values() if queue.name not in observed.quarantined)
            return (Reconsume(desired.name, known),)
        steps += [
            AddConsumer(desired.name, queue)
            for queue in wanted.values()
            if queue.name not in heard.consumers and queue.name not in observed.quarantined
        ]
        steps += [CancelConsumer(desired.name, extra) for extra in sorted(heard.consumers - wanted.keys())]
    range_wanted = (desired.max_concurrency, desired.min_concurrency)
    if desired.autoscales and heard.autoscale is not None and heard.autoscale != range_wanted:
        steps.append(SetAutoscale(desired.name, *range_wanted))
    return tuple(steps)


def after_exit(
    history: History,
    exit: Exit,
    *,
    failed: bool,
    jitter: float,
    policy: Policy,
    reason: Reason = Reason.CRASHED,
) -> History:
    """Draw the consequence of a life's end, by the rule of its reason (`cyme.exits.RULES`).

    Most first failures are made good at once; those that follow wait 1 s, 2 s, 4 s and so on
    up to a minute, so that an instance which is out of control starts at most once a
    minute (requirements R89). A life of `policy.stable_after` starts the count anew.

    :param failed: whether the life ended otherwise than by a stop that was wanted.
    :param jitter: from 0 to 1; lengthens the wait by up to a quarter (a steady one by up to
        itself), so that many instances with one cause don't start in step.
    :param reason: why it ended, if it failed.
    """
    if not failed:
        return History(last_exit=exit, reason=Reason.STOPPED)
    rule = RULES[reason]
    was_stable = exit.lived >= policy.stable_after
    before = 0 if was_stable else history.failures
    is_first = was_stable or history.reason is not reason
    waits = Waits(first=policy.backoff_first, most=policy.backoff_most, steady=policy.steady)
    return History(
        failures=before + 1 if rule.counts else before,
        last_exit=exit,
        reason=reason,
        next_attempt=exit.at + rule.delay(before, is_first, jitter, waits),
        awaits_broker=rule.awaits_broker,
    )


def forgiven(history: History) -> History:
    """The history after a user asked for a start: the failures before it don't delay it."""
    return evolve(history, failures=0, next_attempt=0.0, retry_at=0.0, awaits_broker=False)


def broker_returned(history: History) -> History:
    """The history after the broker came back: who waited for it waits no longer."""
    if history.reason in (Reason.BROKER_UNREACHABLE, Reason.BROKER_REFUSED):
        return evolve(history, next_attempt=0.0, awaits_broker=False)
    return history


def state_of(
    desired: Desired | None, observed: Observed, history: History, now: float, policy: Policy
) -> State:
    """Name how an instance is."""
    process = observed.process
    if process is None:
        if desired is None or not desired.is_enabled:
            return State.DISABLED
        held = history.awaits_broker and observed.broker_up is False
        return State.BACKOFF if now < history.next_attempt or held else State.STOPPED
    if process.phase is Phase.STOPPING or observed.draining:
        return State.STOPPING
    if observed.broker_up is False:
        return State.UNKNOWN
    if observed.ailment is not None:
        return State.UNRESPONSIVE
    if process.phase is Phase.STARTING:
        return State.STARTING
    if observed.heard.missed >= policy.misses:
        return State.UNRESPONSIVE if silence(process, observed, now, policy) else State.UNKNOWN
    revived_at, pong_at = observed.broker_revived_at, observed.heard.pong_at
    if revived_at is not None and (pong_at is None or pong_at < revived_at):
        return State.UNKNOWN
    return State.RUNNING
