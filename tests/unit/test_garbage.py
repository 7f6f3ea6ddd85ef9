"""What the collector of garbage looks at."""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from cyme.garbage import put_aside, uncollected


class PutAsideTests(SynchronousTestCase):
    """`put_aside`."""

    def test_put_aside(self) -> None:
        """What was there is looked at no more; what comes later is."""
        self.addCleanup(gc.unfreeze)
        before = gc.get_freeze_count()
        put_aside()
        self.assertGreater(gc.get_freeze_count(), before + 10_000)
        self.assertLess(len(gc.get_objects()), 10_000)
        later: list[object] = []
        later.append(later)
        self.assertTrue(any(one is later for one in gc.get_objects()))


class UncollectedTests(SynchronousTestCase):
    """`uncollected`."""

    def test_block(self) -> None:
        """Nothing is looked at in the block, everything after it."""
        with uncollected():
            self.assertFalse(gc.isenabled())
        self.assertTrue(gc.isenabled())

    def test_failure(self) -> None:
        """What fails in the block fails, and garbage is looked for again."""
        with self.assertRaises(ZeroDivisionError), uncollected():
            1 / 0  # noqa: B018
        self.assertTrue(gc.isenabled())

    def test_disabled(self) -> None:
        """Where nobody looks for garbage, nobody does after it."""
        self.addCleanup(gc.enable)
        gc.disable()
        with uncollected():
            pass
        self.assertFalse(gc.isenabled())
