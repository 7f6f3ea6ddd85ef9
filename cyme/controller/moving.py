"""What moves the instances of this branch to others while it is drained, one after another.

Note [Moves]
~~~~~~~~~~~~
An instance has one owner, and its worker is to run before and after it has another. So a move is two
changes of its declaration, both made by the owner that it has:

1. `moving_to` names the branch that is to get it. That branch has a worker of it from then on, as if
   it were its own (`cyme.supervisor.world`), and so has the owner: both consume.
2. When the worker there answers and consumes, `branch` becomes that branch, and `moving_to` nobody.
   The old owner's supervisor finds an instance of somebody else's, and stops its worker warmly. In
   the same change the move is put down in `BranchState.moved`.

Nothing else is remembered. Whatever moment either branch dies at, its next start finds in the catalogue
which of the two changes were made, adopts its worker, and goes on; a branch that starts also adopts the
workers of instances that others have now, to stop them. A drain that is called off, or a branch
that dies while an instance is on its way to it, takes the first change back.

Two workers of one node name can't run on one broker at the same time (failure-modes F4). Where the new
worker would have the name of the old one (two branches on one machine that were not given two names by
`--node-host`), or where none is to run since the instance is disabled, only the second change is made:
the one worker stops, the other starts as soon as it can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyme.asking import Asker, asked_by
from cyme.controller.turns import Failed, Pending, finding_of
from cyme.declarations import BranchState, Declaration, Instance
from cyme.errors import BusAway, CymeError, NoReply, NoRoute, NoSuchInstance

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.actors import Actors
    from cyme.controller.placing import Places
    from cyme.interfaces import ICatalogue, IEvents, ISupervisor

#: Seconds that the new branch may wait for an instance before it answers.
LOOK_WITHIN = 10.0
#: Seconds that its answer may take beyond that.
ANSWER_WITHIN = 5.0
#: Seconds until a branch that had nothing to tell is asked again.
LOOK_AGAIN_AFTER = 0.5
#: Seconds until what could not be moved is tried again, and what could not be written.
RETRY_AFTER = 10.0


#: Of how many instances it is told why they stay.
PROBLEMS_TOLD = 3


class NotMoved(Exception):
    """An instance stays here for now; says why."""


class Moving(Service):
    """Drains this branch for as long as its declaration says so; see Note [Moves].

    :param timeout: seconds that an instance gets to start on another branch.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        supervisor: ISupervisor,
        actors: Actors,
        places: Places,
        events: IEvents,
        branch_id: str,
        timeout: float,
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._supervisor = supervisor
        self._actors = actors
        self._places = places
        self._events = events
        self._branch_id = branch_id
        self._timeout = timeout
        self._job: Deferred[None] | None = None
        # Instance -> the branches on which it did not start.
        self._refused: dict[str, set[str]] = {}
        # Instance -> why it stays for now, or does not run where it is.
        self._problems: dict[str, str] = {}
        catalogue.subscribe(self._changed)

    def startService(self) -> None:
        """Go on with what an earlier life of the branch left; to be called when all else is up."""
        super().startService()
        self._go_on()

    def stopService(self) -> None:
        """Leave everything as it is, for the next start; from now on take no instance from anybody."""
        super().stopService()
        self._actors.accept("Instance", False)
        if self._job is not None:
            self._job.cancel()

    # -- inside -----------------------------------------------------------------------

    def _changed(self, declarations: tuple[Declaration, ...]) -> None:
        if not self.running:
            return
        is_draining = self._state().is_draining
        for one in declarations:
            if isinstance(one, BranchState) and one.name == self._branch_id:
                if not one.is_draining and self._job is not None:
                    # It may be waiting for a worker that nobody wants any more.
                    self._job.cancel()
                self._go_on()
            elif isinstance(one, Instance) and one.branch == self._branch_id:
                # Looking at all instances for each change would be much, where nothing is moved.
                if is_draining or one.moving_to is not None:
                    self._go_on()

    def _go_on(self) -> None:
        if self._job is not None or not self._has_work():
            return
        # What follows was not asked for by whoever changed something now.
        with asked_by(Asker("drain")):
            job = Deferred.fromCoroutine(self._drive())
        self._job = job
        job.addBoth(self._ended)

    def _ended(self, result: object) -> None:
        self._job = None
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._log.failure("{{Drain}} it broke off", result)
        if self.running:
            self._go_on()

    def _has_work(self) -> bool:
        state, own = self._state(), self._own()
        if state.is_draining:
            return bool(own) or state.drained_at is None
        return any(one.moving_to is not None for one in own)

    async def _drive(self) -> None:
        """Move what is here, then say that nothing is; until then try what failed again and again."""
        # Not inside the change that began it.
        await deferLater(self._clock, 0)
        failed: set[str] = set()
        while self.running and self._has_work():
            try:
                if not self._state().is_draining:
                    await self._call_off()
                elif not self._own():
                    await self._finish()
                else:
                    left = [one for one in self._own() if one.name not in failed]
                    if left:
                        await self._move_one(min(left, key=_order), failed)
                        continue
                    failed.clear()
                    await deferLater(self._clock, RETRY_AFTER)
            except CancelledError:
                raise
            except Exception:
                self._log.failure("{{Drain}} it does not get on, and is tried again")
                await deferLater(self._clock, RETRY_AFTER)

    async def _move_one(self, instance: Instance, failed: set[str]) -> None:
        name = instance.name
        try:
            await self._move(instance)
        except (CymeError, NotMoved) as problem:
            failed.add(name)
            self._log.warn("{{Drain}} {name} stays for now: {problem}", name=name, problem=str(problem))
            await self._note(name, str(problem))

    async def _move(self, instance: Instance) -> None:
        """Move an instance, unless it is gone by then.

        :raises NotMoved, CymeError: when it stays.
        """
        name = instance.name
        target = self._target(instance)
        if instance.is_enabled and await self._node_differs(instance, target):
            if instance.moving_to != target:
                await self._write(name, lambda one: evolve(one, moving_to=target))
                self._log.info("{{Drain}} {name}: a worker is to start on {target}", name=name, target=target)
            problem = await self._until_it_runs(name, target)
            if problem is not None:
                self._refused.setdefault(name, set()).add(target)
                await self._write(name, lambda one: evolve(one, moving_to=None))
                raise NotMoved(f"it does not run on branch {target!r}: {problem}")
            await self._hand_over(name, target)
            return
        await self._hand_over(name, target)
        problem = await self._until_it_runs(name, target)
        if problem is not None:
            self._log.warn(
                "{{Drain}} {name} is on {target} and does not run: {why}",
                name=name,
                target=target,
                why=problem,
            )

    def _target(self, instance: Instance) -> str:
        """Where an instance goes: where it was going, or to who has least to do of those not tried yet."""
        refused = self._refused.setdefault(instance.name, set())
        without = {self._branch_id, *refused}
        try:
            places = self._places.choose(instance.labels, without=without)
        except CymeError:
            # Next time all of them may be tried once more.
            refused.clear()
            raise
        return instance.moving_to if instance.moving_to in places else places[0]

    async def _node_differs(self, instance: Instance, target: str) -> bool:
        """Whether the new worker can run beside the old one."""
        here = self._supervisor.status(instance)["node"]
        deadline = self._clock.seconds() + LOOK_WITHIN
        while True:
            try:
                there = await self._actors.call(
                    "Branch", target, "node", timeout=ANSWER_WITHIN, instance=instance.name
                )
                return bool(there["node"] != here)
            except NoSuchInstance:
                # It has not heard of it yet.
                if self._clock.seconds() >= deadline:
                    raise
            await deferLater(self._clock, LOOK_AGAIN_AFTER)

    async def _until_it_runs(self, name: str, target: str) -> str | None:
        """Wait for the worker on the other branch; why it does not come, or None when it is there."""
        since = self._clock.seconds()
        while True:
            instance = self._catalogue.instance(name)
            if instance is None or not instance.is_enabled:
                return None
            left = since + self._timeout - self._clock.seconds()
            try:
                wait = min(max(left, 0.0), LOOK_WITHIN)
                details = await self._actors.call(
                    "Branch", target, "guest", timeout=ANSWER_WITHIN + wait, instance=name, wait=wait
                )
            except (NoSuchInstance, NoReply) as problem:
                why = str(problem)
            except BusAway as problem:
                # Nobody's fault, and no reason to give up.
                why, since = str(problem), self._clock.seconds()
            except NoRoute:
                return "that branch is away"
            except CymeError as problem:
                return str(problem)
            else:
                finding = finding_of(details)
                if isinstance(finding, Failed):
                    return finding.why
                if not isinstance(finding, Pending):
                    return None
                why = finding.why
                if finding.excused:
                    since = self._clock.seconds()
            if left <= 0:
                return f"it does not answer within {self._timeout:g} s: {why}"
            await deferLater(self._clock, LOOK_AGAIN_AFTER)

    async def _hand_over(self, name: str, target: str) -> None:
        """Give an instance its new owner, and put the move down."""

        def decide() -> list[Declaration]:
            instance, state = self._catalogue.instance(name), self._state()
            if instance is None or instance.branch != self._branch_id or not state.is_draining:
                return []
            problem = self._problem(without=name)
            moved = (*(pair for pair in state.moved if pair[0] != name), (name, target))
            return [
                evolve(instance, branch=target, moving_to=None),
                evolve(state, moved=moved, problem=problem),
            ]

        written = await self._catalogue.change(decide)
        if written:
            self._refused.pop(name, None)
            self._problems.pop(name, None)
            instance = written[0]
            assert isinstance(instance, Instance)
            self._events.record("moved", app=instance.app, instance=name, who="drain", to=target)
            self._log.info("{{Drain}} {name} is on {target} now", name=name, target=target)

    async def _finish(self) -> None:
        def decide() -> list[Declaration]:
            state = self._state()
            if self._own() or not state.is_draining:
                return []
            return [evolve(state, drained_at=self._clock.seconds(), problem=None)]

        self._problems.clear()
        if await self._catalogue.change(decide):
            self._events.record("branch-drained", who="drain", branch=self._branch_id)
            self._log.info("{{Drain}} nothing is left on this branch")

    async def _call_off(self) -> None:
        """Have what was on its way stay."""
        await self._catalogue.change(
            lambda: [evolve(one, moving_to=None) for one in self._own() if not self._state().is_draining]
        )

    async def _note(self, name: str, problem: str) -> None:
        """Have it known why an instance stays, as long as it does."""
        self._problems[name] = problem

        def decide() -> list[Declaration]:
            state = self._state()
            return [evolve(state, problem=self._problem())] if state.is_draining else []

        await self._catalogue.change(decide)

    def _problem(self, without: str | None = None) -> str | None:
        """What keeps instances here, in a sentence or a few."""
        own = {one.name for one in self._own()}
        found = [
            f"instance {name!r}: {problem}"
            for name, problem in sorted(self._problems.items())
            if name in own and name != without
        ]
        return "; ".join(found[:PROBLEMS_TOLD]) or None

    async def _write(self, name: str, how: Callable[[Instance], Instance]) -> None:
        def decide() -> list[Declaration]:
            instance = self._catalogue.instance(name)
            if instance is None or instance.branch != self._branch_id or not self._state().is_draining:
                return []
            return [how(instance)]

        await self._catalogue.change(decide)

    def _state(self) -> BranchState:
        return self._catalogue.branch(self._branch_id)

    def _own(self) -> list[Instance]:
        return [one for one in self._catalogue.instances() if one.branch == self._branch_id]


def _order(instance: Instance) -> tuple[bool, str]:
    """What is on its way comes first."""
    return (instance.moving_to is None, instance.name)
