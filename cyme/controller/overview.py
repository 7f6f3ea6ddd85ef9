"""What a person looks at: all instances, branches and queues at once, what is newest, the past hour.

Everything here is a read, made of what the other verbs tell one by one; it answers with what it could
hear, and says who was silent.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define

from cyme.actors import verb
from cyme.controller.cordoning import branch_details
from cyme.controller.deferring import returns_deferred
from cyme.controller.details import queue_details
from cyme.controller.parameters import whole
from cyme.controller.statuses import Statuses
from cyme.controller.trends import KINDS, STEP, Key, Trends, merged
from cyme.errors import BusAway, InvalidParameter, NoSuchApp, NoSuchTask
from cyme.planning import ATTENTION

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.actors import Actors
    from cyme.controller.issued import IssuedTasks
    from cyme.declarations import Instance
    from cyme.interfaces import ICatalogue, IEvents, IGateway
    from cyme.membership import Membership
    from cyme.queued import TaskStatus

#: The most rows of one answer.
LIMIT_MOST = 1000
#: Seconds that branches get to tell.
WITHIN = 3.0
#: Seconds for which what was merged from all branches holds, and how many different questions are kept.
FRESH, KEPT = 5.0, 200


class OverviewActor:
    """Tells what is newest on this branch, and of its past hour."""

    def __init__(self, trends: Trends, events: IEvents, gateway: IGateway) -> None:
        self._trends = trends
        self._events = events
        self._gateway = gateway

    @verb(quiet=True)
    def trends(self, name: str | None, *, keys: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Answer with the values of series, null for those that there are not, and their newest slot."""
        slot = self._trends.slot
        return {
            "slot": slot,
            "values": [self._trends.series((key[0], key[1], key[2]), slot) for key in keys],
        }

    @verb(quiet=True)
    async def newest_events(
        self, name: str | None, *, before: float | None, limit: int, app: str | None, instance: str | None
    ) -> list[dict[str, Any]]:
        """Answer with the newest events from before a time."""
        found = await self._events.newest(
            before=before, limit=min(limit, LIMIT_MOST), app=app, instance=instance
        )
        return [event.document() for event in found]

    @verb(quiet=True)
    async def recent_tasks(self, name: str | None, *, limit: int, app: str | None) -> list[dict[str, Any]]:
        """Answer with the tasks that were queued here last."""
        return [task_line(status) for status in await self._gateway.recent(min(limit, LIMIT_MOST), app)]


@define
class _Kept:
    """What was answered, and when."""

    at: float
    answer: Any


