"""Commands of the first Cyme that have no better name here."""

from __future__ import annotations

import code

import click

from cyme.commands.context import REFUSED, State, leaf
from cyme.commands.main import main


def _for_all(name: str, verb: str, sentence: str, help: str) -> None:
    @leaf(main, name, f"cyme {name}", f"cyme {name} --app foo", help=help)
    def all_of_them(state: State) -> None:
        section = state.client.instances if state.app is None else state.client.app(state.app).instances
        names = section.all()
        for one in names:
            getattr(state.client.instance(one, state.app), verb)(nowait=state.nowait)
        state.done(f"{len(names)} instances are {sentence}", {"ok": "ok", "instances": list(names)})


_for_all("start-all", "enable", "enabled", "Enable all instances, or those of one app.")
_for_all("restart-all", "restart", "asked to restart", "Restart all instances at once, or those of one app.")
_for_all("shutdown-all", "disable", "disabled", "Disable all instances, or those of one app.")


@leaf(main, "createsuperuser", "cyme createsuperuser", hidden=True)
def createsuperuser(state: State) -> None:
    """Say what takes the place of users."""
    state.note("cyme: there are no users; access is by tokens: cyme-branch --help tells of --auth-token-file")
    raise SystemExit(REFUSED)


@leaf(main, "shell", "cyme shell")
def shell(state: State) -> None:
    """Open a Python shell that has the client of the branch as `client`."""
    banner = f"cyme: client is {state.client!r}"
    code.interact(banner=banner, local={"client": state.client}, exitmsg="")


main.add_command(
    click.Command("sh", callback=shell.callback, params=shell.params, hidden=True, help=shell.help)
)
