"""Who may import whom: the imports of `cyme/`, held against the table of the design."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from tests.support.sources import imports, trees

#: What every module may import, beside its own package.
COMMON = frozenset({"declarations", "errors", "interfaces", "naming"})

#: Module (or package, with all in it) of `cyme` -> which others it may import, beside `COMMON`.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "access": frozenset(),
    "actors": frozenset({"asking", "envelope", "narration", "probing", "seldom"}),
    "addresses": frozenset(),
    # What forms take is what the API takes, and requests come in by the same door.
    "admin": frozenset({"access", "api", "asking", "narration"}),
    "api": frozenset(
        {"access", "addresses", "asking", "narration", "planning", "queued", "seldom", "targets"}
    ),
    "asking": frozenset(),
    "branch": frozenset({"addresses", "broker_choice", "embedded", "readers", "rootfolder", "settings"})
    | {"systemd", "vitals"},
    "broker_choice": frozenset({"brokers", "readers"}),
    "brokers": frozenset(),
    "bus": frozenset({"brokers", "seldom"}),
    "catalogue": frozenset({"asking", "faults"}),
    "cli": frozenset(
        {"access", "brokers", "bus", "listing", "options", "readers", "rootfolder", "settings", "tap"}
    ),
    "controller": frozenset(
        {"actors", "asking", "brokers", "membership", "narration", "planning", "queued", "targets", "taskids"}
    ),
    "declarations": frozenset(),
    "embedded": frozenset(),
    "envelope": frozenset(),
    "errors": frozenset(),
    "exits": frozenset(),
    "events": frozenset({"asking", "narration"}),
    "faults": frozenset(),
    "garbage": frozenset(),
    # The way to a broker is the same for all: `remote.wires`.
    "gateway": frozenset({"brokers", "planning", "queued", "remote", "taskids", "vitals"}),
    "holders": frozenset(),
    "inflight": frozenset(),
    "interfaces": frozenset({"events", "faults", "limits", "planning", "queued"}),
    "limits": frozenset(),
    "listing": frozenset({"actors", "membership"}),
    "logs": frozenset(),
    "metrics": frozenset({"events"}),
    "models": frozenset(),
    "naming": frozenset(),
    "narration": frozenset(),
    "options": frozenset({"readers", "settings"}),
    "planning": frozenset({"exits", "limits"}),
    "membership": frozenset({"actors", "presence", "replication"}),
    "presence": frozenset(),
    "probing": frozenset(),
    "queued": frozenset({"planning"}),
    "readers": frozenset({"addresses", "brokers", "targets"}),
    "remote": frozenset({"brokers", "holders", "planning", "vitals"}),
    "replication": frozenset({"actors", "wireforms"}),
    "rootfolder": frozenset({"brokers"}),
    "seldom": frozenset(),
    "settings": frozenset({"addresses", "brokers", "readers", "targets"}),
    "stalls": frozenset(),
    "stopsignals": frozenset(),
    "store": frozenset({"events", "faults", "models", "planning", "queued", "taskids", "vitals"}),
    "supervisor": frozenset({"exits", "limits", "planning", "vitals"}),
    "systemd": frozenset(),
    "targets": frozenset(),
    "taskids": frozenset(),
    "tasks": frozenset({"holders", "targets"}),
    "threads": frozenset({"vitals"}),
    "vitals": frozenset(),
    "watchdog": frozenset({"systemd", "vitals"}),
    "wireforms": frozenset({"faults"}),
    "workers": frozenset({"holders", "limits", "planning"}),
    # What runs elsewhere than in a branch. The first stands before `client`, which does without Twisted.
    "client.aio": frozenset({"client"}),
    "client": frozenset(),
    "commands": frozenset({"client"}),
}

#: The one place that names concrete classes together.
MAY_IMPORT_ALL = frozenset({"tap"})

#: Module -> what of `COMMON` it must do without.
WITHOUT: dict[str, frozenset[str]] = {
    "client": COMMON,
    "client.aio": COMMON,
    "declarations": frozenset({"errors", "interfaces"}),
    "errors": COMMON,
    "planning": frozenset({"interfaces"}),
    # They run inside workers, where nothing else of Cyme is wanted.
    "holders": COMMON,
    "targets": COMMON,
    "tasks": COMMON,
}

#: Library -> the only modules that may import it.
LIBRARY_ONLY_IN: dict[str, frozenset[str]] = {
    "alembic": frozenset({"store"}),
    "click": frozenset({"commands"}),
    "celery": frozenset({"remote", "tasks", "workers.child"}),
    "jinja2": frozenset({"admin"}),
    "klein": frozenset({"admin", "api"}),
    "kombu": frozenset({"broker_choice", "brokers", "commands.doctor", "gateway", "remote", "tasks"}),
    "prometheus_client": frozenset({"metrics"}),
    "redis": frozenset(),
    "sqlalchemy": frozenset({"models", "store"}),
    "treq": frozenset({"client.aio"}),
    "twisted.internet.reactor": frozenset({"cli", "tap"}),
    "txamqp": frozenset({"bus.amqp"}),
    "urllib3": frozenset({"client", "tasks"}),
    "yaml": frozenset({"commands"}),
}

#: Module -> libraries that it must do without.
LIBRARY_NOT_IN: dict[str, frozenset[str]] = {
    "client": frozenset({"hyperlink", "treq", "twisted", "zope"}),
    "commands": frozenset({"twisted", "zope"}),
    "declarations": frozenset({"twisted"}),
    "errors": frozenset({"twisted"}),
    "holders": frozenset({"attrs", "twisted", "zope"}),
    "limits": frozenset({"twisted"}),
    "models": frozenset({"twisted"}),
    "planning": frozenset({"twisted"}),
    "targets": frozenset({"attrs", "twisted", "zope"}),
    "tasks": frozenset({"attrs", "twisted", "zope"}),
}


#: A module that is used to try the tables.
SERVICE = "cyme/supervisor/service.py"


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def listed_as(module: str) -> str | None:
    """The key of the table that a module falls under, if any."""
    for key in [*MAY_IMPORT, *MAY_IMPORT_ALL]:
        if is_within(module, key):
            return key
    return None


def violations(modules: Iterable[tuple[str, ast.Module]]) -> list[str]:
    """What the imports of `modules` break of the tables, a sentence each.

    :param modules: path from the top of the checkout, syntax tree.
    """
    found = []
    for path, tree in modules:
        module = path.removeprefix("cyme/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        if module == "__init__":
            continue
        key = listed_as(module)
        if key is None:
            found.append(f"cyme.{module} is not in the table MAY_IMPORT: add it, with what it may import")
            continue
        for name, line in imports(tree):
            where = f"cyme.{module}, line {line}: "
            if name.startswith("."):
                found.append(where + f"write the import of {name} absolutely")
            elif name == "cyme" or name == "cyme.__version__":
                continue
            elif name.startswith("cyme."):
                target = name.removeprefix("cyme.")
                allowed = {key} | MAY_IMPORT.get(key, frozenset()) | COMMON - WITHOUT.get(key, frozenset())
                if key not in MAY_IMPORT_ALL and not any(is_within(target, each) for each in allowed):
                    found.append(where + f"may not import cyme.{target}")
            else:
                for library, places in LIBRARY_ONLY_IN.items():
                    if is_within(name, library) and not any(is_within(module, each) for each in places):
                        found.append(where + f"{library} is imported in {sorted(places)} only")
                for library in LIBRARY_NOT_IN.get(key, frozenset()):
                    if is_within(name, library):
                        found.append(where + f"must do without {library}")
    return found


class LayeringTests(SynchronousTestCase):
    """The table is kept, and the check of it can fail."""

    def test_table(self) -> None:
        """Every module imports only what the table lets it import."""
        found = violations(trees("cyme"))
        if found:
            self.fail("\n".join(found))

    def test_violations(self) -> None:
        """Each kind of forbidden import is named with its module and line."""
        cases = {
            ("cyme/planning.py", "import sqlalchemy.orm"): "sqlalchemy is imported in",
            ("cyme/planning.py", "from twisted.internet import defer"): "must do without twisted",
            (SERVICE, "from twisted.internet import reactor"): "twisted.internet.reactor is",
            (SERVICE, "from cyme.workers.life import Life"): "may not import cyme.workers",
            (SERVICE, "from cyme import store"): "may not import cyme.store",
            ("cyme/tasks/a.py", "def f():\n  from cyme.errors import Away"): "may not import cyme.errors",
            ("cyme/errors.py", "from cyme.declarations import App"): "may not import cyme.declarations",
            ("cyme/workers/argv.py", "from ..planning import plan"): "absolutely",
            ("cyme/nowhere.py", ""): "not in the table",
        }
        for (path, source), expected in cases.items():
            found = violations([(path, ast.parse(source))])
            self.assertEqual(len(found), 1, (path, source, found))
            self.assertIn(expected, found[0])

    def test_allowed(self) -> None:
        """What the table allows is not reported."""
        source = (
            "import os, sqlalchemy\n"
            "from cyme.models import tables\n"
            "from cyme.errors import CymeError\n"
            "from cyme import __version__\n"
            "from twisted.internet.defer import Deferred\n"
        )
        self.assertEqual(violations([("cyme/store/schema.py", ast.parse(source))]), [])
