"""What can go wrong between a program and a branch, a class for each kind of it.

A branch says what was wrong as `application/problem+json` (RFC 9457); `type` names the kind, and
each kind has a class here, so that a program catches what it means::

    try:
        app.instances.get("w1")
    except NoSuchInstance:
        ...

A kind that this version does not know is an instance of the class of its status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """The root of all errors that a client raises."""


class Unreachable(ClientError):
    """A branch can't be reached, or broke off: whether it did what was asked is not known.

    :ivar url: what was asked.
    """

    def __init__(self, method: str, url: str, problem: str) -> None:
        super().__init__(method, url, problem)
        self.method = method
        self.url = url
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.method} {self.url}: {self.problem}"


class TimedOut(Unreachable):
    """No answer came in time: whether it was done is not known."""


class MalformedAnswer(Unreachable):
    """What answered is no branch, or something between it and here has changed the answer."""


class NotFinished(ClientError):
    """A task has not ended in the time that was waited for it.

    :ivar state: its state then.
    """

    def __init__(self, uuid: str, state: str, seconds: float) -> None:
        super().__init__(uuid, state, seconds)
        self.uuid = uuid
        self.state = state

    def __str__(self) -> str:
        return f"task {self.uuid} is {self.state} after {self.args[2]:g} s"


class TaskFailed(ClientError):
    """A task has ended without a result.

    :ivar state: `FAILURE` or `REVOKED`.
    :ivar outcome: all that the branch tells of it.
    """

    def __init__(self, uuid: str, outcome: Mapping[str, Any]) -> None:
        super().__init__(uuid, outcome)
        self.uuid = uuid
        self.outcome = outcome
        self.state = str(outcome.get("state"))

    def __str__(self) -> str:
        error = self.outcome.get("error")
        if isinstance(error, Mapping):
            error = f"{error.get('type')}: {error.get('message')}"
        return f"task {self.uuid} ended as {self.state}" + (f": {error}" if error else "")


class Problem(ClientError):
    """A branch answered that it could or would not do it.

    :ivar status: the HTTP status.
    :ivar kind: the last part of the problem's `type`, such as `no-such-instance`; None without one.
    :ivar detail: what is wrong, in a sentence.
    :ivar document: all of the answer's JSON object.
    :ivar retry_after: seconds after which trying again makes sense, where the branch said so.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str | None = None,
        document: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.document = dict(document or {})
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.detail


# -- by status ------------------------------------------------------------------------------


class BadRequest(Problem):
    """400: something in the request can't be."""


class Unauthorized(Problem):
    """401: the branch wants a token, or does not know this one."""


class Forbidden(Problem):
    """403: this token, or this kind of caller, may not do that."""


class NotFound(Problem, KeyError):
    """404: what was named does not exist."""

    __str__ = Problem.__str__


class MethodNotAllowed(Problem):
    """405: nothing of that kind can be done there."""


class Conflict(Problem):
    """409: the request contradicts what exists."""


class TooLarge(Problem):
    """413: the body is over the branch's limit."""


class TooManyRequests(Problem):
    """429: this client asks too often."""


class ServerFailure(Problem):
    """500 and the like: the branch failed; its log says more."""


class NotAsynchronous(Problem):
    """501: this can't be done with `nowait`."""


class Unavailable(Problem):
    """503: something that the request needs is away; trying again later helps."""


class NoReply(Problem):
    """504: who had to answer did not in time."""


# -- by kind --------------------------------------------------------------------------------


class InvalidParameter(BadRequest):
    """A parameter is unknown, or has a value that it can't have."""


class InvalidName(BadRequest):
    """A name that can't be one."""


class MalformedBody(BadRequest):
    """The request's body can't be read."""


class MalformedRequest(BadRequest):
    """The request can't be understood."""


class InvalidHeader(BadRequest):
    """A header has a value that it can't have."""


class InvalidTarget(BadRequest):
    """A URL that can't be requested."""


class InvalidDeclaration(BadRequest):
    """A declaration that the broker says is impossible."""


class Unauthenticated(Unauthorized):
    """The branch wants a token, or does not know this one."""


class TooOften(TooManyRequests):
    """This client asks too often; `retry_after` says when to try again."""


