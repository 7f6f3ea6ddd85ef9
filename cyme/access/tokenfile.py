"""The file that `--auth-token-file` names: read at the start, and again when asked to."""

from __future__ import annotations

import os
import stat

from twisted.logger import Logger

from cyme.access.principals import ANYBODY, Principal
from cyme.access.tokens import BadTokens, Tokens, read_tokens
from cyme.errors import CannotStart

#: The longest file that is read, in bytes.
SIZE_MOST = 1 << 20


class TokenFile:
    """What a token file said when it was read last.

    :param path: of the file, or None: then there are no tokens, and everybody may do everything.
    :ivar tokens: None without a file.
    """

    _log = Logger()

    def __init__(self, path: str | None) -> None:
        self._path = path
        self.tokens: Tokens | None = None

    def load(self) -> None:
        """Read the file; blocks for as long as that takes.

        :raises CannotStart: when it can't be read or used.
        """
        if self._path is None:
            return
        try:
            self.tokens = self._read(self._path)
        except (OSError, ValueError) as problem:
            raise CannotStart(f"--auth-token-file {self._path}: {_reason(problem)}") from None

    def reload(self) -> None:
        """Read the file again; when it can't be used, what it said before holds on."""
        if self._path is None:
            return
        try:
            tokens = self._read(self._path)
        except (OSError, ValueError) as problem:
            self._log.error(
                "the token file {path} can't be used, the tokens stay as they were: {problem}",
                path=self._path,
                problem=_reason(problem),
            )
            return
        self.tokens = tokens
        self._log.info("the token file {path} has {count} tokens", path=self._path, count=len(tokens.entries))

    def still_has(self, principal: Principal) -> bool:
        """Whether somebody still has a token of just this scope; anybody needs none where there are none."""
        return principal == ANYBODY if self.tokens is None else self.tokens.has(principal)

    @staticmethod
    def _read(path: str) -> Tokens:
        with open(path, encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise BadTokens("it is no plain file")
            # Who can read the hashes learns names and scopes; who can write them is admin.
            if found.st_mode & (stat.S_IWGRP | stat.S_IRWXO):
                raise BadTokens("others may read or write it; chmod 600, or 640, keeps them out")
            if found.st_size > SIZE_MOST:
                raise BadTokens(f"it is longer than {SIZE_MOST} bytes")
            return read_tokens(file)


def _reason(problem: Exception) -> str:
    if isinstance(problem, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return str(getattr(problem, "strerror", None) or problem)
