"""The command `cyme`, from what its help is made of."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click
from tables import heading, literal, plain, table

from cyme.commands.main import main


def common() -> str:
    """The options that every command takes."""
    return _options(main, frozenset())


def text() -> str:
    """Every command with its own options and its examples."""
    shared = frozenset(one.name for one in main.params if not getattr(one, "hidden", False))
    parts = []
    for words, command in _commands("cyme", main):
        context = click.Context(command, info_name=words)
        usage = command.get_usage(context).removeprefix("Usage: ")
        parts += [f".. _command-{words.replace(' ', '-')}:\n", heading(literal(words), "~")]
        parts.append(literal(" ".join(usage.split())) + "\n")
        parts += [plain(paragraph) + "\n" for paragraph in _paragraphs(command.help or "")]
        parts.append(_options(command, shared))
        examples = re.search(r"Examples:\n((?:  .*\n?)+)", command.epilog or "")
        if examples is not None:
            lines = ["   " + line.strip() for line in examples[1].rstrip().split("\n")]
            parts.append("\n".join([".. code-block:: text", "", *lines, ""]))
    return "\n".join(part for part in parts if part)


def _commands(words: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name, command in sorted(group.commands.items()):
        if command.hidden:
            continue
        yield f"{words} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(f"{words} {name}", command)


def _paragraphs(help_text: str) -> list[str]:
    cleaned = inspect.cleandoc(help_text.partition("\f")[0]).replace("\b\n", "")
    return [" ".join(paragraph.split()) for paragraph in cleaned.split("\n\n") if paragraph.strip()]


def _options(command: click.Command, without: frozenset[str | None]) -> str:
    rows = []
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden and parameter.name not in without:
            names = [*parameter.opts, *parameter.secondary_opts]
            rows.append([", ".join(map(literal, names)), plain(" ".join((parameter.help or "").split()))])
    return table(("Option", "Meaning"), rows, "35 65")
