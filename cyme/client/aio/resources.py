"""The objects of `cyme.client.resources`, with the same methods, whose results are awaited.

Where those take `del things[name]`, these have `await things.delete(name)` alone.
Objects are handles: they know a name, not a state. `info` is what the branch said last.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cyme.client import calls
from cyme.client.aio.events import Events, LogFollower
from cyme.client.aio.tasks import Task
from cyme.client.resources import name_of
from cyme.client.wire import Listing

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from cyme.client.aio.sessions import Session
    from cyme.client.types import (
        AppInfo,
        Autoscale,
        BranchInfo,
        InstanceGlance,
        InstanceInfo,
        InstanceParameters,
        QueueInfo,
        QueueingParameters,
        Rollout,
        SendingParameters,
        StartParameters,
    )


class Apps:
    """The apps of the cluster: `async for`, `await things[name]`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def all(self) -> list[str]:
        """The names of all apps."""
        return await self._session.call(calls.apps())

    async def get(self, name: str) -> App:
        """An app, with its `info`.

        :raises NoSuchApp: when there is none.
        """
        info = await self._session.call(calls.app(name))
        return App(self._session, name, info)

    async def add(
        self, name: str | None = None, *, nowait: bool = False, **parameters: Unpack[StartParameters]
    ) -> App:
        """Create an app, or change it by the parameters given; without a name it gets one.

        :param nowait: return once it is accepted.
        """
        info = await self._session.call(calls.app_add(name, parameters, nowait))
        return App(self._session, info["name"], info)

    async def delete(self, name: str, *, nowait: bool = False) -> None:
        """Delete an app with its instances and queue declarations."""
        await self._session.call(calls.app_delete(name, nowait))

    async def __aiter__(self) -> AsyncIterator[App]:
        for name in await self.all():
            yield App(self._session, name)

    async def __getitem__(self, name: str) -> App:
        return await self.get(name)


class App:
    """One app.

    :ivar info: its configuration as the branch told it last; empty if it did not yet.
    """

    def __init__(self, session: Session, name: str, info: AppInfo | None = None) -> None:
        self._session = session
        self.name = name
        self.info: AppInfo = info or {}
        self.instances = Instances(session, name)
        self.queues = Queues(session, name)

    def __repr__(self) -> str:
        return f"<App: {self.name!r}>"

    async def refresh(self) -> AppInfo:
        """Ask for its configuration anew."""
        self.info = await self._session.call(calls.app(self.name))
        return self.info

    async def change(self, **parameters: Unpack[StartParameters]) -> AppInfo:
        """Change its configuration by the parameters given; its workers are restarted where they need it."""
        self.info = await self._session.call(calls.app_add(self.name, parameters))
        return self.info

    async def delete(self, *, nowait: bool = False) -> None:
        """Delete it with its instances and queue declarations."""
        await self._session.call(calls.app_delete(self.name, nowait))

    async def restart(
        self,
        *,
        parallel: int | None = None,
        timeout: float | None = None,
        wait: float | None = None,
        nowait: bool = False,
    ) -> Rollout:
        """Restart its instances, the next only when the one before it is back.

        :param parallel: how many may be under way at a time.
        :param timeout: seconds that each may take.
        :param wait: seconds after which this returns in any case; `state` says how far it is.
        """
        return await self._session.call(calls.rollout_begin(self.name, parallel, timeout, wait, nowait))

    async def rollout(self) -> Rollout:
        """Its last rolling restart, and how far that has come.

        :raises NoSuchRollout: when it never had one.
        """
        return await self._session.call(calls.rollout(self.name))

    async def call_off(self, *, nowait: bool = False) -> Rollout:
        """Have nothing further restarted."""
        return await self._session.call(calls.rollout_call_off(self.name, nowait))

    async def queue(
        self,
        url: str,
        queue: str | Queue | None = None,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes | str | None = None,
        **options: Unpack[QueueingParameters],
    ) -> Task:
        """Have a worker make an HTTP request; returns as soon as the broker has it.

        :param queue: where it goes; the app's default queue without it.
        :param headers: for the target, `Content-Type` of the body among them.
        """
        pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        queued = await self._session.call(
            calls.queue_request(
                self.name,
                url,
                name_of(queue),
                method=method,
                headers=pairs,
                body=body.encode() if isinstance(body, str) else body,
                **options,
            )
        )
        return Task(self._session, self.name, queued["uuid"], queued)

    async def send(
        self,
        task: str,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[SendingParameters],
    ) -> Task:
        """Have a worker run a Celery task of the app, by its name."""
        queued = await self._session.call(calls.send_task(self.name, task, args, kwargs, **options))
        return Task(self._session, self.name, queued["uuid"], queued)

    def task(self, uuid: str) -> Task:
        """A task that was queued before."""
        return Task(self._session, self.name, uuid)


