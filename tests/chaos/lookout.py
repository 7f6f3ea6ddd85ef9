"""Whether instances are as they are declared, seen from outside: over HTTP, in `/proc`, by Celery."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from celery import Celery
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from cyme.workers.proc import read_stat
from tests.chaos.model import APP, Declared, Model
from tests.support.guard import processes_naming
from tests.support.http import Client

#: Seconds between two looks at an instance that is not as declared.
INTERVAL = 0.2

#: Seconds between two words about what takes long.
SAY_EVERY = 15.0

#: Seconds that an answer may take.
PATIENCE = 20.0


class Lookout:
    """Compares what is with what was declared.

    :param client: of the branch, wherever that is now.
    :param say: told what is not as declared yet, now and then.
    """

    def __init__(self, model: Model, client: Client, say: Callable[[str], None]) -> None:
        self._model = model
        self._client = client
        self._say = say

    async def until_as_declared(self, names: Collection[str], patience: float) -> dict[str, str]:
        """Wait until each instance was seen once as it is declared at that time.

        :return: what is wrong still after `patience` seconds; nothing when all is well.
        """
        deadline = reactor.seconds() + patience
        next_word = reactor.seconds() + SAY_EVERY
        wrong = dict.fromkeys(names, "not looked at yet")
        while True:
            looked = await gatherResults(
                [Deferred.fromCoroutine(self.difference(name)) for name in wrong], consumeErrors=True
            )
            wrong = {name: how for name, how in zip(wrong, looked, strict=True) if how is not None}
            if not wrong or reactor.seconds() > deadline:
                return wrong
            if reactor.seconds() > next_word:
                next_word += SAY_EVERY
                for name, how in wrong.items():
                    self._say(f"    {name} {how}")
            await deferLater(reactor, INTERVAL)

    async def difference(self, name: str) -> str | None:
        """What is not as it is declared; None when all is."""
        version = self._model.version(name)
        try:
            found = await self._difference(name)
        except Exception as error:
            found = f"can't be looked at: {type(error).__name__}: {error}"
        return "it has just changed" if found is None and self._model.version(name) != version else found

    async def _difference(self, name: str) -> str | None:
        answer = await self._client.get(f"/{APP}/instances/{name}/", timeout=PATIENCE)
        if answer.status not in (200, 404):
            return f"{answer.status} {answer.text}"
        details: Any = answer.json if answer.status == 200 else None
        declared = Declared.read(details) if answer.status == 200 else None
        possible = self._model.possible(name)
        if declared not in possible:
            return f"declared as {declared}, and not as {possible}"
        if declared is None:
            return None
        if not declared.is_enabled:
            is_off = (details["state"], details["pid"]) == ("disabled", None)
            return None if is_off else f"disabled, and {details['state']}"
        if details["state"] != "running" or not is_alive(details["pid"]):
            return f"enabled, and {details['state']}, pid {details['pid']}: {details['problems']}"
        return await self._difference_of_worker(name, declared)

    async def _difference_of_worker(self, name: str, declared: Declared) -> str | None:
        """Compare what the worker itself says."""
        answer = await self._client.get(f"/{APP}/instances/{name}/queues/", timeout=PATIENCE)
        if answer.status != 200:
            return f"asked for its queues: {answer.status} {answer.text}"
        if set(answer.json) != {f"dq.{name}", *declared.queues}:
            return f"consumes from {sorted(answer.json)}, and not from {sorted(declared.queues)}"
        answer = await self._client.get(f"/{APP}/instances/{name}/stats/", timeout=PATIENCE)
        stats = answer.json.get("stats") if answer.status == 200 else None
        if stats is None:
            return f"asked for its stats: {answer.status} {answer.text}"
        scale = (stats["autoscaler"]["max"], stats["autoscaler"]["min"])
        if scale != (declared.most, declared.least):
            return f"its pool has the range {scale}, and not {(declared.most, declared.least)}"
        dead = [pid for pid in stats["pool"]["processes"] if not is_alive(pid)]
        return f"its pool still counts on {dead}" if dead else None


def is_alive(pid: int | None) -> bool:
    """Whether a process is there and neither dead nor frozen."""
    stat = read_stat(pid) if pid is not None else None
    return stat is not None and not stat.has_ended and stat.state not in "Tt"


def said_by_celery(url: str, expected: int) -> dict[str, tuple[set[str], tuple[int, int]]]:
    """What every worker says to plain Celery: node -> (its queues, (max, min) of its pool); blocks.

    :param expected: how many answers to wait for at least, within some seconds.
    """
    app = Celery("lookout", broker=url, set_as_current=False)
    with app:
        inspect: Any = app.control.inspect(timeout=5.0, limit=expected + 1)
        queues: dict[str, Any] = inspect.active_queues() or {}
        stats: dict[str, Any] = inspect.stats() or {}
    return {
        node: (
            {queue["name"] for queue in queues[node]},
            (stats[node]["autoscaler"]["max"], stats[node]["autoscaler"]["min"]),
        )
        for node in queues.keys() & stats.keys()
    }


def strays(root: str, leaders: Collection[int]) -> list[int]:
    """The living processes of a branch that are in nobody's session."""
    found = []
    for pid in processes_naming(root):
        stat = read_stat(pid)
        try:
            if stat is not None and not stat.has_ended and os.getsid(pid) not in leaders:
                found.append(pid)
        except ProcessLookupError:
            pass
    return found


async def all_events(client: Client) -> list[Any]:
    """Everything in the why-log, the oldest first."""
    events: list[Any] = []
    while True:
        since = str(events[-1]["id"]) if events else "0"
        answer = await client.get("/events/", params={"since": since, "limit": "1000"})
        assert answer.status == 200, answer.text
        if not answer.json:
            return events
        events += answer.json


def unjust(events: list[Any], frozen: Counter[str]) -> list[str]:
    """The workers that the supervisor gave up as silent, more often than they were frozen.

    :param frozen: how often each instance's worker was frozen.
    """
    judged = Counter(
        event["instance"]
        for event in events
        if event["kind"] == "stopping"
        and any(word in event["details"]["reason"] for word in ("unresponsive", "no pong"))
    )
    return [
        f"{name} was given up as silent {times} times, and frozen {frozen[name]} times"
        for name, times in judged.items()
        if times > frozen[name]
    ]
