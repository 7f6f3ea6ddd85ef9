"""What is: everything that was seen of one instance, at one moment."""

from __future__ import annotations

from attrs import frozen

from cyme.exits import Reason
from cyme.limits import Resources
from cyme.planning.states import Phase


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
    :ivar begun: how many tasks have begun since its start, and when it said so, seconds since the epoch;
        None while it has not. It says so far more often than what moves in it.
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
    begun: tuple[int, float] | None = None
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
    :ivar owner: the other branch that owns the instance now; None if none does.
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
    owner: str | None = None
