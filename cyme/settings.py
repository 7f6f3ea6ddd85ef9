"""What a branch can be told: every option, what it takes, and where it may come from.

`OPTIONS` is the one table: the command line (`cyme.tap`), the environment, the
configuration file and its sample in `etc/cyme.conf` all follow from it. The command line
beats the environment, which beats the file, which beats the default.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from configparser import ConfigParser
from configparser import Error as ParserError
from typing import Any

from attrs import frozen

from cyme import readers
from cyme.addresses import Address, read_address
from cyme.targets import DEFAULT_DENY

#: The section of a configuration file.
SECTION = "cyme"
_LEVELS = {"warning": "warn", "fatal": "critical"}


class BadSetting(Exception):
    """A setting that is refused; the text names where it came from and the reason."""


# -- the table ----------------------------------------------------------------------


@frozen
class Option:
    """One thing that a branch can be told.

    :ivar default: as one would type it; None when there is none.
    :ivar read: from text to value; the value of the default is what it makes of it.
    :ivar is_list: whether it may be given several times.
    """

    name: str
    short: str | None
    default: str | None
    read: Callable[[str], Any]
    help: str
    is_list: bool = False

    @property
    def is_flag(self) -> bool:
        return self.read is readers.truth

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "CYME_" + self.name.replace("-", "_").upper()

    @property
    def default_value(self) -> Any:
        if self.is_flag:
            return False
        if self.is_list:
            return ()
        return None if self.default is None else self.read(self.default)


OPTIONS: tuple[Option, ...] = (
    Option(
        "id",
        "i",
        None,
        readers.name,
        "The name of this branch, unique in the cluster. Without it the branch keeps the name that its root"
        " folder remembers; a new folder gets a new UUID.",
    ),
    Option(
        "instance-dir",
        "D",
        "instances/",
        readers.path,
        "The root folder: the branch's database, and a folder for each worker instance with its log and pid"
        " file. It is made if it is missing, and must be writable; one branch at a time holds it.",
    ),
    Option(
        "http",
        None,
        "127.0.0.1:8000",
        read_address,
        "Where to serve HTTP, the same as the address that can stand alone on the command line: PORT, :PORT"
        " (both on 127.0.0.1), HOST, HOST:PORT, [IPV6]:PORT, or a Twisted endpoint string (tcp:..., ssl:...,"
        " unix:..., systemd:...). Port 0 takes any free port.",
    ),
    Option(
        "without-http",
        None,
        None,
        readers.truth,
        "Serve no HTTP; the branch only looks after its instances. Also --without-httpd.",
    ),
    Option(
        "insecure",
        None,
        None,
        readers.truth,
        "Allow an --http address that other machines can reach also without --auth-token-file: anyone who can"
        " reach it can start processes as this user.",
    ),
    Option(
        "auth-token-file",
        None,
        None,
        readers.path,
        "File of the tokens that requests need: a line NAME SCOPE HASH for each, made by cyme-token. SIGHUP"
        " has it read again. Without it everybody who can reach the branch may do everything.",
    ),
    Option(
        "open-metrics",
        None,
        None,
        readers.truth,
        "With --auth-token-file: answer /ping/, /ready/ and /metrics without a token too.",
    ),
    Option(
        "request-rate",
        None,
        "100",
        readers.whole(0, 1_000_000),
        "The requests a second that one address may send in the long run, this machine's own addresses"
        " excepted; more are answered 429. 0 is no limit.",
    ),
    Option(
        "max-connections",
        None,
        "1000",
        readers.whole(1, 100_000),
        "The HTTP connections that may be open at once; one address has a tenth of them at most, this"
        " machine's own addresses excepted.",
    ),
    Option(
        "broker",
        "b",
        None,
        readers.broker,
        "URL of the default broker, for the workers of apps that name none (RabbitMQ, Redis, or another"
        " that Celery's remote control works on), or 'embedded' for a private Redis in the root folder."
        " Without it, the broker that the root folder remembers; in a new folder the one at --probe-broker"
        " if it answers, else 'embedded'.",
    ),
    Option(
        "probe-broker",
        None,
        readers.LOCAL_AMQP,
        readers.amqp_url,
        "Without --broker: where the first start in a new root folder looks, once, for an AMQP broker.",
    ),
    Option(
        "database",
        None,
        None,
        readers.url,
        "SQLAlchemy URL of the database that holds the declarations of apps, queues and instances, such as"
        " postgresql://user:password@host/name, which branches may share. Without it, the SQLite file"
        " branch.db in the root folder.",
    ),
    Option(
        "label",
        None,
        None,
        readers.label,
        "A label NAME=VALUE of this branch, such as gpu=yes: instances that ask for it are placed only on"
        " branches that have it. May be given several times; separated by spaces in a file or the"
        " environment.",
        is_list=True,
    ),
    Option(
        "node-host",
        None,
        None,
        readers.name,
        "The part of Celery's node names behind '@'; without it, the name of this machine. Two branches on"
        " one machine can hand instances over to each other without a gap only if it differs.",
    ),
    Option(
        "loglevel",
        "l",
        "info",
        readers.one_of("debug", "info", "warn", "error", "critical", synonyms=_LEVELS),
        "The least that is logged: debug, info, warn, error or critical.",
    ),
    Option(
        "logfile",
        "f",
        None,
        readers.log_path,
        "File that the log is appended to, '-' for standard output. It is opened anew when it was moved"
        " away. Without it, standard output, or branch.log in the root folder for a daemon.",
    ),
    Option(
        "log-format",
        None,
        "text",
        readers.one_of("text", "json"),
        "How log lines look: text for people, json for one JSON object a line.",
    ),
    Option(
        "sup-interval",
        None,
        "60",
        readers.seconds(0.1),
        "Seconds between two full checks by the supervisor. What it is told of (a worker that ends, a changed"
        " declaration, a broker that comes back) it sees to at once.",
    ),
    Option(
        "evacuate-after",
        None,
        None,
        readers.seconds(1),
        "Seconds after which the instances of another branch that is away are given to live branches. Its"
        " workers may live on, if it is only cut off; it stops them when it returns. Without it, never by"
        " itself; POST /branches/ID/evacuate/ does it at once.",
    ),
    Option(
        "wait-after-broker-revived",
        None,
        "35",
        readers.seconds(0),
        "Seconds that workers have to reconnect after their broker came back, before silence counts against"
        " them; Celery needs up to 32.",
    ),
    Option(
        "workers-on-exit",
        None,
        "stop",
        readers.one_of("stop", "leave"),
        "What becomes of the workers when the branch is stopped: stop them, letting them finish their tasks,"
        " or leave them running for the next start, which takes them over.",
    ),
    Option(
        "warm-timeout",
        None,
        "60",
        readers.seconds(0),
        "Seconds that a worker has to finish its tasks when it is stopped; then it is stopped cold, and then"
        " killed.",
    ),
    Option(
        "worker-loglevel",
        None,
        "INFO",
        readers.one_of("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        "Celery's log level in the workers: DEBUG, INFO, WARNING, ERROR or CRITICAL.",
    ),
    Option(
        "stall-limit",
        None,
        "0",
        readers.seconds(0),
        "Log a warning whenever the branch was held up for more than so many seconds, by its own doing and"
        " not by a busy machine; 0 does not look. For finding out why a branch is slow.",
    ),
    Option(
        "hang-limit",
        None,
        "45",
        readers.seconds(1),
        "Seconds after which the branch ends itself with status 1 and all stacks in the log when its reactor"
        " hangs or a part of it makes no progress. Workers go on, and the next start takes them over.",
    ),
    Option(
        "result-expires",
        None,
        "86400",
        readers.seconds(1),
        "Seconds for which the result of a queued request is kept. What is known of a request that never"
        " had a result is kept for a week, or as long if that is longer.",
    ),
    Option(
        "hold-over",
        None,
        "60",
        readers.seconds(0, 900),
        "Seconds; a queued task that is put off for longer is held in the branch's database until it is due,"
        " and one that is put off for less by a worker, as a Celery ETA. At most 900.",
    ),
    Option(
        "max-request-body",
        None,
        "1M",
        readers.size,
        "The longest request body that is read, in bytes; k, M and G may follow the number. Longer ones are"
        " answered 413.",
    ),
    Option(
        "allow-origin",
        None,
        None,
        readers.origin,
        "A web origin, as https://HOST, whose pages may use this branch from a browser (CORS); '*' lets"
        " every page read, and none change anything. May be given several times; separated by spaces in a"
        " file or the environment.",
        is_list=True,
    ),
    Option(
        "allow-target",
        None,
        None,
        readers.target_rule,
        "What queued requests may be made to: HOST, *.DOMAIN, an address or a range like 10.0.0.0/8, each"
        " with :PORT if only that is meant. Without it, everything that is not denied. May be given several"
        " times; separated by spaces in a file or the environment.",
        is_list=True,
    ),
    Option(
        "deny-target",
        None,
        None,
        readers.denied_target,
        "What queued requests must not be made to, written in the same way; it beats --allow-target."
        " Link-local addresses and the metadata services of clouds are denied too, unless one of them is"
        " 'none'. May be given several times; separated by spaces in a file or the environment.",
        is_list=True,
    ),
)

BY_NAME: Mapping[str, Option] = {option.name: option for option in OPTIONS}


# -- from texts to values -----------------------------------------------------------


def read_one(option: Option, texts: list[str], source: str) -> Any:
    """Read what one source says of an option.

    :param texts: one text, or several for an option that is a list.
    :param source: how to name the source in a refusal.
    :raises BadSetting: when a text is refused.
    """
    try:
        values = [option.read(text) for text in texts]
    except ValueError as refusal:
        raise BadSetting(f"{source}: {refusal}") from None
    return tuple(values) if option.is_list else values[-1]


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Read the options that `CYME_...` variables set; an empty one means "not given".

    :raises BadSetting: naming the variable.
    """
    found = {}
    for option in OPTIONS:
        text = environment.get(option.variable, "").strip()
        if text:
            found[option.name] = read_one(option, _texts(option, text), option.variable)
    return found