class Instances:
    """The instances of an app, or with None of all: `async for`, `await things[name]`."""

    def __init__(self, session: Session, app: str | None) -> None:
        self._session = session
        self.app = app

    async def all(self) -> list[str]:
        """The names, over all branches."""
        return await self._session.call(calls.instances(self.app))

    async def details(self, state: str | None = None) -> Listing[InstanceGlance]:
        """How all of them are, in short, by name; branches that could not be heard are in `missing`.

        :param state: those in this state alone; `attention` for all that ought to be looked at.
        """
        found: Listing[InstanceGlance] = Listing([], [])
        while True:
            page = await self._session.call(calls.instance_details(self.app, len(found), state))
            found.add(page)
            if len(page) < calls.PAGE:
                return found

    async def get(self, name: str) -> Instance:
        """An instance, with its `info`.

        :raises NoSuchInstance: when there is none.
        """
        info = await self._session.call(calls.instance(self.app, name))
        return Instance(self._session, info.get("app", self.app), name, info)

    async def add(
        self,
        name: str | None = None,
        *,
        wait: float | None = None,
        nowait: bool = False,
        **parameters: Unpack[InstanceParameters],
    ) -> Instance:
        """Create an instance, or change it by the parameters given; without a name it gets a UUID.

        :param wait: seconds to wait for its worker to answer.
        :param nowait: return once it is accepted.
        """
        if self.app is None:
            raise TypeError("an instance is created in an app: client.app(NAME).instances.add(...)")
        info = await self._session.call(calls.instance_add(self.app, name, parameters, wait, nowait))
        return Instance(self._session, self.app, info["name"], info)

    async def delete(self, name: str, *, nowait: bool = False) -> None:
        """Delete an instance; its worker finishes what it runs and stops."""
        await self._session.call(calls.instance_delete(self.app, name, nowait))

    async def __aiter__(self) -> AsyncIterator[Instance]:
        for name in await self.all():
            yield Instance(self._session, self.app, name)

    async def __getitem__(self, name: str) -> Instance:
        return await self.get(name)


