"""Why workers end, by name, and the rule that each reason is treated by.

`Reason` is what the API and the why-log say; `RULES` says how long an instance waits for its
next start, which `cyme.planning.after_exit` turns into a time. How a reason is found out is the
business of `cyme.supervisor.reasons`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from attrs import frozen


class Reason(str, Enum):
    """Why a worker ended, or, of one that lives, what it suffers from."""

    STOPPED = "stopped"
    SHUT_DOWN = "shut-down"
    KILLED = "killed"
    OUT_OF_MEMORY = "out-of-memory"
    RESOURCE_LOCKED = "resource-locked"
    STALE_PIDFILE = "stale-pidfile"
    BROKER_UNREACHABLE = "broker-unreachable"
    BROKER_REFUSED = "broker-refused"
    IMPORT_ERROR = "import-error"
    BAD_ARGUMENTS = "bad-arguments"
    CONSUMER_TIMEOUT = "consumer-timeout"
    DECLARATION_REFUSED = "declaration-refused"
    UNRESPONSIVE = "unresponsive"
    STALLED = "stalled"
    DEAF = "deaf"
    OVER_LIMIT = "over-limit"
    NOT_STARTED = "not-started"
    UNKNOWN = "unknown"
    CRASHED = "crashed"


class Wait(Enum):
    """How an instance waits for its next start."""

    #: Not at all after the first failure, then ever longer, up to a minute.
    GROWING = "growing"
    #: The same, but also the first time.
    GROWING_FROM_THE_FIRST = "growing from the first"
    #: Some seconds, every time.
    STEADY = "steady"
    #: Not at all the first time, some seconds every time after.
    ONCE_THEN_STEADY = "once, then steady"
    #: A minute, from the first time on.
    LONG = "long"


@frozen(kw_only=True)
class Waits:
    """The numbers of waits, in seconds, see `cyme.planning.Policy`.

    :ivar first: the first wait that grows.
    :ivar most: what it grows to.
    :ivar steady: a wait that does not grow.
    """

    first: float
    most: float
    steady: float


@frozen(kw_only=True)
class Rule:
    """What follows from a reason.

    :ivar counts: whether the life counts as one that failed, which makes later waits longer.
    :ivar awaits_broker: whether no start is tried while the broker is known to be away.
    """

    wait: Wait
    counts: bool = True
    awaits_broker: bool = False

    def delay(self, before: int, is_first: bool, jitter: float, waits: Waits) -> float:
        """Seconds from a life's end to the next start.

        :param before: the failures in a row before this one.
        :param is_first: whether it is the first in a row that ended for this reason.
        :param jitter: from 0 to 1.
        """
        # Reasons that take turns are no reason to start without a wait again and again.
        may_hurry = is_first and not before
        if self.wait is Wait.STEADY or (self.wait is Wait.ONCE_THEN_STEADY and not may_hurry):
            return waits.steady * (1 + jitter)
        if self.wait is Wait.ONCE_THEN_STEADY or (self.wait is Wait.GROWING and not before):
            return 0.0
        grown = waits.most if self.wait is Wait.LONG else waits.first * 2.0 ** min(max(before - 1, 0), 16)
        return min(grown, waits.most) * (1 + jitter / 4)


_FAULT = Rule(wait=Wait.GROWING)
#: Only a change of code, of a declaration or of the broker's users helps.
_HOPELESS = Rule(wait=Wait.LONG)

#: The rule of every reason; that of `STOPPED` is not asked for.
RULES: Mapping[Reason, Rule] = {
    Reason.STOPPED: _FAULT,
    Reason.SHUT_DOWN: _FAULT,
    Reason.KILLED: _FAULT,
    # The memory that it ran out of may be missing still.
    Reason.OUT_OF_MEMORY: Rule(wait=Wait.GROWING_FROM_THE_FIRST),
    # A connection that is half open keeps the lock for minutes, until the broker misses its
    # heartbeats; it is nobody's fault (failure-modes F4).
    Reason.RESOURCE_LOCKED: Rule(wait=Wait.STEADY, counts=False),
    # Each start removes our own stale file; one that comes back is somebody else's (F11).
    Reason.STALE_PIDFILE: Rule(wait=Wait.ONCE_THEN_STEADY, counts=False),
    Reason.BROKER_UNREACHABLE: Rule(wait=Wait.STEADY, counts=False, awaits_broker=True),
    Reason.BROKER_REFUSED: _HOPELESS,
    Reason.IMPORT_ERROR: _HOPELESS,
    Reason.BAD_ARGUMENTS: _HOPELESS,
    Reason.CONSUMER_TIMEOUT: _FAULT,
    Reason.DECLARATION_REFUSED: _FAULT,
    Reason.UNRESPONSIVE: _FAULT,
    Reason.STALLED: _FAULT,
    Reason.DEAF: _FAULT,
    Reason.OVER_LIMIT: _FAULT,
    Reason.NOT_STARTED: Rule(wait=Wait.GROWING_FROM_THE_FIRST),
    Reason.UNKNOWN: _FAULT,
    Reason.CRASHED: _FAULT,
}

#: What to do about each reason, a sentence for somebody who never read about it.
EXPLANATIONS: Mapping[Reason, str] = {
    Reason.STOPPED: "It was asked to stop.",
    Reason.SHUT_DOWN: (
        "Somebody told the worker to shut down (celery control shutdown, or SIGTERM) and it was started "
        "again; disable the instance if it is not to run."
    ),
    Reason.KILLED: "Somebody sent the process a signal that ended it; it was started again.",
    Reason.OUT_OF_MEMORY: (
        "The kernel killed it because memory ran out: give the machine or its control group more memory, or "
        "the worker fewer processes, or set worker_max_memory_per_child."
    ),
    Reason.RESOURCE_LOCKED: (
        "Another worker of this node name holds the control queue: stop that one, or wait a few minutes if "
        "its machine or network died; the start is tried again every few seconds."
    ),
    Reason.STALE_PIDFILE: (
        "Celery found a pid file of a living process: the branch removes the instance's file before each "
        "start, so if this stays, somebody else writes it; the start is tried again every few seconds."
    ),
    Reason.BROKER_UNREACHABLE: (
        "The worker gave up because it could not reach its broker; it is started again when the broker can "
        "be reached."
    ),
    Reason.BROKER_REFUSED: (
        "The broker refused the login: correct user, password or virtual host of the app's broker, or the "
        "permissions there."
    ),
    Reason.IMPORT_ERROR: (
        "The Celery application, or a module that it needs, can't be imported: correct the code, celery_app "
        "or the import path, then restart the instance."
    ),
    Reason.BAD_ARGUMENTS: (
        "Celery refused its command line: correct arguments, extra_config or pool of the app or the instance."
    ),
    Reason.CONSUMER_TIMEOUT: (
        "A message was not acknowledged within the broker's consumer_timeout, so the broker closed the "
        "channel, and the worker ends once its running tasks have ended: make the tasks shorter, acknowledge "
        "early, or raise x-consumer-timeout of the queue."
    ),
    Reason.DECLARATION_REFUSED: (
        "The broker refused what the worker declared: make the declared queue like the one that exists, or "
        "delete that one on the broker. In a cluster of brokers, where it says 'home node', the node that "
        "has the queue is down, and no other node has a copy."
    ),
    Reason.UNRESPONSIVE: "It answered no questions while its broker could be reached, and was replaced.",
    Reason.STALLED: (
        "It had tasks reserved, and none began for stall_timeout; the events have its stacks, if it gave any."
    ),
    Reason.DEAF: "It said that it consumes while the broker counted no consumer of it, and was replaced.",
    Reason.OVER_LIMIT: (
        "It was over max_memory as soon as it was up: raise the limit, or have it need less at its start."
    ),
    Reason.NOT_STARTED: "The system could not start a process for it.",
    Reason.UNKNOWN: "An earlier life of the branch had started it, so its exit status is not known.",
    Reason.CRASHED: "It ended by itself; the last lines of its log may say why.",
}
