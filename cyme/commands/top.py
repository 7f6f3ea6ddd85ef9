"""`cyme top`: the cluster live, on the whole screen of a terminal."""

from __future__ import annotations

import curses
import sys
import threading
from typing import Any

import click
from attrs import evolve

from cyme.client import Client
from cyme.client.errors import ClientError
from cyme.client.types import QueueInfo
from cyme.commands.context import REFUSED, State, each, leaf
from cyme.commands.main import main
from cyme.commands.screen import Snapshot, View, moved, next_order, screen

#: Tenths of a second that a key is waited for; so often the screen may change.
_TICK = 2


def look(client: Client, app: str | None) -> Snapshot:
    """Ask how everything is now.

    :raises ClientError: when the branch can't be asked.
    """
    ids = client.branches.all()
    section = client.instances if app is None else client.app(app).instances
    instances = section.details()
    apps = client.all() if app is None else [app]
    places = [
        (one, name)
        for one, found in each(apps, lambda one: (one, client.app(one).queues.all()))
        for name in found
    ]

    def count(place: tuple[str, str]) -> tuple[str, QueueInfo]:
        return place[0], client.app(place[0]).queues.get(place[1]).info

    return Snapshot(
        url=client.url,
        branches=each(ids, client.branch_info),
        instances=instances,
        queues=each(places, count),
        missing=instances.missing,
    )


class Looker:
    """Asks again and again, in a thread of its own.

    :ivar snapshot: what was heard last.
    """

    def __init__(self, client: Client, app: str | None, interval: float) -> None:
        self.snapshot = Snapshot(url=client.url, problem="asking ...")
        self._client = client
        self._app = app
        self._interval = interval
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def look_now(self) -> None:
        """Ask at once."""
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                self.snapshot = look(self._client, self._app)
            except ClientError as problem:
                self.snapshot = evolve(self.snapshot, problem=str(problem))
            self._wake.wait(self._interval)


@leaf(main, "top", "cyme top", "cyme top --app foo --interval 5", "cyme top --once")
@click.option("--interval", type=click.FloatRange(0.2, 3600), default=2.0, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Print it once, without taking the screen.")
def top(state: State, interval: float, once: bool) -> None:
    """Show branches, queues and instances live; where there is no terminal, once."""
    if once or state.is_for_programs or not (sys.stdout.isatty() and sys.stdin.isatty()):
        snapshot = look(state.client, state.app)
        found = {
            "branches": list(snapshot.branches),
            "instances": list(snapshot.instances),
            "queues": [{"app": app, **info} for app, info in snapshot.queues],
        }
        state.show(found, lambda: ["".join(text for text, _ in line).rstrip() for line in _whole(snapshot)])
        return
    looker = Looker(state.client, state.app, interval)
    coloured = click.get_current_context().color is not False
    try:
        curses.wrapper(_show, looker, coloured)
    except curses.error as problem:
        click.echo(f"cyme: this terminal can't show it: {problem}; --once prints it", err=True)
        raise SystemExit(REFUSED) from None


def _whole(snapshot: Snapshot) -> Any:
    count = len(snapshot.branches) + len(snapshot.instances) + 5 * len(snapshot.queues) + 30
    return screen(snapshot, View(), 10_000, count)


def _show(window: Any, looker: Looker, coloured: bool) -> None:
    styles = _styles(coloured)
    try:
        curses.curs_set(0)
    except curses.error:
        pass  # a terminal that can't hide its cursor shows it
    curses.halfdelay(_TICK)
    looker.start()
    view = View()
    while True:
        snapshot = looker.snapshot
        height, width = window.getmaxyx()
        window.erase()
        for row, line in enumerate(screen(snapshot, view, width - 1, height)):
            column = 0
            for text, colour in line:
                try:
                    window.addstr(row, column, text, styles.get(colour, 0))
                except curses.error:
                    break  # the terminal became smaller meanwhile
                column = window.getyx()[1]
        window.refresh()
        key = window.getch()
        count = len(snapshot.instances)
        if key in (ord("q"), 27):
            return
        if key == ord("s"):
            view = evolve(view, order=next_order(view.order), first=0)
        elif key == ord("r"):
            looker.look_now()
        elif key in _STEPS:
            step = _STEPS[key] if abs(_STEPS[key]) == 1 else _STEPS[key] * max(1, height // 2)
            view = evolve(view, first=moved(view, step, count))


#: Keys -> lines; 2 stands for half a screen.
_STEPS = {
    curses.KEY_UP: -1,
    curses.KEY_DOWN: 1,
    curses.KEY_PPAGE: -2,
    curses.KEY_NPAGE: 2,
}


def _styles(coloured: bool) -> dict[str | None, int]:
    styles: dict[str | None, int] = {"bold": curses.A_BOLD, "bright_black": curses.A_DIM}
    if coloured and curses.has_colors():
        curses.use_default_colors()
        colours = {"green": curses.COLOR_GREEN, "yellow": curses.COLOR_YELLOW, "red": curses.COLOR_RED}
        for number, (name, colour) in enumerate(colours.items(), 1):
            curses.init_pair(number, colour, -1)
            styles[name] = curses.color_pair(number)
    return styles
