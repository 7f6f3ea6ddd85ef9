"""Templates: escaped always, strict about names, and with the headers that pages are sent with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from jinja2 import DictLoader, Environment, PackageLoader, StrictUndefined

from cyme import __version__
from cyme.admin import formats, plots
from cyme.admin.static import Files

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.web.server import Request

    from cyme.admin.flashes import Flash
    from cyme.admin.visits import Visitor

#: Nothing is loaded from anywhere else, nothing runs that stands in a page, no other page may frame it.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": POLICY,
    # Not `no-referrer`: browsers then send `Origin: null` with forms, which the guard refuses.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

#: The sections of the site, in the order of its navigation: path, and name.
SECTIONS = (
    ("", "Overview"),
    ("instances", "Instances"),
    ("apps", "Apps"),
    ("queues", "Queues"),
    ("branches", "Branches"),
    ("tasks", "Tasks"),
    ("events", "Events"),
)

#: The states, from the best to the worst, with what each means.
STATES: Mapping[str, str] = {
    "running": "its worker answers",
    "starting": "its worker was started and has not answered yet",
    "stopping": "its worker finishes what it runs, and stops",
    "disabled": "it is not to run",
    "stopped": "no worker of it lives at this moment",
    "unknown": "its broker is away, so that nobody can tell",
    "unresponsive": "its worker leaves questions unanswered",
    "backoff": "its worker keeps ending; it waits before the next start",
    "lost": "its branch is away",
}


def path(*segments: str, **query: Any) -> str:
    """A path of the pages; what `query` has no value for is left out."""
    found = "".join(f"{quote(segment, safe='')}/" for segment in segments if segment)
    fields = [(name, str(value)) for name, value in query.items() if value not in (None, "")]
    return f"/admin/{found}" + (f"?{urlencode(fields)}" if fields else "")


def safe(wanted: str) -> str:
    """A path of the pages, or their first one where it is none: nobody is sent to other sites."""
    is_ours = wanted.startswith("/admin/") and wanted.isascii() and wanted.isprintable()
    return wanted if is_ours and "\\" not in wanted and "//" not in wanted.partition("?")[0] else path()


class Renderer:
    """Renders the templates of the package, once they are compiled.

    That is not done before somebody looks at a page: it would be a tenth of a branch's start, and few
    branches are looked at. It is done in a thread, since it takes two tenths of a second.

    :param files: what pages need besides.
    :param in_thread: runs a function in another thread, see `cyme.threads.Threads.run`.
    :ivar is_compiled: whether `render` may be called.
    """

    def __init__(self, files: Files, in_thread: Callable[[Callable[[], Any]], Deferred[Any]]) -> None:
        self.files = files
        self.is_compiled = False
        self._in_thread = in_thread
        environment = Environment(
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        # Read now: the package may be upgraded under a branch that runs.
        package = PackageLoader("cyme.admin")
        environment.loader = DictLoader(
            {name: package.get_source(environment, name)[0] for name in package.list_templates()}
        )
        for name in ("size", "number", "duration", "listed", "kind", "detail", "clock_time", "iso"):
            environment.filters[name] = getattr(formats, name)
        environment.globals.update(
            path=path,
            static=files.url,
            sections=SECTIONS,
            states=STATES,
            plural=formats.plural,
            ago=formats.ago,
            duration=formats.duration,
            bar=partial(plots.bar, order=tuple(STATES)),
            cyme_version=__version__,
        )
        self._environment = environment

    def compile(self) -> Deferred[Any]:
        """Fire once all templates are compiled; may be called again meanwhile."""
        return self._in_thread(self._thd_compile)

    def _thd_compile(self) -> None:
        for name in self._environment.list_templates():
            self._environment.get_template(name)
        self.is_compiled = True

    def render(
        self,
        request: Request,
        template: str,
        values: Mapping[str, Any],
        *,
        status: int,
        now: float,
        branch: str,
        visitor: Visitor | None,
        flash: Flash | None,
        is_open: bool,
    ) -> bytes:
        """Answer a request with a page.

        :param branch: the id of the branch that serves it.
        :param visitor: who looks; None for somebody who has not logged in.
        :param is_open: whether nobody needs to log in.
        """
        section = _section(request.path.decode("ascii", "replace"))
        text = self._environment.get_template(template).render(
            {
                "now": now,
                "here": request.uri.decode("ascii", "replace"),
                "section": section,
                "branch_id": branch,
                "visitor": visitor,
                "flash": flash,
                "is_open": is_open,
                **values,
            }
        )
        body = text.encode("utf-8")
        request.setResponseCode(status)
        for name, value in {**HEADERS, "Content-Length": str(len(body))}.items():
            request.responseHeaders.setRawHeaders(name, [value])
        return body


def _section(where: str) -> str:
    """The section that a path is in: `/admin/queue/edit/` and `/admin/add/queue/` are in `queues`."""
    first, *rest = where.removeprefix("/admin/").split("/")
    if first == "add":
        return _SECTION_OF.get(rest[0] if rest else "", "")
    return _SECTION_OF.get(first, first)


_SECTION_OF = {"app": "apps", "queue": "queues", "instance": "instances"}
