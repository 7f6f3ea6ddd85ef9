"""Tokens: how they are made, and the lines of a token file.

Note [Token files]
~~~~~~~~~~~~~~~~~~
A line for each token, with the hash in place of the token, so that who reads the file can't log in:

    # name    scope        hash
    alice     admin        sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    grafana   read         sha256:...
    deploy    operate:foo  sha256:...

`operate:foo` is for the app `foo` alone. Tokens are 256 random bits, so that nobody can try them all,
and a plain hash, which is quick to compute at each request, protects them as well as a slow one would.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from hmac import compare_digest

from attrs import frozen

from cyme.access.principals import Principal, Scope
from cyme.naming import is_plain_name

#: What a token begins with, so that one that got where it should not be can be recognised.
PREFIX = "cyme_"
#: Bytes of chance in a token.
RANDOM_BYTES = 32
#: The longest token that is looked at, in characters.
TOKEN_MOST = 256
#: The longest name of a token: the why-log has room for it beside an address.
NAME_MOST = 32
#: The most tokens of a file.
TOKENS_MOST = 1000

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_MOST - 1}}}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_SCOPES: Mapping[str, Scope] = {scope.word: scope for scope in Scope}


class BadTokens(ValueError):
    """A token file that can't be used; says the line and what is wrong with it."""


@frozen
class Tokens:
    """The tokens of a file.

    :ivar entries: digest -> who has the token.
    """

    entries: Mapping[bytes, Principal]

    def find(self, token: str) -> Principal | None:
        """Who has a token. All are compared, each in constant time."""
        if len(token) > TOKEN_MOST:
            return None
        digest = digest_of(token)
        found = None
        for known, principal in self.entries.items():
            if compare_digest(known, digest):
                found = principal
        return found

    def has(self, principal: Principal) -> bool:
        """Whether somebody still has a token of just this scope."""
        return principal in self.entries.values()


def digest_of(token: str) -> bytes:
    """What stands for a token."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def make_token(token_bytes: Callable[[int], bytes]) -> str:
    """A new token.

    :param token_bytes: see `secrets.token_bytes`.
    """
    return PREFIX + token_bytes(RANDOM_BYTES).hex()


def line_of(name: str, scope: str, token: str) -> str:
    """The line of a token file for a token.

    :param scope: `read`, `operate` or `admin`, perhaps with `:APP`.
    :raises ValueError: when there can be no such name or scope.
    """
    line = f"{name} {scope} sha256:{digest_of(token).hex()}"
    _read_line(line)
    return line


def read_tokens(lines: Iterable[str]) -> Tokens:
    """Read a token file, see Note [Token files].

    :raises BadTokens: naming the line.
    """
    entries: dict[bytes, Principal] = {}
    names: set[str] = set()
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            digest, principal = _read_line(text)
            assert principal.name is not None
            if principal.name in names:
                raise ValueError(f"there are two tokens called {principal.name}")
            if digest in entries:
                raise ValueError(f"this is the token of {entries[digest].name}")
            if len(entries) == TOKENS_MOST:
                raise ValueError(f"there are more than {TOKENS_MOST} tokens")
        except ValueError as problem:
            raise BadTokens(f"line {number}: {problem}") from None
        names.add(principal.name)
        entries[digest] = principal
    if not entries:
        raise BadTokens("it holds no token; `cyme-token NAME SCOPE` makes one")
    return Tokens(entries)


def _read_line(text: str) -> tuple[bytes, Principal]:
    words = text.split()
    if len(words) != 3:
        raise ValueError("a line is NAME SCOPE HASH, as `cyme-token NAME SCOPE` prints it")
    name, scope, digest = words
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"a name has up to {NAME_MOST} letters, digits, dots, dashes and underscores, and begins with"
            " a letter or digit"
        )
    word, colon, app = scope.partition(":")
    if word not in _SCOPES:
        raise ValueError(f"a scope is {', '.join(_SCOPES)}, or one of them with :APP, not {scope[:64]!r}")
    if colon and not is_plain_name(app):
        raise ValueError(f"{app[:64]!r} can't be the name of an app")
    found = _HASH.fullmatch(digest)
    if found is None:
        raise ValueError("a hash is sha256: and 64 hexadecimal digits, never the token itself")
    return bytes.fromhex(found[1]), Principal(name, _SCOPES[word], app if colon else None)
