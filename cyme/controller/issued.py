"""Tasks by their ids, whichever branch issued them.

An id says which branch issued it (Note [Task ids] in `cyme.taskids`), and only that branch knows what
became of its task. It owns the name of its node field for the actor `Task`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from json import dumps
from typing import TYPE_CHECKING, Any

from cyme.actors import ANSWER_WITHIN, verb
from cyme.controller.details import moment
from cyme.errors import BranchAway, NoRoute, NoSuchTask, OnlyThere, OwnerGone
from cyme.queued import TaskError, TaskState, TaskStatus
from cyme.taskids import is_of, node_in, node_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.actors import Actors
    from cyme.interfaces import ICatalogue, IGateway
    from cyme.membership import Membership

#: Who answers for tasks.
ACTOR = "Task"
#: Seconds for which another branch is asked to wait at a time: so long it waits for a caller who left.
WAIT_AT_ONCE = 20.0
#: Bytes of a result that pass from branch to branch.
RESULT_MOST = 6 * 1024 * 1024


def name_of(branch: str) -> str:
    """The name by which the tasks of a branch are asked for: its node field, 12 hexadecimal digits."""
    return f"{node_of(branch):012x}"


class TaskActor:
    """What can be asked of the tasks that this branch issued."""

    def __init__(self, gateway: IGateway, branch_id: str) -> None:
        self._gateway = gateway
        self._branch_id = branch_id

    @verb(quiet=True)
    async def status(self, name: str | None, *, task: str) -> dict[str, Any]:
        """Answer with what is known of a task."""
        return self._told(await self._gateway.status(task))

    @verb(quiet=True)
    async def wait(self, name: str | None, *, task: str, within: float) -> dict[str, Any]:
        """The same, once it has ended or `within` seconds are over."""
        return self._told(await self._gateway.wait(task, min(within, WAIT_AT_ONCE)))

    @verb()
    async def revoke(self, name: str | None, *, task: str) -> dict[str, Any]:
        """Have a task not run; answers with what is known of it then."""
        return self._told(await self._gateway.revoke(task))

    def _told(self, status: TaskStatus) -> dict[str, Any]:
        error = status.error
        told = {
            "app": status.app,
            "queue": status.queue,
            "state": status.state.value,
            "created_at": status.created_at,
            "finished_at": status.finished_at,
            "result": status.result,
            "error": None if error is None else {"type": error.type, "message": error.message},
        }
        if len(dumps(told)) > RESULT_MOST:
            raise OnlyThere(f"the result of task {status.id}", self._branch_id)
        return told


class IssuedTasks:
    """Tells of tasks, revokes them and waits for them: its own at once, those of others by asking.

    Its methods fail as those of `IGateway`, and with `BranchAway` where the branch that knows is away.
    """

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        gateway: IGateway,
        actors: Actors,
        presence: Membership,
        branch_id: str,
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._gateway = gateway
        self._actors = actors
        self._presence = presence
        self._branch_id = branch_id

    async def status(self, task_id: str) -> TaskStatus:
        """See `IGateway.status`."""
        if is_of(task_id, self._branch_id):
            return await self._gateway.status(task_id)
        return await self._ask(task_id, "status")

    async def revoke(self, task_id: str) -> TaskStatus:
        """See `IGateway.revoke`."""
        if is_of(task_id, self._branch_id):
            return await self._gateway.revoke(task_id)
        return await self._ask(task_id, "revoke")

    async def wait(self, task_id: str, timeout: float) -> TaskStatus:
        """See `IGateway.wait`."""
        if is_of(task_id, self._branch_id):
            return await self._gateway.wait(task_id, timeout)
        end = self._clock.seconds() + timeout
        while True:
            left = max(0.0, end - self._clock.seconds())
            status = await self._ask(task_id, "wait", within=left)
            if status.state.is_final or self._clock.seconds() >= end:
                return status

    async def _ask(self, task_id: str, verb: str, **arguments: Any) -> TaskStatus:
        node = node_in(task_id)
        if node is None:
            raise NoSuchTask(task_id)
        name = f"{node:012x}"
        try:
            told = await self._actors.call(
                ACTOR, name, verb, timeout=ANSWER_WITHIN, task=task_id, **arguments
            )
        except (NoRoute, OwnerGone):
            branch = next((one for one in self._branches() if node_of(one) == node), None)
            if branch is None:
                raise NoSuchTask(task_id) from None
            self._presence.finds_nobody(branch)
            since = self._presence.away_since(branch)
            raise BranchAway(branch, None if since is None else moment(since)) from None
        return _read(task_id, told)

    def _branches(self) -> Iterable[str]:
        """The ids of all branches that this one ever heard of."""
        yield from self._presence.known()
        yield from {one.branch for one in self._catalogue.instances()}


def _read(task_id: str, told: Mapping[str, Any]) -> TaskStatus:
    error = told["error"]
    return TaskStatus(
        id=task_id,
        app=told["app"],
        queue=told["queue"],
        state=TaskState(told["state"]),
        created_at=told["created_at"],
        result=told["result"],
        error=None if error is None else TaskError(type=error["type"], message=error["message"]),
        finished_at=told["finished_at"],
    )
