"""Actors: who does what is asked of an app, an instance, a branch, wherever the asker is.

An actor is an object whose methods, marked with `verb`, can be asked for by name: by `call`
from the branch that owns a thing, by `throw` from any one branch, by `scatter` from all live
ones. Every request and every answer is serialised (`cyme.envelope`), also where it stays on
this branch, so that what works alone works in a cluster.

Note [Own names skip the bus]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
A call to a name that this branch owns never touches the bus: while the bus is away a branch
still obeys for what it has itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable
from inspect import getmembers
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from uuid import uuid4

from attrs import frozen
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyme.asking import WHO_MOST, Asker, asked_by, asker
from cyme.envelope import VERSION, Answer, Request, Unreadable, decode, encode, error_to
from cyme.errors import (
    BusAway,
    BusLost,
    CymeError,
    NoReply,
    NoRoute,
    OtherVersion,
    OwnerGone,
    RemoteFailure,
    Unconfirmed,
)
from cyme.narration import Narrator
from cyme.probing import INTERVAL, Owned, Probing
from cyme.seldom import Seldom

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.interfaces import IMessageBus

#: Seconds that an answer is waited for, unless the caller says otherwise (requirements R90).
ANSWER_WITHIN = 60.0
#: Seconds between two lines in the log about news that can't be read.
UNREADABLE_SAID_EVERY = 60.0
#: The inbox of requests that don't take the bus.
HERE = ""
#: The inbox of requests that want no answer; no bus has one of that name.
NOBODY = "-"
#: What stands for "any" or "all" where an error names whom a message was for.
ANYONE = "*"

Method = TypeVar("Method", bound=Callable[..., Any])


def verb(*unlogged: str, quiet: bool = False) -> Callable[[Method], Method]:
    """Mark a method of an actor as one that others may ask for.

    It is called with the name that the request is about (None where it has none) and the
    request's arguments as keywords; it answers with a JSON value, a Deferred or a coroutine of
    one, or `Stored`.

    :param unlogged: arguments that the log leaves out.
    :param quiet: whether the log says nothing of it: what branches ask each other all the time.
    """

    def mark(method: Method) -> Method:
        method.unlogged = frozenset(unlogged)  # type: ignore[attr-defined]
        method.quiet = quiet  # type: ignore[attr-defined]
        return method

    return mark


@frozen
class Stored:
    """A verb's way to say: the work can't be lost any more, the answer follows.

    What was thrown is given again to another branch until it is stored, and a branch takes
    one at a time; so a verb that waits for effects waits in `answer`.
    """

    answer: Deferred[Any]


class Actors:
    """This branch's actors, and the way to everybody's.

    :param members: gives the ids of the live branches.
    :ivar counts: what came of the messages that were received, for the metrics.
    :ivar narrator: says in the log what is asked of this branch.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        bus: IMessageBus,
        branch_id: str,
        members: Callable[[], Iterable[str]],
    ) -> None:
        self._clock = clock
        self._bus = bus
        self._branch_id = branch_id
        self._members = members
        self._verbs: dict[tuple[str, str], Callable[..., Any]] = {}
        self._names: dict[str, Callable[[], Iterable[str]]] = {}
        self._owned: set[tuple[str, str]] = set()
        self._later: frozenset[str] = frozenset()
        self._accepted: set[str] = set()
        self._expecting: dict[str, Callable[[Answer], None]] = {}
        self._waits: set[Deferred[Any]] = set()
        # What fails the calls whose answers would come over the bus.
        self._lost: set[Callable[[], None]] = set()
        self._probing = Probing(clock, self._probe)
        self._unreadable = Seldom(clock, UNREADABLE_SAID_EVERY)
        self._before_answers: Callable[[], Deferred[None] | None] = lambda: None
        self.counts: Counter[str] = Counter()
        self.narrator = Narrator(branch_id)
        bus.subscribe(self._bus_changed)

    # -- what this branch does for others --------------------------------------------

    def register(
        self, actor: str, handler: object, names: Callable[[], Iterable[str]], *, accepts: bool = False
    ) -> None:
        """Let `handler` serve requests for `actor` by its methods marked with `verb`.

        :param names: asked at `start` which names this branch owns; later ones come by `own`.
        :param accepts: whether this branch takes work that is thrown at any branch.
        """
        self._names[actor] = names
        for name, method in getmembers(handler, lambda member: hasattr(member, "unlogged")):
            self._verbs[actor, name] = method
        if accepts:
            self.accept(actor, True)

    def before_answers(self, pending: Callable[[], Deferred[None] | None]) -> None:
        """Have answers of other branches wait for what came before them.

        :param pending: answers with what is to be waited for now, or with None.
        """
        self._before_answers = pending

    def own(self, actor: str, name: str) -> None:
        """From now on requests for `actor` `name` come to this branch."""
        self._owned.add((actor, name))
        self._bus.own(actor, name)

    def disown(self, actor: str, name: str) -> None:
        """Requests for `actor` `name` no longer come to this branch."""
        self._owned.discard((actor, name))
        self._bus.disown(actor, name)

    def claim(self, actor: str, name: str) -> Deferred[Callable[[], Deferred[None]]]:
        """See `IMessageBus.claim`."""
        return self._bus.claim(actor, name)

    @property
    def connected(self) -> bool:
        """Whether messages come and go now."""
        connected: bool = self._bus.connected
        return connected

    def settled(self) -> Deferred[None]:
        """See `IMessageBus.settled`."""
        return self._bus.settled()

    def accept(self, actor: str, accepts: bool) -> None:
        """From now on take, or take no more, work for `actor` that is thrown at any branch."""
        (self._accepted.add if accepts else self._accepted.discard)(actor)
        if actor not in self._later:
            (self._bus.accept if accepts else self._bus.decline)(actor)

    def accepts(self, actor: str) -> bool:
        """Whether work for `actor` is taken that is thrown at any branch."""
        return actor in self._accepted

    def start(self, later: Collection[str] = ()) -> Deferred[None]:
        """Own what the actors have; fire when messages can be sent and received.

        :param later: actors that have nothing and take nothing before `own_later`.
        """
        self._later = frozenset(later)
        for actor, names in self._names.items():
            if actor in self._later:
                self._bus.decline(actor)
                continue
            for name in names():
                self.own(actor, name)
        return self._bus.start(self.receive)

    def own_later(self) -> None:
        """Have the actors that `start` left out own what they have by now, and take what they take."""
        later, self._later = self._later, frozenset()
        for actor in later:
            for name in self._names[actor]():
                self.own(actor, name)
            if actor in self._accepted:
                self._bus.accept(actor)

    def stop(self) -> Deferred[None]:
        """Fail what still waits for an answer, then leave the bus.

        What this branch does for others goes on; nobody can be told its result any more.
        """
        for wait in list(self._waits):
            wait.errback(BusAway())
        return self._bus.stop()

    # -- what others do for this branch ------------------------------------------------

    def call(
        self, actor: str, name: str, verb: str, /, *, timeout: float = ANSWER_WITHIN, **arguments: Any
    ) -> Deferred[Any]:
        """Ask the branch that owns `name`; fires with the verb's answer.

        :param timeout: seconds.
        :raises NoRoute: at once when nobody owns it.
        :raises OwnerGone: when its branch goes away before it answers.
        :raises BusLost: when the bus is lost before the answer comes.
        :raises NoReply: at the deadline.
        :raises CymeError: what the verb raised.
        """

        def send(body: bytes) -> Deferred[None]:
            if (actor, name) in self._owned:
                return self.receive(body)
            return self._bus.to_owner(actor, name, body, expires=timeout)

        is_own = (actor, name) in self._owned
        request = self._request(actor, name, verb, arguments, HERE if is_own else self._bus.inbox, timeout)
        return self._await_answer(request, send, timeout, None if is_own else (actor, name))

    def throw(
        self, actor: str, name: str | None, verb: str, /, *, timeout: float = ANSWER_WITHIN, **arguments: Any
    ) -> Deferred[Any]:
        """Ask any one branch that accepts such work; fires with the verb's answer.

        :param name: what the work is about; it need not exist.
        :param timeout: seconds.
        :raises NoRoute: at once when no branch accepts.
        :raises BusLost: when the bus is lost before the answer comes.
        :raises NoReply: at the deadline.
        :raises CymeError: what the verb raised.
        """
        request = self._request(actor, name, verb, arguments, self._bus.inbox, timeout)
        return self._await_answer(
            request, lambda body: self._bus.to_any(actor, body, expires=timeout), timeout
        )

    def scatter(
        self, actor: str, verb: str, /, *, timeout: float = ANSWER_WITHIN, **arguments: Any
    ) -> Deferred[tuple[dict[str, Any], tuple[str, ...]]]:
        """Ask all live branches.

        :param timeout: seconds.
        :return: fires when every live member has answered, at the latest after `timeout`,
            with (branch id -> answer, ids of the members that did not answer or failed).
        :raises BusAway: when the bus can't be reached.
        """
        request = self._request(actor, None, verb, arguments, self._bus.inbox, timeout)
        return Deferred.fromCoroutine(self._collect(request, timeout))

    def announce(
        self, actor: str, verb: str, /, *, within: float = ANSWER_WITHIN, **arguments: Any
    ) -> Deferred[None]:
        """Tell all live branches, this one included; nobody answers.

        :param within: seconds after which nobody shall hear it any more.
        :return: fires when the bus has it.
        :raises BusAway: when it can't be reached.
        :raises BodyTooLarge: when it is more than the bus carries.
        """
        request = self._request(actor, None, verb, arguments, NOBODY, within)
        try:
            body = encode(request, self._bus.limit)
        except CymeError:
            return fail()
        return self._bus.to_all(body, expires=within)

    async def survey(
        self,
        actor: str,
        verb: str,
        /,
        take: Callable[[str, Any], None],
        *,
        timeout: float,
        **arguments: Any,
    ) -> None:
        """Ask whoever is there, known or not; ends after `timeout` seconds.

        :param take: called with the branch's id and its answer, for each that comes; not for errors.
        :raises BusAway: when the bus can't be reached.
        """
        request = self._request(actor, None, verb, arguments, self._bus.inbox, timeout)

        def taken(answer: Answer) -> None:
            try:
                result = answer.result()
            except CymeError as error:
                self._log.debug("branch {branch} failed: {error}", branch=answer.branch, error=str(error))
            else:
                take(answer.branch, result)

        over: Deferred[None] = Deferred()
        limit = self._clock.callLater(timeout, over.callback, None)
        self._expecting[request.id] = taken
        try:
            await self._bus.to_all(encode(request, self._bus.limit), expires=timeout)
            await self._wait(over)
        finally:
            del self._expecting[request.id]
            if limit.active():
                limit.cancel()

    def _request(
        self,
        actor: str,
        name: str | None,
        verb: str,
        arguments: dict[str, Any],
        reply_to: str,
        timeout: float,
    ) -> Request:
        return Request(
            id=str(uuid4()),
            actor=actor,
            name=name,
            verb=verb,
            arguments=arguments,
            branch=self._branch_id,
            reply_to=reply_to,
            deadline=self._clock.seconds() + timeout,
            who=asker().who,
        )

    def _probe(self, actor: str, name: str) -> Deferred[None]:
        """See Note [Gone meanwhile] in `cyme.probing`."""
        request = self._request(actor, name, "probe", {}, NOBODY, -1.0)
        return self._bus.to_owner(actor, name, encode(request, self._bus.limit), expires=INTERVAL)

    def _await_answer(
        self,
        request: Request,
        send: Callable[[bytes], Deferred[None]],
        timeout: float,
        owner: Owned | None = None,
    ) -> Deferred[Any]:
        def too_late(_: Any, seconds: float) -> NoReturn:
            raise NoReply(request.actor, request.name or ANYONE, seconds)

        answer = Deferred.fromCoroutine(self._ask(request, send, owner))
        return answer.addTimeout(timeout, self._clock, onTimeoutCancel=too_late)

    async def _ask(
        self, request: Request, send: Callable[[bytes], Deferred[None]], owner: Owned | None
    ) -> Any:
        answered: Deferred[Answer] = Deferred()

        def take(answer: Answer) -> None:
            if not answered.called:
                answered.callback(answer)

        def gone() -> None:
            if not answered.called:
                answered.errback(OwnerGone(request.actor, request.name or ANYONE))

        def lost() -> None:
            if not answered.called:
                answered.errback(BusLost(request.actor, request.name or ANYONE))

        end_watch: Callable[[], None] = _nothing
        body = encode(request, self._bus.limit)
        self._expecting[request.id] = take
        try:
            try:
                await send(body)
            except Unconfirmed:
                raise BusLost(request.actor, request.name or ANYONE) from None
            if request.reply_to != HERE:
                self._lost.add(lost)
            if owner is not None and not answered.called:
                end_watch = self._probing.watch(*owner, gone)
            answer: Answer = await self._wait(answered)
        finally:
            end_watch()
            self._lost.discard(lost)
            del self._expecting[request.id]
        return answer.result()

    def _bus_changed(self, is_connected: bool) -> None:
        """Fail what was asked over a bus that is lost: the inbox to which answers go is lost with it."""
        if not is_connected:
            for lost in list(self._lost):
                lost()

    async def _wait(self, wait: Deferred[Any]) -> Any:
        """Wait for something that `stop` ends."""
        if not wait.called:
            self._waits.add(wait)
        try:
            return await wait
        finally:
            self._waits.discard(wait)

    async def _collect(self, request: Request, timeout: float) -> tuple[dict[str, Any], tuple[str, ...]]:
        answers: dict[str, Any] = {}
        silent = set(self._members())
        failed: set[str] = set()
        complete: Deferred[None] = Deferred()

        def take(answer: Answer) -> None:
            silent.discard(answer.branch)
            try:
                answers[answer.branch] = answer.result()
            except CymeError as error:
                failed.add(answer.branch)
                self._log.warn("branch {branch} failed: {error}", branch=answer.branch, error=str(error))
            if not silent and not complete.called:
                complete.callback(None)

        def too_late(_: Any, _seconds: float) -> NoReturn:
            raise BusAway

        body = encode(request, self._bus.limit)
        self._expecting[request.id] = take
        try:
            sent = self._bus.to_all(body, expires=timeout)
            await sent.addTimeout(timeout, self._clock, onTimeoutCancel=too_late)
            if silent:
                complete.addTimeout(timeout, self._clock, onTimeoutCancel=lambda _result, _seconds: None)
                await self._wait(complete)
        finally:
            del self._expecting[request.id]
        return answers, tuple(sorted(silent | failed))

    # -- what comes in ---------------------------------------------------------------------

    def receive(self, body: bytes) -> Deferred[None]:
        """Take one message; fires, never fails, when it need not be given to anybody else."""
        return self._run(self._handle(body))

    async def _handle(self, body: bytes) -> None:
        try:
            message = decode(body, self._bus.limit)
        except Unreadable as problem:
            await self._refuse(problem)
            return
        if isinstance(message, Request):
            await self._serve(message)
            return
        take = self._expecting.get(message.id)
        if take is None:
            self.counts["late"] += 1
            self._log.debug("an answer of {branch} that nobody waits for", branch=message.branch)
            return
        self.counts["answers"] += 1
        before = self._before_answers() if message.branch != self._branch_id else None
        if before is not None:
            await before
        take(message)

    async def _refuse(self, problem: Unreadable) -> None:
        """Log a message that can't be read, tell its sender if it named one, and forget it."""
        self.counts["unreadable"] += 1
        awaits = problem.request is not None and problem.request[1] != NOBODY
        incident = str(uuid4())
        # A branch that can't be understood tells its news every other second, as long as it lives.
        count = 1 if awaits else self._unreadable.due()
        if count:
            self._log.warn(
                "{count} messages dropped, incident {incident}: {problem}",
                count=count,
                incident=incident,
                problem=str(problem),
            )
        if problem.request is not None and awaits:
            id, inbox = problem.request
            error: CymeError = RemoteFailure(self._branch_id, incident)
            if problem.version is not None:
                error = OtherVersion(self._branch_id, str(VERSION), problem.version)
            answer = Answer(id=id, branch=self._branch_id, nok=error_to(error))
            await self._send(inbox, answer, ANSWER_WITHIN)

    async def _serve(self, request: Request) -> None:
        """Do what is asked, unless its deadline has passed, and answer."""
        if self._clock.seconds() >= request.deadline:
            self.counts["expired"] += 1
            self._log.debug("a request of {branch} came after its deadline", branch=request.branch)
            return
        self.counts["requests"] += 1
        method = self._verbs.get((request.actor, request.verb))
        if method is None and request.reply_to == NOBODY:
            # News of a kind that this version, or one who only asks, does not know.
            self._log.debug("nobody here listens to {actor}.{verb}", actor=request.actor, verb=request.verb)
            return
        is_quiet = getattr(method, "quiet", False)
        if not is_quiet:
            arguments = {"name": request.name, **request.arguments}
            unlogged: frozenset[str] = getattr(method, "unlogged", frozenset())
            self.narrator.asked(request.actor, request.verb, arguments, unlogged)

        def work() -> Any:
            if method is None:
                raise LookupError(f"no verb {request.actor}.{request.verb}")
            return method(request.name, **request.arguments)

        # See Note [Who asked] in `cyme.asking`; another branch may send any text.
        who = (request.who or f"branch {request.branch}")[:WHO_MOST]
        elsewhere = request.branch if request.branch != self._branch_id else None
        try:
            with asked_by(Asker(who, elsewhere)):
                working = maybeDeferred(work)
            result = await working
        except Exception as error:
            await self._answer(request, nok=self._nok(error))
            return
        if isinstance(result, Stored):
            self._run(self._follow(request, result.answer))
        else:
            await self._answer(request, ok=result, is_quiet=is_quiet)

    async def _follow(self, request: Request, answer: Deferred[Any]) -> None:
        """Answer a request whose work is stored."""
        try:
            result = await answer
        except Exception as error:
            await self._answer(request, nok=self._nok(error))
        else:
            await self._answer(request, ok=result)

    async def _answer(
        self,
        request: Request,
        *,
        ok: Any = None,
        nok: dict[str, Any] | None = None,
        is_quiet: bool = False,
    ) -> None:
        if nok is None and not is_quiet:
            self.narrator.answered(ok)
        left = request.deadline - self._clock.seconds()
        if left > 0 and request.reply_to != NOBODY:
            answer = Answer(id=request.id, branch=self._branch_id, ok=ok, nok=nok)
            await self._send(request.reply_to, answer, left)

    def _nok(self, error: Exception) -> dict[str, Any]:
        """An error as it travels, see Note [Errors on the wire]; logs it."""
        if isinstance(error, CymeError):
            try:
                nok = error_to(error)
            except LookupError:
                pass
            else:
                self.narrator.refused(error)
                return nok
        incident = str(uuid4())
        self.narrator.failed(incident)
        return error_to(RemoteFailure(self._branch_id, incident))

    async def _send(self, inbox: str, answer: Answer, expires: float) -> None:
        """Send an answer; one that can't be said in JSON, or is too long, becomes an incident."""
        limit = self._bus.limit
        try:
            body = encode(answer, limit)
        except Exception:
            incident = str(uuid4())
            self._log.failure("an answer can't be sent, incident {incident}", incident=incident)
            failure = error_to(RemoteFailure(self._branch_id, incident))
            body = encode(Answer(id=answer.id, branch=self._branch_id, nok=failure), limit)
        try:
            await (self.receive(body) if inbox == HERE else self._bus.to_inbox(inbox, body, expires=expires))
        except (NoRoute, BusAway) as problem:
            self._log.debug("an answer finds nobody: {problem}", problem=str(problem))

    def _run(self, work: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        """Run a coroutine whose failure is logged and goes no further."""

        def note(failure: Failure) -> None:
            self._log.failure("handling a message failed", failure)

        return Deferred.fromCoroutine(work).addErrback(note)


def _nothing() -> None:
    """Nothing is to be ended."""
