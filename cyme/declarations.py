"""What users declare, as frozen values: apps, queues, instances, rollouts, branches, and their versions.

These are what the catalogue holds, the store keeps and branches exchange. They
are pure data: no database session, no process and no message hides behind one.
"""

from __future__ import annotations

from typing import ClassVar, TypeAlias

from attrs import frozen

#: Milliseconds fill the upper bits of a stamp, a counter these lower ones.
COUNTER_BITS = 16


@frozen(order=True)
class Version:
    """When a declaration was written, so that of two the later one wins everywhere.

    :ivar stamp: a hybrid clock: milliseconds since the epoch, shifted by
        `COUNTER_BITS`, plus a counter that keeps it growing on one branch.
    :ivar branch: the id of the branch that wrote it; decides between equal stamps.
    """

    stamp: int
    branch: str


#: The version of what was never written: lower than every other.
NEVER = Version(0, "")


@frozen(kw_only=True)
class App:
    """An application: the default broker and start arguments of its instances.

    :ivar broker: the broker's URL, or None for the branch's default broker.
    :ivar celery_app: what `celery -A` takes, or None for Cyme's own webhook app.
    :ivar pool: the name of a Celery pool, or None for prefork.
    :ivar arguments: more `celery worker` arguments, with shell quoting.
    :ivar extra_config: `key=value` settings separated by white space, with shell quoting.
    :ivar max_memory: bytes of memory of a worker's whole tree, above which it is replaced.
    :ivar max_age: seconds after which a worker is replaced.
    :ivar stall_timeout: seconds that reserved work may wait without progress before the
        worker counts as stalled. None, of all three, means that there is no such limit.
    """

    kind: ClassVar[str] = "app"

    name: str
    broker: str | None = None
    celery_app: str | None = None
    pool: str | None = None
    arguments: str | None = None
    extra_config: str | None = None
    max_memory: int | None = None
    max_age: float | None = None
    stall_timeout: float | None = None
    version: Version = NEVER
    deleted: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        return (self.name,)


@frozen(kw_only=True)
class Queue:
    """A queue declaration of one app; None means "not given" (requirements T7).

    :ivar options: the JSON text of an object with the option names of
        `kombu.utils.compat.entry_to_queue`, or None.
    :ivar paused: whether nobody is to consume from it for now.
    """

    kind: ClassVar[str] = "queue"

    app: str
    name: str
    exchange: str | None = None
    exchange_type: str | None = None
    routing_key: str | None = None
    options: str | None = None
    paused: bool = False
    version: Version = NEVER
    deleted: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        return (self.app, self.name)


@frozen(kw_only=True)
class Instance:
    """A Celery worker instance, its owner and what it consumes from.

    :ivar branch: the id of the branch that owns it: the only one that writes it, starts and stops it.
    :ivar moving_to: the id of the branch that it is being moved to, which starts a worker of its own
        before this one is stopped (Note [Moves] in `cyme.controller.moving`); else None.
    :ivar labels: `NAME=VALUE`, which every branch has to have that it is placed on.
    :ivar queues: names of queue declarations of its app; its private queue
        `dq.NAME` is not among them.
    :ivar broker: overrides its app's broker; so do `celery_app`, `pool`,
        `arguments`, `extra_config`, `max_memory`, `max_age` and `stall_timeout` their
        namesakes. None means "as the app has it".
        In a tombstone, the broker that its worker used (see `cyme.supervisor`).
    :ivar generation: counts the restarts that users asked for: a restart is a
        change of the declaration, and so survives a crash of the branch.
    :ivar drain_until: until when its worker, which is to stop, may finish its tasks, in seconds
        since the epoch; None for as long as every stop may take.
    :ivar created_at: seconds since the epoch.
    """

    kind: ClassVar[str] = "instance"

    name: str
    app: str
    branch: str
    is_enabled: bool = True
    queues: tuple[str, ...] = ()
    max_concurrency: int = 1
    min_concurrency: int = 1
    broker: str | None = None
    celery_app: str | None = None
    pool: str | None = None
    arguments: str | None = None
    extra_config: str | None = None
    max_memory: int | None = None
    max_age: float | None = None
    stall_timeout: float | None = None
    generation: int = 0
    drain_until: float | None = None
    created_at: float = 0.0
    moving_to: str | None = None
    labels: tuple[str, ...] = ()
    version: Version = NEVER
    deleted: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        return (self.name,)


@frozen
class Turn:
    """One instance's turn in a rollout.

    :ivar generation: what its worker is to have been started with.
    :ivar began_at: seconds since the epoch.
    """

    name: str
    generation: int
    began_at: float


@frozen(kw_only=True)
class Rollout:
    """The last rolling restart of an app, and how far it has come; one for each app.

    Every name of an instance stands in one of `waiting`, `under_way`, `done` and `skipped`.

    :ivar id: tells one rolling restart of the app from the next.
    :ivar branch: the id of the branch that coordinates it.
    :ivar parallel: the most instances that are under way at a time.
    :ivar timeout: seconds within which an instance must be back.
    :ivar asked_by: who asked for it, as in the why-log; `asked_at`, like all times, in seconds
        since the epoch.
    :ivar skipped: name and why, of those that could not be restarted.
    :ivar halted: why it was given up, or None.
    :ivar ended_at: when it finished, halted or was called off; None while it runs.
    """

    kind: ClassVar[str] = "rollout"

    app: str
    id: str
    branch: str
    parallel: int = 1
    timeout: float = 180.0
    asked_by: str = ""
    asked_at: float = 0.0
    waiting: tuple[str, ...] = ()
    under_way: tuple[Turn, ...] = ()
    done: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    halted: str | None = None
    ended_at: float | None = None
    version: Version = NEVER
    deleted: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        return (self.app,)

    @property
    def is_running(self) -> bool:
        """Whether more is to be done."""
        return self.ended_at is None and not self.deleted


@frozen(kw_only=True)
class BranchState:
    """What was asked of a branch and holds also while it is away.

    :ivar is_cordoned: whether it takes no new instances.
    :ivar draining_since: since when its instances are to be moved to other branches, seconds since
        the epoch; None when they are to stay. `drained_at` is when none was left, or None.
    :ivar moved: the instances that the drain has moved, each with the branch that got it.
    :ivar problem: why the drain does not get on, or None.
    """

    kind: ClassVar[str] = "branch"

    name: str
    is_cordoned: bool = False
    draining_since: float | None = None
    drained_at: float | None = None
    moved: tuple[tuple[str, str], ...] = ()
    problem: str | None = None
    version: Version = NEVER
    deleted: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def is_draining(self) -> bool:
        """Whether its instances are to be moved."""
        return self.draining_since is not None and not self.deleted


Declaration: TypeAlias = App | Queue | Instance | Rollout | BranchState
