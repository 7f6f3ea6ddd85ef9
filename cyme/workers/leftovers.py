"""What a worker leaves that died while no branch was there to see it: its pool, what its tasks started.

While a branch lives it kills a worker's process group as soon as the worker has ended (see
Note [Process groups] in `cyme.workers.handle`). When both were killed, the next start finds a
record whose process is gone, and perhaps a group that still has members (failure-modes F9).

Note [Whose they are]: by now the number may be another group's, such as that of a daemon whose
first process has ended too. So a member is only killed if its environment names the folder of the
record. Pool processes have it from the launcher (`cyme.workers.child.RECORD`), and what a task
started has it from Celery, which puts the path of its log file into the environment.
"""

from __future__ import annotations

import os
import signal

from cyme.workers.proc import parse_group


def kill_leftovers(pid: int, folder: str) -> list[int]:
    """Kill what is left of the group that an ended process led.

    Looks through all of `/proc`, but only where there is such a group.

    :param folder: the folder of its record.
    :return: the pids of those that were killed.
    """
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return []
    except PermissionError:
        pass  # it has members, some of them another user's
    marker = os.fsencode(os.path.join(folder, ""))
    members = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return [member for member in members if _kill_member(member, pid, marker)]


def _kill_member(pid: int, group: int, marker: bytes) -> bool:
    """Kill a process if it is in this group and its environment has this marker."""
    try:
        # First of all: from here on the pidfd is this process, whoever has its pid later.
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            if parse_group(file.read()) != group:
                return False
        with open(f"/proc/{pid}/environ", "rb") as environ:
            if marker not in environ.read():
                return False
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except (OSError, ValueError):
        return False  # it ended meanwhile, or is another user's
    finally:
        os.close(pidfd)
    return True