class Instance:
    """One instance: a worker, as it is declared and as it is.

    :ivar info: what the branch told of it last; empty if it did not yet.
    """

    def __init__(
        self, session: Session, app: str | None, name: str, info: InstanceInfo | None = None
    ) -> None:
        self._session = session
        self.app = app
        self.name = name
        self.info: InstanceInfo = info or {}
        self.consumers = Consumers(session, app, name)
        self.events = Events(session, app, name)

    def __repr__(self) -> str:
        return f"<Instance: {self.name!r}>"

    async def refresh(self) -> InstanceInfo:
        """Ask how it is now."""
        self.info = await self._session.call(calls.instance(self.app, self.name))
        return self.info

    async def change(
        self, *, wait: float | None = None, **parameters: Unpack[InstanceParameters]
    ) -> InstanceInfo:
        """Change its declaration by the parameters given."""
        app = self.app if self.app is not None else (await self.refresh())["app"]
        self.info = await self._session.call(calls.instance_add(app, self.name, parameters, wait))
        return self.info

    async def delete(self, *, nowait: bool = False) -> None:
        """Delete it; its worker finishes what it runs and stops."""
        await self._session.call(calls.instance_delete(self.app, self.name, nowait))

    async def enable(self, *, nowait: bool = False) -> None:
        """Have its worker run."""
        await self._session.call(calls.instance_action(self.app, self.name, "enable", nowait))

    async def disable(self, *, nowait: bool = False) -> None:
        """Have its worker stopped."""
        await self._session.call(calls.instance_action(self.app, self.name, "disable", nowait))

    async def restart(self, *, nowait: bool = False) -> None:
        """Restart its worker warmly."""
        await self._session.call(calls.instance_action(self.app, self.name, "restart", nowait))

    async def drain(
        self, *, deadline: float | None = None, wait: float | None = None, nowait: bool = False
    ) -> None:
        """Have its worker take no more tasks, finish those that run, and stay stopped.

        :param deadline: seconds after which what still runs is given back to the broker.
        :param wait: seconds to wait for the end of it.
        """
        await self._session.call(calls.instance_drain(self.app, self.name, deadline, wait, nowait))

    async def stats(self) -> dict[str, Any]:
        """Configuration, and under `stats` what the worker says of itself."""
        return await self._session.call(calls.instance_stats(self.app, self.name))

    async def health(self) -> dict[str, Any]:
        """The evidence of its health, and a `verdict`."""
        return await self._session.call(calls.instance_health(self.app, self.name))

    async def autoscale(
        self,
        max: int | None = None,
        min: int | None = None,
        *,
        wait: float | None = None,
        nowait: bool = False,
    ) -> Autoscale:
        """The bounds of its pool; changed first, where `max` or `min` is given."""
        if max is None and min is None:
            return await self._session.call(calls.autoscale(self.app, self.name))
        return await self._session.call(calls.autoscale_change(self.app, self.name, max, min, wait, nowait))

    async def log(self, tail: int | None = None) -> str:
        """The last lines of its worker's log, 100 unless `tail` says otherwise."""
        return await self._session.call(calls.instance_log(self.app, self.name, tail))

    def follow_log(self, tail: int = 10, *, interval: float = 1.0) -> AsyncIterator[str]:
        """The last lines of its worker's log, and then what is written to it, without an end.

        :param interval: seconds between two looks.
        """
        return LogFollower(self._session, self.app, self.name).follow(tail, interval)

    async def dump(self, *, wait: float | None = None) -> str:
        """The stacks of its worker's main process."""
        return await self._session.call(calls.instance_dump(self.app, self.name, wait))


class Consumers:
    """What an instance consumes from: `async for` queue names, `await consumers[queue]`."""

    def __init__(self, session: Session, app: str | None, name: str) -> None:
        self._session = session
        self._app = app
        self._name = name

    async def all(self) -> dict[str, Any]:
        """The queues that its worker consumes from now, each with its declaration."""
        return await self._session.call(calls.consumers(self._app, self._name))

    async def add(
        self, queue: str | Queue, *, wait: float | None = None, nowait: bool = False
    ) -> dict[str, Any]:
        """Have it consume from a queue.

        :raises NoSuchQueue: when its app declares none of that name.
        """
        name = name_of(queue)
        return await self._session.call(calls.consumer_add(self._app, self._name, name, wait, nowait))

    async def delete(
        self, queue: str | Queue, *, wait: float | None = None, nowait: bool = False
    ) -> dict[str, Any]:
        """Have it stop consuming from a queue.

        :raises NotConsuming: when it does not.
        """
        name = name_of(queue)
        return await self._session.call(calls.consumer_delete(self._app, self._name, name, wait, nowait))

    async def __aiter__(self) -> AsyncIterator[str]:
        for name in await self.all():
            yield name

    async def __getitem__(self, queue: str) -> Any:
        return (await self.all())[queue]


class Queues:
    """The queue declarations of an app: `async for`, `await things[name]`."""

    def __init__(self, session: Session, app: str) -> None:
        self._session = session
        self.app = app

    async def all(self) -> list[str]:
        """The names."""
        return await self._session.call(calls.queues(self.app))

    async def get(self, name: str) -> Queue:
        """A declaration, with its `info`.

        :raises NoSuchQueue: when there is none.
        """
        info = await self._session.call(calls.queue(self.app, name))
        return Queue(self._session, self.app, name, info)

    async def add(
        self,
        name: str,
        exchange: str | None = None,
        exchange_type: str | None = None,
        routing_key: str | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        nowait: bool = False,
        **more_options: Any,
    ) -> Queue:
        """Declare a queue, or change its declaration by what is given.

        :param options: of the queue, exchange and binding; `more_options` are such, too.
        """
        parameters = calls.queue_parameters(exchange, exchange_type, routing_key, options, more_options)
        info = await self._session.call(calls.queue_add(self.app, name, parameters, nowait))
        return Queue(self._session, self.app, name, info)

    async def delete(self, name: str, *, nowait: bool = False) -> None:
        """Delete a declaration; every instance stops consuming from the queue."""
        await self._session.call(calls.queue_delete(self.app, name, nowait))

    async def __aiter__(self) -> AsyncIterator[Queue]:
        for name in await self.all():
            yield Queue(self._session, self.app, name)

    async def __getitem__(self, name: str) -> Queue:
        return await self.get(name)


