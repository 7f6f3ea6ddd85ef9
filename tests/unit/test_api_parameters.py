"""What requests may say: types, ranges, sources, and everything that is refused."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.access.tokenfile import TokenFile
from cyme.api import jsontext
from cyme.api.parameters import Flag, Kind, Names, Object, Parameter, Seconds, Size, Text, Whole
from cyme.api.site import Limits, make_site
from tests.fakes.controller import FakeController
from tests.support.httpmemory import Response, request

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


class KindTests(SynchronousTestCase):
    """Types of parameters, in text and in JSON."""

    def assert_takes(self, kind: Kind, texts: dict[str, Any], values: dict[str, Any]) -> None:
        """Each text, and each value as JSON text, is read as the value beside it."""
        for text, value in texts.items():
            self.assertEqual(kind.from_text(text), value)
        for text, value in values.items():
            self.assertEqual(kind.from_json(json.loads(text)), value)

    def assert_refuses(self, kind: Kind, texts: list[str], values: list[Any]) -> None:
        for text in texts:
            self.assertRaises(ValueError, kind.from_text, text)
        for value in values:
            self.assertRaises(ValueError, kind.from_json, value)

    def test_text(self) -> None:
        """Text has a limit and holds neither NUL nor half of a surrogate pair."""
        self.assert_takes(Text(3), {"abc": "abc", " ": " ", "äöü": "äöü"}, {'"a\\n"': "a\n"})
        self.assert_refuses(Text(3), ["abcd", "a\0", "\ud800"], [1, True, ["a"], {}, "a\0", "\udfff"])

    def test_whole(self) -> None:
        """A whole number is written in ASCII digits and lies in its range."""
        self.assert_takes(Whole(0, 9), {"0": 0, "9": 9, "007": 7, "+1": 1}, {"3": 3})
        texts = ["-1", "10", "1.0", "1e1", " 1", "1_0", "１", "x", "9" * 5000, "0x1"]
        self.assert_refuses(Whole(0, 9), texts, [10, -1, 1.0, True, "1", None, [1]])

    def test_seconds(self) -> None:
        """A duration is a plain decimal number, never infinite."""
        self.assert_takes(Seconds(60.0), {"0": 0.0, "1.5": 1.5, "60": 60.0}, {"2": 2.0, "0.25": 0.25})
        texts = ["-1", "61", "nan", "inf", "1e1", "1.", ".5", "1_0", "x"]
        self.assert_refuses(Seconds(60.0), texts, [61, -0.1, True, "1", float("nan"), float("inf")])

    def test_size(self) -> None:
        """A number of bytes may have a unit of 1024s behind it, and then a fraction."""
        texts = {"0": 0, "1048576": 1 << 20, "300M": 300 << 20, "1.5g": 3 << 29, "0.5K": 512, "1T": 1 << 40}
        self.assert_takes(Size(1 << 50), texts, {"5": 5, '"300m"': 300 << 20})
        wrong = ["-1", "1.5", "1P", "1 M", "1MB", "M", "1e3", "1_0M", "１M", "2048T", "9" * 5000, ".5M"]
        self.assert_refuses(Size(1 << 50), wrong, [-1, 1.5, True, None, "x", [1], 1 << 51])

    @given(st.integers(0, 1 << 50), st.sampled_from("kmgtKMGT"))
    def test_size_of_units(self, value: int, unit: str) -> None:
        """A size in units is that many times the unit, or too large."""
        size = value << 10 * ("kmgt".index(unit.lower()) + 1)
        if size <= 1 << 50:
            self.assertEqual(Size(1 << 50).from_text(f"{value}{unit}"), size)
        else:
            self.assertRaises(ValueError, Size(1 << 50).from_text, f"{value}{unit}")

    def test_flag(self) -> None:
        """Yes and no have three spellings each in text, and JSON's own alone in JSON."""
        yes = dict.fromkeys(["true", "True", "1", "yes"], True)
        no = dict.fromkeys(["false", "FALSE", "0", "no"], False)
        self.assert_takes(Flag(), yes | no, {"true": True, "false": False})
        self.assert_refuses(Flag(), ["on", "2", "y", " true"], [0, 1, "true", []])

    def test_names(self) -> None:
        """Names come with commas between them or as a list, and none is empty."""
        self.assert_takes(Names(), {"a": ["a"], "a, b": ["a", "b"]}, {'["a,b"]': ["a,b"], "[]": []})
        self.assert_refuses(Names(2), ["a,,b", ",", "a,b,c", "a\0"], ["a", [""], [1], ["a"] * 3, {}])

    def test_object(self) -> None:
        """An object is JSON in text too."""
        self.assert_takes(Object(), {'{"a": [1]}': {"a": [1]}}, {"{}": {}})
        self.assert_refuses(Object(), ["[]", "x", "{'a': 1}", "1"], [[], "{}", 1])

    @given(st.text() | st.integers() | st.floats() | st.lists(st.text()) | st.none() | st.booleans())
    @settings(max_examples=200, deadline=None)
    def test_anything(self, value: Any) -> None:
        """A kind reads a value or refuses it with a ValueError, whatever it is."""
        for kind in (Text(), Whole(0, 9), Seconds(1.0), Size(9), Flag(), Names(), Object()):
            for read, argument in ((kind.from_json, value), (kind.from_text, str(value))):
                try:
                    read(argument)
                except ValueError:
                    continue


