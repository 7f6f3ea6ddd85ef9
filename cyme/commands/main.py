"""The command `cyme` itself: its groups, the spellings of the first Cyme, and how it ends."""

from __future__ import annotations

import os
from typing import Any

import click

from cyme import __version__
from cyme.client.errors import ClientError
from cyme.commands.context import INTERRUPTED, STATUSES, State, advice, common, epilog, status_of


class Root(click.Group):
    """Takes `instances.add` for `instances add`, and tells of errors in one line."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, dot, action = args[0].partition(".")
        if dot and self.get_command(ctx, args[0]) is None and self.get_command(ctx, name) is not None:
            args = [name, action, *args[1:]]
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        state = ctx.ensure_object(State)
        try:
            return super().invoke(ctx)
        except ClientError as error:
            click.echo(f"cyme: {error}", err=True)
            hint = advice(error, state)
            if hint is not None:
                click.echo(f"      {hint}", err=True)
            ctx.exit(status_of(error))
        except KeyboardInterrupt:
            click.echo(err=True)
            ctx.exit(INTERRUPTED)


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=epilog(
        "cyme apps add foo",
        "cyme instances --app foo add w1 --wait 30",
        "cyme -a foo submit http://example.com/ --wait 60",
        "cyme --url http://cyme.example.com:8000 top",
        "cyme apply -f cluster.yaml --diff",
        more=f"{STATUSES}\n\nThe spellings of the first Cyme work, too: cyme -a foo instances.add w1",
    ),
)
@click.version_option(__version__, message="cyme v%(version)s")
@click.option("-L", "--local", is_flag=True, hidden=True)
@click.option("-b", "--broker", hidden=True)
@click.option("-l", "--loglevel", hidden=True)
@click.option("-f", "--logfile", hidden=True)
@click.option("-D", "--instance-dir", hidden=True)
@common
@click.pass_context
def main(ctx: click.Context, /, local: bool, **old: str | None) -> None:
    """Manage Celery workers: ask any branch, and it is done on all of them."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    if local:
        raise click.UsageError(
            "--local is gone: a branch alone writes to its database; start it, and name it by --url"
        )
    for name, value in old.items():
        if value is not None:
            click.echo(f"cyme: --{name.replace('_', '-')} has no effect here; cyme-branch takes it", err=True)


def _load() -> None:
    """Add the commands; each module adds its own."""
    from cyme.commands import apps, branches, instances, old, queues, tasks, top  # noqa: F401
    from cyme.commands.applying import command as _  # noqa: F401
    from cyme.commands.doctor import command  # noqa: F401


_load()
