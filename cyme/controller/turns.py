"""Rolling restarts as pure functions: whose turn is over, whose is next, and what came of it.

Note [Turns]
~~~~~~~~~~~~
An instance is restarted by giving its declaration the next generation. That, its move from
`waiting` to `under_way`, and the end of the turn before it, are one change of the catalogue:
whatever moment the branch dies at, no restart is lost and none is made twice. An instance of
another branch can't be written here; its turn says which generation it is to have, and its owner
is asked for that one, again and again if need be (`InstanceActor.advance`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import evolve, frozen

from cyme.asking import asker
from cyme.declarations import Declaration, Instance, Rollout, Turn

if TYPE_CHECKING:
    from cyme.interfaces import IEvents

Find = Callable[[str], Instance | None]

#: Why an instance is passed over.
DELETED = "it was deleted"
DISABLED = "it is disabled"


# -- how an instance is ----------------------------------------------------------------------


@frozen
class Back:
    """It answers and consumes, in a process that was started for this turn."""


@frozen
class Passed:
    """It can't be restarted, and need not be."""

    why: str


@frozen
class Failed:
    """It does not come back."""

    why: str


@frozen
class Pending:
    """It may come back yet.

    :ivar why: what is still missing.
    :ivar excused: whether this says nothing about it, since its broker is away.
    """

    why: str
    excused: bool = False


Finding: TypeAlias = Back | Passed | Failed | Pending


def finding_of(details: Mapping[str, Any]) -> Finding:
    """Read the details of an instance (`instance_details`) whose turn it is.

    Until its worker is the one that was started for this turn, only a back-off tells something:
    a declaration that changes clears the one before it.
    """
    state = details["state"]
    if not details["is_enabled"]:
        return Passed(DISABLED)
    if state == "backoff" and details["failures"]:
        return Failed(f"it is in back-off, {_end(details)}")
    if state == "unresponsive" and details["is_current"]:
        return Failed("it is unresponsive")
    if state == "unknown":
        return Pending("its broker is away", excused=True)
    if not details["is_current"] or state != "running":
        return Pending(f"its state is {state}")
    if not details["is_consuming"]:
        return Pending("; ".join(["it does not consume from all of its queues", *details["problems"]]))
    return Back()


def _end(details: Mapping[str, Any]) -> str:
    """How the worker's last life ended, in words."""
    end = details["last_exit"] or {}
    if end.get("signal") is not None:
        return f"its worker was ended by {end['signal']}"
    if end.get("status") is not None:
        return f"its worker ended with status {end['status']}"
    return "; ".join(["its worker can't be started or ended", *details["problems"]])


# -- what follows ----------------------------------------------------------------------------


def state_of(rollout: Rollout) -> str:
    """`running`, `halted`, `finished` or `called-off`."""
    if rollout.is_running:
        return "running"
    if rollout.halted is not None:
        return "halted"
    return "called-off" if rollout.waiting or rollout.under_way else "finished"


def over(rollout: Rollout, turn: Turn, finding: Finding, now: float) -> Rollout:
    """The rollout after a turn has ended; as it was, if that turn is not under way."""
    if not rollout.is_running or turn not in rollout.under_way:
        return rollout
    left = tuple(one for one in rollout.under_way if one != turn)
    if isinstance(finding, Back):
        return evolve(rollout, under_way=left, done=(*rollout.done, turn.name))
    if isinstance(finding, Passed):
        return evolve(rollout, under_way=left, skipped=(*rollout.skipped, (turn.name, finding.why)))
    if isinstance(finding, Failed):
        return evolve(rollout, halted=f"instance {turn.name!r}: {finding.why}", ended_at=now)
    return rollout


def advanced(rollout: Rollout, find: Find, branch: str, now: float) -> list[Declaration]:
    """Have as many instances under way as may be; what is to be written for it, in one change.

    :param find: finds an instance by its name.
    :param branch: whose instances may be written, see Note [Turns].
    :return: the rollout, and the instances that get their next generation.
    """
    if not rollout.is_running:
        return [rollout]
    waiting, under_way, skipped = list(rollout.waiting), list(rollout.under_way), list(rollout.skipped)
    restarted: list[Declaration] = []
    while waiting and len(under_way) < rollout.parallel:
        name = waiting.pop(0)
        instance = find(name)
        if instance is None or instance.app != rollout.app:
            skipped.append((name, DELETED))
        elif not instance.is_enabled:
            skipped.append((name, DISABLED))
        else:
            under_way.append(Turn(name, instance.generation + 1, now))
            if instance.branch == branch:
                restarted.append(evolve(instance, generation=instance.generation + 1))
    further = evolve(
        rollout,
        waiting=tuple(waiting),
        under_way=tuple(under_way),
        skipped=tuple(skipped),
        ended_at=None if under_way else now,
    )
    return [further, *restarted]


# -- what is told ----------------------------------------------------------------------------


def document(rollout: Rollout) -> dict[str, Any]:
    """A rollout as the JSON that users read."""
    return {
        "id": rollout.id,
        "app": rollout.app,
        "state": state_of(rollout),
        "branch": rollout.branch,
        "parallel": rollout.parallel,
        "timeout": rollout.timeout,
        "asked_by": rollout.asked_by,
        "asked_at": rollout.asked_at,
        "waiting": list(rollout.waiting),
        "under_way": [turn.name for turn in rollout.under_way],
        "done": list(rollout.done),
        "skipped": dict(rollout.skipped),
        "halted": rollout.halted,
        "ended_at": rollout.ended_at,
    }


def record(events: IEvents, before: Rollout | None, after: Rollout) -> None:
    """Put what a change has made of a rollout into the why-log.

    :param before: None for a rollout that has just begun.
    """
    who = asker().who
    for kind, name, details in _news(before, after):
        events.record(kind, app=after.app, instance=name, who=who, rollout=after.id, **details)


def _news(before: Rollout | None, after: Rollout) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
    if before is None:
        names = [*(turn.name for turn in after.under_way), *after.waiting]
        asked = {"parallel": after.parallel, "timeout": after.timeout}
        yield "restart-began", None, {**asked, "instances": names}
    for name in after.done[len(before.done) if before else 0 :]:
        yield "restarted", name, {}
    for name, why in after.skipped[len(before.skipped) if before else 0 :]:
        yield "restart-skipped", name, {"reason": why}
    for turn in after.under_way:
        if before is None or turn not in before.under_way:
            yield "restarting", turn.name, {"generation": turn.generation}
    if not after.is_running and (before is None or before.is_running):
        yield f"restart-{state_of(after)}", None, {"reason": after.halted} if after.halted else {}
