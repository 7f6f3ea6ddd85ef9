"""Cyme as it reaches its users: wheel, editable install, checkout with `make run`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

import docutils.core
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.branch import READY, clean_environment
from tests.support.guard import kill_all_naming
from tests.support.guarded import Guarded
from tests.support.http import Client
from tests.support.schemas import make_old
from tests.support.sources import TOP

#: What a checkout holds, as far as installing it goes.
SOURCES = [
    *(".ci", "CHANGELOG.rst", "LICENSE", "MANIFEST.in", "Makefile", "README.rst", "cyme", "docs", "etc"),
    *("pyproject.toml", "requirements", "setup.py", "twisted"),
]

#: Where the libraries are that the tests run with.
SITE = Path(sysconfig.get_path("purelib"))

#: Seconds for a step that needs no network.
STEP = 120.0

#: Seconds for `make run` to download and install everything.
INSTALL = 600.0


def run(*argv: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a command and return what it wrote, both streams in one.

    :raises AssertionError: when it fails.
    """
    done = subprocess.run(
        [str(each) for each in argv],
        env={**clean_environment(), **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=STEP,
    )
    if done.returncode:
        raise AssertionError(f"{argv}: status {done.returncode}\n{done.stdout}")
    return done.stdout


def copy_checkout(to: Path) -> Path:
    """A copy of the sources, since building in the checkout itself would leave things there."""
    to.mkdir()
    leave = shutil.ignore_patterns("__pycache__", "*.pyc", "dropin.cache")
    for name in SOURCES:
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, to / name, ignore=leave)
        else:
            shutil.copy2(TOP / name, to / name)
    return to


class Environment:
    """A fresh virtual environment with Twisted, and with the other libraries of this one at hand.

    It needs no network: Twisted is copied into it, the rest is found through a `.pth` file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
        self.bin = folder / "venv" / "bin"
        (self.site,) = (folder / "venv" / "lib").glob("python*/site-packages")
        for found in [SITE / "twisted", *SITE.glob("[Tt]wisted-*.dist-info")]:
            shutil.copytree(found, self.site / found.name)
        # What builds, and nothing else: pip must not see the Cyme that is installed here.
        self._tools = folder / "tools"
        self._tools.mkdir()
        for pattern in ("setuptools", "setuptools-*", "pkg_resources", "_distutils_hack"):
            for found in SITE.glob(pattern):
                (self._tools / found.name).symlink_to(found)

    def pip(self, *arguments: str | Path) -> str:
        """Run pip on this environment, without the libraries that are only borrowed."""
        pth = self.site / "borrowed.pth"
        pth.unlink(missing_ok=True)
        env = {"PYTHONPATH": str(self._tools), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        done = run(
            sys.executable, "-m", "pip", "--python", self.bin / "python", *arguments, env=env, cwd=self.folder
        )
        pth.write_text(f"{SITE}\n")
        return done

    def install(self, *what: str | Path) -> str:
        return self.pip("install", "--no-index", "--no-deps", "--no-build-isolation", *what)

    def twistd(self, *arguments: str) -> str:
        """Run this environment's `twistd`."""
        program = "from twisted.scripts.twistd import run; run()"
        return run(self.bin / "python", "-c", program, *arguments, cwd=self.folder)

    def files_of_twisted(self) -> set[str]:
        """Every file of the Twisted in it, apart from what running leaves there."""
        return {
            str(path.relative_to(self.site))
            for path in (self.site / "twisted").rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and path.name != "dropin.cache"
        }


class InstallTests(SynchronousTestCase):
    """Installing into a fresh environment, and out of it again."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cyme-packaging-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.checkout = copy_checkout(self.folder / "checkout")

    def build(self) -> Path:
        """A wheel of the copy."""
        wheels = self.folder / "wheels"
        run(
            *(sys.executable, "-m", "pip", "wheel", "-q", "--no-index", "--no-deps", "--no-build-isolation"),
            *("-w", wheels, self.checkout),
            cwd=self.folder,
        )
        (wheel,) = wheels.iterdir()
        return wheel

    def assert_works_and_goes(self, *what: str | Path) -> None:
        """Install, look at what works, uninstall, look at what is left."""
        environment = Environment(self.folder)
        before = environment.files_of_twisted()
        environment.install(*what)
        self.assertIn("cyme", environment.twistd("--help"))
        self.assertIn("--broker", environment.twistd("cyme", "--help"))
        self.assertIn("--broker", run(environment.bin / "cyme-branch", "--help", cwd=self.folder))
        self.assertIn("cyme instances", run(environment.bin / "cyme", "--help", cwd=self.folder))
        environment.pip("uninstall", "-y", "cyme")
        self.assertEqual(environment.files_of_twisted(), before)
        self.assertNotIn("cyme", environment.twistd("--help"))
        self.assertFalse((environment.bin / "cyme-branch").exists())

    def test_wheel(self) -> None:
        """Installed from a wheel the commands work; uninstalled, Twisted is as it was."""
        self.assert_works_and_goes(self.build())

    def test_editable(self) -> None:
        """Installed in place, as developers do, the commands work just the same."""
        self.assert_works_and_goes("-e", self.checkout)

    def test_contents(self) -> None:
        """A wheel holds the package, its type marker and the plug-in, and no folder of Twisted's own."""
        names = zipfile.ZipFile(self.build()).namelist()
        for name in (
            *("cyme/py.typed", "cyme/bus/amqp/spec.xml", "cyme/tap.py", "cyme/api/__init__.py"),
            *("cyme/admin/templates/base.html", "cyme/admin/static/cyme.css"),
        ):
            self.assertIn(name, names)
        tops = {name.partition("/")[0] for name in names}
        self.assertEqual({top for top in tops if not top.endswith(".dist-info")}, {"cyme", "twisted"})
        ours = [name for name in names if name.startswith("twisted/")]
        self.assertEqual(ours, ["twisted/plugins/cyme_plugin.py"])


