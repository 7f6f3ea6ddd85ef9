"""A controller that keeps everything in dictionaries, for tests of what stands on the controller."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from cyme.errors import (
    BranchCordoned,
    BranchLives,
    InvalidName,
    InvalidParameter,
    NameTaken,
    NoPlace,
    NoProcess,
    NoSuchApp,
    NoSuchBranch,
    NoSuchInstance,
    NoSuchQueue,
    NoSuchRollout,
    NoSuchTask,
    NotConsuming,
    RolloutRuns,
    TargetDenied,
)
from cyme.interfaces import IController

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
RESERVED = ("admin", "branches", "instances", "metrics", "openapi.json", "ping", "ready")


def check_name(kind: str, name: str) -> str:
    if not NAME.fullmatch(name):
        raise InvalidName(kind, name, "takes letters, digits, '.', '_' and '-'")
    if kind == "app" and name in RESERVED:
        raise InvalidName(kind, name, "is the name of a route")
    return name


class _Verbs:
    """Shared state, and how answers come: at once, or when `FakeController.release` is called."""

    def __init__(self, controller: FakeController) -> None:
        self._controller = controller

    def _answer(self, value: Any) -> Deferred[Any]:
        return self._controller.answer(value)

    def _app(self, name: str) -> dict[str, Any]:
        if name not in self._controller.declared_apps:
            raise NoSuchApp(name)
        return self._controller.declared_apps[name]

    def _instance(self, app: str | None, name: str) -> dict[str, Any]:
        if app is not None:
            self._app(app)
        found = self._controller.declared_instances.get(name)
        if found is None or app not in (None, found["app"]):
            raise NoSuchInstance(name, app)
        return found


class FakeApps(_Verbs):
    def all(self) -> list[str]:
        return sorted(self._controller.declared_apps)

    def get(self, name: str) -> dict[str, Any]:
        return self._app(name)

    def add(
        self,
        name: str | None,
        *,
        hostname: str | None = None,
        port: int | None = None,
        userid: str | None = None,
        password: str | None = None,
        virtual_host: str | None = None,
        broker: str | None = None,
        celery_app: str | None = None,
        pool: str | None = None,
        arguments: str | None = None,
        extra_config: str | None = None,
        max_memory: int | None = None,
        max_age: float | None = None,
        stall_timeout: float | None = None,
    ) -> Deferred[tuple[bool, dict[str, Any]]]:
        name = check_name("app", self._controller.new_name() if name is None else name)
        created = name not in self._controller.declared_apps
        app = self._controller.declared_apps.setdefault(name, {"name": name, "broker": {}})
        if hostname is not None:
            given = {"port": port, "userid": userid, "password": password, "virtual_host": virtual_host}
            app["broker"] = {"hostname": hostname, **given}
        elif broker is not None:
            app["broker"] = {"url": broker}
        start = {"celery_app": celery_app, "pool": pool, "arguments": arguments, "extra_config": extra_config}
        app.update({key: value for key, value in start.items() if value is not None})
        limits = {"max_memory": max_memory, "max_age": max_age, "stall_timeout": stall_timeout}
        app.update({key: value or None for key, value in limits.items() if value is not None})
        return self._answer((created, dict(app)))

    def delete(self, name: str) -> Deferred[None]:
        self._app(name)
        del self._controller.declared_apps[name]
        self._controller.declared_rollouts.pop(name, None)
        for key in [key for key in self._controller.declared_queues if key[0] == name]:
            del self._controller.declared_queues[key]
        instances = self._controller.declared_instances
        for lost in [one for one, instance in instances.items() if instance["app"] == name]:
            del instances[lost]
        return self._answer(None)


class FakeQueues(_Verbs):
    def all(self, app: str) -> list[str]:
        self._app(app)
        return sorted(name for owner, name in self._controller.declared_queues if owner == app)

    def get(self, app: str, name: str) -> dict[str, Any]:
        self._app(app)
        if (app, name) not in self._controller.declared_queues:
            raise NoSuchQueue(name, app)
        return self._controller.declared_queues[app, name]

    def add(
        self,
        app: str,
        name: str,
        *,
        exchange: str | None = None,
        exchange_type: str | None = None,
        routing_key: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> Deferred[tuple[bool, dict[str, Any]]]:
        self._app(app)
        if not name.isprintable() or len(name.encode()) > 255:
            raise InvalidName("queue", name, "takes at most 255 bytes of printable characters")
        created = (app, name) not in self._controller.declared_queues
        given = {
            "exchange": exchange,
            "exchange_type": exchange_type,
            "routing_key": routing_key,
            "options": options,
        }
        declared = self._controller.declared_queues
        queue = declared.setdefault((app, name), {"name": name, **given, "paused": False})
        queue.update({key: value for key, value in given.items() if value is not None})
        return self._answer((created, dict(queue)))

    def delete(self, app: str, name: str) -> Deferred[None]:
        self.get(app, name)
        del self._controller.declared_queues[app, name]
        return self._answer(None)

    def inspect(self, app: str, name: str) -> Deferred[dict[str, Any]]:
        return self._answer({**self.get(app, name), "messages": None, "consumers": None})

    def pause(self, app: str, name: str) -> Deferred[None]:
        self.get(app, name)["paused"] = True
        return self._answer(None)

    def resume(self, app: str, name: str) -> Deferred[None]:
        self.get(app, name)["paused"] = False
        return self._answer(None)

    def purge(self, app: str, name: str) -> Deferred[dict[str, int]]:
        self.get(app, name)
        return self._answer({"purged": 0})


class FakeInstances(_Verbs):
    def all(self, app: str | None) -> list[str]:
        if app is not None:
            self._app(app)
        instances = self._controller.declared_instances.values()
        return sorted(instance["name"] for instance in instances if app in (None, instance["app"]))

    def get(self, app: str | None, name: str) -> dict[str, Any]:
        return self._instance(app, name)

    def add(
        self,
        app: str,
        name: str | None,
        *,
        wait: float = 0.0,
        queues: list[str] | None = None,
        branch: str | None = None,
        placement: str | None = None,
        label: Sequence[str] | None = None,
        **given: Any,
    ) -> Deferred[tuple[bool, dict[str, Any]]]:
        self._app(app)
        name = check_name("instance", self._controller.new_name() if name is None else name)
        instances = self._controller.declared_instances
        existing = instances.get(name)
        if existing is not None and existing["app"] != app:
            raise NameTaken(name, existing["app"])
        for queue in queues or ():
            self._controller.queues.get(app, queue)
        self._require_place(existing, branch, placement, label or ())
        defaults = {
            "name": name,
            "app": app,
            "is_enabled": True,
            "queues": [],
            "max_concurrency": 1,
            "min_concurrency": 1,
            "restarts": 0,
        }
        instance = {**defaults, **(existing or {}), **given}
        if queues is not None:
            instance["queues"] = queues
        if instance["min_concurrency"] > instance["max_concurrency"]:
            raise InvalidParameter("min_concurrency", "must not be over max_concurrency")
        instances[name] = instance
        self._controller.waits.append(wait)
        return self._answer((existing is None, dict(instance)))

    def _require_place(self, existing: Any, branch: Any, placement: Any, label: Sequence[str]) -> None:
        """There is one branch, which has no labels."""
        if placement not in (None, "round-robin", "least-loaded") or (placement and branch):
            raise InvalidParameter("placement", "takes one of round-robin, least-loaded, and no branch")
        if not all(re.fullmatch("[a-z]+=[a-z]+", one) for one in label):
            raise InvalidParameter("label", "takes NAME=VALUE")
        if existing is None:
            if branch not in (None, "branch1"):
                raise NoSuchBranch(branch)
            if self._controller.is_cordoned:
                raise BranchCordoned(branch) if branch else NoPlace()
            if label:
                raise InvalidParameter("label", "it has none") if branch else NoPlace(sorted(label))

    def delete(self, app: str | None, name: str) -> Deferred[None]:
        self._instance(app, name)
        del self._controller.declared_instances[name]
        return self._answer(None)

    def restart(self, app: str | None, name: str) -> Deferred[None]:
        self._instance(app, name)["restarts"] += 1
        return self._answer(None)

    def enable(self, app: str | None, name: str) -> Deferred[None]:
        self._instance(app, name)["is_enabled"] = True
        return self._answer(None)

    def disable(self, app: str | None, name: str) -> Deferred[None]:
        self._instance(app, name)["is_enabled"] = False
        return self._answer(None)

    def drain(
        self, app: str | None, name: str, *, deadline: float = 3600.0, wait: float = 0.0
    ) -> Deferred[dict[str, Any]]:
        instance = self._instance(app, name)
        instance["is_enabled"] = False
        self._controller.waits.append(wait)
        return self._answer(dict(instance))

    def health(self, app: str | None, name: str) -> Deferred[dict[str, Any]]:
        instance = self._instance(app, name)
        verdict = "ok" if instance["is_enabled"] else "disabled"
        return self._answer({"name": name, "verdict": verdict, "reason": None})

    def stats(self, app: str | None, name: str) -> Deferred[dict[str, Any]]:
        return self._answer({"name": self._instance(app, name)["name"], "total": {}})

    def autoscale(self, app: str | None, name: str) -> dict[str, int]:
        instance = self._instance(app, name)
        return {"max": instance["max_concurrency"], "min": instance["min_concurrency"]}

    def set_autoscale(
        self,
        app: str | None,
        name: str,
        *,
        max: int | None = None,
        min: int | None = None,
        wait: float = 0.0,
    ) -> Deferred[dict[str, int]]:
        instance = self._instance(app, name)
        most = instance["max_concurrency"] if max is None else max
        least = instance["min_concurrency"] if min is None else min
        if least > most:
            return fail(InvalidParameter("min", "must not be over max"))
        instance.update(max_concurrency=most, min_concurrency=least)
        self._controller.waits.append(wait)
        return self._answer({"max": most, "min": least})

    def log(self, app: str | None, name: str, tail: int = 100) -> Deferred[str]:
        self._instance(app, name)
        return self._answer("".join(f"line {number}\n" for number in range(tail)))

    def dump(self, app: str | None, name: str, *, wait: float = 5.0) -> Deferred[str]:
        if not self._instance(app, name)["is_enabled"]:
            return fail(NoProcess(name))
        self._controller.waits.append(wait)
        return self._answer("MainThread\n")

    def consumers(self, app: str | None, name: str) -> Deferred[dict[str, Any]]:
        instance = self._instance(app, name)
        return self._answer({queue: self._declaration(instance, queue) for queue in instance["queues"]})

    def _declaration(self, instance: dict[str, Any], queue: str) -> dict[str, Any]:
        return dict(self._controller.declared_queues.get((instance["app"], queue), {"name": queue}))

    def consume(self, app: str | None, name: str, queue: str, *, wait: float = 0.0) -> Deferred[None]:
        instance = self._instance(app, name)
        self._controller.queues.get(instance["app"], queue)
        if queue not in instance["queues"]:
            instance["queues"] = [*instance["queues"], queue]
        self._controller.waits.append(wait)
        return self._answer(None)

    def cancel(self, app: str | None, name: str, queue: str, *, wait: float = 0.0) -> Deferred[None]:
        instance = self._instance(app, name)
        if queue not in instance["queues"]:
            return fail(NotConsuming(name, queue))
        instance["queues"] = [one for one in instance["queues"] if one != queue]
        self._controller.waits.append(wait)
        return self._answer(None)


class FakeRollouts(_Verbs):
    """Rolling restarts that are finished at once, unless the controller's `rollouts_run`."""

    def get(self, app: str) -> dict[str, Any]:
        self._app(app)
        if app not in self._controller.declared_rollouts:
            raise NoSuchRollout(app)
        return self._controller.declared_rollouts[app]

    def begin(
        self, app: str, *, parallel: int = 1, timeout: float | None = None, wait: float = 60.0
    ) -> Deferred[dict[str, Any]]:
        self._app(app)
        if timeout is not None and timeout < 1:
            return fail(InvalidParameter("timeout", "must be 1 at least"))
        there = self._controller.declared_rollouts.get(app)
        if there is not None and there["state"] == "running":
            return fail(RolloutRuns(app, there["id"]))
        names, runs = self._controller.instances.all(app), self._controller.rollouts_run
        rollout: dict[str, Any] = {
            "id": self._controller.new_name(),
            "app": app,
            "state": "running" if runs else "finished",
            "parallel": parallel,
            "waiting": names if runs else [],
            "under_way": [],
            "done": [] if runs else names,
            "skipped": {},
            "halted": None,
        }
        self._controller.declared_rollouts[app] = rollout
        self._controller.waits.append(wait)
        return self._answer(dict(rollout))

    def call_off(self, app: str) -> Deferred[dict[str, Any]]:
        rollout = self.get(app)
        if rollout["state"] == "running":
            rollout["state"] = "called-off"
        return self._answer(dict(rollout))


