"""The pure parts of the webhook task."""

from __future__ import annotations

import base64
import json
from datetime import date, datetime, timezone
from email.utils import format_datetime

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from cyme.gateway.answers import LARGEST_ANSWER
from cyme.targets import TargetRefused, parse_url
from cyme.tasks.answering import LONGEST_TEXT, as_text, exception_as_json
from cyme.tasks.backoff import LONGEST, delay, retry_after
from cyme.tasks.callbacks import callback
from cyme.tasks.contents import as_json
from cyme.tasks.redirects import Outgoing, redirected

NOW = 1_800_000_000.0


class BackoffTests(SynchronousTestCase):
    """When the next attempt is due."""

    def test_exponential(self) -> None:
        """Without a word from the target waits double, up to a limit, less up to half."""
        self.assertEqual([delay(number, 0.0) for number in range(5)], [1, 2, 4, 8, 16])
        self.assertEqual(delay(2, 0.5), 3)
        self.assertEqual(delay(10**6, 0.0), LONGEST)

    def test_asked(self) -> None:
        """What the target asks for counts, within the limit; callers spread a little."""
        self.assertEqual(delay(7, 0.0, 3.0), 3)
        self.assertEqual(delay(0, 0.5, 3.0), 3.5)
        self.assertEqual(delay(0, 0.5, 1e15), LONGEST)

    def test_retry_after(self) -> None:
        """Seconds and dates are understood; anything else says nothing."""
        later = format_datetime(datetime.fromtimestamp(NOW + 90, timezone.utc), usegmt=True)
        past = format_datetime(datetime.fromtimestamp(NOW - 90, timezone.utc), usegmt=True)
        for value, expected in (
            *((None, None), ("", None), ("soon", None), ("-1", None), ("1.5", None), ("\u0663", None)),
            *(("0", 0), (" 120 ", 120), ("9" * 5000, 999999999999999), (later, 90), (past, 0)),
            *(("Fri, 31 Dec 99999 23:59:59 GMT", None), ("Mon, 99 Foo 2020 25:00:00 GMT", None)),
        ):
            self.assertEqual(retry_after(value, NOW), expected, value)

    @given(st.text(max_size=40), st.integers(0, 10**6), st.floats(0, 0.999))
    def test_bounds(self, value: str, retries: int, random: float) -> None:
        """No header makes a wait negative or longer than the limit."""
        self.assertTrue(0 <= delay(retries, random, retry_after(value, NOW)) <= LONGEST)


class RedirectTests(SynchronousTestCase):
    """What becomes of a request that is sent on."""

    HEADERS = (
        *(("Content-Type", "a/b"), ("content-language", "x"), ("X", "1")),
        *(("Authorization", "secret"), ("cookie", "c"), ("Host", "h")),
    )

    def follow(self, method: str, status: int, location: str | None) -> Outgoing | None:
        outgoing = Outgoing(method, parse_url("http://m/a/b?c"), self.HEADERS, b"body")
        return redirected(outgoing, status, location)

    def test_methods(self) -> None:
        """Method and body are kept or dropped as browsers do."""
        for status, method, expected in (
            *((301, "POST", "GET"), (302, "POST", "GET"), (303, "POST", "GET"), (303, "PUT", "GET")),
            *((301, "PUT", "PUT"), (302, "DELETE", "DELETE"), (303, "HEAD", "HEAD"), (301, "GET", "GET")),
            *((307, "POST", "POST"), (308, "POST", "POST"), (307, "PATCH", "PATCH"), (302, "HEAD", "HEAD")),
        ):
            found = self.follow(method, status, "/x")
            assert found is not None
            self.assertEqual(found.method, expected, (status, method))
            is_kept = expected == method
            self.assertEqual(found.body, b"body" if is_kept else None)
            self.assertEqual("Content-Type" in dict(found.headers), is_kept)
            self.assertIn("Authorization", dict(found.headers))

    def test_locations(self) -> None:
        """Locations may be relative; credentials stay with the origin they are for."""
        for location, url, is_same in (
            *(("/x?y#z", "http://m/x?y", True), ("x", "http://m/a/x", True), ("?q", "http://m/a/b?q", True)),
            *(("//n/x", "http://n/x", False), ("https://m/x", "https://m/x", False)),
            *(("http://m:81/", "http://m:81/", False), ("HTTP://M:80/", "http://m/", True)),
        ):
            found = self.follow("GET", 302, location)
            assert found is not None
            self.assertEqual(found.target.url, url)
            names = {name.lower() for name, _ in found.headers}
            self.assertEqual({"authorization", "cookie", "host"} & names != set(), is_same, location)
            self.assertIn("x", names)

    def test_none(self) -> None:
        """Other statuses, and those without a location, are responses like any other."""
        for status, location in ((200, "/x"), (304, "/x"), (300, "/x"), (305, "/x"), (302, None), (302, "")):
            self.assertIsNone(self.follow("GET", status, location))

    def test_bad(self) -> None:
        """A location that can't be requested is refused."""
        for location in ("ftp://m/", "file:///etc/passwd", "https://", "http://[::1", "//[", "http://a b/"):
            self.assertRaises(TargetRefused, self.follow, "GET", 302, location)