def from_file(file: str) -> dict[str, Any]:
    """Read the options that a configuration file sets; an empty one means "not given".

    :raises BadSetting: naming the file, the line and the key.
    """
    try:
        with open(file, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
        raise BadSetting(f"the configuration file {file} can't be read: {reason}") from None
    parser = ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(text, file)
    except ParserError as problem:
        raise BadSetting(f"the configuration file {file}: {' '.join(str(problem).split())}") from None
    for section in parser.sections():
        if section != SECTION:
            raise BadSetting(f"{file}: unknown section [{section}]; settings go under [{SECTION}]")
    found = {}
    for key, value in parser[SECTION].items() if parser.has_section(SECTION) else ():
        option = BY_NAME.get(key.replace("_", "-"))
        source = f"{file}, line {_line_of(text, key)}, {key}"
        if option is None:
            raise BadSetting(f"{source}: there is no such setting; there are {', '.join(BY_NAME)}")
        if value.strip():
            found[option.name] = read_one(option, _texts(option, value.strip()), source)
    return found


def _texts(option: Option, text: str) -> list[str]:
    return text.split() if option.is_list else [text]


def _line_of(text: str, key: str) -> int:
    """The line of a key; the parser tells it for what it can't parse only."""
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(rf"\s*{re.escape(key)}\s*[=:]", line, re.IGNORECASE):
            return number
    return 0


@frozen(kw_only=True)
class Settings:
    """What a branch was told, complete and checked; the names are those of the options.

    :ivar http: where to listen, or None for no HTTP.
    :ivar broker: a URL, `readers.EMBEDDED`, or None for "remembered, else looked for".
    :ivar label: the labels, name -> value.
    :ivar node_host: None for the name of the machine.
    :ivar evacuate_after: None for never.
    :ivar logfile: a path, or None for standard output.
    :ivar deny_target: with those that are denied without a word.
    :ivar is_daemon: whether the process left the terminal.
    """

    id: str | None
    instance_dir: str
    http: Address | None
    insecure: bool
    auth_token_file: str | None
    open_metrics: bool
    request_rate: int
    max_connections: int
    broker: str | None
    probe_broker: str
    database: str
    label: Mapping[str, str]
    node_host: str | None
    loglevel: str
    logfile: str | None
    log_format: str
    sup_interval: float
    evacuate_after: float | None
    wait_after_broker_revived: float
    workers_on_exit: str
    warm_timeout: float
    worker_loglevel: str
    stall_limit: float
    hang_limit: float
    result_expires: float
    hold_over: float
    max_request_body: int
    allow_origin: tuple[str, ...]
    allow_target: tuple[str, ...]
    deny_target: tuple[str, ...]
    is_daemon: bool


def make_settings(values: Mapping[str, Any], *, is_daemon: bool = False) -> Settings:
    """Put the values of all options together.

    :param values: option name -> value; an option that is missing has its default.
    :raises BadSetting: when two of them don't go together.
    """
    every = {option.name: values.get(option.name, option.default_value) for option in OPTIONS}
    address: Address = every["http"]
    without_http = every.pop("without-http")
    is_guarded = every["insecure"] or every["auth-token-file"] is not None
    if address.is_open and not is_guarded and not without_http:
        raise BadSetting(
            f"--http: other machines can reach {address.host or 'every address of this machine'}, and anyone"
            " who can reach it can start processes: --auth-token-file keeps out who has no token; --insecure"
            " lets everybody in"
        )
    if is_daemon and every["logfile"] == "-":
        raise BadSetting("--logfile: a daemon has no standard output; give a path, or leave it out")
    root = every["instance-dir"]
    every["http"] = None if without_http else address
    every["database"] = every["database"] or f"sqlite:///{os.path.join(root, 'branch.db')}"
    if every["logfile"] is None and is_daemon:
        every["logfile"] = os.path.join(root, "branch.log")
    elif every["logfile"] == "-":
        every["logfile"] = None
    denied: tuple[str, ...] = every["deny-target"]
    if readers.NO_DEFAULT in denied:
        every["deny-target"] = tuple(rule for rule in denied if rule != readers.NO_DEFAULT)
    else:
        every["deny-target"] = (*DEFAULT_DENY, *denied)
    every["label"] = _labels(every["label"])
    fields = {key.replace("-", "_"): value for key, value in every.items()}
    return Settings(**fields, is_daemon=is_daemon)


def _labels(texts: tuple[str, ...]) -> Mapping[str, str]:
    """Labels by name.

    :raises BadSetting: when one name has two values.
    """
    labels: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if labels.setdefault(name, value) != value:
            raise BadSetting(f"--label: {name} has two values, {labels[name]} and {value}")
    return labels
