"""The files that pages need, from memory, with what browsers need to keep them."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from twisted.web.server import Request

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
#: A page names a file with its digest, so that what is under that name never changes.
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK = "public, max-age=0, must-revalidate"


@frozen
class File:
    """One file."""

    content: bytes
    type: str
    digest: str


class Files:
    """All files, read once."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        for entry in files("cyme.admin").joinpath("static").iterdir():
            _, _, ending = entry.name.rpartition(".")
            if ending in _TYPES:
                content = entry.read_bytes()
                self._files[entry.name] = File(content, _TYPES[ending], sha256(content).hexdigest()[:16])

    def url(self, name: str) -> str:
        """Where a file is, for pages."""
        return f"/admin/static/{name}?v={self._files[name].digest}"

    def render(self, request: Request, name: str) -> bytes | None:
        """Answer with a file; None when there is none of that name."""
        found = self._files.get(name)
        if found is None:
            return None
        is_named = request.args is not None and request.args.get(b"v") == [found.digest.encode()]
        headers = request.responseHeaders
        headers.setRawHeaders("Content-Type", [found.type])
        headers.setRawHeaders("Cache-Control", [_FOR_EVER if is_named else _ASK])
        if request.setETag(found.digest.encode()) is not None:
            return b""
        headers.setRawHeaders("Content-Length", [str(len(found.content))])
        return found.content
