"""What the README and the documentation say, as far as it can be looked up without running it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import click
import yaml
from twisted.trial.unittest import SynchronousTestCase

from cyme.api.queueing import METHODS
from cyme.api.routing import roots_of
from cyme.api.site import all_routes
from cyme.cli import BranchOptions, ListOptions, TokenOptions
from cyme.commands.main import main
from cyme.controller.cordoning import TRANSITIONS
from cyme.declarations import App, Instance, Queue
from cyme.settings import OPTIONS, from_file
from tests.support.samples import BadPage, Block, blocks, pages, parse, read, setting
from tests.support.sources import TOP
from tests.support.transcripts import matches

#: The languages of blocks, and of those that are only run by people.
RUN = frozenset({"console", "python"})
SHOWN = frozenset({"text", "json", "yaml", "ini", "dockerfile", "sql", "rst", "nginx", "diff"})
#: Options of other programs that pages name.
FOREIGN = frozenset({"--without-heartbeat"})
_VARIABLE = re.compile(r"(?<![\w$])_?CYME_[A-Z_]+")
_FILE = re.compile(r"(?<![\w/.<-])(?:etc|tests|bench|docs)/[\w./-]*\w")
_LITERAL = re.compile(r"``([^`]+)``")
_REQUEST = re.compile(rf"((?:{'|'.join(METHODS)})(?:\|[A-Z]+)*) (/\S*)")


def text_of(page: str) -> str:
    return (TOP / page).read_text(encoding="utf-8")


def literals(page: str) -> Iterator[tuple[str, str]]:
    """Where, and what, of everything that a page has as typed text in its sentences."""
    for number, line in enumerate(text_of(page).split("\n"), 1):
        for match in _LITERAL.finditer(line):
            yield f"{page}:{number}", match[1]


def options_of_clicks(command: click.Command) -> Iterator[str]:
    """The options of a command and of all of its own commands."""
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from options_of_clicks(each)


def own_options() -> set[str]:
    """The long options of all of Cyme's commands."""
    found = {"--help", "--version", *options_of_clicks(main)}
    for options in (BranchOptions, ListOptions, TokenOptions):
        found |= {f"--{name.rstrip('=')}" for name in options().longOpt}
    return found


def variables() -> set[str]:
    """The environment variables that mean something to Cyme."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (TOP / "cyme").rglob("*.py"))
    others = text_of("Makefile") + text_of("etc/container/compose.yml")
    return (
        {option.variable for option in OPTIONS}
        | {"_CYME_COMPLETE"}
        | set(re.findall(r"\bCYME_[A-Z_]+\b", sources + others))
    )


def targets() -> set[str]:
    """What `make` can be told."""
    return set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))


class PagesTests(SynchronousTestCase):
    """How pages are written."""

    def test_readme(self) -> None:
        """The README is short."""
        self.assertLessEqual(len(text_of("README.rst").splitlines()), 150)

    def test_settings(self) -> None:
        """Every page says what runs before it begins, and has nothing to run where it says that."""
        wrong = []
        for page in pages():
            try:
                found = read(page)
                is_run = any(isinstance(one, Block) and one.is_run and one.language in RUN for one in found)
                if setting(page) == "none" and is_run:
                    wrong.append(f"{page}: its setting is 'none', and it has something to run")
            except BadPage as problem:
                wrong.append(str(problem))
        self.assertEqual(wrong, [])

    def test_blocks(self) -> None:
        """Every block has a language that something is done with, and its text is of that language."""
        wrong = []
        for block in blocks():
            try:
                self.check_block(block)
            except Exception as problem:
                wrong.append(f"{block.page}:{block.line}: {problem}")
        self.assertEqual(wrong, [])

    def check_block(self, block: Block) -> None:
        if block.language not in RUN | SHOWN and block.is_run:
            raise BadPage(f"nothing is done with the language {block.language}; is it not to be run?")
        if not block.text:
            raise BadPage("it is empty")
        if block.language == "console":
            block.commands()
        elif block.language == "python":
            compile(block.text, block.page, "exec")
        elif block.language == "yaml":
            list(yaml.safe_load_all(block.text))
        elif block.language == "json":
            json.loads(block.text.replace("...", ""))
        elif block.language == "ini" and block.text.startswith("[cyme]"):
            path = self.mktemp()
            with open(path, "w", encoding="utf-8") as file:
                file.write(block.text)
            from_file(path)

    def test_not_run(self) -> None:
        """Every block that no test runs says why, beside it; every block that says why is not run."""
        not_run = [block for block in blocks() if not block.is_run]
        self.assertEqual([f"{one.page}:{one.line}" for one in not_run if not one.reason], [])
        self.assertEqual([f"{one.page}:{one.line}" for one in blocks() if one.is_run and one.reason], [])


class NamesTests(SynchronousTestCase):
    """What is named exists."""

    def test_variables(self) -> None:
        """Environment variables of ours are some that are read."""
        known = variables()
        wrong = [
            f"{page}: {match[0]}"
            for page in pages()
            for match in _VARIABLE.finditer(text_of(page))
            if match[0] not in known
        ]
        self.assertEqual(wrong, [])

    def test_files(self) -> None:
        """Files of the checkout are there."""
        wrong = [
            f"{page}: {match[0]}"
            for page in pages()
            for match in _FILE.finditer(text_of(page))
            if not (TOP / match[0]).exists()
        ]
        self.assertEqual(wrong, [])

    def test_options(self) -> None:
        """Options in sentences, and of our commands in blocks, are options of ours."""
        known = own_options()
        wrong = [
            f"{where}: {word}"
            for page in pages()
            for where, text in literals(page)
            for word in re.findall(r"(?:^| )(--[a-z][\w-]*)", text)
            if word not in known | FOREIGN
        ]
        for block in blocks():
            for line in block.text.replace("\\\n", " ").split("\n"):
                match = re.search(r"(?:^|[ \"'/])(cyme|cyme-branch|cyme-token|cyme-list-branches) (.*)", line)
                if match is not None and block.language != "python":
                    words = re.findall(r"(?:^|[ \"'])(--[a-z][\w-]*)", " " + match[2])
                    wrong += [f"{block.page}:{block.line}: {one}" for one in words if one not in known]
        self.assertEqual(wrong, [])

    def test_targets(self) -> None:
        """What `make` is told is what it can be told."""
        known = targets()
        said = [(where, text) for page in pages() for where, text in literals(page)]
        said += [
            (f"{block.page}:{block.line}", command.text)
            for block in blocks()
            if block.language == "console"
            for command in block.commands()
        ]
        wrong = []
        for where, text in said:
            if text.startswith("make "):
                words = [word for word in shlex.split(text)[1:] if "=" not in word]
                wrong += [f"{where}: {text}" for word in words if word not in known]
        self.assertEqual(wrong, [])

    def test_events(self) -> None:
        """Every kind of event is explained."""
        sources = "".join(path.read_text(encoding="utf-8") for path in (TOP / "cyme").rglob("*.py"))
        kinds = set(re.findall(r"record\(\s*\"([a-z-]+)\"", sources)) | {"broker-away", "lost"}
        kinds |= {kind for _, kind in TRANSITIONS.values()}
        for what in (App, Queue, Instance):
            kinds |= {f"{what.kind}-{how}" for how in ("created", "changed", "deleted")}
        self.assertLess({"started", "branch-drained", "broker-back"}, kinds)
        text = text_of("docs/guides/events.rst")
        self.assertEqual([kind for kind in sorted(kinds) if f"``{kind}``" not in text], [])

    def test_requests(self) -> None:
        """Requests in sentences are such as some route serves."""
        routes: list[tuple[Any, re.Pattern[str]]] = []
        roots = "|".join(map(re.escape, roots_of(all_routes(dict))))
        for route in all_routes(dict):
            for path in (*route.paths, *route.asynchronous_paths):
                pattern = path.rstrip("/").replace("<app>", rf"(?!({roots})(/|$))[^/]+")
                pattern = re.sub(r"<\w+>", "[^/]+", pattern) + "/?"
                routes.append((route, re.compile(pattern)))
        wrong = []
        for page in pages():
            for where, text in literals(page):
                match = _REQUEST.fullmatch(text)
                if match is None or "/queue/" in text:
                    continue
                path = match[2].partition("?")[0]
                serving = [route for route, pattern in routes if pattern.fullmatch(path)]
                served = {method for route in serving for method in route.methods}
                if not serving or not set(match[1].split("|")) <= served:
                    wrong.append(f"{where}: {text}")
        self.assertEqual(wrong, [])


PAGE = """.. samples: own

