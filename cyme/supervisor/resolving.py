"""From declarations to what a worker is started with: a pure function.

An instance's own words come first, then its app's, then the branch's defaults.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable

from attrs import frozen

from cyme.declarations import App, Instance, Queue
from cyme.planning import Desired, consumed

#: What `celery -A` takes when neither instance nor app names an application.
CYME_APP = "cyme.tasks"


@frozen(kw_only=True)
class Defaults:
    """What the branch supplies where declarations are silent.

    :ivar broker: URL of the default broker.
    :ivar host: the part of node names behind `@`.
    """

    broker: str
    host: str


def node_name(instance: str, defaults: Defaults) -> str:
    """The Celery node name of an instance."""
    return f"{instance}@{defaults.host}"


def resolve(
    instance: Instance,
    app: App,
    find_queue: Callable[[str], Queue | None],
    defaults: Defaults,
) -> Desired:
    """Put together what the worker of `instance` is started with.

    :param find_queue: finds a queue declaration of the app; an instance's queue without
        a declaration is left out, there is nothing to consume from, and so is a paused one.
    """
    max_memory, max_age, stall_timeout = limits_of(instance, app)
    return Desired(
        name=instance.name,
        app=app.name,
        node=node_name(instance.name, defaults),
        broker=instance.broker or app.broker or defaults.broker,
        celery_app=instance.celery_app or app.celery_app or CYME_APP,
        pool=instance.pool or app.pool or "prefork",
        arguments=tuple(shlex.split(instance.arguments or app.arguments or "")),
        extra_config=tuple(shlex.split(instance.extra_config or app.extra_config or "")),
        queues=tuple(
            consumed(queue)
            for queue in map(find_queue, instance.queues)
            if queue is not None and not queue.paused
        ),
        max_concurrency=instance.max_concurrency,
        min_concurrency=instance.min_concurrency,
        generation=instance.generation,
        is_enabled=instance.is_enabled,
        drain_until=instance.drain_until,
        max_memory=max_memory,
        max_age=max_age,
        stall_timeout=stall_timeout,
    )


def limits_of(instance: Instance, app: App) -> tuple[int | None, float | None, float | None]:
    """The `max_memory`, `max_age` and `stall_timeout` of an instance, None for no limit."""
    return (
        instance.max_memory or app.max_memory,
        instance.max_age or app.max_age,
        instance.stall_timeout or app.stall_timeout,
    )


def brokers_of(desired: Iterable[Desired]) -> frozenset[str]:
    """The brokers that these instances' workers talk to."""
    return frozenset(one.broker for one in desired)
