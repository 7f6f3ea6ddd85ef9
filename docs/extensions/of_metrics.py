"""The metrics of a branch, from what it tells at a scrape."""

from __future__ import annotations

from tables import literal, plain, table

from cyme.metrics.collecting import Known, families
from cyme.metrics.measures import Measures


def text() -> str:
    """Every metric with its type, its labels and its meaning."""
    rows = []
    for family in families(Known(branch="", version="")):
        labels = tuple(getattr(family, "_labelnames", ()))
        rows.append(_row(family.name, family.type, labels, family.documentation))
    for measure in vars(Measures()).values():
        if hasattr(measure, "_labelnames"):
            [family] = measure.describe()
            rows.append(_row(family.name, family.type, tuple(measure._labelnames), family.documentation))
    return table(("Metric", "Type", "Meaning, and labels"), sorted(rows), "40 12 48")


def _row(name: str, kind: str, labels: tuple[str, ...], meaning: str) -> list[str]:
    suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
    by = f" By {', '.join(map(literal, labels))}." if labels else ""
    return [literal(name + suffix), kind, plain(meaning) + by]
