"""The health of an instance: evidence, each piece with its age, and one verdict.

Pure functions from what the supervisor knows; who asks fresh questions before is
`cyme.supervisor.checks`. Process, pong, consumers and progress are told apart because each was
seen to be fine while another was not (failure-modes F1, F2, F5, F14, F26).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import frozen

from cyme.planning import (
    Desired,
    Heard,
    History,
    Observed,
    Phase,
    Policy,
    QueueCount,
    State,
    stall,
    state_of,
)


class Verdict(str, Enum):
    """One word for how an instance is, for load balancers and people."""

    OK = "ok"
    STARTING = "starting"
    DRAINING = "draining"
    STALLED = "stalled"
    UNRESPONSIVE = "unresponsive"
    UNKNOWN = "unknown"
    DOWN = "down"
    DISABLED = "disabled"


@frozen(kw_only=True)
class Evidence:
    """What a verdict is made of.

    :ivar desired: what the instance should be; None when it is deleted.
    :ivar refused: queue -> why the broker refused it.
    :ivar process_state: its process's state as `ps` shows it, one letter; None when none lives.
    :ivar counts: queue -> what the broker counts of it; None where it can't be asked.
    :ivar counted_at: when the broker was asked, seconds since the epoch; None for never.
    """

    desired: Desired | None
    observed: Observed
    history: History
    refused: Mapping[str, str]
    process_state: str | None
    counts: Mapping[str, QueueCount | None] | None
    counted_at: float | None


def judge(evidence: Evidence, now: float, policy: Policy) -> tuple[Verdict, str | None]:
    """The verdict, and the reason where it is not obvious.

    :param now: seconds since the epoch.
    """
    desired, observed = evidence.desired, evidence.observed
    state = state_of(desired, observed, evidence.history, now, policy)
    if desired is None or state is State.DISABLED:
        return Verdict.DISABLED, None
    if state is State.STOPPING:
        return Verdict.DRAINING, None
    if state is State.BACKOFF:
        return Verdict.DOWN, "it keeps ending; `last_exit` says how"
    if observed.process is None:
        return Verdict.DOWN, "no process of it lives"
    if state is State.UNKNOWN:
        return Verdict.UNKNOWN, _why_unknown(observed)
    if evidence.process_state in ("T", "t"):
        return Verdict.UNRESPONSIVE, "its process is stopped by a signal or a debugger; SIGCONT lets it go on"
    if state is State.STARTING:
        return Verdict.STARTING, None
    if state is State.UNRESPONSIVE:
        return Verdict.UNRESPONSIVE, f"{observed.heard.missed} questions in a row without an answer"
    stalled = stall(desired, observed, now, policy)
    if stalled is not None:
        return Verdict.STALLED, stalled
    deaf = _deaf(evidence, desired)
    if deaf is not None:
        return Verdict.UNRESPONSIVE, deaf
    return Verdict.OK, None


def _why_unknown(observed: Observed) -> str:
    if observed.broker_up is False:
        return "its broker can't be reached"
    return "its broker came back only just now"


def _deaf(evidence: Evidence, desired: Desired) -> str | None:
    """Why a worker that answers does not do its work."""
    heard = evidence.observed.heard
    if heard.consumers is None:
        return "it has not said yet what it consumes from"
    missing = sorted(desired.consumes - evidence.refused.keys() - heard.consumers)
    if missing:
        return f"it does not consume from {', '.join(missing)}"
    count = (evidence.counts or {}).get(desired.private_queue)
    if count is not None and count.consumers == 0:
        # Others may consume from a shared queue, nobody else from this one.
        return f"it says that it consumes, and the broker counts no consumer of {desired.private_queue}"
    return None


def health_of(evidence: Evidence, now: float, policy: Policy) -> dict[str, Any]:
    """The verdict and all evidence, as JSON has it.

    :param now: seconds since the epoch; ages are seconds before it.
    """
    verdict, reason = judge(evidence, now, policy)
    observed = evidence.observed
    state = state_of(evidence.desired, observed, evidence.history, now, policy)
    return {
        "verdict": verdict.value,
        "reason": reason,
        "state": state.value,
        "process": _process(evidence, now),
        "pong": {
            "at": observed.heard.pong_at,
            "age": _age(observed.heard.pong_at, now),
            "missed": observed.heard.missed,
        },
        "consumers": _consumers(evidence, now),
        "progress": _progress(evidence, now),
        "drift": _drift(evidence),
        "at": now,
    }


def _process(evidence: Evidence, now: float) -> dict[str, Any] | None:
    process = evidence.observed.process
    if process is None:
        return None
    return {
        "pid": process.pid,
        "state": evidence.process_state,
        "started_at": process.started_at,
        "age": _age(process.started_at, now),
        "adopted": process.adopted,
    }


def _consumers(evidence: Evidence, now: float) -> dict[str, Any]:
    desired, heard = evidence.desired, evidence.observed.heard
    wanted = desired.consumes if desired is not None else frozenset()
    actual = heard.consumers
    counts = evidence.counts
    return {
        "declared": sorted(wanted),
        "worker": sorted(actual) if actual is not None else None,
        "age": _age(heard.consumers_at, now),
        "missing": sorted(wanted - actual) if actual is not None else None,
        "unexpected": sorted(actual - wanted) if actual is not None else None,
        "refused": dict(evidence.refused),
        "broker": {name: _count(count) for name, count in counts.items()} if counts is not None else None,
        "broker_age": _age(evidence.counted_at, now) if counts is not None else None,
    }


def _count(count: QueueCount | None) -> dict[str, int] | None:
    return None if count is None else {"consumers": count.consumers, "messages": count.messages}


def _progress(evidence: Evidence, now: float) -> dict[str, Any] | None:
    progress = evidence.observed.heard.progress
    if progress is None:
        return None
    return {
        "started": progress.total,
        "running": progress.running,
        "reserved": progress.reserved,
        "last_start": progress.newest_began,
        "blocked_for": _age(progress.blocked_since, now),
        "stall_timeout": evidence.desired.stall_timeout if evidence.desired is not None else None,
        "age": _age(progress.at, now),
    }


def _drift(evidence: Evidence) -> list[str]:
    """How the worker differs from what is declared, a sentence each."""
    desired, observed = evidence.desired, evidence.observed
    if desired is None or observed.process is None:
        return []
    found = []
    if observed.process.fingerprint != desired.fingerprint:
        found.append("it runs with other start parameters than are declared")
    heard: Heard = observed.heard
    wanted_range = (desired.max_concurrency, desired.min_concurrency)
    if desired.autoscales and heard.autoscale is not None and heard.autoscale != wanted_range:
        found.append(f"its pool ranges over {heard.autoscale[1]}..{heard.autoscale[0]} processes")
    if heard.consumers is not None and observed.process.phase is Phase.RUNNING:
        wanted = desired.consumes
        found += [f"it does not consume from {name}" for name in sorted(wanted - heard.consumers)]
        found += [f"it consumes from {name}" for name in sorted(heard.consumers - wanted)]
    return found


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(0.0, now - at), 3)
