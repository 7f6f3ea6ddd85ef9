"""The tests of Cyme.

Properties are tried on the same examples each time, so that a change is judged by what it changed;
`CYME_TEST_RANDOM=1` tries others.
"""

import os

from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile("random" if os.environ.get("CYME_TEST_RANDOM") else "steady")
