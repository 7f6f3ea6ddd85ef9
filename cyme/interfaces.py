"""The seams of Cyme: every interface, each docstring a contract.

Each has one set of tests, made by `tests.contracts`, which every provider passes:
the real one and the fake that unit tests use.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from cyme.declarations import (
        App,
        BranchState,
        Declaration,
        Instance,
        Queue,
        Rollout,
        Version,
    )
    from cyme.events import Event
    from cyme.faults import Unreadable
    from cyme.limits import Resources
    from cyme.planning import ConsumedQueue, Desired, Exit, Process, QueueCount
    from cyme.queued import Claim, Due, TaskChange, TaskMessage, TaskStatus


class IStore(Interface):
    """Where declarations survive: transactions go in, frozen values come out."""

    def open() -> None:
        """Open the database and make its tables where they are missing.

        Blocks; called once, before the reactor runs.

        :raises CannotStart: when the database can't be opened or is not Cyme's.
        """

    def load() -> Deferred[tuple[Declaration | Unreadable, ...]]:
        """Fire with everything that is stored at one moment, tombstones included, in no order."""

    def save(declarations: Sequence[Declaration]) -> Deferred[None]:
        """Write all of `declarations`, or none, each in place of what has its kind and key.

        What is there in a higher version stays: another branch may share the database.
        Fires once they would survive a crash of the process and of the machine.
        """

    def remove(declarations: Sequence[Declaration]) -> Deferred[None]:
        """Forget all of `declarations`, or none; no error if one is not there.

        What is there in a higher version stays.
        """

    def append_events(events: Sequence[Event]) -> Deferred[tuple[Event, ...]]:
        """Write events behind all others, or none; fires with them and their ids."""

    def read_events(
        since: int, limit: int, app: str | None, instance: str | None
    ) -> Deferred[tuple[Event, ...]]:
        """Fire with the first `limit` events of this branch after the id `since`.

        :param app: and of this app (None: of all); `instance` likewise.
        """

    def last_event() -> Deferred[int]:
        """Fire with the id of this branch's newest event, or 0."""

    def prune_events(before: float, keep: int) -> Deferred[None]:
        """Remove the events from before a time, and all but this branch's newest `keep`."""

    def close() -> Deferred[None]:
        """Finish what was asked, then let go of the database."""


class IEvents(Interface):
    """The why-log: what happened on this branch, why, and who asked."""

    def record(
        kind: str, *, app: str | None = None, instance: str | None = None, who: str, **details: Any
    ) -> None:
        """Take note of something; never waits and never fails.

        It can be read within about a tenth of a second, if the database can be written.

        :param who: see `cyme.asking`.
        :param details: goes into JSON; what JSON does not have becomes its text. Passwords in
            URLs are taken out.
        """

    def read(
        *, since: int = 0, limit: int = 1000, app: str | None = None, instance: str | None = None
    ) -> Deferred[tuple[Event, ...]]:
        """Fire with the first `limit` events after the id `since`, in order."""

    def last() -> Deferred[int]:
        """Fire with the id of the newest event that can be read, or 0."""

    def subscribe(written: Callable[[tuple[Event, ...]], None]) -> Callable[[], None]:
        """Have `written` called with events once they can be read; call the answer to end it."""

    def close() -> Deferred[None]:
        """Write what waits, once; what is recorded after that is dropped."""


