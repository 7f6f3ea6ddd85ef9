"""What `/proc` tells about processes, and the record that a child leaves of itself."""

from __future__ import annotations

import json

from attrs import frozen

from cyme.holders import incarnation

#: A record is far shorter; whatever is longer is not one.
RECORD_LIMIT = 65536

#: States of a process that does nothing any more: zombie, dead (proc_pid_stat(5)).
_ENDED = frozenset({"Z", "X", "x"})


@frozen(kw_only=True)
class Record:
    """What a child wrote of itself before it did anything else (see `cyme.workers.child`).

    :ivar start_ticks: when it was started, in clock ticks after the boot.
    :ivar boot_id: which boot that was: ticks and pids start anew with each.
    :ivar started_at: the same, in seconds since the epoch, as its clock was then.
    :ivar identity: the text that the launcher was given.
    """

    pid: int
    start_ticks: int
    boot_id: str
    started_at: float
    identity: str


@frozen
class Stat:
    """What `/proc/PID/stat` says that matters here.

    :ivar state: one letter, as `ps` shows it.
    :ivar start_ticks: field 22.
    """

    state: str
    start_ticks: int

    @property
    def has_ended(self) -> bool:
        """Whether it only waits to be reaped; a signal to it would still "succeed"."""
        return self.state in _ENDED


def parse_stat(text: str) -> Stat:
    """Read the text of `/proc/PID/stat`.

    The second field is the program's name in parentheses, in which anything may stand,
    parentheses and spaces too: fields are counted from the last parenthesis.

    :raises ValueError: when it is none.
    """
    _, found, rest = text.rpartition(")")
    fields = rest.split()
    if not found or len(fields) < 20:
        raise ValueError("not the text of /proc/PID/stat")
    return Stat(fields[0], int(fields[19]))


def parse_group(text: str) -> int:
    """Read the process group, field 5, in the text of `/proc/PID/stat`.

    :raises ValueError: when it is none.
    """
    _, found, rest = text.rpartition(")")
    fields = rest.split()
    if not found or len(fields) < 20:
        raise ValueError("not the text of /proc/PID/stat")
    return int(fields[2])


def read_stat(pid: int) -> Stat | None:
    """The stat of the process that has this pid now, or None."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return parse_stat(file.read())
    except (OSError, ValueError):
        return None


@frozen
class Condition:
    """How a process is, by `/proc/PID/status`.

    :ivar state: one letter, as `ps` shows it.
    :ivar caught: the signals that it has handlers for, as a bit mask.
    """

    state: str
    caught: int

    def catches(self, number: int) -> bool:
        """Whether it has a handler for a signal."""
        return bool(self.caught >> (number - 1) & 1)


def parse_condition(text: str) -> Condition:
    """Read the text of `/proc/PID/status`.

    :raises ValueError: when it is none.
    """
    fields = dict(line.partition(":\t")[::2] for line in text.splitlines())
    try:
        return Condition(fields["State"][:1], int(fields["SigCgt"], 16))
    except KeyError as field:
        raise ValueError(f"no {field} in it") from None


def read_condition(pid: int) -> Condition | None:
    """How the process is that has this pid now; None when there is none."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return parse_condition(file.read())
    except (OSError, ValueError):
        return None


def boot_id() -> str:
    """The id of this boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def incarnation_of(pid: int) -> str | None:
    """The incarnation of the process that has this pid now; None when there is none."""
    stat = read_stat(pid)
    return incarnation(boot_id(), pid, stat.start_ticks) if stat is not None else None


def parse_record(text: str) -> Record:
    """Read a record.

    :raises ValueError: when it is none.
    """
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    values: dict[str, object] = {}
    for key, kinds in (
        ("pid", int),
        ("start_ticks", int),
        ("boot_id", str),
        ("started_at", (int, float)),
        ("identity", str),
    ):
        value = document.get(key)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ValueError(f"no usable {key!r}")
        values[key] = value
    record = Record(**values)  # type: ignore[arg-type]
    if record.pid <= 0:
        # To kill(2), 0 and negative numbers are groups of processes.
        raise ValueError("no usable 'pid'")
    return record


def read_record(path: str) -> Record | None:
    """The record at `path`, or None when there is no file.

    :raises ValueError: when the file is no record.
    :raises OSError: when it can't be read.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(RECORD_LIMIT)
    except FileNotFoundError:
        return None
    return parse_record(content.decode("utf-8"))


def read_ended(path: str) -> str | None:
    """The incarnation of the process whose record is at `path`; None if it lives, or there is no record."""
    try:
        record = read_record(path)
    except (OSError, ValueError):
        return None
    if record is None:
        return None
    if record.boot_id == boot_id():
        stat = read_stat(record.pid)
        if stat is not None and stat.start_ticks == record.start_ticks and not stat.has_ended:
            return None
    return incarnation(record.boot_id, record.pid, record.start_ticks)
