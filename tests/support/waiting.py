"""Waiting in functional tests: for an event where there is one."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeVar, overload

from twisted.internet import reactor
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

T = TypeVar("T")

#: Seconds between two looks of `eventually`.
INTERVAL = 0.05


@overload
async def eventually(check: Callable[[], Awaitable[T]], timeout: float, what: str = "") -> T: ...


@overload
async def eventually(check: Callable[[], T], timeout: float, what: str = "") -> T: ...


async def eventually(check: Callable[[], Any], timeout: float, what: str = "") -> Any:
    """Look again and again until `check` answers something true, and return that.

    Only for what sends no event: another process's state, seen from outside. An
    AssertionError that `check` raises counts as "not yet"; so tests can use their own
    assertions in it and get their message at the time-out.

    :param timeout: seconds; at the end the test fails with the last answer.
    """
    deadline = reactor.seconds() + timeout
    while True:
        problem: AssertionError | None = None
        last: object = None
        try:
            answer = check()
            last = await answer if isawaitable(answer) else answer
            if last:
                return last
        except AssertionError as error:
            problem = error
        if reactor.seconds() >= deadline:
            if problem is not None:
                raise problem
            raise AssertionError(f"{what or 'it'} did not come true within {timeout:g} s; last: {last!r}")
        await deferLater(reactor, INTERVAL)


class _Pidfd(FileDescriptor):
    """Tells the reactor when a process has ended, whoever its parent is."""

    def __init__(self, pid: int, ended: Callable[[], None]) -> None:
        super().__init__(reactor)
        self._fd = os.pidfd_open(pid)
        self._ended = ended

    def fileno(self) -> int:
        return self._fd

    def doRead(self) -> None:
        self.close()
        self._ended()

    def close(self) -> None:
        if self._fd >= 0:
            self.stopReading()
            os.close(self._fd)
            self._fd = -1


def when_ended(pid: int, timeout: float) -> Deferred[None]:
    """Fire when a process has ended (a zombie counts), also when there is none of that pid.

    :param timeout: seconds; then it fails with an `AssertionError`.
    """
    done: Deferred[None] = Deferred()
    try:
        watcher = _Pidfd(pid, lambda: done.callback(None))
    except ProcessLookupError:
        done.callback(None)
        return done

    def close(result: T) -> T:
        watcher.close()
        return result

    def too_late(result: object, seconds: float) -> object:
        raise AssertionError(f"process {pid} still runs after {seconds:g} s")

    watcher.startReading()
    done.addBoth(close)
    done.addTimeout(timeout, reactor, onTimeoutCancel=too_late)
    return done
