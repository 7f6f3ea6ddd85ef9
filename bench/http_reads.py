"""Reads over HTTP: requests per second and latency, as a ratio to what Klein alone allows.

Two servers, started in one run on loopback and loaded in turn, so that whatever else the
machine does hits both alike:

  floor  a bare Klein route that answers with bytes kept ready, nothing else
  cyme   the API's site over a controller that holds 100 instances in memory

Both answer with the same number of bytes. The load is `wrk` where it is installed, else
threads of a process of its own (good for a ratio, not for a figure).

  python bench/http_reads.py [--runs 5] [--seconds 3] [--callers 1,10,50]

With `--url NAME=URL` (several times) a server that runs already is measured in cyme's place, with
the paths of that URL against a floor that answers the same bytes.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

HERE = os.path.dirname(os.path.abspath(__file__))
PATHS = {"list": "/foo/instances/", "one": "/foo/instances/worker-50/"}


def details(number: int) -> dict[str, Any]:
    """An instance as the API shows it."""
    return {
        "name": f"worker-{number}",
        "app": "foo",
        "branch": "branch1",
        "is_enabled": True,
        "queues": ["celery", "images", f"own-{number}"],
        "max_concurrency": 4,
        "min_concurrency": 1,
        "broker": {
            "hostname": "127.0.0.1",
            "port": 5672,
            "userid": "guest",
            "password": "guest",
            "virtual_host": "/",
            "transport": "amqp",
            "url": "amqp://guest:**@127.0.0.1:5672//",
        },
        "celery_app": "proj.celery:app",
        "pool": "prefork",
        "arguments": "--prefetch-multiplier 4",
        "extra_config": "task_acks_late=1",
        "created_at": 1700000000.0,
        "state": "running",
        "pid": 1000 + number,
        "node": f"worker-{number}@host",
        "started_at": 1700000000.0,
        "last_pong": 1700000060.0,
        "last_exit": None,
        "failures": 0,
        "next_attempt": None,
        "problems": [],
    }


# -- the servers --------------------------------------------------------------


def listen(site: Any) -> None:
    """Serve until told to end; say the port on the first line of the output."""
    from twisted.internet import reactor

    port: Any = reactor.listenTCP(0, site, interface="127.0.0.1", backlog=1024)
    print(port.getHost().port, flush=True)
    reactor.run()


def serve_floor() -> None:
    """Bare Klein: `/0`, `/1` … answer with the bodies that came on standard input."""
    from klein import Klein
    from twisted.web.server import Site

    bodies: list[bytes] = [body.encode() for body in json.load(sys.stdin)]
    app = Klein()

    @app.route("/<int:number>", methods=["GET"])
    def get(request: Any, number: int) -> bytes:
        request.setHeader(b"content-type", b"application/json")
        return bodies[number]

    listen(Site(app.resource()))


def serve_cyme() -> None:
    """The API's site over a controller in memory."""
    from twisted.internet import reactor

    sys.path.insert(0, os.path.dirname(HERE))
    from cyme.access.tokenfile import TokenFile
    from cyme.api.site import Limits, make_site
    from tests.fakes.controller import FakeController

    controller = FakeController()
    controller.declared_apps["foo"] = {"name": "foo"}
    for number in range(100):
        controller.declared_instances[f"worker-{number}"] = details(number)
    site = make_site(
        reactor, controller, limits=Limits(), tokens=TokenFile(None),
        allowed_origins=(), check_host=True, readiness=dict
    )
    listen(site)


class Server:
    """One of the servers, as a child process."""

    def __init__(self, name: str, text: str = "") -> None:
        command = [sys.executable, os.path.abspath(__file__), "--serve", name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(text)
        self.process.stdin.close()
        self.base = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


# -- the load -----------------------------------------------------------------


def load(url: str, callers: int, seconds: float) -> tuple[float, float]:
    """Requests per second and the 99th percentile of the latency in ms, at full load."""
    if shutil.which("wrk") is None:
        return load_with_threads(url, callers, seconds)
    done = subprocess.run(
        ["wrk", "-t1", f"-c{callers}", f"-d{seconds:g}s", "--latency", url],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    if "Non-2xx" in done or "Socket errors" in done:
        raise SystemExit(f"{url} failed under load:\n{done}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done)
    late = re.search(r"99%\s+([\d.]+)(us|ms|s)", done)
    assert rate is not None and late is not None, done
    return float(rate[1]), float(late[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[late[2]]


def load_with_threads(url: str, callers: int, seconds: float) -> tuple[float, float]:
    """The same with what Python brings along."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    end = time.monotonic() + seconds
    latencies: list[float] = []

    def call() -> None:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while (began := time.monotonic()) < end:
            connection.request("GET", parts.path)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"{url} answered {answer.status}")
            latencies.append(time.monotonic() - began)
        connection.close()

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(latencies) / seconds, statistics.quantiles(latencies, n=100)[98] * 1000


# -- the comparison -----------------------------------------------------------


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--serve", choices=["floor", "cyme"], help=argparse.SUPPRESS)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--seconds", type=float, default=3.0)
    options.add_argument("--callers", default="1,10,50")
    options.add_argument("--url", action="append", default=[], metavar="NAME=URL")
    given = options.parse_args()
    if given.serve:
        return serve_floor() if given.serve == "floor" else serve_cyme()

    ours = None if given.url else Server("cyme")
    urls = dict(pair.split("=", 1) for pair in given.url)
    if ours is not None:
        urls = {name: ours.base + path for name, path in PATHS.items()}
    bodies = []
    for url in urls.values():
        with urlopen(url) as answer:
            bodies.append(answer.read().decode())
    floor = Server("floor", json.dumps(bodies))
    try:
        print(f"{'':24}{'floor/s':>9}{'cyme/s':>9}{'ratio':>7}{'floor p99 ms':>14}{'cyme p99 ms':>13}")
        for index, (name, url) in enumerate(urls.items()):
            for callers in map(int, given.callers.split(",")):
                pairs = [
                    (
                        load(f"{floor.base}/{index}", callers, given.seconds),
                        load(url, callers, given.seconds),
                    )
                    for _ in range(given.runs)
                ]
                compare(f"{name}, {callers} callers", pairs)
    finally:
        floor.stop()
        if ours is not None:
            ours.stop()


def compare(case: str, pairs: list[tuple[tuple[float, float], tuple[float, float]]]) -> None:
    """Print the medians of the runs of one case, and the median of their ratios."""
    middle = statistics.median
    ratio = middle(own[0] / bare[0] for bare, own in pairs)
    rates = f"{middle(bare[0] for bare, _ in pairs):9.0f}{middle(own[0] for _, own in pairs):9.0f}"
    late = f"{middle(bare[1] for bare, _ in pairs):14.2f}{middle(own[1] for _, own in pairs):13.2f}"
    print(f"{case:24}{rates}{ratio:7.2f}{late}", flush=True)


if __name__ == "__main__":
    main()
