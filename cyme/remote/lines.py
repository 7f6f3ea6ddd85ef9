"""The reactor's half of a line: which questions are open, and whether the broker is there.

Note [Two threads]: everything here runs in the reactor's thread; a `Session` has a thread of
its own, which is all that touches kombu. A question crosses twice, however many replies it
gets: out, and back when all have answered. Deadlines are kept here, by the reactor's clock,
so that a question ends on time even when the thread hangs in a call to a broker that froze.
Dictionaries that both threads use are only changed by single operations (`d[k] = v`, `pop`);
a question's answers are read by the reactor only after the thread let go of it, or after
`forget`, and then as a copy.

Note [Proof]: a broker that froze is as silent as a worker that died, and nobody is to take the
one for the other (failure-modes F13, F26). So a question that nobody answered in its time has an
answer only when the broker has brought a message of our own: none, or `BrokerAway`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from cyme.brokers import each, redacted
from cyme.errors import BrokerAway
from cyme.remote.mailbox import (
    ECHO,
    Envelope,
    Question,
    command_envelope,
    echo_envelope,
    question_envelope,
)

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds within which a broker brings a message from a line to itself.
ECHO_TIMEOUT = 5.0

#: Seconds between two such messages, on transports without heartbeats.
ECHO_INTERVAL = 10.0

#: Seconds for which a command that nobody answers waits for workers that are held up.
COMMAND_TIMEOUT = 60.0

#: Questions that may be under way on one line.
MOST_QUESTIONS = 1000


class ISession(Protocol):
    """What a line needs of `cyme.remote.sessions.Session`."""

    reply_key: str

    def start(self) -> None: ...
    def submit(self, question: Question, envelope: Envelope) -> None: ...
    def progress(self) -> object: ...
    def forget(self, question: Question) -> None: ...
    def stop(self) -> None: ...
    def join(self) -> None: ...


@define(eq=False)
class _Waiting:
    """Who waits for a question's answers."""

    question: Question
    session: ISession
    fired: Deferred[dict[str, Any]]
    deadline: IDelayedCall


