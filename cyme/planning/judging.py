"""The judgement itself: pure functions of what should be, what is, what was, and the time."""

from __future__ import annotations

from cyme.exits import Reason
from cyme.limits import over_age, over_memory
from cyme.planning.history import History
from cyme.planning.policy import Policy
from cyme.planning.seen import Observed, Process
from cyme.planning.states import Phase, State
from cyme.planning.steps import (
    AddConsumer,
    CancelConsumer,
    CleanUp,
    Reconsume,
    SetAutoscale,
    Start,
    Step,
    Stop,
)
from cyme.planning.wanted import GROWING_POOLS, ConsumedQueue, Desired


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
        if desired.is_enabled and not _is_held_back(observed, history, now):
            return (Start(desired),)
        return ()
    if process.phase is Phase.STOPPING:
        return ()
    if desired is None:
        owner = observed.owner
        return (Stop(name, "removed" if owner is None else f"branch {owner} has it now"),)
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
    if observed.ailment is Reason.CONSUMER_TIMEOUT and _has_no_pool(desired, observed):
        hangs = "its tasks have ended since the consumer time-out, and it has not"
        return (Stop(name, hangs, failed=True, cause=observed.ailment, drains=False, dumps=True),)
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


def _is_held_back(observed: Observed, history: History, now: float) -> bool:
    """Whether how the last life ended forbids a start now."""
    awaits_broker = history.awaits_broker and observed.broker_up is False
    return now < history.next_attempt or awaits_broker


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


def _has_no_pool(desired: Desired, observed: Observed) -> bool:
    """Whether a worker that ails runs no task: its pool is one of processes, and none of them is left."""
    measured = observed.resources
    if desired.pool not in GROWING_POOLS or measured is None:
        return False
    return measured.processes == 1 and measured.at > observed.ailing_since


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


def state_of(
    desired: Desired | None, observed: Observed, history: History, now: float, policy: Policy
) -> State:
    """Name how an instance is."""
    process = observed.process
    if process is None:
        if desired is None or not desired.is_enabled:
            return State.DISABLED
        return State.BACKOFF if _is_held_back(observed, history, now) else State.STOPPED
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
