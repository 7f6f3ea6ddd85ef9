"""Which targets a request may have: rules of hosts and of address ranges, and their check.

A URL is taken apart here and nowhere else, so that what was checked and what is connected to are
the same: `parse_url` gives the host and port for the connection too. A name is checked twice, as a
name and by each address that it turns out to have, since who owns a name decides what it resolves
to, and may decide differently the next time (DNS rebinding).

Pure: nothing is resolved here. Workers import it too, so it does with the standard library.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import quote, unquote, urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: What no request may reach unless an operator says otherwise: addresses of one link, and where
#: clouds tell a machine its credentials. Sources: RFC 3927 and RFC 4291 (link-local); the vendors'
#: pages on instance metadata (AWS fd00:ec2::/32, Google fd20:ce::254 and its names, Alibaba
#: 100.100.100.200, Oracle 192.0.0.192, Azure's wire server 168.63.129.16).
DEFAULT_DENY: tuple[str, ...] = (
    "169.254.0.0/16",
    "fe80::/10",
    "fd00:ec2::/32",
    "fd20:ce::254",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "metadata.google.internal",
    "metadata.goog",
)

#: The longest URL that is taken.
MAX_URL = 65536

_PORTS = {"http": 80, "https": 443}
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_MAPPED = IPv6Network("::ffff:0:0/96")
#: All printable ASCII but the space and `#`: what a request line may carry as it is.
_AS_IT_IS = "".join(map(chr, range(33, 127))).replace("#", "")


class TargetRefused(ValueError):
    """A target that no request may have; the text says why, and shows no password."""


@dataclass(frozen=True)
class Rule:
    """One rule: a host, all hosts below one, every host, or a range of addresses.

    :ivar text: as it was written.
    :ivar host: the host's name; `*` for every host; None for a range.
    :ivar below: whether the rule means the hosts below `host`, and not itself.
    :ivar network: the range.
    :ivar port: the only port that is meant; None for all.
    """

    text: str
    host: str | None = None
    below: bool = False
    network: Network | None = None
    port: int | None = None

    def matches_name(self, host: str, port: int) -> bool:
        """Whether this rule speaks of a host by its name (an address in canonical text is one)."""
        if self.host is None or self.port not in (None, port):
            return False
        if self.host == "*":
            return True
        return host.endswith("." + self.host) if self.below else host == self.host

    def matches_address(self, address: Address) -> bool:
        """Whether this rule's range has the address; its port is another question."""
        return self.network is not None and address in self.network


@dataclass(frozen=True)
class Target:
    """A URL, taken apart.

    :ivar host: in lower case, ASCII, without the last dot; an address in its canonical text.
    :ivar address: the host where it is an address.
    :ivar written: that address as the URL has it, perhaps an IPv4 one as an IPv6 one.
    :ivar selector: path and query as the request line has them.
    :ivar userinfo: `USER:PASSWORD` with its percent signs resolved, or None.
    """

    scheme: str
    host: str
    port: int
    selector: str
    address: Address | None = None
    written: Address | None = None
    userinfo: str | None = None

    @property
    def authority(self) -> str:
        """The host as URLs and `Host` headers write it, with the port where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Whom credentials are meant for (RFC 6454)."""
        return (self.scheme, self.host, self.port)

    @property
    def url(self) -> str:
        """The URL again, without credentials and fragment."""
        return f"{self.scheme}://{self.authority}{self.selector}"


def parse_rules(texts: Iterable[str]) -> tuple[Rule, ...]:
    """Read rules: `example.com`, `*.example.com`, `*`, `10.0.0.0/8`, `::1`; each may end in `:PORT`.

    An IPv6 address or range with a port stands in brackets: `[::1]:8000`, `[fd00::]/8:80`.

    :raises ValueError: naming the first text that is none.
    """
    return tuple(_parse_rule(text) for text in texts)