class Queue:
    """One queue declaration.

    :ivar info: what the branch told of it last; empty if it did not yet.
    """

    def __init__(self, session: Session, app: str, name: str, info: QueueInfo | None = None) -> None:
        self._session = session
        self.app = app
        self.name = name
        self.info: QueueInfo = info or {}

    def __repr__(self) -> str:
        return f"<Queue: {self.name!r}>"

    async def refresh(self) -> QueueInfo:
        """Ask for its declaration, and for what its broker counts now."""
        self.info = await self._session.call(calls.queue(self.app, self.name))
        return self.info

    async def delete(self, *, nowait: bool = False) -> None:
        """Delete the declaration; every instance stops consuming from the queue."""
        await self._session.call(calls.queue_delete(self.app, self.name, nowait))

    async def pause(self, *, nowait: bool = False) -> None:
        """Have no instance consume from it, until it is resumed."""
        await self._session.call(calls.queue_action(self.app, self.name, "pause", nowait))

    async def resume(self, *, nowait: bool = False) -> None:
        """Have the instances consume from it again."""
        await self._session.call(calls.queue_action(self.app, self.name, "resume", nowait))

    async def purge(self) -> int:
        """Remove the messages that wait in it; how many they were."""
        return await self._session.call(calls.queue_purge(self.app, self.name))


class Branches:
    """The live branches: `async for`, `await branches[id]`; called it is the list of ids."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def all(self) -> list[str]:
        """The ids."""
        return await self._session.call(calls.branches())

    async def get(self, id: str) -> Branch:
        """A branch, with its `info`.

        :raises NoSuchBranch: when there is no live one of that id.
        """
        info = await self._session.call(calls.branch(id))
        return Branch(self._session, id, info)

    async def __call__(self) -> list[str]:
        return await self.all()

    async def __aiter__(self) -> AsyncIterator[Branch]:
        for id in await self.all():
            yield Branch(self._session, id)

    async def __getitem__(self, id: str) -> Branch:
        return await self.get(id)


class Branch:
    """One branch.

    :ivar info: what it told of itself last; empty if it did not yet.
    """

    def __init__(self, session: Session, id: str, info: BranchInfo | None = None) -> None:
        self._session = session
        self.id = id
        self.info: BranchInfo = info or {}

    def __repr__(self) -> str:
        return f"<Branch: {self.id!r}>"

    async def refresh(self) -> BranchInfo:
        """Ask how it is now."""
        self.info = await self._session.call(calls.branch(self.id))
        return self.info

    async def cordon(self, *, nowait: bool = False) -> dict[str, Any]:
        """Have it take no new instances, also after it is started again."""
        return await self._session.call(calls.branch_action(self.id, "cordon", nowait))

    async def uncordon(self, *, nowait: bool = False) -> dict[str, Any]:
        """Have it take new instances again; a drain of it ends where it is."""
        return await self._session.call(calls.branch_action(self.id, "uncordon", nowait))

    async def drain(self, *, nowait: bool = False) -> dict[str, Any]:
        """Have it take no new instances, and move those that it has to others."""
        return await self._session.call(calls.branch_action(self.id, "drain", nowait))

    async def evacuate(self, *, nowait: bool = False) -> dict[str, Any]:
        """Give the instances of a branch that is away to live ones.

        :raises BranchLives: when it is not away.
        """
        return await self._session.call(calls.branch_action(self.id, "evacuate", nowait))

    async def shutdown(self, *, nowait: bool = False) -> dict[str, Any]:
        """Stop it in good order, as SIGTERM does."""
        return await self._session.call(calls.branch_action(self.id, "shutdown", nowait))