class ContentTests(SynchronousTestCase):
    """Text and what is none."""

    def test_text(self) -> None:
        """Text is decoded by its character set, UTF-8 where none is named."""
        for content, kind, expected in (
            *((b"", None, ""), (b"h\xc3\xa9", None, "h\u00e9"), (b"h\xc3\xa9", "image/png", "h\u00e9")),
            *((b"h\xe9", "text/plain; charset=ISO-8859-1", "h\u00e9"), (b"\xef\xbb\xbfx", "text/csv", "x")),
            *((b"x", 'text/plain; Charset="UTF-8"', "x"), (b"h\x00i\x00", "text/x; charset=utf-16-le", "hi")),
        ):
            self.assertEqual(as_json(content, kind, None, is_cut=False), expected, kind)

    def test_binary(self) -> None:
        """What does not decode, is compressed, or names no character set of the world, is base64."""
        for content, kind, encoding in (
            *((b"\xff", None, None), (b"h\xc3", None, None), (b"x", None, "gzip"), (b"x", None, "br, gzip")),
            *((b"x", "text/x; charset=nonsense", None), (b"aa", "text/x; charset=hex", None)),
            *((b"\\ud800", "text/x; charset=unicode-escape", None), (b"x", "a/b; charset=idna", None)),
            *((b"+2AA-", "text/x; charset=utf-7", None), (b"x", "text/x; charset=a\x00b", None)),
        ):
            expected = {"base64": base64.b64encode(content).decode()}
            self.assertEqual(as_json(content, kind, encoding, is_cut=False), expected, (content, kind))

    def test_cut(self) -> None:
        """Content that was cut within a character is text up to it."""
        self.assertEqual(as_json(b"h\xc3", None, None, is_cut=True), "h")
        self.assertEqual(as_json(b"\xff\xc3", None, None, is_cut=True), {"base64": "/8M="})

    @given(st.binary(max_size=50), st.none() | st.text(max_size=30), st.booleans())
    def test_any(self, content: bytes, kind: str | None, is_cut: bool) -> None:
        """Any content and type become JSON; base64 gives back the very bytes."""
        found = as_json(content, kind and f"text/x; charset={kind}", None, is_cut=is_cut)
        json.dumps(found).encode("ascii")
        if isinstance(found, dict):
            self.assertEqual(base64.b64decode(found["base64"]), content)


class CallbackTests(SynchronousTestCase):
    """Who is told of an end."""

    OPTIONS = {
        **{"callback": "http://c/", "failure_callback": "http://f/", "timeout": 3.0, "retries": 9},
        **{"allow": ["c"], "deny": ["d"], "max_deliveries": 4, "deliveries": 2, "max_response": 7},
    }

    def test_success(self) -> None:
        """A success is told to one URL, under the rules of its request, and to nobody after that."""
        made = callback("id", "SUCCESS", {"status_code": 200}, {"options": self.OPTIONS})
        assert made is not None
        self.assertEqual((made["request"]["url"], made["request"]["method"]), ("http://c/", "POST"))
        self.assertEqual(
            json.loads(base64.b64decode(made["request"]["body"])),
            {"uuid": "id", "state": "SUCCESS", "result": {"status_code": 200}},
        )
        options = made["options"]
        self.assertEqual((options["allow"], options["deny"], options["timeout"]), (["c"], ["d"], 3.0))
        self.assertEqual((options["deliveries"], options["retries"]), (0, 5))
        self.assertIsNone(callback("id2", "SUCCESS", {}, made))
        self.assertIsNone(callback("id2", "FAILURE", {}, made))

    def test_failure(self) -> None:
        """A failure is told to the other URL, with its kind and message."""
        result = {"exc_type": "TimedOut", "exc_message": ["too late"], "exc_module": "m"}
        made = callback("id", "FAILURE", result, {"options": self.OPTIONS})
        assert made is not None
        self.assertEqual(made["request"]["url"], "http://f/")
        self.assertEqual(
            json.loads(base64.b64decode(made["request"]["body"])),
            {"uuid": "id", "state": "FAILURE", "error": {"type": "TimedOut", "message": "too late"}},
        )

    def test_nobody(self) -> None:
        """Other states, and requests without callbacks, are told to nobody."""
        self.assertIsNone(callback("id", "REVOKED", {}, {"options": self.OPTIONS}))
        self.assertIsNone(callback("id", "SUCCESS", {}, {"options": {}}))
        self.assertIsNone(callback("id", "SUCCESS", {}, {}))


class ResultTests(SynchronousTestCase):
    """The JSON that branches get."""

    def result(self, value: object) -> object:
        return json.loads(as_text({"status": "SUCCESS", "result": value}), parse_constant=self.fail)["result"]

    def test_values(self) -> None:
        """Values of Python's that JSON does not have are spelled out; none is beyond it."""
        loop: list[object] = []
        loop.append(loop)
        for value, expected in (
            *(({"a": [1, None, "x"]}, {"a": [1, None, "x"]}), ((1, 2), [1, 2]), ({1}, [1])),
            *((date(2020, 1, 2), "2020-01-02"), (b"x", "b'x'"), (KeyError("a"), "'a'")),
            *(({(1, 2): 3}, {"repr": "{(1, 2): 3}"}), (float("nan"), {"repr": "nan"})),
        ):
            self.assertEqual(self.result(value), expected)
        self.assertEqual(list(self.result(loop)), ["repr"])  # type: ignore[call-overload]

    def test_too_long(self) -> None:
        """Of a result that no branch would take there is the beginning."""
        text = as_text({"status": "SUCCESS", "result": ["x" * LONGEST_TEXT]})
        self.assertLess(len(text), 20_000)
        self.assertIn("xxx", json.loads(text)["result"]["repr"])
        self.assertLess(LONGEST_TEXT, LARGEST_ANSWER)

    def test_exceptions(self) -> None:
        """Exceptions are their type, module and arguments."""
        self.assertEqual(
            exception_as_json(TargetRefused("no")),
            {"exc_type": "TargetRefused", "exc_message": ["no"], "exc_module": "cyme.targets"},
        )
