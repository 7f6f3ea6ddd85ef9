"""A scrape of a branch with many instances, as a ratio to what prometheus_client alone takes.

  floor  prometheus_client writes as many plain gauges with two labels as the scrape has samples
  cyme   the scraper over a catalogue in memory, from the question to the text

  python bench/metrics.py [--instances 1000] [--runs 20]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
RESOURCES = {"rss": 100_000_000, "cpu_seconds": 12.5, "processes": 3, "open_files": 20}


def make_scraper(count: int) -> tuple[Any, Any]:
    """A scraper over `count` running instances, and its clock."""
    from twisted.internet.defer import succeed
    from twisted.internet.task import Clock

    from cyme.catalogue import Catalogue
    from cyme.declarations import App, Instance
    from cyme.metrics.collecting import Known
    from cyme.metrics.measures import Measures
    from cyme.metrics.restarts import Restarts
    from cyme.metrics.scraping import Scraper
    from tests.fakes.store import MemoryStore
    from tests.fakes.supervisor import FakeSupervisor

    class Running(FakeSupervisor):
        def status(self, instance: Any) -> Any:
            times = {"started_at": 1e9, "last_pong": 1e9}
            return {**super().status(instance), **times, "state": "running", "resources": RESOURCES}

    clock = Clock()
    catalogue = Catalogue(clock, MemoryStore(), "b1")
    catalogue.load()
    instances = [Instance(name=f"worker-{number}", app="foo", branch="b1") for number in range(count)]
    catalogue.change(lambda: [App(name="foo"), *instances])
    scraper = Scraper(
        clock=clock,
        catalogue=catalogue,
        supervisor=Running(),
        branch_id="b1",
        measures=Measures(),
        restarts=Restarts(),
        known=lambda: Known(branch="b1", version="1"),
        in_thread=lambda render: succeed(render()),
    )
    return scraper, clock


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--instances", type=int, default=1000)
    options.add_argument("--runs", type=int, default=20)
    asked = options.parse_args()

    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    scraper, clock = make_scraper(asked.instances)
    text: list[bytes] = []

    def scrape() -> None:
        text.clear()
        scraper.text().addCallback(text.append)
        clock.advance(0)

    scrape()
    samples = sum(not line.startswith(b"#") for line in text[0].splitlines())
    registry = CollectorRegistry()
    gauge = Gauge("floor", "A gauge.", ("app", "name"), registry=registry)
    for number in range(samples):
        gauge.labels("foo", f"worker-{number}").set(number)
    took: dict[str, list[float]] = {"floor": [], "cyme": []}
    for _ in range(asked.runs):
        for name, work in (("floor", lambda: generate_latest(registry)), ("cyme", scrape)):
            begun = time.perf_counter()
            work()
            took[name].append(1000 * (time.perf_counter() - begun))
    floor, cyme = (statistics.median(took[name]) for name in ("floor", "cyme"))
    print(f"{asked.instances} instances, {samples} samples")
    print(f"floor {floor:.1f} ms, cyme {cyme:.1f} ms, ratio {cyme / floor:.2f}")


if __name__ == "__main__":
    main()