class JSONTextTests(SynchronousTestCase):
    """JSON of strangers."""

    def test_bounds(self) -> None:
        """What JSON leaves open is closed: each with its reason."""
        for text, why in (
            ('{"a": 1, "a": 2}', "twice"),
            ('{"o": {"b": 1, "b": 2}}', "twice"),
            ("NaN", "NaN"),
            ("[-Infinity]", "Infinity"),
            ("1e999", "too big"),
            ("9" * 5000, "digits"),
            ("-" + "9" * 19, "digits"),
            ('"\\ud800"', "surrogate"),
            ('{"\\udc00": 1}', "surrogate"),
            ('["a\\u0000"]', "NUL"),
            ("[" * 17 + "]" * 17, "levels"),
            ("[" * 100_000, "levels"),
            ('{"a":' * 100_000, "levels"),
            ("{", "line 1"),
            ("", "line 1"),
        ):
            error = self.assertRaises(jsontext.NotJSON, jsontext.loads, text)
            self.assertIn(why, str(error))

    def test_in_bounds(self) -> None:
        """Everything else is read as it is."""
        value = {"a": [1, -2.5, None, True, "ä😀"], "b": {"": {}}}
        self.assertEqual(jsontext.loads(json.dumps(value)), value)
        self.assertEqual(jsontext.loads("[" * 16 + "]" * 16), json.loads("[" * 16 + "]" * 16))


