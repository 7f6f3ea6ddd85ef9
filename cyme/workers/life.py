"""The life of one worker process, as a state machine.

    starting ──> running ──> stopping warmly ──> stopping coldly ──> killed
        │           │               │                   │              │
        └───────────┴───────────────┴─────── over <─────┴──────────────┘

Each rung of the ladder has its deadline; each worker has a machine of its own.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Protocol

from attrs import frozen
from automat import TypeMachineBuilder, pep614
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from cyme.interfaces import IHandle
from cyme.planning import Phase


@frozen
class Ladder:
    """How long each rung of a stop may take, in seconds.

    :ivar warm: from TERM (finish the tasks, take no more) to QUIT.
    :ivar cold: from QUIT (give the tasks back) to KILL.
    """

    warm: float
    cold: float


@frozen
class Subject:
    """What a life is about."""

    name: str
    handle: IHandle
    clock: IReactorTime
    ladder: Ladder
    log: Logger


class Life(Protocol):
    """The inputs of the machine."""

    def phase(self) -> Phase | None:
        """Where in its life the worker is; None when it is over."""

    def mark_running(self) -> None:
        """It answered a ping."""

    def stop(self, within: float | None) -> None:
        """It is to stop, warmly first; `within` seconds, or as the ladder has it.

        Of two deadlines the earlier one holds.
        """

    def hurry(self) -> None:
        """It is to stop, coldly."""

    def overdue(self) -> None:
        """The deadline of the present rung has passed."""

    def over(self) -> None:
        """It has ended, or is no longer ours: no more signals."""


def _make() -> Callable[[Subject], Life]:
    machine = TypeMachineBuilder(Life, Subject)

    def ask_to_finish(life: Life, subject: Subject, within: float | None) -> IDelayedCall:
        subject.handle.signal(signal.SIGTERM)
        return subject.clock.callLater(subject.ladder.warm if within is None else within, life.overdue)

    def ask_to_give_up(life: Life, subject: Subject) -> IDelayedCall:
        subject.log.warn("{name} is stopped coldly", name=subject.name)
        subject.handle.signal(signal.SIGQUIT)
        return subject.clock.callLater(subject.ladder.cold, life.overdue)

    def kill(life: Life, subject: Subject) -> None:
        # Also ends a process that is frozen (SIGSTOP), which TERM and QUIT don't.
        subject.log.warn("{name} is killed", name=subject.name)
        subject.handle.signal(signal.SIGKILL, group=True)

    # Launched, or adopted, and not heard of yet.
    starting = machine.state("starting")
    # It answered.
    running = machine.state("running")
    # Told to finish its tasks; it answers no pings (failure-modes F5).
    stopping_warm = machine.state("stopping warm", ask_to_finish)
    # Told to give its tasks back to the queue.
    stopping_cold = machine.state("stopping cold", ask_to_give_up)
    # Nothing more can be done, and nothing survives it, but for what hangs in the kernel.
    killed = machine.state("killed", kill)
    # Reaped, or let go.
    ended = machine.state("ended")

    alive = (starting, running)
    on_the_ladder = (stopping_warm, stopping_cold)

    # What a worker said while it was starting.
    starting.upon(Life.mark_running).to(running).returns(None)
    # A pong that was under way when it was told to stop, or one more.
    for state in (running, *on_the_ladder, killed, ended):
        state.upon(Life.mark_running).loop().returns(None)

    # The first step onto the ladder; one that is on it goes on as it does.
    for state in alive:
        state.upon(Life.stop).to(stopping_warm).returns(None)
    for state in (stopping_cold, killed, ended):
        state.upon(Life.stop).loop().returns(None)

    @pep614(stopping_warm.upon(Life.stop).loop())
    def sooner(life: Life, subject: Subject, deadline: IDelayedCall, within: float | None) -> None:
        if within is not None and deadline.getTime() > subject.clock.seconds() + within:
            deadline.reset(within)

    # Straight to the second rung.
    for state in alive:
        state.upon(Life.hurry).to(stopping_cold).returns(None)
    for state in (stopping_cold, killed, ended):
        state.upon(Life.hurry).loop().returns(None)

    @pep614(stopping_warm.upon(Life.hurry).to(stopping_cold))
    def no_longer_warmly(life: Life, subject: Subject, deadline: IDelayedCall) -> None:
        deadline.cancel()

    # One rung down.
    stopping_warm.upon(Life.overdue).to(stopping_cold).returns(None)
    stopping_cold.upon(Life.overdue).to(killed).returns(None)

    for state in (*alive, killed, ended):
        state.upon(Life.over).to(ended).returns(None)

    @pep614(stopping_warm.upon(Life.over).to(ended))
    @pep614(stopping_cold.upon(Life.over).to(ended))
    def in_time(life: Life, subject: Subject, deadline: IDelayedCall) -> None:
        deadline.cancel()

    starting.upon(Life.phase).loop().returns(Phase.STARTING)
    running.upon(Life.phase).loop().returns(Phase.RUNNING)
    for state in (*on_the_ladder, killed):
        state.upon(Life.phase).loop().returns(Phase.STOPPING)
    ended.upon(Life.phase).loop().returns(None)

    return machine.build()


#: Begins a life, with `Subject`, in the state "starting".
begin = _make()
