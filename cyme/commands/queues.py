"""`cyme queues` and `cyme consumers`."""

from __future__ import annotations

import json
from typing import Any

import click

from cyme.client.resources import Consumers
from cyme.commands.context import State, each, family, leaf
from cyme.commands.main import main

_HEADERS = ("NAME", "MESSAGES", "CONSUMERS", "PAUSED", "EXCHANGE", "TYPE", "ROUTING KEY", "OPTIONS")


@family(
    main,
    "queues",
    "cyme queues --app foo",
    "cyme -a foo queues add tasks",
    "cyme -a foo queues pause tasks",
)
def queues(ctx: click.Context) -> None:
    """The queue declarations of an app, and how many messages wait in each."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_queues)


def _section(state: State) -> Any:
    return state.client.app(state.require_app()).queues


def _show(state: State) -> None:
    section = _section(state)
    names = section.all()
    if state.is_for_programs:
        state.show(list(names))
        return
    rows = []
    for info in each(names, lambda name: section.get(name).info):
        effective = info.get("effective") or info
        rows.append(
            [info["name"], info.get("messages"), info.get("consumers"), info.get("paused")]
            + [effective.get("exchange"), effective.get("exchange_type"), effective.get("routing_key")]
            + [info.get("options")]
        )
    state.show_table(None, _HEADERS, rows, "this app declares no queue; cyme -a APP queues add makes one")


@leaf(queues, "list", "cyme -a foo queues list", "cyme -a foo queues list --json")
def list_queues(state: State) -> None:
    """List the queue declarations of an app (as JSON: their names)."""
    _show(state)


@leaf(queues, "all", "cyme -a foo queues.all", hidden=True)
def all_queues(state: State) -> None:
    """List the queue declarations: the first Cyme's word for it."""
    _show(state)


@leaf(queues, "get", "cyme -a foo queues get tasks")
@click.argument("name")
def get(state: State, name: str) -> None:
    """Show a queue declaration, and what its broker counts."""
    state.show(_section(state).get(name).info)


@leaf(
    queues,
    "add",
    "cyme -a foo queues add tasks",
    "cyme -a foo queues add mail --exchange mail --exchange-type topic --routing-key 'mail.#'",
    """cyme -a foo queues add big --options '{"queue_arguments": {"x-max-length": 1000}}'""",
)
@click.argument("name")
@click.argument("positional", nargs=-1, metavar="[EXCHANGE [TYPE [ROUTING_KEY [OPTIONS]]]]")
@click.option("--exchange", help="The exchange; the queue's name without it.")
@click.option("--exchange-type", help="Its type; direct without it.")
@click.option("--routing-key", help="The routing key; the queue's name without it.")
@click.option("--options", help="More options, as kombu's entry_to_queue takes them: a JSON object.")
def add(state: State, name: str, positional: tuple[str, ...], **parameters: str | None) -> None:
    """Declare a queue, or change its declaration by what is given."""
    fields = ("exchange", "exchange_type", "routing_key", "options")
    if len(positional) > len(fields):
        raise click.UsageError("these are too many arguments")
    for field, text in zip(fields, positional, strict=False):
        parameters[field] = parameters[field] or text
    options = parameters.pop("options")
    try:
        read = None if options is None else json.loads(options)
    except ValueError as problem:
        raise click.UsageError(f"--options: not JSON: {problem}") from None
    if read is not None and not isinstance(read, dict):
        raise click.UsageError("--options: takes a JSON object")
    queue = _section(state).add(name, options=read, nowait=state.nowait, **parameters)
    state.show(queue.info, lambda: [queue.name])


@leaf(queues, "delete", "cyme -a foo queues delete tasks")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def delete(state: State, names: tuple[str, ...]) -> None:
    """Delete queue declarations; every instance stops consuming from these queues."""
    for name in names:
        _section(state).delete(name, nowait=state.nowait)
        state.done(f"queue {name} is deleted")


@leaf(queues, "pause", "cyme -a foo queues pause tasks")
@click.argument("name")
def pause(state: State, name: str) -> None:
    """Have no instance consume from a queue, until it is resumed."""
    state.client.app(state.require_app()).queues.get(name).pause(nowait=state.nowait)
    state.done(f"queue {name} is paused")


@leaf(queues, "resume", "cyme -a foo queues resume tasks")
@click.argument("name")
def resume(state: State, name: str) -> None:
    """Have the instances consume from a queue again."""
    state.client.app(state.require_app()).queues.get(name).resume(nowait=state.nowait)
    state.done(f"queue {name} is resumed")


@leaf(queues, "purge", "cyme -a foo queues purge tasks --yes")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Don't ask.")
def purge(state: State, name: str, yes: bool) -> None:
    """Remove the messages that wait in a queue, for good."""
    queue = state.client.app(state.require_app()).queues.get(name)
    if not yes:
        waiting = queue.info.get("messages")
        many = "the messages" if waiting is None else f"{waiting} messages"
        click.confirm(f"Remove {many} that wait in {name}?", abort=True, err=True)
    count = queue.purge()
    state.done(f"{count} messages are removed", {"purged": count})


@family(
    main,
    "consumers",
    "cyme consumers list w1",
    "cyme consumers add w1 tasks",
    "cyme consumers delete w1 tasks",
)
def consumers(ctx: click.Context) -> None:
    """What instances consume from."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _consumers(state: State, instance: str) -> Consumers:
    return state.client.instance(instance, state.app).consumers


def _show_consumers(state: State, instance: str) -> None:
    found = _consumers(state, instance).all()
    rows = [[name, (declared or {}).get("exchange", {})] for name, declared in sorted(found.items())]
    rows = [[name, one.get("name") if isinstance(one, dict) else one] for name, one in rows]
    state.show_table(found, ("QUEUE", "EXCHANGE"), rows, f"{instance} consumes from no queue now")


@leaf(consumers, "list", "cyme consumers list w1")
@click.argument("instance")
def list_consumers(state: State, instance: str) -> None:
    """List the queues that a worker consumes from now."""
    _show_consumers(state, instance)


@leaf(consumers, "all", "cyme -a foo consumers.all w1", hidden=True)
@click.argument("instance")
def all_consumers(state: State, instance: str) -> None:
    """List what a worker consumes from: the first Cyme's word for it."""
    _show_consumers(state, instance)


@leaf(consumers, "add", "cyme consumers add w1 tasks", "cyme consumers add w1 tasks --wait 10")
@click.argument("instance")
@click.argument("queue")
@click.option("--wait", type=float, help="Seconds to wait until the worker says so.")
def add_consumer(state: State, instance: str, queue: str, wait: float | None) -> None:
    """Have an instance consume from a queue that its app declares."""
    answer = _consumers(state, instance).add(queue, wait=wait, nowait=state.nowait)
    state.done(f"{instance} consumes from {queue}", answer)


@leaf(consumers, "delete", "cyme consumers delete w1 tasks")
@click.argument("instance")
@click.argument("queue")
@click.option("--wait", type=float, help="Seconds to wait until the worker says so.")
def delete_consumer(state: State, instance: str, queue: str, wait: float | None) -> None:
    """Have an instance stop consuming from a queue."""
    answer = _consumers(state, instance).delete(queue, wait=wait, nowait=state.nowait)
    state.done(f"{instance} no longer consumes from {queue}", answer)
