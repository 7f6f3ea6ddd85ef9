"""Keeps the collector of garbage from holding up the reactor.

Note [Full collections]
~~~~~~~~~~~~~~~~~~~~~~~
Python's collector looks, every now and then, at all objects that there are, and nothing else runs
meanwhile: of a branch that has just started some 65 ms, on one of two slow processors, several times a
second under load. Nearly all of them are modules and what a start has built, and live as long as the process.
So at the end of a start these are put aside, and looked at no more; then a full collection takes some 4 ms,
and a queued request a quarter less (bench/queue_rate.py). And while modules are imported, which makes much
and leaves next to no garbage, nothing is looked at: that is a tenth of what a start takes.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage in the block, which imports and builds and does not take long."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def put_aside() -> None:
    """Put all that is there now aside for good; to be called when a start is over."""
    gc.collect()
    gc.freeze()
