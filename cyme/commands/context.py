"""What all commands share: where the branch is, how answers are printed, how a command ends."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import click

from cyme.client import DEFAULT_URL, Client, errors
from cyme.commands.output import FORMATS, sheet, table

N = TypeVar("N")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

#: Exit statuses; click's own 2 is for a command line that makes no sense.
REFUSED, UNREACHED, NOT_THERE, ANSWER_IS_NO, INTERRUPTED = 1, 3, 4, 5, 130
STATUSES = f"""\b
Exit status:
    0  it is done
  {REFUSED:3}  the branch would or could not do it
    2  the command line makes no sense
  {UNREACHED:3}  the branch can't be reached, or did not answer in time
  {NOT_THERE:3}  what was named does not exist
  {ANSWER_IS_NO:3}  it was asked, and the answer is bad: a difference, a finding, a task that failed
  {INTERRUPTED:3}  interrupted"""

#: Requests that are under way at a time when many things are asked about.
AT_ONCE = 8


class State:
    """What was said on the command line beside the command; the innermost word counts."""

    def __init__(self) -> None:
        self.url = os.environ.get("CYME_URL") or DEFAULT_URL
        self.token_file: str | None = None
        self.ca_file: str | None = os.environ.get("CYME_CA_FILE") or None
        self.app: str | None = os.environ.get("CYME_APP") or None
        self.format: str | None = None
        self.nowait = False
        self.timeout = 30.0
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The client of the branch."""
        if self._client is None:
            try:
                self._client = Client(self.url, self.token(), self.timeout, ca_file=self.ca_file)
            except ValueError as problem:
                raise click.UsageError(str(problem)) from None
        return self._client

    def token(self) -> str | None:
        """The token of `--token-file`, else of `CYME_TOKEN`."""
        if self.token_file is None:
            return os.environ.get("CYME_TOKEN") or None
        try:
            with open(self.token_file, encoding="utf-8") as stream:
                token = stream.readline().strip()
        except (OSError, UnicodeDecodeError) as problem:
            raise click.UsageError(f"--token-file {self.token_file}: {problem}") from None
        if not token:
            raise click.UsageError(f"--token-file {self.token_file}: its first line is empty")
        return token

    def require_app(self) -> str:
        """The app that was named.

        :raises click.UsageError: when none was.
        """
        if self.app is None:
            raise click.UsageError("this needs an app: --app NAME, or CYME_APP in the environment")
        return self.app

    # -- printing -----------------------------------------------------------------------

    @property
    def is_for_programs(self) -> bool:
        return self.format is not None

    def show(self, value: Any, people: Callable[[], Iterable[str]] | None = None) -> None:
        """Print a value: as JSON when that was asked for, else as people read it."""
        if self.format is not None:
            click.echo(FORMATS[self.format](value))
        elif people is not None:
            for line in people():
                click.echo(line)
        elif isinstance(value, Mapping):
            for line in sheet(value, style):
                click.echo(line)
        elif isinstance(value, list):
            for one in value:
                click.echo(str(one))
        else:
            click.echo(str(value))

    def show_table(
        self, value: Any, headers: Sequence[str], rows: Sequence[Sequence[Any]], none: str = ""
    ) -> None:
        """Print a value as JSON, or `rows` as a table; `none` where there is no row."""
        if not rows and none and not self.is_for_programs:
            click.echo(none, err=True)
            return
        most = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        self.show(value, lambda: table(headers, rows, most=most, style=style))

    def done(self, sentence: str, value: Any = None) -> None:
        """Say that something was done."""
        self.show({"ok": "ok"} if value is None else value, lambda: [sentence])

    def note(self, text: str) -> None:
        """Say something beside the answer."""
        click.echo(text, err=True)


def style(text: str, colour: str) -> str:
    """A coloured text; click takes the colours away where they are not wanted."""
    return click.style(text, fg=colour)


