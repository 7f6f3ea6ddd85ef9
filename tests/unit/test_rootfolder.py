"""The root folder: one branch holds it, and it remembers which."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from cyme.errors import CannotStart
from cyme.rootfolder import Memory, RootFolder


class RootFolderTests(SynchronousTestCase):
    """Opening a root folder."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())

    def make(self, path: str | None = None) -> RootFolder:
        root = RootFolder(path or self.path, generate_id=lambda: "generated")
        self.addCleanup(root.close)
        return root

    def refused(self, root: RootFolder, id: str | None = None) -> str:
        sentence = str(self.assertRaises(CannotStart, root.open, id))
        self.assertNotIn("\n", sentence)
        return sentence

    def test_made(self) -> None:
        """A folder that is missing is made for its owner alone, with its parents."""
        self.make(os.path.join(self.path, "deep", "er")).open("b1")
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(self.path, "deep", "er")).st_mode), 0o700)

    def test_given_id(self) -> None:
        """A new folder belongs to the id that is given, and remembers it."""
        self.assertEqual(self.make().open("b1"), Memory(id="b1"))
        self.assertEqual(json.loads(Path(self.path, "branch.json").read_text()), {"id": "b1", "broker": None})

    def test_generated_id(self) -> None:
        """A branch without an id gets one, and has it again at the next start."""
        root = self.make()
        self.assertEqual(root.open(None), Memory(id="generated"))
        root.close()
        again = RootFolder(self.path, generate_id=lambda: "another")
        self.addCleanup(again.close)
        self.assertEqual(again.open(None).id, "generated")

    def test_other_id(self) -> None:
        """A folder that belongs to another branch is refused, and not kept locked."""
        first = self.make()
        first.open("b1")
        first.close()
        sentence = self.refused(self.make(), "b2")
        self.assertIn(f"the root folder {self.path} belongs to branch b1, not to b2", sentence)
        self.assertEqual(self.make().open("b1").id, "b1")

    def test_percent(self) -> None:
        """A path that Celery would take for a format is refused, and nothing is made."""
        path = os.path.join(self.path, "100%n")
        self.assertIn("'%'", self.refused(self.make(path)))
        self.assertFalse(os.path.exists(path))

    def test_held(self) -> None:
        """A folder that is held is refused with the holder's id and pid."""
        self.make().open("b1")
        sentence = self.refused(self.make(), "b1")
        self.assertEqual(sentence, f"branch b1 (pid {os.getpid()}) holds the root folder {self.path}")

    def test_check_free(self) -> None:
        """Whether a folder is free can be asked without taking it."""
        holder = self.make()
        holder.create()
        self.make().check_free()
        holder.open("b1")
        self.assertRaises(CannotStart, self.make().check_free)

    def test_lock_is_not_inherited(self) -> None:
        """The lock's file is closed in children, so that a worker can't hold the folder."""
        self.make().open("b1")
        links = {
            descriptor: os.readlink(f"/proc/self/fd/{descriptor}")
            for descriptor in map(int, os.listdir("/proc/self/fd"))
            if os.path.islink(f"/proc/self/fd/{descriptor}")
        }
        (lock,) = (each for each, path in links.items() if path == os.path.join(self.path, "branch.lock"))
        self.assertFalse(os.get_inheritable(lock))

    def test_stale_lock_file(self) -> None:
        """A lock file that a killed branch left behind is no obstacle."""
        os.mkdir(self.path)
        Path(self.path, "branch.lock").write_text("4000000\nand more\n")
        self.make().open("b1")
        self.assertEqual(Path(self.path, "branch.lock").read_text(), f"{os.getpid()}\n")

    def test_remembers(self) -> None:
        """What is remembered is there at the next start, in a file for the owner alone."""
        root = self.make()
        root.open("b1")
        root.remember(Memory(id="b1", broker="amqp://h//"))
        self.assertEqual(root.memory.broker, "amqp://h//")
        root.close()
        self.assertEqual(self.make().open(None), Memory(id="b1", broker="amqp://h//"))
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(self.path, "branch.json")).st_mode), 0o600)
        self.assertEqual(sorted(os.listdir(self.path)), ["branch.json", "branch.lock"])

    def test_damaged_memory(self) -> None:
        """A memory that can't be read is refused by name, rather than forgotten."""
        os.mkdir(self.path)
        for text in ("", "{", "[]", "{}", '{"id": 3}', '{"id": ""}', '{"id": "x", "broker": 1}'):
            Path(self.path, "branch.json").write_text(text)
            self.assertIn(f"{self.path}/branch.json is damaged", self.refused(self.make()))

    def test_no_folder(self) -> None:
        """A folder that can't be made is refused with the system's reason and the way out."""
        Path(self.path).write_text("a file")
        self.assertIn(f"{self.path} can't be used: File exists; --instance-dir", self.refused(self.make()))
        below = os.path.join(self.path, "below")
        self.assertIn(f"{below} can't be used: Not a directory", self.refused(self.make(below)))

    def test_not_writable(self) -> None:
        """A folder that can't be written to is refused; procfs refuses root, too."""
        sentence = self.refused(self.make("/proc/self/task"))
        self.assertIn("the root folder /proc/self/task can't be used:", sentence)