class FakeTasks(_Verbs):
    """Tasks that nobody runs: each stays as the test's `outcomes` say, PENDING without a word.

    :ivar asked: what was queued: the names of app and task, and all that was given.
    :ivar outcomes: id -> the answer to `result`.
    :ivar waiting: the Deferreds of `wait` for tasks that have not ended.
    """

    def __init__(self, controller: FakeController) -> None:
        super().__init__(controller)
        self.asked: list[dict[str, Any]] = []
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.waiting: list[Deferred[Any]] = []

    def request(self, app: str, queue: str | None, *, method: str, url: str, **given: Any) -> Deferred[Any]:
        if url.partition("://")[2].startswith("denied"):
            return fail(TargetDenied("the target is denied"))
        for name in ("callback", "failure_callback"):
            if not given.get(name, "http").startswith("http"):
                return fail(InvalidParameter(name, "takes a URL"))
        queued = self._queued(app, queue, {"method": method, "url": url, **given})
        return self._answer({**queued, "url": url, "method": method})

    def send(self, app: str, task: str, *, queue: str | None = None, **given: Any) -> Deferred[Any]:
        return self._answer({**self._queued(app, queue, {"task": task, **given}), "task": task})

    def state(self, app: str, task_id: str) -> Deferred[Any]:
        return self._answer({"state": self._outcome(app, task_id)["state"]})

    def result(self, app: str, task_id: str) -> Deferred[Any]:
        return self._answer(self._outcome(app, task_id))

    def wait(self, app: str, task_id: str, *, timeout: float = 60.0) -> Deferred[Any]:
        outcome = self._outcome(app, task_id)
        ended = outcome["state"] in ("SUCCESS", "FAILURE", "REVOKED")
        self._controller.waits.append(timeout)
        if ended or timeout == 0:
            return self._answer((ended, outcome))
        waiting: Deferred[Any] = Deferred(self.waiting.remove)
        self.waiting.append(waiting)
        return waiting

    def revoke(self, app: str, task_id: str) -> Deferred[Any]:
        outcome = self._outcome(app, task_id)
        if outcome["state"] == "PENDING":
            outcome["state"] = "REVOKED"
        return self._answer({"ok": "ok", "state": outcome["state"]})

    def _queued(self, app: str, queue: str | None, given: dict[str, Any]) -> dict[str, Any]:
        self._app(app)
        if queue is not None:
            self._controller.queues.get(app, queue)
        task_id = self._controller.new_name()
        self.asked.append({"app": app, "queue": queue, **given})
        self.outcomes[task_id] = {"result": None, "state": "PENDING", "app": app}
        return {"uuid": task_id, "queue": {"name": queue or "celery"}, "broker": "memory://"}

    def _outcome(self, app: str, task_id: str) -> dict[str, Any]:
        self._app(app)
        if self.outcomes.get(task_id, {"app": None})["app"] != app:
            raise NoSuchTask(task_id)
        return self.outcomes[task_id]


