"""The client of Cyme's HTTP API, for Python programs; it needs no Twisted.

::

    from cyme.client import Client

    client = Client("http://localhost:8000")
    foo = client.add("foo")
    queue = foo.queues.add("tasks")
    instance = foo.instances.add("w1", wait=30)
    instance.consumers.add(queue)
    instance.autoscale(max=10, min=1)

Every request has a time-out; those that change nothing are tried again. What goes wrong is one of
the errors of `cyme.client.errors`. `cyme.client.aio` has the same for Twisted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from cyme.client import calls, errors
from cyme.client.errors import (
    ClientError,
    Conflict,
    NotFinished,
    NotFound,
    Problem,
    TaskFailed,
    TimedOut,
    Unavailable,
    Unreachable,
)
from cyme.client.events import Events
from cyme.client.resources import App, Apps, Branch, Branches, Instance, Instances, Queue
from cyme.client.retrying import NO_RETRY, Retry
from cyme.client.synchronous import Session, Transport, Urllib3Transport
from cyme.client.tasks import Task
from cyme.client.wire import Call, checked_url

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from cyme.client.types import BranchInfo, QueueingParameters, StartParameters

__all__ = [
    "NO_RETRY",
    "Client",
    "ClientError",
    "Conflict",
    "NotFinished",
    "NotFound",
    "Problem",
    "Retry",
    "TaskFailed",
    "TimedOut",
    "Unavailable",
    "Unreachable",
    "errors",
]

T = TypeVar("T")

#: Where a branch listens unless it was told otherwise.
DEFAULT_URL = "http://localhost:8000"
#: Seconds for one attempt, beside what the branch is asked to wait.
DEFAULT_TIMEOUT = 30.0


class Client:
    """Speaks to one branch, and through it to all; may be used by several threads, and in a `with`.

    It is the collection of all apps, too: iterable, `client["foo"]`, `del client["foo"]`.

    :param url: of a branch; `unix:PATH` is a Unix socket.
    :param token: sent as `Authorization: Bearer`.
    :param timeout: seconds for each attempt of a request, beside what the branch is asked to wait.
    :param retry: when requests that change nothing are tried again.
    :param ca_file: certificates that the branch's may be signed by; the system's without it.
    :param transport: sends requests in place of urllib3.
    :ivar instances: the instances of all apps.
    """

    def __init__(
        self,
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
            base, transport or Urllib3Transport(base, token, ca_file), timeout=timeout, retry=retry
        )
        self.url = base
        self.apps = Apps(self._session)
        self.instances = Instances(self._session, None)
        self.branches = Branches(self._session)
        self.events = Events(self._session)

    def __repr__(self) -> str:
        return f"<Client: {self.url!r}>"

    def app(self, name: str) -> App:
        """An app by its name, without asking whether there is one."""
        return App(self._session, name)

    def instance(self, name: str, app: str | None = None) -> Instance:
        """An instance by its name, without asking whether there is one; names are unique in the cluster."""
        return Instance(self._session, app, name)

    def branch(self, id: str) -> Branch:
        """A branch by its id, without asking whether it lives."""
        return Branch(self._session, id)

    def add(
        self, name: str | None = None, *, nowait: bool = False, **parameters: Unpack[StartParameters]
    ) -> App:
        """Create an app, or change it by the parameters given; without a name it gets one."""
        return self.apps.add(name, nowait=nowait, **parameters)

    def get(self, name: str) -> App:
        """An app, with its `info`.

        :raises NoSuchApp: when there is none.
        """
        return self.apps.get(name)

    def all(self) -> list[str]:
        """The names of all apps."""
        return self.apps.all()

    def delete(self, name: str, *, nowait: bool = False) -> None:
        """Delete an app with its instances and queue declarations."""
        self.apps.delete(name, nowait=nowait)

    def branch_info(self, id: str) -> BranchInfo:
        """What a branch says of itself.

        :raises NoSuchBranch: when there is no live one of that id.
        """
        return self._session.call(calls.branch(id))

    def queue(
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
        return self.app(app).queue(url, queue, method=method, headers=headers, body=body, **options)

    def ping(self) -> str:
        """`pong`, when the branch lives."""
        return self._session.call(calls.ping())

    def ready(self) -> None:
        """Nothing, when the branch has all that it needs.

        :raises NotReady: when something is away; `document["away"]` names it.
        """
        self._session.call(calls.ready())

    def call(self, call: Call[T]) -> T:
        """The result of a call of `cyme.client.calls`, for what has no method here."""
        return self._session.call(call)

    def close(self) -> None:
        """Close the connections that are kept for the next requests."""
        self._session.close()

    def __iter__(self) -> Iterator[App]:
        return iter(self.apps)

    def __getitem__(self, name: str) -> App:
        return self.apps.get(name)

    def __delitem__(self, name: str) -> None:
        self.apps.delete(name)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
