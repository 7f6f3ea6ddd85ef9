"""What is said once, on the page that a form's redirection leads to.

It waits here under a random name, which the browser brings back in a cookie: nothing that anybody
could write into a page is taken from the request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: Seconds for which it waits, and how many do at most.
WITHIN, MOST = 60.0, 1000
#: The most problems of one.
PROBLEMS_MOST = 20


@frozen
class Flash:
    """What is said.

    :ivar done: what was done, or None; `problems` what was not.
    """

    done: str | None
    problems: tuple[str, ...] = ()


class Flashes:
    """Those that wait.

    :param new_name: makes a name that nobody guesses.
    """

    def __init__(self, clock: IReactorTime, new_name: Callable[[], str]) -> None:
        self._clock = clock
        self._new_name = new_name
        self._waiting: dict[str, tuple[float, Flash]] = {}

    def put(self, flash: Flash) -> str:
        """Have something said; its name."""
        self._drop_old()
        name = self._new_name()
        self._waiting[name] = (self._clock.seconds(), flash)
        if len(self._waiting) > MOST:
            del self._waiting[next(iter(self._waiting))]
        return name

    def take(self, name: str) -> Flash | None:
        """What is to be said under a name, once."""
        self._drop_old()
        found = self._waiting.pop(name, None)
        return None if found is None else found[1]

    def _drop_old(self) -> None:
        old = self._clock.seconds() - WITHIN
        for name in [name for name, (at, _) in self._waiting.items() if at < old]:
            del self._waiting[name]