class FakeBranches(_Verbs):
    def all(self) -> list[str]:
        return ["branch1"]

    def get(self, branch: str) -> dict[str, Any]:
        if branch != "branch1":
            raise NoSuchBranch(branch)
        return {"id": branch, "url": None, "port": None, "loglevel": "info", **self._asked()}

    def cordon(self, branch: str) -> Deferred[dict[str, Any]]:
        self.get(branch)
        self._controller.is_cordoned = True
        return self._answer(self._asked())

    def uncordon(self, branch: str) -> Deferred[dict[str, Any]]:
        self.get(branch)
        self._controller.is_cordoned = self._controller.is_draining = False
        return self._answer(self._asked())

    def drain(self, branch: str) -> Deferred[dict[str, Any]]:
        self.get(branch)
        self._controller.is_cordoned = self._controller.is_draining = True
        return self._answer(self._asked())

    def evacuate(self, branch: str) -> Deferred[dict[str, Any]]:
        self.get(branch)
        if not self._controller.is_away:
            raise BranchLives(branch)
        return self._answer({"branch": branch, "moved": {}, "left": {}})

    def shutdown(self, branch: str) -> Deferred[None]:
        self.get(branch)
        return self._answer(None)

    def _asked(self) -> dict[str, Any]:
        left = sorted(self._controller.declared_instances)
        draining: dict[str, Any] = {"since": 1000.0, "ended_at": None, "moved": {}, "moving": {}}
        draining |= {"left": left, "problem": None}
        return {
            "is_cordoned": self._controller.is_cordoned,
            "draining": draining if self._controller.is_draining else None,
        }


