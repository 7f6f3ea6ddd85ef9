"""The command line of `twistd cyme` and of `cyme-branch`, made from the table in `cyme.settings`."""

from __future__ import annotations

import getopt
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.python.usage import Options as TwistedOptions
from twisted.python.usage import UsageError

from cyme import __version__
from cyme.readers import log_path, path
from cyme.settings import (
    BY_NAME,
    OPTIONS,
    BadSetting,
    Settings,
    from_environment,
    from_file,
    make_settings,
    read_one,
)

INTRODUCTION = """
A branch starts, watches and stops Celery worker instances on this machine, and
is asked to over HTTP. Its address may stand anywhere among the options.
"""

EXAMPLES = """
Every option can also be set by the environment variable that is named in its
help, and in a file that --config or CYME_CONFIG names (etc/cyme.conf is a
commented sample). The command line beats the environment, which beats the file.

Examples:
  {command}
      HTTP on 127.0.0.1:8000, everything else in the folder instances/
  {command} :8001 -i branch1 -D cyme/branch1/
      a branch of that name and root folder, on port 8001 of 127.0.0.1
  {command} --broker=amqp://me:secret@mq.example.com:5672/jobs
      workers of apps that name no broker use this one
  {command} --http=unix:/run/cyme/branch.sock --workers-on-exit=leave
      on a unix socket; workers live on when the branch is restarted

Stop it with SIGTERM or Ctrl-C: workers finish their tasks first; a second
signal stops them cold. SIGUSR1 writes the stacks of all threads to the log.
"""


class Options(TwistedOptions):
    """What `twistd cyme` takes; after parsing, a dict of option name -> value.

    :param environment: in place of the process's own.
    :ivar settings: the same as `Settings`, complete and checked.
    """

    command = "twistd -n cyme"
    synopsis = "[options] [address]"
    longdesc = ""

    optFlags = [[one.name, one.short, f"{one.help} ({one.variable})"] for one in OPTIONS if one.is_flag] + [
        ["without-httpd", None, "The same as --without-http."],
    ]
    optParameters = [
        [one.name, one.short, one.default, f"{one.help} ({one.variable})"]
        for one in OPTIONS
        if not one.is_flag
    ] + [
        ["config", None, None, "File with settings, 'option = value' lines under [cyme]. (CYME_CONFIG)"],
    ]

    settings: Settings

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._environment = os.environ if environment is None else environment
        self._given: dict[str, list[str]] = {}
        self._address: str | None = None

    def opt_version(self) -> None:
        """Display the version of Cyme and exit."""
        print(f"cyme v{__version__}")
        sys.exit(0)

    def getUsage(self, width: int | None = None) -> str:
        usage: str = super().getUsage(width or 80)
        return INTRODUCTION + "\n" + usage + EXAMPLES.format(command=self.command)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse the command line, then look at the environment and the configuration file.

        The address may stand before options, as in `cyme-branch :8001 -i branch1`, which
        Twisted's parser takes for the end of them: it gets them in its own order.

        :raises UsageError: naming the option, variable or file and the reason.
        """
        arguments = list(sys.argv[1:] if options is None else options)
        if "--_shell-completion" not in arguments:
            arguments = self._in_order(arguments)
        super().parseOptions(arguments)

    def _in_order(self, arguments: list[str]) -> list[str]:
        try:
            given, others = getopt.gnu_getopt(arguments, self.shortOpt, self.longOpt)
        except getopt.GetoptError as problem:
            raise UsageError(str(problem)) from None
        ordered = []
        for option, text in given:
            name = self.synonyms[option.lstrip("-")]
            self._given.setdefault(name, []).append(text)
            takes_text = f"{name}=" in self.longOpt
            ordered.append(f"--{name}={text}" if takes_text else f"--{name}")
        return [*ordered, "--", *others]

    def parseArgs(self, *addresses: str) -> None:
        if len(addresses) > 1:
            raise UsageError(f"one address at most, not {len(addresses)}: {' '.join(addresses)}")
        if addresses and "http" in self._given:
            raise UsageError(f"either --http or the address {addresses[0]}, not both")
        if addresses:
            self._address = addresses[0]

    def postOptions(self) -> None:
        try:
            self._settle()
        except BadSetting as refusal:
            raise UsageError(str(refusal)) from None

    def _settle(self) -> None:
        found = self._from_file() | from_environment(self._environment) | self._from_command_line()
        if "logfile" not in found and self._twistd("logfile"):
            found["logfile"] = log_path(self._twistd("logfile"))
        self.settings = make_settings(found, is_daemon=self._is_daemon())
        del self["without-httpd"]
        self.update({option.name: found.get(option.name, option.default_value) for option in OPTIONS})

    def _from_file(self) -> dict[str, Any]:
        file = self["config"] or self._environment.get("CYME_CONFIG", "").strip()
        self["config"] = path(file) if file else None
        return from_file(self["config"]) if file else {}

    def _from_command_line(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, texts in self._given.items():
            option = BY_NAME.get("without-http" if name == "without-httpd" else name)
            if option is not None:
                found[option.name] = option.is_flag or read_one(option, texts, f"--{option.name}")
        if self._address is not None:
            found["http"] = read_one(BY_NAME["http"], [self._address], f"address {self._address}")
        return found

    def _twistd(self, name: str) -> Any:
        """What `twistd` itself was told, when it runs us."""
        return self.parent.get(name) if self.parent is not None else None

    def _is_daemon(self) -> bool:
        return self.parent is not None and not (self._twistd("nodaemon") or self._twistd("debug"))
