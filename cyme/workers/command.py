"""What a worker is started with: pure functions from `Desired` to argv and environment."""

from __future__ import annotations

from collections.abc import Mapping

from cyme.planning import Desired
from cyme.workers.folders import Files

#: Settings that all workers get. They come before the user's own, so that those win.
SETTINGS = (
    # An outage of the broker is waited out, however long it takes (failure-modes F13).
    "broker_connection_max_retries=(json)null",
    "broker_connection_retry_on_startup=yes",
)

#: By these Celery takes the broker; all three, since what an app says about one of them in its
#: own configuration wins over the environment's `CELERY_BROKER_URL` (`celery.app.utils.Settings`).
BROKER_VARIABLES = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")

#: What a branch may have in its environment and a worker must not get: other names of the broker
#: (`celery.bin.celery`), and systemd's arrangements with the branch.
_NOT_FOR_WORKERS = frozenset(
    {"BROKER_URL", "CELERY_BROKER", "LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID"}
    | {"MAINPID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"}
)


def worker_argv(desired: Desired, files: Files, loglevel: str) -> tuple[str, ...]:
    """The command line of a worker, without secrets: `ps` shows it to everybody.

    Neither gossip nor mingle (failure-modes F22); an autoscaler only where the pool can grow (F7).

    :param loglevel: Celery's name of a log level.
    """
    if desired.autoscales:
        size = f"--autoscale={desired.max_concurrency},{desired.min_concurrency}"
    else:
        size = f"--concurrency={desired.max_concurrency}"
    return (
        *("celery", "-A", desired.celery_app, "worker"),
        *("-n", desired.node, "-Q", desired.private_queue, f"--pool={desired.pool}", size),
        *(f"--pidfile={files.pid}", f"--logfile={files.log}", f"--statedb={files.statedb}"),
        *(f"--loglevel={loglevel}", "--without-gossip", "--without-mingle"),
        *desired.arguments,
        *SETTINGS,
        *desired.extra_config,
    )


def worker_env(inherited: Mapping[str, str], desired: Desired) -> dict[str, str]:
    """The environment of a worker: the branch's, less what is the branch's own, and the broker.

    :param inherited: the branch's environment. What begins with `CYME_` is left out: those
        are its options, secrets among them.
    """
    env = {
        name: value
        for name, value in inherited.items()
        if name not in _NOT_FOR_WORKERS and not name.startswith("CYME_")
    }
    env.update(dict.fromkeys(BROKER_VARIABLES, desired.broker))
    return env
