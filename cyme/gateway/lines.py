"""The reactor's half of lines: a session with a broker, made again when it is lost.

As in `cyme.remote.lines`, everything here runs in the reactor's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyme.brokers import each, redacted
from cyme.errors import BrokerAway, CymeError
from cyme.gateway.answers import Answer
from cyme.gateway.messages import Outgoing
from cyme.gateway.publishing import Settled

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds within which a broker confirms a message.
CONFIRM_TIMEOUT = 10.0

#: Seconds until a batch that could not be stored is written again.
STORE_AGAIN = 1.0


class ISession(Protocol):
    """What a line needs of `cyme.gateway.sessions.Session`."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def progress(self) -> object: ...
    def join(self) -> None: ...


class IPublisher(ISession, Protocol):
    """What a line needs of `cyme.gateway.publishing.Publisher`."""

    def submit(self, messages: list[Outgoing]) -> None: ...


class Line:
    """Keeps a session with one broker.

    :param url: the broker's URL or URLs, of which one after the other is tried.
    :param make_session: (one URL, listener) -> session that is not started yet.
    :param retry_policy: failures in a row (from 1) -> seconds until the next attempt.
    :ivar reachable: None until that is found out.
    :ivar reachable_since: when it last became so.
    """

    _log = Logger()
    purpose = ""

    def __init__(
        self,
        reactor: IReactorTime,
        url: str,
        make_session: Callable[[str, Any], Any],
        retry_policy: Callable[[int], float],
    ) -> None:
        self._reactor = reactor
        self.url = url
        self._make_session = make_session
        self._retry_policy = retry_policy
        self.reachable: bool | None = None
        self.reachable_since = 0.0
        self.problem = "it is being connected to"
        self._failures = 0
        self._session: Any = None
        self._alive: set[ISession] = set()
        self._retry: IDelayedCall | None = None
        self._closing = False
        self._gone: list[Deferred[None]] = []

    def __repr__(self) -> str:
        # Log events hold their source, and some observers write it out.
        return f"<{type(self).__name__} {redacted(self.url)}>"

    def connect(self) -> None:
        """Begin a new session."""
        self._retry = None
        urls = each(self.url)
        try:
            session = self._make_session(urls[self._failures % len(urls)], self)
            session.start()
        except (OSError, RuntimeError) as error:  # no descriptor, or no thread, is left
            self.lost(str(error))
            return
        self._session = session
        self._alive.add(session)

    def sign(self) -> tuple[bool, object] | None:
        """Whether the session serves, and a value that changes with its progress; None without one."""
        session = self._session
        if session is None:
            return None
        progress = session.progress()
        return progress is not None, (id(session), progress)

    def away(self) -> BrokerAway:
        """The error of those who need this broker now."""
        return BrokerAway(redacted(self.url), self.problem)

    def close(self) -> Deferred[None]:
        """Stop; fires when the last thread has ended, for which the caller sets a limit."""
        self._closing = True
        self.problem = "its connection was closed"
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._session = None
        self.cut()
        for session in self._alive:
            session.stop()
        if not self._alive:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._gone.append(gone)
        return gone

    # -- what sessions tell ----------------------------------------------------------

    def opened(self, session: ISession) -> None:
        """The connection stands."""
        if session is not self._session:
            return
        self._failures = 0
        self.reachable = True
        self.reachable_since = self._reactor.seconds()
        self._log.debug("the {purpose} of {broker} serves", purpose=self.purpose, broker=redacted(self.url))

    def ended(self, session: ISession, problem: str) -> None:
        """A session is over."""
        session.join()
        self._alive.discard(session)
        if session is self._session and not self._closing:
            self.lost(problem)
        if not self._alive:
            gone, self._gone = self._gone, []
            for one in gone:
                one.callback(None)

    # -- inside ------------------------------------------------------------------------

    def lost(self, problem: str) -> None:
        """The broker is away: try again later."""
        was = self.reachable
        self._session = None
        self._failures += 1
        self.reachable = False
        self.problem = problem
        delay = self._retry_policy(self._failures)
        self._retry = self._reactor.callLater(delay, self.connect)
        log = self._log.debug if was is False else self._log.warn
        log(
            "the {purpose} of {broker} has no connection: {problem}; next attempt in {delay:.1f} s",
            purpose=self.purpose,
            broker=redacted(self.url),
            problem=problem,
            delay=delay,
        )
        self.cut()

    def cut(self) -> None:
        """There is no session now."""


