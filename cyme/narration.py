"""What the log says about verbs, line for line as in the product document.

    {branch1} --> Instance.add(name=None)
    {branch1} <-- ok={'is_enabled': True, 'name': ...}

Passwords stand in none of them, and none grows without bound.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, TypeVar

from twisted.logger import Logger

from cyme.errors import CymeError

T = TypeVar("T")

#: The most characters of a value that a log line shows.
WORDS_MOST = 1000

_CREDENTIALS = re.compile(r"(://[^:/@\s]*):[^\s]*@")
_SECRET_ARGUMENT = re.compile(r"([?&][^=&\s]*(?:pass|secret|token)[^=&\s]*=)[^&;\s]*", re.IGNORECASE)


class Narrator:
    """Says what one branch was asked, and what it answered."""

    _log = Logger()

    def __init__(self, branch_id: str) -> None:
        self._branch_id = branch_id

    async def narrated(
        self, actor: str, verb: str, arguments: Mapping[str, Any], work: Callable[[], Awaitable[T]]
    ) -> T:
        """Do `work`, with the lines before and after; passes its result on."""
        self.asked(actor, verb, arguments)
        try:
            result = await work()
        except CymeError as error:
            self.refused(error)
            raise
        self.answered(result)
        return result

    def asked(
        self, actor: str, verb: str, arguments: Mapping[str, Any], unlogged: Collection[str] = ()
    ) -> None:
        """A verb was asked for.

        :param unlogged: names of arguments to leave out.
        """
        shown = ((key, value) for key, value in redacted(arguments).items() if key not in unlogged)
        self._log.info(
            "{{{branch}}} --> {actor}.{verb}({arguments})",
            branch=self._branch_id,
            actor=actor,
            verb=verb,
            arguments=shortened(", ".join(f"{key}={value!r}" for key, value in shown)),
        )

    def answered(self, value: Any) -> None:
        """A verb gave its answer."""
        words = shortened(repr(redacted(value)))
        self._log.info("{{{branch}}} <-- ok={value}", branch=self._branch_id, value=words)

    def refused(self, error: CymeError) -> None:
        """A verb refused, with an error that its asker may read."""
        words = shortened(repr(redacted(str(error))))
        self._log.info(
            "{{{branch}}} <-- nok={error}: {words}",
            branch=self._branch_id,
            error=type(error).__name__,
            words=words,
        )

    def failed(self, incident: str) -> None:
        """A verb failed with the exception that is being handled now.

        :param incident: the id that its asker is told instead.
        """
        self._log.failure(
            "{{{branch}}} <-- nok=incident {incident}", branch=self._branch_id, incident=incident
        )


def redacted(value: Any) -> Any:
    """A JSON value without its secrets: passwords, brokers' URLs, credentials in other URLs."""
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, Mapping):
        return {
            key: "***"
            if key == "password" or (key == "broker" and isinstance(inner, str))
            else redacted(inner)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redacted(inner) for inner in value]
    return value


def without_credentials(text: str) -> str:
    """Text without the passwords of the URLs in it."""
    return _SECRET_ARGUMENT.sub(r"\1***", _CREDENTIALS.sub(r"\1:***@", text))


def shortened(words: str) -> str:
    """Text of a length that a log line can bear."""
    return words if len(words) <= WORDS_MOST else f"{words[:WORDS_MOST]}… ({len(words)} characters)"
