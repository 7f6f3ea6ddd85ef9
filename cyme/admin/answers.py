"""What a page answers with: a template, a redirection, or a stream; and how each is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen


@frozen
class Page:
    """A template with its values.

    :ivar template: its file name.
    :ivar status: of HTTP.
    """

    template: str
    values: Mapping[str, Any] = field(factory=dict)
    status: int = 200


@frozen
class Redirect:
    """Have the browser go elsewhere, after a form; it says there what came of it.

    :ivar to: a path of this site.
    :ivar done: what was done, or None.
    :ivar problems: what was not, a sentence each.
    """

    to: str
    done: str | None = None
    problems: tuple[str, ...] = ()


@frozen
class Stream:
    """Events live: that pages may have changed, or the log of an instance.

    :ivar instance: whose log it is; None for no log.
    :ivar app: the app of that instance, where it is named.
    """

    instance: str | None = None
    app: str | None = None


Answer = Page | Redirect | Stream
