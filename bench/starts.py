"""The peers: `celery worker` as people start it, and a lean one."""

from __future__ import annotations

import os
import time
from uuid import uuid4

from machine import BIN, Children, environment
from pidbox import Pidbox

#: The app that all measured workers run.
APP = "cyme.tasks"

#: How a worker is started, beside its name, its queue and one pool process.
STARTS = {
    "celery worker": [],
    "celery worker, lean": ["--without-gossip", "--without-mingle"],
}
LEAN = "celery worker, lean"


def worker_argv(node: str, queue: str, start: str = LEAN) -> list[str]:
    """The command line of a worker of one of `STARTS`."""
    words = [os.path.join(BIN, "celery"), "-A", APP, "worker", "-n", node, "-Q", queue]
    return [*words, "--concurrency=1", "--loglevel=INFO", *STARTS[start]]


def time_start(children: Children, pidbox: Pidbox, broker: str, start: str) -> float:
    """Start a worker, wait for its first pong, and stop it: seconds from exec to pong."""
    tag = uuid4().hex[:8]
    node, queue = f"start-{tag}@bench", f"bench-{tag}"
    began = time.monotonic()
    worker = children.start(worker_argv(node, queue, start), environment(broker))
    took = pidbox.first_pong(node) - began
    children.stop(worker)
    pidbox.remove_queue(queue)
    return took
