"""The facts that a branch tells about itself: to users, and to others in its beats (`cyme.membership`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen
from twisted.logger import Logger

if TYPE_CHECKING:
    import os


@frozen(kw_only=True)
class Identity:
    """What a branch knows about itself from its start on.

    :ivar url: where its HTTP server answers, or None without one; so `port`.
    :ivar sup_interval: seconds between two full checks of the supervisor.
    :ivar labels: name -> value, for who places instances.
    :ivar cpus: how many processors the machine has.
    """

    id: str
    version: str
    loglevel: str
    logfile: str | None
    sup_interval: float
    url: str | None = None
    port: int | None = None
    labels: Mapping[str, str] = {}
    cpus: int = 1


class Presence:
    """What this branch says of itself.

    :param root: the root folder, whose disk's use is told.
    :param count_instances: how many instances this branch owns.
    :param getloadavg: `os.getloadavg`.
    :param statvfs: `os.statvfs`.
    """

    _log = Logger()

    def __init__(
        self,
        identity: Identity,
        *,
        root: str,
        count_instances: Callable[[], int],
        getloadavg: Callable[[], tuple[float, float, float]],
        statvfs: Callable[[str], os.statvfs_result],
    ) -> None:
        self._identity = identity
        self._root = root
        self._count_instances = count_instances
        self._getloadavg = getloadavg
        self._statvfs = statvfs

    def listens(self, url: str | None, port: int | None) -> None:
        """Take note of where the HTTP server of this branch answers, None while nowhere."""
        self._identity = evolve(self._identity, url=url, port=port)

    def heartbeat(self) -> dict[str, Any]:
        """The facts about this branch now."""
        me = self._identity
        return {
            "id": me.id,
            "url": me.url,
            "port": me.port,
            "loglevel": me.loglevel,
            "logfile": me.logfile,
            "sup_interval": me.sup_interval,
            # Connections to the bus; the first Cyme had several (http-api.md, "Branches").
            "numc": 1,
            "version": me.version,
            "labels": dict(me.labels),
            "cpus": me.cpus,
            "instances": self._count_instances(),
            "load_average": self._load_average(),
            "disk_use": self._disk_use(),
        }

    def _load_average(self) -> list[float] | None:
        """Over 1, 5 and 15 minutes; None where the system does not say."""
        try:
            return [round(value, 2) for value in self._getloadavg()]
        except OSError as problem:
            self._log.debug("no load average: {problem}", problem=problem)
            return None

    def _disk_use(self) -> float | None:
        """How much of the root folder's disk is used, in percent as `df` counts; None if unknown."""
        try:
            disk = self._statvfs(self._root)
        except OSError as problem:
            self._log.debug("no disk use: {problem}", problem=problem)
            return None
        used = disk.f_blocks - disk.f_bfree
        usable = used + disk.f_bavail
        return round(100 * used / usable, 1) if usable else None
