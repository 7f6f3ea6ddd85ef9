"""A worker's log live: its last lines again and again, of which only what is new is sent.

Whoever looks sees the last `LINES` lines, wherever the instance runs. What is new is found by the
longest end of what was seen that the new tail begins with; so what is shown is always what the log's
tail is, also when lines repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from cyme.errors import CymeError, NotFound

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from cyme.interfaces import IController

#: The lines that are shown.
LINES = 300
#: Seconds between two looks: while there is something new, and how far it grows while there is not.
SOON, SLOW = 0.5, 3.0


def news(seen: Sequence[str], tail: Sequence[str]) -> tuple[int, Sequence[str]]:
    """How many of the first lines of what was seen are to go, and what comes behind the rest."""
    for gone in range(len(seen)):
        kept = len(seen) - gone
        if kept <= len(tail) and list(seen[gone:]) == list(tail[:kept]):
            return gone, tail[kept:]
    return len(seen), tail


class Tailing:
    """One client that follows a log; see `cyme.api.streams.Following`."""

    _log = Logger()
    position = 0

    def __init__(
        self,
        clock: IReactorTime,
        read: Callable[[], Deferred[str]],
        numbers: Any,
        deliver: Callable[[Mapping[str, Any]], None],
        failed: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._read = read
        self._numbers = numbers
        self._deliver = deliver
        self._failed = failed
        self._seen: list[str] = []
        self._wait = SOON
        self._is_paused = True
        self._is_looking = False
        self._is_over = False
        self._next: IDelayedCall | None = None

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
        self.look()

    def look(self) -> None:
        """Read the log, unless that is done already."""
        if not (self._is_looking or self._is_paused or self._is_over):
            self._is_looking = True
            if self._next is not None and self._next.active():
                self._next.cancel()
            Deferred.fromCoroutine(self._look())

    def stop(self) -> None:
        self._is_over = True
        if self._next is not None and self._next.active():
            self._next.cancel()

    async def _look(self) -> None:
        try:
            tail = (await self._read()).splitlines()
            if not self._is_over:
                self._tell(tail)
        except NotFound:
            self._send("gone", {})
        except CymeError as problem:
            self._send("away", {"problem": str(problem)})
            self._wait = SLOW
        except Exception:
            self._log.failure("a log can't be followed further")
            self._end()
        finally:
            self._is_looking = False
        if not self._is_over:
            self._next = self._clock.callLater(self._wait, self.look)

    def _tell(self, tail: list[str]) -> None:
        gone, added = news(self._seen, tail)
        self._wait = SOON if gone or added else min(SLOW, self._wait * 1.5)
        self._seen = tail
        if gone or added:
            self._send("lines", {"drop": gone, "add": list(added)})

    def _send(self, kind: str, document: Mapping[str, Any]) -> None:
        if self._is_over:
            return
        # Numbers are never given twice: frames are kept by them, see `Streams`.
        self._deliver({"id": next(self._numbers), "kind": kind, **document})
        if kind == "gone":
            self._end()

    def _end(self) -> None:
        if not self._is_over:
            self.stop()
            self._failed()


class Logs:
    """Has logs followed."""

    def __init__(self, clock: IReactorTime, controller: IController) -> None:
        self._clock = clock
        self._controller = controller
        self._numbers = count(1)

    async def follow(
        self,
        app: str | None,
        instance: str,
        *,
        since: int | None,
        deliver: Callable[[Mapping[str, Any]], None],
        failed: Callable[[], None],
    ) -> Tailing:
        """Have the log of an instance told from its tail on."""

        def read() -> Deferred[str]:
            log: Deferred[str] = self._controller.instances.log(app, instance, LINES)
            return log

        return Tailing(self._clock, read, self._numbers, deliver, failed)
