"""How an instance is, for people and programs: a JSON-able mapping."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cyme.planning import Desired, Exit, Heard, Observed, Policy, State, state_of

if TYPE_CHECKING:
    from cyme.supervisor.tracking import Tracked


def status_of(
    tracked: Tracked, desired: Desired | None, observed: Observed, node: str, now: float, policy: Policy
) -> Mapping[str, Any]:
    """Describe one instance; see `cyme.interfaces.ISupervisor.status`."""
    process = observed.process
    state = state_of(desired, observed, tracked.history, now, policy)
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
        "next_attempt": tracked.history.next_attempt if state is State.BACKOFF else None,
        "last_exit": exit_details(tracked.history.last_exit, tracked.last_words),
        "problems": problems(tracked),
    }


def consumes_all(desired: Desired, heard: Heard) -> bool:
    """Whether the worker said that it consumes from every queue that it is to consume from."""
    wanted = {desired.private_queue, *(queue.name for queue in desired.queues)}
    return heard.consumers is not None and wanted <= heard.consumers


def exit_details(exit: Exit | None, last_words: tuple[str, ...]) -> Mapping[str, Any] | None:
    """The end of a worker's last life and the last lines of its log."""
    if exit is None:
        return None
    return {
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


def problems(tracked: Tracked) -> list[str]:
    """What keeps the instance from being as it is declared, a sentence each."""
    found = list(tracked.quarantined.values())
    if tracked.problem is not None:
        found.append(tracked.problem)
    return found
