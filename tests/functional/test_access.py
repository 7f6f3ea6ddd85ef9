"""A branch with tokens, as its operator and its users have it."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
from typing import Any

from twisted.internet.threads import deferToThread

from tests.functional.startcase import StartTestCase
from tests.support.branch import BIN
from tests.support.certificates import Authority
from tests.support.curl import curl
from tests.support.waiting import eventually


class TokensTests(StartTestCase):
    """A branch that needs tokens, over TLS."""

    def add_token(self, name: str, scope: str) -> str:
        """Make a token by the command, and add its line to the file."""
        made = subprocess.run(
            [os.path.join(BIN, "cyme-token"), name, scope], capture_output=True, text=True, check=True
        )
        with open(self.tokens, "a", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(made.stdout)
        return made.stderr.strip()

    async def curl(self, *arguments: str) -> Any:
        return await deferToThread(curl, "--cacert", self.authority.path, *arguments)

    async def test_tokens(self) -> None:
        """Made by the command, taken over TLS, added and removed without a restart; secrets are in no log."""
        self.tokens = os.path.join(self.folder, "tokens")
        alice = self.add_token("alice", "admin")
        self.authority = Authority(self.folder)
        certificate, key = self.authority.issue("localhost", "127.0.0.1")
        branch = self.run_command(
            "cyme-branch",
            *("-D", self.root, "-b", "embedded", "--auth-token-file", self.tokens, "--open-metrics"),
            *("--http", f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}", "-l", "debug"),
        )
        url, pid = await self.ready(branch)
        url = f"https://localhost:{url.rstrip('/').rpartition(':')[2]}"
        bearer = ("-H", f"Authorization: Bearer {alice}")
        answer = await self.curl("-X", "PUT", f"{url}/foo/")
        self.assertEqual(answer.status, 401, answer)
        self.assertEqual((await self.curl(f"{url}/ping/")).status, 200)
        answer = await self.curl(*bearer, "-X", "PUT", f"{url}/foo/")
        self.assertEqual(answer.status, 201, answer)

        async def events() -> Any:
            return (await self.curl("-u", f"alice:{alice}", f"{url}/events/")).json

        event = (await eventually(events, 30.0))[-1]
        self.assertEqual((event["app"], event["who"]), ("foo", "alice, http 127.0.0.1"))
        bob = self.add_token("bob", "read:foo")
        reader = ("-H", f"Authorization: Bearer {bob}")
        self.assertEqual((await self.curl(*reader, f"{url}/foo/")).status, 401)
        os.kill(pid, signal.SIGHUP)
        await self.said(branch, "has 2 tokens")
        self.assertEqual((await self.curl(*reader, f"{url}/foo/")).status, 200)
        self.assertEqual((await self.curl(*reader, "-X", "DELETE", f"{url}/foo/")).status, 403)
        with open(self.tokens, "w") as file:
            file.write("alice admin\n")
        os.kill(pid, signal.SIGHUP)
        await self.said(branch, "the tokens stay as they were: line 1")
        self.assertEqual((await self.curl(*bearer, f"{url}/foo/")).status, 200)
        for secret in (alice, bob):
            self.assertNotIn(secret, branch.log_text())

    async def test_refused(self) -> None:
        """A branch does not start with a token file that is missing, or that others can read."""
        self.tokens = os.path.join(self.folder, "tokens")
        options = ("-D", self.root, "-b", "embedded", "--http", "0.0.0.0:0", "--auth-token-file", self.tokens)
        for words in ("No such file", "chmod 600"):
            branch = self.run_command("cyme-branch", *options)
            self.assertEqual(await self.ended(branch), 1)
            self.assertIn(words, branch.log_text())
            self.add_token("alice", "admin")
            os.chmod(self.tokens, 0o644)

    async def test_open_address(self) -> None:
        """With tokens a branch may listen where other machines reach it."""
        self.tokens = os.path.join(self.folder, "tokens")
        self.add_token("alice", "admin")
        options = ("-D", self.root, "-b", "embedded", "--http", "0.0.0.0:0", "--auth-token-file", self.tokens)
        branch = self.run_command("cyme-branch", *options)
        await self.ready(branch)

    async def test_unix(self) -> None:
        """The mode of a unix socket is what the endpoint says."""
        path = os.path.join(self.folder, "http.sock")
        branch = self.run_command(
            "cyme-branch", "-D", self.root, "-b", "embedded", f"--http=unix:{path}:mode=600"
        )
        await self.said(branch, "[READY]")
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        answer = await deferToThread(curl, "--unix-socket", path, "http://localhost/ping/")
        self.assertEqual(answer.status, 200)
        with socket.socket(socket.AF_UNIX) as half_open:
            half_open.connect(path)
            half_open.sendall(b"GET /ping/ HT")
            answer = await deferToThread(curl, "--unix-socket", path, "http://localhost/ping/")
            self.assertEqual(answer.status, 200)