class Overview:
    """Shows much at once.

    :param statuses: how the instances are.
    :param here: tells what is newest on this branch.
    """

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        actors: Actors,
        presence: Membership,
        statuses: Statuses,
        here: OverviewActor,
        trends: Trends,
        issued: IssuedTasks,
        branch_id: str,
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._actors = actors
        self._presence = presence
        self._statuses = statuses
        self._here = here
        self._trends = trends
        self._issued = issued
        self._branch_id = branch_id
        self._kept: dict[tuple[Any, ...], _Kept] = {}

    @property
    def branch(self) -> str:
        """The id of the branch that is asked."""
        return self._branch_id

    # -- instances ----------------------------------------------------------------------

    @returns_deferred
    async def instances(
        self,
        *,
        app: str | None = None,
        branch: str | None = None,
        queue: str | None = None,
        state: str | None = None,
        text: str | None = None,
        offset: int = 0,
        limit: int = 100,
    ) -> dict[str, Any]:
        """Fire with the instances that match, `limit` of them from the place `offset` on, by name.

        :param state: one of `planning.State`, or `ATTENTION`.
        :param text: which their name, or that of their app, branch or a queue holds.
        :return: `rows`, each with what is declared of an instance and how it is; how many match
            (`matching`) and are there (`total`), how many are in each state of those that match in all
            but their state (`states`), and the `silent` branches.
        """
        whole("limit", limit, 1, LIMIT_MOST)
        whole("offset", offset, 0, 10**9)
        silent = await self._statuses.refresh()
        needle = (text or "").casefold()
        states: Counter[str] = Counter()
        matching: list[Instance] = []
        everyone = self._catalogue.instances(app)
        for one in everyone:
            if branch not in (None, one.branch) or (queue is not None and queue not in one.queues):
                continue
            if needle and not _mentions(one, needle):
                continue
            is_in, is_ailing = self._statuses.state_of(one)
            states[is_in] += 1
            states[ATTENTION] += is_ailing
            if state in (None, is_in) or (state == ATTENTION and is_ailing):
                matching.append(one)
        return {
            "rows": [self._row(one) for one in matching[offset : offset + limit]],
            "matching": len(matching),
            "total": len(everyone),
            "states": dict(states),
            "silent": list(silent),
        }

    @returns_deferred
    async def states(self) -> dict[str, Any]:
        """Fire with how many instances are in each state: in all, of each `apps` and of each `branches`."""
        silent = await self._statuses.refresh()
        everyone: Counter[str] = Counter()
        apps: dict[str, Counter[str]] = defaultdict(Counter)
        branches: dict[str, Counter[str]] = defaultdict(Counter)
        for one in self._catalogue.instances():
            state, is_ailing = self._statuses.state_of(one)
            for counter in (everyone, apps[one.app], branches[one.branch]):
                counter[state] += 1
                counter[ATTENTION] += is_ailing
        return {
            "all": dict(everyone),
            "apps": {name: dict(counter) for name, counter in apps.items()},
            "branches": {name: dict(counter) for name, counter in branches.items()},
            "silent": list(silent),
        }

    def _row(self, instance: Instance) -> dict[str, Any]:
        return {
            "name": instance.name,
            "app": instance.app,
            "branch": instance.branch,
            "moving_to": instance.moving_to,
            "is_enabled": instance.is_enabled,
            "queues": list(instance.queues),
            "max_concurrency": instance.max_concurrency,
            "min_concurrency": instance.min_concurrency,
            **self._statuses.of(instance),
        }

    # -- branches and queues ------------------------------------------------------------

    def branches(self) -> list[dict[str, Any]]:
        """All branches, by id: the live ones, and those that are away and have something.

        Of one that is away there is no more than `id`, `lost` (true), `since`, its `instances` and what
        was asked of it.
        """
        owned = Counter(one.branch for one in self._catalogue.instances())
        asked = {one.name for one in self._catalogue.branches() if one.is_cordoned or one.is_draining}
        found = []
        for id in sorted({*self._presence.members(), *owned, *asked}):
            about = self._presence.about(id)
            details = branch_details(self._catalogue, id)
            if about is None:
                since = self._presence.away_since(id)
                found.append({"id": id, "lost": True, "since": since, "instances": owned[id], **details})
            else:
                found.append({**about, "lost": False, "instances": owned[id], **details})
        return found

    @returns_deferred
    async def queues(self, app: str | None = None) -> list[dict[str, Any]]:
        """Fire with all queue declarations (of an app), by app and name, as their brokers count them.

        `messages` and `consumers` are null where the broker can't tell or is away; `instances` is how
        many are to consume from it.

        :raises NoSuchApp: when there is no such app.
        """
        apps = [one.name for one in self._catalogue.apps()] if app is None else [app]
        if app is not None and self._catalogue.app(app) is None:
            raise NoSuchApp(app)
        users: Counter[tuple[str, str]] = Counter()
        for instance in self._catalogue.instances(app):
            users.update((instance.app, queue) for queue in instance.queues)
        counts = await self._kept_for(("queues", app), lambda: self._trends.count(apps))
        found = []
        for name in apps:
            for queue in self._catalogue.queues(name):
                messages, consumers = counts.get((name, queue.name), (None, None))
                found.append(
                    {
                        "app": name,
                        **queue_details(queue),
                        "messages": messages,
                        "consumers": consumers,
                        "instances": users[name, queue.name],
                    }
                )
        return found

    # -- what is newest -----------------------------------------------------------------

    @returns_deferred
    async def events(
        self,
        *,
        app: str | None = None,
        instance: str | None = None,
        before: float | None = None,
        limit: int = 100,
    ) -> dict[str, Any]:
        """Fire with the newest `events` of all live branches, the newest first, and the `silent` ones.

        :param before: a time in seconds since the epoch; none that happened then or later.
        """
        whole("limit", limit, 1, LIMIT_MOST)
        question = {"before": before, "limit": limit, "app": app, "instance": instance}
        answers, silent = await self._ask_all("newest_events", question)
        events = sorted(
            (event for answer in answers.values() for event in answer),
            key=lambda event: (event["at"], event["id"]),
            reverse=True,
        )
        return {"events": events[:limit], "silent": list(silent)}

    @returns_deferred
    async def tasks(self, *, app: str | None = None, limit: int = 100) -> dict[str, Any]:
        """Fire with the `tasks` that were queued last through any live branch, and the `silent` ones."""
        whole("limit", limit, 1, LIMIT_MOST)
        answers, silent = await self._ask_all("recent_tasks", {"limit": limit, "app": app})
        tasks = sorted(
            ({**task, "branch": branch} for branch, answer in answers.items() for task in answer),
            key=lambda task: (task["created_at"], task["uuid"]),
            reverse=True,
        )
        return {"tasks": tasks[:limit], "silent": list(silent)}

    @returns_deferred
    async def task(self, app: str | None, uuid: str) -> dict[str, Any]:
        """Fire with all that is known of a task, whichever app it is of.

        :param app: the only app that it may be of; None for any.
        :raises NoSuchTask: when there is none.
        :raises BranchAway: when the branch is away that queued it.
        """
        status = await self._issued.status(uuid)
        if app not in (None, status.app):
            raise NoSuchTask(uuid)
        error = None if status.error is None else {"type": status.error.type, "message": status.error.message}
        return {**task_line(status), "result": status.result, "error": error}

    # -- the past hour ------------------------------------------------------------------

    @returns_deferred
    async def trends(self, keys: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Fire with series of the past hour, over all live branches; see Note [What a trend knows].

        :param keys: `[kind, app, name]` of each; an empty app or name stands for all.
        :return: `series`, a list of values for each, null where nothing is known; `until`, when the
            newest of them was taken, in seconds since the epoch; and `step`, seconds between two.
        :raises InvalidParameter: for a kind that there is not.
        """
        for key in keys:
            if len(key) != 3 or key[0] not in KINDS:
                raise InvalidParameter("keys", f"takes lists of a kind ({', '.join(KINDS)}), app and name")
        wanted: list[Key] = [(key[0], key[1], key[2]) for key in keys]
        trends: dict[str, Any] = await self._kept_for(("trends", *wanted), lambda: self._merge(wanted))
        return trends

    async def _merge(self, keys: Sequence[Key]) -> dict[str, Any]:
        answers, _ = await self._ask_all("trends", {"keys": [list(key) for key in keys]})
        series = []
        for number, key in enumerate(keys):
            told = [(one["slot"], one["values"][number]) for one in answers.values()]
            series.append(merged(key[0], [(slot, values) for slot, values in told if values is not None]))
        newest = max((one["slot"] for one in answers.values()), default=self._trends.slot)
        return {"series": series, "until": newest * STEP, "step": STEP}

    # -- inside -------------------------------------------------------------------------

    async def _ask_all(
        self, question: str, arguments: Mapping[str, Any]
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Ask the live branches; this one without the bus, where it is the only one or that is away."""
        others = set(self._presence.members()) - {self._branch_id}
        if others:
            try:
                return await self._actors.scatter("Branch", question, timeout=WITHIN, **arguments)
            except BusAway:
                pass
        answer = getattr(self._here, question)(None, **arguments)
        return {self._branch_id: answer if isinstance(answer, dict) else await answer}, tuple(sorted(others))

    async def _kept_for(self, key: tuple[Any, ...], find: Any) -> Any:
        kept = self._kept.get(key)
        now = self._clock.seconds()
        if kept is not None and now - kept.at < FRESH:
            return kept.answer
        answer = await find()
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[key] = _Kept(now, answer)
        return answer


def task_line(status: TaskStatus) -> dict[str, Any]:
    """A task in a list."""
    return {
        "uuid": status.id,
        "app": status.app,
        "queue": status.queue,
        "state": status.state.value,
        "created_at": status.created_at,
        "finished_at": status.finished_at,
    }


def _mentions(instance: Instance, needle: str) -> bool:
    words = (instance.name, instance.app, instance.branch, *instance.queues)
    return any(needle in word.casefold() for word in words)
