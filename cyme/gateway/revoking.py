"""Having workers not run what was revoked.

Workers remember in memory what was revoked, and `--statedb` remembers it for an instance that is
started again. Those that start later, or could not be reached, are told again here: when a worker
starts to serve, and when a broker comes back. A worker that takes a task between its start and that
runs it; what it says of it changes nothing, see `IGateway.revoke`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twisted.logger import Logger

from cyme.brokers import redacted

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from cyme.interfaces import IRemoteControl

#: Revoked tasks that workers are told of again, the newest.
MOST_REMEMBERED = 1000


class Revocations:
    """The revoked tasks of this branch that a worker may still meet.

    :param brokers: the brokers on which tasks may be.
    """

    _log = Logger()

    def __init__(self, remote: IRemoteControl, brokers: Callable[[], Iterable[str]]) -> None:
        self._remote = remote
        self._brokers = brokers
        self._ids: dict[str, None] = {}

    def remember(self, ids: Iterable[str]) -> None:
        """Take over what an earlier life of the branch had revoked, the oldest first."""
        self._ids.update(dict.fromkeys(ids))

    def add(self, task_id: str) -> None:
        """Revoke a task, and tell all workers."""
        self._ids[task_id] = None
        while len(self._ids) > MOST_REMEMBERED:
            del self._ids[next(iter(self._ids))]
        for broker in set(self._brokers()):
            self._tell(broker, [task_id])

    def again(self, broker: str) -> None:
        """Tell the workers on a broker everything again."""
        if self._ids:
            self._tell(broker, list(self._ids))

    def broker_changed(self, broker: str, reachable: bool) -> None:
        """See `IRemoteControl.subscribe`."""
        if reachable and broker in self._brokers():
            self.again(broker)

    def _tell(self, broker: str, ids: list[str]) -> None:
        def failed(failure: Failure) -> None:
            self._log.warn(
                "the workers on {broker} will be told later what was revoked: {problem}",
                broker=redacted(broker),
                problem=failure.getErrorMessage(),
            )

        self._remote.tell(broker, "revoke", {"task_id": ids}).addErrback(failed)
