"""Claims: who has declared an exclusive queue is the only one that has.

Note [Claims are queues]
~~~~~~~~~~~~~~~~~~~~~~~~
RabbitMQ refuses an exclusive queue that another connection has, with 405 (RESOURCE_LOCKED), and
closes the channel on which it was asked for; so claims have channels of their own, which serve one
question at a time and are used again while they last. To the connection that has the queue a second
declaration is no news: what is held here is remembered here. The queue goes with its connection,
and so does the claim of a branch that dies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredSemaphore, TimeoutError
from txamqp.client import Closed

from cyme.bus.amqp.channel import code_of
from cyme.bus.amqp.topology import claim_of
from cyme.errors import BusAway, NameClaimed

if TYPE_CHECKING:
    from cyme.bus.amqp.session import Session

#: Questions about claims that are under way at the same time; each takes a channel.
ASKED_AT_ONCE = 8
#: The code with which RabbitMQ says that somebody else has an exclusive queue.
LOCKED = 405


class Claims:
    """The claims that are held by way of one session; see Note [Claims are queues]."""

    def __init__(self, session: Session) -> None:
        self._session = session
        # The queue of each claim, and which claim it is: one that was given back stays so.
        self._held: dict[str, object] = {}
        self._idle: list[Any] = []
        self._turns = DeferredSemaphore(ASKED_AT_ONCE)

    def take(self, actor: str, name: str) -> Deferred[Callable[[], Deferred[None]]]:
        """Claim a name; see `IMessageBus.claim`."""
        return Deferred.fromCoroutine(self._take(actor, name))

    async def _take(self, actor: str, name: str) -> Callable[[], Deferred[None]]:
        queue = claim_of(actor, name)
        if queue in self._held:
            raise NameClaimed(actor, name)
        self._held[queue] = claim = object()
        try:
            await self._ask(lambda channel: channel.queue_declare(queue=queue, exclusive=True))
        except BaseException as problem:
            del self._held[queue]
            if code_of(problem) == LOCKED:
                raise NameClaimed(actor, name) from None
            if isinstance(problem, (Closed, TimeoutError)):
                raise BusAway from None
            raise
        return partial(self._release, queue, claim)

    def _release(self, queue: str, claim: object) -> Deferred[None]:
        return Deferred.fromCoroutine(self._give_back(queue, claim))

    async def _give_back(self, queue: str, claim: object) -> None:
        if self._held.get(queue) is not claim:
            return
        try:
            await self._ask(lambda channel: channel.queue_delete(queue=queue))
        except (Closed, TimeoutError):
            pass  # the connection is gone, and the queue with it
        finally:
            if self._held.get(queue) is claim:
                del self._held[queue]

    def _ask(self, ask: Callable[[Any], Deferred[Any]]) -> Deferred[None]:
        return self._turns.run(lambda: Deferred.fromCoroutine(self._ask_now(ask)))

    async def _ask_now(self, ask: Callable[[Any], Deferred[Any]]) -> None:
        session = self._session
        await session.client.when_heeded()
        try:
            channel = self._idle.pop() if self._idle else None
            if channel is None or channel.closed:
                channel = await session.step(Deferred.fromCoroutine(session.client.open_channel(Deaf())))
            await session.step(ask(channel))
        except TimeoutError as problem:
            # Nobody knows what the broker still makes of it; the next connection has no claims.
            session.client.give_up(problem)
            raise
        self._idle.append(channel)


class Deaf:
    """A `client.Listener` for channels on which nothing comes that was not asked for."""

    def delivered(self, message: Any) -> None: ...

    def returned(self, properties: Mapping[str, Any]) -> None: ...

    def confirmed(self, tag: int, multiple: bool, taken: bool) -> None: ...

    def cancelled(self, consumer: str) -> None: ...

    def closed(self, reason: Exception) -> None: ...
