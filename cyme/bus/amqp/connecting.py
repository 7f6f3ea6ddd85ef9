"""Keeps a connection: makes it, at one address after the other, and makes it again when it is lost.

Note [Why no ClientService]
~~~~~~~~~~~~~~~~~~~~~~~~~~~
Twisted's `ClientService` knows one endpoint, and leaves a connection open whose preparation fails or
hangs; to close it there confuses the service when it is stopped. Here all of it is one coroutine:
whatever fails, hangs or is stopped, its connection is cut off and the next attempt follows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from cyme.bus.amqp.channel import problem_of
from cyme.seldom import Seldom

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from cyme.bus.amqp.addresses import BusAddress
    from cyme.bus.amqp.session import Session

#: Seconds that a connection lasts of which it is said that it was made; one that is lost sooner is a failure.
LASTING = 10.0
#: Seconds after which the same problem is logged again.
SAID_EVERY = 300.0


class Connecting:
    """The loop that keeps one session.

    :param open: makes a session at an address; cuts off what it began when it fails or is cancelled.
    :param retry_policy: number of rounds that failed in a row -> seconds until the next.
    :param up: called with each session that is prepared; the session counts when that is done.
    :param down: called when it has ended.
    :ivar steps: changes with each attempt and each pause.
    :ivar tried: fires when a session is up, or none could be made at any address.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        addresses: Sequence[BusAddress],
        open: Callable[[BusAddress], Awaitable[Session]],
        retry_policy: Callable[[int], float],
        up: Callable[[Session], Awaitable[None]],
        down: Callable[[Session], None],
    ) -> None:
        self._clock = clock
        self._addresses = addresses
        self._open = open
        self._retry_policy = retry_policy
        self._up = up
        self._down = down
        self._running: Deferred[None] | None = None
        self._said: dict[str, tuple[str, Seldom]] = {}
        self._is_stopped = False
        self.steps = 0
        self.tried: Deferred[None] = Deferred()

    def start(self) -> None:
        """Begin."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._stopped)

    def stop(self) -> None:
        """End whatever is under way; a session that is up is left to the caller."""
        # A coroutine that runs at this moment, and has called who stops it, can't be cancelled.
        self._is_stopped = True
        if self._running is not None:
            self._running.cancel()
        self._have_tried()

    async def _run(self) -> None:
        failures = turn = 0
        while not self._is_over():
            address = self._addresses[turn % len(self._addresses)]
            turn += 1
            lasted = await self._at(address)
            if lasted is not None and lasted >= LASTING:
                failures = 0
            elif turn % len(self._addresses) == 0 or lasted is not None:
                failures += 1
                self._have_tried()
            else:
                # The next address may do: it is tried at once.
                continue
            if self._is_over():
                break
            self.steps += 1
            await deferLater(self._clock, self._retry_policy(failures))

    async def _at(self, address: BusAddress) -> float | None:
        """Have a session at an address: for how many seconds, or None if it could not be made."""
        self.steps += 1
        try:
            session = await self._open(address)
            try:
                began = self._clock.seconds()
                await self._up(session)
                self._said.pop(address.shown, None)
                self._log.info("the branch bus is connected to {broker}", broker=address.shown)
                self._have_tried()
                if self._is_over():
                    return None
                reason = await session.ended
            finally:
                self._down(session)
        except CancelledError:
            raise
        except Exception as problem:
            self._say(address, problem_of(problem))
            return None
        self._log.warn(
            "the branch bus has lost {broker}: {problem}", broker=address.shown, problem=problem_of(reason)
        )
        return self._clock.seconds() - began

    def _say(self, address: BusAddress, problem: str) -> None:
        """Log a problem, unless it was the same a moment ago."""
        before, seldom = self._said.get(address.shown, ("", Seldom(self._clock, SAID_EVERY)))
        if before != problem:
            seldom = Seldom(self._clock, SAID_EVERY)
        self._said[address.shown] = problem, seldom
        if seldom.due():
            self._log.warn(
                "the branch bus can't be reached at {broker}: {problem}; it is tried on and on",
                broker=address.shown,
                problem=problem,
            )

    def _is_over(self) -> bool:
        return self._is_stopped

    def _have_tried(self) -> None:
        if not self.tried.called:
            self.tried.callback(None)

    def _stopped(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("the branch bus has ended", failure)
