"""`cyme doctor`: prints what was found, and what to do about it."""

from __future__ import annotations

import os

import click
from attrs import asdict

from cyme.commands.context import ANSWER_IS_NO, State, leaf, style
from cyme.commands.doctor.findings import examine
from cyme.commands.doctor.gathering import gather
from cyme.commands.main import main
from cyme.commands.output import COLOURS, printable


@leaf(
    main,
    "doctor",
    "cyme doctor",
    "cyme doctor --instance-dir /var/lib/cyme",
    "cyme doctor --broker amqp://cyme:secret@mq.example.com// --json",
)
@click.option("-b", "--broker", "brokers", multiple=True, help="Broker to look at beside those of the apps.")
@click.option(
    "-D", "--instance-dir", "folders", multiple=True, help="A branch's root folder on this machine."
)
@click.option("--all", "everything", is_flag=True, help="Print what is fine, too.")
def doctor(state: State, brokers: tuple[str, ...], folders: tuple[str, ...], everything: bool) -> None:
    """Look for what is wrong, and for what will go wrong.

    Looks at the branches (versions, clocks, disks, load), at brokers (version and settings, from here),
    at apps, instances and queues, and with --instance-dir at a branch's folder on this machine
    (permissions, room, open files). Each finding says what to do. The exit status is 5 when there is
    a problem; warnings alone are none.
    """
    facts = gather(state.client, state.ca_file, brokers, [os.path.abspath(path) for path in folders])
    findings = examine(facts)
    wanted = [finding for finding in findings if everything or finding.level != "fine"]
    problems = sum(finding.level == "problem" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    fine = len(findings) - problems - warnings

    def lines() -> list[str]:
        told = []
        for finding in wanted:
            level = style(finding.level, COLOURS[finding.level])
            told.append(f"{level}: {printable(finding.subject)}: {printable(finding.what)}")
            if finding.do:
                told.append(f"    {printable(finding.do)}")
        return [*told, f"{problems} problems, {warnings} warnings, {fine} looked at and fine"]

    state.show([asdict(finding) for finding in wanted], lines)
    if problems:
        raise SystemExit(ANSWER_IS_NO)
