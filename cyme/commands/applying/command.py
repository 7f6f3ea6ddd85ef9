"""`cyme apply`: prints the plan, then does it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from cyme.client import Client, errors
from cyme.commands.applying.files import BadFile, Cluster, read
from cyme.commands.applying.plan import ActualApp, Step, World, plan
from cyme.commands.context import ANSWER_IS_NO, REFUSED, State, each, leaf, style
from cyme.commands.main import main
from cyme.commands.output import cell, printable, size

_MARKS = {"create": ("+", "green"), "delete": ("-", "red")}


def world_of(client: Client, cluster: Cluster) -> World:
    """What there is of the apps that a file names."""
    world: dict[str, ActualApp] = {}
    there = set(client.all())
    for name in cluster:
        if name not in there:
            continue
        app = client.get(name)
        queues = each(app.queues.all(), lambda one, app=app: (one, app.queues.get(one).info))  # type: ignore[misc]
        instances = each(app.instances.all(), lambda one, app=app: (one, app.instances.get(one).info))  # type: ignore[misc]
        world[name] = ActualApp(info=app.info, queues=dict(queues), instances=dict(instances))
    return world


def carry_out(client: Client, step: Step, wait: float | None) -> None:
    """Do one step."""
    app = client.app(step.app)
    parameters: dict[str, Any] = dict(step.parameters)
    if step.kind == "app":
        client.add(step.name, **parameters)
    elif step.kind == "queue":
        if step.verb == "delete":
            app.queues.delete(step.name)
        elif step.verb in ("create", "change"):
            app.queues.add(step.name, **parameters)
        else:
            getattr(app.queues.get(step.name), step.verb)()
    elif step.verb == "delete":
        app.instances.delete(step.name)
    else:
        app.instances.add(step.name, wait=wait, **parameters)


def described(steps: Iterable[Step], details: bool) -> list[str]:
    """A plan for people, a line for each step, and with details one for each field."""
    lines = []
    for step in steps:
        mark, colour = _MARKS.get(step.verb, ("~", "yellow"))
        lines.append(style(f"{mark} {step.sentence()}", colour))
        if details or step.verb == "change":
            for name, (before, after) in step.changes.items():
                arrow = f"{_told(name, before)} -> " if before is not None else ""
                lines.append(f"    {name}: {arrow}{_told(name, after)}")
    return [printable(line) if "\x1b" not in line else line for line in lines]


def _told(name: str, value: Any) -> str:
    return size(value) if name == "max_memory" and value else cell(value)


def as_json(steps: Iterable[Step]) -> list[dict[str, Any]]:
    """A plan for programs, without secrets."""
    return [
        {
            "verb": step.verb,
            "kind": step.kind,
            "app": step.app,
            "name": step.name,
            "changes": {
                name: {"before": before, "after": after} for name, (before, after) in step.changes.items()
            },
        }
        for step in steps
    ]


@leaf(
    main,
    "apply",
    "cyme apply -f cluster.yaml --diff",
    "cyme apply -f cluster.yaml",
    "cyme apply -f cluster.yaml --prune --wait 60",
)
@click.option(
    "-f", "--file", "stream", type=click.File("r", encoding="utf-8"), required=True, help="- for stdin."
)
@click.option(
    "--diff", is_flag=True, help="Print what differs, and do nothing; exit status 5 if something does."
)
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option(
    "--prune", is_flag=True, help="Delete queues and instances of these apps that are not in the file."
)
@click.option("--wait", type=float, help="Seconds to wait for each new worker to answer.")
def apply(state: State, stream: Any, diff: bool, dry_run: bool, prune: bool, wait: float | None) -> None:
    """Make the cluster as a file declares it: apps, queues, and groups of instances.

    Prints the plan, then does it, step by step; what is so already is not touched, so that a second
    time nothing is done. What the file does not name stays, but for members of a group beyond its
    count; --prune deletes the rest, too. It stops at the first step that fails; run it again then.
    """
    try:
        cluster = read(stream.read())
    except (BadFile, UnicodeDecodeError) as problem:
        click.echo(f"cyme: {stream.name}: {problem}", err=True)
        raise SystemExit(REFUSED) from None
    client = state.client
    steps = plan(cluster, world_of(client, cluster), prune=prune)
    if diff or dry_run:
        state.show(as_json(steps), lambda: described(steps, diff) or ["nothing to do"])
        raise SystemExit(ANSWER_IS_NO if diff and steps else 0)
    if state.is_for_programs:
        _do(client, steps, wait, lambda _: None)
        state.show(as_json(steps))
        return
    for line in described(steps, False):
        click.echo(line)
    if steps:
        click.echo()
    _do(client, steps, wait, click.echo)
    click.echo(f"{len(steps)} steps done" if steps else "nothing to do")


def _do(client: Client, steps: list[Step], wait: float | None, say: Any) -> None:
    for number, step in enumerate(steps, 1):
        try:
            carry_out(client, step, wait)
        except errors.ClientError:
            click.echo(f"cyme: step {number} of {len(steps)} failed: {step.sentence()}", err=True)
            raise
        say(f"[{number}/{len(steps)}] {step.sentence()}: done")


__all__ = ["apply", "as_json", "carry_out", "described", "world_of"]
