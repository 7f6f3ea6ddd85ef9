"""Executing: one small coroutine for each kind of step that a plan may hold.

A step either came true when its coroutine ends, or the coroutine raises. A command to a
worker came true when the worker's state shows it, not when the worker said "ok" (F3).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from cyme.errors import CymeError, DeclarationMismatch, InvalidDeclaration
from cyme.planning import (
    AddConsumer,
    CancelConsumer,
    CleanUp,
    Desired,
    Phase,
    Reconsume,
    SetAutoscale,
    Start,
    Step,
    Stop,
)
from cyme.supervisor.draining import Drainer, Draining
from cyme.supervisor.hearing import answered, autoscale_of, consumers_of, error_of
from cyme.supervisor.questions import ANSWER_TIMEOUT

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.interfaces import IRemoteControl, IWorkers
    from cyme.supervisor.questions import Questions
    from cyme.supervisor.tracking import Tracked
    from cyme.supervisor.world import Target

#: Seconds between two looks at whether a command has taken effect, and how many looks.
CONFIRM_INTERVAL = 0.1
CONFIRM_LOOKS = 30
#: Seconds that a stuck worker gets to print its stacks, and how many characters of them are kept.
DUMP_WITHIN = 5.0
DUMP_MOST = 30_000


class StepFailed(Exception):
    """A step did not come true; the supervisor tries again later."""

    def __init__(self, step: str, problem: str) -> None:
        super().__init__(f"{step}: {problem}")


class Executor:
    """Runs steps, one instance's in order.

    :param warm_timeout: seconds that a worker which is to stop has for its tasks.
    :param record: called with (kind, instance's name, details) of what is done.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        workers: IWorkers,
        remote: IRemoteControl,
        questions: Questions,
        warm_timeout: float,
        record: Callable[..., None],
    ) -> None:
        self._clock = clock
        self._workers = workers
        self._remote = remote
        self._questions = questions
        self._warm_timeout = warm_timeout
        self._record = record
        self._drainer = Drainer(clock, remote)

    async def run(self, step: Step, desired: Desired | None, target: Target, tracked: Tracked) -> None:
        """Run one step.

        :param desired: what the instance should be, where it is still declared.
        :param target: its worker, also of a deleted one.
        :raises StepFailed, BrokerAway: when it did not come true.
        """
        if isinstance(step, Start):
            self._start(step, tracked)
        elif isinstance(step, Stop):
            await self._stop(step, target, tracked)
        elif isinstance(step, CleanUp):
            await self._clean_up(step, target, tracked)
        elif desired is not None:
            if isinstance(step, AddConsumer):
                await self._add_consumer(step, desired, tracked)
            elif isinstance(step, CancelConsumer):
                await self._cancel_consumer(step, desired, tracked)
            elif isinstance(step, Reconsume):
                await self._reconsume(step, desired, tracked)
            else:
                await self._set_autoscale(step, desired, tracked)

    def _start(self, step: Start, tracked: Tracked) -> None:
        self._log.info("{{Supervisor}} {name} instance.restart", name=tracked.name)
        process = self._workers.start(step.desired)
        self._log.info("{{Supervisor}} {name} started, pid {pid}", name=tracked.name, pid=process.pid)
        self._record("started", tracked.name, pid=process.pid)

    async def _stop(self, step: Stop, target: Target, tracked: Tracked) -> None:
        self._log.info(
            "{{Supervisor}} {name} instance.shutdown: {reason}", name=step.name, reason=step.reason
        )
        self._record("stopping", step.name, reason=step.reason)
        tracked.stop_failed, tracked.stop_cause = (step.reason if step.failed else None), step.cause
        now = self._clock.seconds()
        until = now + self._warm_timeout if step.until is None else step.until
        tracked.draining = Draining(since=now, deadline=until)
        try:
            if step.dumps:
                await self._dump(step.name)
            if step.drains:
                await self._empty(target, tracked)
            if step.name in self._workers.processes():
                left = max(0.0, tracked.draining.deadline - self._clock.seconds())
                stopped = self._workers.stop(step.name, left)
                if target.broker is not None:
                    self._questions.wake(target.broker, target.node)
                await stopped
        finally:
            tracked.draining = None

    async def _dump(self, name: str) -> None:
        """Keep the stacks of a worker in which nothing moves; it is stopped whether there are any or not."""
        try:
            stacks = await self._workers.dump(name, DUMP_WITHIN)
        except (KeyError, CymeError) as problem:
            self._log.warn("{name} shows no stacks: {problem}", name=name, problem=str(problem))
            return
        self._record("dumped", name, stacks=stacks[-DUMP_MOST:])

    async def _empty(self, target: Target, tracked: Tracked) -> None:
        """Drain a worker that can be asked; ends at once when the worker does."""
        process = self._workers.processes().get(target.name)
        if process is None or tracked.heard.missed:
            return
        if process.phase is not Phase.RUNNING and not process.adopted:
            return
        emptying = Deferred.fromCoroutine(self._drainer.drain(target, tracked))
        tracked.emptying = emptying
        try:
            await emptying
        except CancelledError:
            if target.name in self._workers.processes():
                raise
        finally:
            tracked.emptying = None

    async def _clean_up(self, step: CleanUp, target: Target, tracked: Tracked) -> None:
        if target.broker is not None:
            await self._remote.delete_queue(target.broker, f"dq.{step.name}")
        await self._workers.remove_folder(step.name)
        tracked.leftovers = False
        self._record("removed", step.name)
        self._log.info("{{Supervisor}} {name} removed", name=step.name)

    async def _add_consumer(self, step: AddConsumer, desired: Desired, tracked: Tracked) -> None:
        queue = step.queue
        try:
            await self._remote.declare(desired.broker, queue)
        except (DeclarationMismatch, InvalidDeclaration) as refusal:
            tracked.quarantined[queue.name] = str(refusal)
            self._tell_refusal(queue.name, str(refusal), tracked)
            return
        tracked.refusals.pop(queue.name, None)
        self._log.warn(
            "{{Supervisor}} {name}: instance.consume_from: {queue}", name=step.name, queue=queue.name
        )
        arguments = {
            **json.loads(queue.options),
            "queue": queue.name,
            "exchange": queue.exchange,
            "exchange_type": queue.exchange_type,
            "routing_key": queue.routing_key,
        }
        await self._command(desired, "add_consumer", arguments)
        await self._confirm_consumers(desired, tracked, lambda consumers: queue.name in consumers)
        self._record("consumer-added", step.name, queue=queue.name)

    def _tell_refusal(self, queue: str, reason: str, tracked: Tracked) -> None:
        """Log and record a refusal; each check tries again, and says nothing that was said."""
        if tracked.refusals.get(queue) == reason:
            return
        tracked.refusals[queue] = reason
        self._record("queue-refused", tracked.name, queue=queue, reason=reason)
        self._log.warn(
            "{{Supervisor}} {name}: queue {queue} is left out: {reason}",
            name=tracked.name,
            queue=queue,
            reason=reason,
        )

    async def _cancel_consumer(self, step: CancelConsumer, desired: Desired, tracked: Tracked) -> None:
        self._log.warn(
            "{{Supervisor}} {name}: instance.cancel_consume: {queue}", name=step.name, queue=step.queue
        )
        await self._command(desired, "cancel_consumer", {"queue": step.queue})
        await self._confirm_consumers(desired, tracked, lambda consumers: step.queue not in consumers)
        self._record("consumer-cancelled", step.name, queue=step.queue)

    async def _reconsume(self, step: Reconsume, desired: Desired, tracked: Tracked) -> None:
        """Make consumers anew; to add one that the worker thinks it has would change nothing."""
        for queue in step.queues:
            await self._cancel_consumer(CancelConsumer(step.name, queue.name), desired, tracked)
            await self._add_consumer(AddConsumer(step.name, queue), desired, tracked)
        tracked.heard = evolve(tracked.heard, has_reconsumed=True)

    async def _set_autoscale(self, step: SetAutoscale, desired: Desired, tracked: Tracked) -> None:
        self._log.info(
            "{{Supervisor}} {name}: instance.autoscale: max={maximum} min={minimum}",
            name=step.name,
            maximum=step.maximum,
            minimum=step.minimum,
        )
        await self._command(desired, "autoscale", {"max": step.maximum, "min": step.minimum})
        stats = await self._question(desired, "stats")
        scale = autoscale_of(stats)
        tracked.heard = evolve(answered(tracked.heard, self._clock.seconds()), autoscale=scale)
        if scale != (step.maximum, step.minimum):
            raise StepFailed("autoscale", f"the worker's range is {scale} still")
        self._record("autoscaled", step.name, max=step.maximum, min=step.minimum)

    async def _confirm_consumers(self, desired: Desired, tracked: Tracked, came_true: Any) -> None:
        """Ask until `active_queues` shows what was commanded; the worker does it in its own time."""
        for _ in range(CONFIRM_LOOKS):
            consumers = consumers_of(await self._question(desired, "active_queues"))
            if consumers is not None:
                now = self._clock.seconds()
                tracked.heard = evolve(answered(tracked.heard, now), consumers=consumers, consumers_at=now)
                if came_true(consumers):
                    return
            await deferLater(self._clock, CONFIRM_INTERVAL)
        raise StepFailed("consumers", "the worker agreed, but active_queues does not show it")

    async def _command(self, desired: Desired, command: str, arguments: dict[str, Any]) -> None:
        complaint = error_of(await self._question(desired, command, arguments))
        if complaint is not None:
            raise StepFailed(command, complaint)

    async def _question(self, desired: Desired, command: str, arguments: dict[str, Any] | None = None) -> Any:
        answers = await self._remote.ask(
            desired.broker, command, [desired.node], arguments, timeout=ANSWER_TIMEOUT
        )
        if desired.node not in answers:
            raise StepFailed(command, f"no answer within {ANSWER_TIMEOUT:g} s")
        return answers[desired.node]
