"""The API's description against a real branch: schemathesis sends what it allows, and what it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any

from openapi_spec_validator import validate
from twisted.internet.threads import deferToThread

from tests.functional.branchcase import BranchTestCase
from tests.support.branch import BIN
from tests.support.brokers import OnRabbitMQ

#: The same requests each time.
SEED = "20"
#: What the description can't say: which values don't go together, and which words a shell would not split.
EXCLUDED = "positive_data_acceptance"
#: The contract has 501 for `!` on a GET.
ASYNCHRONOUS = "unsupported_method,not_a_server_error"


def schemathesis(folder: str, url: str, *options: str) -> str:
    """Run schemathesis; what it found, shortened; empty for nothing. Blocks."""
    # Rate limits, reports and the rest of its settings are as they come: no file of the checkout counts.
    done = subprocess.run(
        [os.path.join(BIN, "schemathesis"), *options[:2], "run", f"{url.rstrip('/')}/openapi.json"]
        + ["--seed", SEED, "--no-color", "--generation-deterministic", "--request-timeout", "30"]
        + ["--exclude-checks", EXCLUDED, "--phases", "coverage,fuzzing", "-n", "2", *options[2:]],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=150,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    if not done.returncode:
        return ""
    lines = [line[:200] for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return "\n".join(lines[:80])


class OpenAPITests(OnRabbitMQ, BranchTestCase):
    """A branch with an app, a queue, an instance and a task."""

    # What it sends is nonsense by design, and much of it at once.
    stall_limit = 0.5

    async def config(self, **segments: str) -> tuple[str, str]:
        """A configuration by which paths name what there is."""
        self.scratch = tempfile.mkdtemp(prefix="cyme-schemathesis-")
        self.addCleanup(shutil.rmtree, self.scratch)
        path = os.path.join(self.scratch, "schemathesis.toml")
        lines = [f'"path.{name}" = "{value}"' for name, value in segments.items()]
        with open(path, "w") as file:
            file.write("\n".join(["[parameters]", *lines, '"query.wait" = 0', '"query.timeout" = 0', ""]))
        return "--config-file", path

    async def run_with(self, config: tuple[str, str], *options: str) -> None:
        found = await deferToThread(schemathesis, self.scratch, self.branch.url, *config, *options)
        self.assertFalse(found, found)

    async def test_valid(self) -> None:
        """The description is OpenAPI 3.1, and every path in it is one of the branch's."""
        described = await self.ask("GET", "/openapi.json")
        await deferToThread(validate, described)
        self.assertEqual(described["openapi"], "3.1.0")
        operations: list[Any] = [one for path in described["paths"].values() for one in path.values()]
        ids = [one["operationId"] for one in operations]
        self.assertEqual(len(ids), len(set(ids)))
        self.assertIn("`admin`", described["paths"]["/{app}/"]["delete"]["description"])

    async def test_reads(self) -> None:
        """What there is answers in the shapes that the description tells."""
        await self.create()
        await self.ask("PUT", "/foo/queues/tasks/", 201)
        queued = await self.ask("POST", "/foo/queue/tasks/http://127.0.0.1:9/", 202)
        config = await self.config(
            app="foo", name="w1", queue="tasks", branch="branch1", uuid=queued["uuid"], task="proj.add"
        )
        await self.run_with(config, "--include-method", "GET")

    async def test_changes(self) -> None:
        """Whatever is sent there is an answer of the contract, and never a 500."""
        await self.ask("PUT", "/foo/", 201)
        config = await self.config(app="foo", queue="tasks", name="w1", branch="nobody")
        # Instances would start workers; the tests of instances do that.
        paths = ("--exclude-path-regex", "!|instance")
        await self.run_with(config, *paths)
        asynchronous = ("--include-path-regex", "!", "--exclude-path-regex", "instance")
        await self.run_with(config, *asynchronous, "--exclude-checks", f"{EXCLUDED},{ASYNCHRONOUS}")
