"""Where the broker is and how it is spoken to, as a URL says.

Beside user, password, host, port and virtual host a URL may have arguments:

- `heartbeat`: seconds between signs of life;
- `cacertfile`, `certfile`, `keyfile`, `verify` (`verify_peer` or `verify_none`) and
  `server_name_indication`, for `amqps`, as RabbitMQ's clients have them; or `ssl_ca_certs`,
  `ssl_certfile`, `ssl_keyfile` and `ssl_cert_reqs`, as Celery's has them, which workers need in the
  broker that they share with the bus.

Without arguments the certificate of an `amqps` broker is held against the host's name and the roots
that the system trusts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from attrs import field, frozen
from twisted.internet.endpoints import HostnameEndpoint

from cyme.brokers import each, parts, redacted, transport_of
from cyme.errors import InvalidParameter

if TYPE_CHECKING:
    from twisted.internet.interfaces import IStreamClientEndpoint

#: Seconds between signs of life, unless a URL says otherwise.
HEARTBEAT = 10
#: Seconds that a host's name may take to resolve and its connection to be made.
CONNECT_WITHIN = 10.0

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
#: What an argument is called -> what it is called here.
_ALIASES: Mapping[str, str] = {
    "ssl_ca_certs": "cacertfile",
    "ssl_certfile": "certfile",
    "ssl_keyfile": "keyfile",
    "ssl_cert_reqs": "verify",
    "server_name_indication": "server_name",
    **{name: name for name in ("cacertfile", "certfile", "keyfile", "verify", "heartbeat")},
}
_VERIFY: Mapping[str, bool] = {
    **dict.fromkeys(("verify_peer", "cert_required", "required", "cert_optional", "optional"), True),
    **dict.fromkeys(("verify_none", "cert_none", "none"), False),
}


@frozen(kw_only=True)
class TLS:
    """How an `amqps` broker is known, and how this client shows itself.

    :ivar server_name: that the certificate must have.
    :ivar cacertfile: path of the roots that are trusted, None for the system's; so the others.
    """

    server_name: str
    verify: bool = True
    cacertfile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None


@frozen(kw_only=True)
class BusAddress:
    """One URL, read.

    :ivar shown: the URL without its password.
    :ivar heartbeat: seconds.
    :ivar tls: None for a plain connection.
    """

    shown: str
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    vhost: str
    heartbeat: int = HEARTBEAT
    tls: TLS | None = None


def read_addresses(url: str) -> tuple[BusAddress, ...]:
    """The addresses in a broker's URL, in order; there are several when `;` separates them.

    :raises InvalidParameter: when one can't be read.
    """
    return tuple(map(_read, each(url)))


def _read(url: str) -> BusAddress:
    said = parts(url)
    if not said["hostname"] or not said["port"]:
        raise InvalidParameter("broker", "the host or the port can't be read")
    arguments = {_ALIASES[name]: value for name, value in parse_qsl(urlsplit(url).query) if name in _ALIASES}
    return BusAddress(
        shown=redacted(url),
        host=said["hostname"],
        port=said["port"],
        user=said["userid"],
        password=said["password"],
        vhost=said["virtual_host"],
        heartbeat=_heartbeat(arguments),
        tls=_tls(said["hostname"], arguments) if transport_of(url) == "amqps" else None,
    )


def _heartbeat(arguments: Mapping[str, str]) -> int:
    """As a URL says; 0, which would be none at all, counts as not said."""
    text = arguments.get("heartbeat", str(HEARTBEAT))
    if not text.isdecimal() or int(text) > 3600:
        raise InvalidParameter("broker", "its heartbeat is a number of seconds, up to 3600")
    return int(text) or HEARTBEAT


def _tls(host: str, arguments: Mapping[str, str]) -> TLS:
    verify = _VERIFY.get(arguments.get("verify", "verify_peer").lower())
    if verify is None:
        raise InvalidParameter("broker", "its verify is verify_peer or verify_none")
    files = {name: arguments.get(name) for name in ("cacertfile", "certfile", "keyfile")}
    return TLS(server_name=arguments.get("server_name", host), verify=verify, **files)


def endpoint_of(reactor: Any, address: BusAddress) -> IStreamClientEndpoint:
    """What connects to an address.

    Certificates are read anew each time, for they are replaced while a branch runs.

    :raises OSError: when a file can't be read.
    :raises ValueError: when a file holds no certificate.
    """
    endpoint = HostnameEndpoint(reactor, address.host, address.port, timeout=CONNECT_WITHIN)
    if address.tls is None:
        return endpoint
    # Imported here because few need it, and it takes its time.
    from twisted.internet.endpoints import wrapClientTLS

    return wrapClientTLS(_options(address.tls), endpoint)


def _options(tls: TLS) -> Any:
    from twisted.internet import ssl

    chosen: dict[str, Any] = {}
    if tls.certfile is not None:
        own, *others = _certificates(tls.certfile)
        shown = ssl.PrivateCertificate.loadPEM(own + b"\n" + _content(tls.keyfile or tls.certfile))
        chosen = {
            "privateKey": shown.privateKey.original,
            "certificate": shown.original,
            "extraCertChain": [ssl.Certificate.loadPEM(one).original for one in others],
        }
    if not tls.verify:
        return ssl.CertificateOptions(**chosen)
    roots: Any = ssl.platformTrust()
    if tls.cacertfile is not None:
        roots = ssl.trustRootFromCertificates(map(ssl.Certificate.loadPEM, _certificates(tls.cacertfile)))
    return ssl.optionsForClientTLS(tls.server_name, roots, extraCertificateOptions=chosen)


def _certificates(path: str) -> list[bytes]:
    found = _CERTIFICATE.findall(_content(path))
    if not found:
        raise ValueError(f"{path} holds no certificate")
    return found


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
