"""What `twistd cyme` runs: the options, and the service that all concrete classes make together."""

from __future__ import annotations

import atexit
import os
import random
import secrets
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import uuid4

from twisted.application.internet import backoffPolicy
from twisted.application.service import IService, MultiService
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, Logger

from cyme import __version__
from cyme.access.tokenfile import TokenFile
from cyme.branch import Branch, Parts, Readiness, Refusals
from cyme.broker_choice import amqp_answers
from cyme.brokers import AMQP, redacted, transport_of
from cyme.embedded import EmbeddedRedis, find_server
from cyme.errors import CannotStart, InvalidParameter
from cyme.garbage import put_aside, uncollected
from cyme.logs import Log, escaped
from cyme.options import Options
from cyme.rootfolder import RootFolder
from cyme.settings import Settings
from cyme.stopsignals import StopSignals, has_terminal
from cyme.systemd import ServiceManager
from cyme.vitals import Vitals
from cyme.watchdog import HangAlarm, LastWords, Watchdog

if TYPE_CHECKING:
    from cyme.bus.amqp.bus import AMQPBus
    from cyme.bus.local import LocalBus
    from cyme.interfaces import ILauncher

#: Seconds for which one attempt to connect to a broker may make no progress: the system's resolver
#: waits for its servers in turn, for half a minute for each domain that it searches. A broker whose
#: name can't be resolved is away, and no reason to end.
CONNECT_LIMIT = 300.0
#: Seconds for which a full check may make no progress, at least: a question takes three, and what no
#: worker answers is answered only once the broker has shown within five more that it is there.
CHECK_LIMIT = 15.0

__all__ = ["Options", "makeService"]

_log = Logger()


def makeService(options: Options) -> Branch:
    """Build a branch; nothing is opened, read or started before its `startService`."""
    from twisted.internet import reactor

    return make_branch(reactor, options.settings, logs_itself=not _twistd_logs(options))


def _twistd_logs(options: Options) -> bool:
    """Whether `twistd` was told how to log, or was not what parsed the options."""
    return options.parent is None or bool(options.parent.get("logger") or options.parent.get("syslog"))


def make_branch(reactor: Any, settings: Settings, *, logs_itself: bool) -> Branch:
    """Build a branch.

    :param reactor: the reactor, with all that a posix one provides.
    :param logs_itself: whether the branch brings its application a log observer.
    """
    from cyme.workers.launcher import ProcessLauncher

    log = Log(settings.logfile, format=settings.log_format, level=settings.loglevel)
    root = RootFolder(settings.instance_dir, generate_id=lambda: str(uuid4()))
    launcher = ProcessLauncher(reactor)
    host = socket.gethostname()
    vitals = Vitals()
    manager = ServiceManager(os.environ)
    limit = settings.hang_limit
    words = LastWords(log.fileno)
    redis = EmbeddedRedis(
        reactor, launcher, root.join(".redis"), find_server=find_server, env=dict(os.environ)
    )
    vitals.watch(redis.signs, 0.0)

    token_file = TokenFile(settings.auth_token_file)

    def assemble(branch_id: str, broker: str, readiness: Readiness) -> Parts:
        token_file.load()
        with uncollected():
            return _assemble(
                reactor, settings, root.path, launcher, host, vitals, token_file, branch_id, broker, readiness
            )

    def heed_signals(hurry: Callable[[], None]) -> None:
        reread = None
        if settings.auth_token_file is not None:
            reread = token_file.reload
        elif not has_terminal():
            reread = _nothing_to_reread
        signals = StopSignals(reactor, lambda: _stop(reactor), hurry, reread)
        # Again right after the reactor, at its start, took over some of them.
        signals.install()
        reactor.addSystemEventTrigger("during", "startup", signals.install)

    return Branch(
        reactor,
        settings,
        root,
        redis,
        Watchdog(
            reactor,
            vitals,
            manager,
            words.speak,
            HangAlarm(limit, lambda seconds: words.speak("the reactor", seconds), log.fileno),
            log.fileno,
            limit=limit,
        ),
        assemble=assemble,
        answers=amqp_answers,
        redacted=redacted,
        refusals=Refusals(
            at_start=lambda problem: _refuse(settings, problem),
            later=lambda: _fail(reactor),
        ),
        observe=(lambda: _observe(log, settings, root)) if logs_itself else None,
        heed_signals=heed_signals,
        vitals=vitals,
        manager=manager,
        host=host,
        built=put_aside,
    )


