"""The thread's half of a line: one connection, from the attempt to make it to its end.

As in `cyme.remote`, a session has a thread of its own, which is all that touches kombu; what it has
to say goes to its listener, in the reactor's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure

from cyme.brokers import checked, redacted
from cyme.errors import InvalidParameter
from cyme.remote.sessions import describe, lost_errors
from cyme.remote.wires import Wakeup, abandon, connect, release

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads


class SessionListener(Protocol):
    """Whom a session tells; always in the reactor's thread."""

    def opened(self, session: Any) -> None:
        """The connection is made."""

    def ended(self, session: Any, problem: str) -> None:
        """The session is over and its thread as good as gone; always told, once, last."""


class Session:
    """One connection to a broker and the daemon thread that owns it.

    The methods are for the reactor's thread, unless said otherwise.

    :param url: one URL, with its password.
    :param timeout: seconds that connecting, or one synchronous call, may take.
    """

    _log = Logger()
    #: What brokers and lists of threads call it.
    purpose = ""

    def __init__(
        self, reactor: IReactorFromThreads, url: str, listener: SessionListener, timeout: float
    ) -> None:
        self._reactor = reactor
        self._url = url
        self._listener = listener
        self._timeout = timeout
        self._stopping = False
        self._turns = 0
        self._wakeup = Wakeup()
        self._thread = threading.Thread(
            target=self._run, name=f"{self.purpose} of {redacted(url)}", daemon=True
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

    def stop(self) -> None:
        """Close the connection; `SessionListener.ended` tells when that is done."""
        self._stopping = True
        self._wakeup.ring()

    def progress(self) -> object:
        """What the thread is at: a number of turns once it serves, None while it connects."""
        return self._turns if self._turns else None

    def join(self) -> None:
        """Wait for the thread, which has told its end already."""
        self._thread.join(1.0)

    # -- in the session's own thread -------------------------------------------------

    def open(self, connection: Any) -> Callable[[], None]:
        """Make use of a connection; the answer does a turn of work, and waits a few seconds at most."""
        raise NotImplementedError

    def tell(self, told: Callable[..., None], *arguments: Any) -> None:
        """Call something in the reactor's thread."""
        self._reactor.callFromThread(told, *arguments)

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
            self.tell(self._listener.ended, self, problem)

    def _live(self) -> None:
        connection = connect(checked(self._url), self._timeout, self.purpose)
        try:
            turn = self.open(connection)
            self.tell(self._listener.opened, self)
            while not self._stopping:
                self._turns += 1
                turn()
        except BaseException as error:
            if connection.connected and not isinstance(error, lost_errors(connection)):
                self.tell(self._log_failure, Failure())
            abandon(connection)
            raise
        release(connection)

    def _log_failure(self, failure: Failure) -> None:
        self._log.failure(
            "the {purpose} of {broker} failed", failure, purpose=self.purpose, broker=redacted(self._url)
        )
