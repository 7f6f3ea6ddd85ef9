"""Requests that are queued: how many a second are accepted, and how long each 202 takes.

One real branch on a private broker. Each caller posts a small form to
`/foo/queue/http://127.0.0.1:9/import_user?x=1` on a kept connection, and posts again when it has its
202: confirmed by the broker and stored. No worker runs. Beside it, in turn:

  floor   a bare Klein route that reads the same body and answers as many bytes
  flower  `POST /api/task/send-task/NAME`, which awaits no confirm; where Flower is installed

Targets: at least 5 times Flower's rate, or 5 x 367/s where it is not installed, with 10 and 50 callers,
and 0.4 of the floor with 50.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from statistics import quantiles
from typing import Any
from urllib.parse import urlsplit

from branches import Branch
from machine import Children, a_broker, environment, wait_quiet
from reporting import Report, make_parser, median_ratio, sizes

BODY = b"username=George+Costanza"
PATH = "/foo/queue/http://127.0.0.1:9/import_user?x=1"
#: Flower 2.0's rate with 10 callers, measured once.
FLOWER_RATE = 367.0
FLOWER_RATIO, FLOOR_RATIO = 5.0, 0.4


# -- the peers -----------------------------------------------------------------------


def serve_floor(length: int) -> None:
    """Bare Klein: reads a body and answers with so many bytes; says its port first."""
    from klein import Klein
    from twisted.internet import reactor
    from twisted.web.server import Site

    app = Klein()
    answer = b"x" * length

    @app.route("/", methods=["POST"])
    def post(request: Any) -> bytes:
        request.content.read()
        request.setResponseCode(202)
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"content-length", str(length).encode())
        return answer

    clock: Any = reactor
    port = clock.listenTCP(0, Site(app.resource()), interface="127.0.0.1", backlog=1024)
    print(port.getHost().port, flush=True)
    clock.run()


@contextmanager
def floor_server(children: Children, length: int) -> Iterator[str]:
    argv = [sys.executable, os.path.abspath(__file__), "--floor", str(length)]
    process = children.start(argv, environment(), stdout=subprocess.PIPE)
    assert process.stdout is not None
    yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
    children.stop(process)


def start_flower(children: Children, broker: str) -> str | None:
    """The URL to post to, or None where Flower is not installed."""
    if find_spec("flower") is None:
        return None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [sys.executable, "-m", "celery", "-b", broker, "flower", f"--port={port}", "--address=127.0.0.1"]
    children.start(argv, environment(broker) | {"FLOWER_UNAUTHENTICATED_API": "1"})
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return f"http://127.0.0.1:{port}/api/task/send-task/cyme.tasks.webhook"
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("Flower does not start")


# -- the load ------------------------------------------------------------------------


def load(url: str, body: bytes, kind: str, callers: int, seconds: float) -> dict[str, float]:
    """Requests a second and their times in ms: by `wrk`, or by threads of a process of its own."""
    if shutil.which("wrk") is not None:
        return load_with_wrk(url, body, kind, callers, seconds)
    argv = [sys.executable, os.path.abspath(__file__), "--load", url, kind, str(callers), str(seconds)]
    done = subprocess.run(argv, input=body, stdout=subprocess.PIPE, check=True).stdout
    found: dict[str, float] = json.loads(done)
    return found


def load_with_wrk(url: str, body: bytes, kind: str, callers: int, seconds: float) -> dict[str, float]:
    script = (
        f'wrk.method = "POST"\nwrk.body = {json.dumps(body.decode())}\n'
        f'wrk.headers["Content-Type"] = "{kind}"\n'
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        argv = ["wrk", "-t1", f"-c{callers}", f"-d{seconds:g}s", "--latency", "-s", file.name, url]
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout
    if "Non-2xx" in done or "Socket errors" in done:
        raise SystemExit(f"{url} failed under load:\n{done}")
    found = {"rate": float(re.findall(r"Requests/sec:\s+([\d.]+)", done)[0])}
    for cut in ("50", "99"):
        ((number, unit),) = re.findall(rf"\b{cut}%\s+([\d.]+)(us|ms|s)", done)
        found[f"p{cut}"] = float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]
    return found


def serve_load(url: str, kind: str, callers: int, seconds: float) -> None:
    parts = urlsplit(url)
    body = sys.stdin.buffer.read()
    target = url.partition(parts.netloc)[2]
    request = (
        f"POST {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    times: list[float] = []
    end = time.perf_counter() + seconds

    def call() -> None:
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=30) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (began := time.perf_counter()) < end:
                sock.sendall(request)
                head, rest = b"", b""
                while not head:
                    rest += _received(sock)
                    head, _, after = rest.partition(b"\r\n\r\n") if b"\r\n\r\n" in rest else (b"", b"", b"")
                if head.split(b" ", 2)[1] not in (b"200", b"202"):
                    raise SystemExit(f"{url} answered {rest!r}")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                while len(after) < length:
                    after += _received(sock)
                times.append(time.perf_counter() - began)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cuts = quantiles(times, n=100)
    print(json.dumps({"rate": len(times) / seconds, "p50": cuts[49] * 1000, "p99": cuts[98] * 1000}))


def _received(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise SystemExit("the server has closed a connection")
    return data


# -- the comparison ------------------------------------------------------------------


def main() -> None:
    options = make_parser(__doc__, runs=5)
    options.add_argument("--floor", type=int, help="for its own use")
    options.add_argument("--load", nargs=4, help="for its own use")
    options.add_argument("--seconds", type=float, default=3.0, help="of each sample (3)")
    options.add_argument("--callers", type=sizes, default=[1, 10, 50], help="how many at once (1,10,50)")
    given = options.parse_args()
    if given.floor:
        return serve_floor(given.floor)
    if given.load:
        url, kind, callers, seconds = given.load
        return serve_load(url, kind, int(callers), float(seconds))
    report = Report("queue_rate", given.json)
    with a_broker(given) as broker, Branch(broker) as branch, Children() as children:
        measure(given, report, broker, branch, children)


def measure(given: Namespace, report: Report, broker: str, branch: Branch, children: Children) -> None:
    branch.start()
    branch.ask("PUT", "/foo/")
    form = "application/x-www-form-urlencoded"
    accepted = json.dumps(branch.ask("POST", PATH))
    flower = start_flower(children, broker)
    sent = json.dumps({"kwargs": {"body": BODY.decode()}}).encode()
    with floor_server(children, len(accepted)) as floor:
        cases = {"floor": (floor, BODY, form), "cyme": (branch.url + PATH, BODY, form)}
        if flower is not None:
            cases["flower"] = (flower, sent, "application/json")
        for callers in given.callers:
            found: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
            for _ in range(given.runs):
                for name, case in cases.items():
                    wait_quiet(given.wait_quiet)
                    found[name].append(load(*case, callers, given.seconds))
            tell(report, callers, found)


def tell(report: Report, callers: int, found: dict[str, list[dict[str, float]]]) -> None:
    rates = {name: [one["rate"] for one in those] for name, those in found.items()}
    for name, those in found.items():
        report.row(f"{name}, {callers} callers", "/s", rates[name])
        for cut in ("p50", "p99"):
            report.row(f"{name}, {callers} callers: {cut}", "ms", [one[cut] for one in those])
    rate = sorted(rates["cyme"])[len(rates["cyme"]) // 2]
    if callers >= 10:
        beside = "Flower" if "flower" in rates else f"Flower's {FLOWER_RATE:g}/s"
        peer = rates.get("flower", [FLOWER_RATE] * len(rates["cyme"]))
        report.target(
            f"accepted with {callers} callers",
            rate,
            "/s",
            beside=beside,
            ratio=median_ratio(rates["cyme"], peer),
            ratio_at_least=FLOWER_RATIO,
        )
    if callers >= 50:
        report.target(
            f"accepted with {callers} callers",
            rate,
            "/s",
            beside="a bare Klein route",
            ratio=median_ratio(rates["cyme"], rates["floor"]),
            ratio_at_least=FLOOR_RATIO,
        )


if __name__ == "__main__":
    main()
