"""Work that any branch may take: one queue for each actor, from which all consume that accept it.

Note [Who would take it]
~~~~~~~~~~~~~~~~~~~~~~~~
A queue without consumers takes messages all the same. So before work is sent its queue is declared
once more, which changes nothing and tells how many consume. If they all leave between the answer and
the message, the message waits no longer than its sender does.

The queue of a cluster may be on a node that is down, or there may be one of the same name that is not
ours. Then there is no such work until that is mended, and all else goes on: the channel is this
module's alone, and is opened again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import Closed

from cyme.bus.amqp.channel import problem_of
from cyme.bus.amqp.mirror import Mirror
from cyme.bus.amqp.topology import WORK, work_queue_of
from cyme.seldom import Seldom

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from cyme.bus.amqp.session import Session

#: Seconds until a channel is opened again that the broker has closed.
AGAIN_AFTER = 5.0
#: Seconds between two lines about that.
SAID_EVERY = 300.0
#: Seconds after which work counts as done that does not say when it is. RabbitMQ itself gives up later.
DONE_WITHIN = 600.0


class Work:
    """Takes work for as long as a session lasts.

    :param accepted: the actors whose work is taken; who changes it calls `changed`.
    :param receive: called with each body, None for what was malformed or too long; the message is
        done when its Deferred fires.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        session: Session,
        accepted: set[str],
        receive: Callable[[bytes | None], Deferred[None]],
    ) -> None:
        self._clock = clock
        self._session = session
        self._accepted = accepted
        self._receive = receive
        self._channel: Any = None
        self._mirror: Mirror[str] | None = None
        self._actors: dict[str, str] = {}
        self._again: IDelayedCall | None = None
        self._lasting: dict[int, IDelayedCall] = {}
        self._is_stopped = False
        self._trouble = Seldom(clock, SAID_EVERY)

    async def open(self) -> None:
        """Open the channel and consume; when that fails it is tried again later."""
        self._again = None
        opening: Deferred[Any] = Deferred.fromCoroutine(self._session.client.open_channel(self))
        try:
            channel = await self._session.step(opening)
            await self._session.step(channel.basic_qos(prefetch_count=1))
        except CancelledError:
            raise
        except Exception as problem:
            self._broken(problem)
            return
        self._channel = channel
        self._mirror = Mirror(self._accepted, self._consume, 1, self._broken)
        await self._mirror.start()

    def changed(self, actor: str) -> None:
        """Whether work for an actor is taken has changed."""
        if self._mirror is not None:
            self._mirror.changed(actor)

    async def settled(self) -> None:
        """Wait until what has changed holds."""
        if self._mirror is not None:
            await self._mirror.settled()

    async def consumers(self, actor: str) -> int:
        """How many take work for an actor now.

        :raises Closed: when there is no channel now, or the broker refuses.
        :raises TimeoutError: when it does not answer.
        """
        if self._channel is None:
            raise Closed("there is no channel for work now")
        declared = await self._session.step(self._declare(actor))
        return int(declared.consumer_count)

    def stop(self) -> None:
        """Take nothing any more; what is not done goes to others once the connection ends."""
        self._is_stopped = True
        self._stop_clocks()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._mirror is not None:
            self._mirror.stop()

    # -- inside -----------------------------------------------------------------------

    def _declare(self, actor: str) -> Deferred[Any]:
        declared: Deferred[Any] = self._channel.queue_declare(
            queue=work_queue_of(actor), durable=True, arguments=WORK
        )
        return declared

    async def _consume(self, steps: Sequence[tuple[str, bool]]) -> None:
        await self._session.client.when_heeded()
        channel = self._channel
        for actor, wanted in steps:
            tag = work_queue_of(actor)
            if wanted:
                self._actors[tag] = actor
                await self._session.step(self._declare(actor))
                await self._session.step(channel.basic_consume(queue=tag, consumer_tag=tag))
            else:
                await self._session.step(channel.basic_cancel(consumer_tag=tag))

    def _broken(self, problem: Exception) -> None:
        """Begin anew, after a pause."""
        channel, self._channel = self._channel, None
        self._stop_clocks()
        self._lasting.clear()
        if self._mirror is not None:
            self._mirror.stop()
            self._mirror = None
        if channel is not None:
            channel.leave()
        if self._is_stopped or self._session.client.closed or self._again is not None:
            return
        if self._trouble.due():
            self._log.warn(
                "work that any branch may take is not taken now; it is tried on and on: {problem}",
                problem=problem_of(problem),
            )
        self._again = self._clock.callLater(AGAIN_AFTER, self._reopen)

    def _acknowledge(self, channel: Any, tag: int) -> None:
        """Have the broker forget a message and send the next."""
        lasting = self._lasting.pop(tag)
        if lasting.active():
            lasting.cancel()
        if not channel.closed:
            channel.basic_ack(delivery_tag=tag)

    def _overdue(self, channel: Any, tag: int) -> None:
        """Work goes on for too long: it is not given to anybody else, for nobody waits for it any more."""
        self._log.warn("work takes over {seconds:g} s; more is taken", seconds=DONE_WITHIN)
        self._acknowledge(channel, tag)

    def _stop_clocks(self) -> None:
        for lasting in self._lasting.values():
            if lasting.active():
                lasting.cancel()

    def _reopen(self) -> None:
        Deferred.fromCoroutine(self.open()).addErrback(
            lambda failure: self._log.failure("work can't be taken", failure)
        )

    # -- what comes, see `channel.Listener` ------------------------------------------------

    def delivered(self, message: Any) -> None:
        actor = self._actors.get(message.consumer_tag)
        channel, tag = self._channel, message.delivery_tag
        if channel is None or self._is_stopped:
            # It goes to others once the connection ends.
            return
        if actor is None or actor not in self._accepted:
            # It came before the broker knew.
            channel.basic_reject(delivery_tag=tag, requeue=True)
            return
        content = message.content
        lasting = self._lasting[tag] = self._clock.callLater(DONE_WITHIN, self._overdue, channel, tag)

        def done(result: object) -> None:
            if isinstance(result, Failure):
                self._log.failure("work was not handled", result)
            # Of another channel this number means another message.
            if self._lasting.get(tag) is lasting:
                self._acknowledge(channel, tag)

        maybeDeferred(self._receive, None if content is None else content.body).addBoth(done)

    def returned(self, properties: Mapping[str, Any]) -> None:
        """Nothing is published on this channel."""

    def confirmed(self, tag: int, multiple: bool, taken: bool) -> None:
        """Nothing is published on this channel."""

    def cancelled(self, consumer: str) -> None:
        self._broken(ConnectionError(f"the queue {consumer} was deleted"))

    def closed(self, reason: Exception) -> None:
        self._broken(reason)
