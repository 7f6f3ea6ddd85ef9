"""What a branch knows at a scrape beside its instances, from those who know it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from cyme.metrics.collecting import Known

if TYPE_CHECKING:
    from cyme.interfaces import ICatalogue, IRemoteControl


class Presence(Protocol):
    """What is used of `cyme.membership.Membership`."""

    def members(self) -> tuple[str, ...]: ...

    def known(self) -> tuple[str, ...]: ...


class Bus(Protocol):
    """What is used of a bus."""

    @property
    def connected(self) -> bool: ...

    @property
    def counts(self) -> Mapping[str, int]: ...


@frozen(kw_only=True)
class Facts:
    """Those who know.

    :ivar default_broker: gives the URL of the broker of apps that name none; `redacted` takes the
        password out of such a URL.
    :ivar queues: gives (app, queue) -> messages and consumers, of those that this branch has counted.
    :ivar lag: gives the seconds for which another branch's catalogue has differed.
    :ivar database_problem: gives why the database could not be used last, or None.
    """

    branch_id: str
    version: str
    catalogue: ICatalogue
    remote: IRemoteControl
    presence: Presence
    bus: Bus
    default_broker: Callable[[], str]
    redacted: Callable[[str], str]
    queues: Callable[[], Mapping[tuple[str, str], tuple[int, int]]]
    lag: Callable[[], float]
    database_problem: Callable[[], str | None]

    def known(self) -> Known:
        """All of it at this moment."""
        live, known = set(self.presence.members()), set(self.presence.known())
        apps = self.catalogue.apps()
        return Known(
            branch=self.branch_id,
            version=self.version,
            queues=self.queues(),
            brokers=self._brokers(),
            branches={"live": len(live), "away": len(known - live)},
            is_bus_up=self.bus.connected,
            bus=dict(self.bus.counts),
            lag=self.lag(),
            declarations={
                "app": len(apps),
                "instance": len(self.catalogue.instances()),
                "queue": sum(len(self.catalogue.queues(app.name)) for app in apps),
            },
            is_database_up=self.database_problem() is None,
        )

    def _brokers(self) -> dict[str, bool]:
        """Whether each broker answers that this branch or one of its workers uses."""
        default = self.default_broker()
        of_app = {app.name: app.broker or default for app in self.catalogue.apps()}
        used = {default}
        for one in self.catalogue.instances():
            if one.branch == self.branch_id and one.is_enabled:
                used.add(one.broker or of_app.get(one.app, default))
        found = {url: self.remote.reachable(url) for url in sorted(used)}
        return {self.redacted(url): is_up for url, is_up in found.items() if is_up is not None}

    def away(self) -> dict[str, str]:
        """What keeps the branch from doing all of its work, but its broker: a part -> what is wrong."""
        found = {}
        if not self.bus.connected:
            found["bus"] = "the bus between the branches can't be reached"
        problem = self.database_problem()
        if problem is not None:
            found["database"] = problem
        return found
