"""Why workers ended, told from exit statuses and the ends of logs as Celery 5.7 wrote them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cyme.exits import EXPLANATIONS, Reason
from cyme.planning import Exit
from cyme.supervisor.reasons import (
    FIRST_OF_THEM,
    LAST_WORDS,
    QUOTED,
    Evidence,
    ailment_of,
    explanation_of,
    last_words_of,
    reason_at_once,
    reason_of,
)

NOTHING = Evidence()
STAMP = "[2026-11-23 01:54:55,563: CRITICAL/MainProcess] "
BEGINS = "[cyme] process 4711 begins"
BANNER = " -------------- w1@host v5.7.0 (opalescent)"
TRACEBACK = ("Traceback (most recent call last):", '  File "celery/worker/worker.py", line 271, in start')
LOCKED = (
    STAMP + 'Unrecoverable error: ResourceLocked(405, "RESOURCE_LOCKED - cannot obtain exclusive access to '
    "locked queue 'w1@host.celery.pidbox' in vhost '/'. It could be originally declared on another "
    'connection or the exclusive property value does not match that of the original declaration.", '
    "(50, 10), 'Queue.declare')"
)
TIMED_OUT = (
    STAMP + "Unrecoverable error: PreconditionFailed(406, 'PRECONDITION_FAILED - delivery acknowledgement "
    "on channel 1 timed out. Timeout value used: 3000 ms. This timeout value can be configured, see "
    "consumers doc guide to learn more', (0, 0), '')"
)
MISMATCH = (
    STAMP + 'Unrecoverable error: PreconditionFailed(406, "PRECONDITION_FAILED - inequivalent arg '
    "'x-max-priority' for queue 'qpri' in vhost '/': received none but current is the value '5' of type "
    "'signedint'\", (50, 10), 'Queue.declare')"
)
REFUSED = (
    STAMP + "Unrecoverable error: AccessRefused(403, 'ACCESS_REFUSED - Login was refused using "
    "authentication mechanism PLAIN. For details see the broker logfile.', (0, 0), '')"
)
AWAY = STAMP + "Unrecoverable error: OperationalError('[Errno 111] Connection refused')"
AWAY_AT_LAST = "kombu.exceptions.OperationalError: [Errno 111] Connection refused"
NO_RETRY = (
    STAMP + "Retrying to establish a connection to the message broker after a connection loss has been "
    "disabled (app.conf.broker_connection_retry_on_startup=False). Shutting down..."
)
USAGE = (
    "Usage: celery worker [OPTIONS]",
    "Try 'celery worker --help' for help.",
    "",
    "Error: No such option '--no-such-option'.",
)
NOT_FOUND = "ModuleNotFoundError: No module named 'no'"
NOT_LOADED = "Unable to load the Celery app no.such.module"


def ended(status: int | None = 1, signal: int | None = None, **changes: Any) -> Exit:
    """An end that nobody asked for."""
    values: dict[str, Any] = {"at": 0.0, "lived": 1.0, "expected": False}
    return Exit(status=status, signal=signal, **{**values, **changes})


def serving(*lines: str) -> tuple[str, ...]:
    """The log of a life that came as far as the banner."""
    return (BEGINS, BANNER, "", *lines)


class AtOnceTests(SynchronousTestCase):
    """What needs no log."""

    def test_table(self) -> None:
        """Stops, signals and the statuses that mean one thing only are named without a log."""
        oom = Evidence(oom_killed=True)
        silent = Evidence(stopped_for=Reason.UNRESPONSIVE)
        for exit, evidence, reason in (
            (ended(0, expected=True), NOTHING, Reason.STOPPED),
            (ended(1, expected=True), NOTHING, Reason.STOPPED),
            (ended(None, 9, expected=True), oom, Reason.STOPPED),
            (ended(None, 9, expected=True), silent, Reason.UNRESPONSIVE),
            (ended(0), NOTHING, Reason.SHUT_DOWN),
            (ended(73), NOTHING, Reason.STALE_PIDFILE),
            (ended(None, 9), NOTHING, Reason.KILLED),
            (ended(None, 15), NOTHING, Reason.KILLED),
            (ended(None, 9), oom, Reason.OUT_OF_MEMORY),
            (ended(None, 15), oom, Reason.KILLED),
            (ended(None, 11), oom, Reason.CRASHED),
            (ended(None, 6), NOTHING, Reason.CRASHED),
            (ended(1), NOTHING, None),
            (ended(2), NOTHING, None),
            (ended(None), NOTHING, None),
        ):
            self.assertEqual(reason_at_once(exit, evidence), reason, (exit, evidence))
            if reason is not None:
                self.assertIs(reason_of(exit, serving(LOCKED), evidence), reason)

    @given(st.one_of(st.none(), st.integers(1, 64)), st.booleans(), st.booleans())
    def test_signals_never_wait(self, signal: int | None, expected: bool, oom_killed: bool) -> None:
        """No worker that a signal has ended waits for its log."""
        status = 0 if signal is None else None
        reason = reason_at_once(ended(status, signal, expected=expected), Evidence(oom_killed=oom_killed))
        self.assertIsNotNone(reason)


class LogTests(SynchronousTestCase):
    """What the log tells."""

    def assert_reason(self, reason: Reason, lines: tuple[str, ...], status: int | None = 1) -> None:
        self.assertIs(reason_of(ended(status), lines, NOTHING), reason, lines)

    def test_table(self) -> None:
        """Each of Celery's last messages has its reason."""
        for lines, status, reason in (
            (serving(LOCKED, *TRACEBACK), 1, Reason.RESOURCE_LOCKED),
            (serving(TIMED_OUT, *TRACEBACK, "task: done"), 1, Reason.CONSUMER_TIMEOUT),
            (serving(MISMATCH, *TRACEBACK), 1, Reason.DECLARATION_REFUSED),
            (serving(REFUSED, *TRACEBACK), 1, Reason.BROKER_REFUSED),
            (serving(AWAY, *TRACEBACK, AWAY_AT_LAST), 1, Reason.BROKER_UNREACHABLE),
            (serving(NO_RETRY), 1, Reason.BROKER_UNREACHABLE),
            ((BEGINS, *TRACEBACK, NOT_FOUND, NOT_LOADED), 1, Reason.IMPORT_ERROR),
            ((BEGINS, *TRACEBACK, "ZeroDivisionError: by zero", NOT_LOADED, ""), 1, Reason.IMPORT_ERROR),
            ((BEGINS, *TRACEBACK, NOT_FOUND), 1, Reason.IMPORT_ERROR),
            ((BEGINS, *USAGE), 2, Reason.BAD_ARGUMENTS),
            (serving("Segmentation fault"), 1, Reason.CRASHED),
            ((), 1, Reason.CRASHED),
            ((BEGINS, *TRACEBACK, "PermissionError: worker.statedb"), 1, Reason.CRASHED),
            (serving(LOCKED, *TRACEBACK), None, Reason.RESOURCE_LOCKED),
            (serving("ready"), None, Reason.UNKNOWN),
        ):
            self.assert_reason(reason, lines, status)

    def test_modules_of_an_app(self) -> None:
        """An error of any kind in a module that the app imports is the same as one in the app."""
        importing = '  File "/v/celery/loaders/base.py", line 85, in import_task_module'
        self.assert_reason(Reason.IMPORT_ERROR, (BEGINS, TRACEBACK[0], importing, "NameError: x"))

    def test_status_decides(self) -> None:
        """A message counts only with the status that Celery ends with then."""
        self.assert_reason(Reason.CRASHED, serving(LOCKED), 2)
        self.assert_reason(Reason.CRASHED, serving(LOCKED), 137)
        self.assert_reason(Reason.CRASHED, (BEGINS, *USAGE), 1)

    def test_other_formats(self) -> None:
        """Celery's messages are known in a log format of the user's own too."""
        self.assert_reason(Reason.RESOURCE_LOCKED, serving(LOCKED.removeprefix(STAMP)))
        self.assert_reason(Reason.RESOURCE_LOCKED, serving(LOCKED.replace(STAMP, "critical | ")))

    def test_tasks_do_not_count(self) -> None:
        """What a task logs is not what the worker died of."""
        for process in ("ForkPoolWorker-1", "SpawnPoolWorker-12"):
            line = LOCKED.replace("CRITICAL/MainProcess", f"WARNING/{process}")
            self.assert_reason(Reason.CRASHED, serving(line))
        self.assert_reason(Reason.CRASHED, serving(NOT_FOUND))
        self.assert_reason(Reason.CRASHED, serving(NOT_LOADED))

    def test_another_error(self) -> None:
        """An unrecoverable error of another kind, or about another lock, is no more than it says."""
        for line, reason in (
            (STAMP + "Unrecoverable error: OperationalError('no such table')", Reason.CRASHED),
            (STAMP + "Unrecoverable error: KeyError('RESOURCE_LOCKED')", Reason.CRASHED),
            (LOCKED.replace("w1@host.celery.pidbox", "mine"), Reason.DECLARATION_REFUSED),
            (MISMATCH.replace("'Queue.declare'", "'Basic.ack'"), Reason.CRASHED),
        ):
            self.assert_reason(reason, serving(line, *TRACEBACK))

    def test_earlier_lives(self) -> None:
        """What an earlier life died of does not explain the last one's end."""
        before = serving(LOCKED, *TRACEBACK)
        self.assert_reason(Reason.CRASHED, (*before, BEGINS, "KeyError: 'x'"))
        self.assert_reason(Reason.CRASHED, (*before, *serving("boom")))
        # A worker that an older branch has started.
        self.assert_reason(Reason.CRASHED, (BANNER, LOCKED, BANNER, "boom"))
        self.assert_reason(Reason.RESOURCE_LOCKED, (BANNER, "boom", BANNER, LOCKED))

    @given(st.lists(st.text(max_size=80), max_size=40), st.sampled_from([None, 1, 2, 3, 127, 255]))
    def test_any_log(self, lines: list[str], status: int | None) -> None:
        """Whatever stands in a log, an end has a reason, last words and an explanation."""
        reason = reason_of(ended(status), lines, NOTHING)
        words = last_words_of(lines, reason, status)
        self.assertLessEqual(len(words), LAST_WORDS)
        self.assertLessEqual(len(explanation_of(reason, words)), QUOTED + 400)


