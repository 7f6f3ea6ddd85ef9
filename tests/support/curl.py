"""curl as a user runs it: once, and for answers that come bit by bit."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.support.waiting import eventually


@frozen
class Answered:
    """What curl got."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def curl(*arguments: str) -> Answered:
    """Run `curl ARGUMENTS` and wait for the answer; blocks.

    :raises CalledProcessError: when there is none.
    """
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "60", "-w", "\\n%{http_code}", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    text, _, status = done.stdout.rpartition("\n")
    return Answered(int(status), text)


class Curl(ProcessProtocol):
    """`curl -N` on a stream of events; killed at the end of the test.

    :ivar output: what it has written so far.
    :ivar status: its exit status, None while it runs.
    """

    def __init__(self, test: TestCase, url: str, **headers: str) -> None:
        self.output = bytearray()
        self.status: int | None = None
        self._ended: Deferred[None] = Deferred()
        argv = ["curl", "--silent", "--show-error", "--no-buffer", "-H", "Accept: text/event-stream", url]
        for name, value in headers.items():
            argv += ["-H", f"{name.replace('_', '-')}: {value}"]
        reactor.spawnProcess(self, "curl", argv, env=None)
        test.addCleanup(self.kill)

    def outReceived(self, data: bytes) -> None:
        self.output += data

    def processEnded(self, reason: Failure) -> None:
        self.status = getattr(reason.value, "exitCode", None)
        if self.status is None:
            self.status = -1
        self._ended.callback(None)

    def kill(self) -> Deferred[None]:
        """Have it go away as a client does that crashes; fires when it is gone."""
        try:
            self.transport.signalProcess("KILL")  # type: ignore[union-attr]
        except ProcessExitedAlready:
            pass
        return self._ended

    def events(self) -> list[Any]:
        """The documents of the events that came completely."""
        found = []
        for part in self.output.decode().split("\n\n")[:-1]:
            fields = dict(line.partition(": ")[::2] for line in part.split("\n"))
            if "data" in fields:
                document = json.loads(fields["data"])
                assert (fields["id"], fields["event"]) == (str(document["id"]), document["kind"]), part
                found.append(document)
        return found

    async def until(self, check: Callable[[list[Any]], bool], timeout: float = 30.0) -> list[Any]:
        """Wait until the events that came are what is wanted."""
        await eventually(lambda: check(self.events()), timeout, "the events of the stream")
        return self.events()

    async def until_begun(self, timeout: float = 10.0) -> None:
        """Wait until the branch has begun to answer."""
        await eventually(lambda: b"retry:" in self.output, timeout, "the beginning of the stream")

    async def until_ended(self, timeout: float = 20.0) -> int:
        """Wait until it has ended; its exit status."""
        await eventually(lambda: self.status is not None, timeout, "the end of curl")
        assert self.status is not None
        return self.status
