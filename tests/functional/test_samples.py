"""Every sample of the README and of the documentation, done as it is written, page by page."""

from __future__ import annotations

import os
import re
from typing import Any

from tests.functional.samplecase import PageCase
from tests.support.samples import pages, setting, setting_of


class PagesTests(PageCase):
    """The pages. There is a test for each that has something to run, but for those that share a branch."""

    async def test_shared(self) -> None:
        """What the pages that share a branch have their reader do gives what they say."""
        await self.do_pages("shared", *(page for page in pages() if setting_of(page) == "shared"))


def _test_of(page: str) -> Any:
    async def test(self: PageCase) -> None:
        await self.do_pages(setting(page), page)

    test.__doc__ = f"What {page} has its reader do gives what it says."
    return test


for _page in pages():
    # A page that is badly written has a test, too, which says so.
    if setting_of(_page) not in ("none", "shared"):
        _name = "test_" + re.sub(r"\W+", "_", _page.removeprefix("docs/").removesuffix(".rst")).lower()
        setattr(PagesTests, _name, _test_of(_page))


BROKEN = """.. samples: embedded

.. code-block:: console

   $ curl -i http://localhost:8001/ping/
   HTTP/1.1 200 OK
   ...
   $ echo fine
   fine
   {command}
"""


class BrokenPagesTests(PageCase):
    """Pages that say what is not so."""

    looked_at_for = 0.0

    async def fails(self, *lines: str) -> str:
        """Do a page that has these lines at its end; how that fails."""
        path = self.mktemp()
        text = BROKEN.format(command="\n   ".join(lines))
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        page = os.path.abspath(path)
        try:
            await self.do_pages("embedded", page)
        except self.failureException as failure:
            self.assertIn(f"{page}:10: $ ", str(failure))
            return str(failure)
        self.fail(f"the page was done: {lines}")

    async def test_status(self) -> None:
        """A request that is answered with another status than is shown fails by page and line."""
        said = await self.fails("$ curl -i http://localhost:8001/ping/", "HTTP/1.1 404 Not Found", "...")
        self.assertIn("HTTP/1.1 200 OK", said)

    async def test_error(self) -> None:
        """A request that is refused, of which nothing is shown, fails by page and line."""
        self.assertIn("answered with 404", await self.fails("$ curl http://localhost:8001/foo/"))

    async def test_command(self) -> None:
        """A command that fails, and is not asked for its status, fails by page and line."""
        self.assertIn("ended with 4", await self.fails("$ CYME_URL=http://localhost:8001 cyme apps get foo"))

    async def test_branch(self) -> None:
        """A branch that does not start fails by page and line."""
        self.assertIn("holds the root folder", await self.fails("$ cyme-branch :8002 -D cyme/branch1/"))
