"""What the collector of garbage looks at."""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from cyme.garbage import put_aside


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
