"""What was declared over HTTP, as far as it was acknowledged, and the writers that declare it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from attrs import evolve, field, frozen
from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.support.http import Answer, Client

#: Statuses that promise that nothing was changed.
UNCHANGED = frozenset({400, 404, 409, 503})

#: Seconds that a write may take.
PATIENCE = 40.0

#: The app that all instances belong to.
APP = "storm"


@frozen(kw_only=True)
class Declared:
    """What an instance is to be."""

    queues: frozenset[str] = frozenset()
    most: int = 1
    least: int = 1
    is_enabled: bool = True

    @classmethod
    def read(cls, details: Any) -> Declared:
        """What an instance's JSON says that it is to be."""
        return cls(
            queues=frozenset(details["queues"]),
            most=details["max_concurrency"],
            least=details["min_concurrency"],
            is_enabled=details["is_enabled"],
        )


class Model:
    """For each instance what it may be declared as: one value, or two while a write is undecided.

    None stands for "there is none".
    """

    def __init__(self) -> None:
        self._possible: dict[str, list[Declared | None]] = {}
        self._versions: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()

    def names(self) -> list[str]:
        """Every name that was ever used."""
        return list(self._possible)

    def possible(self, name: str) -> list[Declared | None]:
        return self._possible.get(name, [None])

    def version(self, name: str) -> int:
        """Another number after each change."""
        return self._versions[name]

    def existing(self) -> set[str]:
        """The names of the instances that exist for sure."""
        return {name for name in self._possible if None not in self.possible(name)}

    def begin(self, name: str, value: Declared | None) -> None:
        """A write is on its way."""
        self._possible[name] = [*self.possible(name), value]
        self._versions[name] += 1

    def decide(self, name: str, value: Declared | None) -> None:
        """It is known what the instance is declared as."""
        self._possible[name] = [value]
        self._versions[name] += 1


@frozen
class Write:
    """A request, and what it makes of an instance.

    :ivar value: what the instance is declared as when it was done.
    :ivar path: below the app's instances.
    """

    kind: str
    value: Declared | None
    method: str
    path: str
    arguments: dict[str, Any] = field(factory=dict)


class Wrong(Exception):
    """The branch broke a promise."""


class Writer:
    """Writes to instances that nobody else writes to, one write at a time.

    :param names: the names of its instances.
    :param client: of the branch, wherever that is now.
    """

    def __init__(
        self,
        model: Model,
        names: Sequence[str],
        queues: Sequence[str],
        client: Client,
        chance: random.Random,
        *,
        pause: float,
    ) -> None:
        self._model = model
        self._names = names
        self._queues = queues
        self._client = client
        self._chance = chance
        self._pause = pause
        self._stopping = False

    def stop(self) -> None:
        """Have `run` return after the write that is under way."""
        self._stopping = True

    async def run(self) -> None:
        """Write until told to stop.

        :raises Wrong: when an answer contradicts what was acknowledged before.
        """
        for name in self._names[:2]:
            await self._write(name, self._creation(name))
        while not self._stopping:
            await deferLater(reactor, self._chance.uniform(0, self._pause))
            name = self._chance.choice(self._names)
            if await self._is_decided(name):
                [value] = self._model.possible(name)
                await self._write(name, self._creation(name) if value is None else self._change(name, value))

    async def all_decided(self) -> bool:
        """See what became of every write whose answer was lost.

        :raises Wrong: when something became of it that can't be.
        """
        return all([await self._is_decided(name) for name in self._names])

    async def _is_decided(self, name: str) -> bool:
        """See what became of a write whose answer was lost, if there is one."""
        possible = self._model.possible(name)
        if len(possible) == 1:
            return True
        try:
            answer = await self._client.get(f"/{APP}/instances/{name}/", timeout=PATIENCE)
        except Exception:
            return False
        if answer.status not in (200, 404):
            return False
        value = Declared.read(answer.json) if answer.status == 200 else None
        if value not in possible:
            raise Wrong(f"{name} is declared as {value}; it may be {possible}")
        self._model.decide(name, value)
        return True

    async def _write(self, name: str, write: Write) -> None:
        before = self._model.possible(name)
        self._model.begin(name, write.value)
        try:
            answer: Answer = await self._client.ask(
                write.method, f"/{APP}/instances/{write.path}", timeout=PATIENCE, **write.arguments
            )
        except Exception:
            return  # the branch is gone, or went in the middle: undecided
        if 200 <= answer.status < 300:
            self._model.acknowledged[write.kind] += 1
            self._model.decide(name, write.value)
        elif answer.status in UNCHANGED and len(before) == 1:
            self._model.decide(name, before[0])
            if answer.status != 503:
                raise Wrong(f"{write.kind} of {name} was refused: {answer.status} {answer.text}")

    def _creation(self, name: str) -> Write:
        chosen = self._chance.sample(self._queues, self._chance.randint(0, len(self._queues)))
        most, least = self._range()
        value = Declared(queues=frozenset(chosen), most=most, least=least)
        parameters = {"queues": sorted(chosen), "max_concurrency": most, "min_concurrency": least}
        path = self._chance.choice([f"{name}/", f"!/{name}/"])
        return Write("create", value, "PUT", path, {"json": parameters})

    def _range(self) -> tuple[int, int]:
        most = self._chance.randint(1, 3)
        return most, self._chance.randint(1, most)

    def _change(self, name: str, now: Declared) -> Write:
        """One change of an instance that exists."""
        wait = {"wait": self._chance.choice(["0", "5"])}
        most, least = self._range()
        scaled = evolve(now, most=most, least=least)
        scale = {"params": {"max": str(most), "min": str(least), **wait}}
        toggle = "disable" if now.is_enabled else "enable"
        toggled = evolve(now, is_enabled=not now.is_enabled)
        choices = [
            (3, Write("autoscale", scaled, "POST", f"{name}/autoscale/", scale)),
            (1, Write("delete", None, "DELETE", f"{name}/")),
            (1, Write("restart", now, "POST", f"{name}/restart/")),
            (1 if now.is_enabled else 4, Write(toggle, toggled, "POST", f"{name}/{toggle}/")),
        ]
        queue = self._chance.choice(self._queues)
        path = f"{name}/queues/{queue}/"
        if queue in now.queues:
            less = evolve(now, queues=now.queues - {queue})
            choices.append((6, Write("cancel consumer", less, "DELETE", path, {"params": wait})))
        else:
            more = evolve(now, queues=now.queues | {queue})
            choices.append((6, Write("add consumer", more, "PUT", path, {"params": wait})))
        [write] = self._chance.choices([write for _, write in choices], [weight for weight, _ in choices])
        return write
