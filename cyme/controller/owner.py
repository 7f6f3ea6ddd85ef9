"""The owner's side of the verbs of instances: the actors `Instance` and `Branch`.

Only here are instances written, so only the branch that runs an instance decides about it.
What the asker checked is not checked again, but for what may have changed on the way: each
change is decided anew inside `ICatalogue.change`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.defer import Deferred

from cyme.actors import ANSWER_WITHIN, Stored, verb
from cyme.controller.claiming import Names
from cyme.controller.details import broker_of, instance_details
from cyme.controller.parameters import concurrency
from cyme.declarations import Declaration, Instance
from cyme.errors import (
    BranchAway,
    BranchCordoned,
    InvalidParameter,
    NameTaken,
    NoProcess,
    NoReply,
    NoRoute,
    NoSuchApp,
    NoSuchInstance,
    NoSuchQueue,
    NotConsuming,
)
from cyme.naming import DEFAULT_QUEUE

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.actors import Actors
    from cyme.interfaces import ICatalogue, ISupervisor

#: Seconds that a worker gets to answer a question (requirements R84).
WORKER_ANSWERS_WITHIN = 3.0
#: The most characters of a log that one answer holds.
LOG_MOST = 1024 * 1024


class InstanceActor:
    """What can be asked of the instances of this branch.

    :param is_alone: see `Names`.
    :param default_broker: gives the URL of the broker of apps that name none.
    """

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        supervisor: ISupervisor,
        actors: Actors,
        is_alone: Callable[[], bool],
        branch_id: str,
        default_broker: Callable[[], str],
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._supervisor = supervisor
        self._actors = actors
        self._names = Names(clock, actors, is_alone)
        self._branch_id = branch_id
        self._default_broker = default_broker

    @verb("app", "generated", "wait")
    async def add(self, name: str | None, *, app: str, generated: str, wait: float, **changes: Any) -> Stored:
        """Add an instance to this branch, or change one of its own.

        The asker chooses the name also where its user did not: a message that comes twice
        finds the instance there and makes no other.

        :param generated: the name when `name` is None.
        :param wait: seconds to wait, once it is stored, until nothing is left to do for it.
        :param changes: fields of `Instance`.
        :return: answers with its details and whether it was `created`.
        """
        chosen = name or generated
        created = False
        asked = {"app": app, "generated": generated, "wait": wait, **changes}

        def decide() -> list[Declaration]:
            nonlocal created
            instance = self._catalogue.instance(chosen)
            if self._catalogue.app(app) is None:
                raise NoSuchApp(app)
            if instance is not None and instance.app != app:
                raise NameTaken(chosen, instance.app)
            if instance is not None and instance.branch != self._branch_id:
                # It is another branch's, which does not answer: it is away.
                raise NoRoute("Instance", chosen)
            for queue in changes.get("queues", ()):
                self._require_queue(app, queue)
            created = instance is None
            if instance is None:
                if self._catalogue.branch(self._branch_id).is_cordoned:
                    raise BranchCordoned(self._branch_id)
                if not self._actors.accepts("Instance"):
                    # It is about to stop, and waits for its workers.
                    raise BranchAway(self._branch_id)
                now = self._clock.seconds()
                instance = Instance(name=chosen, app=app, branch=self._branch_id, created_at=now)
                if self._catalogue.queue(app, DEFAULT_QUEUE) is not None:
                    # See Note [The default queue] in `cyme.controller.tasks`.
                    instance = evolve(instance, queues=(DEFAULT_QUEUE,))
            changed = _changed(instance, changes)
            concurrency(changed.max_concurrency, changed.min_concurrency)
            return [changed]

        there = self._catalogue.instance(chosen)
        if there is not None and there.branch == self._branch_id:
            (stored,) = await self._catalogue.change(decide)
        else:
            written = await self._names.create(chosen, lambda: self._catalogue.change(decide))
            if written is None:
                # Another branch was quicker; what is asked is a change of its instance.
                within = ANSWER_WITHIN + wait
                return Stored(self._actors.call("Instance", chosen, "add", timeout=within, **asked))
            (stored,) = written
        assert isinstance(stored, Instance)

        async def answer() -> dict[str, Any]:
            await self._settle(stored, wait)
            return {**self._details(self._catalogue.instance(chosen) or stored), "created": created}

        return Stored(Deferred.fromCoroutine(answer()))

    @verb()
    def get(self, name: str) -> dict[str, Any]:
        """Answer with the details of an instance."""
        return self._details(self._instance(name))

    @verb()
    async def delete(self, name: str) -> None:
        """Remove an instance; its tombstone keeps the broker, where its private queue is to be deleted."""

        def decide() -> list[Declaration]:
            instance = self._instance(name)
            app = self._catalogue.app(instance.app)
            broker = broker_of(instance, app, self._default_broker())
            return [evolve(instance, deleted=True, broker=broker)]

        await self._catalogue.change(decide)

    @verb()
    async def restart(self, name: str) -> None:
        """Have the worker of an instance replaced."""
        await self._change(name, lambda instance: {"generation": instance.generation + 1})

    @verb("app", "wait")
    async def advance(self, name: str, *, app: str, generation: int, wait: float) -> dict[str, Any]:
        """Have the worker replaced, unless that was done already; however often it is asked.

        :param generation: what the worker is to have been started with, at least.
        :param wait: seconds to wait until nothing is left to do for the instance.
        :return: answers with the details of the instance.
        """

        def replaced(instance: Instance) -> dict[str, Any]:
            if instance.app != app:
                raise NoSuchInstance(name, app)
            return {"generation": max(instance.generation, generation)}

        await self._settle(await self._change(name, replaced), wait)
        return self._details(self._instance(name))

    @verb()
    async def enable(self, name: str) -> None:
        """Have the worker of an instance run."""
        await self._change(name, lambda _: {"is_enabled": True, "drain_until": None})

    @verb()
    async def disable(self, name: str) -> None:
        """Have the worker of an instance stopped, and kept so."""
        await self._change(name, lambda _: {"is_enabled": False, "drain_until": None})

    @verb("wait")
    async def drain(self, name: str, *, deadline: float, wait: float) -> dict[str, Any]:
        """Have the worker of an instance finish what runs, then stopped, and kept so."""
        until = self._clock.seconds() + deadline
        changed = await self._change(name, lambda _: {"is_enabled": False, "drain_until": until})
        if wait > 0:
            await self._supervisor.settled(name, wait)
        return self._details(self._catalogue.instance(name) or changed)

    @verb()
    async def stats(self, name: str) -> dict[str, Any]:
        """Answer with the details of an instance and what its worker says to `stats`, null if nothing."""
        details = self._details(self._instance(name))
        stats = None
        if details["pid"] is not None:
            stats = await self._supervisor.ask(name, "stats", timeout=WORKER_ANSWERS_WITHIN)
        return {**details, "stats": stats}

    @verb()
    async def health(self, name: str) -> dict[str, Any]:
        """Answer with the evidence on an instance's health, and the verdict."""
        instance = self._instance(name)
        health = await self._supervisor.health(name)
        return {"name": name, "app": instance.app, "branch": instance.branch, **health}

    @verb("wait")
    async def autoscale(self, name: str, *, wait: float, max: int | None, min: int | None) -> dict[str, int]:
        """Change the range of an instance's pool; answers with the range."""

        def ends(instance: Instance) -> dict[str, Any]:
            upper = instance.max_concurrency if max is None else max
            lower = instance.min_concurrency if min is None else min
            concurrency(upper, lower, max_parameter="max", min_parameter="min")
            return {"max_concurrency": upper, "min_concurrency": lower}

        changed = await self._change(name, ends)
        await self._settle(changed, wait)
        return {"max": changed.max_concurrency, "min": changed.min_concurrency}

    @verb()
    async def log(self, name: str, *, tail: int) -> str:
        """Answer with the last lines of an instance's log."""
        self._instance(name)
        lines = await self._supervisor.log_tail(name, tail)
        return "".join(f"{line}\n" for line in lines)[-LOG_MOST:]

    @verb("wait")
    async def dump(self, name: str, *, wait: float) -> str:
        """Answer with the stacks of an instance's worker."""
        if self._details(self._instance(name))["pid"] is None:
            raise NoProcess(name)
        return await self._supervisor.dump(name, wait)

    @verb()
    async def consumers(self, name: str) -> dict[str, Any]:
        """Answer with the queues that the worker consumes from now, name -> declaration as it says."""
        if self._details(self._instance(name))["pid"] is None:
            return {}
        queues = await self._supervisor.ask(name, "active_queues", timeout=WORKER_ANSWERS_WITHIN)
        if not isinstance(queues, list):
            raise NoReply("worker", name, WORKER_ANSWERS_WITHIN)
        return {queue["name"]: queue for queue in queues}

    @verb("wait")
    async def consume(self, name: str, *, queue: str, wait: float) -> bool | None:
        """Have an instance consume from a queue of its app; answers with whether that was tried out."""
        instance = self._instance(name)
        self._require_shared(instance, queue)
        self._require_queue(instance.app, queue)
        # The broker's refusal, if any, comes before anything is stored (failure-modes F3).
        tried = await self._supervisor.declare(name, queue) if instance.is_enabled else None

        def decide() -> list[Declaration]:
            instance = self._instance(name)
            self._require_queue(instance.app, queue)
            if queue in instance.queues:
                return [instance]
            return [evolve(instance, queues=(*instance.queues, queue))]

        (changed,) = await self._catalogue.change(decide)
        await self._settle(changed, wait)
        return tried

    @verb("wait")
    async def cancel(self, name: str, *, queue: str, wait: float) -> None:
        """Have an instance stop consuming from a queue."""
        self._require_shared(self._instance(name), queue)

        def remaining(instance: Instance) -> dict[str, Any]:
            if queue not in instance.queues:
                raise NotConsuming(name, queue)
            return {"queues": tuple(one for one in instance.queues if one != queue)}

        await self._settle(await self._change(name, remaining), wait)

    # -- inside -------------------------------------------------------------------------

    async def _change(self, name: str, fields: Callable[[Instance], dict[str, Any]]) -> Instance:
        """Change fields of an instance, decided while nobody else writes."""

        def decide() -> list[Declaration]:
            instance = self._instance(name)
            return [evolve(instance, **fields(instance))]

        (changed,) = await self._catalogue.change(decide)
        assert isinstance(changed, Instance)
        return changed

    async def _settle(self, instance: Declaration, wait: float) -> None:
        assert isinstance(instance, Instance)
        if wait > 0 and instance.is_enabled:
            await self._supervisor.settled(instance.name, wait)

    def _instance(self, name: str) -> Instance:
        instance = self._catalogue.instance(name)
        if instance is None or instance.branch != self._branch_id:
            raise NoSuchInstance(name)
        return instance

    def _details(self, instance: Instance) -> dict[str, Any]:
        app = self._catalogue.app(instance.app)
        return instance_details(instance, app, self._default_broker(), self._supervisor.status(instance))

    def _require_queue(self, app: str, queue: str) -> None:
        if self._catalogue.queue(app, queue) is None:
            raise NoSuchQueue(queue, app)

    def _require_shared(self, instance: Instance, queue: str) -> None:
        """Refuse what is about the private queue: an instance always consumes from it (requirements R63)."""
        if queue == f"dq.{instance.name}":
            raise InvalidParameter("queue", f"{queue!r} is the instance's own, which it always consumes from")


class BranchActor:
    """What can be asked of this branch.

    :param instances: where an instance is placed that is meant for this branch.
    """

    def __init__(self, instances: InstanceActor) -> None:
        self._instances = instances

    @verb("app", "generated", "wait")
    async def place(self, name: str, *, instance: str | None, **arguments: Any) -> Stored:
        """Add an instance to this very branch; see `InstanceActor.add`."""
        return await self._instances.add(instance, **arguments)


def _changed(instance: Instance, changes: dict[str, Any]) -> Instance:
    """An instance with fields as they came off the wire: JSON has no tuples."""
    fields = dict(changes)
    for name in fields.keys() & {"queues", "labels"}:
        fields[name] = tuple(fields[name])
    return evolve(instance, **fields)