class SourceTests(SynchronousTestCase):
    """Query, form and JSON body, on real requests."""

    def setUp(self) -> None:
        self.controller = FakeController()
        self.site = make_site(
            Clock(),
            self.controller,
            limits=Limits(request_body=1_000_000), tokens=TokenFile(None),
            allowed_origins=(),
            check_host=True,
            readiness=dict,
        )

    def ask(self, method: str, target: str, **more: Any) -> Response:
        return request(self.site, method, target, **more)

    def assert_refused(self, response: Response, *words: str) -> None:
        self.assertEqual(response.status, 400, response.body)
        for word in words:
            self.assertIn(word, response.json["detail"])
        self.assertEqual(self.controller.declared_apps, {})

    def test_sources(self) -> None:
        """A parameter comes from the query, a form or a JSON object."""
        for more in (
            {"target": "/foo/?pool=solo&arguments=a+b%26c"},
            {"target": "/foo/", "form": "pool=solo&arguments=a+b%26c"},
            {"target": "/foo/", "json_body": {"pool": "solo", "arguments": "a b&c"}},
            {"target": "/foo/?arguments=a%20b%26c", "form": "pool=solo"},
        ):
            for method in ("PUT", "POST"):
                self.controller.declared_apps.clear()
                shown = self.ask(method, **more).json
                self.assertEqual((shown["pool"], shown["arguments"]), ("solo", "a b&c"))

    def test_query_wins(self) -> None:
        """The query beats the body, also under another spelling, unless it is empty."""
        shown = self.ask("PUT", "/foo/?pool=solo&vhost=q", form="hostname=h&pool=prefork&virtual_host=b").json
        self.assertEqual((shown["pool"], shown["broker"]["virtual_host"]), ("solo", "q"))
        shown = self.ask("PUT", "/bar/?pool=", form="pool=prefork").json
        self.assertEqual(shown["pool"], "prefork")

    def test_not_given(self) -> None:
        """An empty text and JSON's null count as not given."""
        for more in ({"form": "pool=&hostname="}, {"json_body": {"pool": None, "hostname": ""}}):
            self.controller.declared_apps.clear()
            self.assertEqual(self.ask("PUT", "/foo/?port=", **more).json, {"name": "foo", "broker": {}})

    def test_unknown(self) -> None:
        """An unknown parameter is named, with those that are known."""
        self.assert_refused(self.ask("PUT", "/foo/?pol=solo"), "'pol'", "pool")
        self.assert_refused(self.ask("PUT", "/foo/", form="pol=solo"), "'pol'")
        self.assert_refused(self.ask("PUT", "/foo/", json_body={"pol": 1}), "'pol'")
        self.assert_refused(self.ask("GET", "/?x=1"), "'x'", "no parameters")
        self.assert_refused(self.ask("GET", "/?" + "x" * 1000 + "=1"), "x" * 64 + "'")

    def test_given_twice(self) -> None:
        """A parameter that is given twice is refused, also under two spellings."""
        for query in ("pool=a&pool=b", "pool=&pool=b", "vhost=a&virtual_host=b"):
            self.assert_refused(self.ask("PUT", f"/foo/?{query}"), "twice")
            self.assert_refused(self.ask("PUT", "/foo/", form=query), "twice")
        self.assert_refused(self.ask("PUT", "/foo/", json_body={"vhost": "a", "virtual_host": "b"}), "twice")
        twice = b'{"pool": "a", "pool": "b"}'
        self.assert_refused(self.ask("PUT", "/foo/", body=twice, content_type=JSON), "twice")

    def test_wrong_type(self) -> None:
        """A value that is not what the parameter takes is refused with what it takes, and not quoted."""
        self.assert_refused(self.ask("PUT", "/foo/?port=70000"), "'port'", "65535")
        self.assert_refused(self.ask("PUT", "/foo/", json_body={"port": "5672"}), "'port'", "whole number")
        self.assert_refused(self.ask("PUT", "/foo/", json_body={"pool": 1}), "'pool'", "text")
        refused = self.ask("PUT", "/foo/", json_body={"password": ["secret"]})
        self.assert_refused(refused, "'password'")
        self.assertNotIn(b"secret", refused.body)

    def test_options(self) -> None:
        """A JSON object in a query or a form is as strict as a JSON body."""
        self.ask("PUT", "/foo/")
        shown = self.ask("PUT", "/foo/queues/a/?options=%7B%22durable%22%3Atrue%7D").json
        self.assertEqual(shown["options"], {"durable": True})
        for options, why in (("[1]", "JSON object"), ('{"a":1,"a":2}', "twice"), ('{"a":NaN}', "NaN")):
            refused = self.ask("PUT", "/foo/queues/b/", form=f"options={options}")
            self.assertEqual(refused.status, 400)
            self.assertIn(why, refused.json["detail"])

    def test_bodies(self) -> None:
        """A body that is not what it says, or nothing that is taken, is refused."""
        for body, content_type, why in (
            (b"pool=a", None, FORM),
            (b"pool=a", "text/plain", JSON),
            (b"--x", "multipart/form-data; boundary=x", FORM),
            (b"pool=a", f"{FORM}; charset=utf-16", "UTF-8"),
            (b"pool=%ff", FORM, "UTF-8"),
            (b"pool=\xff", FORM, "UTF-8"),
            (b"&".join([b"a=1"] * 101), FORM, "fields"),
            (b"[]", JSON, "object"),
            (b"{", JSON, "line 1"),
            (b" ", JSON, "line 1"),
            (b'{"pool": "\xff"}', JSON, "UTF-8"),
            (b'\xef\xbb\xbf{"pool": "a"}', JSON, "JSON"),
            (b'{"a":' * 50_000, JSON, "levels"),
        ):
            self.assert_refused(self.ask("PUT", "/foo/", body=body, content_type=content_type), why)
        encoded = [("Content-Encoding", "gzip")]
        self.assert_refused(self.ask("PUT", "/foo/", form="pool=a", headers=encoded), "Content-Encoding")
        again = [("Content-Type", FORM)]
        self.assert_refused(self.ask("PUT", "/foo/", form="pool=a", headers=again), "several")

    def test_content_types(self) -> None:
        """A Content-Type is recognised with parameters and in capitals."""
        for content_type in ("Application/JSON", f"{JSON}; charset=UTF-8", f'{JSON};charset="utf-8"'):
            self.controller.declared_apps.clear()
            answer = self.ask("PUT", "/foo/", body=b'{"pool": "solo"}', content_type=content_type)
            self.assertEqual(answer.status, 201)

    def test_bad_queries(self) -> None:
        """A query string that is not UTF-8 or has too many fields is refused."""
        self.assert_refused(self.ask("PUT", "/foo/?pool=%ff"), "UTF-8")
        self.assert_refused(self.ask("PUT", "/foo/?" + "&".join(["a=1"] * 101)), "fields")
        self.assert_refused(self.ask("PUT", "/foo/?pool=%00"), "NUL")

    def test_body_of_a_read(self) -> None:
        """The body of a `GET` is passed over."""
        self.assertEqual(self.ask("GET", "/", form="pool=solo").status, 200)

    def test_body_of_a_deletion(self) -> None:
        """A `DELETE` takes parameters like any other change."""
        self.ask("PUT", "/foo/")
        self.ask("PUT", "/foo/queues/q/")
        self.ask("PUT", "/foo/instances/w1/", form="queues=q")
        self.assertEqual(self.ask("DELETE", "/foo/instances/w1/queues/q/", form="wait=1").status, 200)
        self.assertEqual(self.ask("DELETE", "/foo/?why=1").status, 400)


class ParameterTests(SynchronousTestCase):
    """Declarations themselves."""

    def test_value(self) -> None:
        """Declarations compare by value."""
        one = Parameter(name="a", kind=Whole(1, 2), description="x")
        self.assertEqual(one, Parameter(name="a", kind=Whole(1, 2), description="x"))
