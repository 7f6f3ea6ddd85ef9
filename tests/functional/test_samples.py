"""Every sample of the README and of the documentation, done as it is written, page by page."""

from __future__ import annotations

import re
from typing import Any

from tests.functional.samplecase import PageCase
from tests.support.samples import has_samples, pages


class PagesTests(PageCase):
    """The pages. There is a test for each that has something to run."""


def _test_of(page: str) -> Any:
    async def test(self: PageCase) -> None:
        await self.do_page(page)

    test.__doc__ = f"What {page} has its reader do gives what it says."
    return test


for _page in pages():
    # A page that is badly written has a test, too, which says so.
    if has_samples(_page):
        _name = "test_" + re.sub(r"\W+", "_", _page.removeprefix("docs/").removesuffix(".rst")).lower()
        setattr(PagesTests, _name, _test_of(_page))