class ICatalogue(Interface):
    """The declarations of the whole cluster, answered from memory, kept by an `IStore`.

    Reads never show tombstones, except `tombstones`. Writes are durable when their
    Deferred fires, and only then visible.
    """

    def load() -> Deferred[None]:
        """Read everything from the store; to be called before anything else.

        What a person wrote into it meanwhile is treated as by `refresh`.
        """

    def refresh() -> Deferred[frozenset[tuple[str, ...]]]:
        """Read the store again and take over what somebody changed behind the branch's back.

        Fires with the (kind, *key) of each declaration that differed. What a person changed
        got a new version, as if it had been written here; what a person removed became a
        tombstone, an app with all that is its own. What can't be is logged and left out:
        what was held before is held on.
        """

    def app(name: str) -> App | None: ...

    def apps() -> Sequence[App]:
        """All apps, by name."""

    def queue(app: str, name: str) -> Queue | None: ...

    def queues(app: str) -> Sequence[Queue]:
        """All queue declarations of one app, by name."""

    def instance(name: str) -> Instance | None: ...

    def instances(app: str | None = None) -> Sequence[Instance]:
        """All instances (of one app), by name."""

    def rollout(app: str) -> Rollout | None:
        """The last rolling restart of an app."""

    def rollouts() -> Sequence[Rollout]:
        """The last rolling restart of each app that ever had one, by app."""

    def branch(name: str) -> BranchState:
        """What was asked of a branch; the blank one if nothing was."""

    def branches() -> Sequence[BranchState]:
        """What was asked of branches, by name; those of which nothing was asked are left out."""

    def tombstones(kind: str) -> Sequence[Declaration]:
        """The deleted declarations of a kind, by key."""

    def digest() -> str:
        """A short text that two catalogues share when they hold the same versions, tombstones included."""

    def versions(
        after: tuple[str, ...] | None, limit: int
    ) -> Sequence[tuple[tuple[str, ...], Version]]:
        """The first `limit` of all that is held, tombstones included: (kind, *key) and version, in order.

        :param after: the (kind, *key) behind which to begin.
        """

    def held(name: tuple[str, ...]) -> Declaration | None:
        """What is held under a (kind, *key), perhaps a tombstone."""

    def change(
        decide: Callable[[], Iterable[Declaration]],
    ) -> Deferred[tuple[Declaration, ...]]:
        """Write what `decide` answers, in one transaction, with new versions.

        `decide` is called when no other change is under way, so what it reads of the
        catalogue is still true when its answer is written; what it raises fails the
        Deferred and changes nothing. A declaration with `deleted=True` becomes a
        tombstone. One that equals what is held already (version aside) is not written.

        Fires with the declarations as they stand now (same order), versions included.
        """

    def merge(declarations: Iterable[Declaration]) -> Deferred[tuple[Declaration, ...]]:
        """Take over what another branch wrote: of two versions the higher one holds.

        Any order and any repetition of the same declarations ends in the same catalogue.
        Fires with those that were news, once they are durable.
        """

    def prune(before: float) -> Deferred[int]:
        """Forget the tombstones that were written before a time, in seconds since the epoch.

        Fires with how many there were.
        """

    def subscribe(changed: Callable[[tuple[Declaration, ...]], None]) -> None:
        """Have `changed` called after every change, with what was written.

        It is called in the context of whoever asked for the change (`cyme.asking`): a change that
        `refresh` finds was asked for by "database"; what `load` finds, by nobody ("start").
        """


class ILauncher(Interface):
    """Starts processes that outlive their parent, and finds them again."""

    def launch(
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        record: str,
        log: str,
        identity: str,
        ready: Callable[[], None],
    ) -> IHandle:
        """Start `argv` in its own session with its output appended to the file `log`.

        :param argv: `celery -A APP worker ...` is run by the child itself; anything else
            is exec'ed.
        :param record: path of the file where the child writes its pid, start time, boot
            id and `identity` before it does anything else.
        :param identity: text that a later `find` returns.
        :param ready: called at most once, when the child says that it serves (only Celery
            workers do), and not after its end.
        :raises OSError: when no process could be started.
        """

    def find(record: str) -> IHandle | None:
        """The living process that wrote `record`, or None, also when that is no record.

        Never another process that has its pid now: the pidfd is opened first, then start
        time and boot id are compared.
        """


class IHandle(Interface):
    """One process, held by pidfd: signals reach this process or nobody."""

    pid = Attribute("its process id, an int")
    started_at = Attribute("when it was started, seconds since the epoch, a float")
    identity = Attribute("the text that `launch` was given")

    def signal(number: int, *, group: bool = False) -> None:
        """Send a signal to the process, or to its whole process group; no error if it is gone.

        A group can outlive its leader, and can be signalled until `release`.
        """

    def when_ended() -> Deferred[tuple[int | None, int | None]]:
        """Fire with (exit status, signal) when the process has ended and was reaped.

        Both are None for a process that another parent reaped. Each call returns a
        Deferred of its own.
        """

    def release() -> None:
        """Let go of the process: no signal is sent any more, no Deferred fires."""


