"""The client of Cyme's HTTP API for programs with Twisted, over `treq`.

It has the methods of `cyme.client.Client`; their results are awaited, and errors are the same::

    from cyme.client.aio import AsyncClient

    async def main(reactor):
        client = AsyncClient(reactor, "http://localhost:8000")
        foo = await client.add("foo")
        instance = await foo.instances.add("w1", wait=30)
        async for each in foo.instances:
            print(each.name)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from cyme.client import DEFAULT_TIMEOUT, DEFAULT_URL, calls
from cyme.client.aio.events import Events
from cyme.client.aio.resources import App, Apps, Branch, Branches, Instance, Instances, Queue
from cyme.client.aio.sessions import Session, Transport, TreqTransport
from cyme.client.aio.tasks import Task
from cyme.client.retrying import Retry
from cyme.client.wire import Call, checked_url

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from cyme.client.types import BranchInfo, QueueingParameters, StartParameters

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient:
    """Speaks to one branch, and through it to all; every method returns something to await.

    It is the collection of all apps, too: `async for app in client`, `await client["foo"]`.

    :param reactor: runs timers and connections.
    :param url: of a branch; `unix:PATH` is a Unix socket.
    :param token: sent as `Authorization: Bearer`.
    :param timeout: seconds for each attempt of a request, beside what the branch is asked to wait.
    :param retry: when requests that change nothing are tried again.
    :param ca_file: certificates that the branch's may be signed by; the system's without it.
    :param transport: sends requests in place of treq.
    :ivar instances: the instances of all apps.
    """

    def __init__(
        self,
        reactor: Any,
        url: str = DEFAULT_URL,
        token: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        *,
        retry: Retry = Retry(),  # noqa: B008  # a frozen value
        ca_file: str | None = None,
        transport: Transport | None = None,
    ) -> None:
        base = checked_url(url)
        self._session = Session(
            reactor,
            base,
            transport or TreqTransport(reactor, base, token, ca_file),
            timeout=timeout,
            retry=retry,
        )
        self.url = base
        self.apps = Apps(self._session)
        self.instances = Instances(self._session, None)
        self.branches = Branches(self._session)
        self.events = Events(self._session)

    def __repr__(self) -> str:
        return f"<AsyncClient: {self.url!r}>"

    def app(self, name: str) -> App:
        """An app by its name, without asking whether there is one."""
        return App(self._session, name)

    def instance(self, name: str, app: str | None = None) -> Instance:
        """An instance by its name, without asking whether there is one; names are unique in the cluster."""
        return Instance(self._session, app, name)

    def branch(self, id: str) -> Branch:
        """A branch by its id, without asking whether it lives."""
        return Branch(self._session, id)

    async def add(
        self, name: str | None = None, *, nowait: bool = False, **parameters: Unpack[StartParameters]
    ) -> App:
        """Create an app, or change it by the parameters given; without a name it gets one."""
        return await self.apps.add(name, nowait=nowait, **parameters)

    async def get(self, name: str) -> App:
        """An app, with its `info`.

        :raises NoSuchApp: when there is none.
        """
        return await self.apps.get(name)

    async def all(self) -> list[str]:
        """The names of all apps."""
        return await self.apps.all()

    async def delete(self, name: str, *, nowait: bool = False) -> None:
        """Delete an app with its instances and queue declarations."""
        await self.apps.delete(name, nowait=nowait)

    async def branch_info(self, id: str) -> BranchInfo:
        """What a branch says of itself.

        :raises NoSuchBranch: when there is no live one of that id.
        """
        return await self._session.call(calls.branch(id))

    async def queue(
        self,
        app: str,
        url: str,
        queue: str | Queue | None = None,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes | str | None = None,
        **options: Unpack[QueueingParameters],
    ) -> Task:
        """Have a worker of an app make an HTTP request; see `App.queue`."""
        return await self.app(app).queue(url, queue, method=method, headers=headers, body=body, **options)

    async def ping(self) -> str:
        """`pong`, when the branch lives."""
        return await self._session.call(calls.ping())

    async def ready(self) -> None:
        """Nothing, when the branch has all that it needs.

        :raises NotReady: when something is away; `document["away"]` names it.
        """
        await self._session.call(calls.ready())

    async def call(self, call: Call[T]) -> T:
        """The result of a call of `cyme.client.calls`, for what has no method here."""
        return await self._session.call(call)

    async def close(self) -> None:
        """Close the connections that are kept for the next requests."""
        await self._session.close()

    def __aiter__(self) -> AsyncIterator[App]:
        return self.apps.__aiter__()

    async def __getitem__(self, name: str) -> App:
        return await self.apps.get(name)
