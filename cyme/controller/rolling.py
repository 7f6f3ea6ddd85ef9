"""What carries rolling restarts out, on the branch that coordinates them.

Everything that has to survive is in the catalogue (see Note [Turns] in `cyme.controller.turns`);
here are only the watches, one for each turn under way, and each start of the branch begins them
anew. A watch asks the instance's owner, which answers when there is nothing left to do for the
instance; only where that says neither good nor bad (its broker is away) it asks again in a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyme.actors import ANSWER_WITHIN
from cyme.asking import WHO_MOST, Asker, asked_by
from cyme.controller.turns import (
    DELETED,
    Failed,
    Finding,
    Passed,
    Pending,
    advanced,
    document,
    finding_of,
    over,
    record,
)
from cyme.declarations import Declaration, Rollout, Turn
from cyme.errors import CymeError, NoSuchInstance

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.actors import Actors
    from cyme.interfaces import ICatalogue, IEvents

#: Seconds that an owner may wait for an instance before it answers.
LOOK_WITHIN = 60.0
#: Seconds until an owner that had nothing to tell is asked again.
LOOK_AGAIN_AFTER = 5.0
#: Seconds until what could not be written is tried again.
RETRY_AFTER = 5.0

#: A rollout's id and a turn of it.
Key = tuple[str, Turn]


class Rolling(Service):
    """Drives the rollouts that this branch coordinates, until each has ended."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        actors: Actors,
        events: IEvents,
        branch_id: str,
    ) -> None:
        self._clock = clock
        self._catalogue = catalogue
        self._actors = actors
        self._events = events
        self._branch_id = branch_id
        self._began_at = 0.0
        # By app. What is written has a set of its own: the change that it makes ends its watch.
        self._watches: dict[str, dict[Key, Deferred[None]]] = {}
        self._writes: set[Deferred[None]] = set()
        catalogue.subscribe(self._changed)

    def startService(self) -> None:
        """Go on with what an earlier life of the branch left; to be called when all else is up."""
        super().startService()
        self._began_at = self._clock.seconds()
        for rollout in self._catalogue.rollouts():
            if rollout.branch == self._branch_id and rollout.is_running:
                self._log.info("{{Rollout}} {app}: going on with {id}", app=rollout.app, id=rollout.id)
                self._attend(rollout)

    def stopService(self) -> None:
        """Leave everything as it is, for the next start."""
        super().stopService()
        watches = [watch for of_app in self._watches.values() for watch in of_app.values()]
        self._watches.clear()
        for job in (*watches, *self._writes):
            job.cancel()

    # -- inside -----------------------------------------------------------------------------

    def _changed(self, declarations: tuple[Declaration, ...]) -> None:
        for one in declarations:
            if isinstance(one, Rollout) and self.running:
                self._attend(one)

    def _attend(self, rollout: Rollout) -> None:
        """Have exactly those turns watched that are under way."""
        mine = rollout.branch == self._branch_id and rollout.is_running
        wanted = {(rollout.id, turn) for turn in rollout.under_way} if mine else set()
        watches = self._watches.setdefault(rollout.app, {})
        for key in watches.keys() - wanted:
            watches.pop(key).cancel()
        # What follows from the rollout was not asked for by whoever changed it now.
        with asked_by(Asker(f"rollout {rollout.id}"[:WHO_MOST])):
            for key in wanted - watches.keys():
                watch = Deferred.fromCoroutine(self._watch(rollout, key[1]))
                watches[key] = watch.addErrback(self._broke, rollout.app)
            if mine and len(wanted) < rollout.parallel and (rollout.waiting or not wanted):
                # A person has edited it.
                self._go_on(rollout, None, None)
        if not watches:
            self._watches.pop(rollout.app, None)

    async def _watch(self, rollout: Rollout, turn: Turn) -> None:
        """Wait until a turn is over, however it ends, and have that written."""
        # Not inside the change that began the turn.
        await deferLater(self._clock, 0)
        # What passed while this branch was down is nobody's fault.
        since = max(turn.began_at, self._began_at)
        while True:
            left = since + rollout.timeout - self._clock.seconds()
            finding = await self._look(rollout, turn, min(max(left, 0.0), LOOK_WITHIN))
            if not isinstance(finding, Pending):
                break
            now = self._clock.seconds()
            if finding.excused:
                since = now
            left = since + rollout.timeout - now
            if left <= 0:
                finding = Failed(f"it is not back within {rollout.timeout:g} s: {finding.why}")
                break
            await deferLater(self._clock, min(left, LOOK_AGAIN_AFTER))
        self._go_on(rollout, turn, finding)

    async def _look(self, rollout: Rollout, turn: Turn, wait: float) -> Finding:
        """Ask an instance's owner for what has become of its turn.

        :param wait: seconds that it may wait for an end.
        """
        instance = self._catalogue.instance(turn.name)
        if instance is None or instance.app != rollout.app:
            return Passed(DELETED)
        asked = self._actors.call(
            "Instance",
            turn.name,
            "advance",
            timeout=ANSWER_WITHIN + wait,
            app=rollout.app,
            generation=turn.generation,
            wait=wait,
        )
        # A watch may be called off at any time; what was asked ends in its own time.
        answer: Deferred[Any] = Deferred()
        asked.addBoth(lambda result: None if answer.called else answer.callback(result))
        try:
            details = await answer
        except NoSuchInstance:
            return Passed(DELETED)
        except CymeError as problem:
            return Pending(str(problem))
        return finding_of(details) if details["app"] == rollout.app else Passed(DELETED)

    def _go_on(self, rollout: Rollout, turn: Turn | None, finding: Finding | None) -> None:
        write = Deferred.fromCoroutine(self._write(rollout, turn, finding))
        if not write.called:
            self._writes.add(write)
        write.addErrback(self._broke, rollout.app).addBoth(lambda _: self._writes.discard(write))

    async def _write(self, rollout: Rollout, turn: Turn | None, finding: Finding | None) -> None:
        """End a turn and begin the next, however long the database takes to be there."""
        while True:
            try:
                await self._change(rollout, turn, finding)
                return
            except CancelledError:
                raise
            except Exception:
                self._log.failure("{{Rollout}} {app}: can't be written now", app=rollout.app)
            await deferLater(self._clock, RETRY_AFTER)

    async def _change(self, rollout: Rollout, turn: Turn | None, finding: Finding | None) -> None:
        before: list[Rollout] = []

        def decide() -> list[Declaration]:
            now = self._clock.seconds()
            there = self._catalogue.rollout(rollout.app)
            if there is None or (there.id, there.branch) != (rollout.id, self._branch_id):
                return []
            before.append(there)
            after = over(there, turn, finding, now) if turn is not None and finding is not None else there
            return advanced(after, self._catalogue.instance, self._branch_id, now)

        for after in await self._catalogue.change(decide):
            if isinstance(after, Rollout):
                record(self._events, before[0], after)
                self._log.info("{{Rollout}} {app}: {rollout}", app=after.app, rollout=document(after))

    def _broke(self, failure: Failure, app: str) -> None:
        if not failure.check(CancelledError):
            self._log.failure("{{Rollout}} {app}: driving it failed", failure, app=app)
