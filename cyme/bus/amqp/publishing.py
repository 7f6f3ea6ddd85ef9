"""Publishing with confirmation: a Deferred for each message, which says what became of it.

Note [What becomes of a message]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
The broker numbers what is published on a channel, and confirms by number, several at once if it
likes. A mandatory message that no queue takes comes back first, with its properties, and is then
confirmed like any other: so the number travels as the message's id. What is not confirmed when the
connection ends may have arrived or not; it is failed and never sent again, for nothing may run twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.internet.defer import Deferred, fail
from txamqp.content import Content

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds that the broker has to confirm a message.
CONFIRM_WITHIN = 10.0
#: Seconds between two looks for what is not confirmed, at least.
LOOK_EVERY = 0.1
#: Messages that are on their way at the same time, and bytes of their bodies.
SENDING_MOST = 10_000
SENDING_BYTES_MOST = 64 * 1024 * 1024
#: The longest time to live of a message that RabbitMQ takes, in milliseconds.
EXPIRATION_MOST = (1 << 32) - 1


class Unrouted(Exception):
    """No queue took the message."""


class Unpublished(Exception):
    """The broker did not take the message, or did not say so."""


class Unsettled(Unpublished):
    """The message was sent, and the broker did not say what became of it."""


class Overfull(Unpublished):
    """A queue has too many messages already."""


@frozen
class _Sending:
    """A message on its way."""

    done: Deferred[None]
    size: int
    deadline: float


class Publisher:
    """Publishes on a channel that is in confirm mode.

    :param channel: whose listener hands on `returned`, `confirmed` and `closed`.
    :ivar settled: of how many messages it is known what became of them.
    """

    def __init__(self, clock: IReactorTime, channel: Any) -> None:
        self._clock = clock
        self._channel = channel
        self._sending: OrderedDict[int, _Sending] = OrderedDict()
        self._bytes = 0
        self._number = 0
        self._look: IDelayedCall | None = None
        self.settled = 0

    def __len__(self) -> int:
        """How many messages are on their way."""
        return len(self._sending)

    def publish(
        self, exchange: str, routing_key: str, body: bytes, *, expires: float, mandatory: bool
    ) -> Deferred[None]:
        """Publish a message.

        :param expires: seconds for which it may wait in a queue.
        :return: fires when a queue has it; fails with `Unrouted` when none takes a mandatory
            message, with `Unpublished` when the broker does not confirm it, and with
            `Unencodable` when the names have no bytes.
        """
        if len(self._sending) >= SENDING_MOST or self._bytes + len(body) > SENDING_BYTES_MOST:
            return fail(Unpublished("too much is on its way already"))
        number = self._number + 1
        properties = {"message-id": str(number), "expiration": expiration(expires), "delivery-mode": 1}
        sent: Deferred[None] = self._channel.basic_publish(
            exchange=exchange,
            routing_key=routing_key,
            mandatory=mandatory,
            content=Content(body, properties=properties),
        )
        failures: list[Any] = []
        sent.addErrback(failures.append)
        if failures:
            return fail(failures[0])
        done: Deferred[None] = Deferred()
        self._number = number
        self._sending[number] = _Sending(done, len(body), self._clock.seconds() + CONFIRM_WITHIN)
        self._bytes += len(body)
        if self._look is None:
            self._look = self._clock.callLater(CONFIRM_WITHIN, self._expire)
        return done

    def returned(self, properties: Mapping[str, Any]) -> None:
        """A message came back."""
        number = str(properties.get("message-id", ""))
        if number.isdecimal():
            self._settle(int(number), Unrouted())

    def confirmed(self, tag: int, multiple: bool, taken: bool) -> None:
        """The broker confirms or refuses messages."""
        problem = None if taken else Overfull("the broker refused it")
        if not multiple:
            self._settle(tag, problem)
            return
        while self._sending and (number := next(iter(self._sending))) <= tag:
            self._settle(number, problem)

    def closed(self) -> None:
        """The channel is closed: nobody will know what became of the rest."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        for number in list(self._sending):
            self._settle(number, Unsettled("the connection was lost"))

    def _settle(self, number: int, problem: Exception | None) -> None:
        sending = self._sending.pop(number, None)
        if sending is None:
            return
        self.settled += 1
        self._bytes -= sending.size
        # Who sent it may have given up.
        if sending.done.called:
            return
        if problem is None:
            sending.done.callback(None)
        else:
            sending.done.errback(problem)

    def _expire(self) -> None:
        """Fail what was not confirmed in time."""
        self._look = None
        now = self._clock.seconds()
        while self._sending:
            number, sending = next(iter(self._sending.items()))
            if sending.deadline > now:
                self._look = self._clock.callLater(max(sending.deadline - now, LOOK_EVERY), self._expire)
                return
            self._settle(number, Unsettled("the broker did not confirm it in time"))


def expiration(seconds: float) -> str:
    """A message's time to live as AMQP has it."""
    return str(max(1, min(round(seconds * 1000), EXPIRATION_MOST)))