class AilmentTests(SynchronousTestCase):
    """What a silent worker suffers from."""

    def test_consumer_timeout(self) -> None:
        """Of a worker that lives, only a consumer time-out of this very life is an ailment."""
        self.assertIs(ailment_of(serving(TIMED_OUT, *TRACEBACK)), Reason.CONSUMER_TIMEOUT)
        self.assertIsNone(ailment_of(serving(LOCKED, *TRACEBACK)))
        self.assertIsNone(ailment_of((*serving(TIMED_OUT), *serving("ready"))))
        self.assertIsNone(ailment_of(()))


class WordsTests(SynchronousTestCase):
    """What is kept and said of an end."""

    def test_short(self) -> None:
        """The last lines are kept."""
        lines = [str(number) for number in range(100)]
        self.assertEqual(last_words_of(lines, Reason.CRASHED, 1), tuple(lines[-LAST_WORDS:]))

    def test_where_it_begins(self) -> None:
        """Of a long traceback the beginning is kept with the end."""
        frames = [f"  frame {number}" for number in range(100)]
        lines = (BEGINS, *TRACEBACK, *frames, NOT_FOUND, NOT_LOADED)
        words = last_words_of(lines, Reason.IMPORT_ERROR, 1)
        self.assertEqual((len(words), words[0], words[FIRST_OF_THEM]), (LAST_WORDS, TRACEBACK[0], "..."))
        self.assertEqual(words[-2:], (NOT_FOUND, NOT_LOADED))

    def test_quote(self) -> None:
        """The explanation of an import error names the error, that of bad arguments the complaint."""
        said = explanation_of(Reason.IMPORT_ERROR, (*TRACEBACK, NOT_FOUND, NOT_LOADED))
        self.assertEqual(said, f"{NOT_FOUND} -- {EXPLANATIONS[Reason.IMPORT_ERROR]}")
        self.assertIn("--no-such-option", explanation_of(Reason.BAD_ARGUMENTS, USAGE))
        self.assertEqual(explanation_of(Reason.CRASHED, USAGE), EXPLANATIONS[Reason.CRASHED])
        self.assertEqual(explanation_of(Reason.IMPORT_ERROR, ()), EXPLANATIONS[Reason.IMPORT_ERROR])
