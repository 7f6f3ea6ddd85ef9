"""The why-log and the logs of workers: what is there, and what comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cyme.client import calls
from cyme.client.errors import Unavailable, Unreachable
from cyme.client.sse import Reader
from cyme.client.tailing import gained
from cyme.client.types import Event

if TYPE_CHECKING:
    from cyme.client.synchronous import Session

#: Seconds after which a stream that says nothing is given up; branches say something every 15.
QUIET_MOST = 45.0
#: Attempts in a row that may fail before whoever follows a stream is told.
FAILURES_MOST = 8
#: Lines of a log that each look at it asks for.
LOOK_LINES = 1000
#: Stands in a log that is followed where lines are missing.
GAP = "[... lines are missing here: the log grew faster than it was read, or is a new one ...]"


class Events:
    """What happened on a branch, or to one instance, the oldest first; iterable."""

    def __init__(self, session: Session, app: str | None = None, instance: str | None = None) -> None:
        self._session = session
        self._app = app
        self._instance = instance

    def page(self, since: int | None = None, limit: int | None = None) -> list[Event]:
        """Some events.

        :param since: the id of the last event that is known.
        :param limit: the most of them, 1000 at most.
        """
        return self._session.call(calls.events(self._app, self._instance, since, limit))

    def read(self, since: int = 0) -> Iterator[Event]:
        """All events after `since`, to the newest there is."""
        while True:
            page = self.page(since, calls.PAGE)
            yield from page
            if len(page) < calls.PAGE:
                return
            since = page[-1]["id"]

    def __iter__(self) -> Iterator[Event]:
        return self.read()

    def follow(self, since: int | None = None) -> Iterator[Event]:
        """What happens from now on (or after the event `since`), as it happens, without an end.

        A connection that breaks is made again, and nothing is left out.

        :raises ClientError: when the branch refuses, or stays away.
        """
        reader = Reader()
        failures = 0
        while True:
            try:
                request = calls.event_stream(self._app, self._instance, since, reader.last_id)
                reader = Reader(reader.last_id)
                with self._session.stream(request, QUIET_MOST) as chunks:
                    for chunk in chunks:
                        failures = 0
                        for frame in reader.feed(chunk):
                            yield calls.read_event(frame.data)
            except (Unreachable, Unavailable):
                if failures >= FAILURES_MOST or not reader.last_id:
                    raise
            failures += 1
            self._session.pause(failures)


class LogFollower:
    """Reads the log of one worker as it grows."""

    def __init__(self, session: Session, app: str | None, instance: str) -> None:
        self._session = session
        self._app = app
        self._instance = instance

    def follow(self, tail: int, interval: float) -> Iterator[str]:
        """The last `tail` lines, and then each that is written; looks every `interval` seconds."""
        before = self._look(max(tail, 1))
        if tail > 0:
            yield from before
        while True:
            self._session.sleep(interval)
            now = self._look(LOOK_LINES)
            meets, new = gained(before, now)
            if not meets:
                yield GAP
            yield from new
            before = now or before

    def _look(self, lines: int) -> list[str]:
        return self._session.call(calls.instance_log(self._app, self._instance, lines)).splitlines()
