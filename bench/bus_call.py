"""Calls from one branch to another: how long each takes, one after the other and many at once.

Two processes with the bus over RabbitMQ and actors on it; a call goes to the owner of a name, which
answers: an envelope of JSON each way, each message confirmed and returned if nobody takes it. Beside it,
in turn:

  bare    txamqp as it is: a request to a queue and a reply of as many bytes, nothing confirmed

Targets: at most 1.3 times the time of bare, p50 and p99, one call at a time. A call to a name that nobody
owns is timed too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from statistics import quantiles
from typing import Any
from urllib.parse import unquote, urlsplit

from machine import Children, a_broker, environment, import_project, wait_quiet
from reporting import Report, make_parser, median_ratio

import_project()

#: What a request and its answer measure in JSON.
REQUEST, ANSWER = b"x" * 290, b"x" * 130
QUEUE = "bench.bare"
RATIO = 1.3
#: Calls before those that are counted.
WARM = 200


# -- in processes of their own --------------------------------------------------------------


async def ours(reactor: Any, url: str) -> Any:
    """The actors of a branch, started."""
    from cyme.actors import Actors, verb
    from cyme.bus.amqp.bus import AMQPBus

    class Greeter:
        @verb()
        def greet(self, name: str | None, *, word: str) -> str:
            return word

    bus = AMQPBus(reactor, url, name="bench", retry_policy=lambda _: 1.0)
    actors = Actors(reactor, bus, f"branch{os.getpid()}", lambda: ())
    actors.register("Instance", Greeter(), lambda: ())
    await actors.start()
    return actors, bus


async def serve_ours(reactor: Any, url: str) -> None:
    actors, bus = await ours(reactor, url)
    actors.own("Instance", "w1")
    await bus.settled()


async def ask_ours(reactor: Any, url: str) -> Any:
    actors, _ = await ours(reactor, url)
    return lambda name="w1": actors.call("Instance", name, "greet", word="hello" * 8)


async def bare(reactor: Any, url: str) -> Any:
    """A channel of stock txamqp, whose codec knows no more than what is used here."""
    from twisted.internet.endpoints import HostnameEndpoint
    from txamqp.factory import AMQFactory

    from cyme.bus.amqp import frames

    parts = urlsplit(url)
    factory = AMQFactory(spec=os.path.join(os.path.dirname(frames.__file__), "spec.xml"), clock=reactor)
    factory.set_vhost(unquote(parts.path[1:]) or "/")
    endpoint = HostnameEndpoint(reactor, parts.hostname or "", parts.port or 5672)
    client: Any = await endpoint.connect(factory)
    client.transport.setTcpNoDelay(True)
    await client.authenticate(unquote(parts.username or ""), unquote(parts.password or ""))
    channel = await client.channel(1)
    await channel.channel_open()
    return client, channel


async def serve_bare(reactor: Any, url: str) -> None:
    from twisted.internet.defer import ensureDeferred
    from txamqp.content import Content

    client, channel = await bare(reactor, url)
    await channel.queue_declare(queue=QUEUE, exclusive=True)
    tag = (await channel.basic_consume(queue=QUEUE, no_ack=True)).consumer_tag

    async def answer() -> None:
        queue = await client.queue(tag)
        while True:
            message = await queue.get()
            properties = {"correlation-id": message.content.properties["correlation-id"]}
            content = Content(ANSWER, properties=properties)
            channel.basic_publish(routing_key=message.content.properties["reply-to"], content=content)

    ensureDeferred(answer())


async def ask_bare(reactor: Any, url: str) -> Any:
    from twisted.internet.defer import Deferred, ensureDeferred
    from txamqp.content import Content

    client, channel = await bare(reactor, url)
    inbox = (await channel.queue_declare(exclusive=True)).queue
    tag = (await channel.basic_consume(queue=inbox, no_ack=True)).consumer_tag
    waiting: dict[str, Any] = {}

    async def collect() -> None:
        queue = await client.queue(tag)
        while True:
            message = await queue.get()
            waiting.pop(message.content.properties["correlation-id"]).callback(message.content.body)

    ensureDeferred(collect())

    def call(name: str = "w1") -> Any:
        id = str(time.perf_counter_ns())
        answered: Deferred[bytes] = Deferred()
        waiting[id] = answered
        properties = {"reply-to": inbox, "correlation-id": id}
        channel.basic_publish(routing_key=QUEUE, content=Content(REQUEST, properties=properties))
        return answered

    return call


async def ask(call: Any, options: Namespace) -> None:
    """Call so many times, one after the other, then several at once; print what it took."""
    from twisted.internet.defer import gatherResults

    for _ in range(WARM):
        await call()
    times = []
    for _ in range(options.calls):
        began = time.perf_counter()
        await call()
        times.append(time.perf_counter() - began)
    began = time.perf_counter()
    for _ in range(options.calls // options.at_once):
        await gatherResults([call() for _ in range(options.at_once)])
    rate = options.calls / (time.perf_counter() - began)
    found = {"rate": rate, **cuts(times)}
    if options.role[1] == "ours":
        from cyme.errors import NoRoute

        refusals = []
        for _ in range(100):
            began = time.perf_counter()
            try:
                await call("nobody")
            except NoRoute:
                refusals.append(time.perf_counter() - began)
        found["nobody"] = cuts(refusals)["p50"]
    print(json.dumps(found), flush=True)


def cuts(times: list[float]) -> dict[str, float]:
    """In ms."""
    found = quantiles(times, n=100)
    return {"p50": found[49] * 1000, "p99": found[98] * 1000}


def play(options: Namespace) -> None:
    """Be one of the processes."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred

    reactor: Any = installed
    part, kind = options.role

    async def run() -> None:
        if part == "serve":
            await {"ours": serve_ours, "bare": serve_bare}[kind](reactor, options.broker)
            print("ready", flush=True)
        else:
            await ask(await {"ours": ask_ours, "bare": ask_bare}[kind](reactor, options.broker), options)
            # At once: what a stop would cost, and say, is of no interest.
            os._exit(0)

    def fail(failure: Any) -> None:
        failure.printTraceback()
        os._exit(1)

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(run()).addErrback(fail))
    reactor.run()


