"""The verbs of the why-log, and what writes changes of declarations into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyme.controller.deferring import returns_deferred
from cyme.controller.parameters import whole
from cyme.declarations import Declaration, Instance, Queue, Rollout
from cyme.errors import NoSuchInstance

if TYPE_CHECKING:
    from cyme.interfaces import ICatalogue, IEvents

#: The most events that one answer holds.
LIMIT_MOST = 1000
#: The highest id that a database can give.
SINCE_MOST = 2**63 - 1
#: What an event tells of a declaration: nothing that may hold a password.
TOLD = (
    "branch",
    "is_enabled",
    "queues",
    "max_concurrency",
    "min_concurrency",
    "generation",
    "celery_app",
    "pool",
    "exchange",
    "exchange_type",
    "routing_key",
    "options",
)


class History:
    """Shows what happened on this branch, and why."""

    def __init__(self, catalogue: ICatalogue, events: IEvents) -> None:
        self._catalogue = catalogue
        self._events = events

    @returns_deferred
    async def read(
        self, app: str | None = None, instance: str | None = None, *, since: int = 0, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Fire with the first `limit` events after the id `since`, of one instance or of all.

        :raises NoSuchInstance: when there is no such instance (of that app).
        """
        whole("since", since, 0, SINCE_MOST)
        whole("limit", limit, 1, LIMIT_MOST)
        if instance is not None:
            held = self._catalogue.instance(instance)
            if held is None or app not in (None, held.app):
                raise NoSuchInstance(instance, app)
        found = await self._events.read(since=since, limit=limit, instance=instance)
        return [event.document() for event in found]


def record_changes(catalogue: ICatalogue, events: IEvents) -> None:
    """Have every change of a declaration become an event: `app-declared`, `instance-deleted` and so on."""

    def changed(declarations: tuple[Declaration, ...]) -> None:
        for one in declarations:
            if isinstance(one, Rollout):
                continue  # its events are told by `cyme.controller.turns`
            what = "deleted" if one.deleted else "declared"
            details = {name: getattr(one, name) for name in TOLD if getattr(one, name, None) is not None}
            if isinstance(one, Queue):
                details["queue"] = one.name
            events.record(
                f"{one.kind}-{what}",
                app=one.app if isinstance(one, (Instance, Queue)) else one.name,
                instance=one.name if isinstance(one, Instance) else None,
                who=f"branch {one.version.branch}",
                **details,
            )

    catalogue.subscribe(changed)
