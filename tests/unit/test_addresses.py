"""Where a branch listens: what people type, who can reach it, how it is called."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from cyme.addresses import Address, reaches_out, read_address, url_of


class ReadTests(SynchronousTestCase):
    """Addresses as texts."""

    def test_spellings(self) -> None:
        """A port alone is on loopback, a host alone on port 8000."""
        cases = {
            ":8001": ("tcp:8001:interface=127.0.0.1", "127.0.0.1"),
            "8001": ("tcp:8001:interface=127.0.0.1", "127.0.0.1"),
            "localhost": ("tcp:8000:interface=localhost", "localhost"),
            "localhost:8001": ("tcp:8001:interface=localhost", "localhost"),
            "10.0.0.1:0": ("tcp:0:interface=10.0.0.1", "10.0.0.1"),
            "[::1]:8001": (r"tcp:8001:interface=\:\:1", "::1"),
            "[::1]": (r"tcp:8000:interface=\:\:1", "::1"),
            "tcp:8001": ("tcp:8001", ""),
            "tcp:port=8001:interface=127.0.0.1": ("tcp:port=8001:interface=127.0.0.1", "127.0.0.1"),
            r"tcp:8001:interface=\:\:1": (r"tcp:8001:interface=\:\:1", "::1"),
            "ssl:443:privateKey=k.pem": ("ssl:443:privateKey=k.pem", ""),
            "unix:/run/cyme.sock:mode=660": ("unix:/run/cyme.sock:mode=660", None),
            "systemd:domain=INET:index=0": ("systemd:domain=INET:index=0", None),
        }
        for text, (endpoint, host) in cases.items():
            self.assertEqual(read_address(text), Address(endpoint, host), text)

    def test_refused(self) -> None:
        """What is no address is refused with the reason."""
        cases = {
            "": "it is empty",
            ":": "'' is not a port",
            ":http": "'http' is not a port",
            ":70000": "'70000' is not a port",
            ":-1": "'-1' is not a port",
            "::1": "an IPv6 address goes in brackets: [::1]:8000",
            "[1.2.3.4]:80": "'1.2.3.4' in brackets is not an IPv6 address",
            "a b:80": "'a b' is neither a host's name nor an address",
            "http://h:80": "'http://h' is neither a host's name",
        }
        for text, words in cases.items():
            self.assertIn(words, str(self.assertRaises(ValueError, read_address, text)), text)

    @given(st.text(max_size=30))
    def test_anything(self, text: str) -> None:
        """Any text either makes an endpoint of one TCP port or is refused with a ValueError."""
        if text.partition(":")[0] in {"tcp", "tcp4", "tcp6", "ssl", "tls", "unix", "systemd", "haproxy"}:
            return
        try:
            address = read_address(text)
        except ValueError:
            return
        reactor = MemoryReactor()
        self.successResultOf(serverFromString(reactor, address.endpoint).listen(Factory()))
        ((_, _, _, interface),) = reactor.tcpServers
        self.assertEqual(interface, address.host)


class ReachTests(SynchronousTestCase):
    """Who can reach an address."""

    def test_by_text(self) -> None:
        """Loopback addresses are closed, others open; of a socket of somebody else's it is not known."""
        closed = (
            "127.0.0.1",
            "127.8.8.8:1",
            "localhost",
            "[::1]:80",
            "unix:/x",
            "systemd:domain=INET:index=0",
        )
        for text in closed:
            self.assertFalse(read_address(text).is_open, text)
        for text in ("0.0.0.0", "10.1.2.3", "myhost", "[::]:80", "tcp:80", "tcp:80:interface=0.0.0.0"):
            self.assertTrue(read_address(text).is_open, text)

    def test_by_socket(self) -> None:
        """A bound socket tells for sure."""
        self.assertTrue(reaches_out(IPv4Address("TCP", "0.0.0.0", 80)))
        self.assertTrue(reaches_out(IPv6Address("TCP", "::", 80)))
        self.assertFalse(reaches_out(IPv4Address("TCP", "127.0.0.1", 80)))
        self.assertFalse(reaches_out(IPv6Address("TCP", "::1", 80)))
        self.assertFalse(reaches_out(UNIXAddress(b"/x")))


class URLTests(SynchronousTestCase):
    """URLs of bound sockets."""

    def test_urls(self) -> None:
        """The URL is one that a client on this machine, or elsewhere if it can, may use."""
        cases = [
            (IPv4Address("TCP", "127.0.0.1", 8001), "tcp:0:interface=127.0.0.1", "http://127.0.0.1:8001/"),
            (IPv6Address("TCP", "::1", 8001), "tcp:0", "http://[::1]:8001/"),
            (IPv4Address("TCP", "0.0.0.0", 8001), "tcp:8001", "http://box:8001/"),
            (IPv4Address("TCP", "127.0.0.1", 443), "ssl:443:interface=127.0.0.1", "https://127.0.0.1:443/"),
            (UNIXAddress(b"/run/cyme.sock"), "unix:/run/cyme.sock", "unix:/run/cyme.sock"),
        ]
        for bound, endpoint, url in cases:
            self.assertEqual(url_of(bound, endpoint, "box"), url)
