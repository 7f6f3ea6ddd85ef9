"""Everything that can be refused or can go wrong, by name; nothing here knows HTTP.

Each error takes the values it speaks about and builds its own sentence, so that
every place that raises one says the same. `cyme.api.problems` maps the classes to
HTTP statuses; `cyme.envelope` carries them between branches by class name and
constructor arguments (see Note [Errors on the wire] there).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class CymeError(Exception):
    """The root of all errors that a user of Cyme may read.

    :ivar arguments: the constructor's arguments, JSON-able, from which an equal
        error can be built on another branch.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.arguments = arguments

    def __str__(self) -> str:
        return self.sentence()

    def sentence(self) -> str:
        """Say what is wrong and what to do, for a stranger."""
        return " ".join(str(argument) for argument in self.arguments)


class Refused(CymeError):
    """The request is at fault; nothing was changed."""


class InvalidParameter(Refused):
    """A parameter has a wrong type, an impossible value, or is not known here."""

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(parameter, problem)
        self.parameter = parameter
        self.problem = problem

    def sentence(self) -> str:
        return f"parameter '{self.parameter}': {self.problem}"


class InvalidName(Refused):
    """A name that can't be a folder, a node name and a routing key."""

    def __init__(self, kind: str, name: str, problem: str) -> None:
        super().__init__(kind, name, problem)

    def sentence(self) -> str:
        kind, name, problem = self.arguments
        return f"{kind} name {name!r}: {problem}"


class MalformedBody(Refused):
    """A request body that does not parse as what its Content-Type says."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)

    def sentence(self) -> str:
        return f"the request body can't be read: {self.arguments[0]}"


class BodyTooLarge(Refused):
    """A request body over the branch's limit.

    :param limit: the limit in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)

    def sentence(self) -> str:
        return f"the request body is over this branch's limit of {self.arguments[0]} bytes"


class InvalidTarget(Refused):
    """A URL that no request can have."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)

    def sentence(self) -> str:
        return f"this can't be requested: {self.arguments[0]}"


class TargetDenied(Refused):
    """A URL that the branch was told not to have requested.

    :param problem: names the rule.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)

    def sentence(self) -> str:
        return f"{self.arguments[0]}; see --allow-target and --deny-target"


class InvalidDeclaration(Refused):
    """A queue declaration that the broker says is impossible (failure-modes F3)."""

    def __init__(self, queue: str, problem: str) -> None:
        super().__init__(queue, problem)

    def sentence(self) -> str:
        queue, problem = self.arguments
        return f"queue {queue!r} can't be declared: {problem}"


class NotFound(Refused):
    """The thing that was named does not exist."""


class NoSuchApp(NotFound):
    def __init__(self, app: str) -> None:
        super().__init__(app)

    def sentence(self) -> str:
        return f"there is no app {self.arguments[0]!r}; PUT /{self.arguments[0]}/ creates it"


class NoSuchInstance(NotFound):
    def __init__(self, instance: str, app: str | None = None) -> None:
        super().__init__(instance, app)

    def sentence(self) -> str:
        instance, app = self.arguments
        return f"there is no instance {instance!r}" + (f" in app {app!r}" if app else "")


class NoSuchQueue(NotFound):
    def __init__(self, queue: str, app: str) -> None:
        super().__init__(queue, app)

    def sentence(self) -> str:
        queue, app = self.arguments
        return f"app {app!r} declares no queue {queue!r}; PUT /{app}/queues/{queue}/ creates it"


class NotConsuming(NotFound):
    def __init__(self, instance: str, queue: str) -> None:
        super().__init__(instance, queue)

    def sentence(self) -> str:
        instance, queue = self.arguments
        return f"instance {instance!r} does not consume from queue {queue!r}"


class NoSuchBranch(NotFound):
    def __init__(self, branch: str) -> None:
        super().__init__(branch)

    def sentence(self) -> str:
        return f"there is no live branch {self.arguments[0]!r}; GET /branches/ lists them"


class NoSuchRollout(NotFound):
    def __init__(self, app: str) -> None:
        super().__init__(app)

    def sentence(self) -> str:
        app = self.arguments[0]
        return f"app {app!r} never had a rolling restart; POST /{app}/restart/ begins one"


