"""Ids of tasks: whose they are."""

from __future__ import annotations

from uuid import UUID, uuid4

from twisted.trial.unittest import SynchronousTestCase

from cyme.taskids import TaskIds, is_of, node_in, node_of


class TaskIdsTests(SynchronousTestCase):
    """`TaskIds`."""

    def setUp(self) -> None:
        self.now = 1_700_000_000.25
        self.start = (1 << 41) - 1
        self.ids = TaskIds("b1", lambda: self.now, lambda bits: self.start)

    def test_uuid(self) -> None:
        """An id is a UUID of version 8 in canonical spelling that carries its time and branch."""
        text = self.ids.new()
        found = UUID(text)
        self.assertEqual((str(found), found.version), (text, 8))
        self.assertEqual(found.variant, "specified in RFC 4122")
        self.assertEqual(found.int >> 96, 1_700_000_000)
        self.assertEqual(found.node, node_of("b1"))

    def test_unique(self) -> None:
        """No id is given twice, and later ones sort behind earlier ones."""
        ids = [self.ids.new() for _ in range(50_000)]
        self.now += 1
        ids += [self.ids.new() for _ in range(10)]
        self.assertEqual(sorted(set(ids)), ids)

    def test_whose(self) -> None:
        """An id is of the branch that issued it, and of no other."""
        text = self.ids.new()
        self.assertTrue(is_of(text, "b1"))
        self.assertFalse(is_of(text, "b2"))

    def test_nonsense(self) -> None:
        """What is no such id is nobody's."""
        text = self.ids.new()
        for wrong in ("", "x", str(uuid4()), text.upper(), "{" + text + "}", text.replace("-", "")):
            self.assertIsNone(node_in(wrong), wrong)
            self.assertFalse(is_of(wrong, "b1"))
