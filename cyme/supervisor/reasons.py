"""Finding out why a worker ended: pure functions over its exit and the end of its log.

A log is written by Celery, by the user's code and by whatever that starts, so what stands there
is believed narrowly: the formats are those of Celery 5.7, lines that another process than the
main one logged count for nothing, and all that a line can do is choose among the rules of
`cyme.exits`. How each of these ends looks was tried with real workers (`tests.chaos.test_exits`).

Note [Lives in one log]: all lives of a worker write into one file. `cyme.workers.child` begins each
with a line of its own, and Celery's banner follows once the app was imported; what stands before the
last of either is an earlier life's.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from attrs import frozen

from cyme.exits import EXPLANATIONS, Reason
from cyme.planning import Exit

#: Lines at the end of a log that are looked at; a traceback has up to a hundred, and in
#: failure-modes F12 tasks go on logging after it.
LINES_READ = 1000
#: Lines of a log that are kept as a life's last words.
LAST_WORDS = 20
#: Of these, those that show where the trouble begins, when it began before.
FIRST_OF_THEM = 5
#: Characters of a log line that an explanation may quote.
QUOTED = 200

#: Exit statuses: Celery's failure, the command line's, Celery's for a lock or pid file that is taken.
_FAILURE, _USAGE, _CANNOT_CREATE = 1, 2, 73

_BEGINS = re.compile(r"\[cyme\] process \d+ begins")
_BANNER = re.compile(r" -------------- \S+ v\d")
#: What Celery's default format puts before a line of a pool's process.
_NOT_MAIN = re.compile(r"\[[^\]]*/(?!MainProcess\])[^\]/]*\] ")
_UNRECOVERABLE = re.compile(r"\bUnrecoverable error: (?P<kind>\w+)\((?P<what>.*)")
_NO_RETRY = re.compile(r"\bRetrying to establish a connection to the message broker .* has been disabled")
#: The last line of the traceback that follows an unrecoverable error, where the broker is away.
_UNREACHABLE = re.compile(
    r"(kombu\.exceptions\.OperationalError"
    r"|redis\.exceptions\.(ConnectionError|TimeoutError)"
    r"|ConnectionRefusedError|ConnectionResetError|BrokenPipeError|TimeoutError|socket\.gaierror"
    r"): "
)
_DECLARING = re.compile(r"'(Queue|Exchange)\.(declare|bind)'\)\s*$")
_NOT_LOADED = re.compile(r"Unable to load the Celery app ")
_NOT_IMPORTED = re.compile(r"(ModuleNotFoundError|ImportError|SyntaxError|IndentationError|TabError): ")
#: Celery at importing what its setting `imports` names.
_IMPORTING = re.compile(r'\s+File ".*celery/loaders/base\.py", line \d+, in import_(task|default)_modules?$')
_TRACEBACK = "Traceback (most recent call last):"


@frozen(kw_only=True)
class Evidence:
    """What is known of an end beside the exit itself.

    :ivar stopped_for: what the branch stopped the worker for, if that counts as a failure.
    :ivar oom_killed: whether the kernel has killed something of the branch's for want of memory
        since it was asked last.
    """

    stopped_for: Reason | None = None
    oom_killed: bool = False


@frozen
class Finding:
    """What a log shows: the reason, and where in the lines it begins to."""

    reason: Reason
    begins: int


def reason_at_once(exit: Exit, evidence: Evidence) -> Reason | None:
    """The reason of an end as far as it needs no log; None if the log is to be read.

    A worker that a signal has ended is among these: it is replaced without a wait.
    """
    if evidence.stopped_for is not None and exit.expected:
        return evidence.stopped_for
    if exit.expected:
        return Reason.STOPPED
    if exit.signal is not None:
        if exit.signal == signal.SIGKILL and evidence.oom_killed:
            return Reason.OUT_OF_MEMORY
        by_somebody = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP}
        return Reason.KILLED if exit.signal in by_somebody else Reason.CRASHED
    if exit.status == 0:
        return Reason.SHUT_DOWN
    if exit.status == _CANNOT_CREATE:
        return Reason.STALE_PIDFILE
    return None


def reason_of(exit: Exit, lines: Sequence[str], evidence: Evidence) -> Reason:
    """Name why a worker ended.

    :param lines: the last lines of its log, `LINES_READ` at most; none while they are not known.
    """
    at_once = reason_at_once(exit, evidence)
    if at_once is not None:
        return at_once
    finding = _found(lines, exit.status)
    if finding is not None:
        return finding.reason
    return Reason.CRASHED if exit.status is not None else Reason.UNKNOWN


def ailment_of(lines: Sequence[str]) -> Reason | None:
    """What a worker suffers from that lives and says nothing, as far as its log tells (F12)."""
    finding = _found(lines, None)
    if finding is not None and finding.reason is Reason.CONSUMER_TIMEOUT:
        return finding.reason
    return None


def last_words_of(lines: Sequence[str], reason: Reason, status: int | None) -> tuple[str, ...]:
    """The lines that are kept of a life: the last, and where the trouble begins, if that is earlier."""
    finding = _found(lines, status)
    last = tuple(lines[-LAST_WORDS:])
    if finding is None or finding.reason is not reason or finding.begins >= len(lines) - LAST_WORDS:
        return last
    first = tuple(lines[finding.begins : finding.begins + FIRST_OF_THEM])
    return (*first, "...", *last[FIRST_OF_THEM + 1 :])


def explanation_of(reason: Reason, last_words: Sequence[str]) -> str:
    """Say in a sentence or two what a reason means and what to do, with the error where one was named."""
    if reason in (Reason.IMPORT_ERROR, Reason.BAD_ARGUMENTS):
        for line in reversed(last_words):
            if line.strip() and not line[0].isspace() and not _NOT_LOADED.match(line):
                return f"{line.strip()[:QUOTED]} -- {EXPLANATIONS[reason]}"
    return EXPLANATIONS[reason]


def _found(lines: Sequence[str], status: int | None) -> Finding | None:
    """Look for what Celery says at its end, in the lines of the last life.

    :param status: None for a worker whose status is not known, or that lives.
    """
    start, has_banner = _last_life(lines)
    life = lines[start:]
    if status in (_FAILURE, None):
        finding = _unrecoverable(life)
        if finding is None and not has_banner:
            finding = _not_imported(life)
    elif status == _USAGE:
        finding = _misused(life)
    else:
        finding = None
    return Finding(finding.reason, start + finding.begins) if finding is not None else None


def _last_life(lines: Sequence[str]) -> tuple[int, bool]:
    """Where the last life begins, and whether it came as far as Celery's banner."""
    for index in range(len(lines) - 1, -1, -1):
        if _BANNER.match(lines[index]):
            return index, True
        if _BEGINS.match(lines[index]):
            return index, False
    return 0, False


