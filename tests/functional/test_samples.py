"""Every sample of the README and of the documentation, done as it is written, page by page."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from tests.functional.samplecase import PageCase
from tests.support.samples import Block, Mark, pages, parse, setting, setting_of


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


#: What a page may say that is not so: its lines, and how that fails.
BROKEN = (
    ("$ curl -i http://localhost:8001/ping/\nHTTP/1.1 404 Not Found\n...", "HTTP/1.1 200 OK"),
    ("$ curl http://localhost:8001/foo/", "answered with 404"),
    ("$ curl http://localhost:8001/ping/\nnothing like it", "pong"),
    ("$ curl http://localhost:8002/ping/", "ended with 7"),
    ("$ CYME_URL=http://localhost:8001 cyme apps get foo", "ended with 4"),
    ("$ cyme-branch :8002 -D cyme/branch1/", "holds the root folder"),
    ("$ echo $?\n5", "came (status 0)"),
)


class BrokenPagesTests(PageCase):
    """Pages that say what is not so."""

    looked_at_for = 0.0

    async def test_broken(self) -> None:
        """What is otherwise than a page says fails, and names the page and the line."""
        await self.do_pages("embedded")
        for number, (lines, said) in enumerate(BROKEN, 10):
            block = Block(
                page="page",
                line=1,
                language="console",
                options={},
                begins=number,
                text=f"$ true\n{lines}",
                reason=None,
            )
            with self.assertRaises(self.failureException) as caught:
                await self.do_part("page", block)
            self.assertIn(f"page:{number + 1}: $ ", str(caught.exception))
            self.assertIn(said, str(caught.exception))

    async def test_prints(self) -> None:
        """Python that prints something else than a page says fails, and names the page and the line."""
        self.set_up_pages()
        source = "import sys\n\nprint(sys.argv is None)\n"
        [block] = parse("page", ".. code-block:: python\n\n" + textwrap.indent(source, "   "))
        await self.do_part("page", block)
        await self.do_part("page", Mark("page", 7, "prints", "False"))
        with self.assertRaises(self.failureException) as caught:
            await self.do_part("page", Mark("page", 8, "prints", "True"))
        self.assertIn("page:8", str(caught.exception))
