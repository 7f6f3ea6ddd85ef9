"""How an instance is, for people and programs: a JSON-able mapping."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import asdict

from cyme.exits import Reason
from cyme.planning import Desired, Heard, History, Observed, Policy, State, state_of
from cyme.supervisor.reasons import explanation_of

if TYPE_CHECKING:
    from cyme.supervisor.draining import Draining
    from cyme.supervisor.tracking import Tracked

#: The states in which an instance has not got over the end of its last life.
_UNTIL_IT_ANSWERS = frozenset({State.BACKOFF, State.STOPPED, State.STARTING})


def status_of(
    tracked: Tracked, desired: Desired | None, observed: Observed, node: str, now: float, policy: Policy
) -> Mapping[str, Any]:
    """Describe one instance; see `cyme.interfaces.ISupervisor.status`."""
    process = observed.process
    state = state_of(desired, observed, tracked.history, now, policy)
    next_attempt = tracked.history.next_attempt
    fingerprint = desired.fingerprint if desired is not None else None
    return {
        "state": state.value,
        "pid": process.pid if process is not None else None,
        "node": node,
        "started_at": process.started_at if process is not None else None,
        "is_current": process is not None and process.fingerprint == fingerprint,
        "is_consuming": desired is not None and consumes_all(desired, tracked.heard),
        "last_pong": tracked.heard.pong_at,
        "failures": tracked.history.failures,
        # Who waits for the broker has no time of the next attempt.
        "next_attempt": next_attempt if state is State.BACKOFF and next_attempt > now else None,
        "last_exit": exit_details(tracked.history, tracked.last_words),
        "draining": draining(tracked.draining),
        "problems": problems(tracked, state),
        "progress": _progress(tracked.heard),
        "resources": asdict(tracked.resources) if tracked.resources is not None else None,
    }


def draining(progress: Draining | None) -> Mapping[str, Any] | None:
    """How far the stop of a worker is; None when it is not being stopped."""
    if progress is None:
        return None
    return {"since": progress.since, "deadline": progress.deadline, "running": progress.running}


def _progress(heard: Heard) -> Mapping[str, Any] | None:
    """How many tasks have begun since the worker's start, and how many are at hand if that was asked."""
    if heard.begun is None:
        return None
    total, at = heard.begun
    now = heard.progress
    return {
        "total": total,
        "at": at,
        "running": None if now is None else now.running,
        "reserved": None if now is None else now.reserved,
    }


def consumes_all(desired: Desired, heard: Heard) -> bool:
    """Whether the worker said that it consumes from every queue that it is to consume from."""
    return heard.consumers is not None and desired.consumes <= heard.consumers


def exit_details(history: History, last_words: tuple[str, ...]) -> Mapping[str, Any] | None:
    """The end of a worker's last life, why, and the last lines of its log."""
    exit = history.last_exit
    if exit is None:
        return None
    reason = history.reason or Reason.UNKNOWN
    return {
        "reason": reason.value,
        "explanation": explanation_of(reason, last_words),
        "status": exit.status,
        "signal": signal_name(exit.signal),
        "at": exit.at,
        "lived": exit.lived,
        "expected": exit.expected,
        "log": list(last_words),
    }


def signal_name(number: int | None) -> str | None:
    """`SIGKILL` for 9; the bare number for one that has no name."""
    if number is None:
        return None
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def problems(tracked: Tracked, state: State) -> list[str]:
    """What keeps the instance from being as it is declared, a sentence each.

    Why its last life ended is a problem until the next one answers.
    """
    found = list(tracked.quarantined.values())
    if tracked.problem is not None:
        found.append(tracked.problem)
    reason = tracked.ailment
    if reason is None and tracked.history.last_exit is not None and state in _UNTIL_IT_ANSWERS:
        reason = tracked.history.reason
    if reason is not None and reason is not Reason.STOPPED:
        found.append(f"{reason.value}: {explanation_of(reason, tracked.last_words)}")
    return found
