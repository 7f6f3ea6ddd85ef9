"""The thread's half of a line: one connection, from the attempt to make it to its end."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from twisted.logger import Logger
from twisted.python.failure import Failure

from cyme.brokers import checked, redacted, scrubbed
from cyme.errors import InvalidParameter
from cyme.remote.mailbox import Envelope, Mailbox, Question, echo_envelope
from cyme.remote.wires import Wakeup, Wire, abandon, connect, release, wire

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

#: Messages in a row that kombu can't read before the connection counts as lost.
UNREADABLE_IN_A_ROW = 10


class Listener(Protocol):
    """Whom a session tells; always in the reactor's thread."""

    def opened(self, session: Any, has_heartbeats: bool) -> None:
        """The connection is made and replies can arrive."""

    def answered(self, session: Any, question: Question) -> None:
        """All nodes have answered."""

    def ended(self, session: Any, problem: str) -> None:
        """The session is over and its thread as good as gone; always told, once, last."""


class Session:
    """One connection to a broker and the daemon thread that owns it.

    The methods are for the reactor's thread, unless said otherwise.

    :param url: one URL, with its password.
    :param timeout: seconds that connecting, or one synchronous call, may take.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorFromThreads, url: str, listener: Listener, timeout: float) -> None:
        self._reactor = reactor
        self._url = url
        self._listener = listener
        self._timeout = timeout
        self._stopping = False
        self._complained = False
        self._turns = 0
        self._outgoing: deque[Envelope] = deque()
        self._open: dict[str, Question] = {}
        self._wakeup = Wakeup()
        self.reply_key = str(uuid4())
        self._thread = threading.Thread(
            target=self._run, name=f"remote control of {redacted(url)}", daemon=True
        )

    def start(self) -> None:
        """Connect, then serve until stopped or until the connection is lost.

        :raises RuntimeError: when the system has no thread left.
        """
        try:
            self._thread.start()
        except RuntimeError:
            self._wakeup.close()
            raise

    def submit(self, question: Question, envelope: Envelope) -> None:
        """Send a question and collect the answers to it until `forget`."""
        self._open[question.ticket] = question
        self._outgoing.append(envelope)
        self._wakeup.ring()

    def forget(self, question: Question) -> None:
        """Drop what still comes in answer to a question."""
        self._open.pop(question.ticket, None)

    def stop(self) -> None:
        """Close the connection; `Listener.ended` tells when that is done."""
        self._stopping = True
        self._wakeup.ring()

    def progress(self) -> object:
        """What the thread is at: a number of turns once it serves, None while it connects.

        A thread that has ended makes no turns; that it has is told to the listener at once.
        """
        return self._turns if self._turns else None

    def join(self) -> None:
        """Wait for the thread, which has told its end already."""
        self._thread.join(1.0)

    # -- in the session's own thread -------------------------------------------

    def _run(self) -> None:
        problem = "it was closed"
        try:
            self._live()
        except InvalidParameter as error:
            problem = error.problem
        except BaseException as error:
            problem = describe(error, self._url)
        finally:
            self._wakeup.close()
            self._reactor.callFromThread(self._listener.ended, self, problem)

    def _live(self) -> None:
        connection = connect(checked(self._url), self._timeout)
        try:
            mailbox = Mailbox(connection.channel(), self.reply_key, self._take, self._complain)
            line = wire(connection, self._timeout)
            self._reactor.callFromThread(self._listener.opened, self, line.has_heartbeats)
            self._serve(connection, mailbox, line)
            line.settle(lambda: mailbox.send(echo_envelope("", self.reply_key, timeout=1.0)))
            mailbox.remove()
        except BaseException as error:
            if connection.connected and not isinstance(error, lost_errors(connection)):
                self._reactor.callFromThread(self._log_failure, Failure())
            abandon(connection)
            raise
        release(connection)

    def _serve(self, connection: Any, mailbox: Mailbox, line: Wire) -> None:
        lost = lost_errors(connection)
        unreadable = 0
        while not self._stopping:
            self._turns += 1
            while self._outgoing:
                mailbox.send(self._outgoing.popleft())
            try:
                line.turn(self._wakeup, self._is_expecting)
                unreadable = 0
            except lost:
                raise
            except Exception as error:
                # py-amqp raises odd errors from a lost connection. Otherwise kombu stumbled
                # over a message before it was ours, and the next may be sound.
                unreadable += 1
                if not connection.connected or unreadable == UNREADABLE_IN_A_ROW:
                    raise
                self._complain(f"a message can't be read: {type(error).__name__}")

    def _is_expecting(self) -> bool:
        return bool(self._open)

    def _take(self, ticket: str, text: str | bytes) -> None:
        question = self._open.get(ticket)
        if question is not None and question.take(text):
            self._open.pop(ticket, None)
            self._reactor.callFromThread(self._listener.answered, self, question)

    def _complain(self, problem: str) -> None:
        """Say what was wrong with a message, once for each session: somebody may send many."""
        if not self._complained:
            self._complained = True
            self._reactor.callFromThread(self._warn, problem)

    # -- logging, in the reactor's thread ----------------------------------------

    def _warn(self, problem: str) -> None:
        self._log.warn(
            "{broker}: {problem}; it was dropped, and so will be others like it",
            broker=redacted(self._url),
            problem=problem,
        )

    def _log_failure(self, failure: Failure) -> None:
        self._log.failure("remote control of {broker} failed", failure, broker=redacted(self._url))


def lost_errors(connection: Any) -> tuple[type[BaseException], ...]:
    """What is raised when a broker goes away."""
    return (*connection.connection_errors, *connection.channel_errors, OSError)


def describe(error: BaseException, url: str) -> str:
    """What an error of kombu's or of the libraries below it says, without passwords."""
    text = str(getattr(error, "reply_text", "") or error) or type(error).__name__
    return scrubbed(" ".join(text.split()), url)[:500]
