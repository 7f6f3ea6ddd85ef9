"""What a worker takes of its machine, and whether that is more than its instance may: pure functions.

A worker is its whole tree: the process that Cyme started, its pool, and what tasks started.
"""

from __future__ import annotations

from attrs import frozen

_MIB = 1 << 20


@frozen(kw_only=True)
class Resources:
    """What the processes of one worker take together.

    :ivar rss: resident memory, in bytes; what processes share counts for each of them.
    :ivar cpu_seconds: processor time of them and of those of their children that have ended.
    :ivar cpu_percent: the same since the measurement before, 100 for one processor that does
        nothing else; None for the first one.
    :ivar processes: how many there are.
    :ivar open_files: their open file descriptors; None where these may not be counted.
    :ivar open_files_limit: how many one of them may have; None for no limit.
    :ivar at: when that was, seconds since the epoch.
    """

    rss: int
    cpu_seconds: float
    cpu_percent: float | None = None
    processes: int = 1
    open_files: int | None = None
    open_files_limit: int | None = None
    at: float


def over_memory(max_memory: int | None, resources: Resources | None) -> str | None:
    """Say by how much a worker is over its limit of memory, or None."""
    if max_memory is None or resources is None or resources.rss <= max_memory:
        return None
    return f"it takes {resources.rss / _MIB:.1f} MiB, over its max_memory of {max_memory / _MIB:.1f} MiB"


def over_age(max_age: float | None, age: float) -> str | None:
    """Say by how much a worker is over its limit of age, or None.

    :param age: seconds since it was started.
    """
    if max_age is None or age < max_age:
        return None
    return f"it is {age:.0f} s old, over its max_age of {max_age:g} s"
