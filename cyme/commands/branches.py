"""`cyme branches` and `cyme events`."""

from __future__ import annotations

from typing import Any

import click

from cyme.commands.context import State, each, family, leaf
from cyme.commands.instances import print_events
from cyme.commands.main import main

_HEADERS = ("ID", "URL", "VERSION", "INSTANCES", "LOAD", "CPUS", "DISK", "CORDONED", "LABELS")


@family(main, "branches", "cyme branches", "cyme branches get branch1", "cyme branches drain branch1")
def branches(ctx: click.Context) -> None:
    """The branches of the cluster."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_branches)


def _show(state: State) -> None:
    client = state.client
    ids = client.branches.all()
    if state.is_for_programs:
        state.show(list(ids))
        return
    rows: list[list[Any]] = []
    for info in each(ids, client.branch_info):
        load = info.get("load_average")
        disk = info.get("disk_use")
        labels = [f"{name}={value}" for name, value in (info.get("labels") or {}).items()]
        rows.append(
            [info.get("id"), info.get("url"), info.get("version"), info.get("instances")]
            + [load[0] if load else None, info.get("cpus"), None if disk is None else f"{disk:g}%"]
            + [info.get("is_cordoned"), labels]
        )
    state.show_table(None, _HEADERS, rows)


@leaf(branches, "list", "cyme branches list", "cyme branches list --json")
def list_branches(state: State) -> None:
    """List the live branches (as JSON: their ids)."""
    _show(state)


@leaf(branches, "all", "cyme branches.all", hidden=True)
def all_branches(state: State) -> None:
    """List the live branches: the first Cyme's word for it."""
    _show(state)


@leaf(branches, "get", "cyme branches get branch1")
@click.argument("id")
def get(state: State, id: str) -> None:
    """Show what a branch says of itself."""
    state.show(state.client.branch_info(id))


def _verb(verb: str, sentence: str, help: str) -> None:
    @leaf(branches, verb, f"cyme branches {verb} branch1", help=help)
    @click.argument("id")
    def change(state: State, id: str) -> None:
        answer = getattr(state.client.branch(id), verb)(nowait=state.nowait)
        state.done(f"branch {id} {sentence}", answer)


_verb("cordon", "takes no new instances", "Have a branch take no new instances.")
_verb("uncordon", "takes new instances", "Have a branch take new instances again; ends a drain.")
_verb("drain", "gives its instances to others", "Cordon a branch, and move its instances to others.")
_verb("shutdown", "is stopping", "Stop a branch in good order, as SIGTERM does.")


@leaf(branches, "evacuate", "cyme branches evacuate branch1")
@click.argument("id")
def evacuate(state: State, id: str) -> None:
    """Give the instances of a branch that is away to live ones."""
    state.show(state.client.branch(id).evacuate(nowait=state.nowait))


@leaf(main, "events", "cyme events", "cyme events -f", "cyme events --since 1000 --json")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens.")
@click.option("--since", type=int, help="Id of the last event that is known.")
def events(state: State, follow: bool, since: int | None) -> None:
    """Print what happened on the branch that is asked, and why."""
    print_events(state, state.client.events, follow, since)
