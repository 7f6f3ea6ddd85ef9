"""What Cyme declares on the broker: names, and how a queue may be.

All of it is either exclusive, or durable with an end: RabbitMQ 4 refuses what is neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Takes what is for every branch.
EVERYBODY = "cyme.all"
#: Messages that may wait in a queue; what is too much is refused, and its sender hears of it.
WAITING_MOST = 10_000
#: Milliseconds after which a queue for work goes away that nobody uses.
WORK_EXPIRES = 24 * 3600 * 1000

_BOUNDED: Mapping[str, Any] = {"x-max-length": WAITING_MOST, "x-overflow": "reject-publish"}
#: How an inbox is declared, beside being exclusive.
INBOX: Mapping[str, Any] = _BOUNDED
#: How a queue for work is declared, beside being durable.
WORK: Mapping[str, Any] = {"x-expires": WORK_EXPIRES, **_BOUNDED}


def exchange_of(actor: str) -> str:
    """The direct exchange of an actor; the routing keys are names."""
    return f"cyme.{actor}"


def work_queue_of(actor: str) -> str:
    """The queue of an actor from which every branch consumes that takes such work."""
    return f"cyme.any.{actor}"


def claim_of(actor: str, name: str) -> str:
    """The exclusive queue that whoever has a claim on a name has declared."""
    return f"cyme.claim.{actor}.{name}"


def routes(*texts: str) -> bool:
    """Whether texts can be names of exchanges and queues, and routing keys."""
    try:
        return all(len(exchange_of(text).encode()) <= 240 for text in texts)
    except UnicodeEncodeError:
        return False