def _assemble(
    reactor: Any,
    settings: Settings,
    root: str,
    launcher: ILauncher,
    host: str,
    vitals: Vitals,
    token_file: TokenFile,
    branch_id: str,
    broker: str,
    readiness: Readiness,
) -> Parts:
    """Build the parts of a branch; they come from modules that only a branch that starts needs."""
    from twisted.internet.process import reapProcessHandlers

    from cyme.access.sessions import Sessions
    from cyme.actors import Actors
    from cyme.admin.rendering import Renderer
    from cyme.admin.session_visitors import SessionVisitors
    from cyme.admin.site import Pages
    from cyme.admin.static import Files
    from cyme.api.site import Limits, make_site
    from cyme.catalogue import Catalogue
    from cyme.controller.facade import make_controller
    from cyme.controller.tasks import Rules
    from cyme.events import Events
    from cyme.gateway.service import Gateway
    from cyme.inflight import InFlight
    from cyme.membership import Membership
    from cyme.metrics.facts import Facts
    from cyme.metrics.measures import Measures
    from cyme.metrics.restarts import Restarts
    from cyme.metrics.scraping import Scraper
    from cyme.planning import Policy
    from cyme.presence import Identity, Presence
    from cyme.remote import RemoteControl
    from cyme.replication import Replication
    from cyme.store import SQLStore
    from cyme.supervisor.oomkills import OomKills
    from cyme.supervisor.resolving import Defaults
    from cyme.supervisor.service import Supervisor
    from cyme.threads import Threads
    from cyme.workers.orphans import OrphanReaper
    from cyme.workers.service import Workers

    store = SQLStore(reactor, settings.database, branch_id)
    catalogue = Catalogue(reactor, store, branch_id)
    events = Events(reactor, store, branch_id)
    threads = Threads(reactor)
    measures, restarts = Measures(), Restarts()
    events.subscribe(restarts.written)
    workers = Workers(
        reactor,
        launcher,
        root,
        celery_loglevel=settings.worker_loglevel,
        warm_timeout=settings.warm_timeout,
        in_thread=threads.run,
    )
    remote = RemoteControl(
        reactor, retry_policy=backoffPolicy(initialDelay=0.5, maxDelay=10.0, jitter=random.random)
    )
    policy = Policy(
        warm_timeout=settings.warm_timeout,
        wait_after_broker_revived=settings.wait_after_broker_revived,
    )
    supervisor = Supervisor(
        reactor,
        catalogue,
        workers,
        remote,
        events,
        branch_id=branch_id,
        defaults=lambda: Defaults(broker=broker, host=settings.node_host or host),
        interval=settings.sup_interval,
        policy=policy,
        jitter=random.random,
        oom_kills=OomKills().count,
        passed=measures.passed,
    )
    gateway = Gateway(
        reactor,
        store,
        catalogue,
        remote,
        workers,
        branch_id=branch_id,
        host=host,
        default_broker=lambda: broker,
        result_expires=settings.result_expires,
        hold_over=settings.hold_over,
        retry_policy=backoffPolicy(initialDelay=0.5, maxDelay=10.0, jitter=random.random),
        getrandbits=random.SystemRandom().getrandbits,
    )
    presence = Presence(
        Identity(
            id=branch_id,
            version=__version__,
            loglevel=settings.loglevel,
            logfile=settings.logfile,
            sup_interval=settings.sup_interval,
            labels=settings.label,
            cpus=os.cpu_count() or 1,
        ),
        root=root,
        count_instances=lambda: sum(one.branch == branch_id for one in catalogue.instances()),
        getloadavg=os.getloadavg,
        statvfs=os.statvfs,
    )
    # Twice the time that a worker may take to stop and to start.
    restart_timeout = 2 * (settings.warm_timeout + policy.start_timeout)
    bus = _make_bus(reactor, broker, branch_id, measures.confirmed)
    actors = Actors(reactor, bus, branch_id, lambda: membership.members())
    replication = Replication(reactor, catalogue, actors, branch_id)
    membership = Membership(
        reactor,
        bus,
        actors,
        presence,
        replication,
        catalogue.digest,
        branch_id=branch_id,
        life=str(uuid4()),
    )
    for signs in (store.signs, remote.serving, bus.signs, threads.signs, gateway.serving):
        vitals.watch(signs, settings.hang_limit)
    vitals.watch(supervisor.signs, max(CHECK_LIMIT, settings.hang_limit))
    for signs in (remote.connecting, gateway.connecting, bus.connecting):
        vitals.watch(signs, max(CONNECT_LIMIT, settings.hang_limit))
    controller = make_controller(
        reactor,
        catalogue,
        supervisor,
        actors,
        membership,
        branch_id,
        lambda: broker,
        events,
        remote,
        gateway,
        rules=Rules(allow=settings.allow_target, deny=settings.deny_target),
        restart_timeout=restart_timeout,
        evacuate_after=settings.evacuate_after,
        shut_down=lambda: _stop(reactor),
    )
    background = MultiService()
    reaper = OrphanReaper(reactor, reapProcessHandlers)
    for service in (controller.rolling, controller.moving, controller.evacuating, controller.trends, reaper):
        service.setServiceParent(background)
    facts = Facts(
        branch_id=branch_id,
        version=__version__,
        catalogue=catalogue,
        remote=remote,
        presence=membership,
        bus=bus,
        default_broker=lambda: broker,
        redacted=redacted,
        queues=lambda: controller.trends.counts,
        lag=replication.lag,
        database_problem=lambda: store.problem,
    )
    scraper = Scraper(
        clock=reactor,
        catalogue=catalogue,
        supervisor=supervisor,
        branch_id=branch_id,
        measures=measures,
        restarts=restarts,
        known=facts.known,
        in_thread=threads.run,
    )
    site = make_site(
        reactor,
        controller,
        allowed_origins=settings.allow_origin,
        check_host=settings.http is not None and settings.http.is_only_loopback,
        readiness=readiness,
        tokens=token_file,
        open_metrics=settings.open_metrics,
        scrape=scraper.text,
        answered=measures.answered,
        limits=Limits(
            request_body=settings.max_request_body,
            request_rate=settings.request_rate,
            connections=settings.max_connections,
            connections_of_one=max(1, settings.max_connections // 10),
        ),
        make_pages=lambda guard, access: Pages(
            reactor,
            controller,
            guard,
            SessionVisitors(
                reactor,
                Sessions(reactor, secrets.token_bytes, token_file.still_has),
                token_file,
                access,
            ),
            Renderer(Files(), threads.run),
            lambda: secrets.token_hex(16),
        ),
    )
    # Twisted's words about a factory that starts are of no use to operators.
    site.noisy = False
    site.resource = in_flight = InFlight(site.resource, site.end_streams)
    return Parts(
        store=store,
        catalogue=catalogue,
        events=events,
        workers=workers,
        remote=remote,
        supervisor=supervisor,
        rolling=background,
        gateway=gateway,
        actors=actors,
        membership=membership,
        presence=presence,
        site=site,
        stall_watch=_stall_watch(reactor, settings.stall_limit),
        in_flight=in_flight.none,
        away=facts.away,
    )


def _make_bus(
    reactor: Any, broker: str, branch_id: str, confirmed: Callable[[float], None]
) -> AMQPBus | LocalBus:
    """The bus to the branches on the same broker, where it speaks AMQP; elsewhere a branch is alone.

    :raises CannotStart: when the broker's URL has arguments that the bus can't read.
    """
    if transport_of(broker) not in AMQP:
        from cyme.bus.local import LocalBus

        return LocalBus(reactor)
    from cyme.bus.amqp.bus import AMQPBus

    policy = backoffPolicy(initialDelay=0.5, maxDelay=10.0, jitter=random.random)
    try:
        bus = AMQPBus(reactor, broker, name=f"Cyme branch {branch_id}", retry_policy=policy)
    except InvalidParameter as problem:
        raise CannotStart(f"--broker {redacted(broker)}: {problem}") from None
    bus.confirmed = confirmed
    return bus


def _stall_watch(reactor: Any, limit: float) -> IService:
    """What says that the reactor was held up, or something that says nothing."""
    if not limit:
        return MultiService()
    from cyme.stalls import Pacer, StallWatch

    return StallWatch(reactor, limit, Pacer(limit))


def _observe(log: Log, settings: Settings, root: RootFolder) -> ILogObserver:
    """Open the log, before anything else."""
    try:
        if settings.logfile is not None and os.path.dirname(settings.logfile) == root.path:
            root.create()
        return log.observer()
    except CannotStart as problem:
        _end_with(problem)
    except OSError as problem:
        reason = f"{problem.strerror}; --logfile names another"
        _end_with(CannotStart(f"the log file {settings.logfile} can't be opened: {reason}"))


def _refuse(settings: Settings, problem: CannotStart) -> NoReturn:
    """Log why the branch can't start, unless the log is where it is said anyway; see `_end_with`."""
    if settings.logfile is not None:
        _log.critical("{problem}", problem=str(problem))
    _end_with(problem)


def _end_with(problem: CannotStart) -> NoReturn:
    """Say why the branch can't start in one line, and end the process with status 1.

    Raised to the top, the error lets twistd tidy up: remove its pid file, and tell a parent
    that waits for the daemon to start. Its traceback would say nothing more.
    """
    if sys.__stderr__ is not None:
        sys.__stderr__.write(f"cyme: {escaped(str(problem))}\n")
        sys.__stderr__.flush()
    sys.excepthook = lambda *_: None
    raise problem


def _nothing_to_reread() -> None:
    _log.info("SIGHUP: there is nothing to read again, without --auth-token-file")


def _stop(reactor: Any) -> None:
    try:
        reactor.stop()
    except ReactorNotRunning:
        # It is being stopped by somebody else.
        pass


def _fail(reactor: Any) -> None:
    """Stop in good order, then end with status 1: twistd itself knows no way to say it."""
    atexit.register(_exit_with_failure)
    reactor.callWhenRunning(_stop, reactor)


def _exit_with_failure() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    os._exit(1)
