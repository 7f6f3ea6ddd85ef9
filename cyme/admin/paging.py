"""Pages of long lists."""

from __future__ import annotations

from attrs import frozen

from cyme.admin.visits import Visit

#: Rows of one page. A form may have a hundred fields, and all rows of a page can be chosen at once.
ROWS = 50


@frozen
class Paging:
    """Where in a list a page is.

    :ivar number: of the page, from 1 on.
    :ivar matching: how many rows there are in all.
    """

    number: int
    matching: int

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return max(1, -(-self.matching // ROWS))

    @property
    def first(self) -> int:
        """The place of the page's first row, from 1 on; 0 where there is none."""
        return min(self.matching, offset(self.number) + 1)

    @property
    def last(self) -> int:
        """The place of its last row."""
        return min(self.matching, offset(self.number) + ROWS)


def offset(number: int) -> int:
    """How many rows stand before a page."""
    return (number - 1) * ROWS


def number_of(visit: Visit) -> int:
    """The page that is asked for; the first one where none is, or nonsense."""
    text = visit.asked("page") or ""
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 7 else 1