class IWorkers(Interface):
    """The worker processes of this branch."""

    def adopt(names: Iterable[str]) -> Deferred[tuple[str, ...]]:
        """Take over the living workers among `names` that an earlier life of the branch started.

        Fires with the names of those that live. To be called before anything is started.
        """

    def start(desired: Desired) -> Process:
        """Start the worker of `desired`.

        :raises OSError: when it can't be started.
        :raises ValueError: when one of that name lives.
        """

    def mark_running(name: str) -> None:
        """Take note that the worker answered a ping; no effect if it is gone or stopping."""

    def stop(name: str, within: float | None = None) -> Deferred[Exit]:
        """Stop a worker by the ladder: TERM (warm), QUIT (cold), KILL of the group.

        Fires when it was reaped. A second call while it stops joins the first, and can
        only bring its deadline forward.

        :param within: seconds that it has for its tasks; None for the branch's setting.

        :raises KeyError: when there is no such worker.
        """

    def processes() -> Mapping[str, Process]:
        """The living workers now, by instance name; a copy."""

    def resources() -> Deferred[Mapping[str, Resources]]:
        """Measure the living workers, each with its whole tree, off the reactor's thread.

        Fires with instance name -> what it takes, for those that lived all the while.
        """

    def subscribe(
        *,
        ready: Callable[[str], None],
        ended: Callable[[str, Exit], None],
    ) -> None:
        """Have `ready` called when a worker says that it serves, `ended` when one was reaped."""

    def take_ended() -> tuple[tuple[str, str], ...]:
        """The processes that have ended since this was asked last: name and incarnation.

        Also those that did so while no branch was there, as far as `adopt` was asked about them
        and they left a record; of these some may have been told to an earlier life of the branch.
        An incarnation is what `cyme.holders.incarnation` makes.
        """

    def folders(names: Iterable[str]) -> Deferred[frozenset[str]]:
        """Fire with those of `names` that have a folder in the root folder."""

    def remove_folder(name: str) -> Deferred[None]:
        """Remove what a worker left: log, pid file, state. No error if there is nothing.

        None of that name may be started until it has fired.

        :raises ValueError: when the worker lives.
        """

    def process_state(name: str) -> str | None:
        """The state of a worker's process in the kernel, one letter as `ps` shows it; None if none lives."""

    def log_tail(name: str, lines: int) -> Deferred[tuple[str, ...]]:
        """Fire with the last lines of the worker's log (at most 1 MiB of it is read)."""

    def dump(name: str, timeout: float) -> Deferred[str]:
        """Fire with the stacks of the worker's main process, as Celery prints them on SIGUSR1.

        Without the variables that Celery prints too; at most 256 KiB. The worker's log, where
        they are found, has them as well. Processes of a prefork pool are not shown.

        :param timeout: seconds.
        :raises KeyError: when there is no such worker.
        :raises NoDump: when it printed none in that time, or ended meanwhile.
        """

    def stop_all() -> Deferred[None]:
        """Stop every worker, side by side; fires when the last was reaped."""

    def hurry() -> None:
        """Stop every worker coldly, also those that are being stopped warmly; so from now on."""

    def release() -> None:
        """Let the workers live on without this branch; a later life of it adopts them."""


