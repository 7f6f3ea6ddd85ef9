"""Events live, as Server-Sent Events: what a browser's `EventSource` and `curl -N` read.

Each event is `id:`, `event:` (its kind) and `data:` (the JSON document of the list). A stream begins
with the id from which on it tells, without an event, so that whoever is cut off before the first
event comes back to the right place. `Last-Event-ID`, else `since`, says from where on; without
either the stream tells what happens from now on. What is told without gap and repeat, and how a
reader that lags is caught up, is the business of `controller.events.follow`.

A stream ends when its client goes, when its branch stops, when the database can't be read, and
when its client reads nothing for long; the client comes back with the last id that it has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from cyme.api.problems import MalformedRequest, NotReady, TooManyStreams
from cyme.errors import InvalidParameter

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.web.server import Request

#: The type of a stream's body.
EVENT_STREAM = "text/event-stream"
#: The most streams at once.
STREAMS_MOST = 100
#: Seconds without an event after which a comment is sent, so that nothing between here and the
#: client takes the connection for dead; proxies wait 60 s and more.
KEEP_ALIVE = 15.0
#: Seconds after which a client is cut off that reads nothing of what it was sent.
READS_WITHIN = 120.0
#: Milliseconds after which a browser that was cut off comes back.
RETRY = 2000
#: Events whose text is kept for the next stream that tells them.
FRAMES_KEPT = 128

_STOPPING = {"branch": "it is stopping"}
_WEIGHT = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


class Following(Protocol):
    """What is used of what `controller.events.follow` answers with."""

    @property
    def position(self) -> int: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def look(self) -> None: ...

    def stop(self) -> None: ...


#: `controller.events.follow` for what a path names; takes `since`, `deliver` and `failed`.
Follow = Callable[..., Deferred[Following]]


def wants_stream(request: Request) -> bool:
    """Whether a client wants a stream of events rather than JSON, by its `Accept`.

    JSON is the default: a stream is for who names it, and does not name JSON with the same weight
    or a higher one (RFC 9110, 12.5.1). What can't be read in the header counts for nothing.
    """
    weights: dict[str, float] = {}
    for header in request.requestHeaders.getRawHeaders("Accept", []):
        for part in header.split(","):
            media, *parameters = (word.strip().lower() for word in part.split(";"))
            weight = next((word[2:].strip() for word in parameters if word.startswith("q=")), "1")
            if media and _WEIGHT.fullmatch(weight):
                weights[media] = max(float(weight), weights.get(media, 0.0))
    wanted = weights.get(EVENT_STREAM, 0.0)
    for media in ("application/json", "application/*"):
        if media in weights:
            return wanted > weights[media]
    return wanted > 0 and wanted >= weights.get("*/*", 0.0)


def last_event_id(request: Request) -> int | None:
    """The id that a client which comes back has seen last.

    :raises MalformedRequest: when it is none that this branch gives.
    """
    values = request.requestHeaders.getRawHeaders("Last-Event-ID", [])
    if not values or values == [""]:
        return None
    if len(values) > 1 or not re.fullmatch(r"[0-9]{1,18}", values[0]):
        raise MalformedRequest("Last-Event-ID must be the id of an event, a whole number")
    return int(values[0])


def frame(document: Mapping[str, Any]) -> bytes:
    """One event as it is sent."""
    # A person may have written a kind with line ends, which would end the field.
    kind = " ".join(str(document["kind"]).split())
    text = json.dumps(document)
    return f"id: {document['id']}\nevent: {kind}\ndata: {text}\n\n".encode()


class Streams:
    """The streams of one branch.

    :param most: how many there may be at once.
    """

    def __init__(self, clock: IReactorTime, most: int = STREAMS_MOST) -> None:
        self._clock = clock
        self._most = most
        self._open: set[_Stream] = set()
        self._waits: set[Deferred[Any]] = set()
        self._closed = False
        self._frames: dict[int, bytes] = {}

    def answer(self, request: Request, follow: Follow, given: Mapping[str, Any]) -> Deferred[bytes]:
        """Answer a request with a stream; fires when the stream has ended.

        :param given: the parameters of the request.
        :raises MalformedRequest, InvalidParameter: when it can't be told from where on.
        :raises TooManyStreams, NotReady: when there can be no more streams.
        """
        if "limit" in given:
            raise InvalidParameter("limit", "is for a list; a stream has no end")
        since = last_event_id(request)
        if since is None:
            since = given.get("since")
        if self._closed:
            raise NotReady(_STOPPING)
        if len(self._open) >= self._most:
            raise TooManyStreams(self._most)
        return Deferred.fromCoroutine(self._serve(request, follow, since))

    def until_closed(self, waiting: Deferred[Any]) -> Deferred[Any]:
        """Have a wait for something far away end with the streams, lest it holds up a stop.

        :return: `waiting`, which is cancelled then, and fails with `NotReady`.
        """
        self._waits.add(waiting)

        def ended(result: Any) -> Any:
            self._waits.discard(waiting)
            if self._closed and isinstance(result, Failure) and result.check(CancelledError):
                raise NotReady(_STOPPING)
            return result

        waiting.addBoth(ended)
        if self._closed:
            waiting.cancel()
        return waiting

    def close(self) -> None:
        """End all streams and waits, and begin no more."""
        self._closed = True
        for waiting in tuple(self._waits):
            waiting.cancel()
        for stream in tuple(self._open):
            stream.end()

    async def _serve(self, request: Request, follow: Follow, since: int | None) -> bytes:
        stream = _Stream(self._clock, request, self._frame)
        self._open.add(stream)
        try:
            following = await follow(since=since, deliver=stream.deliver, failed=stream.end)
            if self._closed:
                following.stop()
                raise NotReady(_STOPPING)
            stream.begin(following)
            if request.method != b"HEAD":
                await stream.ended
        finally:
            self._open.discard(stream)
            stream.end()
        return b""

    def _frame(self, document: Mapping[str, Any]) -> bytes:
        """`frame`, made once for all streams that tell an event at about the same time."""
        number = document["id"]
        found = self._frames.get(number)
        if found is None:
            if len(self._frames) >= FRAMES_KEPT:
                self._frames.clear()
            found = self._frames[number] = frame(document)
        return found


@implementer(IPushProducer)
class _Stream:
    """One client's stream.

    :ivar ended: fires when there is nothing more to send.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, request: Request, frame: Callable[[Mapping[str, Any]], bytes]
    ) -> None:
        self._clock = clock
        self._request = request
        self._frame = frame
        self._following: Following | None = None
        self._over = False
        self._told = False
        self._paused_at: float | None = None
        self._tick_at: IDelayedCall | None = None
        self.ended: Deferred[None] = Deferred()

    def begin(self, following: Following) -> None:
        """Send what stands before the first event, then the events."""
        self._following = following
        headers = self._request.responseHeaders
        headers.setRawHeaders("Content-Type", [EVENT_STREAM])
        # Tells nginx to pass each event on at once.
        headers.setRawHeaders("X-Accel-Buffering", ["no"])
        self._request.write(f"retry: {RETRY}\nid: {following.position}\n\n".encode())
        if self._request.method == b"HEAD":
            return
        self._request.registerProducer(self, True)
        self._tick_at = self._clock.callLater(KEEP_ALIVE, self._tick)
        following.resume()

    def deliver(self, document: Mapping[str, Any]) -> None:
        """Send an event."""
        self._told = True
        self._request.write(self._frame(document))

    def end(self) -> None:
        """Send nothing any more; may be called again."""
        if self._over:
            return
        self._over = True
        if self._tick_at is not None:
            self._tick_at.cancel()
            self._tick_at = None
        if self._following is not None:
            self._following.stop()
            # A client that went away has taken its channel with it.
            if getattr(self._request, "channel", None) is not None:
                self._request.unregisterProducer()
        if not self.ended.called:
            self.ended.callback(None)

    def _tick(self) -> None:
        """Keep the connection alive, unless nobody reads; look for what nobody told of."""
        assert self._following is not None
        self._tick_at = self._clock.callLater(KEEP_ALIVE, self._tick)
        if self._paused_at is None:
            self._following.look()
            if not self._told:
                self._request.write(b":\n\n")
            self._told = False
        elif self._clock.seconds() - self._paused_at >= READS_WITHIN:
            self._log.debug("a client that does not read its events is cut off")
            self._request.channel.forceAbortClient()

    # -- IPushProducer: a client that reads slowly pauses its stream --------------------------

    def pauseProducing(self) -> None:
        if self._paused_at is None:
            self._paused_at = self._clock.seconds()
        if self._following is not None:
            self._following.pause()

    def resumeProducing(self) -> None:
        self._paused_at = None
        if self._following is not None:
            self._following.resume()

    def stopProducing(self) -> None:
        self.end()
