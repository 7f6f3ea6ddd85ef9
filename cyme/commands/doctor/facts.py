"""What was found out about a cluster, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

#: The transports by which RabbitMQ is spoken to.
AMQP = frozenset({"amqp", "amqps", "pyamqp"})


@frozen(kw_only=True)
class Clock:
    """How far a branch's clock is off.

    :ivar skew: seconds ahead of the others (behind, if negative); None when it could not be asked.
    :ivar error: seconds by which that may be wrong.
    """

    branch: str
    skew: float | None = None
    error: float = 0.0
    problem: str | None = None


@frozen(kw_only=True)
class BrokerFacts:
    """A broker, asked from here.

    :ivar url: without its password.
    :ivar problem: why it could not be asked, None when it could.
    :ivar is_hidden: whether it could not be asked since its password is not shown to this token.
    :ivar alarm: of RabbitMQ, why it takes no messages now; None if it does.
    :ivar settings: of Redis, what matters of its configuration.
    """

    url: str
    transport: str
    product: str | None = None
    version: str | None = None
    problem: str | None = None
    is_hidden: bool = False
    alarm: str | None = None
    settings: Mapping[str, str] = field(factory=dict)


@frozen(kw_only=True)
class FolderFacts:
    """A branch's root folder on this machine.

    :ivar mode: the permission bits.
    :ivar pid: of the branch that holds it, None when none does.
    :ivar files_limit: how many files that may have open (soft limit), and how many it has.
    """

    path: str
    exists: bool = True
    is_folder: bool = True
    writable: bool = True
    mode: int = 0o700
    free: int | None = None
    free_inodes: float | None = None
    pid: int | None = None
    files_limit: int | None = None
    files_open: int | None = None


@frozen(kw_only=True)
class Facts:
    """Everything.

    :ivar version: this program's.
    :ivar away: what the branch that was asked says is away.
    :ivar queues: (app, declaration).
    """

    version: str
    url: str
    away: Mapping[str, str] = field(factory=dict)
    branches: Sequence[Mapping[str, Any]] = ()
    missing: Sequence[str] = ()
    clocks: Sequence[Clock] = ()
    apps: Sequence[Mapping[str, Any]] = ()
    instances: Sequence[Mapping[str, Any]] = ()
    queues: Sequence[tuple[str, Mapping[str, Any]]] = ()
    brokers: Sequence[BrokerFacts] = ()
    folders: Sequence[FolderFacts] = ()
