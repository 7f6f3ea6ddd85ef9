"""One connection, prepared: the inbox is there, all that is owned is bound to it, and it is consumed.

Note [One channel]
~~~~~~~~~~~~~~~~~~
What is declared, bound, published and received goes over one channel, in the order in which it was
asked for: who owns a name, and then sends to it, reaches itself. Whatever the broker refuses on it ends
the session, and the next one begins anew, with everything. Only work that any branch may take has a
channel of its own, see `work`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from cyme.bus.amqp.claims import Claims
from cyme.bus.amqp.mirror import Mirror
from cyme.bus.amqp.publishing import Publisher
from cyme.bus.amqp.topology import EVERYBODY, INBOX, exchange_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.bus.amqp.client import Client

T = TypeVar("T")

#: An actor, and a name of it.
Owned = tuple[str, str]

#: Seconds that the broker has for each step; thousands of bindings are many steps.
STEP_WITHIN = 10.0
#: Bindings that are one step.
BINDINGS_AT_ONCE = 500
#: Seconds that a connection has to be closed in good order.
CLOSE_WITHIN = 2.0


class Session:
    """A connection, from the end of its handshake to its own end.

    :param owned: what is to be bound; who changes it tells `bindings`.
    :param receive: called with each body, None for what was malformed or too long.
    :ivar claims: the claims that are held as long as it lasts.
    :ivar ended: fires with the reason when nothing comes or goes any more.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        client: Client,
        inbox: str,
        owned: set[Owned],
        receive: Callable[[bytes | None], object],
    ) -> None:
        self._clock = clock
        self._receive = receive
        self._channel: Any = None
        self._publisher: Publisher | None = None
        self._declared: set[str] = set()
        self.client = client
        self.inbox = inbox
        self.bindings: Mirror[Owned] = Mirror(owned, self._bind, BINDINGS_AT_ONCE, client.give_up)
        self._owned = owned
        self.claims = Claims(self)
        self.ended: Deferred[Exception] = Deferred()

    async def prepare(self) -> None:
        """Declare and bind everything, so that messages can be sent; see `consume`.

        :raises Closed: when the broker refuses, or goes away.
        :raises TimeoutError: when it does not answer.
        """
        opening: Deferred[Any] = Deferred.fromCoroutine(self.client.open_channel(self))
        self._channel = channel = await self.step(opening)
        self._publisher = Publisher(self._clock, channel)
        await self.step(channel.confirm_select())
        await self.step(channel.exchange_declare(exchange=EVERYBODY, type="fanout", durable=True))
        for actor in sorted({actor for actor, _ in self._owned}):
            await self.step(self._declare(actor, nowait=False))
        await self.step(channel.queue_declare(queue=self.inbox, exclusive=True, arguments=INBOX))
        await self.step(channel.queue_bind(queue=self.inbox, exchange=EVERYBODY))
        await self.bindings.start()
        if self.client.closed:
            raise channel.reason

    async def consume(self) -> None:
        """Have what is in the inbox delivered, once answers can be sent; raises what `prepare` does."""
        await self.step(self._channel.basic_consume(queue=self.inbox, no_ack=True))

    def step(self, waiting: Deferred[T]) -> Deferred[T]:
        """Wait for an answer of the broker no longer than for one step."""
        return waiting.addTimeout(STEP_WITHIN, self._clock)

    async def close(self) -> None:
        """Let go of everything, then disconnect; never fails."""
        self.bindings.stop()
        goodbye = Deferred.fromCoroutine(self.client.goodbye())
        try:
            await goodbye.addTimeout(CLOSE_WITHIN, self._clock)
        except Exception as problem:
            self._log.debug("the connection was not closed in good order: {problem!r}", problem=problem)
            self.client.give_up(problem)

    # -- sending ----------------------------------------------------------------------

    def publish(
        self, exchange: str, key: str, body: bytes, expires: float, mandatory: bool
    ) -> Deferred[None]:
        """Publish a message, see `Publisher.publish`."""
        assert self._publisher is not None
        return self._publisher.publish(exchange, key, body, expires=expires, mandatory=mandatory)

    def to_owner(self, actor: str, name: str, body: bytes, expires: float) -> Deferred[None]:
        """Publish a message for who owns a name."""
        if actor not in self._declared:
            # An exchange that is not there would close the channel.
            self._declare(actor, nowait=True)
        return self.publish(exchange_of(actor), name, body, expires, True)

    @property
    def sending(self) -> int:
        """How many messages are on their way."""
        return 0 if self._publisher is None else len(self._publisher)

    @property
    def settled(self) -> int:
        """Of how many messages it is known what became of them."""
        return 0 if self._publisher is None else self._publisher.settled

    # -- binding ----------------------------------------------------------------------

    def _declare(self, actor: str, nowait: bool) -> Deferred[Any]:
        self._declared.add(actor)
        declared: Deferred[Any] = self._channel.exchange_declare(
            exchange=exchange_of(actor), type="direct", durable=True, nowait=nowait
        )
        return declared

    async def _bind(self, steps: Sequence[tuple[Owned, bool]]) -> None:
        """Bind and unbind names, and wait for the last answer: that comes after all others."""
        await self.client.when_heeded()
        for actor in sorted({actor for (actor, _), _ in steps} - self._declared):
            self._declare(actor, nowait=True)
        last = len(steps) - 1
        for number, ((actor, name), wanted) in enumerate(steps):
            key = {"queue": self.inbox, "exchange": exchange_of(actor), "routing_key": name}
            if wanted:
                answer = self._channel.queue_bind(**key, nowait=number != last)
            else:
                answer = self._channel.queue_unbind(**key)
            if number == last:
                await self.step(answer)
            else:
                answer.addErrback(lambda _: None)

    # -- what comes, see `channel.Listener` ------------------------------------------------

    def delivered(self, message: Any) -> None:
        self._receive(None if message.content is None else message.content.body)

    def returned(self, properties: Mapping[str, Any]) -> None:
        if self._publisher is not None:
            self._publisher.returned(properties)

    def confirmed(self, tag: int, multiple: bool, taken: bool) -> None:
        if self._publisher is not None:
            self._publisher.confirmed(tag, multiple, taken)

    def cancelled(self, consumer: str) -> None:
        """Somebody deleted the inbox, with all its bindings."""
        self.client.give_up(ConnectionError("the inbox was deleted"))

    def closed(self, reason: Exception) -> None:
        self.bindings.stop()
        if self._publisher is not None:
            self._publisher.closed()
        self.client.give_up(reason)
        if not self.ended.called:
            self.ended.callback(reason)
