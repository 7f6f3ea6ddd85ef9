"""The why-log and the logs of workers, as in `cyme.client.events`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from cyme.client import calls
from cyme.client.errors import Unavailable, Unreachable
from cyme.client.events import FAILURES_MOST, GAP, LOOK_LINES, QUIET_MOST
from cyme.client.sse import Reader
from cyme.client.tailing import gained
from cyme.client.types import Event

if TYPE_CHECKING:
    from cyme.client.aio.sessions import Session


class Events:
    """What happened on a branch, or to one instance, the oldest first; `async for`."""

    def __init__(self, session: Session, app: str | None = None, instance: str | None = None) -> None:
        self._session = session
        self._app = app
        self._instance = instance

    async def page(self, since: int | None = None, limit: int | None = None) -> list[Event]:
        """Some events.

        :param since: the id of the last event that is known.
        :param limit: the most of them, 1000 at most.
        """
        return await self._session.call(calls.events(self._app, self._instance, since, limit))

    async def read(self, since: int = 0) -> AsyncIterator[Event]:
        """All events after `since`, to the newest there is."""
        while True:
            page = await self.page(since, calls.PAGE)
            for event in page:
                yield event
            if len(page) < calls.PAGE:
                return
            since = page[-1]["id"]

    def __aiter__(self) -> AsyncIterator[Event]:
        return self.read()

    async def follow(self, since: int | None = None) -> AsyncIterator[Event]:
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
                async with self._session.stream(request, QUIET_MOST) as chunks:
                    async for chunk in chunks:
                        failures = 0
                        for frame in reader.feed(chunk):
                            yield calls.read_event(frame.data)
            except (Unreachable, Unavailable):
                if failures >= FAILURES_MOST or not reader.last_id:
                    raise
            failures += 1
            await self._session.pause(failures)


class LogFollower:
    """Reads the log of one worker as it grows."""

    def __init__(self, session: Session, app: str | None, instance: str) -> None:
        self._session = session
        self._app = app
        self._instance = instance

    async def follow(self, tail: int, interval: float) -> AsyncIterator[str]:
        """The last `tail` lines, and then each that is written; looks every `interval` seconds."""
        before = await self._look(max(tail, 1))
        if tail > 0:
            for line in before:
                yield line
        while True:
            await self._session.sleep(interval)
            now = await self._look(LOOK_LINES)
            meets, new = gained(before, now)
            if not meets:
                yield GAP
            for line in new:
                yield line
            before = now or before

    async def _look(self, lines: int) -> list[str]:
        return (await self._session.call(calls.instance_log(self._app, self._instance, lines))).splitlines()
