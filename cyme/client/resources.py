"""A branch and what it manages as objects; every method asks the branch and returns what it answers.

`cyme.client.aio.resources` has the same objects with the same methods, whose results are awaited.
Objects are handles: they know a name, not a state. `info` is what the branch said last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cyme.client import calls
from cyme.client.events import Events, LogFollower
from cyme.client.tasks import Task
from cyme.client.wire import Listing

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from cyme.client.synchronous import Session
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
    """The apps of the cluster: iterable, `[name]`, `del apps[name]`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[str]:
        """The names of all apps."""
        return self._session.call(calls.apps())

    def get(self, name: str) -> App:
        """An app, with its `info`.

        :raises NoSuchApp: when there is none.
        """
        return App(self._session, name, self._session.call(calls.app(name)))

    def add(
        self, name: str | None = None, *, nowait: bool = False, **parameters: Unpack[StartParameters]
    ) -> App:
        """Create an app, or change it by the parameters given; without a name it gets one.

        :param nowait: return once it is accepted.
        """
        info = self._session.call(calls.app_add(name, parameters, nowait))
        return App(self._session, info["name"], info)

    def delete(self, name: str, *, nowait: bool = False) -> None:
        """Delete an app with its instances and queue declarations."""
        self._session.call(calls.app_delete(name, nowait))

    def __iter__(self) -> Iterator[App]:
        return (App(self._session, name) for name in self.all())

    def __getitem__(self, name: str) -> App:
        return self.get(name)

    def __delitem__(self, name: str) -> None:
        self.delete(name)


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

    def refresh(self) -> AppInfo:
        """Ask for its configuration anew."""
        self.info = self._session.call(calls.app(self.name))
        return self.info

    def change(self, **parameters: Unpack[StartParameters]) -> AppInfo:
        """Change its configuration by the parameters given; its workers are restarted where they need it."""
        self.info = self._session.call(calls.app_add(self.name, parameters))
        return self.info

    def delete(self, *, nowait: bool = False) -> None:
        """Delete it with its instances and queue declarations."""
        self._session.call(calls.app_delete(self.name, nowait))

    def restart(
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
        return self._session.call(calls.rollout_begin(self.name, parallel, timeout, wait, nowait))

    def rollout(self) -> Rollout:
        """Its last rolling restart, and how far that has come.

        :raises NoSuchRollout: when it never had one.
        """
        return self._session.call(calls.rollout(self.name))

    def call_off(self, *, nowait: bool = False) -> Rollout:
        """Have nothing further restarted."""
        return self._session.call(calls.rollout_call_off(self.name, nowait))

    def queue(
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
        queued = self._session.call(
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

    def send(
        self,
        task: str,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[SendingParameters],
    ) -> Task:
        """Have a worker run a Celery task of the app, by its name."""
        queued = self._session.call(calls.send_task(self.name, task, args, kwargs, **options))
        return Task(self._session, self.name, queued["uuid"], queued)

    def task(self, uuid: str) -> Task:
        """A task that was queued before."""
        return Task(self._session, self.name, uuid)


class Instances:
    """The instances of an app, or with None of all: iterable, `[name]`, `del instances[name]`."""

    def __init__(self, session: Session, app: str | None) -> None:
        self._session = session
        self.app = app

    def all(self) -> list[str]:
        """The names, over all branches."""
        return self._session.call(calls.instances(self.app))

    def details(self, state: str | None = None) -> Listing[InstanceGlance]:
        """How all of them are, in short, by name; branches that could not be heard are in `missing`.

        :param state: those in this state alone; `attention` for all that ought to be looked at.
        """
        found: Listing[InstanceGlance] = Listing([], [])
        while True:
            page = self._session.call(calls.instance_details(self.app, len(found), state))
            found.add(page)
            if len(page) < calls.PAGE:
                return found

    def get(self, name: str) -> Instance:
        """An instance, with its `info`.

        :raises NoSuchInstance: when there is none.
        """
        info = self._session.call(calls.instance(self.app, name))
        return Instance(self._session, info.get("app", self.app), name, info)

    def add(
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
        info = self._session.call(calls.instance_add(self.app, name, parameters, wait, nowait))
        return Instance(self._session, self.app, info["name"], info)

    def delete(self, name: str, *, nowait: bool = False) -> None:
        """Delete an instance; its worker finishes what it runs and stops."""
        self._session.call(calls.instance_delete(self.app, name, nowait))

    def __iter__(self) -> Iterator[Instance]:
        return (Instance(self._session, self.app, name) for name in self.all())

    def __getitem__(self, name: str) -> Instance:
        return self.get(name)

    def __delitem__(self, name: str) -> None:
        self.delete(name)


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

    def refresh(self) -> InstanceInfo:
        """Ask how it is now."""
        self.info = self._session.call(calls.instance(self.app, self.name))
        return self.info

    def change(self, *, wait: float | None = None, **parameters: Unpack[InstanceParameters]) -> InstanceInfo:
        """Change its declaration by the parameters given."""
        app = self.app if self.app is not None else self.refresh()["app"]
        self.info = self._session.call(calls.instance_add(app, self.name, parameters, wait))
        return self.info

    def delete(self, *, nowait: bool = False) -> None:
        """Delete it; its worker finishes what it runs and stops."""
        self._session.call(calls.instance_delete(self.app, self.name, nowait))

    def enable(self, *, nowait: bool = False) -> None:
        """Have its worker run."""
        self._session.call(calls.instance_action(self.app, self.name, "enable", nowait))

    def disable(self, *, nowait: bool = False) -> None:
        """Have its worker stopped."""
        self._session.call(calls.instance_action(self.app, self.name, "disable", nowait))

    def restart(self, *, nowait: bool = False) -> None:
        """Restart its worker warmly."""
        self._session.call(calls.instance_action(self.app, self.name, "restart", nowait))

    def drain(
        self, *, deadline: float | None = None, wait: float | None = None, nowait: bool = False
    ) -> None:
        """Have its worker take no more tasks, finish those that run, and stay stopped.

        :param deadline: seconds after which what still runs is given back to the broker.
        :param wait: seconds to wait for the end of it.
        """
        self._session.call(calls.instance_drain(self.app, self.name, deadline, wait, nowait))

    def stats(self) -> dict[str, Any]:
        """Configuration, and under `stats` what the worker says of itself."""
        return self._session.call(calls.instance_stats(self.app, self.name))

    def health(self) -> dict[str, Any]:
        """The evidence of its health, and a `verdict`."""
        return self._session.call(calls.instance_health(self.app, self.name))

    def autoscale(
        self,
        max: int | None = None,
        min: int | None = None,
        *,
        wait: float | None = None,
        nowait: bool = False,
    ) -> Autoscale:
        """The bounds of its pool; changed first, where `max` or `min` is given."""
        if max is None and min is None:
            return self._session.call(calls.autoscale(self.app, self.name))
        return self._session.call(calls.autoscale_change(self.app, self.name, max, min, wait, nowait))

    def log(self, tail: int | None = None) -> str:
        """The last lines of its worker's log, 100 unless `tail` says otherwise."""
        return self._session.call(calls.instance_log(self.app, self.name, tail))

    def follow_log(self, tail: int = 10, *, interval: float = 1.0) -> Iterator[str]:
        """The last lines of its worker's log, and then what is written to it, without an end.

        :param interval: seconds between two looks.
        """
        return LogFollower(self._session, self.app, self.name).follow(tail, interval)

    def dump(self, *, wait: float | None = None) -> str:
        """The stacks of its worker's main process."""
        return self._session.call(calls.instance_dump(self.app, self.name, wait))


class Consumers:
    """What an instance consumes from: iterable by queue names, `[queue]`, `del consumers[queue]`."""

    def __init__(self, session: Session, app: str | None, name: str) -> None:
        self._session = session
        self._app = app
        self._name = name

    def all(self) -> dict[str, Any]:
        """The queues that its worker consumes from now, each with its declaration."""
        return self._session.call(calls.consumers(self._app, self._name))

    def add(self, queue: str | Queue, *, wait: float | None = None, nowait: bool = False) -> dict[str, Any]:
        """Have it consume from a queue.

        :raises NoSuchQueue: when its app declares none of that name.
        """
        name = name_of(queue)
        return self._session.call(calls.consumer_add(self._app, self._name, name, wait, nowait))

    def delete(
        self, queue: str | Queue, *, wait: float | None = None, nowait: bool = False
    ) -> dict[str, Any]:
        """Have it stop consuming from a queue.

        :raises NotConsuming: when it does not.
        """
        name = name_of(queue)
        return self._session.call(calls.consumer_delete(self._app, self._name, name, wait, nowait))

    def __iter__(self) -> Iterator[str]:
        return iter(self.all())

    def __getitem__(self, queue: str) -> Any:
        return self.all()[queue]

    def __delitem__(self, queue: str | Queue) -> None:
        self.delete(queue)


class Queues:
    """The queue declarations of an app: iterable, `[name]`, `del queues[name]`."""

    def __init__(self, session: Session, app: str) -> None:
        self._session = session
        self.app = app

    def all(self) -> list[str]:
        """The names."""
        return self._session.call(calls.queues(self.app))

    def get(self, name: str) -> Queue:
        """A declaration, with its `info`.

        :raises NoSuchQueue: when there is none.
        """
        return Queue(self._session, self.app, name, self._session.call(calls.queue(self.app, name)))

    def add(
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
        info = self._session.call(calls.queue_add(self.app, name, parameters, nowait))
        return Queue(self._session, self.app, name, info)

    def delete(self, name: str, *, nowait: bool = False) -> None:
        """Delete a declaration; every instance stops consuming from the queue."""
        self._session.call(calls.queue_delete(self.app, name, nowait))

    def __iter__(self) -> Iterator[Queue]:
        return (Queue(self._session, self.app, name) for name in self.all())

    def __getitem__(self, name: str) -> Queue:
        return self.get(name)

    def __delitem__(self, name: str) -> None:
        self.delete(name)


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

    def refresh(self) -> QueueInfo:
        """Ask for its declaration, and for what its broker counts now."""
        self.info = self._session.call(calls.queue(self.app, self.name))
        return self.info

    def delete(self, *, nowait: bool = False) -> None:
        """Delete the declaration; every instance stops consuming from the queue."""
        self._session.call(calls.queue_delete(self.app, self.name, nowait))

    def pause(self, *, nowait: bool = False) -> None:
        """Have no instance consume from it, until it is resumed."""
        self._session.call(calls.queue_action(self.app, self.name, "pause", nowait))

    def resume(self, *, nowait: bool = False) -> None:
        """Have the instances consume from it again."""
        self._session.call(calls.queue_action(self.app, self.name, "resume", nowait))

    def purge(self) -> int:
        """Remove the messages that wait in it; how many they were."""
        return self._session.call(calls.queue_purge(self.app, self.name))


class Branches:
    """The live branches: iterable by ids, `[id]`; called it is the list of ids, as in the first Cyme."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[str]:
        """The ids."""
        return self._session.call(calls.branches())

    def get(self, id: str) -> Branch:
        """A branch, with its `info`.

        :raises NoSuchBranch: when there is no live one of that id.
        """
        return Branch(self._session, id, self._session.call(calls.branch(id)))

    def __call__(self) -> list[str]:
        return self.all()

    def __iter__(self) -> Iterator[Branch]:
        return (Branch(self._session, id) for id in self.all())

    def __getitem__(self, id: str) -> Branch:
        return self.get(id)


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

    def refresh(self) -> BranchInfo:
        """Ask how it is now."""
        self.info = self._session.call(calls.branch(self.id))
        return self.info

    def cordon(self, *, nowait: bool = False) -> dict[str, Any]:
        """Have it take no new instances, also after it is started again."""
        return self._session.call(calls.branch_action(self.id, "cordon", nowait))

    def uncordon(self, *, nowait: bool = False) -> dict[str, Any]:
        """Have it take new instances again; a drain of it ends where it is."""
        return self._session.call(calls.branch_action(self.id, "uncordon", nowait))

    def drain(self, *, nowait: bool = False) -> dict[str, Any]:
        """Have it take no new instances, and move those that it has to others."""
        return self._session.call(calls.branch_action(self.id, "drain", nowait))

    def evacuate(self, *, nowait: bool = False) -> dict[str, Any]:
        """Give the instances of a branch that is away to live ones.

        :raises BranchLives: when it is not away.
        """
        return self._session.call(calls.branch_action(self.id, "evacuate", nowait))

    def shutdown(self, *, nowait: bool = False) -> dict[str, Any]:
        """Stop it in good order, as SIGTERM does."""
        return self._session.call(calls.branch_action(self.id, "shutdown", nowait))


def name_of(queue: Any) -> Any:
    """The name of a queue that may be given by its object."""
    return getattr(queue, "name", queue)
