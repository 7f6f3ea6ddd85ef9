"""What workers take of the machine, read from `/proc`: all of them by going through it once.

A worker's tree is every process of its session and all that descend from these, also those that
made a session of their own. Only what does both, leaves the session and is orphaned, is lost.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from attrs import frozen

#: States of a process that takes nothing any more: zombie, dead (proc_pid_stat(5)).
_ENDED = frozenset({b"Z", b"X", b"x"})
#: A `/proc/PID/stat` is a few hundred bytes long.
_STAT_MOST = 4096


@frozen
class Seen:
    """What `/proc/PID/stat` says of one process.

    :ivar session: the pid of its session's leader.
    :ivar ticks: processor time, its own and that of its children that it waited for.
    :ivar pages: resident memory.
    """

    pid: int
    parent: int
    session: int
    has_ended: bool
    ticks: int
    pages: int


@frozen(kw_only=True)
class Usage:
    """What a tree of processes takes; see `cyme.limits.Resources`."""

    rss: int
    cpu_seconds: float
    processes: int
    open_files: int | None
    open_files_limit: int | None


def parse_seen(text: bytes) -> Seen:
    """Read the text of `/proc/PID/stat`.

    The second field is the program's name in parentheses, in which anything may stand,
    parentheses and spaces too: fields are counted from the last parenthesis.

    :raises ValueError: when it is none.
    """
    head, found, rest = text.rpartition(b")")
    fields = rest.split()
    if not found or len(fields) < 22:
        raise ValueError("not the text of /proc/PID/stat")
    return Seen(
        int(head.partition(b" ")[0]),
        int(fields[1]),
        int(fields[3]),
        fields[0] in _ENDED,
        sum(map(int, fields[11:15])),
        int(fields[21]),
    )


def parse_open_files_limit(text: str) -> int | None:
    """The soft limit of open files in the text of `/proc/PID/limits`; None when there is none."""
    for line in text.splitlines():
        if line.startswith("Max open files"):
            soft = line.removeprefix("Max open files").split()[0]
            return int(soft) if soft.isdecimal() else None
    return None


def trees(seen: Iterable[Seen], leaders: Collection[int]) -> dict[int, list[Seen]]:
    """The processes of each leader's tree; a leader that is not there has none."""
    by_pid = {one.pid: one for one in seen}
    children: dict[int, list[Seen]] = defaultdict(list)
    sessions: dict[int, list[Seen]] = defaultdict(list)
    for one in by_pid.values():
        children[one.parent].append(one)
        sessions[one.session].append(one)
    found: dict[int, list[Seen]] = {}
    for leader in leaders:
        if leader not in by_pid:
            continue
        tree: dict[int, Seen] = {}
        waiting = [by_pid[leader], *sessions[leader]]
        while waiting:
            one = waiting.pop()
            # In what was read while processes came and went, even a circle is possible.
            if one.pid not in tree:
                tree[one.pid] = one
                waiting += children[one.pid]
        found[leader] = list(tree.values())
    return found


def measure(leaders: Collection[int], proc: str = "/proc") -> Mapping[int, Usage]:
    """Measure the trees of these processes; those that are gone are left out. Blocks: for a thread."""
    page, tick = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
    measured: dict[int, Usage] = {}
    for leader, tree in trees(_all_seen(proc), leaders).items():
        living = [one for one in tree if not one.has_ended]
        counts = [count for one in living if (count := _open_files(proc, one.pid)) is not None]
        measured[leader] = Usage(
            rss=sum(one.pages for one in living) * page,
            cpu_seconds=sum(one.ticks for one in tree) / tick,
            processes=len(living),
            open_files=sum(counts) if counts else None,
            open_files_limit=_open_files_limit(proc, leader),
        )
    return measured


def _all_seen(proc: str) -> Iterable[Seen]:
    for name in os.listdir(proc):
        if name.isdecimal():
            try:
                file = os.open(f"{proc}/{name}/stat", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    text = os.read(file, _STAT_MOST)
                finally:
                    os.close(file)
                yield parse_seen(text)
            except (OSError, ValueError):
                # It has ended meanwhile.
                continue


def _open_files(proc: str, pid: int) -> int | None:
    try:
        return len(os.listdir(f"{proc}/{pid}/fd"))
    except OSError:
        # It has ended, or is another user's.
        return None


def _open_files_limit(proc: str, pid: int) -> int | None:
    try:
        with open(f"{proc}/{pid}/limits", encoding="ascii", errors="replace") as file:
            return parse_open_files_limit(file.read())
    except (OSError, IndexError):
        return None
