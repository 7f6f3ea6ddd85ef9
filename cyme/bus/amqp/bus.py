"""The bus between branches, over RabbitMQ: what is bound is alive.

Each branch has an inbox, bound to the exchange of each actor with the names that it owns. So a message
for a name takes one hop, and comes back at once the moment nobody owns the name. What is published and
not confirmed when the connection ends is failed, never sent again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from twisted.internet.defer import Deferred, TimeoutError, fail, maybeDeferred, succeed
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import Closed
from zope.interface import implementer

from cyme.bus.amqp.addresses import CONNECT_WITHIN, BusAddress, endpoint_of, read_addresses
from cyme.bus.amqp.channel import code_of
from cyme.bus.amqp.claims import LOCKED
from cyme.bus.amqp.client import Client
from cyme.bus.amqp.connecting import Connecting
from cyme.bus.amqp.fields import Unencodable
from cyme.bus.amqp.publishing import Overfull, Unpublished, Unrouted, Unsettled
from cyme.bus.amqp.session import STEP_WITHIN, Owned, Session
from cyme.bus.amqp.topology import EVERYBODY, routes, work_queue_of
from cyme.bus.amqp.work import Work
from cyme.bus.local import LIMIT
from cyme.errors import BodyTooLarge, BusAway, CymeError, NoRoute, Unconfirmed
from cyme.interfaces import IMessageBus
from cyme.seldom import Seldom

#: Seconds after which a start is over, whether or not the broker has answered.
START_WITHIN = 3.0
#: Seconds after which `settled` waits no longer for a broker that does not answer.
SETTLE_WITHIN = 10.0
#: Messages that are handled at the same time; more are dropped.
HANDLING_MOST = 10_000
#: Seconds between two lines about messages that are dropped.
DROPPED_SAID_EVERY = 10.0


class _Clients(Factory):
    """Makes the client of one connection."""

    noisy = False

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make

    def buildProtocol(self, addr: Any) -> Any:
        return self._make()


@implementer(IMessageBus)
class AMQPBus:
    """Carries messages between branches.

    :param url: the broker's; several, separated by `;`, are tried in turn.
    :param name: what the broker shows its operators for this connection.
    :param retry_policy: number of failures in a row -> seconds until the next attempt.
    :ivar counts: what became of messages, for the metrics.
    :raises InvalidParameter: when the URL can't be read.
    """

    _log = Logger()

    def __init__(self, reactor: Any, url: str, *, name: str, retry_policy: Callable[[int], float]) -> None:
        self._reactor = reactor
        self._addresses = read_addresses(url)
        self._name = name
        self._retry_policy = retry_policy
        self._owned: set[Owned] = set()
        self._accepted: set[str] = set()
        self._subscribers: list[Callable[[bool], None]] = []
        self._receive: Callable[[bytes], Deferred[None]] | None = None
        self._connecting: Connecting | None = None
        # The session that was begun last, and the same once it is ready.
        self._begun: tuple[Session, Work] | None = None
        self._ready: tuple[Session, Work] | None = None
        self._is_connected = False
        self._handling = 0
        self._dropped = Seldom(reactor, DROPPED_SAID_EVERY)
        self.counts: Counter[str] = Counter()
        self.limit = LIMIT
        self.inbox = _new_inbox()

    # -- IMessageBus ------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._is_connected

    def subscribe(self, changed: Callable[[bool], None]) -> None:
        self._subscribers.append(changed)

    def start(self, receive: Callable[[bytes], Deferred[None]]) -> Deferred[None]:
        self._receive = receive
        self._connecting = connecting = Connecting(
            self._reactor, self._addresses, self._open, self._retry_policy, self._up, self._down
        )
        connecting.start()
        return connecting.tried.addTimeout(
            START_WITHIN, self._reactor, onTimeoutCancel=lambda _result, _seconds: None
        )

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    def settled(self) -> Deferred[None]:
        settled = Deferred.fromCoroutine(self._settled())
        return settled.addTimeout(
            SETTLE_WITHIN, self._reactor, onTimeoutCancel=lambda _result, _seconds: None
        )

    def own(self, actor: str, name: str) -> None:
        if not routes(actor, name):
            raise ValueError(f"no messages can be sent to {actor} {name!r}")
        self._owned.add((actor, name))
        self._change_owned((actor, name))

    def disown(self, actor: str, name: str) -> None:
        self._owned.discard((actor, name))
        self._change_owned((actor, name))

    def claim(self, actor: str, name: str) -> Deferred[Callable[[], Deferred[None]]]:
        if not routes(actor, name):
            raise ValueError(f"there can be no claim on {actor} {name!r}")
        if self._ready is None or self._ready[0].client.blocked is not None:
            return fail(BusAway())
        return self._ready[0].claims.take(actor, name)

    def accept(self, actor: str) -> None:
        self._accepted.add(actor)
        self._change_accepted(actor)

    def decline(self, actor: str) -> None:
        self._accepted.discard(actor)
        self._change_accepted(actor)

    def to_owner(self, actor: str, name: str, body: bytes, *, expires: float) -> Deferred[None]:
        session = self._usable(body)
        if isinstance(session, CymeError):
            return fail(session)
        otherwise = NoRoute(actor, name)
        if not routes(actor, name):
            return fail(otherwise)
        return self._sent(session.to_owner(actor, name, body, expires), otherwise)

    def to_any(self, actor: str, body: bytes, *, expires: float) -> Deferred[None]:
        session = self._usable(body)
        if isinstance(session, CymeError):
            return fail(session)
        if not routes(actor):
            return fail(NoRoute(actor, "*"))
        return Deferred.fromCoroutine(self._to_any(actor, body, expires))

    def to_all(self, body: bytes, *, expires: float) -> Deferred[None]:
        session = self._usable(body)
        if isinstance(session, CymeError):
            return fail(session)
        sending = session.publish(EVERYBODY, "", body, expires, False)
        return self._sent(sending.addErrback(self._some_full), None)

    def to_inbox(self, inbox: str, body: bytes, *, expires: float) -> Deferred[None]:
        session = self._usable(body)
        if isinstance(session, CymeError):
            return fail(session)
        # The default exchange knows all queues by their names.
        return self._sent(session.publish("", inbox, body, expires, True), NoRoute("inbox", inbox))

    def signs(self) -> Mapping[str, object]:
        """See `cyme.vitals.Signs`; the value changes with each message that is settled."""
        if self._ready is None or not self._ready[0].sending:
            return {}
        return {"the branch bus": self._ready[0].settled}

    def connecting(self) -> Mapping[str, object]:
        """See `cyme.vitals.Signs`; the value changes with each attempt to connect, and each pause."""
        if self._connecting is None or self._ready is not None:
            return {}
        return {"the connection of the branch bus": self._connecting.steps}

    # -- owning ------------------------------------------------------------------------

    def _change_owned(self, owned: Owned) -> None:
        if self._begun is not None:
            self._begun[0].bindings.changed(owned)

    def _change_accepted(self, actor: str) -> None:
        if self._begun is not None:
            self._begun[1].changed(actor)

    # -- sending ----------------------------------------------------------------------

    def _usable(self, body: bytes) -> Session | CymeError:
        """The session by which to send a body, or why it can't be sent.

        A broker that is short of memory or of disk reads nothing; what would wait for it could be late.
        """
        if self._ready is None or self._ready[0].client.blocked is not None:
            return BusAway()
        if len(body) > self.limit:
            return BodyTooLarge(self.limit)
        return self._ready[0]

    def _some_full(self, failure: Failure) -> None:
        """What was sent to all has reached those that get on with their work."""
        failure.trap(Overfull)
        self._log.debug("a branch does not take what is sent to all: too much waits for it already")

    def _sent(self, sending: Deferred[None], otherwise: NoRoute | None) -> Deferred[None]:
        """What a send fires or fails with.

        :param otherwise: for a message that no queue takes, or that has no bytes.
        """

        def translated(failure: Failure) -> Failure:
            self.counts[type(failure.value).__name__.lower()] += 1
            if failure.check(Unrouted, Unencodable) and otherwise is not None:
                return Failure(otherwise)
            if failure.check(Unsettled):
                return Failure(Unconfirmed())
            if failure.check(Unpublished, Closed):
                self._log.debug("a message is not sent: {problem}", problem=str(failure.value))
                return Failure(BusAway())
            return failure

        self.counts["sent"] += 1
        return sending.addErrback(translated)

    async def _to_any(self, actor: str, body: bytes, expires: float) -> None:
        """See Note [Who would take it] in `work`."""
        if self._ready is None:
            raise BusAway
        session, work = self._ready
        try:
            count = await work.consumers(actor)
        except (Closed, TimeoutError) as problem:
            self._log.debug("it is not known who would take work: {problem!r}", problem=problem)
            raise BusAway from None
        if not count:
            raise NoRoute(actor, "*")
        sending = session.publish("", work_queue_of(actor), body, expires, True)
        await self._sent(sending, NoRoute(actor, "*"))

    # -- receiving --------------------------------------------------------------------

    def _handle(self, body: bytes | None) -> Deferred[None]:
        """Have a message handled; never fails.

        :param body: None for what was malformed or too long.
        """
        if self._receive is None:
            return succeed(None)
        if body is None or self._handling >= HANDLING_MOST:
            self.counts["dropped"] += 1
            count = self._dropped.due()
            if count:
                reason = "malformed or too long" if body is None else "too many are handled already"
                self._log.warn("{count} messages are dropped: {reason}", count=count, reason=reason)
            return succeed(None)
        self.counts["received"] += 1
        self._handling += 1

        def done(result: object) -> None:
            self._handling -= 1
            if isinstance(result, Failure):
                self._log.failure("a message was not handled", result)

        return maybeDeferred(self._receive, body).addBoth(done)

    # -- connecting -------------------------------------------------------------------

    async def _open(self, address: BusAddress) -> Session:
        """Make a session; what fails or is cancelled on the way leaves no connection."""
        clients: list[Client] = []

        def make() -> Client:
            client = Client(
                self._reactor,
                address.vhost,
                heartbeat=address.heartbeat,
                properties={"connection_name": self._name},
                body_most=self.limit,
            )
            clients.append(client)
            return client

        connecting = endpoint_of(self._reactor, address).connect(_Clients(make))
        try:
            client: Any = await connecting.addTimeout(CONNECT_WITHIN, self._reactor)
            entering = client.authenticate(address.user, address.password, "PLAIN")
            await entering.addTimeout(STEP_WITHIN, self._reactor)
            session = Session(self._reactor, client, self.inbox, self._owned, self._handle)
            work = Work(self._reactor, session, self._accepted, self._handle)
            self._begun = session, work
            await session.prepare()
            return session
        except BaseException as problem:
            self._begun = None
            for client in clients:
                client.give_up(Closed("it was given up"))
            if code_of(problem) == LOCKED:
                # An earlier connection has it, and the broker has not noticed yet that it is gone.
                self.inbox = _new_inbox()
            raise

    async def _up(self, session: Session) -> None:
        """Begin to receive, now that answers can be sent."""
        assert self._begun is not None
        self._ready = self._begun
        await session.consume()
        await self._ready[1].open()
        if session.client.closed:
            raise Closed("it was lost at once")
        self._tell(True)

    def _down(self, session: Session) -> None:
        """Send and receive nothing more by a session; one that is not stopped in good order is cut off."""
        if self._ready is None or self._ready[0] is not session:
            return
        _, work = self._ready
        self._begun = self._ready = None
        work.stop()
        if self._connecting is not None:
            session.client.give_up(Closed("it was given up"))
        self._tell(False)

    async def _settled(self) -> None:
        if self._ready is not None:
            session, work = self._ready
            await session.bindings.settled()
            await work.settled()

    async def _stop(self) -> None:
        connecting, self._connecting = self._connecting, None
        session = None if self._ready is None else self._ready[0]
        self._receive = None
        if session is not None:
            self._down(session)
        if connecting is not None:
            connecting.stop()
        if session is not None:
            await session.close()

    def _tell(self, connected: bool) -> None:
        """Tell the subscribers whether messages come and go now, if that has changed."""
        if connected == self._is_connected:
            return
        self._is_connected = connected
        for changed in self._subscribers:
            try:
                changed(connected)
            except Exception:
                self._log.failure("a subscriber to the bus failed")


def _new_inbox() -> str:
    return f"cyme.inbox.{uuid4().hex}"
