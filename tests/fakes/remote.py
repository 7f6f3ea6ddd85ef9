"""Remote control without brokers: workers that are simulated, in memory, and answer at once.

The answers have the shapes of Celery 5.7's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import Factory, define, frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from cyme.brokers import redacted
from cyme.errors import BrokerAway, DeclarationMismatch
from cyme.interfaces import IRemoteControl
from cyme.planning import ConsumedQueue, QueueCount

#: How the URLs of brokers begin that have declarations.
AMQP = ("amqp:", "amqps:", "pyamqp:")


@frozen
class Asked:
    """One question, as it was asked."""

    broker: str
    command: str
    nodes: tuple[str, ...]
    arguments: dict[str, Any]
    timeout: float


@define
class Node:
    """A simulated worker.

    :ivar queues: names of the queues that it consumes from.
    :ivar autoscale: (max, min), or None for a pool that cannot grow.
    :ivar total: what `stats` says about tasks done: task name -> count.
    :ivar running, waiting: task id -> when it began, of those that run and that are reserved.
    """

    name: str
    pid: int
    queues: set[str]
    autoscale: tuple[int, int] | None = (1, 1)
    total: dict[str, int] = Factory(dict)
    running: dict[str, float] = Factory(dict)
    waiting: dict[str, float | None] = Factory(dict)

    def answer(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """The payload that a worker of Celery 5.7 sends for a command."""
        handler = getattr(self, f"on_{command}", None)
        if handler is None:
            return {"error": f"KeyError({command!r})"}
        try:
            return handler(**arguments)
        except TypeError as problem:
            return {"error": repr(problem)}

    def on_ping(self) -> Any:
        return {"ok": "pong"}

    def on_active_queues(self) -> Any:
        return [_queue(name) for name in sorted(self.queues)]

    def on_active(self) -> Any:
        return [_task(id, began) for id, began in self.running.items()]

    def on_reserved(self) -> Any:
        return [_task(id, None) for id in self.waiting]

    def on_stats(self) -> Any:
        most, least = self.autoscale or (1, 1)
        stats = {
            "total": dict(self.total),
            "pid": self.pid,
            "clock": "815",
            "uptime": 3600,
            "pool": {
                "implementation": "celery.concurrency.prefork:TaskPool",
                "max-concurrency": least,
                "processes": list(range(self.pid + 1, self.pid + 1 + least)),
            },
            "prefetch_count": 4 * least,
            "rusage": {"utime": 0.53, "stime": 0.07, "maxrss": 57484},
        }
        if self.autoscale is not None:
            stats["autoscaler"] = {"max": most, "min": least, "current": least, "qty": 0}
        return stats

    def on_add_consumer(
        self, queue: str, exchange: Any = None, exchange_type: Any = None, routing_key: Any = None, **_: Any
    ) -> Any:
        self.queues.add(queue)
        return {"ok": f"add consumer {queue}"}

    def on_cancel_consumer(self, queue: str, **_: Any) -> Any:
        self.queues.discard(queue)
        return {"ok": f"no longer consuming from {queue}"}

    def on_autoscale(self, max: int | None = None, min: int | None = None) -> Any:
        if self.autoscale is None:
            return {"error": "ValueError('Autoscale not enabled')"}
        self.autoscale = (
            self.autoscale[0] if max is None else max,
            self.autoscale[1] if min is None else min,
        )
        return {"ok": "autoscale now max={} min={}".format(*self.autoscale)}


def _task(id: str, began: float | None) -> dict[str, Any]:
    """One entry of the answers to `active` and `reserved`."""
    return {"id": id, "name": "proj.work", "time_start": began, "acknowledged": began is not None}


def _queue(name: str) -> dict[str, Any]:
    """One entry of the answer to `active_queues`."""
    return {
        "name": name,
        "exchange": {
            "name": name,
            "type": "direct",
            "arguments": None,
            "durable": True,
            "auto_delete": False,
        },
        "routing_key": name,
        "durable": True,
        "exclusive": False,
        "auto_delete": False,
    }


@implementer(IRemoteControl)
class FakeRemoteControl:
    """Remote control of simulated workers; every broker is up until `broker_down`.

    :ivar delay: seconds that answers take; 0 for before `ask` returns.
    :ivar asked: the questions, in order.
    :ivar told: (broker, command, arguments) of the commands that nobody answers.
    :ivar declared: (broker, queue) of the declarations that were tried.
    :ivar counted: (broker, queues) of the counts that were asked for.
    :ivar depths: queue -> how many messages wait in it.
    :ivar forgotten: queues whose consumers the broker does not know, whatever workers say.
    :ivar purged: (broker, queue) of the queues that were emptied.
    :ivar deleted_queues: (broker, name) of the queues that were deleted.
    :ivar held: incarnation -> how many messages it holds.
    :ivar restored: (broker, incarnations) of what was to be restored.
    :ivar retained: the brokers of the last `retain`, or None.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._nodes: dict[tuple[str, str], Node] = {}
        self._mute: set[str] = set()
        self._down: set[str] = set()
        self._refused: dict[str, Exception] = {}
        self._revived_at: dict[str, float] = {}
        self._subscribers: list[Callable[[str, bool], None]] = []
        self._waiting: dict[Deferred[dict[str, Any]], tuple[str, Any]] = {}
        self._closed = False
        self.counted: list[tuple[str, tuple[str, ...]]] = []
        self.purged: list[tuple[str, str]] = []
        self.depths: dict[str, int] = {}
        self.forgotten: set[str] = set()
        self.delay = 0.0
        self.asked: list[Asked] = []
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        self.declared: list[tuple[str, ConsumedQueue]] = []
        self.deleted_queues: list[tuple[str, str]] = []
        self.held: dict[str, int] = {}
        self.restored: list[tuple[str, tuple[str, ...]]] = []
        self.retained: frozenset[str] | None = None

    # -- the script ---------------------------------------------------------

    def node(self, broker: str, node: str) -> Node:
        """Have a worker `NAME@HOST` on a broker, which consumes from `dq.NAME`."""
        key = (broker, node)
        if key not in self._nodes:
            private = "dq." + node.partition("@")[0]
            self._nodes[key] = Node(node, 100_000 + 10 * len(self._nodes), {private})
        return self._nodes[key]

    def remove_node(self, broker: str, node: str) -> None:
        """Have the worker gone."""
        self._nodes.pop((broker, node), None)

    def mute(self, node: str) -> None:
        """Let a worker answer nothing and obey nothing."""
        self._mute.add(node)

    def unmute(self, node: str) -> None:
        """Let a worker answer again."""
        self._mute.discard(node)

    def connect(self, broker: str) -> None:
        """Have the broker reached for the first time."""
        self._tell(broker, True)

    def broker_down(self, broker: str) -> None:
        """Have the broker away; questions that are under way fail."""
        if broker in self._down:
            return
        self._down.add(broker)
        for waiting in [one for one, (its_broker, _) in self._waiting.items() if its_broker == broker]:
            self._drop(waiting)
            waiting.errback(self._away(broker))
        self._tell(broker, False)

    def broker_up(self, broker: str) -> None:
        """Have the broker back."""
        if broker not in self._down:
            return
        self._down.discard(broker)
        self._revived_at[broker] = self._clock.seconds()
        self._tell(broker, True)

    def refuse(self, queue: str, problem: str | Exception) -> None:
        """Have the broker refuse the declaration of a queue, as a mismatch or with a given error."""
        self._refused[queue] = DeclarationMismatch(queue, problem) if isinstance(problem, str) else problem

    def accept(self, queue: str) -> None:
        """Have the broker accept the declaration again."""
        self._refused.pop(queue, None)

    # -- IRemoteControl -------------------------------------------------------

    def ask(
        self,
        broker: str,
        command: str,
        nodes: Sequence[str],
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float,
    ) -> Deferred[dict[str, Any]]:
        given = dict(arguments or {})
        self.asked.append(Asked(broker, command, tuple(nodes), given, timeout))
        if broker in self._down or self._closed:
            return fail(self._away(broker))
        answers = {
            name: self._nodes[broker, name].answer(command, given)
            for name in dict.fromkeys(nodes)
            if (broker, name) in self._nodes and name not in self._mute
        }
        wait = self.delay if len(answers) == len(set(nodes)) else timeout
        if wait > timeout:
            wait, answers = timeout, {}
        if wait <= 0:
            return succeed(answers)
        waiting: Deferred[dict[str, Any]] = Deferred(self._drop)
        call = self._clock.callLater(wait, self._answer, waiting, answers)
        self._waiting[waiting] = (broker, call)
        return waiting

    def tell(self, broker: str, command: str, arguments: Mapping[str, Any]) -> Deferred[None]:
        if broker in self._down or self._closed:
            return fail(self._away(broker))
        self.told.append((broker, command, dict(arguments)))
        for (where, name), node in self._nodes.items():
            if where == broker and name not in self._mute:
                node.answer(command, arguments)
        return succeed(None)

    def declare(self, broker: str, queue: ConsumedQueue) -> Deferred[bool]:
        if broker in self._down or self._closed:
            return fail(self._away(broker))
        self.declared.append((broker, queue))
        if queue.name in self._refused:
            return fail(self._refused[queue.name])
        return succeed(broker.startswith(AMQP))

    def count(self, broker: str, queues: Sequence[str]) -> Deferred[Mapping[str, QueueCount | None] | None]:
        if broker in self._down or self._closed:
            return fail(self._away(broker))
        self.counted.append((broker, tuple(queues)))
        if not broker.startswith(AMQP):
            return succeed(None)
        return succeed({queue: self._count(broker, queue) for queue in queues})

    def purge(self, broker: str, queue: str) -> Deferred[int]:
        if broker in self._down or self._closed:
            return fail(self._away(broker))
        self.purged.append((broker, queue))
        return succeed(self.depths.pop(queue, 0))

    def delete_queue(self, broker: str, name: str) -> Deferred[None]:
        if broker in self._down or self._closed:
            return fail(self._away(broker))
        self.deleted_queues.append((broker, name))
        return succeed(None)

    def restore(self, broker: str, holders: Sequence[str]) -> Deferred[int]:
        if broker in self._down or self._closed:
            return fail(self._away(broker))
        self.restored.append((broker, tuple(holders)))
        return succeed(sum(self.held.pop(one, 0) for one in holders))

    def reachable(self, broker: str) -> bool | None:
        return broker not in self._down and not self._closed

    def revived_at(self, broker: str) -> float | None:
        return self._revived_at.get(broker)

    def retain(self, brokers: Iterable[str]) -> None:
        self.retained = frozenset(brokers)

    def subscribe(self, changed: Callable[[str, bool], None]) -> None:
        self._subscribers.append(changed)

    def close(self) -> Deferred[None]:
        self._closed = True
        for waiting, (broker, _) in list(self._waiting.items()):
            self._drop(waiting)
            waiting.errback(self._away(broker))
        return succeed(None)

    # -- inside ---------------------------------------------------------------

    def _count(self, broker: str, queue: str) -> QueueCount | None:
        workers = [node for (its_broker, _), node in self._nodes.items() if its_broker == broker]
        consumers = [node for node in workers if queue in node.queues]
        if not consumers:
            return None
        return QueueCount(self.depths.get(queue, 0), 0 if queue in self.forgotten else len(consumers))

    def _away(self, broker: str) -> BrokerAway:
        return BrokerAway(redacted(broker), "remote control is closed" if self._closed else "it is down")

    def _answer(self, waiting: Deferred[dict[str, Any]], answers: dict[str, Any]) -> None:
        del self._waiting[waiting]
        waiting.callback(answers)

    def _drop(self, waiting: Deferred[dict[str, Any]]) -> None:
        """Forget a question that has an end already."""
        _, call = self._waiting.pop(waiting, (None, None))
        if call is not None and call.active():
            call.cancel()

    def _tell(self, broker: str, reachable: bool) -> None:
        for changed in self._subscribers:
            changed(broker, reachable)
