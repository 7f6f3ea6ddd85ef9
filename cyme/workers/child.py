"""What runs first in each child process of a branch; then Celery, or another program.

It makes the process findable before it makes it useful:

1. It leads a session of its own, so that neither Ctrl-C in the branch's terminal nor the
   branch's end reaches it, and its whole process group can be signalled.
2. It writes its record: who it is. The branch may be killed at any moment; because the
   child itself writes the record, no worker can live that the next start of the branch
   does not know. The record is in place some milliseconds after the process is.
3. `celery -A APP worker ...` runs in this interpreter, since to start a second one would cost
   the time again that the first took; any other command line is exec'ed.

The launcher (`cyme.workers.launcher`) runs this file by its path. It imports nothing but the
standard library, and before the record is written next to nothing of that.

Note [Import path]: Python puts the folder of a script first on `sys.path`. Here that would
be this folder, whose modules are nobody's business but Cyme's, so it is replaced by what
`python -m celery` has there, the working directory. `cyme` itself is imported before that: a
branch that keeps its files in `cyme/branch1` makes a folder `cyme` in the working
directory, and that would pass for a package where Cyme is installed in editable mode.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

#: The environment variables that tell the child about itself. Gone before Celery starts, so
#: that what tasks start does not take itself for a worker.
RECORD = "CYME_CHILD_RECORD"
IDENTITY = "CYME_CHILD_IDENTITY"

#: The file descriptor of the pipe by which it says that it serves: one byte.
READY_FD = 3

#: The module that makes a worker one of Cyme's.
WEBHOOK = "cyme.tasks.webhook"

#: Seconds that a round of the event loop surely takes until its timers; see Note [Ready].
NEXT_ROUND = 0.001


def main() -> None:
    """Become what the command line says."""
    os.setsid()
    os.set_inheritable(READY_FD, False)
    has_folder_on_path = not getattr(sys.flags, "safe_path", False)
    if has_folder_on_path:
        # See Note [Import path].
        del sys.path[0]
    write_record(os.environ.pop(RECORD), os.environ.pop(IDENTITY))
    match sys.argv[1:]:
        case ["celery", "-A", app, "worker", *arguments]:
            import cyme  # noqa: F401

            if has_folder_on_path:
                sys.path.insert(0, os.getcwd())
            run_worker(app, arguments)
        case argv:
            execute(argv)


def write_record(path: str, identity: str) -> None:
    """Write who this process is, for its owner's eyes, in one piece or not at all.

    The record that was there stays as `PATH.before`. A branch that was killed right after its
    worker has perhaps not yet put back what that one held; its next start still knows whose to
    put back, though this process lives by then.
    """
    import json
    import time

    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        # Field 22; see `cyme.workers.proc.parse_stat`, which is too much to import here.
        start_ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    record = {
        "pid": os.getpid(),
        "start_ticks": start_ticks,
        "boot_id": boot_id,
        "started_at": time.time(),
        "identity": identity,
    }
    new = f"{path}.{os.getpid()}"
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(record, file)
    for keep, names in ((os.unlink, [f"{path}.before"]), (os.link, [path, f"{path}.before"])):
        try:
            keep(*names)
        except OSError:
            pass  # there is none, or the file system has no links
    os.rename(new, path)


def execute(argv: list[str]) -> None:
    """Become another program."""
    try:
        os.execvp(argv[0], argv)
    except OSError as problem:
        # 127, as a shell says it.
        print(f"{argv[0]} can't be run: {problem}", file=sys.stderr, flush=True)
        os._exit(127)


def run_worker(app: str, arguments: list[str]) -> NoReturn:
    """Run `celery -A APP worker ...` in this process, and say when the worker serves.

    Note [Lean command line]: this calls the `worker` command just as `celery.bin.celery` does,
    without importing that module: it imports every other command too, a REPL among them, and
    whatever plug-ins of Celery's command line are installed. Without them a worker needs a
    quarter less processor time until it serves (Celery 5.7).
    """
    # So that one log tells the lives apart, see Note [Lives in one log] in cyme.supervisor.reasons.
    print(f"[cyme] process {os.getpid()} begins", flush=True)
    # SIGHUP makes Celery exec `python ARGV[0] ...`, which works with its console script only.
    # What is imported here it has to be told, then.
    celery = os.path.join(os.path.dirname(sys.executable), "celery")
    sys.argv = [celery, *sys.argv[2:5], f"--include={WEBHOOK}", *sys.argv[5:]]
    # Pool processes are forked before the worker serves, and would hold the pipe.
    os.register_at_fork(after_in_child=close_ready)

    from celery import maybe_patch_concurrency

    # For eventlet and gevent, before anything else of Celery is imported.
    maybe_patch_concurrency()

    from celery.app.utils import find_app
    from celery.bin.base import CLIContext
    from celery.bin.worker import worker
    from celery.signals import worker_ready

    try:
        found = find_app(app)
    except Exception:
        import traceback

        traceback.print_exc()
        sys.exit(f"Unable to load the Celery app {app}")
    # Whatever app it is, its workers make requests for the branch, and tell how tasks ended.
    __import__(WEBHOOK)
    worker_ready.connect(when_ready, weak=False)
    for kind in ("worker", "preload"):
        worker.params.extend(found.user_options.get(kind, ()))
    worker.main(
        arguments,
        prog_name="celery worker",
        auto_envvar_prefix="CELERY_WORKER",
        obj=CLIContext(app=found, no_color=True, workdir=None),
    )
    raise AssertionError("a click command ends the process")


def when_ready(sender: Any, **_: object) -> None:
    """Take Celery's signal that a worker is ready, and pass it on when it is true.

    Note [Ready]: with AMQP the worker's queues exist by now, and a ping waits in one until it is
    answered. A transport like Redis subscribes to broadcasts only in the first round of the
    event loop, which is about to begin; a ping before that is lost. What is called soon is
    called in this round, before that; what it puts off is called in the next.

    :param sender: Celery's `Consumer`.
    """
    if sender.hub is None or sender.connection.transport.driver_type == "amqp":
        say_ready()
    else:
        sender.hub.call_soon(sender.hub.call_later, NEXT_ROUND, say_ready)


def say_ready() -> None:
    """Tell the launcher that the worker serves; it may be gone."""
    try:
        os.write(READY_FD, b"1")
    except OSError:
        pass
    close_ready()


def close_ready() -> None:
    """Close this process's end of the pipe, once."""
    global READY_FD
    fd, READY_FD = READY_FD, -1
    if fd >= 0:
        os.close(fd)


if __name__ == "__main__":
    main()
