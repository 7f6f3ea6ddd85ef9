"""The supervisor's conversations with workers: the ping ladder and the round.

A *round* asks all of a broker's workers with one broadcast for each question, however many
they are. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import FirstError, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyme.errors import BrokerAway

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from cyme.interfaces import IRemoteControl
    from cyme.planning import Desired

#: How long an answer is waited for (requirements R84), in seconds.
ANSWER_TIMEOUT = 3.0


def ping_timeouts(first: float = 0.1, step: float = 0.4, most: float = 1.0) -> Iterator[float]:
    """The ladder of the product document: 0.1, 0.5, 0.9, then 1 s without end."""
    current = first
    while True:
        yield round(min(current, most), 3)
        current += step


class Questions:
    """Asks workers over their brokers."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, remote: IRemoteControl) -> None:
        self._clock = clock
        self._remote = remote

    async def climb(self, desired: Desired) -> None:
        """Ping a worker that was just started until it answers (requirements R47).

        Has no end of its own: whoever started it cancels it when the process is gone.
        While the broker is away there is nobody to ask, so each rung is waited out.
        """
        for timeout in ping_timeouts():
            self._log.info(
                "{{Supervisor}} {name} pingWithTimeout: {timeout}", name=desired.name, timeout=timeout
            )
            try:
                answers = await self._remote.ask(desired.broker, "ping", [desired.node], timeout=timeout)
            except BrokerAway:
                await deferLater(self._clock, timeout)
                continue
            if desired.node in answers:
                return

    async def round(self, broker: str, questions: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        """The answers to each of several questions, all asked at the same time.

        :param questions: command -> the nodes that are asked; nobody is asked on behalf of none.
        :raises BrokerAway: when the broker can't be reached.
        """
        asked: list[Deferred[dict[str, Any]]] = [
            self._remote.ask(broker, command, nodes, timeout=ANSWER_TIMEOUT) if nodes else succeed({})
            for command, nodes in questions.items()
        ]
        return await gatherResults(asked, consumeErrors=True).addErrback(first_failure)

    def wake(self, broker: str, node: str) -> None:
        """Send a ping that nobody waits for.

        An idle worker that was told to stop notices it at its next event: a ping cuts
        the stop of a prefork worker from 3 s to 1.7 s (probes.md, "Workers").
        """
        asked = self._remote.ask(broker, "ping", [node], timeout=0.1)
        asked.addErrback(lambda failure: self._log.debug("no wake-up ping: {why}", why=failure.value))


def first_failure(failure: Failure) -> Failure:
    """Unwrap what `gatherResults` put around the first failure."""
    if isinstance(failure.value, FirstError):
        return failure.value.subFailure
    return failure