@define(eq=False, repr=False)
class Line:
    """Keeps a session with one broker, and makes a new one when it is lost.

    :param url: the broker's URL or URLs, of which one after the other is tried.
    :param make_session: (one URL, listener) -> session that is not started yet.
    :param retry_policy: failures in a row (from 1) -> seconds until the next attempt.
    :param changed: called with whether the broker is reachable when that changes.
    """

    _log = Logger()

    reactor: IReactorTime
    url: str
    make_session: Callable[[str, Line], ISession]
    retry_policy: Callable[[int], float]
    changed: Callable[[bool], None]

    reachable: bool | None = field(default=None, init=False)
    revived_at: float | None = field(default=None, init=False)
    problem: str = field(default="it is being connected to", init=False)
    _failures: int = field(default=0, init=False)
    _session: ISession | None = field(default=None, init=False)
    _alive: set[ISession] = field(factory=set, init=False)
    _waiting: dict[str, _Waiting] = field(factory=dict, init=False)
    _retry: IDelayedCall | None = field(default=None, init=False)
    _next_echo: IDelayedCall | None = field(default=None, init=False)
    _echoing: bool = field(default=False, init=False)
    _unproven: list[Deferred[dict[str, Any]]] = field(factory=list, init=False)
    _closing: bool = field(default=False, init=False)
    _gone: list[Deferred[None]] = field(factory=list, init=False)

    def __repr__(self) -> str:
        # Log events hold their source, and some observers write it out.
        return f"<Line {redacted(self.url)}>"

    def connect(self) -> None:
        """Begin a new session."""
        self._retry = None
        urls = each(self.url)
        try:
            session = self.make_session(urls[self._failures % len(urls)], self)
            session.start()
        except (OSError, RuntimeError) as error:  # no descriptor, or no thread, is left
            self._lost(str(error))
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

    def ask(
        self, command: str, nodes: Sequence[str], arguments: Mapping[str, Any], timeout: float
    ) -> Deferred[dict[str, Any]]:
        """See `IRemoteControl.ask`."""
        session = self._session
        if session is None or not self.reachable:
            return fail(self.away())
        if len(self._waiting) >= MOST_QUESTIONS:
            return fail(BrokerAway(redacted(self.url), "too many questions are under way"))
        nodes = list(dict.fromkeys(nodes))
        if not nodes:
            # To Celery, no destination is every destination.
            return succeed({})
        ticket = str(uuid4())
        try:
            envelope = question_envelope(
                command,
                arguments,
                nodes,
                ticket,
                session.reply_key,
                now=self.reactor.seconds(),
                timeout=timeout,
            )
        except (TypeError, ValueError):
            return fail()
        return self._submit(session, Question(ticket, set(nodes)), envelope, timeout)

    def tell(self, command: str, arguments: Mapping[str, Any]) -> Deferred[None]:
        """See `IRemoteControl.tell`."""
        session = self._session
        if session is None or not self.reachable:
            return fail(self.away())
        try:
            envelope = command_envelope(
                command, arguments, now=self.reactor.seconds(), timeout=COMMAND_TIMEOUT
            )
        except (TypeError, ValueError):
            return fail()
        question = Question(str(uuid4()), set())
        session.submit(question, envelope)
        session.forget(question)
        return succeed(None)

    def close(self) -> Deferred[None]:
        """Stop; fires when the last thread has ended, for which the caller sets a limit."""
        self._closing = True
        self.problem = "its connection was closed"
        self._cancel_calls()
        self._fail_all()
        self._session = None
        for session in self._alive:
            session.stop()
        if not self._alive:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._gone.append(gone)
        return gone

    # -- what sessions tell -------------------------------------------------------

    def opened(self, session: ISession, has_heartbeats: bool) -> None:
        """The connection stands."""
        if session is not self._session:
            return
        came_back = self.reachable is False
        self._failures = 0
        self.reachable = True
        if came_back:
            self.revived_at = self.reactor.seconds()
        self._log.info("broker {broker} can be reached", broker=redacted(self.url))
        if not has_heartbeats:
            self._next_echo = self.reactor.callLater(ECHO_INTERVAL, self._echo, True)
        self.changed(True)

    def answered(self, session: ISession, question: Question) -> None:
        """All nodes have answered a question."""
        waiting = self._waiting.pop(question.ticket, None)
        if waiting is not None:
            waiting.deadline.cancel()
            waiting.fired.callback(question.answers)

    def ended(self, session: ISession, problem: str) -> None:
        """A session is over."""
        session.join()
        self._alive.discard(session)
        if session is self._session and not self._closing:
            self._lost(problem)
        if not self._alive:
            gone, self._gone = self._gone, []
            for one in gone:
                one.callback(None)

    # -- inside ---------------------------------------------------------------------

    def _submit(
        self, session: ISession, question: Question, envelope: Envelope, timeout: float
    ) -> Deferred[dict[str, Any]]:
        fired: Deferred[dict[str, Any]] = Deferred(partial(self._cancelled, question))
        deadline = self.reactor.callLater(timeout, self._timed_out, question)
        self._waiting[question.ticket] = _Waiting(question, session, fired, deadline)
        session.submit(question, envelope)
        return fired

    def _drop(self, question: Question) -> _Waiting | None:
        """Nobody waits for this question any more."""
        waiting = self._waiting.pop(question.ticket, None)
        if waiting is not None:
            waiting.session.forget(question)
            if waiting.deadline.active():
                waiting.deadline.cancel()
        return waiting

    def _cancelled(self, question: Question, fired: Deferred[dict[str, Any]]) -> None:
        self._drop(question)
        if fired in self._unproven:
            self._unproven.remove(fired)

    def _timed_out(self, question: Question) -> None:
        waiting = self._drop(question)
        if waiting is None:
            return
        answers = question.answers.copy()
        if answers or ECHO in question.missing or waiting.session is not self._session:
            waiting.fired.callback(answers)
        else:
            # Either nobody is there who could answer, or the broker is not: see Note [Proof].
            self._unproven.append(waiting.fired)
            self._echo(False)

    def _echo(self, again: bool) -> None:
        """See whether the broker brings us a message of our own.

        :param again: whether to do so at intervals.
        """
        session = self._session
        if again:
            self._next_echo = self.reactor.callLater(ECHO_INTERVAL, self._echo, True)
        if session is None or self._echoing:
            return
        self._echoing = True
        ticket = str(uuid4())
        envelope = echo_envelope(ticket, session.reply_key, timeout=ECHO_TIMEOUT)
        echoed = self._submit(session, Question(ticket, {ECHO}), envelope, ECHO_TIMEOUT)
        echoed.addCallbacks(self._echoed, lambda _: None, callbackArgs=(session,))

    def _echoed(self, answers: dict[str, Any], session: ISession) -> None:
        self._echoing = False
        if not answers and session is self._session:
            session.stop()
            self._lost(f"it has not brought a message within {ECHO_TIMEOUT:g} s")
        unproven, self._unproven = self._unproven, []
        for fired in unproven:
            fired.callback({})

    def _lost(self, problem: str) -> None:
        """The broker is away: tell, and try again later."""
        was = self.reachable
        self._session = None
        self._failures += 1
        self.reachable = False
        self.problem = problem
        delay = self.retry_policy(self._failures)
        self._cancel_calls()
        self._retry = self.reactor.callLater(delay, self.connect)
        log = self._log.debug if was is False else self._log.warn
        log(
            "broker {broker} is away: {problem}; next attempt in {delay:.1f} s",
            broker=redacted(self.url),
            problem=problem,
            delay=delay,
        )
        self._fail_all()
        if was is not False:
            self.changed(False)

    def _fail_all(self) -> None:
        for waiting in list(self._waiting.values()):
            if self._drop(waiting.question) is not None:
                waiting.fired.errback(self.away())
        unproven, self._unproven = self._unproven, []
        for fired in unproven:
            fired.errback(self.away())

    def _cancel_calls(self) -> None:
        for call in (self._retry, self._next_echo):
            if call is not None and call.active():
                call.cancel()
        self._retry = self._next_echo = None
        self._echoing = False
