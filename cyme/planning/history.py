"""How the last lives of an instance's worker ended, and what follows from it."""

from __future__ import annotations

from attrs import evolve, frozen

from cyme.exits import RULES, Reason, Waits
from cyme.planning.policy import Policy
from cyme.planning.seen import Exit


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
