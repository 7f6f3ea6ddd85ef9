"""The verbs of rolling restarts, on the asker's side; `cyme.controller.rolling` carries them out.

The two meet in the catalogue alone: a rollout that is declared is driven by the branch that it
names, and who waits for its end hears of it there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from attrs import evolve
from twisted.internet.defer import Deferred

from cyme.actors import verb
from cyme.asking import asker
from cyme.controller.deferring import returns_deferred
from cyme.controller.instances import WAIT_MOST
from cyme.controller.parameters import seconds, whole
from cyme.controller.turns import advanced, document, record
from cyme.declarations import Declaration, Rollout
from cyme.errors import InvalidParameter, NoRoute, NoSuchApp, NoSuchRollout, RolloutRuns
from cyme.naming import CONCURRENCY_MOST

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.actors import Actors
    from cyme.interfaces import ICatalogue, IEvents

#: Seconds that an instance may get to come back: a day.
TIMEOUT_MOST = 86_400.0


class Rollouts:
    """Begins, shows and calls off rolling restarts.

    :param timeout: seconds that an instance gets to come back, unless the user says otherwise.
    """

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        actors: Actors,
        events: IEvents,
        branch_id: str,
        timeout: float,
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._actors = actors
        self._events = events
        self._branch_id = branch_id
        self._timeout = timeout
        # Rollout's id -> what fires with the rollout when it has ended.
        self._waiters: dict[str, set[Deferred[Rollout]]] = {}
        catalogue.subscribe(self._changed)

    def get(self, app: str) -> dict[str, Any]:
        """The last rolling restart of an app, and how far it has come.

        :raises NoSuchApp, NoSuchRollout: when there is none.
        """
        return document(self._rollout(app))

    @returns_deferred
    async def begin(
        self, app: str, *, parallel: int = 1, timeout: float | None = None, wait: float = 60.0
    ) -> dict[str, Any]:
        """Restart the instances of an app, the next only when the one before it is back.

        :param parallel: how many may be under way at a time.
        :param timeout: seconds within which each must be back, or the rest is left alone.
        :param wait: seconds to wait for the end, once it is stored.
        :return: fires with the rollout when it has ended, or at the end of `wait`.
        :raises NoSuchApp: when there is no such app.
        :raises RolloutRuns: while another one of that app runs.
        """
        self._require_app(app)
        whole("parallel", parallel, 1, CONCURRENCY_MOST)
        seconds("wait", wait, WAIT_MOST)
        patience = self._timeout if timeout is None else seconds("timeout", timeout, TIMEOUT_MOST)
        if patience < 1:
            raise InvalidParameter("timeout", f"takes a number of seconds from 1 to {TIMEOUT_MOST:g}")
        id = str(uuid4())

        def decide() -> list[Declaration]:
            self._require_app(app)
            there = self._catalogue.rollout(app)
            if there is not None and there.is_running:
                raise RolloutRuns(app, there.id)
            now = self._clock.seconds()
            rollout = Rollout(
                app=app,
                id=id,
                branch=self._branch_id,
                parallel=parallel,
                timeout=patience,
                asked_by=asker().who,
                asked_at=now,
                waiting=tuple(one.name for one in self._catalogue.instances(app)),
            )
            return advanced(rollout, self._catalogue.instance, self._branch_id, now)

        async def work() -> Rollout:
            stored = (await self._catalogue.change(decide))[0]
            assert isinstance(stored, Rollout)
            record(self._events, None, stored)
            return stored

        asked = {"name": app, "parallel": parallel, "timeout": patience}
        rollout = await self._actors.narrator.narrated("App", "restart", asked, work)
        return document(await self._ended(rollout, wait))

    @returns_deferred
    async def call_off(self, app: str) -> dict[str, Any]:
        """Have nothing further restarted; what is under way comes back by itself.

        :return: fires with the rollout; one that had ended already is as it was.
        :raises NoSuchApp, NoSuchRollout: when there is none.
        """
        rollout = self._rollout(app)
        try:
            await self._actors.call("Branch", rollout.branch, "call_off", app=app, id=rollout.id)
        except NoRoute:
            # Who coordinates it is gone; when it comes back, it finds the later word.
            await called_off(self._clock, self._catalogue, self._events, app, rollout.id)
        return document(self._catalogue.rollout(app) or rollout)

    # -- inside ---------------------------------------------------------------------------

    def _changed(self, declarations: tuple[Declaration, ...]) -> None:
        for one in declarations:
            if isinstance(one, Rollout) and not one.is_running:
                for waiter in tuple(self._waiters.pop(one.id, ())):
                    waiter.callback(one)

    async def _ended(self, rollout: Rollout, wait: float) -> Rollout:
        """The rollout when it has ended, or as it is after `wait` seconds."""

        def too_late(_: Any, _seconds: float) -> Rollout:
            now = self._catalogue.rollout(rollout.app)
            return now if now is not None and now.id == rollout.id else rollout

        def forget(result: Any) -> Any:
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(rollout.id, None)
            return result

        if not wait or not rollout.is_running:
            return rollout
        waiter: Deferred[Rollout] = Deferred()
        waiters = self._waiters.setdefault(rollout.id, set())
        waiters.add(waiter)
        waiter.addTimeout(wait, self._clock, onTimeoutCancel=too_late)
        return await waiter.addBoth(forget)

    def _rollout(self, app: str) -> Rollout:
        self._require_app(app)
        rollout = self._catalogue.rollout(app)
        if rollout is None:
            raise NoSuchRollout(app)
        return rollout

    def _require_app(self, app: str) -> None:
        if self._catalogue.app(app) is None:
            raise NoSuchApp(app)


class RolloutActor:
    """What can be asked of the branch that coordinates a rollout: only it writes one that runs."""

    def __init__(self, clock: IReactorTime, catalogue: ICatalogue, events: IEvents) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._events = events

    @verb()
    async def call_off(self, name: str, *, app: str, id: str) -> None:
        """End a rollout where it is; no effect on one that has ended, or on another one of the app."""
        await called_off(self._clock, self._catalogue, self._events, app, id)


async def called_off(clock: IReactorTime, catalogue: ICatalogue, events: IEvents, app: str, id: str) -> None:
    """End a rollout where it is; see `RolloutActor.call_off`."""
    before: list[Rollout] = []

    def decide() -> list[Declaration]:
        rollout = catalogue.rollout(app)
        if rollout is None or rollout.id != id or not rollout.is_running:
            return []
        before.append(rollout)
        return [evolve(rollout, ended_at=clock.seconds())]

    for after in await catalogue.change(decide):
        assert isinstance(after, Rollout)
        record(events, before[0], after)
