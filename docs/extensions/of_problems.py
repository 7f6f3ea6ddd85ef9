"""The kinds of problems that HTTP answers name, from the table that answers them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tables import literal, plain, table

from cyme import errors
from cyme.api import problems


def text() -> str:
    """Every kind with its status and what it means."""
    rows = []
    for kind in _leaves(errors.CymeError):
        status = problems.status_of(kind.__new__(kind))
        if status is None or issubclass(kind, errors.CannotStart):
            continue
        name = problems.document(_named(kind), status)["type"]
        meaning = (kind.__doc__ or _words(kind)).split("\n")[0]
        rows.append((status, name, re.sub(r"\s*\(failure-modes \w+\)", "", meaning)))
    rows.append((500, "urn:cyme:internal-error", "This branch failed; its log has the ``incident`` named."))
    shown = [[str(status), literal(name), plain(meaning)] for status, name, meaning in sorted(rows)]
    return table(("Status", "``type``", "Meaning"), shown, "10 35 55")


def _leaves(kind: type[errors.CymeError]) -> Iterator[type[errors.CymeError]]:
    """The kinds that are raised: those that have no more special one, and say themselves what they mean."""
    for each in kind.__subclasses__():
        if "__init__" in vars(each) or "sentence" in vars(each) or not each.__subclasses__():
            yield each
        yield from _leaves(each)


def _named(kind: type[errors.CymeError]) -> errors.CymeError:
    """An error of the same name, which need not be told what it is about."""
    named: errors.CymeError = type(kind.__name__, (errors.CymeError,), {"sentence": lambda self: ""})()
    return named


def _words(kind: type[errors.CymeError]) -> str:
    """What the name says by itself."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__).capitalize() + "."
