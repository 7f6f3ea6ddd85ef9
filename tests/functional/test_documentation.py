"""The documentation as it is built."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from twisted.trial.unittest import SynchronousTestCase

from cyme.api import openapi
from cyme.api.site import all_routes
from cyme.commands.main import main
from cyme.exits import Reason
from cyme.metrics.collecting import Known, families
from cyme.settings import OPTIONS
from tests.support.branch import clean_environment
from tests.support.sources import TOP

#: Seconds that building may take; it takes about five on an idle machine.
BUILD = 180.0


def commands(words: str, group: click.Group) -> Iterator[str]:
    """Every command, and every option of it, that its help tells of."""
    for name, command in group.commands.items():
        if not command.hidden:
            yield f"{words} {name}"
            for one in command.params:
                if isinstance(one, click.Option) and not one.hidden:
                    yield one.opts[-1]
            if isinstance(command, click.Group):
                yield from commands(f"{words} {name}", command)


class BuildTests(SynchronousTestCase):
    """All pages, as HTML."""

    def test_built(self) -> None:
        """They are built without a warning, and the references hold all that there is."""
        folder = Path(tempfile.mkdtemp(prefix="cyme-docs-"))
        self.addCleanup(shutil.rmtree, folder)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html"),
                *("-d", str(folder / "doctrees"), str(TOP / "docs"), str(folder / "html")),
            ],
            cwd=folder,
            env={**clean_environment(), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.folder = folder / "html"
        self.assert_routes()
        self.assert_in("options", (f"--{option.name}" for option in OPTIONS))
        self.assert_in("options", (option.variable for option in OPTIONS))
        self.assert_in("commands", commands("cyme", main))
        self.assert_in("metrics", (family.name for family in families(Known(branch="", version=""))))
        self.assert_in("reasons", (reason.value for reason in Reason))
        self.assert_nothing_from_elsewhere()

    def text(self, page: str) -> str:
        """The text of a reference, without its markup."""
        source = (self.folder / "reference" / f"{page}.html").read_text(encoding="utf-8")
        return html.unescape(re.sub(r"<[^>]+>", "", source))

    def assert_in(self, page: str, names) -> None:
        text = self.text(page)
        self.assertEqual([name for name in names if name not in text], [])

    def assert_routes(self) -> None:
        """Every path, with each parameter of its, is in the reference; every link to a route leads there."""
        text = self.text("http")
        for path, item in openapi.document(all_routes(dict))["paths"].items():
            self.assertIn(path, text)
            for method, operation in item.items():
                self.assertRegex(text, rf"\b{method.upper()}\b")
                missing = [one["name"] for one in operation["parameters"] if one["name"] not in text]
                self.assertEqual(missing, [], path)

    def assert_nothing_from_elsewhere(self) -> None:
        """A page that is read makes no request to anybody."""
        for page in self.folder.rglob("*.html"):
            source = page.read_text(encoding="utf-8")
            loaded = re.findall(r"<(?:script|img|iframe)[^>]*\bsrc=\"([^\"]+)\"", source)
            links = re.findall(r"<link[^>]*rel=\"(?:stylesheet|preload|icon)\"[^>]*>", source)
            loaded += re.findall(r"href=\"([^\"]+)\"", " ".join(links))
            self.assertEqual([one for one in loaded if re.match(r"(https?:)?//", one)], [], page.name)
