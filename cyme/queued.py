"""What is queued as a task, and what is known of it afterwards: values, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from attrs import field, frozen

from cyme.planning import ConsumedQueue


class TaskState(str, Enum):
    """How far a task is, in Celery's words."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"

    @property
    def is_final(self) -> bool:
        """Whether a task never leaves this state."""
        return self in FINAL


#: The states that a task never leaves.
FINAL = frozenset({TaskState.SUCCESS, TaskState.FAILURE, TaskState.REVOKED})


@frozen(kw_only=True)
class TaskMessage:
    """A task as somebody asks for it.

    :ivar app: the app, within which deduplication ids count.
    :ivar queue: where it goes, with what is needed to make that queue where it is missing.
    :ivar task: Celery's name of the task.
    :ivar args: its arguments, JSON-able; so `kwargs`.
    :ivar eta: not before this time, in seconds since the epoch.
    :ivar expires: not after this time, in seconds since the epoch.
    :ivar priority: as the broker takes it, 0 to 255.
    :ivar deduplication_id: of those with the same one within a day only the first is queued.
    """

    app: str
    queue: ConsumedQueue
    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(factory=dict)
    eta: float | None = None
    expires: float | None = None
    priority: int | None = None
    deduplication_id: str | None = None


@frozen(kw_only=True)
class TaskError:
    """Why a task failed.

    :ivar type: the class of its exception, without its module.
    """

    type: str
    message: str


@frozen(kw_only=True)
class TaskStatus:
    """What is known of a task.

    :ivar queue: the name of the queue that it was sent to.
    :ivar result: what it returned, as JSON has it; None while there is nothing.
    :ivar error: of a task that failed, or that is to be tried again.
    :ivar created_at: when it was queued, seconds since the epoch; so the others.
    :ivar finished_at: when its state became final here, or None.
    """

    id: str
    app: str
    queue: str
    state: TaskState
    created_at: float
    result: Any = None
    error: TaskError | None = None
    finished_at: float | None = None


# -- what is written down, see Note [What survives] in `cyme.gateway.ledger` --------------------


@frozen
class Issued:
    """A task is queued, or about to be.

    :ivar expires_at: until when it is kept while nothing is heard of it.
    :ivar is_new: whether its id was made just now, so that it can't be known already.
    """

    id: str
    app: str
    queue: str
    created_at: float
    expires_at: float
    is_new: bool = False


@frozen
class Outcome:
    """A task's state became another.

    :ivar text: JSON text of `{"result": ..., "error": {"type", "message"} or null}`, or None.
    :ivar at: when this was heard.
    :ivar expires_at: until when that is kept; None where it is kept no longer than before.
    """

    id: str
    state: TaskState
    text: str | None
    at: float
    expires_at: float | None = None


@frozen
class Withdrawn:
    """A task was not queued after all, and is not held."""

    id: str


@frozen
class Confirmed:
    """The task of a claim was queued."""

    app: str
    deduplication_id: str
    task_id: str


# -- see Note [Held tasks] in `cyme.gateway.holding` ---------------------------------------------


@frozen(kw_only=True)
class Held:
    """A task that is put off: its whole message, and when it is to be published.

    :ivar branch: the id of the branch that holds it.
    :ivar due_at: not before this time, in seconds since the epoch; `expires` as in `TaskMessage`.
    :ivar body: JSON text in ASCII.
    """

    id: str
    branch: str
    app: str
    due_at: float
    queue: ConsumedQueue
    task: str
    priority: int | None
    expires: float | None
    body: bytes


@frozen
class Postponed:
    """A task that is held could not be published, and is due again later."""

    id: str
    due_at: float


@frozen
class Released:
    """A task is not held any more: it was published, or it never will be.

    :ivar expires_at: until when it is kept at least while nothing is heard of it.
    """

    id: str
    expires_at: float = 0.0


@frozen(kw_only=True)
class Due:
    """Which of the tasks that are held are due.

    :ivar tasks: those of which nothing was heard yet, the soonest first.
    :ivar settled: the ids of those that are not to be published any more: they were revoked, have begun
        or have ended, or are no tasks any more.
    :ivar next_at: when the next one is due, where there is none in `tasks` and `settled`; None for never.
    :ivar next_left_out: likewise, of those that were left out.
    """

    tasks: tuple[Held, ...] = ()
    settled: tuple[str, ...] = ()
    next_at: float | None = None
    next_left_out: float | None = None


TaskChange = Issued | Outcome | Withdrawn | Confirmed | Held | Postponed | Released


@frozen(kw_only=True)
class Claim:
    """Which task has a deduplication id.

    :ivar until: how long it may keep it, seconds since the epoch.
    :ivar is_confirmed: whether the task was queued for sure.
    """

    app: str
    deduplication_id: str
    task_id: str
    until: float
    is_confirmed: bool = False
