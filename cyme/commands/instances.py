"""`cyme instances`: the workers, one by one."""

from __future__ import annotations

import json
from typing import Any

import click

from cyme.client.resources import Instance
from cyme.commands.apps import given, start_options
from cyme.commands.context import ANSWER_IS_NO, State, family, leaf
from cyme.commands.main import main
from cyme.commands.output import INSTANCE_HEADERS, event_line, instance_row, printable

#: The verdicts of `health` with which all is well, or will be.
WELL = frozenset({"ok", "starting", "draining"})


def _section(state: State) -> Any:
    return state.client.instances if state.app is None else state.client.app(state.app).instances


def _instance(state: State, name: str) -> Instance:
    """An instance by its name; nothing is asked."""
    return state.client.instance(name, state.app)


@family(
    main,
    "instances",
    "cyme instances",
    "cyme instances --app foo",
    "cyme instances --app foo add w1 --queues tasks,mail --wait 30",
    "cyme instances log w1 -f",
)
def instances(ctx: click.Context) -> None:
    """The instances: Celery workers, over all branches; of one app with --app."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_instances)


def _show(state: State) -> None:
    section = _section(state)
    if state.is_for_programs:
        state.show(list(section.all()))
        return
    infos = section.details()
    if infos.missing:
        state.note(f"cyme: these branches could not be asked: {', '.join(infos.missing)}")
    rows = [instance_row(info) for info in infos]
    state.show_table(
        None, INSTANCE_HEADERS, rows, "there is no instance; cyme -a APP instances add makes one"
    )


@leaf(instances, "list", "cyme instances list", "cyme instances list --app foo --json")
def list_instances(state: State) -> None:
    """List the instances and how they are (as JSON: their names)."""
    _show(state)


@leaf(instances, "all", "cyme -a foo instances.all", hidden=True)
def all_instances(state: State) -> None:
    """List the instances: the first Cyme's word for it."""
    _show(state)


@leaf(instances, "get", "cyme instances get w1", "cyme instances get w1 --json")
@click.argument("name")
def get(state: State, name: str) -> None:
    """Show an instance: how it is declared, and how it is."""
    state.show(_section(state).get(name).info)


@leaf(
    instances,
    "add",
    "cyme -a foo instances add",
    "cyme -a foo instances add w1 --max-concurrency 4 --queues tasks,mail --wait 30",
    "cyme -a foo instances add w2 --label gpu=yes",
)
@click.argument("name", required=False)
@click.option("--wait", type=float, help="Seconds to wait until its worker answers.")
@click.option("--branch", help="The branch to run on; else the cluster picks one.")
@click.option(
    "--placement",
    type=click.Choice(["round-robin", "least-loaded"]),
    help="How the cluster picks a branch.",
)
@click.option("--label", multiple=True, help="NAME=VALUE that the branch has to have; may be repeated.")
@click.option("--enabled/--disabled", "is_enabled", default=None, help="Whether its worker is to run.")
@click.option("--max-concurrency", type=int, help="The most processes of its pool.")
@click.option("--min-concurrency", type=int, help="The least processes of its pool.")
@click.option("--queues", help="Queues to consume from, separated by commas; all of them declared.")
@start_options
def add(state: State, name: str | None, wait: float | None, queues: str | None, **parameters: Any) -> None:
    """Create an instance, or change it by the options given; without a name it gets a UUID."""
    app = state.client.app(state.require_app())
    more = given(parameters)
    if queues is not None:
        more["queues"] = [queue.strip() for queue in queues.split(",") if queue.strip()]
    made = app.instances.add(name, wait=wait, nowait=state.nowait, **more)
    words = f"  {made.info['state']}" if "state" in made.info else ""
    state.show(made.info, lambda: [f"{made.name}{words}"])


@leaf(instances, "delete", "cyme instances delete w1", "cyme instances delete w1 --nowait")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def delete(state: State, names: tuple[str, ...]) -> None:
    """Delete instances; their workers finish what they run, and stop."""
    for name in names:
        _instance(state, name).delete(nowait=state.nowait)
        state.done(f"instance {name} is deleted")


