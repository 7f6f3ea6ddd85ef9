"""What facts mean: each rule looks at one thing, says what is wrong with it, and what to do.

Pure. The rules on brokers and workers come from how Celery, kombu and RabbitMQ were seen to fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from cyme.commands.doctor.facts import AMQP, BrokerFacts, Facts, FolderFacts
from cyme.commands.output import size

#: Seconds of skew between branches that are worth a warning, and that are a problem.
SKEW_WARNING, SKEW_PROBLEM = 2.0, 30.0
#: Percent of a disk in use.
DISK_WARNING, DISK_PROBLEM = 90.0, 97.0
#: Load for each processor.
LOAD_WARNING = 4.0
#: Free bytes of a root folder's disk.
FREE_WARNING = 1 << 30
#: Open files that a branch needs for itself, and for each of its instances.
FILES_BASE, FILES_EACH = 256, 8
#: The oldest releases of brokers that are known to do.
RABBITMQ_LEAST, REDIS_LEAST = (3, 8), (5, 0)

_GROWING = frozenset({"prefork", "processes", "gevent", "eventlet"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@frozen
class Finding:
    """One thing to know.

    :ivar level: `problem`: it does not work; `warning`: it will not, some day; `fine`: it was looked at.
    """

    level: str
    subject: str
    what: str
    do: str = ""


def examine(facts: Facts) -> list[Finding]:
    """All findings, problems first."""
    found = [
        *_cluster(facts),
        *_clocks(facts),
        *_brokers(facts),
        *_apps(facts),
        *_instances(facts),
        *_queues(facts),
        *_folders(facts),
    ]
    order = {"problem": 0, "warning": 1, "fine": 2}
    return sorted(found, key=lambda finding: order[finding.level])


def _cluster(facts: Facts) -> Iterator[Finding]:
    for name, problem in facts.away.items():
        yield Finding("problem", name, f"the branch says that it is away: {problem}", "look at its log")
    for branch in facts.missing:
        yield Finding("problem", f"branch {branch}", "it could not be asked", "see whether it runs")
    versions = sorted({str(info.get("version")) for info in facts.branches})
    if len(versions) > 1:
        yield Finding(
            "warning",
            "branches",
            f"they have different versions: {', '.join(versions)}",
            "fine during an upgrade; then bring all to one",
        )
    elif versions and versions[0] != facts.version:
        yield Finding(
            "warning",
            "versions",
            f"the branches have version {versions[0]}, this program has {facts.version}",
            "install the same version here",
        )
    for info in facts.branches:
        yield from _branch(info)


def _branch(info: Mapping[str, Any]) -> Iterator[Finding]:
    subject = f"branch {info.get('id')}"
    fine = True
    disk = info.get("disk_use")
    if disk is not None and disk >= DISK_WARNING:
        fine = False
        level = "problem" if disk >= DISK_PROBLEM else "warning"
        yield Finding(
            level,
            subject,
            f"the disk of its root folder is {disk:g} % full",
            "make room: what can't be stored is refused; rotate the logs of its workers",
        )
    load, cpus = info.get("load_average"), info.get("cpus") or 1
    if load and load[-1] > LOAD_WARNING * cpus:
        fine = False
        yield Finding(
            "warning",
            subject,
            f"its load was {load[-1]:g} over 15 minutes, with {cpus} processors",
            "lower max_concurrency, or move instances: cyme branches drain, or a branch more",
        )
    drain = info.get("draining") or {}
    if drain.get("problem"):
        fine = False
        yield Finding("warning", subject, f"its drain is held up: {drain['problem']}", "make room elsewhere")
    if info.get("is_cordoned") and not drain:
        fine = False
        yield Finding(
            "warning",
            subject,
            "it is cordoned and takes no new instances",
            "cyme branches uncordon, if that is over",
        )
    if fine:
        yield Finding("fine", subject, f"disk {disk:g} % full" if disk is not None else "it lives")


def _clocks(facts: Facts) -> Iterator[Finding]:
    for clock in facts.clocks:
        subject = f"clock of {clock.branch}"
        if clock.skew is None:
            yield Finding(
                "warning",
                subject,
                f"it could not be asked from here: {clock.problem}",
                "run cyme doctor where the branch's own URL can be reached",
            )
        elif abs(clock.skew) - clock.error > SKEW_WARNING:
            level = "problem" if abs(clock.skew) > SKEW_PROBLEM else "warning"
            way = "ahead of" if clock.skew > 0 else "behind"
            yield Finding(
                level,
                subject,
                f"it is {abs(clock.skew):.0f} s {way} the others",
                "have NTP set it: changes of a branch that is ahead win over later ones of others",
            )
        elif len(facts.clocks) > 1:
            yield Finding("fine", subject, "it goes with the others")


def _brokers(facts: Facts) -> Iterator[Finding]:
    for broker in facts.brokers:
        subject = f"broker {broker.url}"
        if broker.problem is not None:
            yield Finding(
                "warning" if broker.is_hidden else "problem",
                subject,
                f"it can't be asked from here: {broker.problem}",
                "start it, or correct its URL; where only the branches reach it, run cyme doctor there",
            )
            continue
        rules = _rabbitmq if broker.transport in AMQP else _redis
        found = list(rules(broker, subject))
        yield from found
        if not found:
            yield Finding(
                "fine", subject, f"{broker.product or broker.transport} {broker.version or ''}".strip()
            )


def _rabbitmq(broker: BrokerFacts, subject: str) -> Iterator[Finding]:
    if broker.product is not None and broker.product != "RabbitMQ":
        yield Finding("warning", subject, f"it is {broker.product}; only RabbitMQ was tried", "try it well")
        return
    if broker.alarm is not None:
        yield Finding(
            "problem",
            subject,
            f"it takes no messages: {broker.alarm}",
            "consumers go on; give it memory or disk, or have what waits in its queues consumed",
        )
    version = version_of(broker.version)
    if version and version < RABBITMQ_LEAST:
        yield Finding(
            "problem", subject, f"RabbitMQ {broker.version} is too old", "upgrade it to 3.10 or later"
        )


def _redis(broker: BrokerFacts, subject: str) -> Iterator[Finding]:
    settings = broker.settings
    version = version_of(broker.version)
    if version and version < REDIS_LEAST:
        yield Finding("problem", subject, f"Redis {broker.version} is too old", "upgrade it to 6.2 or later")
    policy = settings.get("maxmemory-policy", "noeviction")
    if policy != "noeviction" and settings.get("maxmemory", "0") != "0":
        yield Finding(
            "problem",
            subject,
            f"its maxmemory-policy is {policy}: when memory is short it throws tasks away",
            "CONFIG SET maxmemory-policy noeviction, and in redis.conf",
        )
    if settings.get("appendonly") == "no":
        yield Finding(
            "warning",
            subject,
            "it has no append-only file: a crash of it loses the last tasks",
            "appendonly yes in redis.conf",
        )


def version_of(text: str | None) -> tuple[int, ...]:
    """The numbers that a version begins with."""
    found = re.match(r"\d+(\.\d+)*", text or "")
    return tuple(int(one) for one in found[0].split(".")) if found else ()


def _apps(facts: Facts) -> Iterator[Finding]:
    for info in facts.apps:
        broker = info.get("broker") or {}
        host = broker.get("hostname")
        if broker.get("password") == "guest" and host is not None and host not in _LOOPBACK:
            yield Finding(
                "warning",
                f"app {info.get('name')}",
                f"it logs in to {host} as guest with the password guest",
                "RabbitMQ refuses that from other machines; give the app a user of its own",
            )
        yield from _settings(f"app {info.get('name')}", info, broker, facts)


def _settings(
    subject: str, info: Mapping[str, Any], broker: Mapping[str, Any], facts: Facts
) -> Iterator[Finding]:
    text = f"{info.get('extra_config') or ''} {info.get('arguments') or ''}".lower().replace("-", "_")
    is_amqp = broker.get("transport") in AMQP
    if re.search(r"(control|event)_queue_exclusive=(false|0|no)", text) and is_amqp:
        yield Finding(
            "problem",
            subject,
            "its workers declare control queues that are neither exclusive nor durable",
            "leave control_queue_exclusive and event_queue_exclusive alone: RabbitMQ 4.3 refuses such queues",
        )
    if re.search(r"acks_late=(true|1|yes)", text):
        if is_amqp:
            yield Finding(
                "warning",
                subject,
                "with acks_late a task of over 30 minutes (consumer_timeout) has the worker fall silent",
                "raise consumer_timeout above the longest task: x-consumer-timeout in the queue's arguments",
            )
        else:
            yield Finding(
                "warning",
                subject,
                "with acks_late Redis gives a task to a second worker after the visibility timeout (an hour)",
                "raise visibility_timeout in broker_transport_options above the longest task",
            )
    if re.search(r"max_(tasks|memory)_per_child", text):
        yield Finding(
            "warning",
            subject,
            "pools that replace their processes are known to stall",
            "max_memory and max_age have Cyme replace whole workers instead",
        )


def _instances(facts: Facts) -> Iterator[Finding]:
    well = 0
    for info in facts.instances:
        subject = f"instance {info.get('name')}"
        state = info.get("state")
        problems = list(info.get("problems") or ())
        if state in ("backoff", "unresponsive", "lost", "unknown") or problems:
            level = "problem" if state in ("backoff", "unresponsive", "lost") else "warning"
            what = f"{state}: {'; '.join(problems)}" if problems else str(state)
            yield Finding(
                level, subject, what, f"cyme instances health {info.get('name')}, and events, tell more"
            )
        else:
            well += 1
        yield from _pool(subject, info, facts)
    if well:
        yield Finding("fine", "instances", f"{well} are as they should be")


def _pool(subject: str, info: Mapping[str, Any], facts: Facts) -> Iterator[Finding]:
    if info.get("max_concurrency") == info.get("min_concurrency"):
        return
    pool = info.get("pool") or "prefork"
    if pool not in _GROWING:
        yield Finding(
            "warning",
            subject,
            f"it is to autoscale, and the pool {pool} can't grow",
            "set max and min to the same, or take the pool prefork",
        )
    quorum = {
        (app, queue["name"])
        for app, queue in facts.queues
        if ((queue.get("options") or {}).get("queue_arguments") or {}).get("x-queue-type") == "quorum"
    }
    for name in info.get("queues") or ():
        if (info.get("app"), name) in quorum:
            yield Finding(
                "warning",
                subject,
                f"it autoscales, and the prefetch of the quorum queue {name} can't be changed",
                "set max and min to the same, and scale by instances",
            )


def _queues(facts: Facts) -> Iterator[Finding]:
    for app, info in facts.queues:
        messages, consumers = info.get("messages"), info.get("consumers")
        if messages and not consumers and not info.get("paused"):
            yield Finding(
                "warning",
                f"queue {app}/{info.get('name')}",
                f"{messages} messages wait in it, and nobody consumes from it",
                f"cyme -a {app} consumers add INSTANCE {info.get('name')}",
            )


def _folders(facts: Facts) -> Iterator[Finding]:
    own = {str(info.get("id")): info for info in facts.branches}
    for folder in facts.folders:
        found = list(_folder(folder, len(facts.instances) if len(own) == 1 else 0))
        yield from found
        if not found:
            holder = f"held by process {folder.pid}" if folder.pid is not None else "no branch holds it now"
            yield Finding("fine", f"folder {folder.path}", holder)


def _folder(folder: FolderFacts, instances: int) -> Iterator[Finding]:
    subject = f"folder {folder.path}"
    if not folder.exists:
        yield Finding(
            "problem", subject, "it does not exist", "the first start of a branch makes it; is it this one?"
        )
        return
    if not folder.is_folder:
        yield Finding("problem", subject, "it is not a folder", "give --instance-dir another path")
        return
    if "%" in folder.path:
        yield Finding(
            "problem", subject, "there is a % in its path, which Celery reads as a format", "rename it"
        )
    if not folder.writable:
        yield Finding(
            "problem",
            subject,
            "this user can't write there",
            "run this as the branch's user, or chown the folder to it",
        )
    if folder.mode & 0o077:
        yield Finding(
            "warning",
            subject,
            f"others may look into it (mode {folder.mode:03o}), and passwords are in its database",
            f"chmod 700 {folder.path}",
        )
    if folder.free is not None and folder.free < FREE_WARNING:
        yield Finding("warning", subject, f"only {size(folder.free)} are free on its disk", "make room")
    if folder.free_inodes is not None and folder.free_inodes < 0.02:
        yield Finding("warning", subject, "its file system has hardly any inodes left", "remove small files")
    if folder.files_limit is not None:
        needed = FILES_BASE + FILES_EACH * instances
        if folder.files_limit < max(needed, 2 * (folder.files_open or 0)):
            yield Finding(
                "warning",
                subject,
                f"its branch may have {folder.files_limit} files open, and has {folder.files_open}",
                f"raise the limit to {max(4096, 2 * needed)} or more: ulimit -n, or LimitNOFILE= of the unit",
            )
