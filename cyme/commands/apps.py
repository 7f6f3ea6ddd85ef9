"""`cyme apps`: the apps, their configuration, and rolling restarts of their instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cyme.commands.context import ANSWER_IS_NO, State, each, family, leaf, pass_state
from cyme.commands.main import main

F = TypeVar("F", bound=Callable[..., Any])

_HEADERS = ("NAME", "BROKER", "CELERY APP", "POOL", "ARGUMENTS")


def start_options(function: F) -> F:
    """Add the options that say how workers are started."""
    for option in reversed(
        [
            click.option("--broker", help="Broker, as a URL that Celery takes."),
            click.option("--celery-app", help="Celery app, as `celery -A` takes it."),
            click.option("--pool", help="Pool, as `celery worker -P` takes it."),
            click.option("--arguments", help="More arguments of `celery worker`, with shell quoting."),
            click.option("--extra-config", help="Settings of Celery, key=value, with shell quoting."),
            click.option(
                "--max-memory", help="Memory above which a worker is replaced, such as 1.5G; 0 for none."
            ),
            click.option(
                "--max-age", type=float, help="Seconds after which a worker is replaced; 0 for none."
            ),
            click.option(
                "--stall-timeout", type=float, help="Seconds that reserved tasks may wait without progress."
            ),
        ]
    ):
        function = option(function)
    return function


def given(parameters: dict[str, Any]) -> dict[str, Any]:
    """Those options that were given; of several values a list."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in parameters.items()
        if value is not None and value != ()
    }


@family(main, "apps", "cyme apps", "cyme apps get foo", "cyme apps add foo --broker redis://127.0.0.1:6379/3")
def apps(ctx: click.Context) -> None:
    """The apps: what instances belong to, with their broker and their Celery app."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_apps)


def _show(state: State) -> None:
    client = state.client
    infos = each(client.all(), lambda name: client.get(name).info)
    rows = [
        [
            info.get("name"),
            (info.get("broker") or {}).get("url"),
            info.get("celery_app"),
            info.get("pool"),
            info.get("arguments"),
        ]
        for info in infos
    ]
    if state.is_for_programs:
        state.show([info.get("name") for info in infos])
    else:
        state.show_table(None, _HEADERS, rows, "there is no app yet; cyme apps add NAME makes one")


@leaf(apps, "list", "cyme apps list", "cyme apps list --json")
def list_apps(state: State) -> None:
    """List the apps (as JSON: their names)."""
    _show(state)


@leaf(apps, "all", "cyme apps.all", hidden=True)
def all_apps(state: State) -> None:
    """List the apps: the first Cyme's word for it."""
    _show(state)


@leaf(apps, "get", "cyme apps get foo", "cyme apps get foo --json")
@click.argument("name")
def get(state: State, name: str) -> None:
    """Show the configuration of an app."""
    state.show(state.client.get(name).info)


@leaf(
    apps,
    "add",
    "cyme apps add foo",
    "cyme apps add shop --celery-app proj.celery:app --max-memory 1.5G",
)
@click.argument("name", required=False)
@click.argument("url", required=False, metavar="[BROKER]")
@start_options
def add(state: State, name: str | None, url: str | None, **parameters: Any) -> None:
    """Create an app, or change it by the options given; without a name it gets one."""
    if url is not None:
        parameters["broker"] = url
    app = state.client.add(name, nowait=state.nowait, **given(parameters))
    state.show(app.info, lambda: [app.name])


@leaf(apps, "delete", "cyme apps delete foo")
@click.argument("name")
def delete(state: State, name: str) -> None:
    """Delete an app with its instances and queue declarations."""
    state.client.delete(name, nowait=state.nowait)
    state.done(f"app {name} is deleted")


@leaf(
    apps,
    "restart",
    "cyme apps restart foo",
    "cyme apps restart foo --parallel 2 --wait 600",
)
@click.argument("name")
@click.option("--parallel", type=int, help="How many instances may be under way at a time; 1 without it.")
@click.option("--timeout-each", type=float, help="Seconds that each instance may take.")
@click.option("--wait", type=float, help="Seconds to wait for the end; 60 without it.")
def restart(
    state: State, name: str, parallel: int | None, timeout_each: float | None, wait: float | None
) -> None:
    """Restart the instances of an app, the next only when the one before it is back.

    The exit status is 5 when it was halted, or did not end in time.
    """
    rollout = state.client.app(name).restart(
        parallel=parallel, timeout=timeout_each, wait=wait, nowait=state.nowait
    )
    state.show(rollout)
    if not state.nowait and rollout.get("state") != "finished":
        raise SystemExit(ANSWER_IS_NO)


@leaf(apps, "rollout", "cyme apps rollout foo", "cyme apps rollout foo --call-off")
@click.argument("name")
@click.option("--call-off", is_flag=True, help="Have nothing further restarted.")
def rollout(state: State, name: str, call_off: bool) -> None:
    """Show the last rolling restart of an app, or call it off."""
    app = state.client.app(name)
    state.show(app.call_off(nowait=state.nowait) if call_off else app.rollout())


__all__ = ["apps", "given", "pass_state", "start_options"]
