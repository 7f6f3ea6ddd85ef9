"""Which queue and which URL a request to `/APP/queue/...` means."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cyme.api.problems import MalformedRequest
from cyme.api.queueurl import Destination, destination, queueing_prefix
from cyme.errors import InvalidParameter, InvalidTarget, Refused

ROOTS = {b"!", b"instances", b"branches"}

#: What a request line may carry of a URL: no space, no `#`, nothing that is not ASCII.
url_bytes = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"))
names = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/"), min_size=1)


@st.composite
def urls(draw: st.DrawFn) -> str:
    """URLs with any path and query that can be sent, also odd ones."""
    host = draw(st.sampled_from(["m", "example.com:8080", "[::1]:80", "127.0.0.1", "me:secret@m"]))
    path = draw(st.just("") | url_bytes.map(lambda text: "/" + text.replace("?", "")))
    query = draw(st.just("") | url_bytes.map(lambda text: "?" + text))
    return draw(st.sampled_from(["http", "https"])) + "://" + host + path + query


class SpellingTests(SynchronousTestCase):
    """The spellings of one URL."""

    @given(urls(), names.filter(lambda name: name not in ("http:", "https:")), st.booleans())
    def test_as_it_is(self, url: str, queue: str, has_queue: bool) -> None:
        """A URL in the path reaches the target byte for byte, whatever is in it."""
        place = f"/foo/queue/{quote(queue, safe='')}/" if has_queue else "/foo/queue/"
        expected = Destination("foo", queue if has_queue else None, url)
        self.assertEqual(destination((place + url).encode()), expected)
        merged = url.replace("://", ":/", 1)
        self.assertEqual(destination((place + merged).encode()), expected)

    @given(urls(), st.booleans())
    def test_encoded(self, url: str, slash: bool) -> None:
        """A URL as one segment, or as a parameter, is decoded once."""
        encoded = quote(url, safe="")
        expected = Destination("foo", "tasks", url)
        for target in (
            f"/foo/queue/tasks/{encoded}" + "/" * slash,
            f"/foo/queue/tasks{'/' * slash}?url={encoded}",
        ):
            self.assertEqual(destination(target.encode()), expected)
        self.assertEqual(destination(f"/foo/queue/?url={encoded}".encode()), Destination("foo", None, url))

    def test_query(self) -> None:
        """The query string keeps its order, repetitions and escapes; it comes behind an encoded URL's own."""
        for target, url in {
            "http://m/x?b=1&a=2&b=%31&b=1+1&&url=y": "http://m/x?b=1&a=2&b=%31&b=1+1&&url=y",
            "http://m?": "http://m?",
            "HTTP://m/x%2fy//z/../": "http://m/x%2fy//z/../",
            "http%3A%2F%2Fm%2Fx?a=1": "http://m/x?a=1",
            "http%3a%2f%2fm%2fx%3Fa=1?b=2&c=?": "http://m/x?a=1&b=2&c=?",
            "http%3A//m/a%2Fb": "http://m/a%2Fb",
            "http%3A%2F%2Fm%2Fa%252Fb%20c%23d": "http://m/a%2Fb%20c",
            "https:%2Fm/x": "https://m/x",
            "?url=http://m/x?a=1+2": "http://m/x?a=1+2",
            "?url=http%3A%2F%2Fm%2F%C3%A4%26b&": "http://m/%C3%A4&b",
        }.items():
            self.assertEqual(destination(f"/foo/queue/{target}".encode()), Destination("foo", None, url))

    def test_unsendable(self) -> None:
        """What a request line can't carry is percent-encoded."""
        self.assertEqual(destination(b"/foo/queue/http://m/\xff\xc3\xa4").url, "http://m/%FF%C3%A4")

    def test_no_url(self) -> None:
        """Without a URL, or with two, nothing is guessed."""
        for target in ("", "?", "tasks", "tasks/", "tasks/ftp://m/", "tasks/m/x", "a/b/http://m/"):
            self.assertRaises(InvalidTarget, destination, f"/foo/queue/{target}".encode())
        for target in ("?a=b", "?url=http://m/&b=1", "tasks?url=a&url=b"):
            self.assertRaises(InvalidParameter, destination, f"/foo/queue/{target}".encode())
        self.assertRaises(InvalidTarget, destination, b"/foo/queue/http%3A%2F%2Fm%2F%0D%0AX:y")
        self.assertRaises(MalformedRequest, destination, b"/foo/queue/%FF/http://m/")
        self.assertRaises(MalformedRequest, destination, b"/f%FF/queue/http://m/")

    @given(st.binary())
    def test_garbage(self, rest: bytes) -> None:
        """Whatever stands behind `queue/` is a URL that can be sent, or refused."""
        try:
            found = destination(b"/foo/queue/" + rest)
        except Refused:
            return
        self.assertRegex(found.url, r"\A[\x21-\x7e]*\Z")
        self.assertEqual(found.app, "foo")


class PrefixTests(SynchronousTestCase):
    """Which requests are to be queued at all."""

    def test_prefix(self) -> None:
        """It is the second segment that decides, as it was sent."""
        for target, prefix in {
            b"/foo/queue/http://m/": b"/foo/queue",
            b"/foo/queue": b"/foo/queue",
            b"/foo/queue?url=x": b"/foo/queue",
            b"/f%C3%B6/queue/x": b"/f%C3%B6/queue",
            b"/foo/queues/x": None,
            b"/foo/queue%2F/x": None,
            b"/instances/queue/": None,
            b"/!/queue/": None,
            b"/queue/http://m/": None,
            b"//queue/http://m/": None,
            b"/foo?/queue/": None,
            b"http://h/queue/": None,
            b"*": None,
        }.items():
            self.assertEqual(queueing_prefix(target, ROOTS), prefix, target)
