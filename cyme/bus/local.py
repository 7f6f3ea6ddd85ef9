"""The bus inside one process, for a cluster of one branch.

It keeps every rule of `IMessageBus`: bodies are bytes, nothing is delivered within the
sender's own call, what is bound is alive, and nobody gets a message that has expired.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from cyme.errors import BodyTooLarge, BusAway, CymeError, NameClaimed, NoRoute
from cyme.interfaces import IMessageBus

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: The longest body that is carried, in bytes: room for 1 MiB of a log, however JSON escapes it.
LIMIT = 8 * 1024 * 1024
#: Messages under way to one branch, above which the bus counts as away.
WAITING_MOST = 10_000


@define(eq=False)
class Switch:
    """Knows the started buses, in the order in which they take work that is for any of them.

    One process may hold several branches: those whose buses share a switch form a cluster.
    """

    buses: list[LocalBus] = field(factory=list)
    numbers: count[int] = field(factory=lambda: count(1))
    claims: dict[tuple[str, str], LocalBus] = field(factory=dict)

    def owner(self, actor: str, name: str) -> LocalBus | None:
        """The bus that owns a name."""
        return next((bus for bus in self.buses if bus.owns(actor, name)), None)

    def take_turn(self, actor: str) -> LocalBus | None:
        """The next bus that accepts work for `actor`; the turn goes round."""
        for bus in self.buses:
            if bus.accepts(actor):
                self.buses.remove(bus)
                self.buses.append(bus)
                return bus
        return None


@frozen
class _Waiting:
    """A message under way.

    :ivar deadline: seconds on the clock, at which nobody may act on it any more.
    """

    body: bytes
    deadline: float


@implementer(IMessageBus)
class LocalBus:
    """Carries messages from a branch to itself, or to others in the same process.

    :param switch: where to meet others; without it this bus is alone.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, switch: Switch | None = None) -> None:
        self._clock = clock
        self._switch = switch if switch is not None else Switch()
        self._owned: set[tuple[str, str]] = set()
        self._accepted: set[str] = set()
        self._receive: Callable[[bytes], Deferred[None]] | None = None
        self._waiting: deque[_Waiting] = deque()
        self._delivered = 0
        self._delivery: IDelayedCall | None = None
        self._subscribers: list[Callable[[bool], None]] = []
        # Nothing here is sent to a broker that could lose it.
        self.counts: Mapping[str, int] = {}
        self.limit = LIMIT
        self.inbox = ""

    # -- IMessageBus ------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._receive is not None

    def subscribe(self, changed: Callable[[bool], None]) -> None:
        self._subscribers.append(changed)

    def settled(self) -> Deferred[None]:
        return succeed(None)

    def start(self, receive: Callable[[bytes], Deferred[None]]) -> Deferred[None]:
        self.inbox = f"local.{next(self._switch.numbers)}"
        self._receive = receive
        self._switch.buses.append(self)
        self._tell()
        return succeed(None)

    def stop(self) -> Deferred[None]:
        if self._receive is not None:
            self._receive = None
            self._switch.buses.remove(self)
            self._waiting.clear()
            for claimed in [key for key, holder in self._switch.claims.items() if holder is self]:
                del self._switch.claims[claimed]
            self._tell()
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None
        return succeed(None)

    def own(self, actor: str, name: str) -> None:
        self._owned.add((actor, name))

    def disown(self, actor: str, name: str) -> None:
        self._owned.discard((actor, name))

    def claim(self, actor: str, name: str) -> Deferred[Callable[[], Deferred[None]]]:
        claims, claimed = self._switch.claims, (actor, name)
        if self._receive is None:
            return fail(BusAway())
        if claimed in claims:
            return fail(NameClaimed(actor, name))
        claims[claimed] = self
        is_held = True

        def release() -> Deferred[None]:
            nonlocal is_held
            if is_held and claims.get(claimed) is self:
                del claims[claimed]
            is_held = False
            return succeed(None)

        return succeed(release)

    def accept(self, actor: str) -> None:
        self._accepted.add(actor)

    def decline(self, actor: str) -> None:
        self._accepted.discard(actor)

    def to_owner(self, actor: str, name: str, body: bytes, *, expires: float) -> Deferred[None]:
        refusal = self._refusal(body)
        if refusal is not None:
            return fail(refusal)
        return self._send(self._switch.owner(actor, name), NoRoute(actor, name), body, expires)

    def to_any(self, actor: str, body: bytes, *, expires: float) -> Deferred[None]:
        refusal = self._refusal(body)
        if refusal is not None:
            return fail(refusal)
        return self._send(self._switch.take_turn(actor), NoRoute(actor, "*"), body, expires)

    def to_all(self, body: bytes, *, expires: float) -> Deferred[None]:
        refusal = self._refusal(body)
        if refusal is not None:
            return fail(refusal)
        for bus in list(self._switch.buses):
            bus.enqueue(body, expires)
        return succeed(None)

    def to_inbox(self, inbox: str, body: bytes, *, expires: float) -> Deferred[None]:
        refusal = self._refusal(body)
        if refusal is not None:
            return fail(refusal)
        receiver = next((bus for bus in self._switch.buses if bus.inbox == inbox), None)
        return self._send(receiver, NoRoute("inbox", inbox), body, expires)

    # -- for the switch and its other buses ---------------------------------------

    def owns(self, actor: str, name: str) -> bool:
        """Whether messages for `actor` `name` come here."""
        return (actor, name) in self._owned

    def accepts(self, actor: str) -> bool:
        """Whether work for `actor` may come here."""
        return actor in self._accepted

    def enqueue(self, body: bytes, expires: float) -> bool:
        """Take a message for this bus's branch.

        :return: whether there was room for it.
        """
        if len(self._waiting) >= WAITING_MOST:
            self._log.warn("a message is dropped: {count} are under way already", count=len(self._waiting))
            return False
        self._waiting.append(_Waiting(body, self._clock.seconds() + expires))
        if self._delivery is None:
            self._delivery = self._clock.callLater(0, self._deliver)
        return True

    def signs(self) -> Mapping[str, object]:
        """See `cyme.vitals.Signs`; the value changes with each delivery."""
        return {"the branch bus": self._delivered} if self._waiting else {}

    def connecting(self) -> Mapping[str, object]:
        """See `cyme.vitals.Signs`: there is nothing to connect to."""
        return {}

    # -- inside ---------------------------------------------------------------------

    def _tell(self) -> None:
        """Tell the subscribers whether messages come and go now."""
        for changed in self._subscribers:
            try:
                changed(self.connected)
            except Exception:
                self._log.failure("a subscriber to the bus failed")

    def _refusal(self, body: bytes) -> CymeError | None:
        """Why a message can't be sent, or None."""
        if self._receive is None:
            return BusAway()
        if len(body) > self.limit:
            return BodyTooLarge(self.limit)
        return None

    def _send(
        self, receiver: LocalBus | None, otherwise: NoRoute, body: bytes, expires: float
    ) -> Deferred[None]:
        if receiver is None:
            return fail(otherwise)
        return succeed(None) if receiver.enqueue(body, expires) else fail(BusAway())

    def _deliver(self) -> None:
        """Hand over what was under way when the delivery began, in the order of sending."""
        self._delivery = None
        for _ in range(len(self._waiting)):
            if not self._waiting or self._receive is None:
                return
            message = self._waiting.popleft()
            self._delivered += 1
            if self._clock.seconds() >= message.deadline:
                self._log.debug("a message is dropped: nobody waits for it any more")
                continue
            received = maybeDeferred(self._receive, message.body)
            received.addErrback(lambda failure: self._log.failure("a message was not handled", failure))
        if self._waiting and self._delivery is None:
            self._delivery = self._clock.callLater(0, self._deliver)
