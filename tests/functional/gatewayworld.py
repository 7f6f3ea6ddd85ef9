"""What functional tests of the gateway share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from random import SystemRandom
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from cyme.declarations import App
from cyme.gateway.service import Gateway
from cyme.queued import TaskError, TaskState
from cyme.store import SQLStore
from tests.contracts.gateway import MESSAGE, World
from tests.fakes.remote import FakeRemoteControl
from tests.support.rabbitmq import shared_rabbitmq
from tests.support.redis_server import RedisServer
from tests.support.taskbrokers import TaskBroker, result_body

RESULTS = "cyme.results.b1"


class Apps:
    """As much of a catalogue, and of workers, as a gateway uses."""

    def __init__(self, *brokers: str) -> None:
        self.all = [App(name=f"app{number}", broker=broker) for number, broker in enumerate(brokers)]

    def apps(self) -> list[App]:
        return self.all

    def app(self, name: str) -> App | None:
        return None

    def instance(self, name: str) -> None:
        return None

    def subscribe(self, *callbacks: Any, **more: Any) -> None:
        pass


def open_store(folder: str) -> SQLStore:
    """The database of a branch, in a folder."""
    store = SQLStore(reactor, f"sqlite:///{os.path.join(folder, 'branch.db')}", "b1")  # type: ignore[arg-type]
    store.open()
    return store


def make_gateway(
    store: SQLStore, broker: str, apps: Any = None, remote: Any = None, **changes: Any
) -> Gateway:
    """The gateway of the branch `b1`."""
    apps = apps or Apps(broker)
    options: dict[str, Any] = {
        "result_expires": 3600.0,
        "hold_over": 60.0,
        "getrandbits": SystemRandom().getrandbits,
    }
    return Gateway(
        reactor,
        store,
        apps,
        remote or FakeRemoteControl(reactor),  # type: ignore[arg-type]
        apps,
        branch_id="b1",
        host="here",
        default_broker=lambda: broker,
        retry_policy=lambda failures: 0.2,
        **{**options, **changes},
    )


class RealWorld:
    """A gateway with a database of its own on a broker.

    :param case: its clean-ups end everything.
    """

    def __init__(self, case: TestCase, url: str) -> None:
        self.broker = url
        self.folder = tempfile.mkdtemp(prefix="cyme-gateway-")
        case.addCleanup(shutil.rmtree, self.folder)
        self.worker = TaskBroker(url)
        case.addCleanup(self.worker.close)
        self.apps = Apps(url)
        self.remote = FakeRemoteControl(reactor)  # type: ignore[arg-type]
        case.addCleanup(self.stop)

    async def start(self, **changes: Any) -> RealWorld:
        self.store = open_store(self.folder)
        self.gateway: Any = make_gateway(self.store, self.broker, self.apps, self.remote, **changes)
        await self.gateway.startService()
        return self

    async def stop(self) -> None:
        if self.gateway is not None:
            gateway, self.gateway = self.gateway, None
            await gateway.stopService()
            await self.store.close()

    async def answer(
        self, task_id: str, state: TaskState, result: Any = None, error: TaskError | None = None
    ) -> None:
        await self.answer_all(result_body(task_id, state, result, error))

    async def answer_all(self, *bodies: dict[str, Any]) -> None:
        await deferToThread(self.worker.answer, RESULTS, *bodies)

    async def messages(self) -> list[str]:
        taken = await deferToThread(self.worker.take, MESSAGE.queue.name)
        return [headers["id"] for headers, _, _ in taken]


def rabbitmq_url(case: TestCase) -> str:
    return shared_rabbitmq().url(shared_rabbitmq().new_vhost())


def redis_url(case: TestCase) -> str:
    server = RedisServer()
    case.addCleanup(server.close)
    return server.url(3)


def world_on(make_url: Callable[[TestCase], str]) -> Callable[[TestCase], Deferred[World]]:
    def fixture(case: TestCase) -> Deferred[World]:
        return Deferred.fromCoroutine(RealWorld(case, make_url(case)).start())  # type: ignore[arg-type]

    return fixture
