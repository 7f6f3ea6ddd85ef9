"""From what people type to values: one reader for each kind of setting.

A reader takes a text and returns a value, or raises ValueError with the reason, in words
that follow the name of what was set: "--sup-interval: 'x' is not a number of seconds".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from math import inf, isfinite
from urllib.parse import urlsplit

from cyme.brokers import AMQP, checked, transport_of
from cyme.errors import InvalidParameter
from cyme.naming import is_label
from cyme.targets import parse_rules

#: What `--broker` takes instead of a URL to ask for a private Redis.
EMBEDDED = "embedded"
#: Where RabbitMQ is on a machine that has one of its own.
LOCAL_AMQP = "amqp://guest:guest@127.0.0.1:5672//"
#: What `--deny-target` takes to leave out the targets that are denied without a word.
NO_DEFAULT = "none"

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def seconds(least: float, most: float = inf) -> Callable[[str], float]:
    """Make a reader of durations of at least `least` and at most `most` seconds."""
    limits = f"of at least {least:g}" if most == inf else f"from {least:g} to {most:g}"

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not isfinite(value) or not least <= value <= most:
            raise ValueError(f"{text!r} is not a number of seconds {limits}")
        return value

    return read


def whole(least: int, most: int) -> Callable[[str], int]:
    """Make a reader of whole numbers in a range, both ends included."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise ValueError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def one_of(*words: str, synonyms: Mapping[str, str] | None = None) -> Callable[[str], str]:
    """Make a reader of one of some words, in any case."""
    known = {word.lower(): word for word in words} | dict(synonyms or {})

    def read(text: str) -> str:
        if text.lower() not in known:
            raise ValueError(f"{text!r} is not one of {', '.join(words)}")
        return known[text.lower()]

    return read


def name(text: str) -> str:
    """Read a branch id."""
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a name: letters, digits, '.', '_' and '-', at most 128, a letter or digit first"
        )
    return text


def label(text: str) -> str:
    """Read a branch's label."""
    if not is_label(text):
        raise ValueError(f"{text!r} is not a label NAME=VALUE, such as gpu=yes, without spaces and commas")
    return text


def path(text: str) -> str:
    """Read a path; what is relative is relative to the folder that the command is started in."""
    if "\0" in text:
        raise ValueError(f"{text!r} is not a path")
    return os.path.abspath(os.path.expanduser(text))


def log_path(text: str) -> str:
    """Read a path, or `-` for standard output."""
    return text if text == "-" else path(text)


def size(text: str) -> int:
    """Read a number of bytes, as `1048576`, `1024k` or `1M`."""
    match = re.fullmatch(r"([0-9]{1,15})([kmg]?)", text.lower())
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{text!r} is not a number of bytes, like 1048576, 1024k or 1M")
    return int(match[1]) * _UNITS[match[2]]


def url(text: str) -> str:
    """Read a URL with a scheme; the text is left out of the refusal, it may hold a password."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+_.-]*:/", text) or re.search(r"\s", text):
        raise ValueError("this is not a URL: SCHEME://USER:PASSWORD@HOST:PORT/PATH")
    return text


def broker(text: str) -> str:
    """Read a broker's URL, or the word for the private one."""
    try:
        return text if text == EMBEDDED else checked(text)
    except InvalidParameter as refusal:
        raise ValueError(f"{refusal.problem}; or '{EMBEDDED}'") from None


def amqp_url(text: str) -> str:
    """Read the URL of an AMQP broker."""
    if transport_of(text) not in AMQP:
        raise ValueError("this is not a URL that begins with amqp:// or amqps://")
    return broker(text)


def origin(text: str) -> str:
    """Read a web origin, as browsers send it, or `*`."""
    if text == "*":
        return text
    parts = urlsplit(text)
    bare = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in text or text != bare:
        raise ValueError(f"{text!r} is not an origin: http://HOST[:PORT] or https://HOST[:PORT], no path")
    return text.lower()


def target_rule(text: str) -> str:
    """Read a rule about targets, see `cyme.targets.parse_rules`."""
    parse_rules((text,))
    return text


def denied_target(text: str) -> str:
    """Read a rule about targets that are denied, or the word that leaves the usual ones out."""
    return text if text == NO_DEFAULT else target_rule(text)


def truth(text: str) -> bool:
    """Read a switch, in the environment or a file."""
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() in _TRUE