def _unrecoverable(life: Sequence[str]) -> Finding | None:
    """The error that Celery's main process gave up for, the last one."""
    for index in range(len(life) - 1, -1, -1):
        line = life[index]
        if _NOT_MAIN.match(line):
            continue
        match = _UNRECOVERABLE.search(line)
        if match is not None:
            reason = _unrecoverable_reason(match["kind"], match["what"], life[index + 1 :])
            return Finding(reason, index) if reason is not None else None
        if _NO_RETRY.search(line):
            return Finding(Reason.BROKER_UNREACHABLE, index)
    return None


def _unrecoverable_reason(kind: str, what: str, rest: Sequence[str]) -> Reason | None:
    if kind == "ResourceLocked" and what.startswith("405,") and ".celery.pidbox'" in what:
        return Reason.RESOURCE_LOCKED
    if kind == "PreconditionFailed" and "delivery acknowledgement" in what and "timed out" in what:
        return Reason.CONSUMER_TIMEOUT
    if _DECLARING.search(what):
        return Reason.DECLARATION_REFUSED
    if kind in ("AccessRefused", "NotAllowed"):
        return Reason.BROKER_REFUSED
    if any(_UNREACHABLE.match(line) for line in rest):
        return Reason.BROKER_UNREACHABLE
    return None


def _not_imported(life: Sequence[str]) -> Finding | None:
    """A traceback at the very end, of a worker that never came as far as Celery's banner."""
    said = [index for index, line in enumerate(life) if line.strip()]
    if not said:
        return None
    last = life[said[-1]]
    imports = (
        _NOT_LOADED.match(last) or _NOT_IMPORTED.match(last) or any(_IMPORTING.match(line) for line in life)
    )
    if not imports:
        return None
    begins = next((index for index in said if life[index] == _TRACEBACK), said[0])
    return Finding(Reason.IMPORT_ERROR, begins)


def _misused(life: Sequence[str]) -> Finding | None:
    """The complaint of Celery's command line (click's format)."""
    for index in range(len(life) - 1, -1, -1):
        if life[index].startswith("Usage: celery worker "):
            if any(line.startswith("Error: ") for line in life[index:]):
                return Finding(Reason.BAD_ARGUMENTS, index)
            return None
    return None
