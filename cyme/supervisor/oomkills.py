"""Whether the kernel has killed something for want of memory: its own count of that.

The count is read at the end of a worker that SIGKILL has ended, in the reactor's thread: a
few lines that the kernel makes up, in some ten microseconds, without any disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

#: More than the kernel ever writes into these files.
_MOST = 65536


class OomKills:
    """Reads the count that is nearest to this process: its control group's, else the machine's.

    A worker is in the control group of its branch. With version 2 of control groups that is
    `memory.events` (of the group and all below it), with version 1 `memory.oom_control`.

    :param root: the folder that holds `proc` and `sys`.
    """

    def __init__(self, root: str = "/") -> None:
        self._root = root
        self._path: str | None = None

    def count(self) -> int | None:
        """How often the kernel has done it so far; None where it does not say."""
        if self._path is None:
            self._path = next((path for path in self._candidates() if _count_in(path) is not None), "")
        return _count_in(self._path) if self._path else None

    def _candidates(self) -> Iterator[str]:
        groups = os.path.join(self._root, "sys/fs/cgroup")
        try:
            with open(os.path.join(self._root, "proc/self/cgroup"), encoding="utf-8") as file:
                lines = file.read(_MOST).splitlines()
        except (OSError, ValueError):
            lines = []
        for line in lines:
            number, _, rest = line.partition(":")
            controllers, _, group = rest.partition(":")
            # In a container the path may be one that only the outside knows: then the mount itself.
            if number == "0" and not controllers:
                yield os.path.join(groups, group.strip("/"), "memory.events")
                yield os.path.join(groups, "memory.events")
            elif "memory" in controllers.split(","):
                yield os.path.join(groups, "memory", group.strip("/"), "memory.oom_control")
                yield os.path.join(groups, "memory", "memory.oom_control")
        yield os.path.join(self._root, "proc/vmstat")


def _count_in(path: str) -> int | None:
    """The number in the line `oom_kill NUMBER` of a file."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            for line in file.read(_MOST).splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
    except (OSError, ValueError):
        pass
    return None


class OomWatch:
    """Tells at a worker's end whether an out-of-memory kill happened lately.

    A kill that is not accounted for within two calls of `refresh` was of something else, a
    pool's child or another program, and explains no later end.

    :param count: see `OomKills.count`.
    """

    def __init__(self, count: Callable[[], int | None]) -> None:
        self._count = count
        self._before: int | None = None
        self._latest: int | None = None

    def refresh(self) -> None:
        """Let older kills be forgotten; to be called now and then."""
        now = self._count()
        self._before, self._latest = now if self._latest is None else self._latest, now

    def take(self) -> bool:
        """Whether there was a kill that explains an end; each explains one."""
        now = self._count()
        if now is None or self._before is None or now <= self._before:
            return False
        self._before += 1
        if self._latest is not None:
            self._latest = max(self._latest, self._before)
        return True