class ReleaseTests(SynchronousTestCase):
    """What is uploaded for a release."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cyme-release-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def assert_no_warning(self, said: str) -> None:
        warnings = [line for line in said.splitlines() if re.search("warning|deprecat", line, re.IGNORECASE)]
        self.assertEqual(warnings, [])

    def test_release(self) -> None:
        """The sdist, and the wheel that is built from it, pass PyPI's check and install without a warning."""
        checkout = copy_checkout(self.folder / "checkout")
        shutil.copytree(TOP / "tests", checkout / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        command = [sys.executable, "-W", "default", "-m", "build", "--no-isolation"]
        # Who sets this is told that nothing was compiled.
        env = {"PYTHONDONTWRITEBYTECODE": ""}
        self.assert_no_warning(run(*command, "-o", self.folder / "dist", checkout, env=env))
        sdist, wheel = sorted((self.folder / "dist").iterdir(), key=lambda path: path.suffix)
        run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
        with tarfile.open(sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        for name in (
            *("CHANGELOG.rst", "LICENSE", "etc/cyme.conf", "requirements/test.txt", "tests/__init__.py"),
            *("tests/data/schemas/1-sqlite.sql", "cyme/store/migrations/versions/schema_6.py"),
        ):
            self.assertIn(name, names)
        environment = Environment(self.folder)
        self.assert_no_warning(environment.install(wheel))
        # Alembic finds the migrations by their place in the package.
        database = self.folder / "old.db"
        make_old(str(database), 1)
        program = (
            "import sys; from twisted.internet import reactor; from cyme.store import SQLStore;"
            "store = SQLStore(reactor, sys.argv[1], 'b1'); store.open(); store.close()"
        )
        run(environment.bin / "python", "-c", program, f"sqlite:///{database}", cwd=self.folder)
        self.assertTrue((self.folder / "old.db.schema-1.backup").exists())


class CheckoutTests(TestCase):
    """The commands of a bare checkout."""

    timeout = INSTALL + STEP

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cyme-checkout-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.addCleanup(kill_all_naming, str(self.folder))
        self.checkout = copy_checkout(self.folder / "checkout")

    async def test_run(self) -> None:
        """`make run` on a bare checkout makes an environment and starts a branch that answers."""
        options = f"ARGS=-D {self.folder}/root --http 127.0.0.1:0 --broker embedded"
        command = ["make", f"PYTHON={sys.executable}", "run", options]
        make = Guarded(command, clean_environment(), cwd=str(self.checkout), root=str(self.folder))
        line = await deferToThread(make.wait_for_line, lambda line: READY.search(line) is not None, INSTALL)
        match = READY.search(line)
        assert match is not None
        answer = await Client(self, match["url"]).get("/ping/")
        self.assertEqual((answer.status, answer.json), (200, {"ok": "pong"}))
        os.kill(int(match["pid"]), signal.SIGTERM)
        self.assertEqual(await deferToThread(make.wait, STEP), 0)

    def test_old_python(self) -> None:
        """With a Python that is too old, `make` says which one it needs and how to name another."""
        old = self.folder / "python2"
        old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 2.7.18\nexit 1\n')
        old.chmod(0o755)
        done = subprocess.run(
            ["make", f"PYTHON={old}", "run"], cwd=self.checkout, capture_output=True, text=True, timeout=STEP
        )
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("Python 3.10 or later", done.stderr)
        self.assertIn("Python 2.7.18", done.stderr)
        self.assertFalse((self.checkout / ".venv").exists())

    def test_help(self) -> None:
        """`make` alone says what there is and does nothing."""
        self.assertIn("make run", run("make", cwd=self.checkout))
        self.assertFalse((self.checkout / ".venv").exists())


class ReadmeTests(SynchronousTestCase):
    """The page that stands on every index of packages."""

    def test_markup(self) -> None:
        """The README is reStructuredText without a fault."""
        docutils.core.publish_doctree(
            (TOP / "README.rst").read_text(encoding="utf-8"),
            settings_overrides={"halt_level": 2, "report_level": 5, "file_insertion_enabled": False},
        )
