"""`cyme submit` and `cyme query`: requests as tasks."""

from __future__ import annotations

import json
from typing import Any

import click

from cyme.client.errors import TaskFailed
from cyme.client.tasks import FAILED, Task
from cyme.commands.apps import given
from cyme.commands.context import ANSWER_IS_NO, State, leaf
from cyme.commands.main import main


def _body(text: str | None) -> bytes | None:
    """The body that `--data` gives, as curl has it: text, `@FILE`, or `@-` for standard input."""
    if text is None or not text.startswith("@"):
        return None if text is None else text.encode()
    try:
        with click.open_file(text[1:], "rb") as stream:
            body: bytes = stream.read()
            return body
    except OSError as problem:
        raise click.UsageError(f"--data {text}: {problem.strerror}") from None


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"--header: {text!r} is not NAME: VALUE")
    return name.strip(), value.strip()


def _json(option: str, text: str | None, kind: type) -> Any:
    if text is None:
        return kind()
    try:
        value = json.loads(text)
    except ValueError as problem:
        raise click.UsageError(f"{option}: not JSON: {problem}") from None
    if not isinstance(value, kind):
        raise click.UsageError(f"{option}: takes a JSON {'list' if kind is list else 'object'}")
    return value


@leaf(
    main,
    "submit",
    "cyme -a foo submit http://example.com/import?user=133",
    "cyme -a foo submit http://example.com/users -q tasks -X POST -d name=George --wait 60",
    """cyme -a foo submit --task proj.celery.add --args '[1, 2]' --wait 10""",
)
@click.argument("url", required=False)
@click.option("-q", "--queue", help="The queue; the app's default queue without it.")
@click.option("-X", "--method", help="The method; GET, or POST with --data.")
@click.option("-d", "--data", help="The body: text, @FILE, or @- for standard input.")
@click.option("-H", "--header", multiple=True, help="NAME: VALUE for the target; may be repeated.")
@click.option("--attempt", "attempt_timeout", type=float, help="Seconds for one attempt.")
@click.option("--retries", type=int, help="How many more attempts may be made.")
@click.option("--delay", type=float, help="Seconds before which it must not be made.")
@click.option(
    "--id", "deduplication_id", help="Of requests with one id within a day, only the first is made."
)
@click.option("--callback", help="URL that the result is posted to.")
@click.option("--failure-callback", help="URL that a failure is posted to.")
@click.option("--task", help="In place of a URL: the name of a Celery task of the app.")
@click.option("--args", "arguments", help="Its positional arguments, a JSON list.")
@click.option("--kwargs", help="Its keyword arguments, a JSON object.")
@click.option("--wait", type=float, help="Seconds to wait for the result, which is printed then.")
def submit(
    state: State,
    url: str | None,
    queue: str | None,
    method: str | None,
    data: str | None,
    header: tuple[str, ...],
    task: str | None,
    arguments: str | None,
    kwargs: str | None,
    wait: float | None,
    delay: float | None,
    attempt_timeout: float | None,
    **options: Any,
) -> None:
    """Have a worker make an HTTP request, or run a task; prints its UUID.

    The exit status is 5 when --wait was given and the task failed, or did not end in time.
    """
    if (url is None) == (task is None):
        raise click.UsageError("give either a URL, or --task NAME")
    app = state.client.app(state.require_app())
    if task is not None:
        queued = app.send(
            task,
            _json("--args", arguments, list),
            _json("--kwargs", kwargs, dict),
            **given({"queue": queue, "countdown": delay}),
        )
    else:
        assert url is not None
        body = _body(data)
        headers = [_header(one) for one in header]
        if body is not None and not any(name.lower() == "content-type" for name, _ in headers):
            headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        queued = app.queue(
            url,
            queue,
            method=method or ("GET" if body is None else "POST"),
            headers=headers,
            body=body,
            **given({"delay": delay, "timeout": attempt_timeout, **options}),
        )
    if wait is None:
        state.show(queued.info, lambda: [queued.uuid])
    else:
        _wait(state, queued, wait)


def _wait(state: State, task: Task, seconds: float) -> None:
    try:
        outcome = task.wait(seconds)
    except TaskFailed as failed:
        state.show(failed.outcome)
        raise
    state.show(outcome)


@leaf(
    main,
    "query",
    "cyme -a foo query UUID",
    "cyme -a foo query UUID --wait 60 --json",
    "cyme -a foo query UUID --state",
    "cyme -a foo query UUID --revoke",
)
@click.argument("uuid")
@click.option("--wait", type=float, help="Seconds to wait for its end.")
@click.option("--state", "only_state", is_flag=True, help="Print its state alone.")
@click.option("--revoke", is_flag=True, help="Have it not run, unless it runs already.")
def query(state: State, uuid: str, wait: float | None, only_state: bool, revoke: bool) -> None:
    """Ask what came of a task; the exit status is 5 when it failed, or did not end in time."""
    task = state.client.app(state.require_app()).task(uuid)
    if revoke:
        found = task.revoke()
        state.show({"state": found}, lambda: [found])
    elif only_state:
        found = task.state()
        state.show({"state": found}, lambda: [found])
    elif wait is not None:
        _wait(state, task, wait)
    else:
        outcome = task.result()
        state.show(outcome)
        if outcome.get("state") in FAILED:
            raise SystemExit(ANSWER_IS_NO)
