"""The root folder of a branch: one branch at a time holds it, and it remembers which.

`branch.lock` says with a lock of the kernel's that a branch lives here, so that nothing
is left to clean up after a crash; `branch.json` remembers the branch's id and broker.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen

from cyme.errors import CannotStart

LOCK = "branch.lock"
MEMORY = "branch.json"


@frozen(kw_only=True)
class Memory:
    """What a root folder remembers.

    :ivar broker: the default broker that was last used: a URL, or `readers.EMBEDDED`.
    """

    id: str
    broker: str | None = None


@define(eq=False)
class RootFolder:
    """The folder that a branch keeps everything in.

    :ivar path: absolute.
    :param generate_id: makes the id of a new branch.
    """

    path: str
    _generate_id: Callable[[], str] = field(alias="generate_id")
    _lock: int | None = field(default=None, init=False)
    _memory: Memory | None = field(default=None, init=False)

    def join(self, *names: str) -> str:
        """The path of something in the folder."""
        return os.path.join(self.path, *names)

    @property
    def memory(self) -> Memory:
        """What the folder remembers; known once it is open."""
        assert self._memory is not None, "the root folder is not open"
        return self._memory

    def create(self) -> None:
        """Make the folder, for its owner alone, if it is missing.

        :raises CannotStart: when that can't be done.
        """
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
        except OSError as problem:
            raise self._unusable(problem) from None

    def open(self, id: str | None) -> Memory:
        """Make the folder if it is missing, take its lock, and settle the branch's id.

        :param id: the id that the branch was given, or None for the remembered one.
        :return: what the folder remembers now.
        :raises CannotStart: when it can't be written to, when another branch holds it or
            when it belongs to another one.
        """
        if "%" in self.path:
            # Celery takes it for the beginning of a format in the paths of a worker's files.
            raise CannotStart(f"the root folder {self.path} can't be used: its path holds a '%'")
        self.create()
        self._take_lock()
        try:
            remembered = self._recall()
            if remembered is not None and id not in {None, remembered.id}:
                raise CannotStart(
                    f"the root folder {self.path} belongs to branch {remembered.id}, not to {id}: leave out"
                    " --id, or give each branch a root folder of its own"
                )
            if remembered is None:
                self.remember(Memory(id=id or self._generate_id()))
            else:
                self._memory = remembered
        except CannotStart:
            self.close()
            raise
        return self.memory

    def check_free(self) -> None:
        """See whether the lock could be taken now.

        :raises CannotStart: when another branch holds the folder.
        """
        self._take_lock()
        self.close()

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remember(self, memory: Memory) -> None:
        """Write `memory` so that it survives a crash of the machine, whole or not at all.

        :raises CannotStart: when it can't be written.
        """
        target = self.join(MEMORY)
        temporary = target + ".new"
        text = json.dumps({"id": memory.id, "broker": memory.broker}, indent=1) + "\n"
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, target)
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as problem:
            raise self._unusable(problem) from None
        self._memory = memory

    def _recall(self) -> Memory | None:
        try:
            with open(self.join(MEMORY), encoding="utf-8") as stream:
                return _parse(json.load(stream))
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise self._unusable(problem) from None
        except (ValueError, TypeError, KeyError):
            raise CannotStart(
                f"{self.join(MEMORY)} is damaged; it should hold the id of this branch and its broker, like"
                ' {"id": "branch1", "broker": "embedded"}'
            ) from None

    def _take_lock(self) -> None:
        try:
            lock = os.open(self.join(LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise self._unusable(problem) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            os.pwrite(lock, b"%d\n" % os.getpid(), 0)
        except BlockingIOError:
            pid = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise CannotStart(
                f"branch {self._holder()} (pid {pid}) holds the root folder {self.path}"
            ) from None
        except OSError as problem:
            os.close(lock)
            raise self._unusable(problem) from None
        self._lock = lock

    def _holder(self) -> str:
        """The id of the branch that has the lock, as well as it can be told."""
        try:
            remembered = self._recall()
        except CannotStart:
            remembered = None
        return remembered.id if remembered is not None else "of unknown id"

    def _unusable(self, problem: OSError) -> CannotStart:
        where = "" if problem.filename in {None, self.path} else f" ({problem.filename})"
        return CannotStart(
            f"the root folder {self.path} can't be used: {problem.strerror}{where};"
            " --instance-dir names another"
        )


def _parse(value: Any) -> Memory:
    """:raises KeyError, TypeError, ValueError: when `value` is not what `remember` wrote."""
    memory = Memory(id=value["id"], broker=value.get("broker"))
    if not isinstance(memory.id, str) or not memory.id or not isinstance(memory.broker, (str, type(None))):
        raise ValueError(value)
    return memory