class IRemoteControl(Interface):
    """Questions and commands to workers over their own brokers (Celery's remote control).

    One long-lived connection and one reply queue for each broker; a broker's URL, with
    its password, is its name here. Nothing here blocks the reactor.
    """

    def ask(
        broker: str,
        command: str,
        nodes: Sequence[str],
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float,
    ) -> Deferred[dict[str, Any]]:
        """Send one broadcast to `nodes` and collect the answers.

        Fires with node name -> answer as soon as all have answered, at the latest after
        `timeout` seconds with those that came. When none came it fires a little later, once it
        is sure that the broker would have brought them. No connection is waited for.

        :raises BrokerAway: at once when the broker can't be reached now; in the end when nobody
            answered and the broker turns out to be silent too.
        """

    def tell(broker: str, command: str, arguments: Mapping[str, Any]) -> Deferred[None]:
        """Send a command to every worker on a broker; nobody answers, and who is not there misses it.

        Fires when it is on its way. No connection is waited for.

        :raises BrokerAway: at once when the broker can't be reached now.
        """

    def declare(broker: str, queue: ConsumedQueue) -> Deferred[bool]:
        """Try a queue's declaration on a throw-away channel (failure-modes F3).

        Fires with True, or False where the transport has no such thing as a declaration.

        :raises DeclarationMismatch: when it exists with other properties.
        :raises InvalidDeclaration: when the broker can't make it.
        :raises BrokerAway: when the broker can't be reached.
        """

    def count(broker: str, queues: Sequence[str]) -> Deferred[Mapping[str, QueueCount | None] | None]:
        """Ask a broker how many messages wait in queues, and how many consumers they have.

        Fires with queue name -> count, None for a queue that does not exist; or with None where
        the transport can't tell.

        :raises BrokerAway: when the broker can't be reached.
        """

    def purge(broker: str, queue: str) -> Deferred[int]:
        """Remove the messages that wait in a queue, and leave those that a worker holds.

        Fires with how many they were; 0 for a queue that does not exist.

        :raises BrokerAway: when the broker can't be reached.
        """

    def delete_queue(broker: str, name: str) -> Deferred[None]:
        """Delete a queue and the exchange that Celery names after it; no error if they are gone.

        :raises BrokerAway: when the broker can't be reached.
        """

    def restore(broker: str, holders: Sequence[str]) -> Deferred[int]:
        """Put back what processes held that live no more, see `cyme.holders`.

        Fires with how many messages that were; 0 where the broker does so itself. Nothing happens
        to what others hold, and no harm is done by a repetition.

        :param holders: their incarnations, as `IWorkers.take_ended` tells them.
        :raises BrokerAway: when the broker can't be reached, or refuses.
        """

    def reachable(broker: str) -> bool | None:
        """Whether the broker answers; None while that is being found out.

        Asking about a broker makes its connection wanted: it is made, and made again
        with back-off when it is lost, until `retain` leaves it out.
        """

    def revived_at(broker: str) -> float | None:
        """When the broker last came back after an outage, seconds since the epoch, or None."""

    def retain(brokers: Iterable[str]) -> None:
        """Let go of the connections to all brokers but these."""

    def subscribe(changed: Callable[[str, bool], None]) -> None:
        """Have `changed(broker, reachable)` called in the reactor's thread at each change."""

    def close() -> Deferred[None]:
        """Close all connections; fires when their threads have ended."""


class ISupervisor(Interface):
    """Keeps the instances of this branch as they are declared."""

    def wake(names: Iterable[str] | None = None) -> None:
        """Look at these instances (None: at all, with a full check) as soon as possible."""

    def status(instance: Instance) -> Mapping[str, Any]:
        """How an instance of this branch is: JSON-able; `state` is a `planning.State`.

        Keys: `state`, `pid`, `node`, `started_at`, `last_pong`, `last_exit`,
        `failures`, `next_attempt`, `draining`, `problems`, and `resources` with the keys of
        `limits.Resources`, null while nothing was measured. `last_exit` is None or has, among others,
        `reason`, a `cyme.exits.Reason`, and `explanation`, for people. `is_current`, whether its
        process was started as is declared now; `is_consuming`, whether it consumes from all that
        is declared.
        """

    def settled(name: str, timeout: float) -> Deferred[None]:
        """Fire when there is nothing left to do for an instance, or after `timeout` seconds.

        An instance that is still starting is not settled; one in back-off is.
        """

    def ask(name: str, command: str, *, timeout: float) -> Deferred[Any]:
        """Ask the worker a question; fires with its answer, or None when it gave none.

        :raises BrokerAway: when its broker can't be reached.
        """

    def health(name: str) -> Deferred[Mapping[str, Any]]:
        """Fire with the evidence on an instance's health and the verdict, asking first what is not fresh.

        Keys: `verdict` (a `cyme.supervisor.health.Verdict`), `reason`, `state`, `process`, `pong`,
        `consumers`, `progress`, `drift`, `at`; see the HTTP API.

        :raises NoSuchInstance: when it is not one of this branch.
        """

    def log_tail(name: str, lines: int) -> Deferred[tuple[str, ...]]:
        """Fire with the last lines of the instance's log."""

    def dump(name: str, timeout: float) -> Deferred[str]:
        """Fire with the stacks of the instance's worker, see `IWorkers.dump`.

        :raises NoProcess: when it has no process.
        :raises NoDump: when the worker printed none within `timeout` seconds.
        """

    def declare(name: str, queue: str) -> Deferred[bool]:
        """Try an app's queue declaration on the broker of an instance, before it is consumed from.

        Fires with whether it could be tried, see `IRemoteControl.declare`.

        :raises DeclarationMismatch, InvalidDeclaration, BrokerAway: see `IRemoteControl.declare`.
        """


