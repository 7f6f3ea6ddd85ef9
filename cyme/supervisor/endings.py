"""What becomes of an instance when its worker has ended.

Note [Reasons and haste]
~~~~~~~~~~~~~~~~~~~~~~~~
A worker that a signal has ended is replaced in the same turn of the reactor: whatever the
reason, its log has nothing to say about it. Where the exit status says that the worker gave up,
the log may say why, and the rule depends on that; it is read in a thread, in a few milliseconds.
Meanwhile the instance is not looked at. After `EXAMINED_WITHIN` it goes on without the log: a
disk that hangs keeps no worker from being started.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define
from twisted.logger import Logger

from cyme.exits import Reason
from cyme.planning import SILENT, Exit, Policy, after_exit
from cyme.supervisor.reasons import LINES_READ, Evidence, last_words_of, reason_at_once, reason_of
from cyme.supervisor.status import signal_name

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from cyme.interfaces import IWorkers
    from cyme.supervisor.delays import Delays
    from cyme.supervisor.oomkills import OomWatch
    from cyme.supervisor.tracking import Tracked

#: Seconds for which a start waits for the log of the life before.
EXAMINED_WITHIN = 0.5


@define(eq=False)
class _Ending:
    """One worker's end.

    :ivar limit: goes on without the log; None when nobody waits for that.
    """

    tracked: Tracked
    exit: Exit
    failed: bool
    evidence: Evidence
    reason: Reason | None = None
    limit: IDelayedCall | None = None


class Endings:
    """Finds out why workers ended, draws the consequence, and takes note.

    :param jitter: gives numbers from 0 to 1.
    :param record: called with (kind, instance's name, details) for the why-log.
    :param look: called with the name of an instance that may be started again.
    """

    _log = Logger()

    def __init__(
        self,
        workers: IWorkers,
        delays: Delays,
        oom: OomWatch,
        *,
        policy: Policy,
        jitter: Callable[[], float],
        record: Callable[..., None],
        look: Callable[[str], None],
    ) -> None:
        self._workers = workers
        self._delays = delays
        self._oom = oom
        self._policy = policy
        self._jitter = jitter
        self._record = record
        self._look = look

    def ended(self, tracked: Tracked, exit: Exit, *, supervised: bool) -> None:
        """Take note that a worker has ended; see Note [Reasons and haste].

        :param supervised: whether the supervisor runs still: else nobody asks why.
        """
        ending = _Ending(
            tracked,
            exit,
            failed=not exit.expected or tracked.stop_failed is not None,
            evidence=Evidence(
                stopped_for=tracked.stop_cause if tracked.stop_failed is not None else None,
                oom_killed=not exit.expected and exit.signal is not None and self._oom.take(),
            ),
        )
        tracked.problem, tracked.stop_failed = tracked.stop_failed, None
        tracked.heard = SILENT
        tracked.ailment = None
        tracked.last_words = ()
        at_once = reason_at_once(exit, ending.evidence)
        if at_once is not None or not supervised:
            self._conclude(ending, at_once or Reason.UNKNOWN)
        else:
            limit = tracked.examining = self._delays.later(EXAMINED_WITHIN, self._examined, ending, ())
            ending.limit = limit
        if not supervised:
            # The branch stops: nothing waits for a log to be read, and the events are soon closed.
            self._note(ending, expected=True)
        else:
            read = self._workers.log_tail(tracked.name, LINES_READ)
            read.addCallbacks(self._read, self._unreadable, callbackArgs=(ending,), errbackArgs=(ending,))
            read.addErrback(
                lambda failure: self._log.failure("the end of {name}", failure, name=tracked.name)
            )

    def _read(self, lines: Sequence[str], ending: _Ending) -> None:
        """The log was read, if late."""
        reason = self._examined(ending, lines)
        words = last_words_of(lines, reason, ending.exit.status)
        if ending.failed and ending.tracked.history.last_exit is ending.exit:
            ending.tracked.last_words = words
        self._note(ending, expected=not ending.failed, log=words)

    def _unreadable(self, failure: Failure, ending: _Ending) -> None:
        self._log.failure("no last words of {name}", failure, name=ending.tracked.name)
        self._examined(ending, ())
        self._note(ending, expected=not ending.failed, log=())

    def _examined(self, ending: _Ending, lines: Sequence[str]) -> Reason:
        """Name the reason by what the log has said until now, if there is none yet."""
        if ending.reason is not None:
            return ending.reason
        return self._conclude(ending, reason_of(ending.exit, lines, ending.evidence))

    def _conclude(self, ending: _Ending, reason: Reason) -> Reason:
        tracked = ending.tracked
        ending.reason = reason
        if ending.limit is not None:
            self._delays.call_off(ending.limit)
            tracked.examining = None
        tracked.history = after_exit(
            tracked.history,
            ending.exit,
            failed=ending.failed,
            jitter=self._jitter(),
            policy=self._policy,
            reason=reason,
        )
        self._look(tracked.name)
        return reason

    def _note(self, ending: _Ending, *, expected: bool, **details: Any) -> None:
        """Log a worker's end and record it; after its replacement is on its way."""
        exit, name = ending.exit, ending.tracked.name
        reason = ending.reason or Reason.UNKNOWN
        lived = round(exit.lived, 3)
        note = self._log.info if expected else self._log.warn
        note(
            "{{Supervisor}} {name} ended: {reason}: status {status}, signal {signal}, after {lived} s",
            name=name,
            reason=reason.value,
            status=exit.status,
            signal=exit.signal,
            lived=lived,
        )
        end = {"status": exit.status, "signal": signal_name(exit.signal), "lived": lived}
        self._record("ended", name, expected=expected, reason=reason.value, **end, **details)
