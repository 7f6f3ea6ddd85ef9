"""The verbs of instances: the asker's side.

Checks what can be checked anywhere, finds the owner, and asks its actor (`cyme.controller.owner`).
Reads of what is declared are answered from the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from cyme.actors import ANSWER_WITHIN
from cyme.controller.deferring import returns_deferred
from cyme.controller.details import instance_details, lost, moment
from cyme.controller.names import instance_name
from cyme.controller.parameters import (
    START_PARAMETERS,
    boolean,
    concurrency,
    known,
    queue_names,
    seconds,
    start_changes,
    text,
    whole,
)
from cyme.controller.placer import Placer
from cyme.controller.placing import ROUND_ROBIN, Places, labels_of
from cyme.controller.placing import placement as checked_placement
from cyme.declarations import Instance
from cyme.errors import (
    BranchAway,
    InvalidParameter,
    NameTaken,
    NoRoute,
    NoSuchApp,
    NoSuchInstance,
    NoSuchQueue,
    OwnerGone,
)
from cyme.naming import CONCURRENCY_MOST

if TYPE_CHECKING:
    from cyme.actors import Actors
    from cyme.interfaces import ICatalogue, ISupervisor
    from cyme.membership import Membership

#: The longest that a request may wait for an effect, in seconds.
WAIT_MOST = 600.0
#: The longest deadline of a drain, and the one that holds when none is given, in seconds.
DRAIN_MOST = 7 * 24 * 3600.0
DRAIN_WITHIN = 3600.0
#: The most lines of a log that one request may ask for.
TAIL_MOST = 10_000
#: Parameters at creation, beside `wait` and those that say where.
PARAMETERS = ("is_enabled", "max_concurrency", "min_concurrency", "queues", *START_PARAMETERS)


class Instances:
    """Adds, changes, shows, commands and removes instances, wherever they are.

    `app` may be None wherever an instance is found by name: names are unique in the cluster.

    :param default_broker: gives the URL of the broker of apps that name none.
    """

    def __init__(
        self,
        catalogue: ICatalogue,
        supervisor: ISupervisor,
        actors: Actors,
        places: Places,
        presence: Membership,
        branch_id: str,
        default_broker: Callable[[], str],
    ) -> None:
        self._catalogue = catalogue
        self._supervisor = supervisor
        self._actors = actors
        self._placer = Placer(actors, presence, places)
        self._presence = presence
        self._branch_id = branch_id
        self._default_broker = default_broker

    # -- answered from what this branch knows ------------------------------------------

    def all(self, app: str | None) -> list[str]:
        """The names of an app's instances, or of all, over all branches.

        :raises NoSuchApp: when there is no such app.
        """
        if app is not None:
            self._require_app(app)
        return [instance.name for instance in self._catalogue.instances(app)]

    def autoscale(self, app: str | None, name: str) -> dict[str, int]:
        """The range of an instance's pool, as declared.

        :raises NoSuchApp, NoSuchInstance: when there is no such instance.
        """
        instance = self._find(app, name)
        return {"max": instance.max_concurrency, "min": instance.min_concurrency}

    def get(self, app: str | None, name: str) -> Any:
        """An instance's details; a Deferred of them when another branch owns it.

        :raises NoSuchApp, NoSuchInstance: when there is no such instance.
        """
        instance = self._find(app, name)
        if instance.branch == self._branch_id:
            return self._details(instance, self._supervisor.status(instance))
        return self._get_elsewhere(instance)

    @returns_deferred
    async def _get_elsewhere(self, instance: Instance) -> Any:
        try:
            return await self._actors.call("Instance", instance.name, "get")
        except (NoRoute, OwnerGone):
            since = await self._away_since(instance)
            return self._details(instance, lost(since))

    async def _away_since(self, instance: Instance) -> str:
        """Since when the branch of an instance that nobody owns is away, in words.

        :raises NoSuchInstance: when it is there, and the instance was deleted meanwhile.
        :raises NoRoute: when it is there.
        """
        try:
            # Its answer comes after what it told before.
            await self._actors.call("Catalogue", instance.branch, "versions", after=None, limit=0)
        except NoRoute:
            self._presence.finds_nobody(instance.branch)
            since = self._presence.away_since(instance.branch)
            return moment(since if since is not None else 0.0)
        self._find(instance.app, instance.name)
        raise NoRoute("Instance", instance.name)

    # -- add --------------------------------------------------------------------------------

    @returns_deferred
    async def add(
        self,
        app: str,
        name: str | None,
        *,
        wait: float = 0.0,
        branch: str | None = None,
        placement: str | None = None,
        label: Sequence[str] | None = None,
        **params: Any,
    ) -> tuple[bool, dict[str, Any]]:
        """Add and start an instance, or change one of the same app by the parameters given.

        :param name: None for a generated name.
        :param wait: seconds to wait until its worker answers, or it is clear that it will not soon.
        :param branch: the id of the branch to place it on; None lets the cluster pick one.
        :param placement: how it picks, one of `placing.PLACEMENTS`; None for the first of them.
        :param label: `NAME=VALUE` of each label that the branch has to have, also when the instance
            is moved later.
        :param params: `PARAMETERS`; `queues` is a list of names, and replaces what there was.
        :return: fires with (whether it is new, its details) when it is stored, and waited for.
        :raises NoSuchApp, NoSuchQueue, NoSuchBranch: when one of them is unknown.
        :raises NameTaken: when an instance of another app has the name.
        :raises NoPlace: when no live branch takes new instances, or none of those has the labels.
        :raises BranchAway, BranchCordoned: when that holds for the branch that was named.
        :raises NameClaimed: while another branch is busy creating an instance of that name.
        :raises InvalidName, InvalidParameter: when something can't be; nothing is changed.
        """
        self._require_app(app)
        if name is not None:
            instance_name(name)
        labels = () if label is None else labels_of("label", label)
        how = ROUND_ROBIN if placement is None else checked_placement("placement", placement)
        if branch is not None and placement is not None:
            raise InvalidParameter("placement", "there is nothing to pick: 'branch' names the branch")
        changes = self._changes(app, known(params, PARAMETERS))
        arguments = {
            "app": app,
            "generated": str(uuid4()),
            "wait": seconds("wait", wait, WAIT_MOST),
            **changes,
        }
        if branch is not None:
            text("branch", branch)
        timeout = ANSWER_WITHIN + wait
        there = self._catalogue.instance(name) if name is not None else None
        details = None
        if there is not None:
            self._require_same(there, app, branch, labels)
            try:
                details = await self._call_owner(there, "add", timeout, arguments)
            except NoSuchInstance:
                pass  # it was deleted meanwhile
        if details is None:
            details = await self._placer.place(branch, labels, how, name, timeout, arguments)
        created = details.pop("created")
        return created, details

    def _changes(self, app: str, given: dict[str, Any]) -> dict[str, Any]:
        """What parameters say, as fields of an `Instance`."""
        changes: dict[str, Any] = {}
        if "is_enabled" in given:
            changes["is_enabled"] = boolean("is_enabled", given["is_enabled"])
        if "max_concurrency" in given:
            changes["max_concurrency"] = whole(
                "max_concurrency", given["max_concurrency"], 1, CONCURRENCY_MOST
            )
        if "min_concurrency" in given:
            changes["min_concurrency"] = whole(
                "min_concurrency", given["min_concurrency"], 0, CONCURRENCY_MOST
            )
        if "max_concurrency" in changes and "min_concurrency" in changes:
            concurrency(changes["max_concurrency"], changes["min_concurrency"])
        if "queues" in given:
            changes["queues"] = queue_names("queues", given["queues"])
            for queue in changes["queues"]:
                if self._catalogue.queue(app, queue) is None:
                    raise NoSuchQueue(queue, app)
        return {**changes, **start_changes(given)}

    def _require_same(self, there: Instance, app: str, branch: str | None, labels: Sequence[str]) -> None:
        """Refuse to take an instance from another app, or to move it."""
        if there.app != app:
            raise NameTaken(there.name, there.app)
        if branch is not None and branch != there.branch:
            problem = (
                f"instance {there.name!r} is on branch {there.branch!r}; delete it there to place it anew"
            )
            raise InvalidParameter("branch", problem)
        if labels and tuple(labels) != there.labels:
            asked = " ".join(there.labels) or "none"
            problem = (
                f"instance {there.name!r} was placed by other labels ({asked}); delete it to place it anew"
            )
            raise InvalidParameter("label", problem)

    # -- commands to the owner --------------------------------------------------------------

    @returns_deferred
    async def delete(self, app: str | None, name: str) -> None:
        """Remove an instance; its worker stops warmly in its own time.

        :raises NoSuchApp, NoSuchInstance: when there is no such instance.
        """
        await self._at_owner(app, name, "delete")

    @returns_deferred
    async def restart(self, app: str | None, name: str) -> None:
        """Have the worker replaced, warmly.

        :raises NoSuchApp, NoSuchInstance: when there is no such instance.
        """
        await self._at_owner(app, name, "restart")

    @returns_deferred
    async def enable(self, app: str | None, name: str) -> None:
        """Have the worker run.

        :raises NoSuchApp, NoSuchInstance: when there is no such instance.
        """
        await self._at_owner(app, name, "enable")

    @returns_deferred
    async def disable(self, app: str | None, name: str) -> None:
        """Have the worker stopped, and kept so.

        :raises NoSuchApp, NoSuchInstance: when there is no such instance.
        """
        await self._at_owner(app, name, "disable")

    @returns_deferred
    async def drain(
        self, app: str | None, name: str, *, deadline: float = DRAIN_WITHIN, wait: float = 0.0
    ) -> Any:
        """Have the worker take no more tasks, finish those that run, and stop; it is disabled then.

        :param deadline: seconds until what still runs is given back to the broker. A second
            drain can bring it forward.
        :param wait: seconds to wait until the worker has stopped.
        :return: fires with the instance's details; `draining` says how far it is.
        :raises NoSuchApp, NoSuchInstance: when there is no such instance.
        :raises InvalidParameter: when `deadline` or `wait` can't be.
        """
        within = seconds("deadline", deadline, DRAIN_MOST)
        return await self._at_owner(app, name, "drain", wait=wait, deadline=within)

    @returns_deferred
    async def stats(self, app: str | None, name: str) -> Any:
        """Fire with the details and, under `stats`, what the worker says of itself; None if nothing.

        :raises NoSuchApp, NoSuchInstance: when there is no such instance.
        :raises BrokerAway: when the worker can't be asked.
        """
        return await self._at_owner(app, name, "stats")

    @returns_deferred
    async def health(self, app: str | None, name: str) -> Any:
        """Fire with the evidence on an instance's health and the `verdict`; see `ISupervisor.health`.

        :raises NoSuchApp, NoSuchInstance: when there is no such instance.
        """
        instance = self._find(app, name)
        try:
            return await self._actors.call("Instance", instance.name, "health")
        except (NoRoute, OwnerGone):
            return {
                "name": instance.name,
                "app": instance.app,
                "branch": instance.branch,
                "verdict": "unknown",
                "reason": f"its branch is away since {await self._away_since(instance)}",
                "state": "lost",
            }

    @returns_deferred
    async def set_autoscale(
        self,
        app: str | None,
        name: str,
        *,
        max: int | None = None,
        min: int | None = None,
        wait: float = 5.0,
    ) -> Any:
        """Change the range of the pool; what is left out stays.

        :param wait: seconds to wait until the worker has it.
        :return: fires with `{"max", "min"}`.
        :raises NoSuchApp, NoSuchInstance: when there is no such instance.
        :raises InvalidParameter: when the range can't be.
        """
        if max is not None:
            whole("max", max, 1, CONCURRENCY_MOST)
        if min is not None:
            whole("min", min, 0, CONCURRENCY_MOST)
        return await self._at_owner(app, name, "autoscale", wait=wait, max=max, min=min)

    @returns_deferred
    async def log(self, app: str | None, name: str, tail: int = 100) -> Any:
        """Fire with the last `tail` lines of the worker's log.

        :raises NoSuchApp, NoSuchInstance: when there is no such instance.
        """
        return await self._at_owner(app, name, "log", tail=whole("tail", tail, 1, TAIL_MOST))

    @returns_deferred
    async def dump(self, app: str | None, name: str, *, wait: float = 5.0) -> Any:
        """Fire with the stacks of the worker's main process, as text; its log has them too.

        :param wait: seconds that the worker has to print them.
        :raises NoSuchApp, NoSuchInstance: when there is no such instance.
        :raises NoProcess: when it has no worker process now.
        :raises NoDump: when the worker printed nothing.
        """
        return await self._at_owner(app, name, "dump", wait=wait)

    @returns_deferred
    async def consumers(self, app: str | None, name: str) -> Any:
        """Fire with queue name -> declaration, of what the worker consumes from now.

        :raises NoSuchApp, NoSuchInstance: when there is no such instance.
        :raises NoReply, BrokerAway: when the worker does not answer, or can't be asked.
        """
        return await self._at_owner(app, name, "consumers")

    @returns_deferred
    async def consume(self, app: str | None, name: str, queue: str, *, wait: float = 5.0) -> Any:
        """Have the instance consume from a queue of its app.

        :param wait: seconds to wait until the worker does.
        :return: fires with whether the declaration was tried on the broker first: False where its
            transport has no declarations, None for a disabled instance.
        :raises NoSuchApp, NoSuchInstance, NoSuchQueue: when one of them is unknown.
        :raises DeclarationMismatch, InvalidDeclaration, BrokerAway: when the broker can't make
            the queue, or be asked; nothing is changed.
        """
        return await self._at_owner(app, name, "consume", wait=wait, queue=text("queue", queue))

    @returns_deferred
    async def cancel(self, app: str | None, name: str, queue: str, *, wait: float = 5.0) -> None:
        """Have the instance stop consuming from a queue.

        :param wait: seconds to wait until the worker does.
        :raises NoSuchApp, NoSuchInstance: when one of them is unknown.
        :raises NotConsuming: when it does not consume from it.
        :raises InvalidParameter: when it is the instance's private queue.
        """
        await self._at_owner(app, name, "cancel", wait=wait, queue=text("queue", queue))

    async def _at_owner(
        self, app: str | None, name: str, verb: str, *, wait: float | None = None, **arguments: Any
    ) -> Any:
        """Ask the branch that owns an instance.

        :param wait: seconds that the verb itself may wait; None for a verb that does not.
        """
        instance = self._find(app, name)
        timeout = ANSWER_WITHIN
        if wait is not None:
            arguments["wait"] = seconds("wait", wait, WAIT_MOST)
            timeout += wait
        return await self._call_owner(instance, verb, timeout, arguments)

    async def _call_owner(
        self, instance: Instance, verb: str, timeout: float, arguments: dict[str, Any]
    ) -> Any:
        try:
            return await self._actors.call("Instance", instance.name, verb, timeout=timeout, **arguments)
        except NoRoute as nobody:
            if nobody.arguments != ("Instance", instance.name):
                raise
            raise BranchAway(instance.branch, await self._away_since(instance)) from None

    # -- inside ---------------------------------------------------------------------------------

    def _details(self, instance: Instance, status: Any) -> dict[str, Any]:
        app = self._catalogue.app(instance.app)
        return instance_details(instance, app, self._default_broker(), status)

    def _find(self, app: str | None, name: str) -> Instance:
        if app is not None:
            self._require_app(app)
        instance = self._catalogue.instance(name)
        if instance is None or app not in (None, instance.app):
            raise NoSuchInstance(name, app)
        return instance

    def _require_app(self, app: str) -> None:
        if self._catalogue.app(app) is None:
            raise NoSuchApp(app)
