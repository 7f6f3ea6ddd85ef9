"""More `celery worker` arguments and settings: all but those that Cyme gives a worker itself.

One of Cyme's own given twice would take a worker out of its control: another node name and
nobody hears its pings, another pid file and nobody finds it again. Each is refused with what
to use in its place.
"""

from __future__ import annotations

import re
import shlex

from cyme.errors import InvalidParameter

_FOLDER = "Cyme keeps it in the instance's own folder"
_NODE = "Cyme names the node after the instance"
_RANGE = "use max_concurrency and min_concurrency"
_BROKER = "use broker, or hostname and its companions"
_POOL = "use pool"
_APP = "use celery_app"
_QUEUES = "declare the queue and have the instance consume from it: PUT /APP/instances/NAME/queues/QUEUE/"
_EXCLUDED = "have the instance stop consuming: DELETE /APP/instances/NAME/queues/QUEUE/"
_PROCESS = "Cyme runs and watches the process itself"
_NO_WORKER = "it starts no worker"

#: Long options that Cyme gives itself, or that would take the worker from it.
LONG = {
    "--app": _APP,
    "--autoscale": _RANGE,
    "--broker": _BROKER,
    "--concurrency": _RANGE,
    "--detach": _PROCESS,
    "--exclude-queues": _EXCLUDED,
    "--executable": _PROCESS,
    "--help": _NO_WORKER,
    "--hostname": _NODE,
    "--logfile": _FOLDER,
    "--pidfile": _FOLDER,
    "--pool": _POOL,
    "--queues": _QUEUES,
    "--statedb": _FOLDER,
    "--version": _NO_WORKER,
    "--workdir": _FOLDER,
}
#: The same, as letters.
SHORT = {
    "A": _APP,
    "b": _BROKER,
    "c": _RANGE,
    "D": _PROCESS,
    "f": _FOLDER,
    "h": _NO_WORKER,
    "n": _NODE,
    "P": _POOL,
    "Q": _QUEUES,
    "S": _FOLDER,
    "X": _EXCLUDED,
}
#: Letters of `celery worker` that take a value: the rest of such a word is no option.
SHORT_WITH_VALUE = frozenset("IOls") | SHORT.keys() - {"D", "h"}

#: Settings that would take the worker from Cyme, `.` written as `_`.
_WATCHED = "Cyme watches workers by remote control"
SETTINGS = {
    **dict.fromkeys(("broker", "broker_url", "broker_read_url", "broker_write_url", "broker_host"), _BROKER),
    **dict.fromkeys(("worker_enable_remote_control", "control_exchange"), _WATCHED),
}
_KEY = re.compile(r"\.?[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


def checked_arguments(parameter: str, value: str) -> str:
    """`value` itself, if a worker can be given these arguments.

    :raises InvalidParameter: when they can't be split, or are Cyme's own.
    """
    for word in _split(parameter, value):
        if word == "--":
            raise InvalidParameter(parameter, "'--' begins settings; use extra_config for them")
        if word.startswith("--"):
            option = word.partition("=")[0]
            if option in LONG:
                raise InvalidParameter(parameter, f"'{option}' can't be given: {LONG[option]}")
        elif word.startswith("-"):
            _check_letters(parameter, word[1:])
        elif "=" in word:
            # A word that is no option is a setting for `celery worker`.
            _check_key(parameter, word.partition("=")[0])
    return value


def checked_settings(parameter: str, value: str) -> str:
    """`value` itself, if it is `key=value` settings.

    :raises InvalidParameter: when it is not, or one of them is Cyme's own.
    """
    for word in _split(parameter, value):
        key, equals, _ = word.partition("=")
        if not equals or not _KEY.fullmatch(key):
            raise InvalidParameter(
                parameter, f"takes key=value settings separated by spaces, not {word[:100]!r}"
            )
        _check_key(parameter, key)
    return value


def _check_key(parameter: str, key: str) -> None:
    """Refuse a setting that is Cyme's own, in either of Celery's spellings."""
    setting = key.lower().replace(".", "_")
    if setting in SETTINGS:
        raise InvalidParameter(parameter, f"'{key}' can't be given: {SETTINGS[setting]}")


def _check_letters(parameter: str, letters: str) -> None:
    """Check one word of short options as click reads it: letters, then perhaps a value."""
    for letter in letters:
        if letter in SHORT:
            raise InvalidParameter(parameter, f"'-{letter}' can't be given: {SHORT[letter]}")
        if letter in SHORT_WITH_VALUE:
            return


def _split(parameter: str, value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError as problem:
        raise InvalidParameter(parameter, f"can't be split as a shell does: {problem}") from None