class FakeOverview(_Verbs):
    """One branch, whose instances run when they are enabled.

    :ivar happened: the documents of events, the oldest first.
    """

    def __init__(self, controller: FakeController) -> None:
        super().__init__(controller)
        self.branch = "branch1"
        self.happened: list[dict[str, Any]] = []

    def instances(
        self,
        *,
        app: str | None = None,
        branch: str | None = None,
        queue: str | None = None,
        state: str | None = None,
        text: str | None = None,
        offset: int = 0,
        limit: int = 100,
    ) -> Deferred[dict[str, Any]]:
        there = [self._row(one) for one in self._controller.declared_instances.values()]
        there = sorted((one for one in there if app in (None, one["app"])), key=lambda one: one["name"])
        rows = [
            one
            for one in there
            if branch in (None, one["branch"])
            and (queue is None or queue in one["queues"])
            and (text or "") in f"{one['name']} {one['app']}"
        ]
        states = Counter(one["state"] for one in rows)
        rows = [one for one in rows if state in (None, one["state"])]
        shown = rows[offset : offset + limit]
        counts = {"matching": len(rows), "total": len(there), "states": dict(states)}
        return self._answer({"rows": shown, **counts, "silent": []})

    def states(self) -> Deferred[dict[str, Any]]:
        counts: dict[str, Any] = {"all": Counter(), "apps": {}, "branches": {}, "silent": []}
        for one in map(self._row, self._controller.declared_instances.values()):
            for counter in (
                counts["all"],
                counts["apps"].setdefault(one["app"], Counter()),
                counts["branches"].setdefault("branch1", Counter()),
            ):
                counter[one["state"]] += 1
        return self._answer(counts)

    def branches(self) -> list[dict[str, Any]]:
        about = self._controller.branches.get("branch1")
        facts = {"version": "1", "cpus": 2, "labels": {}, "load_average": [0.1, 0.2, 0.3], "disk_use": 40.0}
        count = len(self._controller.declared_instances)
        return [{**about, **facts, "lost": False, "instances": count}]

    def queues(self, app: str | None = None) -> Deferred[list[dict[str, Any]]]:
        if app is not None:
            self._app(app)
        found = []
        for (its_app, _), queue in sorted(self._controller.declared_queues.items()):
            if app in (None, its_app):
                counts = {"messages": None, "consumers": None, "instances": 0}
                effective = {key: queue[key] for key in ("exchange", "exchange_type", "routing_key")}
                found.append({"app": its_app, **queue, **counts, "effective": effective})
        return self._answer(found)

    def events(
        self,
        *,
        app: str | None = None,
        instance: str | None = None,
        before: float | None = None,
        limit: int = 100,
    ) -> Deferred[dict[str, Any]]:
        found = [
            one
            for one in reversed(self.happened)
            if app in (None, one["app"])
            and instance in (None, one["instance"])
            and (before is None or one["at"] < before)
        ]
        return self._answer({"events": found[:limit], "silent": []})

    def tasks(self, *, app: str | None = None, limit: int = 100) -> Deferred[dict[str, Any]]:
        outcomes = self._controller.tasks.outcomes.items()
        found = [self._line(uuid, one) for uuid, one in outcomes if app in (None, one["app"])]
        return self._answer({"tasks": found[::-1][:limit], "silent": []})

    def task(self, app: str | None, uuid: str) -> Deferred[dict[str, Any]]:
        found = self._controller.tasks.outcomes.get(uuid)
        if found is None or app not in (None, found["app"]):
            return fail(NoSuchTask(uuid))
        outcome = {"result": found["result"], "error": found.get("error")}
        return self._answer({**self._line(uuid, found), **outcome})

    def trends(self, keys: Sequence[Sequence[str]]) -> Deferred[dict[str, Any]]:
        for key in keys:
            if key[0] not in ("waiting", "memory", "tasks"):
                return fail(InvalidParameter("keys", "takes kinds"))
        series: list[list[Any]] = [[None] * 240 for _ in keys]
        return self._answer({"series": series, "until": 0.0, "step": 15.0})

    def _row(self, instance: dict[str, Any]) -> dict[str, Any]:
        runs = instance["is_enabled"]
        unknown = ("started_at", "next_attempt", "draining", "progress", "rss", "processes", "last_exit")
        return {
            **dict.fromkeys((*unknown, "last_event", "moving_to")),
            "branch": "branch1",
            "state": "running" if runs else "disabled",
            "pid": 4711 if runs else None,
            "is_current": runs,
            "is_consuming": runs,
            "failures": 0,
            "problems": [],
            **instance,
        }

    def _line(self, uuid: str, outcome: dict[str, Any]) -> dict[str, Any]:
        line = {"uuid": uuid, "app": outcome["app"], "queue": "celery", "state": outcome["state"]}
        return {**line, "created_at": 0.0, "finished_at": None, "branch": "branch1"}


