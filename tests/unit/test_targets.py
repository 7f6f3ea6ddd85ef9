"""Which targets a request may have."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cyme.targets import (
    DEFAULT_DENY,
    MAX_URL,
    TargetRefused,
    canonical,
    check_address,
    check_target,
    check_url,
    meanings,
    parse_rules,
    parse_url,
)
from tests.support.sources import TOP

#: All spellings of the address where clouds tell a machine its credentials.
METADATA = (
    "169.254.169.254",
    "169.254.169.254.",
    "2852039166",
    "0xa9fea9fe",
    "0XA9FEA9FE",
    "0251.0376.0251.0376",
    "0xa9.0xfe.0xa9.0xfe",
    "169.254.43518",
    "169.16689662",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[::169.254.169.254]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "169\u3002254\uff0e169\uff61254",
    "\uff11\uff16\uff19.254.169.254",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "[fd00:0ec2:0000::0254]",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "metadata.google.internal",
    "METADATA.google.internal.",
    "metadata.goog",
)

DENY = parse_rules(DEFAULT_DENY)

#: Any text, lone surrogates too: JSON can have them.
ANY = st.text(st.characters(), max_size=60)

v4 = st.integers(0, 2**32 - 1).map(IPv4Address)
v6 = st.integers(0, 2**128 - 1).map(IPv6Address)


def spellings(address: IPv4Address) -> list[str]:
    """What means one IPv4 address in a URL."""
    number, (a, b, c, d) = int(address), address.packed
    return [
        *(str(address), str(number), hex(number), f"0{number:o}"),
        *(f"0{a:o}.{b}.0x{c:x}.{d}", f"{a}.{number & 0xFFFFFF}", f"{a}.{b}.{number & 0xFFFF}"),
        *(f"[::ffff:{address}]", f"[0:0:0:0:0:ffff:{a:02x}{b:02x}:{c:02x}{d:02x}]"),
    ]


def mapped(address: IPv4Address) -> IPv6Address:
    """An IPv4 address as IPv6 programs write it (RFC 4291, 2.5.5.2)."""
    return IPv6Address((0xFFFF << 32) + int(address))


def carriers(address: IPv4Address) -> list[str]:
    """What leads to one IPv4 address through an IPv6 network, in a URL: 6to4, NAT64."""
    high, low = f"{int(address) >> 16:x}", f"{int(address) & 0xFFFF:x}"
    return [
        f"[2002:{high}:{low}::1]",
        f"[64:ff9b::{address}]",
        f"[64:ff9b::{high}:{low}]",
        f"[64:ff9b:1::{address}]",
    ]


class RulesTests(SynchronousTestCase):
    """How rules are read."""

    def test_good(self) -> None:
        """Hosts, hosts below a domain, addresses and ranges are rules, each with or without a port."""
        texts = [
            *("example.com", "*.Example.com", "example.com:8080", "*", "*:443", "*.example.com.", "_x.y"),
            *("10.0.0.0/8", "10.0.0.0/8:80", "10.1.2.3", "10.1.2.3:80", "::1", "fd00::/8", "[::1]:80"),
            *("[fd00::]/8:80", "[::1]", "b\u00fccher.example", "::ffff:10.0.0.0/104"),
        ]
        rules = parse_rules(texts)
        self.assertEqual([rule.text for rule in rules], texts)
        self.assertEqual([rule.port for rule in rules if rule.port], [8080, 443, 80, 80, 80, 80])
        self.assertEqual(str(rules[-1].network), "10.0.0.0/8")
        self.assertEqual(rules[-2].host, "xn--bcher-kva.example")

    def test_bad(self) -> None:
        """What is no rule is refused by name."""
        for text in (
            *("", "*.", "**", "a b", "exa*mple.com", "*.*.com", "http://example.com", "example.com/", "a..b"),
            *("10.0.0.1/8", "10.0.0.0/33", "10.0.0", "256.1.1.1", "0x7f000001", "10.0.0.0/255.0.0.1"),
            *("example.com:0", "example.com:65536", "example.com:http", "example.com:", "example.com:\u0661"),
            *("[10.0.0.1]:80", "[::1", "[::1]:99999", ":::", "fe80::1%eth0/64", "user@example.com"),
        ):
            with self.assertRaises(ValueError, msg=text) as caught:
                parse_rules(["example.com", text])
            self.assertIn(repr(text), str(caught.exception))

    @given(ANY)
    def test_garbage(self, text: str) -> None:
        """Any text is a rule or a ValueError."""
        try:
            parse_rules([text])
        except ValueError:
            pass


class UrlTests(SynchronousTestCase):
    """How URLs are taken apart."""

    def test_parts(self) -> None:
        """A URL's parts are as the connection and the request line need them."""
        for url, origin, selector, whole in (
            ("http://m", ("http", "m", 80), "/", "http://m/"),
            ("HTTPS://M:443/a?b", ("https", "m", 443), "/a?b", "https://m/a?b"),
            ("http://m:8080?x=1&x=2#f", ("http", "m", 8080), "/?x=1&x=2", "http://m:8080/?x=1&x=2"),
            ("http://u:p@m/", ("http", "m", 80), "/", "http://m/"),
            ("http://m/%2f%zz/\u00e9 x?", ("http", "m", 80), "/%2f%zz/%C3%A9%20x?", None),
            ("http://[::1]:80/;p?a=;b", ("http", "::1", 80), "/;p?a=;b", "http://[::1]/;p?a=;b"),
            ("http://[::FFFF:127.0.0.1]/", ("http", "127.0.0.1", 80), "/", "http://127.0.0.1/"),
            ("http://0x7f.1:5/", ("http", "127.0.0.1", 5), "/", "http://127.0.0.1:5/"),
            ("http://b\u00fccher.example/", ("http", "xn--bcher-kva.example", 80), "/", None),
            ("http://a@b@m/", ("http", "m", 80), "/", "http://m/"),
        ):
            target = parse_url(url)
            self.assertEqual((target.origin, target.selector), (origin, selector), url)
            if whole is not None:
                self.assertEqual(target.url, whole)
        self.assertEqual(parse_url("http://u%40x:p%3A@m/").userinfo, "u@x:p:")
        self.assertIsNone(parse_url("http://m/@").userinfo)

    def test_bad(self) -> None:
        """What can't be requested is refused, and no password is repeated."""
        for url in (
            *("", "m", "/m", "http:", "http://", "http:///x", "http:/m/x", "ftp://m/", "file:///etc/passwd"),
            *("javascript:1", "gopher://m/", "http://m:0/", "http://m:65536/", "http://m:x/", "http://[::1/"),
            *("http://[::1%25eth0]/", "http://[fe80::1%eth0]/", "http://1.2.3.256/", "http://1.2.3.4.5/"),
            *(
                "http://09/",
                "http://a b/",
                "http://a\n/",
                "http://m/\r\nX: y",
                "http://m/\x00",
                "http://a..b/",
            ),
            *("http://%31/", "http://a%2eb/", "http://-a/", "http://*/", "http://m\\@n/", "http://[v1.x]/"),
            *("http://" + 300 * "a" + "/", "http://m/" + MAX_URL * "a", "http://.../", "http://a,b/"),
            *("http://m/\ud800", "http://\udc00/", "http://me:secret@m:x/"),
        ):
            with self.assertRaises(TargetRefused, msg=url) as caught:
                parse_url(url)
            self.assertNotIn("secret", str(caught.exception))

    @given(ANY.map("http://".__add__) | ANY)
    @example("http://[::1]:")
    @example("http://\u2100.com/")
    @example("http://[]/")
    def test_garbage(self, url: str) -> None:
        """Any text is a target or refused, and what a target gives back is the same target."""
        try:
            target = parse_url(url)
        except TargetRefused:
            return
        again = parse_url(target.url)
        self.assertEqual(
            (again.origin, again.selector, again.address), (target.origin, target.selector, target.address)
        )
        self.assertEqual(urlsplit(target.url).hostname, target.host)
        self.assertTrue(target.selector.isascii() and target.selector.isprintable())

    @given(v4)
    @example(IPv4Address("0.0.0.0"))
    @example(IPv4Address("10.0.0.8"))
    def test_spellings(self, address: IPv4Address) -> None:
        """An address is the same in all its spellings."""
        for text in spellings(address):
            self.assertEqual(parse_url(f"http://{text}/").address, address, text)