class IGateway(Interface):
    """Queues tasks on the brokers of apps, and keeps what comes of them."""

    def queue(broker: str, message: TaskMessage) -> Deferred[str]:
        """Queue a task; fires with its id once the broker has it and it is known here for good.

        One that is put off for long is held here: it fires once that is stored, and the broker gets it
        when it is due, see Note [Held tasks] in `cyme.gateway.holding`.
        An id that was fired survives a kill of the branch, and so does what comes of its task.
        When it fails, no id was issued. Cancelling it changes nothing: the task is queued.

        :param broker: the broker's URL, with its password.
        :raises BrokerAway: the broker can't be reached, refuses, blocks, or does not confirm in time.
        :raises Unroutable: the broker has no queue for it.
        :raises DeclarationMismatch, InvalidDeclaration: the queue can't be made, see `IRemoteControl`.
        :raises GatewayAway: too much waits already, or the branch stops.
        :raises TypeError, ValueError: the arguments are no JSON, or a time is none.
        """

    def status(task_id: str) -> Deferred[TaskStatus]:
        """Fire with what is known of a task.

        :raises NoSuchTask: for an id that was never issued here, and for one that has expired.
        """

    def wait(task_id: str, timeout: float) -> Deferred[TaskStatus]:
        """Fire as soon as a task's state is final, or with what is known after `timeout` seconds.

        Cancelling it leaves nothing behind.

        :raises NoSuchTask: see `status`.
        """

    def revoke(task_id: str) -> Deferred[TaskStatus]:
        """Have a task not run, unless it runs already; fires with its status once that is stored.

        Unless its state was final, it is REVOKED from now on, whatever a worker still says. The
        workers are told when the broker can be reached, and again when they start.

        :raises NoSuchTask: see `status`.
        """


class ITaskStore(Interface):
    """Where tasks and their results survive. Writes and reads are done in the order they are asked for."""

    def write_tasks(changes: Sequence[TaskChange]) -> Deferred[frozenset[str]]:
        """Write all of `changes`, in their order, or none.

        A task's state is only changed while it is not final; a task that is not known is not made
        known by a change of its state. Fires with the ids of those, once the rest would survive a
        crash of the process and of the machine.
        """

    def read_tasks(ids: Sequence[str]) -> Deferred[Mapping[str, TaskStatus]]:
        """Fire with what is known of tasks, by id; those that are not known are left out."""

    def claim_task(claim: Claim, now: float) -> Deferred[Claim]:
        """Take a deduplication id, unless somebody has it who may keep it until later than `now`.

        Fires with who has it now.
        """

    def revoked_tasks(limit: int) -> Deferred[tuple[str, ...]]:
        """Fire with the ids of the tasks that are revoked, the newest `limit`."""

    def due_tasks(
        branch: str, before: float, without: Collection[str], limit: int, size: int
    ) -> Deferred[Due]:
        """Fire with tasks that a branch holds and that are due before a time, or when the next one is.

        :param without: apps whose tasks are left out.
        :param limit: how many tasks there may be.
        :param size: how many bytes their bodies may have together; a single one may have more.
        """

    def prune_tasks(before: float, limit: int) -> Deferred[int]:
        """Remove what expired before a time: at most `limit` tasks, and as many claims and brokers.

        What is held does not expire.

        Fires with how many tasks there were; afterwards gives the room that is free back to the
        disk, step by step, where the database does not by itself.
        """

    def use_broker(url: str, until: float) -> Deferred[None]:
        """Remember that results may come from a broker until a time, or later if that is remembered."""

    def used_brokers() -> Deferred[Mapping[str, float]]:
        """Fire with the brokers that results may come from: URL -> until when."""