# -- the comparison ------------------------------------------------------------------


def main() -> None:
    parser = make_parser(__doc__, runs=7)
    parser.add_argument("--role", nargs=2, help="for its own use")
    parser.add_argument("--calls", type=int, default=2000, help="of each sample (2000)")
    parser.add_argument("--at-once", type=int, default=50, help="calls under way in the second part (50)")
    options = parser.parse_args()
    if options.role:
        return play(options)
    report = Report("bus_call", options.json)
    with a_broker(options) as broker, Children() as children:
        measure(options, report, broker, children)


def measure(options: Namespace, report: Report, broker: str, children: Children) -> None:
    def role(part: str, kind: str) -> Any:
        argv = [sys.executable, os.path.abspath(__file__), "--role", part, kind, "--broker", broker]
        argv += ["--calls", str(options.calls), "--at-once", str(options.at_once)]
        return children.start(argv, environment(), stdout=subprocess.PIPE)

    found: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
    for kind in found:
        if role("serve", kind).stdout.readline() != b"ready\n":
            raise SystemExit(f"{kind} does not start")
    for _ in range(options.runs):
        for kind, those in found.items():
            wait_quiet(options.wait_quiet)
            asking = role("ask", kind)
            those.append(json.loads(asking.stdout.readline()))
            children.stop(asking)
    for kind, those in found.items():
        for cut in ("p50", "p99"):
            report.row(f"{kind}, one at a time: {cut}", "ms", [one[cut] for one in those])
        report.row(f"{kind}, {options.at_once} at once", "/s", [one["rate"] for one in those])
    report.row("ours, to nobody: p50", "ms", [one["nobody"] for one in found["ours"]])
    for cut in ("p50", "p99"):
        own = [one[cut] for one in found["ours"]]
        report.target(
            f"call, {cut}",
            sorted(own)[len(own) // 2],
            "ms",
            beside="bare txamqp",
            ratio=median_ratio(own, [one[cut] for one in found["bare"]]),
            ratio_at_most=RATIO,
        )


if __name__ == "__main__":
    main()
