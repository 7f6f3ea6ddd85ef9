"""Declarations as the JSON that users read; keys in the order of the product document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

from cyme import brokers
from cyme.declarations import App, Instance, Queue

# Many instances have few brokers, and every answer about one takes its broker's URL apart.
_parts = lru_cache(maxsize=256)(brokers.parts)


def broker_details(url: str) -> dict[str, Any]:
    """A broker's connection parameters."""
    return dict(_parts(url))


def app_details(app: App, default_broker: str) -> dict[str, Any]:
    """An app's configuration.

    :param default_broker: the broker of apps that name none.
    """
    return {
        "name": app.name,
        "broker": broker_details(app.broker or default_broker),
        "celery_app": app.celery_app,
        "arguments": app.arguments,
        "extra_config": app.extra_config,
        "pool": app.pool,
        "max_memory": app.max_memory,
        "max_age": app.max_age,
        "stall_timeout": app.stall_timeout,
    }


def queue_details(queue: Queue) -> dict[str, Any]:
    """A queue declaration: null for what was not given (requirements T7), and what holds then."""
    return {
        "name": queue.name,
        "exchange": queue.exchange,
        "exchange_type": queue.exchange_type,
        "routing_key": queue.routing_key,
        "options": json.loads(queue.options) if queue.options is not None else None,
        "effective": {
            "exchange": queue.exchange or queue.name,
            "exchange_type": queue.exchange_type or "direct",
            "routing_key": queue.routing_key or queue.name,
        },
        "paused": queue.paused,
    }


def broker_of(instance: Instance, app: App | None, default_broker: str) -> str:
    """The URL of the broker that an instance's worker talks to."""
    return instance.broker or (app.broker if app is not None else None) or default_broker


def instance_details(
    instance: Instance, app: App | None, default_broker: str, status: Mapping[str, Any]
) -> dict[str, Any]:
    """An instance: what it is started with, its app's words where it has none of its own, and how it is.

    :param app: its app; None if that was deleted meanwhile.
    :param status: see `ISupervisor.status`.
    """
    words = app if app is not None else App(name=instance.app)
    return {
        "is_enabled": instance.is_enabled,
        "name": instance.name,
        "queues": list(instance.queues),
        "broker": broker_details(broker_of(instance, app, default_broker)),
        "max_concurrency": instance.max_concurrency,
        "min_concurrency": instance.min_concurrency,
        "app": instance.app,
        "branch": instance.branch,
        "moving_to": instance.moving_to,
        "labels": list(instance.labels),
        "pool": instance.pool or words.pool,
        "arguments": instance.arguments or words.arguments,
        "extra_config": instance.extra_config or words.extra_config,
        "celery_app": instance.celery_app or words.celery_app,
        "max_memory": instance.max_memory or words.max_memory,
        "max_age": instance.max_age or words.max_age,
        "stall_timeout": instance.stall_timeout or words.stall_timeout,
        **status,
    }


def moment(at: float) -> str:
    """A time, in seconds since the epoch, as people read it."""
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def lost(since: str | None) -> dict[str, Any]:
    """The status of an instance whose branch is away: nobody can say how it is.

    :param since: when its branch was last known to be there, in words, or None.
    """
    return {
        "state": "lost",
        "pid": None,
        "node": None,
        "started_at": None,
        "is_current": None,
        "is_consuming": None,
        "last_pong": None,
        "failures": None,
        "next_attempt": None,
        "last_exit": None,
        "draining": None,
        "problems": ["its branch is away" + (f" since {since}" if since is not None else "")],
        "progress": None,
        "resources": None,
    }
