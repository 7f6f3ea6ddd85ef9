"""Results that waited while a branch was down: how fast they are stored, and at what cost.

Tasks are queued, the branch's gateway is stopped, results for all of them are put into its queue, and a
new process collects them: until the last one is stored in SQLite and acknowledged. Beside it the
same messages taken from the broker by py-amqp, decoded and acknowledged in batches, and not stored.

Targets: the reactor is never held up for over 100 ms; the process grows by under 100 MB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from typing import Any

from machine import a_broker, import_project, wait_quiet
from reporting import Report, make_parser, median_ratio

import_project()

RESULTS = "cyme.results.b1"
#: Results for each task: its start, and its end with what a small page answers.
CONTENT = {"status_code": 200, "url": "http://m/x?a=1", "headers": {"content-type": "text/plain"}}
#: Messages that the peer acknowledges together, and a bound for those that are out.
BATCH, PREFETCH = 200, 600
STALL_TARGET, MEMORY_TARGET = 100.0, 100.0


def serve(folder: str, broker: str, count: int) -> None:
    """Collect `count` results; one JSON line with how it went. Runs in a process of its own."""
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.task import LoopingCall

    from tests.functional.gatewayworld import make_gateway, open_store

    clock: Any = reactor
    worst, last = 0.0, time.perf_counter()

    def tick() -> None:
        nonlocal worst, last
        now = time.perf_counter()
        worst, last = max(worst, now - last - 0.01), now

    def memory(key: str) -> float:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith(key))

    async def run() -> None:
        nonlocal worst, last
        store = open_store(folder)
        gateway = make_gateway(store, broker)
        before = memory("VmRSS")
        ticking = LoopingCall(tick)
        worst, last = 0.0, time.perf_counter()
        ticking.start(0.01)
        began, cpu = time.perf_counter(), time.process_time()
        await gateway.startService()
        left = count
        while left:
            done: Deferred[None] = Deferred()
            clock.callLater(0.05, done.callback, None)
            await done
            left = count - await count_of(store)
        seconds = time.perf_counter() - began
        found = {
            "seconds": seconds,
            "cpu": time.process_time() - cpu,
            "stall": worst * 1000,
            "grown": memory("VmHWM") - before,
        }
        print(json.dumps(found), flush=True)
        await gateway.stopService()
        await store.close()
        clock.stop()

    async def count_of(store: Any) -> int:
        return int(await store._run(_thd_count_final))

    Deferred.fromCoroutine(run()).addErrback(lambda failure: (failure.printTraceback(), os._exit(1)))
    clock.run()


def _thd_count_final(connection: Any) -> int:
    return int(connection.exec_driver_sql("SELECT count(*) FROM task WHERE state = 'SUCCESS'").scalar())


def prepare(folder: str, count: int) -> list[str]:
    """Rows of tasks that wait for their results."""
    from twisted.internet import reactor

    from cyme.queued import Issued
    from cyme.store.connecting import in_transaction
    from cyme.store.taskrows import thd_use_broker, thd_write
    from cyme.taskids import TaskIds
    from tests.functional.gatewayworld import open_store

    assert reactor is not None
    store = open_store(folder)
    ids = TaskIds("b1", time.time, lambda bits: 1)
    names = [ids.new() for _ in range(count)]
    now = time.time()
    for start in range(0, count, 1000):
        issued = [Issued(one, "foo", "celery", now, now + 1e6) for one in names[start : start + 1000]]
        assert store._engine is not None
        in_transaction(store._engine, thd_write, issued)
    in_transaction(store._engine, thd_use_broker, broker_of(folder), now + 1e6)
    store.close()
    return names


def broker_of(folder: str) -> str:
    """The broker's URL, which is kept beside the database."""
    with open(os.path.join(folder, "broker"), encoding="utf-8") as file:
        return file.read()


def fill(broker: str, names: list[str]) -> None:
    """Put a result for each task into the branch's queue."""
    from kombu.connection import Connection

    with Connection(broker) as connection:
        channel = connection.channel()
        channel.queue_declare(RESULTS, durable=True, auto_delete=False)
        for name in names:
            body = {"task_id": name, "status": "SUCCESS", "result": {**CONTENT, "content": "x" * 1000}}
            message = channel.prepare_message(
                json.dumps(body).encode(),
                content_type="application/json",
                content_encoding="utf-8",
                properties={"correlation_id": name, "delivery_mode": 2},
            )
            channel._basic_publish(message, "", RESULTS)
        # Answered once all before it are taken in.
        channel.queue_declare(RESULTS, passive=True)


def take(broker: str, count: int) -> float:
    """The peer: take all, decode them, acknowledge; the seconds."""
    from kombu.connection import Connection

    with Connection(broker) as connection:
        channel = connection.channel()
        channel.basic_qos(0, PREFETCH, False)
        taken = 0

        def on_message(message: Any) -> None:
            nonlocal taken
            json.loads(message.body)
            taken += 1
            if taken % BATCH == 0 or taken == count:
                channel.basic_ack(message.delivery_tag, multiple=True)

        began = time.perf_counter()
        channel.basic_consume(RESULTS, callback=on_message)
        while taken < count:
            connection.drain_events(timeout=60)
        seconds = time.perf_counter() - began
    return seconds


def main() -> None:
    options = make_parser(__doc__, runs=3)
    options.add_argument("--serve", nargs=3, metavar=("FOLDER", "BROKER", "COUNT"), help="for its own use")
    options.add_argument("--count", type=int, default=100_000, help="results that wait (100,000)")
    given = options.parse_args()
    if given.serve:
        return serve(given.serve[0], given.serve[1], int(given.serve[2]))
    report = Report("results_after_downtime", given.json)
    with a_broker(given) as broker:
        measure(given, report, broker)


def measure(given: Namespace, report: Report, broker: str) -> None:
    ours: list[dict[str, float]] = []
    theirs: list[float] = []
    for _ in range(given.runs):
        with tempfile.TemporaryDirectory(prefix="cyme-bench-") as folder:
            with open(os.path.join(folder, "broker"), "w", encoding="utf-8") as file:
                file.write(broker)
            names = prepare(folder, given.count)
            fill(broker, names)
            wait_quiet(given.wait_quiet)
            argv = [sys.executable, os.path.abspath(__file__), "--serve", folder, broker, str(given.count)]
            done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout
            ours.append(json.loads(done.splitlines()[-1]))
        fill(broker, names)
        wait_quiet(given.wait_quiet)
        theirs.append(take(broker, given.count))
    rates = [given.count / one["seconds"] for one in ours]
    peer = [given.count / seconds for seconds in theirs]
    rate = report.row("stored and acknowledged", "/s", rates)
    report.row("taken, decoded and acknowledged by py-amqp", "/s", peer)
    report.row("processor time of each", "us", [1e6 * one["cpu"] / given.count for one in ours])
    stall = report.row("longest stall of the reactor", "ms", [one["stall"] for one in ours])
    grown = report.row("memory above the start", "MB", [one["grown"] for one in ours])
    report.target(
        "results stored after a downtime",
        rate,
        "/s",
        beside="py-amqp, not stored",
        ratio=median_ratio(rates, peer),
        ratio_at_least=0.25,
    )
    report.target("longest stall of the reactor", stall, "ms", at_most=STALL_TARGET)
    report.target("memory above the start", grown, "MB", at_most=MEMORY_TARGET)


if __name__ == "__main__":
    main()
