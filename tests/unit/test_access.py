"""Tokens, scopes, sessions, and the slowing of those who guess."""

from __future__ import annotations

import os
from itertools import count
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from cyme.access import ANYBODY, Principal, Scope
from cyme.access.sessions import COOKIE, IDLE, LASTS, SESSIONS_MOST, Sessions, cookie
from cyme.access.throttle import ADDRESSES_MOST, FREE_TRIES, PUT_OFF_MOST, Guesses, Rates
from cyme.access.tokenfile import TokenFile
from cyme.access.tokens import PREFIX, TOKEN_MOST, TOKENS_MOST, BadTokens, line_of, make_token, read_tokens
from cyme.cli import cyme_token
from cyme.errors import CannotStart

ALICE = make_token(lambda size: b"a" * size)
BOB = make_token(lambda size: b"b" * size)
HASH = "sha256:" + "0" * 64


class TokenTests(SynchronousTestCase):
    """Tokens, and the lines that stand for them."""

    def test_lines(self) -> None:
        """A line says whose a token is and how far it reaches; comments and empty lines say nothing."""
        bob = f"  {line_of('bob', 'operate:foo', BOB)}  # us"
        lines = ["# who", "", line_of("alice", "admin", ALICE), bob]
        tokens = read_tokens(lines)
        self.assertEqual(tokens.find(ALICE), Principal("alice", Scope.ADMIN))
        self.assertEqual(tokens.find(BOB), Principal("bob", Scope.OPERATE, "foo"))
        for wrong in ("", ALICE[:-1], ALICE + "a", ALICE.upper(), "\ud800", "x" * (TOKEN_MOST + 1)):
            self.assertIsNone(tokens.find(wrong), wrong[:80])
        self.assertNotIn(ALICE, "".join(lines))

    def test_made(self) -> None:
        """A token is recognisable, and as long as nobody can guess it."""
        token = make_token(os.urandom)
        self.assertTrue(token.startswith(PREFIX))
        self.assertEqual(len(token), len(PREFIX) + 64)
        self.assertNotEqual(token, make_token(os.urandom))

    def test_refused(self) -> None:
        """A line that can't be used is named, with what is wrong with it."""
        for text, words in (
            ("alice admin", "a line is NAME SCOPE HASH"),
            (f"alice admin {HASH} more", "a line is NAME SCOPE HASH"),
            (f"al/ice admin {HASH}", "a name has"),
            (f"{'a' * 33} admin {HASH}", "a name has"),
            (f"alice root {HASH}", "a scope is read, operate, admin"),
            (f"alice read: {HASH}", "can't be the name of an app"),
            (f"alice read:a/b {HASH}", "can't be the name of an app"),
            (f"alice read {ALICE}", "never the token itself"),
            (f"alice read {HASH.upper()}", "a hash is sha256:"),
        ):
            with self.assertRaises(BadTokens) as caught:
                read_tokens(["", text])
            self.assertTrue(str(caught.exception).startswith("line 2: "), caught.exception)
            self.assertIn(words, str(caught.exception))
            self.assertNotIn(ALICE, str(caught.exception))
        for lines, words in (
            ([line_of("a", "read", ALICE), line_of("a", "read", BOB)], "two tokens called a"),
            ([line_of("a", "read", ALICE), line_of("b", "read", ALICE)], "this is the token of a"),
            (["# nobody"], "it holds no token"),
            ([line_of(f"a{n}", "read", f"t{n}") for n in range(TOKENS_MOST + 1)], "more than"),
        ):
            with self.assertRaises(BadTokens) as caught:
                read_tokens(lines)
            self.assertIn(words, str(caught.exception))

    def test_command(self) -> None:
        """The command prints the line of a new token on one stream and the token on the other."""
        out, err = self.run_command("carol", "read:foo")
        token = err.strip()
        self.assertEqual(read_tokens([out]).find(token), Principal("carol", Scope.READ, "foo"))
        self.assertNotIn(token, out)

    def test_command_refuses(self) -> None:
        """It makes none for a name or a scope that there can't be."""
        for arguments in (("carol",), ("carol", "root"), ("ca rol", "read"), ("a", "read", "more")):
            with self.assertRaises(SystemExit) as caught:
                self.run_command(*arguments)
            self.assertEqual(caught.exception.code, 1)

    def run_command(self, *arguments: str) -> tuple[str, str]:
        written: dict[str, list[str]] = {"stdout": [], "stderr": []}

        class Stream:
            def __init__(self, name: str) -> None:
                self.write = written[name].append

            def flush(self) -> None:
                pass

        for name in written:
            self.patch(__import__("sys"), name, Stream(name))
        cyme_token(arguments)
        return "".join(written["stdout"]), "".join(written["stderr"])


