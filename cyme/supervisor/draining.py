"""Draining: a worker is emptied before it is stopped, for as long as there is time.

Note [Drain before TERM]
~~~~~~~~~~~~~~~~~~~~~~~~
A worker that got TERM finishes its tasks too, but from then on it answers nothing (failure-modes
F5): nobody could say how far it is. So its consumers are cancelled first, while it still answers,
and it is asked what runs until all that ran at that moment has ended. What it had reserved begins
meanwhile; waiting for that as well could take many times as long as one task, so TERM comes then:
it lets running tasks end and gives reserved ones back to the broker.

A worker that leaves a question unanswered twice gets TERM: it may be a solo worker in the middle of a
task, and nothing is lost by it but the account of its progress.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater
from twisted.logger import Logger

from cyme.errors import BrokerAway
from cyme.supervisor.hearing import consumers_of
from cyme.supervisor.questions import ANSWER_TIMEOUT, first_failure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.interfaces import IRemoteControl
    from cyme.supervisor.tracking import Tracked
    from cyme.supervisor.world import Target

#: How often a question is asked until it is answered: a machine or a broker may be busy for a moment.
ATTEMPTS = 2
#: Seconds between two questions about what runs: short ones first, since most tasks are short.
FIRST_LOOK = 0.05
LONGEST_LOOK = 1.0


@frozen(kw_only=True)
class Draining:
    """How far a worker is that is being stopped warmly.

    :ivar since, deadline: seconds since the epoch.
    :ivar running: tasks that run, as it last said; None while it has said nothing.
    """

    since: float
    deadline: float
    running: int | None = None


class NoAnswer(Exception):
    """A worker left a question unanswered."""


class Drainer:
    """Empties workers, see Note [Drain before TERM]."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, remote: IRemoteControl) -> None:
        self._clock = clock
        self._remote = remote

    async def drain(self, target: Target, tracked: Tracked) -> None:
        """Cancel a worker's consumers and wait for the tasks that run then.

        Returns when they have ended, at the deadline in `tracked.draining`, or when the worker
        can't be asked; then TERM has to do the rest.
        """
        try:
            await self._cancel_consumers(target)
            awaited: frozenset[str] | None = None
            pause = FIRST_LOOK
            while (left := self._seconds_left(tracked)) > 0:
                running = running_of(await self._ask(target, "active"))
                self._note(tracked, len(running))
                awaited = running if awaited is None else awaited & running
                if not awaited:
                    return
                await deferLater(self._clock, min(pause, left))
                pause = min(2 * pause, LONGEST_LOOK)
        except (BrokerAway, NoAnswer) as problem:
            self._log.info("{name} can't be asked while it drains: {why}", name=target.name, why=str(problem))

    async def _cancel_consumers(self, target: Target) -> None:
        consumers = consumers_of(await self._ask(target, "active_queues")) or frozenset()
        await gatherResults(
            [self._send(target, "cancel_consumer", {"queue": queue}) for queue in sorted(consumers)],
            consumeErrors=True,
        ).addErrback(first_failure)

    def _send(self, target: Target, command: str, arguments: dict[str, Any] | None = None) -> Any:
        if target.broker is None:
            raise NoAnswer("its broker is not known")
        return self._remote.ask(target.broker, command, [target.node], arguments, timeout=ANSWER_TIMEOUT)

    async def _ask(self, target: Target, command: str) -> Any:
        for _ in range(ATTEMPTS):
            answers = await self._send(target, command)
            if target.node in answers:
                return answers[target.node]
        raise NoAnswer(f"no answer to {command} within {ANSWER_TIMEOUT:g} s, {ATTEMPTS} times")

    def _seconds_left(self, tracked: Tracked) -> float:
        draining = tracked.draining
        return draining.deadline - self._clock.seconds() if draining is not None else 0.0

    @staticmethod
    def _note(tracked: Tracked, running: int) -> None:
        if tracked.draining is not None:
            tracked.draining = evolve(tracked.draining, running=running)


def running_of(answer: Any) -> frozenset[str]:
    """The ids of the tasks in an answer to `active`."""
    tasks: Sequence[Any] = answer if isinstance(answer, list) else ()
    return frozenset(str(task.get("id")) for task in tasks if isinstance(task, dict))
