"""What a branch says of each reason why a worker ended."""

from __future__ import annotations

from tables import literal, plain, table

from cyme.exits import EXPLANATIONS, RULES, Wait

#: The waits in words.
_WAITS = {
    Wait.GROWING: "none at first, then 1 s, 2 s, 4 s and so on, up to a minute",
    Wait.GROWING_FROM_THE_FIRST: "1 s, 2 s, 4 s and so on, up to a minute",
    Wait.STEADY: "five to ten seconds",
    Wait.ONCE_THEN_STEADY: "none at first, then five to ten seconds",
    Wait.LONG: "a minute",
}


def text() -> str:
    """Every reason with its wait, whether it counts, and its explanation."""
    rows = []
    for reason, explanation in EXPLANATIONS.items():
        rule = RULES[reason]
        if reason.value == "stopped":
            wait, counts = "started again only when it is to run", "no"
        else:
            wait, counts = _WAITS[rule.wait], "yes" if rule.counts else "no"
        rows.append([literal(reason.value), plain(explanation), wait, counts])
    titles = ("Reason", "What the branch says of it", "Wait before the next start", "Counts")
    return table(titles, rows, "20 45 25 10")
