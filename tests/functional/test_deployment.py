"""The files in `etc/`, held against the tools that read them."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from cyme.settings import BY_NAME, OPTIONS
from tests.functional.branchcase import BranchTestCase
from tests.support.brokers import OnEmbedded
from tests.support.sources import TOP
from tests.support.waiting import eventually

ETC = TOP / "etc"
UNIT = ETC / "systemd" / "cyme-branch.service"
#: How open systemd may find the unit, in tenths of its points, of which 100 is the most.
EXPOSURE = "40"


def run(*argv: str | Path) -> str:
    """Run a tool; what it wrote, both streams in one.

    :raises AssertionError: when it fails.
    """
    done = subprocess.run(
        [str(one) for one in argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    if done.returncode:
        raise AssertionError(f"{argv}: status {done.returncode}\n{done.stdout}")
    return done.stdout


def tool(name: str) -> str:
    """A tool that was installed beside this Python."""
    return os.path.join(os.path.dirname(sys.executable), name)


class FolderTestCase(SynchronousTestCase):
    """A test with a folder."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cyme-etc-"))
        self.addCleanup(shutil.rmtree, self.folder)


class SystemdTests(FolderTestCase):
    """What systemd says of its files, without running them."""

    def installed(self) -> Path:
        """The unit as it would be installed on this machine."""
        unit = self.folder / UNIT.name
        text, count = re.subn(r"(?m)^ExecStart=\S+", f"ExecStart={tool('cyme-branch')}", UNIT.read_text())
        self.assertEqual(count, 1)
        unit.write_text(text)
        return unit

    def test_unit(self) -> None:
        """It has nothing to say against the unit."""
        self.assertEqual(run("systemd-analyze", "verify", self.installed()), "")

    def test_unknown(self) -> None:
        """It would speak of a setting that it does not know."""
        unit = self.installed()
        unit.write_text(unit.read_text().replace("OOMPolicy=", "OOMPolice="))
        self.assertIn("OOMPolice", run("systemd-analyze", "verify", unit))

    def test_exposure(self) -> None:
        """It finds the unit no more open than workers need it."""
        unit = self.installed()
        run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", unit)

    def test_user_and_folders(self) -> None:
        """User and folders are made as the unit wants them, for nobody else to read."""
        (self.folder / "etc").mkdir()
        root = f"--root={self.folder}"
        run("systemd-sysusers", root, ETC / "systemd" / "cyme.sysusers")
        [user] = (self.folder / "etc" / "passwd").read_text().splitlines()
        name, _, uid, gid, _, home, shell = user.split(":")
        self.assertEqual((name, home, shell), ("cyme", "/var/lib/cyme", "/usr/sbin/nologin"))
        if os.getuid() != 0:
            # Only root can give folders to others.
            return
        run("systemd-tmpfiles", root, "--create", ETC / "systemd" / "cyme.tmpfiles")
        for path, owner in (("etc/cyme", 0), ("run/cyme", int(uid)), ("var/lib/cyme", int(uid))):
            found = os.stat(self.folder / path)
            self.assertEqual((found.st_uid, found.st_gid), (owner, int(gid)), path)
            self.assertEqual(stat.S_IMODE(found.st_mode), 0o750, path)


