"""What is done to things that are there: one at a time, or to many that were chosen in a list.

Whatever stops or removes something is confirmed first, on a page that says what will happen. Each
action is declared once, with its words; buttons, confirmations and answers are made of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults, maybeDeferred
from twisted.python.failure import Failure

from cyme.access import Scope
from cyme.admin import formats
from cyme.admin.answers import Answer, Page, Redirect
from cyme.admin.forms import Field, Form, of
from cyme.admin.instances import FILTERS, names_of
from cyme.admin.rendering import path, safe
from cyme.admin.visits import Visit
from cyme.api.instances import ROUTES
from cyme.api.parameters import Parameter
from cyme.errors import CymeError, InvalidParameter

#: Things that something is done to at a time; and problems that are told.
AT_ONCE, PROBLEMS_TOLD = 20, 5
#: Things that a confirmation names.
NAMED = 20

Do = Callable[[Visit, str, Mapping[str, Any]], Any]


@frozen(kw_only=True)
class Action:
    """Something that can be done to things of one kind.

    :ivar noun: what these are called, one and several.
    :ivar label: what its button says.
    :ivar done: what was done to them, as "Disabled".
    :ivar run: does it to one, given by its name, with the values of `fields`.
    :ivar warning: what will happen, a sentence; None for what needs no confirmation.
    :ivar fields: what it wants to know.
    :ivar is_grave: whether something is gone afterwards.
    """

    noun: tuple[str, str]
    label: str
    done: str
    run: Do
    scope: Scope = Scope.OPERATE
    warning: str | None = None
    fields: tuple[Field, ...] = ()
    is_grave: bool = False
    is_of_everything: bool = False


_DEADLINE: Sequence[Parameter] = next(
    route.parameters for route in ROUTES if "/<app>/instances/<name>/drain/" in route.paths
)

_INSTANCE = ("instance", "instances")
_QUEUE = ("queue", "queues")
_APP = ("app", "apps")
_BRANCH = ("branch", "branches")


def _instances(verb: str) -> Do:
    def run(visit: Visit, target: str, values: Mapping[str, Any]) -> Any:
        return getattr(visit.controller.instances, verb)(visit.visitor.app, target, **values)

    return run


def _consumer(verb: str) -> Do:
    def run(visit: Visit, target: str, values: Mapping[str, Any]) -> Any:
        if not values.get("queue"):
            raise InvalidParameter("queue", "choose one")
        return getattr(visit.controller.instances, verb)(visit.visitor.app, target, values["queue"], wait=2.0)

    return run


def _queues(verb: str) -> Do:
    def run(visit: Visit, target: str, values: Mapping[str, Any]) -> Any:
        app, _, name = target.partition("/")
        return getattr(visit.controller.queues, verb)(visit.app(app), name)

    return run


def _apps(verb: str) -> Do:
    return lambda visit, target, values: getattr(visit.controller.apps, verb)(visit.app(target))


def _branches(verb: str) -> Do:
    return lambda visit, target, values: getattr(visit.controller.branches, verb)(target)


def _begin_rollout(visit: Visit, target: str, values: Mapping[str, Any]) -> Any:
    return visit.controller.rollouts.begin(visit.app(target), wait=0.0, **values)


def _call_off_rollout(visit: Visit, target: str, values: Mapping[str, Any]) -> Any:
    return visit.controller.rollouts.call_off(visit.app(target))


def _revoke(visit: Visit, target: str, values: Mapping[str, Any]) -> Any:
    app, _, uuid = target.partition("/")
    return visit.controller.tasks.revoke(visit.app(app), uuid)


_CHOSEN_QUEUE = Field(name="queue", label="Queue")

ACTIONS: Mapping[str, Action] = {
    "instance-enable": Action(noun=_INSTANCE, label="Enable", done="Enabled", run=_instances("enable")),
    "instance-disable": Action(
        noun=_INSTANCE,
        label="Disable",
        done="Disabled",
        run=_instances("disable"),
        warning="Each worker takes no more tasks, finishes those that it runs, as far as the time for a "
        "stop allows, and stays stopped until it is enabled again.",
    ),
    "instance-restart": Action(
        noun=_INSTANCE,
        label="Restart",
        done="Restarting",
        run=_instances("restart"),
        warning="Each worker finishes what it runs, stops, and a new one is started in its place. All of "
        "them do so at the same time: to keep an app at work meanwhile, restart it as a whole on "
        "its own page.",
    ),
    "instance-drain": Action(
        noun=_INSTANCE,
        label="Drain",
        done="Draining",
        run=_instances("drain"),
        warning="Each worker takes no more tasks, finishes all that it runs, and stays stopped. What "
        "still runs at the deadline is given back to the broker.",
        fields=(
            of(_DEADLINE, "deadline", "Deadline", hint="seconds; an hour where it is empty", widget="number"),
        ),
    ),
    "instance-delete": Action(
        noun=_INSTANCE,
        label="Delete",
        done="Deleted",
        run=_instances("delete"),
        scope=Scope.ADMIN,
        warning="Each worker finishes what it runs and stops. Its declaration, its log and its folder are "
        "removed. That can't be undone.",
        is_grave=True,
    ),
    "consumer-add": Action(
        noun=_INSTANCE,
        label="Consume",
        done="Changed the queues of",
        run=_consumer("consume"),
        scope=Scope.OPERATE,
        fields=(_CHOSEN_QUEUE,),
    ),
    "consumer-cancel": Action(
        noun=_INSTANCE,
        label="Stop consuming",
        done="Changed the queues of",
        run=_consumer("cancel"),
        warning="It takes no more tasks from this queue; those that wait stay there for others.",
        fields=(_CHOSEN_QUEUE,),
    ),
    "queue-pause": Action(
        noun=_QUEUE,
        label="Pause",
        done="Paused",
        run=_queues("pause"),
        warning="No instance of its app consumes from it, on any branch, until it is resumed. What is "
        "sent to it waits.",
    ),
    "queue-resume": Action(noun=_QUEUE, label="Resume", done="Resumed", run=_queues("resume")),
    "queue-purge": Action(
        noun=_QUEUE,
        label="Purge",
        done="Purged",
        run=_queues("purge"),
        scope=Scope.ADMIN,
        warning="All messages that wait in it are removed, and their tasks never run. That can't be undone.",
        is_grave=True,
    ),
    "queue-delete": Action(
        noun=_QUEUE,
        label="Delete",
        done="Deleted",
        run=_queues("delete"),
        scope=Scope.ADMIN,
        warning="Its declaration is removed, and every instance stops consuming from it. What waits in it "
        "stays on the broker.",
        is_grave=True,
    ),
    "app-delete": Action(
        noun=_APP,
        label="Delete",
        done="Deleted",
        run=_apps("delete"),
        scope=Scope.ADMIN,
        warning="All of its instances are deleted: their workers finish what they run and stop, their "
        "logs are removed. Its queue declarations are deleted too. That can't be undone.",
        is_grave=True,
    ),
    "app-restart": Action(
        noun=_APP,
        label="Restart instances",
        done="Restarting the instances of",
        run=_begin_rollout,
        warning="The workers are replaced one after another: the next one is told to stop only when the "
        "one before it answers again. One that does not come back halts it.",
    ),
    "app-call-off": Action(
        noun=_APP,
        label="Call off the restart",
        done="Called off the restart of",
        run=_call_off_rollout,
    ),
    "branch-cordon": Action(
        noun=_BRANCH,
        label="Cordon",
        done="Cordoned",
        run=_branches("cordon"),
        scope=Scope.ADMIN,
        warning="It takes no new instances, also after it is started again; those that it has go on.",
        is_of_everything=True,
    ),
    "branch-uncordon": Action(
        noun=_BRANCH,
        label="Uncordon",
        done="Uncordoned",
        run=_branches("uncordon"),
        scope=Scope.ADMIN,
        is_of_everything=True,
    ),
    "branch-drain": Action(
        noun=_BRANCH,
        label="Drain",
        done="Draining",
        run=_branches("drain"),
        scope=Scope.ADMIN,
        warning="It takes no new instances, and those that it has are moved to other branches, one after "
        "another: each is started there before it stops here.",
        is_of_everything=True,
    ),
    "branch-evacuate": Action(
        noun=_BRANCH,
        label="Evacuate",
        done="Evacuated",
        run=_branches("evacuate"),
        scope=Scope.ADMIN,
        warning="Its instances are given to live branches and started there. If it lives after all and is "
        "only cut off, its workers run beside them until it is back.",
        is_of_everything=True,
    ),
    "branch-shutdown": Action(
        noun=_BRANCH,
        label="Shut down",
        done="Shutting down",
        run=_branches("shutdown"),
        scope=Scope.ADMIN,
        warning="It stops in good order, as after SIGTERM. Nothing here starts it again, and until "
        "something does its instances are lost.",
        is_grave=True,
        is_of_everything=True,
    ),
    "task-revoke": Action(
        noun=("task", "tasks"),
        label="Revoke",
        done="Revoked",
        run=_revoke,
        warning="It is not run, unless it runs already.",
    ),
}


async def do(visit: Visit) -> Answer:
    """Do something to what was chosen, once that is confirmed where it has to be."""
    if not visit.is_post:
        return Redirect(path())
    action = ACTIONS.get(visit.given("action"))
    if action is None:
        raise InvalidParameter("action", f"takes one of {', '.join(ACTIONS)}")
    visit.require(action.scope)
    if action.is_of_everything:
        visit.require_everything()
    back = back_of(visit)
    asked = {name: visit.given(f"all-{name}") for name in FILTERS}
    is_of_all = visit.given("everything") == "yes"
    targets = list(dict.fromkeys(await names_of(visit, asked) if is_of_all else visit.form.get("target", ())))
    if not targets:
        return Redirect(back, problems=("Nothing was chosen. Choose one or more in the list first.",))
    form = Form(fields=action.fields)
    values: dict[str, Any] = {}
    is_decided = action.warning is None or visit.given("confirmed") == "yes"
    if action.fields and (is_decided or any(one.name in visit.form for one in action.fields)):
        form, values = form.read(visit.form)
    if not is_decided or form.is_refused:
        hidden = (
            {"everything": "yes", **{f"all-{name}": asked[name] for name in FILTERS}} if is_of_all else {}
        )
        return Page(
            "confirm.html",
            {
                "name": visit.given("action"),
                "action": action,
                "targets": targets,
                "posted": () if is_of_all else targets,
                "hidden": hidden,
                "named": NAMED,
                "form": form,
                "back": back,
                "count": formats.plural(len(targets), *action.noun),
            },
            400 if form.is_refused else 200,
        )
    return await _done(visit, action, targets, values, back)


async def _done(
    visit: Visit, action: Action, targets: Sequence[str], values: Mapping[str, Any], back: str
) -> Answer:
    gate = DeferredSemaphore(AT_ONCE)
    problems: list[str] = []

    def failed(failure: Failure, target: str) -> None:
        failure.trap(CymeError)
        problems.append(f"{target}: {failure.value}")

    def one(target: str) -> Deferred[Any]:
        running = gate.run(maybeDeferred, action.run, visit, target, values)
        return running.addErrback(failed, target)

    await gatherResults([one(target) for target in targets], consumeErrors=True)
    worked = len(targets) - len(problems)
    done = None
    if worked:
        what = targets[0] if len(targets) == 1 else formats.plural(worked, *action.noun)
        noun = f"{action.noun[0]} " if len(targets) == 1 else ""
        done = f"{action.done} {noun}{what}."
    told = problems[:PROBLEMS_TOLD]
    if len(problems) > len(told):
        told.append(f"and {len(problems) - len(told)} more")
    return Redirect(back, done, tuple(told))


def back_of(visit: Visit) -> str:
    """Where to go afterwards, as the form said; the first page where it said nothing that can be."""
    return safe(visit.given("back"))