class NoSuchTask(NotFound):
    """No task of that id was issued here, or what was known of it has expired."""

    def __init__(self, task: str) -> None:
        super().__init__(task)

    def sentence(self) -> str:
        return f"there is no task {self.arguments[0]!r}: it was never queued here, or its result has expired"


class Conflict(Refused):
    """The request contradicts what exists."""


class NameTaken(Conflict):
    """The name belongs to something that this request may not change."""

    def __init__(self, instance: str, app: str) -> None:
        super().__init__(instance, app)

    def sentence(self) -> str:
        instance, app = self.arguments
        return f"the instance name {instance!r} is taken by app {app!r}; names are unique in the cluster"


class DeclarationMismatch(Conflict):
    """The queue exists on the broker with other properties (failure-modes F3)."""

    def __init__(self, queue: str, problem: str) -> None:
        super().__init__(queue, problem)

    def sentence(self) -> str:
        queue, problem = self.arguments
        return f"queue {queue!r} exists on the broker with other properties: {problem}"


class NoProcess(Conflict):
    """The instance has no worker process now."""

    def __init__(self, instance: str) -> None:
        super().__init__(instance)

    def sentence(self) -> str:
        (instance,) = self.arguments
        return f"instance {instance!r} has no worker process now; GET /instances/{instance}/ says how it is"


class RolloutRuns(Conflict):
    """A rolling restart of the app is under way."""

    def __init__(self, app: str, id: str) -> None:
        super().__init__(app, id)

    def sentence(self) -> str:
        app, id = self.arguments
        return f"app {app!r} is being restarted by rollout {id}; DELETE /{app}/restart/ calls that off"


class OnlyThere(Conflict):
    """Something that only the branch itself can give."""

    def __init__(self, what: str, branch: str) -> None:
        super().__init__(what, branch)

    def sentence(self) -> str:
        what, branch = self.arguments
        return f"{what} is too long to pass from branch to branch; ask branch {branch!r} itself"


class BranchLives(Conflict):
    """What is done to a branch that is away was asked for one that lives."""

    def __init__(self, branch: str) -> None:
        super().__init__(branch)

    def sentence(self) -> str:
        (branch,) = self.arguments
        return f"branch {branch!r} lives; POST /branches/{branch}/drain/ moves its instances to others"


class BranchCordoned(Conflict):
    """The branch takes no new instances."""

    def __init__(self, branch: str) -> None:
        super().__init__(branch)

    def sentence(self) -> str:
        (branch,) = self.arguments
        return (
            f"branch {branch!r} is cordoned and takes no new instances;"
            f" POST /branches/{branch}/uncordon/ ends that"
        )


class CannotBeAsynchronous(Refused):
    """`!` before something that changes nothing."""

    def sentence(self) -> str:
        return "this operation cannot be asynchronous: '!' goes with requests that change something"


class CrossSite(Refused):
    """A browser was made to send this request by a page of another site."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)


class Away(CymeError):
    """Something that the request needs can't be reached now; trying again later helps."""


class BrokerAway(Away):
    """An app's broker can't be reached.

    :param broker: the broker's URL, password removed.
    :param problem: what the attempt to reach it said.
    """

    def __init__(self, broker: str, problem: str) -> None:
        super().__init__(broker, problem)

    def sentence(self) -> str:
        broker, problem = self.arguments
        return f"the broker {broker} can't be reached: {problem}"


class Unroutable(Away):
    """A broker took a message and found no queue for it; trying again declares the queue again.

    :param broker: the broker's URL, password removed.
    """

    def __init__(self, queue: str, broker: str, problem: str) -> None:
        super().__init__(queue, broker, problem)

    def sentence(self) -> str:
        queue, broker, problem = self.arguments
        return f"the broker {broker} has no way to queue {queue!r}, nothing was queued: {problem}"


class GatewayAway(Away):
    """Tasks can't be queued or asked about now."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)


class DatabaseAway(Away):
    """The database can't be used now.

    :param problem: what its driver said, in a line.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)

    def sentence(self) -> str:
        return f"the database can't be used now: {self.arguments[0]}"


class BusAway(Away):
    """The bus between the branches can't be reached."""

    def sentence(self) -> str:
        return "the bus between the branches can't be reached now"