class FakeFollowing:
    """What follows a why-log in which the test says what happens.

    :ivar since: from where on it was asked to tell.
    :ivar calls: what was asked of it, by name.
    """

    def __init__(self, since: int | None, deliver: Any, failed: Any) -> None:
        self.since = since
        self.position = since or 0
        self.calls: list[str] = []
        self._deliver = deliver
        self.fail = failed

    def happen(self, kind: str = "started", **details: Any) -> None:
        """Let something happen to w1, whether it is wanted now or not."""
        self.position += 1
        document = {"id": self.position, "app": "foo", "instance": "w1", "kind": kind, "details": details}
        self._deliver(document)

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def look(self) -> None:
        self.calls.append("look")

    def stop(self) -> None:
        self.calls.append("stop")


class FakeHistory:
    """The verbs of a why-log in which nothing stands.

    :ivar followings: all that followed it, in order.
    """

    def __init__(self, controller: FakeController) -> None:
        self._controller = controller
        self.followings: list[FakeFollowing] = []

    def follow(
        self,
        app: str | None = None,
        instance: str | None = None,
        *,
        since: int | None = None,
        deliver: Any,
        failed: Any,
    ) -> Deferred[FakeFollowing]:
        if instance is not None:
            self._controller.instances.get(app, instance)
        self.followings.append(FakeFollowing(since, deliver, failed))
        return self._controller.answer(self.followings[-1])

    def read(
        self, app: str | None = None, instance: str | None = None, *, since: int = 0, limit: int = 100
    ) -> Deferred[list[Any]]:
        if instance is not None:
            self._controller.instances.get(app, instance)
        return succeed([])


