"""The supervisor's judgement as pure functions: what should be, what is, what is to be done.

`plan` takes what one instance should be (`Desired`), what was seen of it (`Observed`),
how its last lives ended (`History`) and the time, and answers with steps. Steps are
values: tests compare them, `cyme.supervisor.executing` runs them. Nothing here does I/O,
reads a clock or draws a random number.
"""

from __future__ import annotations

import hashlib
import json
from enum import Enum
from typing import TypeAlias

from attrs import evolve, field, frozen

#: Celery pools that `autoscale` can grow and shrink; the others die of it (failure-modes F7).
GROWING_POOLS = frozenset({"prefork", "processes"})


class State(str, Enum):
    """How an instance is, in the words that the API, the pages and the metrics share."""

    DISABLED = "disabled"
    STARTING = "starting"
    RUNNING = "running"
    UNRESPONSIVE = "unresponsive"
    UNKNOWN = "unknown"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    STOPPED = "stopped"
    LOST = "lost"


class Phase(str, Enum):
    """Where a worker process is in its life, as far as its own branch knows."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


# -- what should be -----------------------------------------------------------


@frozen(kw_only=True)
class ConsumedQueue:
    """A queue with everything that a worker needs to declare and consume from it.

    :ivar options: JSON text of an object; `{}` when there are none.
    """

    name: str
    exchange: str
    exchange_type: str
    routing_key: str
    options: str = "{}"


@frozen(kw_only=True)
class Desired:
    """One instance as its declaration, its app and the branch's defaults together make it.

    :ivar node: the Celery node name, `NAME@HOST`.
    :ivar broker: the broker's URL with its password.
    :ivar celery_app: what `celery -A` takes.
    :ivar arguments: more `celery worker` arguments, split.
    :ivar extra_config: `key=value` settings, split.
    :ivar queues: what it consumes from beside its private queue.
    """

    name: str
    app: str
    node: str
    broker: str
    celery_app: str
    pool: str = "prefork"
    arguments: tuple[str, ...] = ()
    extra_config: tuple[str, ...] = ()
    queues: tuple[ConsumedQueue, ...] = ()
    max_concurrency: int = 1
    min_concurrency: int = 1
    generation: int = 0
    is_enabled: bool = True
    fingerprint: str = field(init=False)

    @fingerprint.default
    def _compute_fingerprint(self) -> str:
        """Digest what a worker is started with: another digest asks for a warm restart."""
        started_with: list[object] = [
            self.node,
            self.broker,
            self.celery_app,
            self.pool,
            self.arguments,
            self.extra_config,
            self.generation,
        ]
        if not self.autoscales:
            started_with.append(self.max_concurrency)
        return hashlib.sha256(json.dumps(started_with).encode()).hexdigest()[:16]

    @property
    def private_queue(self) -> str:
        """The queue that this instance alone consumes from, always."""
        return f"dq.{self.name}"

    @property
    def autoscales(self) -> bool:
        """Whether the pool can grow and shrink while the worker runs."""
        return self.pool in GROWING_POOLS


# -- what is --------------------------------------------------------------------


@frozen(kw_only=True)
class Process:
    """A living worker process.

    :ivar started_at: seconds since the epoch.
    :ivar fingerprint: `Desired.fingerprint` at its start.
    :ivar adopted: whether an earlier life of the branch started it.
    """

    pid: int
    started_at: float
    fingerprint: str
    phase: Phase
    adopted: bool = False


@frozen(kw_only=True)
class Exit:
    """How a worker process ended.

    :ivar status: the exit status; None when a signal ended it, or when it was adopted
        (then nobody is told).
    :ivar signal: the signal's number, or None.
    :ivar at: seconds since the epoch.
    :ivar lived: seconds from its start.
    :ivar expected: whether the branch had asked it to stop.
    """

    status: int | None
    signal: int | None
    at: float
    lived: float
    expected: bool


@frozen(kw_only=True)
class Heard:
    """What the worker last said over remote control.

    :ivar pong_at: when it last answered anything, seconds since the epoch; None for never.
    :ivar missed: questions in a row that it left unanswered while its broker could be reached.
    :ivar consumers: names of the queues it consumes from; None while not known.
    :ivar autoscale: (max, min) of its pool; None while not known or when it has no autoscaler.
    """

    pong_at: float | None = None
    missed: int = 0
    consumers: frozenset[str] | None = None
    autoscale: tuple[int, int] | None = None


#: Of a worker that was never heard.
SILENT = Heard()


@frozen(kw_only=True)
class Observed:
    """Everything seen of one instance.

    :ivar process: its worker process, or None.
    :ivar broker_up: whether its broker can be reached; None while that is not known.
    :ivar broker_revived_at: when the broker last came back after an outage that was
        noticed; None if there was none.
    :ivar leftovers: whether a folder of it lies in the root folder.
    :ivar quarantined: queues that the broker refused to declare as they are declared.
    """

    process: Process | None = None
    heard: Heard = SILENT
    broker_up: bool | None = None
    broker_revived_at: float | None = None
    leftovers: bool = False
    quarantined: frozenset[str] = frozenset()
