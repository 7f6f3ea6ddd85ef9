"""How this project is written, where a program can tell."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.interface import InterfaceClass

from cyme import interfaces
from tests.support.sources import TOP, calls, dotted, imports, trees

#: What asks the machine for the time. Everything in a branch is told the time by its clock.
WALL_CLOCKS = frozenset(
    {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.datetime.now"}
    | {"datetime.datetime.utcnow", "datetime.today", "date.today", "datetime.date.today"}
)

#: What runs inside worker processes, where there is no reactor.
RUNS_IN_WORKERS = ("cyme/workers/child.py", "cyme/tasks/")

#: What a test's docstring says when it speaks of the test and not of the behaviour.
EMPTY_WORDS = re.compile(r"\b(should|correctly|properly)\b|^(tests?|checks?|verif(y|ies)) that\b", re.I)

#: Imported name -> the distribution that has it, where they differ.
DISTRIBUTIONS = {"yaml": "pyyaml", "zope": "zope.interface"}


def test_methods() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Each test method of the project, and where it stands."""
    for path, tree in trees("tests"):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for member in node.body:
                    if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                        if member.name.startswith("test_"):
                            yield f"{path}:{member.lineno} {node.name}.{member.name}", member


def implementers(folder: str) -> Iterator[tuple[str, str, str]]:
    """Each class with `@implementer(IFoo)`: the interface's name, its own name, its dotted module."""
    for path, tree in trees(folder):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for decorator in node.decorator_list:
                    if isinstance(decorator, ast.Call) and dotted(decorator.func) == "implementer":
                        for interface in decorator.args:
                            yield dotted(interface), node.name, path.removesuffix(".py").replace("/", ".")


def contracts() -> dict[str, set[str]]:
    """Interface name -> the functions of `tests/contracts` whose tests verify that interface."""
    found: dict[str, set[str]] = {}
    for _, tree in trees("tests/contracts"):
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and re.fullmatch(r"make_\w+_tests", node.name):
                for name, call in calls(node):
                    if name == "verifyObject":
                        found.setdefault(dotted(call.args[0]), set()).add(node.name)
    return found


def applications() -> Iterator[tuple[set[str], set[str]]]:
    """For each module with tests: the names it calls, and the names and modules it speaks of."""
    for folder in ("tests/unit", "tests/functional"):
        for _, tree in trees(folder):
            spoken_of = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            for name, _ in imports(tree):
                spoken_of |= {name, name.rpartition(".")[0]}
            yield {name for name, _ in calls(tree)}, spoken_of


class TestsTests(SynchronousTestCase):
    """How tests are written."""

    def test_docstrings(self) -> None:
        """Every test method says in a sentence which behaviour it is about."""
        wrong = []
        for where, method in test_methods():
            text = ast.get_docstring(method)
            if text is None:
                wrong.append(f"{where}: no docstring")
            elif not text.rstrip().endswith(".") or EMPTY_WORDS.search(text):
                wrong.append(f"{where}: not a plain sentence about behaviour: {text!r}")
        self.assertEqual(wrong, [])

    def test_no_pause(self) -> None:
        """Unit tests never sleep."""
        wrong = [
            f"{path}:{call.lineno}"
            for path, tree in trees("tests/unit")
            for name, call in calls(tree)
            if name in ("time.sleep", "sleep")
        ]
        self.assertEqual(wrong, [])


class SourcesTests(SynchronousTestCase):
    """How `cyme/` is written."""

    def test_no_wall_clock(self) -> None:
        """The time comes from the injected clock, except inside workers."""
        wrong = [
            f"{path}:{call.lineno} {name}()"
            for path, tree in trees("cyme")
            if not path.startswith(RUNS_IN_WORKERS)
            for name, call in calls(tree)
            if name in WALL_CLOCKS
        ]
        wrong += [
            f"{path}:{line} import {name}"
            for path, tree in trees("cyme")
            for name, line in imports(tree)
            if name in ("time.time", "time.time_ns")
        ]
        self.assertEqual(wrong, [])

    def test_docstrings(self) -> None:
        """Every module says what it is for."""
        wrong = [path for path, tree in trees("cyme") if ast.get_docstring(tree) is None]
        self.assertEqual(wrong, [])

    def test_requirements(self) -> None:
        """What `cyme/` imports is what `setup.py` requires, no more and no less."""
        required: dict[str, set[str]] = {}
        for node in ast.walk(ast.parse((TOP / "setup.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign) and dotted(node.targets[0]) == "INSTALL_REQUIRES":
                required["install"] = set(ast.literal_eval(node.value))
            elif isinstance(node, ast.Assign) and dotted(node.targets[0]) == "EXTRAS_REQUIRE":
                required["extra"] = set(ast.literal_eval(node.value)["embedded"])
        names = {
            kind: {re.split(r"[\s\[<>=]", requirement)[0] for requirement in requirements}
            for kind, requirements in required.items()
        }
        imported = {name.partition(".")[0] for _, tree in trees("cyme") for name, _ in imports(tree)}
        imported = {
            DISTRIBUTIONS.get(name, name) for name in imported - sys.stdlib_module_names - {"cyme", ""}
        }
        self.assertEqual(imported - names["install"] - names["extra"], set(), "not required")
        self.assertEqual(names["install"] - imported, set(), "not used")


class ContractsTests(SynchronousTestCase):
    """Every seam has its contract, and every provider passes it."""

    def test_contracts(self) -> None:
        """The tests of an interface are applied to each class that implements it, fakes included."""
        known = contracts()
        used = list(applications())
        declared = {name for name, value in vars(interfaces).items() if isinstance(value, InterfaceClass)}
        wrong = []
        for interface, provider, module in [*implementers("cyme"), *implementers("tests/fakes")]:
            if interface not in declared:
                continue  # one of Twisted's
            applied = any(
                called & known.get(interface, set()) and spoken_of & {provider, module}
                for called, spoken_of in used
            )
            if interface not in known:
                wrong.append(f"{interface}: no make_..._tests in tests/contracts verifies it")
            elif not applied:
                wrong.append(f"{module}.{provider}: {sorted(known[interface])} is not applied to it")
        if wrong:
            self.fail("\n".join(sorted(set(wrong))))

    def test_providers(self) -> None:
        """Every interface has a provider in `cyme/`."""
        provided = {interface for interface, _, _ in implementers("cyme")}
        declared = {name for name, value in vars(interfaces).items() if isinstance(value, InterfaceClass)}
        self.assertEqual(declared - {"Interface"} - provided, set())
