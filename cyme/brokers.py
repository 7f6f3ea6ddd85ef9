"""Broker URLs: made from parts, taken apart, checked, and shown without their passwords.

A URL is read as kombu reads it, so that the branch and its workers mean the same broker.
Several URLs separated by `;` are one broker with alternatives (kombu's failover).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

from kombu.transport import TRANSPORT_ALIASES
from kombu.utils.url import url_to_parts

from cyme.errors import InvalidParameter

#: Transports that speak AMQP 0-9-1, and those that speak to Redis.
AMQP = frozenset({"amqp", "amqps", "pyamqp", "librabbitmq"})
REDIS = frozenset({"redis", "rediss", "sentinel"})

DEFAULT_PORTS: Mapping[str, int] = {
    **dict.fromkeys(AMQP, 5672),
    "amqps": 5671,
    "redis": 6379,
    "rediss": 6379,
    "sentinel": 26379,
}

_NO_BROADCAST = (
    "kombu has no broadcast over it, so that Celery workers on it can be neither asked nor told anything"
)

#: Transports that kombu has and Cyme can't use, with the reason.
UNUSABLE: Mapping[str, str] = {
    "memory": "it lives inside one process, and workers are processes of their own",
    "filesystem": "it loses tasks when several workers share it",
    **dict.fromkeys(
        (
            "azureservicebus",
            "azurestoragequeues",
            "confluentkafka",
            "consul",
            "etcd",
            "kafka",
            "pyro",
            "slmq",
            "sqla",
            "sqlalchemy",
            "sqs",
            "zookeeper",
        ),
        _NO_BROADCAST,
    ),
}

#: The transports that may be used.
USABLE = frozenset(name.lower() for name in TRANSPORT_ALIASES) - UNUSABLE.keys()

_MASK = "***"
_BETWEEN_URLS = re.compile(r";(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SECRET_ARGUMENT = re.compile(r"([?&][^=&]*(?:pass|secret|token)[^=&]*=)([^&;]*)", re.IGNORECASE)
_HOST = re.compile(r"[\w.-]+")


def from_parts(
    hostname: str,
    port: int | None = None,
    userid: str | None = None,
    password: str | None = None,
    virtual_host: str | None = None,
) -> str:
    """The AMQP URL of a broker; what is None or empty gets AMQP's usual value.

    :param hostname: a host name or an address.
    :raises InvalidParameter: for what can't be in a URL.
    """
    port = DEFAULT_PORTS["amqp"] if port is None else port
    if not 1 <= port <= 65535:
        raise InvalidParameter("port", "must be from 1 to 65535")
    user = _quoted("userid", userid or "guest")
    secret = _quoted("password", password or "guest")
    path = _quoted("virtual_host", virtual_host or "/")
    # `//` is how everybody writes the default virtual host; one broker has one spelling.
    path = "/" if path == "%2F" else path
    return f"amqp://{user}:{secret}@{_host(hostname)}:{port}/{path}"


def parts(url: str) -> dict[str, Any]:
    """What a URL says, defaults filled in, under the names of the HTTP API.

    `url` is without the password. Of several URLs the first is taken apart. What a URL
    does not have, or can't be read, is None.
    """
    hostname: str | None = None
    port: int | None = None
    userid: str | None = None
    password: str | None = None
    path: str | None = None
    first = each(url)[0]
    transport = first.partition("://")[0].lower() if "://" in first else "amqp"
    try:
        _, hostname, port, userid, password, path, query = url_to_parts(first)
    except ValueError:
        query = {}
    if "+" in transport:
        hostname, port, path = None, None, query.get("virtual_host")
    else:
        port = port or DEFAULT_PORTS.get(transport)
    if transport in AMQP:
        userid, password, path = userid or "guest", password or "guest", path or "/"
    elif transport.partition("+")[0] in REDIS:
        path = path or "0"
    return {
        "hostname": hostname,
        "port": port,
        "userid": userid,
        "password": password,
        "virtual_host": path,
        "transport": transport,
        "url": redacted(url),
    }


def each(url: str) -> list[str]:
    """The URLs in `url`, of which there is one unless the broker has alternatives."""
    return _BETWEEN_URLS.split(url)


def transport_of(url: str) -> str:
    """The name of the transport, without what may follow it after a `+`."""
    scheme, separator, _ = url.partition("://")
    return scheme.partition("+")[0].lower() if separator else ""


@lru_cache(maxsize=256)
def redacted(url: str) -> str:
    """The URL with `***` in place of every password, also where it is malformed."""
    return ";".join(map(_redacted, _pieces(url)))


def scrubbed(text: str, url: str) -> str:
    """Remove the passwords of `url` from what somebody said about it."""
    for one in _pieces(url):
        secrets = [match.group(2) for match in _SECRET_ARGUMENT.finditer(one)]
        secrets.append(_split_password(one)[1])
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            for spelling in (secret, unquote(secret)):
                if spelling and spelling != "guest":
                    text = text.replace(spelling, _MASK)
    return text


def checked(url: str) -> str:
    """Return `url` when Celery workers and Cyme can both use it.

    :raises InvalidParameter: with the reason, which holds nothing secret.
    """
    if not url:
        raise _invalid("must be a URL, such as amqp://user:password@host:5672//")
    if not url.isprintable() or any(character.isspace() for character in url):
        raise _invalid("holds white space or unprintable characters; write them as %XX")
    # kombu splits at every `;`, so one that is part of a password has to be quoted.
    if len({_check(one) for one in url.split(";")}) > 1:
        raise _invalid("all its URLs must have the same transport")
    return url


def _check(url: str) -> str:
    if not _SCHEME.match(url):
        raise _invalid(
            "must be one URL or several separated by ';', such as amqp://user:password@host:5672//"
        )
    transport = transport_of(url)
    if transport in UNUSABLE:
        raise _invalid(f"the transport {transport!r} can't be used: {UNUSABLE[transport]}")
    if transport not in USABLE:
        raise _invalid(f"there is no transport {transport!r}; there are {', '.join(sorted(USABLE))}")
    try:
        scheme, hostname, port, _, _, path, _ = url_to_parts(url)
    except ValueError:
        # What Python says would quote the piece, which may be half a password.
        raise _invalid(
            "the host or the port can't be read; characters like / ? # [ ] @ : ; "
            "in a user name or password must be written as %XX"
        ) from None
    if port == 0:
        raise _invalid("the port must be from 1 to 65535")
    if "+" in scheme:
        if scheme != "redis+socket":
            raise _invalid(f"{scheme!r} is not known; of this kind there is redis+socket:///PATH")
        if not path or hostname:
            raise _invalid("the path of the socket is missing: redis+socket:///PATH")
    elif transport in AMQP | REDIS:
        if not hostname:
            raise _invalid("the host name is missing")
        if ":" not in hostname and not _HOST.fullmatch(hostname):
            raise _invalid("the host name holds characters that no host name has")
        if transport in REDIS and path and not path.isdecimal():
            raise _invalid("the path of a Redis URL is the number of a database")
    return transport


def _invalid(problem: str) -> InvalidParameter:
    return InvalidParameter("broker", problem)


def _host(hostname: str) -> str:
    """A host as it stands in a URL."""
    if ":" in hostname:
        try:
            return f"[{ipaddress.IPv6Address(hostname)}]"
        except ValueError:
            raise InvalidParameter("hostname", "is neither a host name nor an address") from None
    if not _HOST.fullmatch(hostname):
        raise InvalidParameter("hostname", "is neither a host name nor an address")
    return _quoted("hostname", hostname)


def _quoted(parameter: str, text: str) -> str:
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise InvalidParameter(parameter, "holds half a surrogate pair, which is no text") from None


def _split_password(url: str) -> tuple[str, str, str]:
    """Split a URL into what is before, in and after its password.

    Everything up to the last `@` counts as user and password: so a password with a `/`
    or `@` in it, which should have been quoted, is hidden too, at the price of hiding too
    much of a URL whose path holds an `@`. Without an `@`, what stands in a port's place
    and is none may be half a password.
    """
    scheme, separator, rest = url.partition("://") if _SCHEME.match(url) else ("", "", url)
    userinfo, at, after = rest.rpartition("@")
    if at:
        user, colon, password = userinfo.partition(":")
    else:
        user, colon, password = re.split(r"[/?]", rest)[0].partition(":")
        after = rest[len(user + colon + password) :]
        if rest.startswith("[") or password.isdecimal():
            colon = ""  # it is an address or a port
    if not colon:
        return url, "", ""
    return f"{scheme}{separator}{user}:", password, at + after


def _pieces(url: str) -> list[str]:
    """The URLs in `url`, each with its own password; one when that can't be told.

    What seems to begin another URL may be a part of a password. Then what is before it
    ends in half a password.
    """
    pieces = each(url)
    is_cut = any("@" not in piece and _split_password(piece)[1] for piece in pieces)
    return [url] if is_cut else pieces


def _redacted(url: str) -> str:
    before, password, after = _split_password(url)
    return _SECRET_ARGUMENT.sub(rf"\1{_MASK}", before + (_MASK if password else "") + after)