class Unconfirmed(BusAway):
    """The bus was lost, or silent, before it said that it has a message."""

    def sentence(self) -> str:
        return "the bus between the branches was lost; whether it took a message is not known"


class NoRoute(Away):
    """Nobody on the bus owns the name that a message was for."""

    def __init__(self, actor: str, name: str) -> None:
        super().__init__(actor, name)

    def sentence(self) -> str:
        actor, name = self.arguments
        return f"no live branch owns {actor} {name!r}"


class OtherVersion(Away):
    """A branch does not read the messages of this one: one of them is much older.

    :param spoken: the version of the wire format that the branch speaks.
    :param sent: the one that it was sent.
    """

    def __init__(self, branch: str, spoken: str, sent: str) -> None:
        super().__init__(branch, spoken, sent)

    def sentence(self) -> str:
        branch, spoken, sent = self.arguments
        return f"branch {branch!r} speaks version {spoken} of the wire format, not {sent}; upgrade one"


class BranchAway(Away):
    """A branch that was there before does not live now.

    :param since: a time in words, or None.
    """

    def __init__(self, branch: str, since: str | None = None) -> None:
        super().__init__(branch, since)

    def sentence(self) -> str:
        branch, since = self.arguments
        away = f"branch {branch!r} is away" + (f" since {since}" if since is not None else "")
        return f"{away}; POST /branches/{branch}/evacuate/ gives its instances to others"


class NoPlace(Away):
    """No branch takes an instance now.

    :param labels: `NAME=VALUE`, which the branch has to have.
    """

    def __init__(self, labels: Sequence[str] = ()) -> None:
        super().__init__(list(labels))

    def sentence(self) -> str:
        (labels,) = self.arguments
        if not labels:
            return "no live branch takes new instances"
        return f"no live branch that takes new instances has the labels {' and '.join(labels)}"


class NameClaimed(Away):
    """Somebody else in the cluster is about to make something of that name."""

    def __init__(self, actor: str, name: str) -> None:
        super().__init__(actor, name)

    def sentence(self) -> str:
        actor, name = self.arguments
        return f"{actor} {name!r} is another branch's business at this moment; try again"


class NoReply(CymeError):
    """The owner did not answer before the deadline.

    :param seconds: how long the caller waited.
    """

    def __init__(self, actor: str, name: str, seconds: float) -> None:
        super().__init__(actor, name, seconds)

    def sentence(self) -> str:
        actor, name, seconds = self.arguments
        return f"the owner of {actor} {name!r} did not answer within {seconds:g} s"


class OwnerGone(NoReply):
    """The branch that was asked went away before it answered; whether it did it is not known."""

    def __init__(self, actor: str, name: str, seconds: float = 0.0) -> None:
        super().__init__(actor, name, seconds)

    def sentence(self) -> str:
        actor, name, _ = self.arguments
        who = f"the branch that has {actor} {name!r}"
        return f"{who} went away while it was asked; whether it has done it is not known"


class BusLost(NoReply):
    """The bus was lost before the answer came; whether what was asked is done is not known."""

    def __init__(self, actor: str, name: str, seconds: float = 0.0) -> None:
        super().__init__(actor, name, seconds)

    def sentence(self) -> str:
        actor, name, _ = self.arguments
        return (
            f"the bus between the branches was lost while {actor} {name!r} was asked; whether it has done it"
            " is not known"
        )


class NoDump(NoReply):
    """A worker was asked for its stacks and printed none.

    :param seconds: how long was waited.
    :param problem: what is known of why.
    """

    def __init__(self, instance: str, seconds: float, problem: str) -> None:
        CymeError.__init__(self, instance, seconds, problem)

    def sentence(self) -> str:
        instance, seconds, problem = self.arguments
        return f"the worker of instance {instance!r} printed no stacks within {seconds:g} s: {problem}"


class RemoteFailure(CymeError):
    """Another branch failed in a way that has no name; its log has the incident.

    :param incident: the id under which that branch logged it.
    """

    def __init__(self, branch: str, incident: str) -> None:
        super().__init__(branch, incident)

    def sentence(self) -> str:
        branch, incident = self.arguments
        return f"branch {branch!r} failed; its log has incident {incident}"


class CannotStart(CymeError):
    """The branch can't start; the sentence is the one line that its user reads."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