Title
=====

.. before: curl http://localhost:8001/

.. code-block:: console

   $ curl -i \\
       http://localhost:8001/foo/
   HTTP/1.1 200 OK
   ...
   $ echo $?

* An item:

  .. not run: there is none here
  .. code-block:: yaml
     :class: not-run
     :caption: a.yml

     a: 1

     b: 2

Text.
"""


class SamplesTests(SynchronousTestCase):
    """How pages are read."""

    def test_parts(self) -> None:
        """Blocks and comments that mean something come in their order, with their lines."""
        found = list(parse("page", PAGE))
        self.assertEqual([one.line for one in found], [1, 6, 8, 19])
        console, file = found[2], found[3]
        assert isinstance(console, Block) and isinstance(file, Block)
        first, second = console.commands()
        self.assertEqual((first.line, second.line), (10, 14))
        self.assertEqual(first.text, "curl -i \\\n    http://localhost:8001/foo/")
        self.assertEqual(first.shown, ("HTTP/1.1 200 OK", "..."))
        self.assertEqual((file.is_run, file.reason, file.file), (False, "there is none here", "a.yml"))
        self.assertEqual((file.text, console.reason), ("a: 1\n\nb: 2", None))

    def test_bare(self) -> None:
        """A literal block without a language is refused by page and line."""
        problem = self.assertRaises(BadPage, lambda: list(parse("page", "Text\n\nLook::\n\n    x\n")))
        self.assertIn("page:3", str(problem))

    def test_console(self) -> None:
        """A console that does not begin with a command is refused."""
        [block] = parse("page", ".. code-block:: console\n\n   curl\n")
        assert isinstance(block, Block)
        self.assertRaises(BadPage, block.commands)

    def test_matches(self) -> None:
        """What came is compared but for white space, and for what stands in place of anything."""
        for shown, came in (
            (["a  b"], "a\nb\n"),
            (["a ...", "z"], "a 1\n2 z"),
            (['{"a": ..., "b": 1...}'], '{"a": [], "b": 1, "c": 2}'),
            (["..."], ""),
            (["...a"], "ba"),
        ):
            self.assertTrue(matches(shown, came), (shown, came))
        for shown, came in (
            (["a"], "a b"),
            (["a..."], "ba"),
            (["...a"], "ab"),
            (["ab...ba"], "aba"),
            (["a...c...b"], "a b c"),
        ):
            self.assertFalse(matches(shown, came), (shown, came))
