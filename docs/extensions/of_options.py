"""The options of a branch, from the table that the command line is made of."""

from __future__ import annotations

from tables import heading, literal, plain, table

from cyme.cli import PROCESS_OPTIONS, BranchOptions
from cyme.settings import OPTIONS


def text() -> str:
    """Every option with its variable, its default and its meaning."""
    parts = []
    for option in OPTIONS:
        parts += [f".. _option-{option.name}:\n", heading(literal(f"--{option.name}"), "~")]
        parts.append(plain(option.help) + "\n")
        facts = []
        if option.short:
            facts.append(f"short {literal(f'-{option.short}')}")
        if option.is_flag:
            facts.append("default: off")
        elif option.default is not None:
            facts.append(f"default {literal(option.default)}")
        facts.append(f"environment {literal(option.variable)}")
        facts.append(f"in a file {literal(f'{option.name} =')}")
        line = "; ".join(facts)
        parts.append(f"{line[0].upper()}{line[1:]}.\n")
    return "\n".join(parts)


def of_processes() -> str:
    """The options of `cyme-branch` alone, about its process."""
    rows = [[literal(f"--{option.name}"), plain(option.help)] for option in PROCESS_OPTIONS]
    rows += [[literal(f"--{name}"), plain(str(meaning))] for name, _, meaning in BranchOptions.optFlags]
    return table(("Option", "Meaning"), sorted(rows), "20 80")