class TokenFileTests(SynchronousTestCase):
    """The file, at the start and later."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.logged: list[Any] = []
        self.patch(TokenFile, "_log", Logger(observer=self.logged.append))

    def write(self, *lines: str, mode: int = 0o600) -> None:
        with open(self.path, "w") as file:
            file.write("\n".join(lines))
        os.chmod(self.path, mode)

    def loaded(self) -> TokenFile:
        file = TokenFile(self.path)
        file.load()
        return file

    def find(self, file: TokenFile, token: str) -> Principal | None:
        assert file.tokens is not None
        return file.tokens.find(token)

    def test_none(self) -> None:
        """Without a file there are no tokens."""
        file = TokenFile(None)
        file.load()
        file.reload()
        self.assertIsNone(file.tokens)

    def test_reload(self) -> None:
        """What the file says later holds from then on."""
        self.write(line_of("alice", "read", ALICE))
        file = self.loaded()
        self.write(line_of("bob", "admin", BOB), mode=0o640)
        file.reload()
        found = [self.find(file, token) for token in (ALICE, BOB)]
        self.assertEqual(found, [None, Principal("bob", Scope.ADMIN)])

    def test_broken_later(self) -> None:
        """A file that can't be used later leaves the tokens as they were, and that is logged."""
        self.write(line_of("alice", "read", ALICE))
        file = self.loaded()
        for spoil, words in (
            (lambda: self.write("alice"), "line 1"),
            (lambda: self.write(""), "no token"),
            (lambda: os.remove(self.path), "No such file"),
        ):
            spoil()
            file.reload()
            self.assertIsNotNone(self.find(file, ALICE))
            self.assertIn(words, str(formatEvent(self.logged[-1])))

    def test_refused_at_start(self) -> None:
        """A start is refused for a file that is missing, broken, or open to others."""
        with self.assertRaises(CannotStart):
            self.loaded()
        line = line_of("alice", "read", ALICE)
        for mode, fits in ((0o600, True), (0o440, True), (0o640, True), (0o644, False), (0o660, False)):
            self.write(line, mode=mode)
            if fits:
                self.loaded()
                continue
            with self.assertRaises(CannotStart) as caught:
                self.loaded()
            self.assertIn("chmod 600", str(caught.exception))
        with open(self.path, "wb") as file:
            file.write(b"\xff")
        os.chmod(self.path, 0o600)
        with self.assertRaises(CannotStart) as caught:
            self.loaded()
        self.assertIn("not UTF-8", str(caught.exception))


class GuessesTests(SynchronousTestCase):
    """Answers to failed tries."""

    def test_slowed(self) -> None:
        """After a few tries the answers come one a second, and beyond that there are none."""
        clock = Clock()
        clock.advance(1000)
        guesses = Guesses(clock)
        waits = [guesses.failed("192.0.2.1") for _ in range(20)]
        free, put_off = waits[:FREE_TRIES], waits[FREE_TRIES : FREE_TRIES + int(PUT_OFF_MOST)]
        self.assertEqual(free, [0.0] * FREE_TRIES)
        self.assertEqual(put_off, [float(second) for second in range(1, int(PUT_OFF_MOST) + 1)])
        self.assertEqual(set(waits[FREE_TRIES + int(PUT_OFF_MOST) :]), {None})
        self.assertEqual(guesses.failed("192.0.2.2"), 0.0)
        clock.advance(PUT_OFF_MOST + FREE_TRIES)
        self.assertEqual(guesses.failed("192.0.2.1"), 0.0)

    def test_bounded(self) -> None:
        """Many addresses are not remembered for ever."""
        guesses = Guesses(Clock())
        for number in range(ADDRESSES_MOST + 10):
            guesses.failed(str(number))
        self.assertEqual(len(guesses._used), ADDRESSES_MOST)


