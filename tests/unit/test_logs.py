"""How log lines look and where they go."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from cyme.logs import Log, LogFile, as_json, as_text, make_observer

NOON = 1767355445.678


def event(text: str = "{what}", level: Any = LogLevel.warn, **fields: Any) -> dict[str, Any]:
    return {
        "log_time": NOON,
        "log_level": level,
        "log_namespace": "cyme.supervisor.service.Supervisor",
        "log_format": text,
        **fields,
    }


def failure() -> Failure:
    try:
        raise RuntimeError("first line\n[2026-01-02 03:04:05,678: INFO/cyme.api] forged\x1b[2J")
    except RuntimeError:
        return Failure()


class TextTests(SynchronousTestCase):
    """Log lines for people."""

    def test_line(self) -> None:
        """A line has local time, level, source and message, in the shape of Celery's."""
        line = as_text(event("{{Supervisor}} {what}", what="wake-up"))
        self.assertRegex(
            line, r"^\[2026-01-0[123] \d\d:\d\d:05,678: WARNING/cyme\.supervisor\] \{Supervisor\} wake-up\n$"
        )

    def test_foreign_source(self) -> None:
        """The source of what others log is shown whole."""
        self.assertIn("/twisted.web.server]", as_text(event("x", log_namespace="twisted.web.server")))

    def test_control_characters(self) -> None:
        """Control characters in values are shown, not obeyed: one event, one line."""
        line = as_text(event(what="a\nb\r\tc\x1b[2Jd\x9be\u2028f\x7f"))
        self.assertTrue(line.endswith("a\\nb\\r\\tc\\x1b[2Jd\\x9be\\u2028f\\x7f\n"), line)

    @given(st.text(), st.text())
    def test_one_line(self, what: str, namespace: str) -> None:
        """Whatever is logged, it is one line."""
        self.assertEqual(len(as_text(event(what=what, log_namespace=namespace)).splitlines()), 1)

    def test_traceback(self) -> None:
        """The lines of a traceback are indented, so that none passes for an event."""
        lines = as_text(event("it broke", log_failure=failure())).splitlines()
        self.assertTrue(lines[0].endswith("it broke"))
        self.assertIn("    Traceback", lines[1])
        self.assertTrue(all(line.startswith("    ") for line in lines[1:]), lines)
        self.assertNotIn("\x1b", "".join(lines))

    def test_only_a_failure(self) -> None:
        """An event that has a failure and no words says the error's."""
        line = as_text(event("", log_failure=Failure(KeyError("x")))).splitlines()[0]
        self.assertTrue(line.endswith("] 'x'"), line)

    def test_unformattable(self) -> None:
        """An event whose format does not fit its values is logged all the same."""
        self.assertIn("Unable to format event", as_text(event("{missing}")))


class JSONTests(SynchronousTestCase):
    """Log lines for programs."""

    def test_line(self) -> None:
        """A line is one JSON object with the time in UTC."""
        line = as_json(event(what="a\nb"))
        self.assertEqual(line.count("\n"), 1)
        self.assertEqual(
            json.loads(line),
            {
                "time": "2026-01-02T12:04:05.678Z",
                "level": "warning",
                "source": "cyme.supervisor.service.Supervisor",
                "message": "a\nb",
            },
        )

    def test_traceback(self) -> None:
        """A traceback is a field."""
        entry = json.loads(as_json(event("it broke", log_failure=failure())))
        self.assertIn("RuntimeError: first line", entry["traceback"])


class LevelTests(SynchronousTestCase):
    """What is logged at all."""

    def written(self, level: str, *events: dict[str, Any]) -> list[str]:
        lines: list[str] = []
        observer = make_observer(lines.append, format="text", level=level)
        for each in events:
            observer(each)
        return lines

    def test_interface(self) -> None:
        """The observer is one that twistd takes without a warning."""
        self.assertTrue(
            verifyObject(ILogObserver, make_observer(lambda text: None, format="json", level="info"))
        )

    def test_levels(self) -> None:
        """What is below the level is left out."""
        events = [event("x", level) for level in LogLevel.iterconstants()]
        for least, count in {"debug": 5, "info": 4, "warn": 3, "error": 2, "critical": 1}.items():
            self.assertEqual(len(self.written(least, *events)), count, least)

    def test_twisted(self) -> None:
        """What Twisted notes of its own doings counts as debugging; its warnings count."""
        for namespace in ("twisted.internet.protocol.Factory", "log_legacy"):
            noise = event("Starting factory", LogLevel.info, log_namespace=namespace)
            trouble = event("x", LogLevel.error, log_namespace=namespace)
            self.assertEqual(len(self.written("info", noise, trouble)), 1)
            self.assertEqual(len(self.written("debug", noise, trouble)), 2)
            self.assertIn("DEBUG/", self.written("debug", noise)[0])

    def test_with_a_logger(self) -> None:
        """A real logger's events come out."""
        lines: list[str] = []
        log = Logger("cyme.x", observer=make_observer(lines.append, format="text", level="info"))
        log.info("hello {who}", who="you")
        log.debug("not this")
        self.assertEqual([line.partition("] ")[2] for line in lines], ["hello you\n"])


class LogFileTests(SynchronousTestCase):
    """Where lines go."""

    def make(self) -> LogFile:
        self.path = self.mktemp()
        file = LogFile(self.path)
        self.addCleanup(os.close, file.fileno())
        return file

    def test_appends(self) -> None:
        """Lines are added to what is there, whatever characters they have."""
        file = self.make()
        file.write("grün\n")
        file.write("half a pair \ud800\n")
        self.assertEqual(Path(self.path).read_text(), "grün\nhalf a pair \\ud800\n")

    def test_moved(self) -> None:
        """A file that was moved away is opened anew, under the same descriptor."""
        file = self.make()
        before = file.fileno()
        file.write("1\n")
        os.rename(self.path, self.path + ".1")
        file.write("2\n")
        os.write(before, b"3\n")
        self.assertEqual(Path(self.path + ".1").read_text(), "1\n")
        self.assertEqual(Path(self.path).read_text(), "2\n3\n")
        self.assertFalse(os.get_inheritable(before))

    def test_moved_and_gone(self) -> None:
        """While no new file can be opened, lines go where they went."""
        file = self.make()
        os.rename(self.path, self.path + ".1")
        os.mkdir(self.path)
        file.write("1\n")
        self.assertEqual(Path(self.path + ".1").read_text(), "1\n")

    def test_log(self) -> None:
        """A log writes to standard error until it is opened, and then to its file."""
        path = self.mktemp()
        log = Log(path, format="text", level="info")
        self.assertEqual(log.fileno(), 2)
        log.observer()(event("hello"))
        self.addCleanup(os.close, log.fileno())
        self.assertIn("hello", Path(path).read_text())

    def test_no_file(self) -> None:
        """A log that can't be opened raises."""
        self.assertRaises(OSError, Log("/proc/nope/x", format="text", level="info").observer)