def each(names: Sequence[N], ask: Callable[[N], T]) -> list[T]:
    """Ask about many things, some at a time; those that are gone meanwhile are left out."""

    def one(name: N) -> T | None:
        try:
            return ask(name)
        except errors.NotFound:
            return None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [found for found in pool.map(one, names) if found is not None]


# -- options and commands ---------------------------------------------------------------------


def _keep(attribute: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:
            setattr(context.ensure_object(State), attribute, value)

    return keep


def _keep_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(State).format = "json"


def common(function: F) -> F:
    """Add the options that every command takes, before its name or behind it."""
    hidden: dict[str, Any] = {"expose_value": False, "default": None}
    for option in reversed(
        [
            click.option(
                "-u",
                "--url",
                "cyme_url",
                callback=_keep("url"),
                help="URL of a branch; unix:PATH is a Unix socket [CYME_URL].",
                **hidden,
            ),
            click.option(
                "-a", "--app", "cyme_app", callback=_keep("app"), help="Name of an app [CYME_APP].", **hidden
            ),
            click.option(
                "--json",
                "cyme_json",
                is_flag=True,
                callback=_keep_json,
                expose_value=False,
                help="Print JSON, on one line.",
            ),
            click.option(
                "-F",
                "--format",
                "cyme_format",
                type=click.Choice(list(FORMATS)),
                callback=_keep("format"),
                help="Print for programs in this way.",
                **hidden,
            ),
            click.option(
                "-n",
                "--nowait",
                "cyme_nowait",
                is_flag=True,
                callback=_keep("nowait"),
                expose_value=False,
                help="Return once the branch has accepted a change.",
            ),
            click.option(
                "--token-file",
                "cyme_token_file",
                callback=_keep("token_file"),
                help="File whose first line is the token; else it is taken from CYME_TOKEN.",
                **hidden,
            ),
            click.option(
                "--ca-file",
                "cyme_ca_file",
                callback=_keep("ca_file"),
                help="Certificates to trust.",
                **hidden,
            ),
            click.option(
                "--timeout",
                "cyme_timeout",
                type=click.FloatRange(0.001, 86_400),
                callback=_keep("timeout"),
                help="Seconds that one answer may take; 30 without it.",
                **hidden,
            ),
        ]
    ):
        function = option(function)
    return function


pass_state = click.make_pass_decorator(State, ensure=True)


def epilog(*examples: str, more: str = "") -> str:
    """The end of a command's help: examples, and perhaps more."""
    shown = "\n".join(f"  {example}" for example in examples)
    return f"\b\nExamples:\n{shown}" + (f"\n\n{more}" if more else "")


def leaf(group: click.Group, name: str, *examples: str, **more: Any) -> Callable[[F], click.Command]:
    """Make a function a command of a group, with the common options and examples in its help."""

    def decorate(function: F) -> click.Command:
        made = group.command(name, epilog=epilog(*examples), **more)(common(pass_state(function)))
        return made

    return decorate


def family(parent: click.Group, name: str, *examples: str) -> Callable[[F], click.Group]:
    """Make a function a group of commands, which by itself lists things."""

    def decorate(function: F) -> click.Group:
        return parent.group(name, invoke_without_command=True, epilog=epilog(*examples))(
            common(click.pass_context(function))
        )

    return decorate


def status_of(error: errors.ClientError) -> int:
    """The exit status of a command that an error ended."""
    if isinstance(error, errors.Unreachable):
        return UNREACHED
    if isinstance(error, errors.NotFound):
        return NOT_THERE
    if isinstance(error, (errors.TaskFailed, errors.NotFinished)):
        return ANSWER_IS_NO
    return REFUSED


def advice(error: errors.ClientError, state: State) -> str | None:
    """What to do about an error, where the branch does not say so."""
    if isinstance(error, errors.Unreachable):
        return f"is there a branch at {state.url}? --url, or CYME_URL, names another"
    if isinstance(error, errors.Unauthorized):
        return "give a token by --token-file, or by CYME_TOKEN in the environment"
    return None