class RatesTests(SynchronousTestCase):
    """How often an address may ask."""

    def test_rate(self) -> None:
        """Twice the rate at once, and the rate in the long run, each address for itself."""
        clock = Clock()
        rates = Rates(clock, 10.0)
        self.assertEqual([rates.allows("a") for _ in range(30)].count(True), 20)
        self.assertTrue(rates.allows("b"))
        clock.advance(0.5)
        self.assertEqual([rates.allows("a") for _ in range(30)].count(True), 5)

    def test_bounded(self) -> None:
        """Many addresses are not remembered for ever, and those that go on asking are."""
        rates = Rates(Clock(), 1.0)
        for number in range(ADDRESSES_MOST + 10):
            rates.allows(str(number))
            rates.allows("a")
        self.assertEqual(len(rates._buckets), ADDRESSES_MOST)
        self.assertFalse(rates.allows("a"))


class SessionsTests(SynchronousTestCase):
    """Who has logged in to the pages."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.gone: set[Principal] = set()
        numbers = count()
        self.sessions = Sessions(
            self.clock, lambda size: next(numbers).to_bytes(size, "big"), lambda one: one not in self.gone
        )
        self.alice = Principal("alice", Scope.READ)

    def test_found(self) -> None:
        """A browser that brings the cookie back is known; one that brings anything else is not."""
        session = self.sessions.open(self.alice)
        self.assertEqual(self.sessions.find(f"a=b; {COOKIE}={session.id}; c=d"), session)
        for text in (None, "", "a=b", f"{COOKIE}=", f"{COOKIE}={session.id}0", "\x00;=;", "x" * 10_000):
            self.assertIsNone(self.sessions.find(text), text)

    def test_csrf(self) -> None:
        """A form is believed only with the session's own token."""
        session, other = self.sessions.open(self.alice), self.sessions.open(self.alice)
        self.assertTrue(session.is_csrf(session.csrf))
        for given in (other.csrf, "", None, session.id, "\ud800"):
            self.assertFalse(session.is_csrf(given), given)

    def test_ends(self) -> None:
        """A session ends when it is closed, not used, too old, or its token is gone."""
        for end in (
            lambda one: self.sessions.close(one),
            lambda one: self.clock.advance(IDLE + 1),
            lambda one: self.gone.add(self.alice),
        ):
            session = self.sessions.open(self.alice)
            self.assertIsNotNone(self.sessions.find(f"{COOKIE}={session.id}"))
            end(session)
            self.assertIsNone(self.sessions.find(f"{COOKIE}={session.id}"))
            self.gone.clear()
            self.assertIsNone(self.sessions.find(f"{COOKIE}={session.id}"))
        session = self.sessions.open(self.alice)
        lasted = 0.0
        while self.sessions.find(f"{COOKIE}={session.id}") is not None:
            self.clock.advance(IDLE / 2)
            lasted += IDLE / 2
        self.assertEqual(lasted, LASTS + IDLE / 2)

    def test_bounded(self) -> None:
        """Of too many sessions those end that were used longest ago."""
        first, second = self.sessions.open(self.alice), self.sessions.open(self.alice)
        for _ in range(SESSIONS_MOST - 1):
            self.sessions.find(f"{COOKIE}={first.id}")
            self.sessions.open(self.alice)
        self.assertIsNotNone(self.sessions.find(f"{COOKIE}={first.id}"))
        self.assertIsNone(self.sessions.find(f"{COOKIE}={second.id}"))

    def test_cookie(self) -> None:
        """No script and no other site gets at the cookie, and over TLS it goes by no other way."""
        session = self.sessions.open(self.alice)
        for is_secure in (False, True):
            text = cookie(session, is_secure=is_secure)
            self.assertTrue(text.startswith(f"{COOKIE}={session.id}; Max-Age=604800; Path=/; HttpOnly"), text)
            self.assertIn("; SameSite=Strict", text)
            self.assertEqual("; Secure" in text, is_secure)
        self.assertIn(f"{COOKIE}=; Max-Age=0", cookie(None, is_secure=False))
        self.assertNotIn("Max-Age", cookie(self.sessions.open(ANYBODY), is_secure=False))