class ContainerTests(SynchronousTestCase):
    """Images and clusters, as far as they can be checked without an engine."""

    def test_dockerfile(self) -> None:
        """The linter of Dockerfiles finds nothing."""
        run(tool("hadolint"), "--no-color", ETC / "container" / "Dockerfile")

    def test_kubernetes(self) -> None:
        """Every object fits the schema of its kind."""
        said = run(tool("kubernetes-validate"), "--strict", ETC / "kubernetes" / "cyme.yaml")
        kinds = {one["kind"].lower() for one in self.objects()}
        self.assertEqual(kinds, {"service", "poddisruptionbudget", "statefulset"})
        for kind in kinds:
            self.assertIn(f"passed for resource {kind}/", said)

    def objects(self) -> list[Any]:
        return list(yaml.safe_load_all((ETC / "kubernetes" / "cyme.yaml").read_text()))

    def test_time_to_stop(self) -> None:
        """Whoever stops a branch gives it longer than its workers may take."""
        [workload] = [one for one in self.objects() if one["kind"] == "StatefulSet"]
        pod = workload["spec"]["template"]["spec"]
        [container] = pod["containers"]
        env = {one["name"]: one.get("value") for one in container["env"]}
        self.assertGreater(pod["terminationGracePeriodSeconds"], float(env["CYME_WARM_TIMEOUT"]) + 20)
        compose = yaml.safe_load((ETC / "container" / "compose.yml").read_text())
        default = float(BY_NAME["warm-timeout"].default_value)
        for name in ("branch1", "branch2"):
            seconds = float(compose["services"][name]["stop_grace_period"].removesuffix("s"))
            self.assertGreater(seconds, default + 20)

    def test_same_user(self) -> None:
        """The image runs as the user that Kubernetes is told of, on the port that is asked."""
        dockerfile = (ETC / "container" / "Dockerfile").read_text()
        [workload] = [one for one in self.objects() if one["kind"] == "StatefulSet"]
        pod = workload["spec"]["template"]["spec"]
        self.assertIn(f"--uid {pod['securityContext']['runAsUser']} ", dockerfile)
        self.assertIn(f"\nUSER {pod['securityContext']['runAsUser']}:", dockerfile)
        port = pod["containers"][0]["ports"][0]["containerPort"]
        self.assertIn(f"CYME_HTTP=0.0.0.0:{port} ", dockerfile)
        self.assertIn(f"http://127.0.0.1:{port}/ping/", dockerfile)


class NamesTests(SynchronousTestCase):
    """What the files say of Cyme."""

    def files(self) -> list[Path]:
        return [path for path in [*ETC.rglob("*"), TOP / ".dockerignore"] if path.is_file()]

    def test_settings(self) -> None:
        """Every option and variable that they name exists."""
        options = {f"--{one.name}" for one in OPTIONS}
        # The file's own name is no setting; the last is what compose.yml makes others of.
        variables = {one.variable for one in OPTIONS} | {"CYME_CONFIG", "CYME_RABBITMQ_PASSWORD"}
        named = 0
        for path in self.files():
            text = path.read_text()
            for name in re.findall(r"\bCYME_[A-Z_]+\b", text):
                named += 1
                self.assertIn(name, variables, path)
            for line in text.splitlines():
                if "cyme-branch " in line or "(--" in line:
                    for option in re.findall(r"(?<![\w-])--[a-z-]+", line):
                        named += 1
                        self.assertIn(option, options, path)
        self.assertGreater(named, 40)

    def test_programs(self) -> None:
        """Every command of Cyme's that they name is installed."""
        for path in self.files():
            for name in re.findall(r"\bcyme-(?:branch|token|list)\b(?![-.])", path.read_text()):
                self.assertTrue(os.path.exists(tool(name)), (path, name))


class RotationTests(OnEmbedded, BranchTestCase):
    """logrotate, with its file in `etc/`."""

    async def test_rotation(self) -> None:
        """A worker goes on in a new log after its own was moved away, and no line is lost."""
        await self.http.put("/foo/", form={"celery_app": "proj.celery:app", "pool": "threads"})
        await self.create()
        root = Path(self.branch.root)
        log = root / "w1" / "worker.log"
        text = (ETC / "cyme.logrotate").read_text()
        # The folders of a test belong to whoever runs it.
        own = text.replace("/var/lib/cyme", str(root)).replace("    su cyme cyme\n", "")
        self.assertEqual((own.count(str(root)), "su " in own), (3, False))
        configuration = root / "logrotate.conf"
        configuration.write_text(own)
        configuration.chmod(0o600)
        await self.do("first")
        before = log.read_text()
        await deferToThread(run, "logrotate", "--force", "--state", root / "logrotate.state", configuration)
        self.assertEqual((root / "w1" / "worker.log.1").read_text(), before)
        await self.do("second")
        self.assertEqual((root / "w1" / "worker.log.1").read_text(), before)
        lines = (await self.http.get("/foo/instances/w1/log/")).text
        self.assertIn("succeeded", lines)
        self.assertNotIn("ready.", lines)

    async def do(self, name: str) -> None:
        """Have the worker do a task, and wait until its log says that it did."""
        log = Path(self.branch.root) / "w1" / "worker.log"

        async def logged() -> bool:
            return log.exists() and "succeeded" in log.read_text()

        await self.send("proj.celery.leave", self.path(name), "done", queue="dq.w1")
        await eventually(logged, 30.0)
