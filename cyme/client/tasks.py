"""Tasks that were queued: how far they are, and what comes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cyme.client import calls
from cyme.client.errors import NotFinished, TaskFailed
from cyme.client.types import Outcome

if TYPE_CHECKING:
    from cyme.client.synchronous import Session

#: The states of tasks that have ended without a result.
FAILED = frozenset({"FAILURE", "REVOKED"})


def turns(timeout: float) -> list[float]:
    """How long each of the requests waits that together wait `timeout` seconds."""
    whole, rest = divmod(timeout, calls.WAIT_MOST)
    return [calls.WAIT_MOST] * int(whole) + ([rest] if rest or not whole else [])


def checked(uuid: str, outcome: Outcome, check: bool) -> Outcome:
    """The outcome of a task that has ended.

    :raises TaskFailed: when it has no result, and `check` is true.
    """
    if check and outcome.get("state") in FAILED:
        raise TaskFailed(uuid, outcome)
    return outcome


class Task:
    """A task that was queued.

    :ivar info: what the branch said when it was queued; empty for one that was queued elsewhere.
    """

    def __init__(self, session: Session, app: str, uuid: str, info: Mapping[str, Any] | None = None) -> None:
        self._session = session
        self.app = app
        self.uuid = uuid
        self.info = dict(info or {})

    def __repr__(self) -> str:
        return f"<Task: {self.uuid!r}>"

    def state(self) -> str:
        """`PENDING`, `STARTED`, `RETRY`, `SUCCESS`, `FAILURE` or `REVOKED`."""
        return self._session.call(calls.task_state(self.app, self.uuid))

    def result(self) -> Outcome:
        """What came of it so far: `state`, `result`, and the `error` of one that failed."""
        return self._session.call(calls.task_result(self.app, self.uuid))

    def wait(self, timeout: float = 60.0, *, check: bool = True) -> Outcome:
        """What came of it, as soon as it has ended.

        :param timeout: seconds.
        :param check: whether one that failed or was revoked is an error.
        :raises NotFinished: when it has not ended by then.
        :raises TaskFailed: when it has no result.
        """
        outcome: Outcome = {"state": "PENDING"}
        for seconds in turns(timeout):
            ended, outcome = self._session.call(calls.task_wait(self.app, self.uuid, seconds))
            if ended:
                return checked(self.uuid, outcome, check)
        raise NotFinished(self.uuid, str(outcome.get("state")), timeout)

    def revoke(self) -> str:
        """Have it not run, unless it runs already; its state then."""
        return self._session.call(calls.task_revoke(self.app, self.uuid))
