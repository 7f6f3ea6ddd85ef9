"""The table of settings, files of settings, and the sample file."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import cyme
from cyme.addresses import Address
from cyme.settings import OPTIONS, BadSetting, from_file, make_settings

SAMPLE = Path(cyme.__file__).resolve().parent.parent / "etc" / "cyme.conf"


class FileTests(SynchronousTestCase):
    """Configuration files."""

    def write(self, text: str) -> str:
        file = self.mktemp()
        Path(file).write_text(text)
        return file

    def test_values(self) -> None:
        """Keys may be written with dashes or underscores; lists are separated by spaces."""
        file = self.write(
            "# hello\n[cyme]\nsup-interval: 5\nlog_format=json\nallow-origin = http://a  http://b\n"
        )
        self.assertEqual(
            from_file(file),
            {"sup-interval": 5.0, "log-format": "json", "allow-origin": ("http://a", "http://b")},
        )

    def test_percent(self) -> None:
        """A percent sign in a URL is nothing special."""
        file = self.write("[cyme]\nbroker = amqp://me:p%40ss@h//\n")
        self.assertEqual(from_file(file), {"broker": "amqp://me:p%40ss@h//"})

    def test_nothing(self) -> None:
        """An empty file sets nothing."""
        self.assertEqual(from_file(self.write("")), {})

    def test_refusals(self) -> None:
        """What is wrong in a file is named with the file, the line and the key."""
        cases = {
            "[cyme]\n\nbrocker = x\n": ", line 3, brocker: there is no such setting; there are id, ",
            "[cyme]\nid = x\nsup-interval = x\n": ", line 3, sup-interval: 'x' is not a number of seconds",
            "[other]\nid = x\n": ": unknown section [other]; settings go under [cyme]",
            "[DEFAULT]\nid = x\n": ": unknown section [DEFAULT]",
            "id = x\n": "File contains no section headers",
            "[cyme]\nid\n": "contains parsing errors",
            "[cyme]\nid = a\nid = b\n": "option 'id' in section 'cyme' already exists",
        }
        for text, words in cases.items():
            file = self.write(text)
            refusal = str(self.assertRaises(BadSetting, from_file, file))
            self.assertIn(file, refusal)
            self.assertIn(words, refusal)
            self.assertNotIn("\n", refusal)

    def test_no_text(self) -> None:
        """A file that is not text is refused."""
        file = self.mktemp()
        Path(file).write_bytes(b"\xff\xfe")
        self.assertIn("not UTF-8", str(self.assertRaises(BadSetting, from_file, file)))


class SampleTests(SynchronousTestCase):
    """`etc/cyme.conf`."""

    def test_says_nothing(self) -> None:
        """As it comes, the sample changes nothing."""
        self.assertEqual(from_file(str(SAMPLE)), {})

    def test_defaults(self) -> None:
        """With every setting uncommented, the sample still says what holds without it."""
        file = self.mktemp()
        Path(file).write_text(re.sub(r"(?m)^#(?=[a-z-]+ =)", "", SAMPLE.read_text()))
        values = from_file(file)
        self.assertEqual(make_settings(values), make_settings({}))
        for option in OPTIONS:
            self.assertEqual(values.get(option.name, option.default_value), option.default_value)

    def test_help(self) -> None:
        """The sample says of each setting what the help says."""
        words = " ".join(SAMPLE.read_text().replace("\n# ", " ").split())
        for option in OPTIONS:
            self.assertIn(f"{option.help} Environment: {option.variable}", words)

    def test_complete(self) -> None:
        """The sample shows every setting once, in the table's order, and its variable."""
        text = SAMPLE.read_text()
        self.assertEqual(re.findall(r"(?m)^#([a-z-]+) =", text), [option.name for option in OPTIONS])
        self.assertEqual(
            re.findall(r"(?m)^# Environment: (\w+)$", text), [option.variable for option in OPTIONS]
        )


class SettingsTests(SynchronousTestCase):
    """How the values of all options come together."""

    def test_database(self) -> None:
        """The database is a file in the root folder, unless another one is named."""
        self.assertEqual(make_settings({"instance-dir": "/r"}).database, "sqlite:////r/branch.db")
        self.assertEqual(make_settings({"database": "mysql://h/d"}).database, "mysql://h/d")

    def test_labels(self) -> None:
        """Labels are told apart by their names; one may be given twice, with one value."""
        settings = make_settings({"label": ("gpu=yes", "zone=a", "gpu=yes")})
        self.assertEqual(settings.label, {"gpu": "yes", "zone": "a"})
        self.assertEqual(make_settings({}).label, {})

    def test_standard_output(self) -> None:
        """`-` is the same as no log file."""
        self.assertIsNone(make_settings({"logfile": "-"}).logfile)

    def test_open_address(self) -> None:
        """Whatever names the address, one that is open is refused."""
        values = {"http": Address("tcp:1:interface=10.1.1.1", "10.1.1.1")}
        self.assertIn("can reach 10.1.1.1", str(self.assertRaises(BadSetting, make_settings, values)))
        self.assertIsNotNone(make_settings(values | {"insecure": True}).http)
