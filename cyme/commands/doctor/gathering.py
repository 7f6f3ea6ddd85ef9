"""Finding out the facts: from the branch, from the other branches, from brokers and from this machine."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from cyme import __version__
from cyme.client import Client, calls, errors
from cyme.client.synchronous import Urllib3Transport
from cyme.commands.context import each
from cyme.commands.doctor.facts import AMQP, BrokerFacts, Clock, Facts, FolderFacts

#: Seconds that another branch, or a broker, has to answer.
ANSWER_WITHIN = 3.0
#: Seconds in which RabbitMQ says that it takes no messages; it does so at once.
ALARM_WITHIN = 0.5
#: What is asked of Redis's configuration.
REDIS_SETTINGS = ("appendonly", "maxmemory", "maxmemory-policy")
_MASK = ":***@"


def gather(client: Client, ca_file: str | None, brokers: Sequence[str], folders: Iterable[str]) -> Facts:
    """All facts.

    :param brokers: URLs that are asked beside those of the apps.
    :raises ClientError: when the branch can't be asked.
    """
    ids = client.branches.all()
    branches = each(ids, client.branch_info)
    names = client.instances.all()
    apps = each(client.all(), lambda name: client.get(name).info)
    queues: list[tuple[str, Mapping[str, Any]]] = []
    for app in apps:
        section = client.app(app["name"]).queues
        found = each(section.all(), lambda name, section=section: section.get(name).info)  # type: ignore[misc]
        queues += [(app["name"], info) for info in found]
    urls = list(dict.fromkeys([*brokers, *(url for url in map(_url, apps) if url is not None)]))
    return Facts(
        version=__version__,
        url=client.url,
        away=_away(client),
        branches=branches,
        missing=getattr(names, "missing", []),
        clocks=clocks(branches, lambda url: date_of(url, ca_file)),
        apps=apps,
        instances=each(names, lambda name: client.instances.get(name).info),
        queues=queues,
        brokers=[ask_broker(url) for url in urls],
        folders=[look_at(path) for path in folders],
    )


def _away(client: Client) -> Mapping[str, str]:
    try:
        client.ready()
    except errors.NotReady as problem:
        away = problem.document.get("away")
        return away if isinstance(away, dict) else {"branch": str(problem)}
    return {}


def date_of(url: str, ca_file: str | None) -> str:
    """The `Date` of a branch's answer, whatever that is; without a token, which is for one branch alone.

    :raises Unreachable: when there is none.
    """
    transport = Urllib3Transport(url, None, ca_file)
    try:
        return transport.send(calls.ping().request, ANSWER_WITHIN).headers.get("date", "")
    finally:
        transport.close()


def clocks(branches: Sequence[Mapping[str, Any]], ask: Callable[[str], str]) -> list[Clock]:
    """How far each branch's clock is from the middle of all.

    :param ask: the `Date` of an answer of the branch at a URL.
    """
    offsets: dict[str, tuple[float, float]] = {}
    found: dict[str, Clock] = {}
    for info in branches:
        id, url = str(info["id"]), info.get("url")
        if not url or not str(url).startswith("http"):
            found[id] = Clock(branch=id, problem="it has no URL")
            continue
        try:
            before = time.monotonic()
            date = ask(str(url).rstrip("/"))
            after = time.monotonic()
            at = parsedate_to_datetime(date).timestamp()
        except (errors.ClientError, ValueError, TypeError) as problem:
            found[id] = Clock(branch=id, problem=str(problem))
            continue
        # A Date is cut to whole seconds: in the mean half a second is missing.
        offsets[id] = (at + 0.5 - (before + after) / 2, 0.5 + (after - before) / 2)
    if offsets:
        middle = statistics.median(offset for offset, _ in offsets.values())
        for id, (offset, error) in offsets.items():
            found[id] = Clock(branch=id, skew=offset - middle, error=error + 0.5)
    return list(found.values())


def _url(app: Mapping[str, Any]) -> str | None:
    """The URL of an app's broker with its password, where that may be known."""
    broker = app.get("broker") or {}
    url, password = broker.get("url"), broker.get("password")
    if not url:
        return None
    if _MASK not in url:
        return str(url)
    if not password or password == "***":
        return str(url)
    return str(url).replace(_MASK, f":{quote(password, safe='')}@")


