"""From a request that is queued to its result in hand, over HTTP.

A real branch with one worker of its own app, and a web server that answers at once. A caller posts to
`/foo/queue/http://.../` and then asks for `/foo/query/UUID/wait/`, one after the other on a kept
connection. Beside it, in turn: Celery's own `delay().get()` of a task that does nothing, with the result
backend `rpc://`, one worker process of the same pool, on the same broker. And, as a second peer without
a target, the same of a task that makes the same request with urllib3.

Target: at most 2 times Celery's median.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

from branches import Branch
from machine import Children, a_broker, environment, wait_quiet
from reporting import Report, make_parser, median_ratio

RATIO_TARGET = 2.0

PEER = """
from celery import Celery
app = Celery("peer", backend="rpc://")
app.conf.task_default_queue = "peer"
app.conf.worker_prefetch_multiplier = 1

@app.task
def nothing():
    return {"status_code": 200}

@app.task
def request(url):
    import urllib3
    headers = {"Content-Type": "text/plain", "Connection": "close"}
    answer = urllib3.request("POST", url, body=b"x", headers=headers)
    return {"status_code": answer.status, "content": answer.data.decode()}
"""


class Handler(BaseHTTPRequestHandler):
    """A web server that answers at once."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        pass


def serve_target() -> None:
    """Be that web server; says its port first."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


@contextmanager
def target_server(children: Children) -> Iterator[str]:
    """One in a process of its own: the caller's interpreter has one lock."""
    argv = [sys.executable, os.path.abspath(__file__), "--target"]
    process = children.start(argv, environment(), stdout=subprocess.PIPE)
    assert process.stdout is not None
    yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
    children.stop(process)


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b"") -> Any:
    connection.request(method, path, body, {"Content-Type": "text/plain"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"{method} {path}: {answer.status} {text!r}")
    return json.loads(text)


def through_cyme(connection: http.client.HTTPConnection, target: str, count: int) -> list[float]:
    """Milliseconds of each."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        task = ask(connection, "POST", f"/foo/queue/{target}", b"x")["uuid"]
        said = ask(connection, "GET", f"/foo/query/{task}/wait/?timeout=30")
        times.append(1000 * (time.perf_counter() - began))
        if said["state"] != "SUCCESS":
            raise RuntimeError(f"{said}")
    return times


def through_celery(task: Any, arguments: tuple[str, ...], count: int) -> list[float]:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        task.delay(*arguments).get(timeout=30)
        times.append(1000 * (time.perf_counter() - began))
    return times


def main() -> None:
    options = make_parser(__doc__, runs=5)
    options.add_argument("--count", type=int, default=200, help="requests of each sample (200)")
    options.add_argument("--target", action="store_true", help="for its own use")
    given = options.parse_args()
    if given.target:
        return serve_target()
    report = Report("submit_to_result", given.json)
    with a_broker(given) as broker, Branch(broker) as branch, Children() as children:
        with target_server(children) as target:
            measure(given, report, broker, branch, children, target)


def measure(
    given: Namespace, report: Report, broker: str, branch: Branch, children: Children, target: str
) -> None:
    branch.start()
    branch.ask("PUT", "/foo/")
    branch.ask("PUT", "/foo/queues/foo/")
    details = branch.ask("POST", "/foo/instances/?wait=30&queues=foo")
    parts = urlsplit(branch.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    path = f"foo/{target}"
    with tempfile.TemporaryDirectory(prefix="cyme-bench-") as folder:
        with open(os.path.join(folder, "bench_peer.py"), "w", encoding="utf-8") as file:
            file.write(PEER)
        argv = [sys.executable, "-m", "celery", "-A", "bench_peer", "worker", "-c", "1", "-P", "prefork"]
        env = environment(broker) | {"PYTHONPATH": folder}
        children.start([*argv, "--without-gossip", "--without-mingle"], env, cwd=folder)
        os.environ["CELERY_BROKER_URL"] = broker
        sys.path.insert(0, folder)
        from bench_peer import nothing, request  # type: ignore[import-not-found]

        samples: dict[str, tuple[Callable[[int], list[float]], list[list[float]]]] = {
            "delay().get() on rpc://": (partial(through_celery, nothing, ()), []),
            "the same of a task that makes the request": (partial(through_celery, request, (target,)), []),
            "queue and wait over HTTP": (partial(through_cyme, connection, path), []),
        }
        for sample, _ in samples.values():
            sample(20)
        for _ in range(given.runs):
            for sample, taken in samples.values():
                wait_quiet(given.wait_quiet)
                taken.append(sample(given.count))
    assert details["state"] == "running", details
    for name, (_, those) in samples.items():
        report.row(f"{name}: p50", "ms", [median(one) for one in those])
        report.row(f"{name}: p99", "ms", [quantiles(one, n=100)[98] for one in those])
    theirs, with_request, p50 = ([median(one) for one in those] for _, those in samples.values())
    report.target(
        "submit to result in hand",
        median(p50),
        "ms",
        beside="delay().get() on rpc://",
        ratio=median_ratio(p50, theirs),
        ratio_at_most=RATIO_TARGET,
    )
    report.row(
        "queue and wait, beside a task that makes the request",
        "x",
        [own / theirs for own, theirs in zip(p50, with_request, strict=True)],
    )


if __name__ == "__main__":
    main()
