"""What should be: an instance as its declaration, its app and the branch's defaults together make it."""

from __future__ import annotations

import hashlib
import json

from attrs import field, frozen

from cyme.declarations import Queue

#: Celery pools that `autoscale` can grow and shrink; the others die of it (failure-modes F7).
GROWING_POOLS = frozenset({"prefork", "processes"})


@frozen(kw_only=True, cache_hash=True)
class ConsumedQueue:
    """A queue with everything that a worker needs to declare and consume from it.

    :ivar options: JSON text of an object; `{}` when there are none.
    """

    name: str
    exchange: str
    exchange_type: str
    routing_key: str
    options: str = "{}"


def consumed(queue: Queue) -> ConsumedQueue:
    """A queue declaration with its defaults filled in (requirements R51)."""
    return ConsumedQueue(
        name=queue.name,
        exchange=queue.exchange or queue.name,
        exchange_type=queue.exchange_type or "direct",
        routing_key=queue.routing_key or queue.name,
        options=queue.options or "{}",
    )


@frozen(kw_only=True)
class Desired:
    """One instance as its declaration, its app and the branch's defaults together make it.

    :ivar node: the Celery node name, `NAME@HOST`.
    :ivar broker: the broker's URL with its password.
    :ivar celery_app: what `celery -A` takes.
    :ivar arguments: more `celery worker` arguments, split.
    :ivar extra_config: `key=value` settings, split.
    :ivar queues: what it consumes from beside its private queue.
    :ivar drain_until: until when a stop may wait for running tasks, seconds since the epoch;
        None for as long as every stop may take.
    :ivar max_memory: bytes of its whole tree above which it is replaced; None for no limit.
    :ivar max_age: seconds after which it is replaced; None for no limit.
    :ivar stall_timeout: seconds for which reserved tasks may wait while none begins, until the
        worker counts as stalled; None for any time.

    The last three are no part of the fingerprint: a new limit restarts nothing by itself.
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
    drain_until: float | None = None
    max_memory: int | None = None
    max_age: float | None = None
    stall_timeout: float | None = None
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
    def consumes(self) -> frozenset[str]:
        """The names of all queues that it is to consume from."""
        return frozenset({self.private_queue, *(queue.name for queue in self.queues)})

    @property
    def autoscales(self) -> bool:
        """Whether the pool can grow and shrink while the worker runs."""
        return self.pool in GROWING_POOLS
