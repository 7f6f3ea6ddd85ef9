"""What a monitoring system reads at `/metrics`, as Prometheus has it.

A branch tells of itself and of what only it knows: its own instances, its bus, its catalogue, its HTTP
requests. The depths of queues are told by the branch that counts them, the first of those that live.
So every branch is scraped, and nothing is told twice. A scrape asks nobody: it shows what is known, and
so it never waits for a broker; what is not known now has no series. Series end with what they are about.

`measures` counts what happens, as it happens; `collecting` turns what is known at a scrape into
families; `scraping` does both together, a bit at a time. Names are those of the conventions of
Prometheus: base units, `_total` for what only grows.
"""
