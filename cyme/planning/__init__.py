"""The supervisor's judgement as pure functions: what should be, what is, what is to be done.

`plan` takes what one instance should be (`Desired`), what was seen of it (`Observed`),
how its last lives ended (`History`) and the time, and answers with steps. Steps are
values: tests compare them, `cyme.supervisor.executing` runs them. Nothing here does I/O,
reads a clock or draws a random number.
"""

from __future__ import annotations

from cyme.planning.history import BLANK, History, after_exit, broker_returned, forgiven
from cyme.planning.judging import plan, silence, stall, state_of
from cyme.planning.policy import Policy
from cyme.planning.seen import SILENT, Exit, Heard, Observed, Process, Progress, QueueCount
from cyme.planning.states import ATTENTION, Phase, State
from cyme.planning.steps import (
    AddConsumer,
    CancelConsumer,
    CleanUp,
    Reconsume,
    SetAutoscale,
    Start,
    Step,
    Stop,
)
from cyme.planning.wanted import GROWING_POOLS, ConsumedQueue, Desired, consumed

__all__ = [
    "ATTENTION",
    "AddConsumer",
    "BLANK",
    "CancelConsumer",
    "CleanUp",
    "ConsumedQueue",
    "Desired",
    "Exit",
    "GROWING_POOLS",
    "Heard",
    "History",
    "Observed",
    "Phase",
    "Policy",
    "Process",
    "Progress",
    "QueueCount",
    "Reconsume",
    "SILENT",
    "SetAutoscale",
    "Start",
    "State",
    "Step",
    "Stop",
    "after_exit",
    "broker_returned",
    "consumed",
    "forgiven",
    "plan",
    "silence",
    "stall",
    "state_of",
]
