"""What is to be done: steps as values, which tests compare and `cyme.supervisor.executing` runs."""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

from cyme.exits import Reason
from cyme.planning.wanted import ConsumedQueue, Desired


@frozen
class Start:
    """Start a worker."""

    desired: Desired


@frozen
class Stop:
    """Stop the worker by the ladder.

    :ivar failed: whether its life counts as one that failed.
    :ivar drains: whether it is emptied first, while it can say how far it is.
    :ivar until: when its tasks must have ended, seconds since the epoch; None for as long as
        every stop may take.
    :ivar dumps: whether its stacks are taken first: it is stopped because nothing moves in it.
    :ivar in_turn: whether it is for a limit: of one app, one worker at a time is replaced so.
    :ivar cause: why, by name, if it does.
    """

    name: str
    reason: str
    failed: bool = False
    drains: bool = True
    until: float | None = None
    dumps: bool = False
    in_turn: bool = False
    cause: Reason = Reason.UNRESPONSIVE


@frozen
class AddConsumer:
    """Have the worker consume from a queue."""

    name: str
    queue: ConsumedQueue


@frozen
class CancelConsumer:
    """Have the worker stop consuming from a queue."""

    name: str
    queue: str


@frozen
class Reconsume:
    """Have the worker cancel its consumers and make them anew: the broker does not know them."""

    name: str
    queues: tuple[ConsumedQueue, ...]


@frozen
class SetAutoscale:
    """Change the range of the worker's pool."""

    name: str
    maximum: int
    minimum: int


@frozen
class CleanUp:
    """Remove what the worker of a deleted instance left: its queue, its folder."""

    name: str


Step: TypeAlias = Start | Stop | AddConsumer | CancelConsumer | Reconsume | SetAutoscale | CleanUp
