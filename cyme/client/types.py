"""The JSON that branches answer with, as types: nothing is converted; keys that a later branch adds stay."""

from __future__ import annotations

from typing import Any, TypedDict


class Broker(TypedDict, total=False):
    """Where workers take their tasks from; `password` is missing or null where it may not be seen."""

    hostname: str | None
    port: int | None
    userid: str | None
    password: str | None
    virtual_host: str | None
    transport: str
    url: str


class AppInfo(TypedDict, total=False):
    """The configuration of an app."""

    name: str
    broker: Broker
    celery_app: str | None
    pool: str | None
    arguments: str | None
    extra_config: str | None
    max_memory: int | None
    max_age: float | None
    stall_timeout: float | None


class InstanceInfo(TypedDict, total=False):
    """An instance: how it is declared, and how it is."""

    name: str
    app: str
    branch: str | None
    moving_to: str | None
    labels: list[str]
    is_enabled: bool
    queues: list[str]
    broker: Broker
    max_concurrency: int
    min_concurrency: int
    pool: str | None
    arguments: str | None
    extra_config: str | None
    celery_app: str | None
    max_memory: int | None
    max_age: float | None
    stall_timeout: float | None
    state: str
    pid: int | None
    node: str | None
    started_at: float | None
    is_current: bool | None
    is_consuming: bool | None
    last_pong: float | None
    failures: int | None
    next_attempt: float | None
    last_exit: dict[str, Any] | None
    draining: dict[str, Any] | None
    problems: list[str]
    resources: dict[str, Any] | None


class InstanceGlance(TypedDict, total=False):
    """An instance in a list: in short how it is declared, and how it is; `rss` is in bytes."""

    name: str
    app: str
    branch: str
    moving_to: str | None
    is_enabled: bool
    queues: list[str]
    max_concurrency: int
    min_concurrency: int
    state: str
    pid: int | None
    started_at: float | None
    is_current: bool | None
    is_consuming: bool | None
    failures: int | None
    next_attempt: float | None
    draining: dict[str, Any] | None
    problems: list[str]
    rss: int | None
    processes: int | None
    last_exit: dict[str, Any] | None
    last_event: dict[str, Any] | None


class QueueInfo(TypedDict, total=False):
    """The declaration of a queue, and what its broker counts: null where it can't."""

    name: str
    exchange: str | None
    exchange_type: str | None
    routing_key: str | None
    options: dict[str, Any] | None
    effective: dict[str, str]
    paused: bool
    messages: int | None
    consumers: int | None
    declaration: str


class BranchInfo(TypedDict, total=False):
    """A branch: where it is, how it is, and what was asked of it."""

    id: str
    url: str | None
    port: int | None
    loglevel: str
    logfile: str | None
    sup_interval: float
    numc: int
    version: str
    labels: dict[str, str]
    cpus: int
    instances: int
    load_average: list[float] | None
    disk_use: float | None
    is_cordoned: bool
    draining: dict[str, Any] | None


class Autoscale(TypedDict):
    """The bounds of a pool."""

    max: int
    min: int


class Event(TypedDict, total=False):
    """One thing that happened; `at` is in seconds since the epoch."""

    id: int
    at: float
    branch: str
    app: str | None
    instance: str | None
    kind: str
    who: str
    details: dict[str, Any]


class Outcome(TypedDict, total=False):
    """What came of a task; `result` is null while there is none."""

    uuid: str
    state: str
    result: Any
    error: Any


class Rollout(TypedDict, total=False):
    """A rolling restart; `state` is `running`, `finished` or `halted`."""

    id: str
    state: str
    waiting: list[str]
    halted: Any


class StartParameters(TypedDict, total=False):
    """How workers are started: of an app for all of its instances, of an instance for itself.

    `broker` is a URL as Celery has them, and stands in place of the five before it; `max_memory` is a number
    of bytes, or text such as `1.5G`; `max_age` and `stall_timeout` are in seconds, 0 for no limit.
    """

    hostname: str
    port: int
    userid: str
    password: str
    virtual_host: str
    broker: str | None
    celery_app: str
    pool: str
    arguments: str
    extra_config: str
    max_memory: int | str
    max_age: float
    stall_timeout: float


class InstanceParameters(StartParameters, total=False):
    """What an instance is created with, or changed to but for `branch`, `placement` and `label`."""

    branch: str
    placement: str
    label: list[str]
    is_enabled: bool
    max_concurrency: int
    min_concurrency: int
    queues: list[str]


class QueueingParameters(TypedDict, total=False):
    """How a request is made as a task: seconds, numbers of attempts, and URLs that are told of its end.

    Of requests of an app with one `deduplication_id` within a day only the first is made.
    """

    timeout: float
    retries: int
    delay: float
    deduplication_id: str
    callback: str
    failure_callback: str


class SendingParameters(TypedDict, total=False):
    """How a named task is sent, as Celery has it; times are ISO 8601."""

    queue: str
    countdown: float
    eta: str
    expires: float | str
    priority: int
