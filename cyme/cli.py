"""The commands `cyme-branch`: a branch in the terminal, or as a daemon, by twistd's own runner;
`cyme-list-branches`, which asks the bus for those that live; and `cyme-token`, which makes a token.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import sys
from collections.abc import Sequence
from secrets import token_bytes
from typing import Any, NoReturn

from twisted.application.service import ServiceMaker
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.python.usage import Options as TwistedOptions
from twisted.python.usage import UsageError
from twisted.scripts._twistd_unix import ServerOptions
from twisted.scripts.twistd import runApp

from cyme import __version__
from cyme.access.tokens import line_of, make_token
from cyme.brokers import AMQP, redacted, transport_of
from cyme.bus.amqp.bus import AMQPBus
from cyme.errors import BusAway, CannotStart, InvalidParameter
from cyme.listing import ASKER, list_branches, table
from cyme.options import Options
from cyme.readers import LOCAL_AMQP, path
from cyme.rootfolder import RootFolder
from cyme.settings import Option, read_one


def user(text: str) -> int:
    """Read a user's name or number."""
    if text.isdecimal():
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise ValueError(f"there is no user {text!r}") from None


def group(text: str) -> int:
    """Read a group's name or number."""
    if text.isdecimal():
        return int(text)
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise ValueError(f"there is no group {text!r}") from None


def umask(text: str) -> int:
    """Read a file creation mask."""
    if not re.fullmatch(r"0?[0-7]{1,3}", text):
        raise ValueError(f"{text!r} is not a mask: three octal digits, like 027")
    return int(text, 8)


#: What the process is told, beside what the branch is; on the command line only.
PROCESS_OPTIONS: tuple[Option, ...] = (
    Option(
        "pidfile",
        None,
        None,
        path,
        "File that the process id is written to. Without it there is none, or branch.pid in the root folder"
        " with --detach.",
    ),
    Option("uid", None, None, user, "User to become, by name or number; only root can."),
    Option("gid", None, None, group, "Group to become, by name or number; else the first group of --uid."),
    Option("umask", None, None, umask, "File creation mask, octal; else the shell's, or 077 for a daemon."),
)


class BranchOptions(Options):
    """What `cyme-branch` takes: the branch's options, and those of the process."""

    command = "cyme-branch"
    synopsis = "Usage: cyme-branch [options] [address]"

    optFlags = [
        ["detach", None, "Leave the terminal: become a daemon that logs to branch.log in the root folder."],
    ]
    optParameters = [[one.name, one.short, one.default, one.help] for one in PROCESS_OPTIONS]

    def _is_daemon(self) -> bool:
        return bool(self["detach"])

    def _settle(self) -> None:
        super()._settle()
        for option in PROCESS_OPTIONS:
            text = self[option.name]
            if text is not None:
                self[option.name] = read_one(option, [text], f"--{option.name}")
        if self["detach"] and self["pidfile"] is None:
            self["pidfile"] = os.path.join(self.settings.instance_dir, "branch.pid")


def runner_options(options: BranchOptions) -> ServerOptions:
    """What twistd's runner needs to know to run a branch."""
    arguments = ["--no_save", "--originalname", f"--pidfile={options['pidfile'] or ''}"]
    if not options["detach"]:
        arguments.append("--nodaemon")
    for name, digits in (("uid", "d"), ("gid", "d"), ("umask", "o")):
        if options[name] is not None:
            arguments.append(f"--{name}={options[name]:{digits}}")
    config = ServerOptions()
    config.parseOptions(arguments)
    maker = ServiceMaker("Cyme", "cyme.tap", "", "cyme")
    config.subCommand = maker.tapname
    config.loadedPlugins = {maker.tapname: maker}
    config.subOptions = options
    options.parent = config
    return config


def cyme_branch(arguments: Sequence[str] | None = None) -> None:
    """Run `cyme-branch` (requirements R3 to R12).

    :param arguments: in place of the command line's.
    """
    options = BranchOptions()
    try:
        options.parseOptions(arguments)
    except UsageError as refusal:
        _end(f"cyme-branch: {refusal}\nTry 'cyme-branch --help'.")
    try:
        _make_room(options)
    except CannotStart as refusal:
        _end(f"cyme: {refusal}")
    runApp(runner_options(options))