class PublishingLine(Line):
    """Publishes to one broker; what is not confirmed when the connection is lost is not published."""

    purpose = "publisher"
    _session: IPublisher | None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        # In the order in which they were sent, and so in that of their deadlines.
        self._unconfirmed: dict[str, tuple[float, Deferred[None]]] = {}
        self._deadline: IDelayedCall | None = None
        self._outgoing: list[Outgoing] = []
        self._asking: list[Deferred[None]] = []

    def when_reachable(self) -> Deferred[None]:
        """Fire when the broker can be reached.

        :raises BrokerAway: when it can't, or when that is not known in time.
        """
        if self.reachable is not None:
            return succeed(None) if self.reachable else fail(self.away())
        found: Deferred[None] = Deferred(self._asking.remove)
        self._asking.append(found)
        return found.addTimeout(CONFIRM_TIMEOUT, self._reactor, lambda *_: Failure(self.away()))

    def publish(self, message: Outgoing) -> Deferred[None]:
        """Fire when the broker has a message.

        :raises BrokerAway: and the others of `IGateway.queue`.
        """
        session = self._session
        if session is None:
            return fail(self.away())
        published: Deferred[None] = Deferred()
        self._unconfirmed[message.task_id] = (self._reactor.seconds() + CONFIRM_TIMEOUT, published)
        if self._deadline is None:
            self._deadline = self._reactor.callLater(CONFIRM_TIMEOUT, self._check)
        # What is asked for in one turn of the reactor goes to the thread together: each time it is
        # woken, it takes the interpreter from the reactor.
        if not self._outgoing:
            self._reactor.callLater(0, self._send)
        self._outgoing.append(message)
        return published

    def _send(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if self._session is not None:
            self._session.submit([one for one in outgoing if one.task_id in self._unconfirmed])

    def opened(self, session: ISession) -> None:
        super().opened(session)
        if session is self._session:
            asking, self._asking = self._asking, []
            for one in asking:
                one.callback(None)

    def settled(self, session: ISession, outcomes: list[Settled]) -> None:
        """See `PublisherListener`."""
        for task_id, problem in outcomes:
            self._settle(task_id, problem)

    def cut(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        for task_id in list(self._unconfirmed):
            self._settle(task_id, self.away())
        asking, self._asking = self._asking, []
        for one in asking:
            one.errback(self.away())

    def _settle(self, task_id: str, problem: CymeError | None) -> None:
        found = self._unconfirmed.pop(task_id, None)
        if found is None:
            return
        if problem is None:
            found[1].callback(None)
        else:
            found[1].errback(problem)

    def _check(self) -> None:
        """End the session when its oldest message has waited too long: a broker that froze says nothing."""
        self._deadline = None
        if not self._unconfirmed:
            return
        oldest = next(iter(self._unconfirmed.values()))[0]
        remaining = oldest - self._reactor.seconds()
        if remaining > 0:
            self._deadline = self._reactor.callLater(remaining, self._check)
            return
        if self._session is not None:
            self._session.stop()
            self.lost(f"it has not confirmed a message within {CONFIRM_TIMEOUT:g} s")


@define(eq=False)
class _Batch:
    """Results that were taken from the broker and not acknowledged yet."""

    session: ISession
    answers: list[Answer]
    stored: Callable[[], None]
    is_stored: bool = False


class CollectingLine(Line):
    """Collects from one broker.

    :param store: writes a batch down, fires when that is done; what fails is tried again.
    """

    purpose = "collector"

    def __init__(self, *arguments: Any, store: Callable[[list[Answer]], Deferred[None]]) -> None:
        super().__init__(*arguments)
        self._store = store
        self._complained = False
        self._again: set[IDelayedCall] = set()
        # In the order in which they came.
        self._batches: deque[_Batch] = deque()

    def arrived(
        self, session: ISession, answers: list[Answer], problems: list[str], stored: Callable[[], None]
    ) -> None:
        """See `CollectorListener`."""
        if session is not self._session:
            # Whoever comes next gets them again.
            return
        if problems and not self._complained:
            self._complained = True
            self._log.warn(
                "a result from {broker} can't be read: {problem}; it was dropped, as will be others like it",
                broker=redacted(self.url),
                problem=problems[0],
            )
        batch = _Batch(session, answers, stored)
        self._batches.append(batch)
        self._write(batch)

    def _write(self, batch: _Batch) -> None:
        def written(_: object) -> None:
            # An acknowledgement counts for all that came before it too, so one batch waits for another.
            batch.is_stored = True
            while self._batches and self._batches[0].is_stored:
                self._batches.popleft().stored()

        def failed(failure: Failure) -> None:
            if batch.session is not self._session:
                return
            self._log.error(
                "results can't be stored: {problem}; they wait at the broker",
                problem=failure.getErrorMessage(),
            )
            self._again.add(self._reactor.callLater(STORE_AGAIN, again))

        def again() -> None:
            self._again = {one for one in self._again if one.active()}
            self._write(batch)

        self._store(batch.answers).addCallbacks(written, failed)

    def cut(self) -> None:
        for call in self._again:
            if call.active():
                call.cancel()
        self._again.clear()
        self._batches.clear()