def _parse_rule(text: str) -> Rule:
    stripped = text.strip().lower()
    bracketed = re.fullmatch(r"\[([^\]]*)\](/\d+)?(?::(\d+))?", stripped)
    if bracketed:
        host, port_text = bracketed[1] + (bracketed[2] or ""), bracketed[3]
        if ":" not in host:
            raise ValueError(f"{text!r} is no target rule: only IPv6 addresses stand in brackets")
    elif stripped.count(":") == 1:
        host, _, port_text = stripped.partition(":")
        if not re.fullmatch(r"\d+", port_text, re.ASCII):
            raise ValueError(f"{text!r} is no target rule: {port_text!r} is no port")
    else:
        host, port_text = stripped, None
    port = None
    if port_text is not None:
        port = int(port_text)
        if not 1 <= port <= 65535:
            raise ValueError(f"{text!r} is no target rule: ports are 1 to 65535")
    if "/" in host or ":" in host or _is_numeric(host):
        try:
            return Rule(text, network=_canonical_network(host), port=port)
        except ValueError as problem:
            raise ValueError(f"{text!r} is no target rule: {problem}") from None
    if host == "*":
        return Rule(text, host="*", port=port)
    below = host.startswith("*.")
    name = _ascii(host[2:] if below else host)
    if name is None or not _HOST.fullmatch(name):
        raise ValueError(
            f"{text!r} is no target rule: write a host, *.DOMAIN, an address or a range like 10.0.0.0/8"
        )
    return Rule(text, host=name, below=below, port=port)