def _make_room(options: BranchOptions) -> None:
    """Make the root folder for the user that the branch is to become, and see that it is free.

    A daemon says what it can't do where nobody looks, so the likeliest is tried before.

    :raises CannotStart: when it can't be made, or another branch holds it.
    """
    root = RootFolder(options.settings.instance_dir, generate_id=str)
    is_new = not os.path.isdir(root.path)
    root.create()
    if is_new and options["uid"] is not None:
        gid = options["gid"] if options["gid"] is not None else pwd.getpwuid(options["uid"]).pw_gid
        os.chown(root.path, options["uid"], gid)
    if options["detach"]:
        root.check_free()


class ListOptions(TwistedOptions):
    """What `cyme-list-branches` takes."""

    synopsis = "Usage: cyme-list-branches [options]"
    longdesc = (
        "Asks the broker, without HTTP, which branches live, and prints their ids as a JSON list.\n"
        "Exit status: 0 when the broker could be asked, 1 when not."
    )
    optParameters = [
        ["broker", "b", LOCAL_AMQP, "URL of the broker that the branches share."],
        ["timeout", "t", 1.0, "Seconds in which a branch has to answer.", float],
        ["limit", "n", None, "So many branches are enough.", int],
    ]
    optFlags = [["long", "l", "Print a table for people: id, URL, version, instances, load."]]

    def opt_version(self) -> None:
        """Display Cyme's version and exit."""
        print(f"cyme v{__version__}")
        sys.exit(0)

    def postOptions(self) -> None:
        if not 0 < self["timeout"] <= 3600:
            raise UsageError("--timeout takes seconds, more than 0 and up to 3600")
        if self["limit"] is not None and self["limit"] < 1:
            raise UsageError("--limit takes a number from 1 on")
        if transport_of(self["broker"]) not in AMQP:
            raise UsageError("--broker takes an AMQP URL; on other brokers a branch is alone")


def cyme_list_branches(arguments: Sequence[str] | None = None) -> None:
    """Run `cyme-list-branches` (requirement R16).

    :param arguments: in place of the command line's.
    """
    options = ListOptions()
    try:
        options.parseOptions(arguments)
    except UsageError as refusal:
        _end(f"cyme-list-branches: {refusal}\nTry 'cyme-list-branches --help'.")
    react(lambda reactor: Deferred.fromCoroutine(_list_branches(reactor, options)))


async def _list_branches(reactor: Any, options: ListOptions) -> None:
    broker = options["broker"]
    try:
        bus = AMQPBus(reactor, broker, name=ASKER, retry_policy=lambda _: 3600.0)
        found = await list_branches(reactor, bus, options["timeout"], options["limit"])
    except InvalidParameter as problem:
        _end(f"cyme-list-branches: --broker {redacted(broker)}: {problem}")
    except BusAway:
        why = "can't be reached, or refuses the user or the virtual host"
        _end(f"cyme-list-branches: {redacted(broker)} {why}")
    print(table(found) if options["long"] else json.dumps([one["id"] for one in found]))


class TokenOptions(TwistedOptions):
    """What `cyme-token` takes."""

    synopsis = "Usage: cyme-token NAME SCOPE"
    longdesc = (
        "Makes a token, and prints it to standard error, once and nowhere else; and to standard output the"
        " line for the file that --auth-token-file names, with the token's hash. SCOPE is read, operate or"
        " admin; with :APP behind it, for that app alone.\n\n"
        "Example: cyme-token alice operate:foo >> /etc/cyme/tokens && systemctl reload cyme-branch\n\n"
        "Exit status: 0 when a token was made, 1 when not."
    )

    def parseArgs(self, *words: str) -> None:
        if len(words) != 2:
            raise UsageError("it takes a name and a scope, such as: cyme-token alice admin")
        token = make_token(token_bytes)
        try:
            self["line"] = line_of(words[0], words[1], token)
        except ValueError as problem:
            raise UsageError(str(problem)) from None
        self["token"] = token

    def opt_version(self) -> None:
        """Display Cyme's version and exit."""
        print(f"cyme v{__version__}")
        sys.exit(0)


def cyme_token(arguments: Sequence[str] | None = None) -> None:
    """Run `cyme-token`.

    :param arguments: in place of the command line's.
    """
    options = TokenOptions()
    try:
        options.parseOptions(arguments)
    except UsageError as refusal:
        _end(f"cyme-token: {refusal}\nTry 'cyme-token --help'.")
    sys.stderr.write(f"{options['token']}\n")
    print(options["line"])


def _end(problem: str) -> NoReturn:
    sys.stderr.write(f"{problem}\n")
    sys.exit(1)
