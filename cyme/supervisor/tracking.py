"""What the supervisor remembers of one instance between two looks at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from cyme.exits import Reason
from cyme.limits import Resources
from cyme.planning import BLANK, SILENT, Heard, History, QueueCount

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IDelayedCall

    from cyme.supervisor.draining import Draining


@define(kw_only=True, eq=False)
class Tracked:
    """One instance's memory; only the reactor's thread touches it.

    :ivar busy: whether steps run now: an instance's steps never overlap.
    :ivar lane: those steps, while they wait for something.
    :ivar ladder: the pings to a worker that is starting.
    :ivar timer: the next look that time alone makes necessary.
    :ivar quarantined: queue name -> why the broker refused its declaration.
    :ivar refusals: the same, as it was told last; kept over the checks that try again.
    :ivar stop_failed: why the stop that runs now counts as a failed life; None when it does not.
    :ivar draining: how far its stop is; None while it is not being stopped.
    :ivar emptying: the part of that stop in which the worker is asked what runs.
    :ivar counts: queue -> what the broker counts of it, as far as it was asked.
    :ivar counted_at: when that was, seconds since the epoch; None for never.
    :ivar examined_at: when somebody last asked for its health, seconds since the epoch.
    :ivar stop_cause: the name of that reason.
    :ivar examining: pending while the end of the last life is looked into, before which the
        instance is not started.
    :ivar ailment: what a silent worker suffers from, as far as its log tells, and since when.
    :ivar last_words: the last lines of the log of a life that failed.
    :ivar resources: what its worker took when it was last measured.
    :ivar leftovers: whether a folder of a deleted instance is still there.
    :ivar problem: what the last step failed with.
    :ivar waiters: fired when there is nothing left to do for the instance.
    """

    name: str
    heard: Heard = SILENT
    history: History = BLANK
    busy: bool = False
    lane: Deferred[None] | None = None
    ladder: Deferred[None] | None = None
    timer: IDelayedCall | None = None
    quarantined: dict[str, str] = field(factory=dict)
    refusals: dict[str, str] = field(factory=dict)
    stop_failed: str | None = None
    draining: Draining | None = None
    emptying: Deferred[None] | None = None
    counts: dict[str, QueueCount | None] | None = None
    counted_at: float | None = None
    examined_at: float = 0.0
    stop_cause: Reason = Reason.UNRESPONSIVE
    examining: IDelayedCall | None = None
    ailment: Reason | None = None
    ailing_since: float = 0.0
    last_words: tuple[str, ...] = ()
    resources: Resources | None = None
    leftovers: bool = False
    problem: str | None = None
    waiters: list[Deferred[None]] = field(factory=list)