@implementer(IController)
class FakeController:
    """All verbs over dictionaries.

    :ivar failure: when set, verbs that change something fail with it.
    :ivar held: when a list, their answers wait in it until `release`.
    :ivar rollouts_run: whether rolling restarts go on until they are called off.
    :ivar is_away: whether its branch can be evacuated.
    :ivar waits: the `wait` of each verb that was called with one, in order.
    """

    def __init__(self) -> None:
        self.declared_apps: dict[str, dict[str, Any]] = {}
        self.declared_queues: dict[tuple[str, str], dict[str, Any]] = {}
        self.declared_instances: dict[str, dict[str, Any]] = {}
        self.declared_rollouts: dict[str, dict[str, Any]] = {}
        self.rollouts_run = False
        self.is_cordoned = self.is_draining = self.is_away = False
        self.failure: Exception | None = None
        self.held: list[tuple[Deferred[Any], Any]] | None = None
        self.waits: list[float] = []
        self._names = 0
        self.apps = FakeApps(self)
        self.queues = FakeQueues(self)
        self.instances = FakeInstances(self)
        self.tasks = FakeTasks(self)
        self.rollouts = FakeRollouts(self)
        self.branches = FakeBranches(self)
        self.events = FakeHistory(self)
        self.overview = FakeOverview(self)

    def new_name(self) -> str:
        self._names += 1
        return f"generated-{self._names}"

    def answer(self, value: Any) -> Deferred[Any]:
        """A Deferred as the verbs answer with."""
        if self.held is not None:
            waiting: Deferred[Any] = Deferred()
            self.held.append((waiting, value))
            return waiting
        return fail(self.failure) if self.failure is not None else succeed(value)

    def release(self) -> None:
        """Answer what was held, with `failure` if that is set."""
        held, self.held = self.held or [], None
        for waiting, value in held:
            if self.failure is not None:
                waiting.errback(self.failure)
            else:
                waiting.callback(value)

    def content(self) -> str:
        """All that is declared, as text: equal exactly when nothing was changed."""
        queues = {f"{app}/{name}": queue for (app, name), queue in self.declared_queues.items()}
        declared = [self.declared_apps, queues, self.declared_instances, self.declared_rollouts]
        return json.dumps(declared, sort_keys=True)
