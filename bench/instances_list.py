"""`GET /foo/instances/` with 10,000 instances that 20 branches own, beside the same of one branch alone.

Reads are answered from what a branch holds itself. One real branch on a database that has the instances,
disabled so that no worker runs; in one case it owns all of them, in the other one in twenty, and the
other owners are away. One caller on a kept connection; the two cases take turns.

Target: p50 at most 1.1 times that of one owner.
"""

from __future__ import annotations

import http.client
import json
import os
import sqlite3
import time
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from branches import Branch
from machine import a_broker, wait_quiet
from reporting import Report, make_parser, median_ratio

RATIO = 1.1
ONE, MANY = "one owner", "20 owners"


def fill(branch: Branch, instances: int, owners: int) -> None:
    """Give a branch's database instances, copies of one that was made over HTTP."""
    branch.start()
    branch.ask("PUT", "/foo/")
    branch.ask("PUT", "/foo/instances/w/?is_enabled=false")
    branch.stop()
    with sqlite3.connect(os.path.join(branch.root, "branch.db")) as database:
        database.row_factory = sqlite3.Row
        (row,) = database.execute("select * from instance where name = 'w'").fetchall()
        columns = row.keys()
        rows = []
        for number in range(instances - 1):
            owner = row["branch"] if number % owners == 0 else f"other{number % owners}"
            values = {**dict(row), "name": f"w{number}", "branch": owner}
            rows.append([values[column] for column in columns])
        marks = ", ".join("?" * len(columns))
        database.executemany(f"insert into instance ({', '.join(columns)}) values ({marks})", rows)
    database.close()


def read(branch: Branch, count: int, instances: int) -> float:
    """Milliseconds of the median of so many reads."""
    parts = urlsplit(branch.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    times = []
    for _ in range(count):
        began = time.perf_counter()
        connection.request("GET", "/foo/instances/")
        answer: Any = connection.getresponse().read()
        times.append(1000 * (time.perf_counter() - began))
    if len(json.loads(answer)) != instances:
        raise RuntimeError(f"{answer[:200]!r}")
    connection.close()
    return median(times)


def main() -> None:
    options = make_parser(__doc__, runs=5)
    options.add_argument("--instances", type=int, default=10_000, help="how many (10000)")
    options.add_argument("--count", type=int, default=100, help="reads of each sample (100)")
    given = options.parse_args()
    report = Report("instances_list", given.json)
    found: dict[str, list[float]] = {ONE: [], MANY: []}
    with a_broker(given) as broker, Branch(broker) as one, Branch(broker) as many:
        for branch, owners in ((one, 1), (many, 20)):
            fill(branch, given.instances, owners)
        for _ in range(given.runs):
            for name, branch in ((ONE, one), (MANY, many)):
                # One at a time: on one broker they would tell each other what they have.
                branch.start()
                read(branch, 20, given.instances)
                wait_quiet(given.wait_quiet)
                found[name].append(read(branch, given.count, given.instances))
                branch.stop()
    for name, values in found.items():
        report.row(f"{given.instances} instances, {name}: p50", "ms", values)
    report.target(
        "a list of instances that many branches own",
        median(found[MANY]),
        "ms",
        beside="the same of one owner",
        ratio=median_ratio(found[MANY], found[ONE]),
        ratio_at_most=RATIO,
    )


if __name__ == "__main__":
    main()