class CrossSite(Forbidden):
    """The request looks like one that a browser was made to send."""


class TargetDenied(Forbidden):
    """A URL that the branch was told not to have requested."""


class NoSuchApp(NotFound):
    """There is no app of that name."""


class NoSuchInstance(NotFound):
    """There is no instance of that name."""


class NoSuchQueue(NotFound):
    """The app declares no queue of that name."""


class NotConsuming(NotFound):
    """The instance does not consume from that queue."""


class NoSuchBranch(NotFound):
    """There is no live branch of that id."""


class NoSuchRollout(NotFound):
    """The app never had a rolling restart."""


class NoSuchTask(NotFound):
    """No task of that id was queued, or its result has expired."""


class NoSuchRoute(NotFound):
    """There is nothing at that path: another version, or no branch at all."""


class MethodRefused(MethodNotAllowed):
    """A method that is not served there."""


class NameTaken(Conflict):
    """The name belongs to an instance of another app."""


class DeclarationMismatch(Conflict):
    """The queue exists on the broker with other properties."""


class NoProcess(Conflict):
    """The instance has no worker process now."""


class RolloutRuns(Conflict):
    """A rolling restart of the app is under way."""


class OnlyThere(Conflict):
    """Only the branch itself can give that."""


class BranchLives(Conflict):
    """The branch is not away."""


class BranchCordoned(Conflict):
    """The branch takes no new instances."""


class BodyTooLarge(TooLarge):
    """The request's body is over the branch's limit."""


class RemoteFailure(ServerFailure):
    """Another branch failed."""


class InternalError(ServerFailure):
    """The branch failed; its log has the incident that `document` names."""


class CannotStart(ServerFailure):
    """The branch could not start something."""


class CannotBeAsynchronous(NotAsynchronous):
    """This can't be done with `nowait`."""


class BrokerAway(Unavailable):
    """The app's broker can't be reached."""


class Unroutable(Unavailable):
    """The broker has no queue for it."""


class DatabaseAway(Unavailable):
    """The database of the branches can't be reached."""


class Unconfirmed(Unavailable):
    """The bus between the branches was lost meanwhile: whether it was done is not known."""


class GatewayAway(Unavailable):
    """Tasks can't be queued or asked about now."""


class BusAway(Unavailable):
    """The branches can't reach each other."""


class NoRoute(Unavailable):
    """No live branch has it."""


class BranchAway(Unavailable):
    """The branch that has it is away."""


class OtherVersion(Unavailable):
    """One of two branches is much older, and they don't understand each other."""


class NoPlace(Unavailable):
    """No branch takes an instance now."""


class NameClaimed(Unavailable):
    """Another branch makes something of that name at this moment."""


class NotReady(Unavailable):
    """The branch lacks something; `document["away"]` names it."""


class TooManyStreams(Unavailable):
    """As many clients follow the events as the branch serves."""


class OwnerGone(NoReply):
    """The branch that was asked went away; whether it was done is not known."""


class BusLost(NoReply):
    """The bus between the branches was lost meanwhile; whether it was done is not known."""


class NoDump(NoReply):
    """The worker printed no stacks in time."""


BY_STATUS: Mapping[int, type[Problem]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    409: Conflict,
    413: TooLarge,
    429: TooManyRequests,
    501: NotAsynchronous,
    503: Unavailable,
    504: NoReply,
}


def _kind_of(name: str) -> str:
    """`no-such-app` of `NoSuchApp`, as branches spell it."""
    return "".join(f"-{one.lower()}" if one.isupper() else one for one in name).lstrip("-")


#: The last part of a problem's `type` -> its class.
BY_KIND: Mapping[str, type[Problem]] = {
    _kind_of(name): value
    for name, value in list(globals().items())
    if isinstance(value, type) and issubclass(value, Problem) and value not in (Problem, *BY_STATUS.values())
}


def class_of(status: int, kind: str | None) -> type[Problem]:
    """The class of a problem, by its kind if that goes with its status, else by its status."""
    by_status = BY_STATUS.get(status, ServerFailure if status >= 500 else Problem)
    by_kind = BY_KIND.get(kind or "")
    return by_kind if by_kind is not None and issubclass(by_kind, by_status) else by_status