def ask_broker(url: str) -> BrokerFacts:
    """What a broker says of itself."""
    shown = re.sub(r"(://[^:/@;]*:)[^@;]*@", r"\g<1>***@", url)
    transport = url.partition("://")[0].partition("+")[0].lower()
    if _MASK in url:
        problem = "its password is not shown to this token; --broker URL gives it"
        return BrokerFacts(url=shown, transport=transport, problem=problem, is_hidden=True)
    # Here, since it takes a moment, and only the doctor needs it.
    from kombu import Connection

    is_redis, is_amqp = transport in ("redis", "rediss", "sentinel"), transport in AMQP
    alarms: list[str] = []
    options: dict[str, Any] = {}
    if is_redis:
        options = {"socket_connect_timeout": ANSWER_WITHIN, "socket_timeout": ANSWER_WITHIN}
    elif is_amqp:
        options = {"on_blocked": alarms.append, "read_timeout": ANSWER_WITHIN}
    try:
        with Connection(url, connect_timeout=ANSWER_WITHIN, transport_options=options) as connection:
            connection.connect()
            if is_redis:
                return _redis(shown, transport, connection.default_channel.client)
            if is_amqp:
                _hear_alarm(connection)
            told = getattr(connection.connection, "server_properties", None) or {}
            if alarms:
                # A broker that takes no messages reads nothing, no farewell either.
                connection.connection.transport.close()
            return BrokerFacts(
                url=shown,
                transport=transport,
                product=told.get("product"),
                version=told.get("version"),
                alarm=alarms[0] if alarms else None,
            )
    except Exception as problem:
        # Each transport has errors of its own.
        text = re.sub(r"(://[^:/@;]*:)[^@;]*@", r"\g<1>***@", str(problem)) or type(problem).__name__
        return BrokerFacts(url=shown, transport=transport, problem=text)


def _hear_alarm(connection: Any) -> None:
    """Give RabbitMQ a reason to speak of its alarms: it tells those alone who publish.

    The message is for no queue, so that the broker drops it.
    """
    connection.default_channel.basic_publish(
        connection.default_channel.prepare_message(b""), exchange="", routing_key=f"cyme.doctor.{uuid4()}"
    )
    with suppress(TimeoutError):
        connection.drain_events(timeout=ALARM_WITHIN)


def _redis(shown: str, transport: str, redis: Any) -> BrokerFacts:
    version = redis.info("server").get("redis_version")
    settings: dict[str, str] = {}
    for name in REDIS_SETTINGS:
        try:
            settings.update({key: str(value) for key, value in redis.config_get(name).items()})
        except Exception:
            # Hosted servers don't let CONFIG be asked; then nothing is said of it.
            break
    return BrokerFacts(url=shown, transport=transport, product="Redis", version=version, settings=settings)


def look_at(path: str) -> FolderFacts:
    """A root folder on this machine."""
    try:
        found = os.stat(path)
    except OSError:
        return FolderFacts(path=path, exists=False)
    if not os.path.isdir(path):
        return FolderFacts(path=path, is_folder=False)
    disk = os.statvfs(path)
    pid = holder(path)
    limit, count = open_files(pid) if pid is not None else (None, None)
    return FolderFacts(
        path=path,
        writable=os.access(path, os.W_OK | os.X_OK),
        mode=found.st_mode & 0o777,
        free=disk.f_bavail * disk.f_frsize,
        free_inodes=disk.f_favail / disk.f_files if disk.f_files else None,
        pid=pid,
        files_limit=limit,
        files_open=count,
    )


def holder(path: str) -> int | None:
    """The process of the branch that holds a root folder, if it lives and says so."""
    try:
        with open(os.path.join(path, "branch.lock"), encoding="ascii") as stream:
            pid = int(stream.read(32).strip())
        return pid if os.path.isdir(f"/proc/{pid}") else None
    except (OSError, ValueError):
        return None


def open_files(pid: int) -> tuple[int | None, int | None]:
    """How many files a process may have open, and how many it has; None for what can't be seen."""
    limit = count = None
    try:
        with open(f"/proc/{pid}/limits", encoding="ascii") as stream:
            found = re.search(r"^Max open files\s+(\d+)", stream.read(), re.MULTILINE)
        limit = int(found[1]) if found else None
        count = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        pass  # another user's process
    return limit, count
