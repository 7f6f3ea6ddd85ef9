"""Tasks that were queued, as in `cyme.client.tasks`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cyme.client import calls
from cyme.client.errors import NotFinished
from cyme.client.tasks import checked, turns
from cyme.client.types import Outcome

if TYPE_CHECKING:
    from cyme.client.aio.sessions import Session


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

    async def state(self) -> str:
        """`PENDING`, `STARTED`, `RETRY`, `SUCCESS`, `FAILURE` or `REVOKED`."""
        return await self._session.call(calls.task_state(self.app, self.uuid))

    async def result(self) -> Outcome:
        """What came of it so far: `state`, `result`, and the `error` of one that failed."""
        return await self._session.call(calls.task_result(self.app, self.uuid))

    async def wait(self, timeout: float = 60.0, *, check: bool = True) -> Outcome:
        """What came of it, as soon as it has ended.

        :param timeout: seconds.
        :param check: whether one that failed or was revoked is an error.
        :raises NotFinished: when it has not ended by then.
        :raises TaskFailed: when it has no result.
        """
        outcome: Outcome = {"state": "PENDING"}
        for seconds in turns(timeout):
            ended, outcome = await self._session.call(calls.task_wait(self.app, self.uuid, seconds))
            if ended:
                return checked(self.uuid, outcome, check)
        raise NotFinished(self.uuid, str(outcome.get("state")), timeout)

    async def revoke(self) -> str:
        """Have it not run, unless it runs already; its state then."""
        return await self._session.call(calls.task_revoke(self.app, self.uuid))