class IMessageBus(Interface):
    """Carries messages between branches; what is bound is alive (design, "The branch bus").

    Bodies are bytes, at most `limit` of them. Every send fires when the bus has routed the
    message; what it is for, and who answers, is the business of `cyme.actors`. What is owned
    and accepted may be said at any time, and holds from `start` to `stop`.
    """

    limit = Attribute("the longest body that is carried, in bytes; a longer one is BodyTooLarge")

    inbox = Attribute("the name of this branch's own inbox, a str, known once started")

    connected = Attribute("whether messages come and go now, a bool")

    def start(receive: Callable[[bytes], Deferred[None]]) -> Deferred[None]:
        """Connect; `receive` is called with each message for this branch.

        A message that was taken by `to_any` counts as done when that Deferred fires.
        Fires when it is connected, or soon after it turned out that the bus is away: it is
        then tried on and on.
        """

    def subscribe(changed: Callable[[bool], None]) -> None:
        """Have `changed` called with what `connected` is whenever that changes, `stop` included."""

    def settled() -> Deferred[None]:
        """Fire once all that was owned, disowned, accepted and declined holds for every sender.

        Also when the bus gets away meanwhile; then it holds from the moment of its return.
        """

    def stop() -> Deferred[None]:
        """Let go of everything that is bound, then disconnect."""

    def own(actor: str, name: str) -> None:
        """From now on messages for `actor` `name` come here."""

    def disown(actor: str, name: str) -> None:
        """Messages for `actor` `name` no longer come here."""

    def claim(actor: str, name: str) -> Deferred[Callable[[], Deferred[None]]]:
        """Be the only one in the cluster that has a claim on `actor` `name`.

        Fires with what gives it back: that fires, and never fails, once another may have it, and
        does nothing when called again. A claim ends with the connection of whoever has it.

        :raises NameClaimed: at once when it is held, by another branch or by this one.
        :raises BusAway: when the bus can't be reached.
        """

    def accept(actor: str) -> None:
        """From now on work for `actor` that `to_any` sends may come here."""

    def decline(actor: str) -> None:
        """No more work for `actor` that `to_any` sends comes here."""

    def to_owner(actor: str, name: str, body: bytes, *, expires: float) -> Deferred[None]:
        """Send to the branch that owns `name`.

        :param expires: seconds after which nobody may act on it any more.
        :raises NoRoute: at once when nobody owns it.
        :raises BusAway: when the bus can't be reached.
        """

    def to_any(actor: str, body: bytes, *, expires: float) -> Deferred[None]:
        """Send to exactly one branch that accepts work for `actor`.

        :raises NoRoute: at once when none does.
        :raises BusAway: when the bus can't be reached.
        """

    def to_all(body: bytes, *, expires: float) -> Deferred[None]:
        """Send to every branch, this one included.

        :raises BusAway: when the bus can't be reached.
        """

    def to_inbox(inbox: str, body: bytes, *, expires: float) -> Deferred[None]:
        """Send to one branch's inbox; an answer, mostly.

        :raises NoRoute: at once when the inbox is gone.
        :raises BusAway: when the bus can't be reached.
        """


class IController(Interface):
    """Every verb of Cyme, usable without HTTP; answers are JSON-able.

    `add` verbs fire with (created, details); `params` are the names of `http-api`,
    already of the right Python type, absent when not given.
    """

    apps = Attribute("the verbs of apps, see `cyme.controller.apps.Apps`")
    queues = Attribute("the verbs of queue declarations, see `cyme.controller.queues.Queues`")
    instances = Attribute("the verbs of instances, see `cyme.controller.instances.Instances`")
    tasks = Attribute("the verbs of queued tasks, see `cyme.controller.tasks.Tasks`")
    rollouts = Attribute("the verbs of rolling restarts, see `cyme.controller.rollouts.Rollouts`")
    branches = Attribute("the verbs of branches, see `cyme.controller.branches.Branches`")
    events = Attribute("the verbs of the why-log, see `cyme.controller.history.History`")
