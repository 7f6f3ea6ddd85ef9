"""Ids of tasks: UUIDs that say which branch issued them, and when.

Note [Task ids]
~~~~~~~~~~~~~~~
A UUID of version 8 (RFC 9562), so that any branch knows whom to ask about a task:

    32 bits   seconds since the epoch
    16 bits   of the number
     4 bits   the version, 8
    12 bits   of the number
     2 bits   the variant
    14 bits   of the number
    48 bits   the node: the start of the SHA-256 of the branch's id

The number is drawn at random once a second and counted up from there, so that a branch never
gives one id twice in a second; ids of one branch sort by their age, which databases like.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from uuid import UUID

#: Bits of the number, and of the part of its range where a second's count may begin.
_NUMBER, _START = 42, 41

_LOW = (1 << 14) - 1
_MIDDLE = (1 << 12) - 1


def node_of(branch: str) -> int:
    """The node field of the ids that a branch issues, 48 bits."""
    return int.from_bytes(sha256(branch.encode()).digest()[:6], "big")


def node_in(task_id: str) -> int | None:
    """The node field of a task's id, or None for what is no such id in its canonical spelling."""
    try:
        found = UUID(task_id)
    except ValueError:
        return None
    if found.version != 8 or str(found) != task_id:
        return None
    return found.node


def is_of(task_id: str, branch: str) -> bool:
    """Whether a branch may have issued an id; what is no id at all was issued by nobody."""
    return node_in(task_id) == node_of(branch)


class TaskIds:
    """Makes the ids of one branch, see Note [Task ids].

    :param seconds: the time, in seconds since the epoch.
    :param getrandbits: see `random.SystemRandom.getrandbits`.
    """

    def __init__(self, branch: str, seconds: Callable[[], float], getrandbits: Callable[[int], int]) -> None:
        self._tail = f"{node_of(branch):012x}"
        self._seconds = seconds
        self._getrandbits = getrandbits
        self._second = -1
        self._number = 0

    def new(self) -> str:
        """An id that was not given before."""
        now = int(self._seconds()) & 0xFFFFFFFF
        if now != self._second:
            self._second = now
            self._number = self._getrandbits(_START)
        else:
            self._number = (self._number + 1) % (1 << _NUMBER)
        high, middle, low = self._number >> 26, self._number >> 14 & _MIDDLE, self._number & _LOW
        return f"{now:08x}-{high:04x}-8{middle:03x}-{0x8000 | low:04x}-{self._tail}"
