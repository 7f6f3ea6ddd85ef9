"""The pages of the documentation as programs read them: samples, and what is said about these.

How a page is written is told in `docs/contributing.rst`. Nothing is run here.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from attrs import frozen

from tests.support.sources import TOP

#: What may run before a page begins.
SETTINGS = ("none", "own", "embedded", "rabbitmq", "shared")
#: Comments that mean something.
_MARK = re.compile(r"( *)\.\. (?P<word>samples|before|prints|not run): (?P<text>.+)")
_BLOCK = re.compile(r"(?P<indent> *)\.\. code-block:: (?P<language>\S+)")
_OPTION = re.compile(r" +:(?P<name>[a-z-]+): *(?P<value>.*)")
#: A paragraph that has a literal block follow without a language.
_BARE = re.compile(r" *(?!\.\. ).*::$")


class BadPage(Exception):
    """A page that is not written as pages are; the text says where and how."""


@frozen
class Mark:
    """A comment that means something.

    :ivar line: its number in the page.
    """

    page: str
    line: int
    word: str
    text: str


@frozen
class Command:
    """Something that is typed, and what must come.

    :ivar shown: the lines below it; none where the page does not say what comes.
    """

    line: int
    text: str
    shown: tuple[str, ...]


@frozen(kw_only=True)
class Block:
    """A `code-block`.

    :ivar begins: the number of the first line of its text.
    :ivar reason: why it is not run; None for one that is.
    """

    page: str
    line: int
    language: str
    options: Mapping[str, str]
    begins: int
    text: str
    reason: str | None

    @property
    def is_run(self) -> bool:
        return "not-run" not in self.options.get("class", "").split()

    @property
    def file(self) -> str | None:
        """The file that it stands for."""
        return self.options.get("caption")

    def commands(self) -> list[Command]:
        """The commands of a console.

        :raises BadPage: when it does not begin with one.
        """
        found: list[tuple[int, str, list[str]]] = []
        for number, line in enumerate(self.text.split("\n"), self.begins):
            if line.startswith("$ ") or line == "^C":
                found.append((number, line.removeprefix("$ "), []))
            elif found and found[-1][1].endswith("\\") and not found[-1][2]:
                before = found[-1]
                found[-1] = (before[0], f"{before[1]}\n{line.removeprefix('> ')}", [])
            elif found:
                found[-1][2].append(line)
            else:
                raise BadPage(f"{self.page}:{number}: a console begins with '$ COMMAND'")
        return [Command(number, text, tuple(shown)) for number, text, shown in found]


def pages() -> list[str]:
    """The paths of all pages, from the top of the checkout."""
    docs = sorted((TOP / "docs").rglob("*.rst"))
    return ["README.rst", *(str(page.relative_to(TOP)) for page in docs)]


def read(page: str) -> list[Mark | Block]:
    """What a page has of both, in its order.

    :raises BadPage: when it has a block whose language is not said.
    """
    return list(parse(page, (TOP / page).read_text(encoding="utf-8")))


def parse(page: str, text: str) -> Iterator[Mark | Block]:
    """The same of a text."""
    lines = text.split("\n")
    reason: str | None = None
    number = 0
    while number < len(lines):
        line = lines[number]
        mark, block = _MARK.fullmatch(line), _BLOCK.fullmatch(line)
        if block is not None:
            found = _block(page, lines, number, block["language"], len(block["indent"]), reason)
            yield found
            number = found.begins - 1 + found.text.count("\n")
            reason = None
        elif mark is not None and mark["word"] == "not run":
            reason = mark["text"]
        elif mark is not None:
            yield Mark(page, number + 1, mark["word"], mark["text"])
        elif _BARE.fullmatch(line) and not line.endswith("``::``"):
            raise BadPage(f"{page}:{number + 1}: write '.. code-block:: LANGUAGE' instead of '::'")
        number += 1


def _block(
    page: str, lines: Sequence[str], start: int, language: str, indent: int, reason: str | None
) -> Block:
    number = start + 1
    options = {}
    while number < len(lines) and (match := _OPTION.fullmatch(lines[number])):
        options[match["name"]] = match["value"]
        number += 1
    while number < len(lines) and not lines[number].strip():
        number += 1
    begins = number
    while number < len(lines) and (not lines[number].strip() or _indent(lines[number]) > indent):
        number += 1
    text = textwrap.dedent("\n".join(lines[begins:number])).rstrip()
    return Block(
        page=page,
        line=start + 1,
        language=language,
        options=options,
        begins=begins + 1,
        text=text,
        reason=reason,
    )


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def setting(page: str) -> str:
    """What runs before a page begins.

    :raises BadPage: when it does not say it.
    """
    for found in read(page):
        if isinstance(found, Mark) and found.word == "samples":
            if found.text not in SETTINGS:
                raise BadPage(f"{page}:{found.line}: samples: one of {', '.join(SETTINGS)}")
            return found.text
    blocks = [found for found in read(page) if isinstance(found, Block) and found.is_run]
    if blocks:
        raise BadPage(f"{page}: a comment '.. samples: SETTING' is missing")
    return "none"


def setting_of(page: str) -> str | None:
    """The same, or None for a page that does not say it as it is to be said."""
    try:
        return setting(page)
    except BadPage:
        return None


def blocks() -> list[Block]:
    """The blocks of all pages."""
    return [found for page in pages() for found in read(page) if isinstance(found, Block)]