def _canonical_network(text: str) -> Network:
    # Strict: `10.0.0.1/8` may mean either, and a guess could let through what was not meant.
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def parse_url(url: str) -> Target:
    """Take a URL apart.

    :raises TargetRefused: when it is none that a request can have.
    """
    if len(url) > MAX_URL:
        raise TargetRefused(f"the URL is longer than {MAX_URL} characters")
    if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", url):
        raise TargetRefused("the URL has control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as problem:
        raise TargetRefused(f"the URL can't be read: {_without_userinfo(problem, url)}") from None
    if parts.scheme not in _PORTS:
        raise TargetRefused("only http:// and https:// URLs can be requested")
    if port == 0:
        raise TargetRefused("there is no port 0")
    if "\\" in parts.netloc:
        # Browsers take it for a slash, so that the host is another one.
        raise TargetRefused("the URL has a backslash in its host")
    userinfo, at, hostport = parts.netloc.rpartition("@")
    host, written = _parse_host(hostport)
    selector = (parts.path or "/") + ("?" + parts.query if "?" in url.partition("#")[0] else "")
    if not selector.startswith("/"):
        raise TargetRefused("the URL's path does not begin with /")
    return Target(
        scheme=parts.scheme,
        host=host,
        port=port or _PORTS[parts.scheme],
        selector=quote(selector, safe=_AS_IT_IS),
        address=None if written is None else canonical(written),
        written=written,
        userinfo=unquote(userinfo) if at else None,
    )


def _without_userinfo(problem: ValueError, url: str) -> str:
    # The messages of urllib quote what they could not read, and that may hold a password.
    return "its credentials are odd" if "@" in url else str(problem)


@lru_cache(maxsize=1024)
def _parse_host(hostport: str) -> tuple[str, Address | None]:
    """The host in its canonical text, and as an address as it was written."""
    if hostport.startswith("["):
        inner, _, rest = hostport[1:].partition("]")
        try:
            # A zone (`%eth0`) means something on one machine only.
            if "%" in inner or rest and not rest.startswith(":"):
                raise ValueError
            v6 = IPv6Address(inner)
        except ValueError:
            raise TargetRefused(f"{inner!r} is no IPv6 address") from None
        return str(canonical(v6)), v6
    text = hostport.partition(":")[0]
    if not text:
        raise TargetRefused("the URL names no host")
    host = _ascii(text.lower())
    if host is None:
        raise TargetRefused(f"{text!r} is no host name")
    if _is_numeric(host):
        # As the resolver reads it: 0x7f.1, 2130706433, 0177.0.0.1 and 127.0.0.1 are one address.
        try:
            v4 = IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            raise TargetRefused(f"{text!r} is no address") from None
        return str(v4), v4
    if not _HOST.fullmatch(host):
        raise TargetRefused(f"{text!r} is no host name")
    return host, None


def _ascii(host: str) -> str | None:
    """A host's name in ASCII and without the root's dot; None when there is no such name."""
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii").lower()
        except UnicodeError:
            return None
    return host[:-1] if host.endswith(".") else host


def _is_numeric(host: str) -> bool:
    """Whether a host would be read as an IPv4 address: what its last label decides, as in browsers."""
    return _NUMBER.fullmatch(host.rpartition(".")[2]) is not None


def canonical(address: Address) -> Address:
    """An IPv4 address that is written as an IPv6 one, as IPv4; every other as it is."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def meanings(address: Address) -> tuple[Address, ...]:
    """An address and what else is reached by it, its canonical form first.

    IPv4 addresses are carried in IPv6 ones (RFC 4291, 6to4 of RFC 3056, Teredo, NAT64 of RFC 6052
    and RFC 8215), and to connect to the unspecified address is to connect to loopback.
    """
    first = canonical(address)
    found: list[Address] = [first] if first is address else [first, address]
    if isinstance(first, IPv6Address):
        if first.sixtofour is not None:
            found.append(first.sixtofour)
        if first.teredo is not None:
            found.extend(first.teredo)
        low = IPv4Address(int(first) & 0xFFFFFFFF)
        if any(first in network for network in _NAT64):
            found.append(low)
        if int(first) >> 32 == 0 and int(first) > 1:
            found.append(low)
    if first.is_unspecified:
        found.append(IPv4Address("127.0.0.1") if first.version == 4 else IPv6Address("::1"))
    return tuple(found)


def check_url(url: str, allow: Sequence[Rule], deny: Sequence[Rule]) -> None:
    """Check a URL as far as it can be without resolving its host.

    A name that no rule of `allow` names passes when there are ranges in it: its address decides.

    :param allow: what may be reached; empty for everything that is not denied.
    :param deny: what may not be reached; it wins over `allow`.
    :raises TargetRefused: when it is no URL to request, denied, or not allowed.
    """
    check_target(parse_url(url), allow, deny)


def check_target(target: Target, allow: Sequence[Rule], deny: Sequence[Rule]) -> None:
    """Check a URL that was taken apart; as `check_url` does."""
    if target.written is not None:
        check_address(target.host, str(target.written), allow, deny, target.port)
        return
    for rule in deny:
        if rule.matches_name(target.host, target.port):
            raise TargetRefused(f"the target {target.host} is denied by {rule.text}")
    if not allow or any(rule.matches_name(target.host, target.port) for rule in allow):
        return
    if not any(rule.network is not None and rule.port in (None, target.port) for rule in allow):
        raise TargetRefused(f"the target {target.authority} is not among those that are allowed")


def check_address(
    host: str, address: str, allow: Sequence[Rule], deny: Sequence[Rule], port: int | None = None
) -> None:
    """Check the address that a connection really has.

    :param host: the host of the URL, as `Target.host` has it.
    :param address: as `getpeername` gives it; a zone is ignored.
    :param port: of the connection; when it is not known, denials of single ports hold for all and
        permissions of single ports for none.
    :raises TargetRefused: when it is denied, or not allowed.
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        raise TargetRefused(f"{address!r} is no address") from None
    reached = meanings(found)
    what = f"the target {host}" if host == str(reached[0]) else f"the address {reached[0]} of {host}"
    for rule in deny:
        if port is not None and rule.port not in (None, port):
            continue
        if rule.matches_name(host, rule.port or 0) or any(rule.matches_address(each) for each in reached):
            raise TargetRefused(f"{what} is denied by {rule.text}")
    for rule in allow:
        if rule.port in (None, port):
            if rule.matches_name(host, rule.port or 0) or rule.matches_address(reached[0]):
                return
    if allow:
        raise TargetRefused(f"{what} is not among those that are allowed")
