"""Whether the components of a branch get on with their work, in one place for all of them.

Note [Signs of life]
~~~~~~~~~~~~~~~~~~~~
A component shows what it is at, as a value that changes whenever it has got on: a number of
transactions, or of turns of a loop. Nothing is shown by what has nothing to do. A value that stays
the same for longer than its limit is a component that hangs or is dead.

The component tells no times, for a clock may jump: a laptop sleeps, a container is paused, a clock
is set. Time is what the reactor could feel: between two looks at most twice of what lies between
them ordinarily, however much passed for others.

A broker, or a database's server, that is away is no dead component: its client says so after a
time-out of its own, and that is progress.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

T = TypeVar("T")

#: What components are at: name -> a value that changes with progress; those that are idle are left out.
Signs = Callable[[], Mapping[str, object]]


class Pulse:
    """Counts the progress of something that is either busy or idle.

    `beat` may be called in any thread, the rest in one.
    """

    def __init__(self) -> None:
        self._busy = 0
        self._beats = 0

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Work is to be done while this lasts, and its end is progress."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self.beat()

    def beat(self) -> None:
        """Some of it was done."""
        self._beats += 1

    def during(self, work: Deferred[T]) -> Deferred[T]:
        """Be busy until a Deferred fires; passes its result on."""
        lasting = self.busy()
        lasting.__enter__()

        def done(result: T) -> T:
            lasting.__exit__(None, None, None)
            return result

        return work.addBoth(done)

    def signs(self, name: str) -> Mapping[str, object]:
        """See `Signs`, for one component."""
        return {name: self._beats} if self._busy else {}


@frozen
class Silence:
    """A component that gives no sign of life.

    :ivar seconds: for how long, see Note [Signs of life].
    """

    name: str
    seconds: float


@define
class _Watched:
    """Components that share a limit, and what each showed since when."""

    signs: Signs
    limit: float
    seen: dict[str, tuple[object, float]] = field(factory=dict)
    failed: bool = False


class Vitals:
    """Knows which components there are, and which of them is silent for too long."""

    _log = Logger()

    def __init__(self) -> None:
        self._watched: list[_Watched] = []
        self._felt = 0.0

    def watch(self, signs: Signs, limit: float) -> None:
        """From now on look at these components too.

        :param signs: called in the reactor's thread at each look; must not block.
        :param limit: seconds for which each may make no progress.
        """
        self._watched.append(_Watched(signs, limit))

    def clear(self) -> None:
        """Look at nothing any more: what is being stopped makes no progress."""
        self._watched.clear()

    def look(self, seconds: float) -> Silence | None:
        """Find a component that is silent for too long.

        :param seconds: how many were felt since the last look.
        """
        self._felt += seconds
        for watched in self._watched:
            try:
                now = dict(watched.signs())
            except Exception:
                # A look that fails proves nothing about the component, so it ends nobody.
                if not watched.failed:
                    self._log.failure("it can't be seen whether a component lives")
                watched.failed = True
                continue
            before = watched.seen
            watched.seen = {
                name: before[name] if name in before and before[name][0] == sign else (sign, self._felt)
                for name, sign in now.items()
            }
            for name, (_, since) in watched.seen.items():
                if self._felt - since > watched.limit:
                    return Silence(name, self._felt - since)
        return None