class CheckTests(SynchronousTestCase):
    """What may be reached."""

    def allows(self, url: str, allow: tuple[str, ...] = (), deny: tuple[str, ...] = ()) -> bool:
        try:
            check_url(url, parse_rules(allow), parse_rules(deny))
        except TargetRefused:
            return False
        return True

    def reaches(
        self,
        host: str,
        address: str,
        allow: tuple[str, ...] = (),
        deny: tuple[str, ...] = (),
        port: int | None = 80,
    ) -> bool:
        try:
            check_address(host, address, parse_rules(allow), parse_rules(deny), port)
        except TargetRefused:
            return False
        return True

    def test_default(self) -> None:
        """By default only link-local and metadata addresses are denied, in all their spellings."""
        for host in METADATA:
            self.assertFalse(self.allows(f"http://{host}:80/latest", deny=DEFAULT_DENY), host)
        for host in ("127.0.0.1", "10.0.0.1", "[::1]", "example.com", "169.253.1.1", "[fec0::1]"):
            self.assertTrue(self.allows(f"http://{host}/", deny=DEFAULT_DENY), host)

    def test_default_addresses(self) -> None:
        """A name that leads to a denied address is denied by the address."""
        for address in ("169.254.169.254", "::ffff:169.254.0.1", "fe80::1%eth0", "fd00:ec2::254"):
            self.assertFalse(self.reaches("good.example", address, deny=DEFAULT_DENY), address)
        self.assertTrue(self.reaches("good.example", "127.0.0.1", deny=DEFAULT_DENY))

    def test_names(self) -> None:
        """A host means itself, a star the hosts below; neither means what merely ends alike."""
        for allow, host, expected in (
            ("example.com", "example.com", True),
            ("example.com", "EXAMPLE.com.", True),
            ("example.com", "a.example.com", False),
            ("*.example.com", "a.example.com", True),
            ("*.example.com", "a.b.example.com", True),
            ("*.example.com", "example.com", False),
            ("*.example.com", "badexample.com", False),
            ("*.example.com", "example.com.evil.net", False),
            ("example.com:8080", "example.com:8080", True),
            ("example.com:8080", "example.com", False),
            ("*", "anything", True),
            ("*:80", "anything", True),
            ("*:80", "anything:81", False),
            ("10.0.0.0/8", "10.1.2.3", True),
            ("10.0.0.0/8", "11.1.2.3", False),
            ("10.0.0.0/8", "[::ffff:10.1.2.3]", True),
            ("10.0.0.0/8", "[64:ff9b::10.1.2.3]", False),
            ("10.0.0.1:81", "10.0.0.1:81", True),
            ("10.0.0.1:81", "10.0.0.1", False),
            ("*", "10.0.0.1", True),
            ("::/0", "[::1]", True),
        ):
            self.assertEqual(self.allows(f"http://{host}/", allow=(allow,)), expected, (allow, host))
            if expected:
                self.assertFalse(self.allows(f"http://{host}/", allow=(allow,), deny=(allow,)), (allow, host))

    def test_ranges_wait(self) -> None:
        """Where ranges are allowed, a name is let through until its address is known."""
        self.assertTrue(self.allows("http://name/", allow=("10.0.0.0/8",)))
        self.assertFalse(self.allows("http://name/", allow=("10.0.0.0/8:81",)))
        self.assertTrue(self.reaches("name", "10.1.1.1", allow=("10.0.0.0/8",)))
        self.assertFalse(self.reaches("name", "11.1.1.1", allow=("10.0.0.0/8",)))
        self.assertTrue(self.reaches("name", "11.1.1.1", allow=("name",)))
        self.assertFalse(self.reaches("name", "10.1.1.1", allow=("name",), deny=("10.0.0.0/8",)))

    def test_ports(self) -> None:
        """Rules of one port hold for it alone; for an unknown port all denials hold and no permission."""
        self.assertTrue(self.reaches("m", "10.0.0.1", deny=("10.0.0.1:81", "m:81")))
        self.assertFalse(self.reaches("m", "10.0.0.1", deny=("10.0.0.1:80",)))
        self.assertFalse(self.reaches("m", "10.0.0.1", deny=("10.0.0.1:81",), port=None))
        self.assertTrue(self.reaches("m", "10.0.0.1", allow=("m:80",)))
        self.assertFalse(self.reaches("m", "10.0.0.1", allow=("m:80",), port=None))
        self.assertFalse(self.reaches("m", "10.0.0.1", allow=("m:81",)))

    def test_unspecified(self) -> None:
        """The unspecified address is loopback, as far as denials go."""
        for host in ("0.0.0.0", "0", "[::]", "[::ffff:0.0.0.0]"):
            self.assertFalse(self.allows(f"http://{host}/", deny=("127.0.0.0/8", "::1")), host)

    def test_no_address(self) -> None:
        """What is no address is refused."""
        for address in ("", "name", "1.2.3", "/var/run/socket"):
            self.assertFalse(self.reaches("m", address))

    def test_reason(self) -> None:
        """The refusal names the target and the rule."""
        for call, expected in (
            (lambda: check_url("http://2852039166/", (), DENY), "169.254.169.254 is denied by 169"),
            (lambda: check_address("m", "169.254.1.1", (), DENY), "the address 169.254.1.1 of m is denied"),
            (lambda: check_url("http://m:81/", parse_rules(["n"]), ()), "the target m:81 is not among those"),
        ):
            with self.assertRaises(TargetRefused) as caught:
                call()
            self.assertIn(expected, str(caught.exception))

    @given(v4 | v6 | v4.map(mapped), st.integers(0, 128))
    @example(mapped(IPv4Address("10.0.0.1")), 0)
    @example(mapped(IPv4Address("10.0.0.1")), 95)
    @example(IPv6Address("::1"), 0)
    def test_denied_range(self, address: IPv4Address | IPv6Address, prefix: int) -> None:
        """No spelling of an address gets past a range that has it, whatever is allowed."""
        prefix = min(prefix, address.max_prefixlen)
        bits = address.max_prefixlen - prefix
        network = f"{type(address)(int(address) >> bits << bits)}/{prefix}"
        hosts = [*spellings(address), *carriers(address)] if address.version == 4 else [f"[{address}]"]
        for host in hosts:
            self.assertFalse(self.allows(f"http://{host}/", ("*", str(address)), (network,)), (host, network))
        self.assertFalse(self.reaches("m", str(address), ("m", str(address)), (network,)))

    def test_mapped(self) -> None:
        """Ranges of both kinds deny an IPv4 address that is written as an IPv6 one, and its own alone it."""
        for host, deny, expected in (
            ("[::ffff:10.0.0.1]", "::/0", False),
            ("[::ffff:10.0.0.1]", "::ffff:0:0/96", False),
            ("[::ffff:10.0.0.1]", "10.0.0.0/8", False),
            ("[::ffff:10.0.0.1]", "fd00::/8", True),
            ("[::ffff:11.0.0.1]", "10.0.0.0/8", True),
            ("10.0.0.1", "::/0", True),
            ("10.0.0.1", "::ffff:0:0/96", False),
            ("[64:ff9b::10.0.0.1]", "10.0.0.0/8", False),
            ("[64:ff9b::11.0.0.1]", "10.0.0.0/8", True),
            ("[2002:a00:1::]", "10.0.0.0/8", False),
            ("[2002:b00:1::]", "10.0.0.0/8", True),
        ):
            self.assertEqual(self.allows(f"http://{host}/", deny=(deny,)), expected, (host, deny))

    def test_target(self) -> None:
        """A URL that was taken apart is checked as it was written."""
        target = parse_url("http://[::ffff:10.0.0.1]/")
        self.assertEqual(target.url, "http://10.0.0.1/")
        self.assertRaises(TargetRefused, check_target, target, (), parse_rules(["::/0"]))

    @given(v4)
    def test_carried(self, address: IPv4Address) -> None:
        """An IPv4 address that an IPv6 one carries is denied with it."""
        number = int(address)
        for carrier in (
            (0xFFFF << 32) + number,
            (0x2002 << 112) + (number << 80) + 1,
            int(IPv6Address("64:ff9b::")) + number,
            int(IPv6Address("2001::")) + (number ^ 0xFFFFFFFF),
        ):
            self.assertIn(address, meanings(ip_address(carrier.to_bytes(16, "big"))))

    @given(v4 | v6)
    def test_meanings(self, address: IPv4Address | IPv6Address) -> None:
        """An address means itself first of all."""
        self.assertEqual(meanings(address)[0], canonical(address))


class SizeTests(SynchronousTestCase):
    """Workers import it."""

    def test_standard_library(self) -> None:
        """No library is needed but Python's own."""
        source = (TOP / "cyme" / "targets.py").read_text(encoding="utf-8")
        self.assertNotIn("import attr", source)
        self.assertNotIn("from cyme", source)
