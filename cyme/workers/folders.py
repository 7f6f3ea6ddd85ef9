"""Where the files of workers are: one folder for each in the branch's root folder.

What blocks here is fast (a few system calls), but for `remove`, `sweep` and their kind, which
say so.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from cyme.naming import is_plain_name

#: Folders that wait for their removal begin so; no name of a worker does.
_REMOVED = ".removed-"


def folder_of(root: Path, name: str) -> Path:
    """The folder of the worker `name`.

    :raises ValueError: for what is no name; so no name ever leads out of the root folder.
    """
    if not is_plain_name(name):
        raise ValueError(f"{name!r} is no name of a worker")
    return root / name


@frozen
class Files:
    """The files of one worker, by absolute paths."""

    folder: Path

    @property
    def pid(self) -> Path:
        """Celery's pid file."""
        return self.folder / "worker.pid"

    @property
    def log(self) -> Path:
        """What the worker logs, and whatever else it writes."""
        return self.folder / "worker.log"

    @property
    def statedb(self) -> Path:
        """What Celery keeps over restarts: revoked tasks; it may add a suffix."""
        return self.folder / "worker.statedb"

    @property
    def record(self) -> Path:
        """Who the process is, see `cyme.workers.proc.Record`."""
        return self.folder / "worker.json"

    @property
    def record_before(self) -> Path:
        """Who the process before that was, see `cyme.workers.child.write_record`."""
        return self.folder / "worker.json.before"

    def prepare(self) -> None:
        """Make the folder, for its owner alone, and remove a pid file that is stale by now.

        Celery refuses to start while the pid in it belongs to any process (failure-modes F11).

        :raises OSError: when that can't be done.
        """
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.pid.unlink(missing_ok=True)


def existing(root: Path, names: Iterable[str]) -> frozenset[str]:
    """Those of `names` that have a folder; what is no name has none."""
    return frozenset(name for name in names if is_plain_name(name) and (root / name).is_dir())


def remove(root: Path, name: str) -> None:
    """Remove the folder of a worker, if there is one; blocks.

    It is out of the way at once, so that a new one may take its place, and then emptied.

    :raises OSError: when it can't be moved or removed.
    """
    aside = set_aside(root, name)
    if aside is not None:
        discard(aside)


def set_aside(root: Path, name: str) -> Path | None:
    """Take the folder of a worker out of the way.

    :return: what to `discard`; None when there was no folder.
    :raises OSError: when it can't be moved.
    """
    folder = folder_of(root, name)
    aside = Path(tempfile.mkdtemp(prefix=_REMOVED, dir=root))
    try:
        folder.rename(aside / name)
    except FileNotFoundError:
        aside.rmdir()
        return None
    except OSError:
        aside.rmdir()
        raise
    return aside


def discard(aside: Path) -> None:
    """Remove what was set aside; blocks.

    :raises OSError: when it can't be removed; a later `sweep` tries again.
    """
    shutil.rmtree(aside)


def sweep(root: Path) -> None:
    """Remove what an earlier life of the branch set aside and did not get round to; blocks.

    :raises OSError: when it can't be removed.
    """
    for entry in os.scandir(root):
        if entry.name.startswith(_REMOVED):
            discard(Path(entry.path))
