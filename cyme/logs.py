"""How log lines look and where they go: observers of `twisted.logger`, as text or JSON lines.

Whatever ends up in a message, a line of the log is one event: control characters in
messages are escaped, and the lines of a traceback are indented.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timezone

from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, formatEvent
from twisted.python.failure import Failure
from zope.interface import directlyProvides

#: Celery's names, as in the product document's log.
_LEVELS = {
    LogLevel.debug: "DEBUG",
    LogLevel.info: "INFO",
    LogLevel.warn: "WARNING",
    LogLevel.error: "ERROR",
    LogLevel.critical: "CRITICAL",
}
_RANKS = {level: rank for rank, level in enumerate(_LEVELS)}
#: Control characters, and what terminals and editors take for the end of a line.
_ESCAPES = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
} | {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}


def _level(event: LogEvent) -> object:
    """The level that an event counts as: what Twisted itself notes is of no use to operators."""
    level = event.get("log_level", LogLevel.info)
    namespace = str(event.get("log_namespace", ""))
    if level is LogLevel.info and (namespace.startswith("twisted.") or namespace == "log_legacy"):
        return LogLevel.debug
    return level


def _short(namespace: str) -> str:
    """`cyme.supervisor.service.Supervisor` is `cyme.supervisor` to its reader."""
    return ".".join(namespace.split(".")[:2]) if namespace.startswith("cyme.") else namespace or "-"


def escaped(text: str) -> str:
    """One line of text that shows its control characters instead of acting on a terminal."""
    return text.translate(_ESCAPES)


def _message(event: LogEvent) -> str:
    return escaped(formatEvent(event)) or _reason(event)


def _reason(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return escaped(failure.getErrorMessage()) if isinstance(failure, Failure) else ""


def _traceback(event: LogEvent) -> list[str]:
    """The lines of an event's traceback; none of them can pass for an event."""
    if "log_failure" not in event:
        return []
    text = eventAsText(
        {"log_failure": event["log_failure"], "log_format": ""},
        includeTimestamp=False,
        includeSystem=False,
    )
    return [escaped(line) for line in text.strip().splitlines()]


def as_text(event: LogEvent) -> str:
    """An event as `[2026-01-02 03:04:05,678: WARNING/cyme.supervisor] message`, local time."""
    when = datetime.fromtimestamp(event.get("log_time", 0.0)).strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
    level = _LEVELS.get(_level(event), "INFO")
    source = escaped(_short(str(event.get("log_namespace", ""))))
    lines = [f"[{when}: {level}/{source}] {_message(event)}"]
    lines.extend(f"    {line}" for line in _traceback(event))
    return "\n".join(lines) + "\n"


def as_json(event: LogEvent) -> str:
    """An event as one line of JSON: `time` (UTC), `level`, `source`, `message`, perhaps `traceback`."""
    when = datetime.fromtimestamp(event.get("log_time", 0.0), timezone.utc)
    entry = {
        "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": _LEVELS.get(_level(event), "INFO").lower(),
        "source": str(event.get("log_namespace", "")) or "-",
        "message": formatEvent(event) or _reason(event),
    }
    traceback = _traceback(event)
    if traceback:
        entry["traceback"] = "\n".join(traceback)
    return json.dumps(entry) + "\n"


def make_observer(write: Callable[[str], None], *, format: str, level: str) -> ILogObserver:
    """Make an observer that writes what is at least of a level.

    :param write: called with each event's text, its newline included.
    :param format: `text` or `json`.
    :param level: the name of a `LogLevel`.
    """
    render = as_json if format == "json" else as_text
    least = _RANKS[LogLevel.levelWithName(level)]

    def observe(event: LogEvent) -> None:
        if _RANKS.get(_level(event), least) >= least:
            write(render(event))

    directlyProvides(observe, ILogObserver)
    return observe  # type: ignore[return-value]


class Log:
    """The log of one branch, opened when it is first needed.

    :param path: of its file, or None for standard output.
    :param format: `text` or `json`.
    :param level: the name of the least `LogLevel` that is logged.
    """

    def __init__(self, path: str | None, *, format: str, level: str) -> None:
        self._path = path
        self._format = format
        self._level = level
        self._output = LogOutput(2)

    def observer(self) -> ILogObserver:
        """Open the log.

        :raises OSError: when the file can't be opened.
        """
        self._output = LogOutput(1) if self._path is None else LogFile(self._path)
        return make_observer(self._output.write, format=self._format, level=self._level)

    def fileno(self) -> int:
        """The file descriptor of the open log; standard error before that, and for ever if others log."""
        return self._output.fileno()


class LogOutput:
    """Appends to a file descriptor that somebody else opened."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def write(self, text: str) -> None:
        """Write whole lines."""
        data = text.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(self._descriptor, data) :]


class LogFile(LogOutput):
    """Appends to a file; one that was moved away or deleted is opened anew (logrotate does so).

    The descriptor stays the same, so that what writes to it on its own (`cyme.watchdog`)
    follows.

    :raises OSError: when the file can't be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        super().__init__(_open(path))
        self._identity = _identity(os.fstat(self._descriptor))

    def write(self, text: str) -> None:
        self._follow()
        super().write(text)

    def _follow(self) -> None:
        """Open the file anew if the path leads to another one; keep the old while that fails."""
        try:
            if _identity(os.stat(self._path)) == self._identity:
                return
        except FileNotFoundError:
            pass
        except OSError:
            return
        try:
            fresh = _open(self._path)
        except OSError:
            return
        os.dup2(fresh, self._descriptor, inheritable=False)
        os.close(fresh)
        self._identity = _identity(os.fstat(self._descriptor))


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino
