"""A fleet of branches on one broker, without workers: how fast news spread, what an idle cluster says, and
how long a branch takes that was away.

Each simulated branch has the real bus, actors, membership, replication and catalogue, over a store in memory;
some dozens of them share a process. Measured:

  news     from a declaration's commit until each branch has it: median and worst of all branches
  idle     messages and bytes that all branches together receive in a second when nothing happens, and the
           processor time that one of them takes
  return   a branch with an empty database (SQLite) comes: until its catalogue is that of the others, with
           so many declarations, and the longest stall of its reactor meanwhile

Target: no stall over 100 ms. There is no peer: figures to plan with.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from statistics import median
from typing import Any

from machine import Children, a_broker, environment, import_project
from reporting import Report, make_parser

import_project()

#: Seconds that anything may take.
PATIENCE = 300.0
#: Declarations that are written at once.
BATCH = 500
#: Seconds between two looks at the reactor.
PACE = 0.005


# -- in processes of their own --------------------------------------------------------------


class Member:
    """One simulated branch."""

    def __init__(self, reactor: Any, url: str, id: str, store: Any) -> None:
        from cyme.actors import Actors
        from cyme.bus.amqp.bus import AMQPBus
        from cyme.catalogue import Catalogue
        from cyme.membership import Membership
        from cyme.presence import Identity, Presence
        from cyme.replication import Replication

        self.seen: dict[str, float] = {}
        self.received = self.received_bytes = 0
        self.bus = AMQPBus(reactor, url, name=f"bench {id}", retry_policy=lambda _: 1.0)
        self.catalogue = Catalogue(reactor, store, id)
        self.catalogue.subscribe(self._changed)
        self.actors = Actors(reactor, self.bus, id, lambda: self.membership.members())
        receive = self.actors.receive

        def counted(body: bytes) -> Any:
            self.received += 1
            self.received_bytes += len(body)
            return receive(body)

        self.actors.receive = counted  # type: ignore[method-assign]
        presence = Presence(
            Identity(id=id, version="1", loglevel="info", logfile=None, sup_interval=60.0),
            root="/",
            count_instances=lambda: 0,
            getloadavg=os.getloadavg,
            statvfs=os.statvfs,
        )
        replication = Replication(reactor, self.catalogue, self.actors, id)
        self.membership = Membership(
            reactor,
            self.bus,
            self.actors,
            presence,
            replication,
            self.catalogue.digest,
            branch_id=id,
            life=f"{os.getpid()}.{id}",
        )

    def _changed(self, declarations: Any) -> None:
        now = time.time()
        for one in declarations:
            self.seen[one.key[-1]] = now

    async def start(self) -> None:
        await self.catalogue.load()
        await self.actors.start()
        self.membership.start()


def serve_members(url: str, first: int, count: int) -> None:
    """Be some branches; does what lines of JSON on standard input say, and answers each with a line."""
    from twisted.internet import reactor, stdio
    from twisted.internet.defer import Deferred
    from twisted.protocols.basic import LineReceiver

    from cyme.declarations import App, Instance
    from tests.fakes.store import MemoryStore

    clock: Any = reactor
    members = [Member(clock, url, f"b{number}", MemoryStore()) for number in range(first, first + count)]

    async def obey(order: dict[str, Any]) -> Any:
        if order["do"] == "members":
            return min(len(one.membership.members()) for one in members)
        if order["do"] == "digests":
            return sorted({one.catalogue.digest() for one in members})
        if order["do"] == "write":
            apps = [App(name="foo")] if order["start"] == 0 else []
            names = (f"w{number}" for number in range(order["start"], order["start"] + order["count"]))
            wanted = [*apps, *(Instance(name=name, app="foo", branch="b0") for name in names)]
            await members[0].catalogue.change(lambda: wanted)
            return time.time()
        if order["do"] == "seen":
            return [one.seen.get(order["name"], 0.0) for one in members]
        cpu = time.process_time()
        return [sum(one.received for one in members), sum(one.received_bytes for one in members), cpu]

    class Orders(LineReceiver):
        delimiter = b"\n"

        def lineReceived(self, line: bytes) -> None:
            obeying = Deferred.fromCoroutine(obey(json.loads(line)))
            obeying.addCallback(lambda answer: self.sendLine(json.dumps(answer).encode()))
            obeying.addErrback(lambda failure: (failure.printTraceback(), clock.stop()))

        def connectionLost(self, reason: Any) -> None:
            clock.stop()

    async def start() -> None:
        for one in members:
            await one.start()
        stdio.StandardIO(Orders())

    clock.callWhenRunning(lambda: Deferred.fromCoroutine(start()).addErrback(lambda f: f.printTraceback()))
    clock.run()


def serve_late(url: str, digest: str) -> None:
    """Be a branch that comes late; says how long it took to have all, and its reactor's longest stall."""
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.task import LoopingCall

    from cyme.store import SQLStore

    clock: Any = reactor
    folder = tempfile.TemporaryDirectory(prefix="cyme-bench-")
    store = SQLStore(clock, f"sqlite:///{folder.name}/branch.db", "b1")
    store.open()
    member = Member(clock, url, "late", store)
    began = looked = time.perf_counter()
    stall = 0.0

    def look() -> None:
        nonlocal looked, stall
        now = time.perf_counter()
        stall = max(stall, now - looked - PACE)
        looked = now
        if member.catalogue.digest() == digest:
            print(json.dumps([now - began, stall * 1000]), flush=True)
            folder.cleanup()
            # The database's thread need not be waited for.
            os._exit(0)

    def start() -> None:
        nonlocal began, looked
        began = looked = time.perf_counter()
        LoopingCall(look).start(PACE)
        Deferred.fromCoroutine(member.start()).addErrback(lambda failure: failure.printTraceback())

    clock.callWhenRunning(start)
    clock.run()


# -- the conductor ----------------------------------------------------------------------


class Fleet:
    """All processes of the fleet."""

    def __init__(self, children: Children, url: str, branches: int, processes: int) -> None:
        self.branches = branches
        each = -(-branches // processes)
        self._processes = []
        for first in range(0, branches, each):
            count = min(each, branches - first)
            argv = [sys.executable, os.path.abspath(__file__), "--members", url, str(first), str(count)]
            streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": None}
            self._processes.append(children.start(argv, environment(), **streams))

    def ask(self, **order: Any) -> list[Any]:
        """What each process answers."""
        return [self._ask(one, order) for one in self._processes]

    def ask_first(self, **order: Any) -> Any:
        """What the process of the first branch answers."""
        return self._ask(self._processes[0], order)

    @staticmethod
    def _ask(process: Any, order: dict[str, Any]) -> Any:
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise SystemExit("a process of the fleet has ended")
        return json.loads(line)

    def wait(self, what: str, done: Any) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > deadline:
                raise SystemExit(f"after {PATIENCE:g} s still not: {what}")
            time.sleep(0.1)

    def wait_alike(self) -> str:
        """Wait until all hold the same; their digest."""

        def digests() -> set[str]:
            return {digest for those in self.ask(do="digests") for digest in those}

        self.wait("all catalogues are alike", lambda: len(digests()) == 1)
        return digests().pop()


def main() -> None:
    options = make_parser(__doc__, runs=20)
    options.add_argument("--members", nargs=3, help="for its own use")
    options.add_argument("--late", nargs=2, help="for its own use")
    options.add_argument("--branches", type=int, default=100, help="how many branches (100)")
    options.add_argument("--processes", type=int, default=4, help="in how many processes (4)")
    options.add_argument("--declarations", type=int, default=10_000, help="for the one that was away (10000)")
    options.add_argument("--seconds", type=float, default=20.0, help="of idleness (20)")
    given = options.parse_args()
    if given.members:
        url, first, count = given.members
        return serve_members(url, int(first), int(count))
    if given.late:
        return serve_late(*given.late)
    report = Report("fleet", given.json)
    with a_broker(given) as broker, Children() as children:
        measure(given, report, broker, children)


def measure(given: Namespace, report: Report, broker: str, children: Children) -> None:
    began = time.monotonic()
    fleet = Fleet(children, broker, given.branches, given.processes)
    fleet.wait("all know all", lambda: set(fleet.ask(do="members")) == {given.branches})
    report.row(f"{given.branches} branches, until all know all", "s", [time.monotonic() - began])
    middle, worst = [], []
    for number in range(given.runs):
        wrote = fleet.ask_first(do="write", start=number, count=1)
        fleet.wait_alike()
        times = [at - wrote for those in fleet.ask(do="seen", name=f"w{number}") for at in those]
        middle.append(1000 * median(times))
        worst.append(1000 * max(times))
    report.row("news: half of the branches have it", "ms", middle)
    report.row("news: all have it", "ms", worst)
    time.sleep(5)
    before = fleet.ask(do="counts")
    time.sleep(given.seconds)
    after = fleet.ask(do="counts")
    messages, size, cpu = (
        sum(one[part] for one in after) - sum(one[part] for one in before) for part in range(3)
    )
    report.row("idle: received by all together", "/s", [messages / given.seconds])
    report.row("idle: the same in bytes", "B/s", [size / given.seconds])
    each = cpu / given.seconds / given.branches
    report.row("idle: one branch, of a processor", "%", [100 * each])
    for start in range(given.runs, given.declarations, BATCH):
        fleet.ask_first(do="write", start=start, count=min(BATCH, given.declarations - start))
    digest = fleet.wait_alike()
    argv = [sys.executable, os.path.abspath(__file__), "--late", broker, digest]
    found = []
    for _ in range(3):
        late = subprocess.run(argv, env=environment(), stdout=subprocess.PIPE, timeout=PATIENCE, check=True)
        found.append(json.loads(late.stdout))
    report.row(f"return: {given.declarations} declarations", "s", [one[0] for one in found])
    stalls = [one[1] for one in found]
    report.row("return: longest stall of the reactor", "ms", stalls)
    report.target("longest stall of a branch that returns", median(stalls), "ms", at_most=100.0)


if __name__ == "__main__":
    main()