def _verb(verb: str, sentence: str, help: str) -> None:
    @leaf(instances, verb, f"cyme instances {verb} w1", help=help)
    @click.argument("names", nargs=-1, required=True, metavar="NAME...")
    def change(state: State, names: tuple[str, ...]) -> None:
        for name in names:
            getattr(_instance(state, name), verb)(nowait=state.nowait)
            state.done(f"instance {name} {sentence}")


_verb("restart", "is asked to restart", "Restart workers warmly.")
_verb("enable", "is enabled", "Have workers run.")
_verb("disable", "is disabled", "Have workers stopped, and keep them so.")


@leaf(instances, "drain", "cyme instances drain w1 --deadline 600 --wait 600")
@click.argument("name")
@click.option(
    "--deadline", type=float, help="Seconds after which what still runs is given back; 3600 without it."
)
@click.option("--wait", type=float, help="Seconds to wait for the end of it.")
def drain(state: State, name: str, deadline: float | None, wait: float | None) -> None:
    """Have a worker take no more tasks, finish those that run, and stay stopped."""
    _instance(state, name).drain(deadline=deadline, wait=wait, nowait=state.nowait)
    state.done(f"instance {name} drains")


@leaf(instances, "stats", "cyme instances stats w1", "cyme instances stats w1 --json")
@click.argument("name")
def stats(state: State, name: str) -> None:
    """Show what a worker says of itself, and how it is declared."""
    state.show(_instance(state, name).stats())


@leaf(instances, "health", "cyme instances health w1")
@click.argument("name")
def health(state: State, name: str) -> None:
    """Show whether a worker does its work, and why not; the exit status is 5 if it does not."""
    found = _instance(state, name).health()
    state.show(found)
    if found.get("verdict") not in WELL:
        raise SystemExit(ANSWER_IS_NO)


@leaf(
    instances,
    "autoscale",
    "cyme instances autoscale w1",
    "cyme instances autoscale w1 --max 10 --min 2",
    "cyme instances autoscale w1 10 2",
)
@click.argument("name")
@click.argument("most", type=int, required=False, metavar="[MAX]")
@click.argument("least", type=int, required=False, metavar="[MIN]")
@click.option("--max", "max_", type=int, help="The most processes of its pool.")
@click.option("--min", "min_", type=int, help="The least processes of its pool.")
def autoscale(
    state: State, name: str, most: int | None, least: int | None, max_: int | None, min_: int | None
) -> None:
    """Show the bounds of a pool, changed first where some are given."""
    upper, lower = most if max_ is None else max_, least if min_ is None else min_
    state.show(_instance(state, name).autoscale(max=upper, min=lower, nowait=state.nowait))


@leaf(instances, "log", "cyme instances log w1", "cyme instances log w1 -f --tail 50")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written.")
@click.option("-t", "--tail", type=click.IntRange(0, 10_000), default=100, help="Lines to begin with.")
def log(state: State, name: str, follow: bool, tail: int) -> None:
    """Print the end of a worker's log."""
    one = _instance(state, name)
    lines = one.follow_log(tail) if follow else one.log(max(tail, 1)).splitlines()
    for line in lines:
        click.echo(printable(line.replace("\t", "    ")))


@leaf(instances, "events", "cyme instances events w1", "cyme instances events w1 -f --json")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens.")
@click.option("--since", type=int, help="Id of the last event that is known.")
def events(state: State, name: str, follow: bool, since: int | None) -> None:
    """Print what happened to an instance, and why."""
    print_events(state, _instance(state, name).events, follow, since)


@leaf(instances, "dump", "cyme instances dump w1")
@click.argument("name")
@click.option("--wait", type=float, help="Seconds that the worker has for it; 5 without it.")
def dump(state: State, name: str, wait: float | None) -> None:
    """Print the stacks of a worker's main process."""
    click.echo(_instance(state, name).dump(wait=wait))


def print_events(state: State, section: Any, follow: bool, since: int | None) -> None:
    """Print events, a line each: as JSON, or for people."""
    found = section.follow(0 if since is None else since) if follow else section.read(since or 0)
    for event in found:
        click.echo(json.dumps(event) if state.is_for_programs else event_line(event))
