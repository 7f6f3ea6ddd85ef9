"""Which of kombu's transports can be used."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter

from tables import literal, plain, table

from cyme.brokers import UNUSABLE, USABLE


def usable() -> str:
    """The schemes of URLs that are taken."""
    return ", ".join(literal(f"{name}://") for name in sorted(USABLE)) + "."


def unusable() -> str:
    """Those that are refused, by the reason."""
    by_reason = sorted((reason, name) for name, reason in UNUSABLE.items())
    rows = [
        [", ".join(literal(name) for _, name in group), plain(reason)]
        for reason, group in groupby(by_reason, itemgetter(0))
    ]
    return table(("Transport", "Why it can't be used"), rows, "45 55")
