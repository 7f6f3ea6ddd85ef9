"""How the content of a response becomes JSON: as text where it is text, else base64. Pure."""

from __future__ import annotations

import base64
import codecs
import re
from email.message import Message

#: Encodings of Python's that are no character sets.
_NO_CHARSETS = frozenset({"idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape"})

Content = str | dict[str, str]


def charset(content_type: str | None) -> str:
    """The character set that a `Content-Type` names; UTF-8 when it names none."""
    if content_type and re.search(r"charset", content_type, re.I):
        message = Message()
        message["Content-Type"] = content_type
        named = message.get_content_charset()
        if named:
            return named
    return "utf-8"


def as_json(content: bytes, content_type: str | None, encoding: str | None, *, is_cut: bool) -> Content:
    """The text of a response, or `{"base64": ...}` of its bytes as they came.

    :param encoding: its `Content-Encoding`; what is compressed is no text.
    :param is_cut: whether content is missing at the end; half a character is left out then.
    """
    if encoding is None or encoding.strip().lower() in ("", "identity"):
        try:
            found = codecs.lookup(charset(content_type))
            if found.name not in _NO_CHARSETS and found._is_text_encoding:
                if content.startswith(codecs.BOM_UTF8) and found.name == "utf-8":
                    # Part of the bytes, not of the text.
                    found = codecs.lookup("utf-8-sig")
                text: str = found.incrementaldecoder().decode(content, not is_cut)
                # JSON can't carry halves of surrogate pairs; UTF-7 has them.
                text.encode()
                return text
        except (LookupError, ValueError):
            pass
    return {"base64": base64.b64encode(content).decode("ascii")}
