"""Where the branch listens: from what people type to endpoint strings, and who can reach it.

Pure: nothing is resolved and nothing is opened here. `cyme.settings` reads options
with it, `cyme.branch` says with it where the branch is.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

from attrs import frozen
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

#: Where an address without a host is.
LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8000
#: What a Twisted endpoint string for a server begins with; a host can't be called like one.
ENDPOINTS = frozenset({"tcp", "tcp4", "tcp6", "ssl", "tls", "unix", "systemd", "haproxy"})
#: Endpoints that only processes on this machine can reach, or whose address is known late.
NOT_BY_ADDRESS = frozenset({"unix", "systemd", "haproxy"})

_BRACKETED = re.compile(r"\[(?P<host>[^\]]*)\](?::(?P<port>.*))?")
_UNESCAPED_COLON = re.compile(r"(?<!\\):")


@frozen
class Address:
    """Where to listen.

    :ivar endpoint: a Twisted endpoint string for a server.
    :ivar host: the address or name that it binds, as far as the string says it; an empty
        one stands for every address of the machine.
    """

    endpoint: str
    host: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether other machines can reach it, as far as the string says it."""
        return self.host is not None and not is_loopback(self.host)

    @property
    def is_only_loopback(self) -> bool:
        """Whether it can be called by loopback names alone, as far as the string says it."""
        return self.host is not None and is_loopback(self.host)


def read_address(text: str) -> Address:
    """Read `:port`, `port`, `host:port`, `host`, `[v6]:port` or an endpoint string.

    :raises ValueError: with the reason, when it is none of them.
    """
    kind, colon, _ = text.partition(":")
    if colon and kind in ENDPOINTS:
        return Address(text, _bound_host(kind, text))
    host, port = _split(text)
    return Address(f"tcp:{_read_port(port)}:interface={host.replace(':', chr(92) + ':')}", host)


def _split(text: str) -> tuple[str, str]:
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed is not None:
        host, port = bracketed["host"], bracketed["port"]
        if not _is_v6(host):
            raise ValueError(f"{host!r} in brackets is not an IPv6 address")
        return host, str(DEFAULT_PORT) if port is None else port
    if _is_v6(text):
        raise ValueError(f"an IPv6 address goes in brackets: [{text}]:{DEFAULT_PORT}")
    if text.isdecimal():
        return LOOPBACK, text
    if not text:
        raise ValueError("it is empty")
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, str(DEFAULT_PORT)
    if not re.fullmatch(r"[A-Za-z0-9._-]*", host):
        raise ValueError(f"{host!r} is neither a host's name nor an address")
    return host or LOOPBACK, port


def _read_port(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or int(text) > 65535:
        raise ValueError(f"{text!r} is not a port: a number from 0 (any free one) to 65535")
    return int(text)


def _is_v6(text: str) -> bool:
    try:
        return ip_address(text).version == 6
    except ValueError:
        return False


def _bound_host(kind: str, text: str) -> str | None:
    """What an endpoint string binds; None where only the socket itself can tell."""
    if kind in NOT_BY_ADDRESS:
        return None
    for part in _UNESCAPED_COLON.split(text):
        key, equals, value = part.partition("=")
        if equals and key == "interface":
            return value.replace("\\", "")
    return ""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what binds `host`; names other than localhost count as open."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def reaches_out(bound: IAddress) -> bool:
    """Whether other machines can reach a socket that is bound to `bound`."""
    return isinstance(bound, (IPv4Address, IPv6Address)) and not is_loopback(bound.host)


def url_of(bound: IAddress, endpoint: str, host: str) -> str:
    """Name what is served at a bound socket.

    :param endpoint: the endpoint string that it was made from; tells whether it speaks TLS.
    :param host: this machine's name, for a socket that listens on every address.
    """
    if isinstance(bound, UNIXAddress):
        return f"unix:{_text(bound.name)}"
    if not isinstance(bound, (IPv4Address, IPv6Address)):
        return endpoint
    scheme = "https" if endpoint.partition(":")[0] in {"ssl", "tls"} else "http"
    name = host if bound.host in {"0.0.0.0", "::"} else bound.host
    return f"{scheme}://{f'[{name}]' if ':' in name else name}:{bound.port}/"


def _text(name: bytes | str | None) -> str:
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else name or ""
