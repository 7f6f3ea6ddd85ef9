"""Pages without a network: the real site over a branch in memory, and a browser that keeps cookies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any
from urllib.parse import urlencode

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from cyme.access.sessions import Sessions
from cyme.access.tokenfile import TokenFile
from cyme.access.tokens import Tokens
from cyme.admin.rendering import Renderer
from cyme.admin.session_visitors import SessionVisitors
from cyme.admin.site import Pages
from cyme.admin.static import Files
from cyme.api.site import ApiSite, Limits, make_site
from tests.support.httpmemory import HOST, Connection, Response, request

#: When tests begin, seconds since the epoch.
NOW = 1_800_000_000.0


#: It holds nothing that changes, and takes a while to make.
RENDERER = Renderer(Files(), maybeDeferred)


class FakeBrowser:
    """Sends requests to a site with the cookies that it was given, and the proof of the last page.

    :ivar cookies: name -> value.
    """

    def __init__(self, site: ApiSite) -> None:
        self.site = site
        self.cookies: dict[str, str] = {}
        self.proof = ""

    def headers(self) -> list[tuple[str, str]]:
        """What it sends along."""
        if not self.cookies:
            return []
        return [("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))]

    def get(self, path: str, *headers: tuple[str, str]) -> Response:
        """Fetch a page."""
        return self._keep(request(self.site, "GET", path, headers=[*self.headers(), *headers]))

    def post(
        self,
        path: str,
        fields: Mapping[str, str | Sequence[str]] | None = None,
        *headers: tuple[str, str],
        proof: str | None = None,
    ) -> Response:
        """Post a form, with the proof that the last page gave unless another is said."""
        given = {"proof": self.proof if proof is None else proof, **(fields or {})}
        form = urlencode(given, doseq=True)
        return self._keep(request(self.site, "POST", path, form=form, headers=[*self.headers(), *headers]))

    def follow(self, response: Response) -> Response:
        """Go where an answer redirects to."""
        assert response.status == 303, (response.status, response.body)
        where = response.header("Location")
        assert where is not None
        return self.get(where)

    def stream(self, path: str) -> Connection:
        """Open a stream of events; the connection stays."""
        connection = Connection(self.site)
        headers = [("Accept", "text/event-stream"), *self.headers()]
        connection.request("GET", path, headers=headers, host=HOST)
        self.site.reactor.advance(0)  # type: ignore[attr-defined]
        return connection

    def _keep(self, response: Response) -> Response:
        for cookie in response.headers.getRawHeaders("Set-Cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            if value:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)
        found = re.search(rb'name="proof" value="([^"]*)"', response.body)
        if found is not None:
            self.proof = found[1].decode()
        return response


def make_pages_site(clock: Clock, controller: Any, file: TokenFile) -> ApiSite:
    """A site with pages over a controller.

    :param file: its tokens; see `no_tokens`.
    """
    numbers = count(1)

    def chance(size: int) -> bytes:
        return next(numbers).to_bytes(size, "big")

    return make_site(
        clock,
        controller,
        limits=Limits(request_body=100_000),
        tokens=file,
        allowed_origins=("*", "https://panel.example"),
        check_host=True,
        readiness=dict,
        make_pages=lambda guard, access: Pages(
            clock,
            controller,
            guard,
            SessionVisitors(clock, Sessions(clock, chance, file.still_has), file, access),
            RENDERER,
            lambda: chance(8).hex(),
        ),
    )


def token_file(tokens: Tokens | None = None) -> TokenFile:
    """A token file that was read; without tokens everybody may do everything."""
    file = TokenFile(None)
    file.tokens = tokens
    return file


class PagesCase(SynchronousTestCase):
    """A test with a site, and a browser that looks at it. `controller` is the subclass's."""

    controller: Any

    def open(self, clock: Clock, controller: Any, tokens: Tokens | None = None) -> None:
        """Have the site of a controller looked at."""
        self.clock = clock
        self.controller = controller
        self.file = token_file(tokens)
        self.site = make_pages_site(clock, controller, self.file)
        self.site.startFactory()
        self.addCleanup(self.site.stopFactory)
        self.addCleanup(self.site.end_streams)
        self.browser = FakeBrowser(self.site)

    def text(self, response: Response, status: int = 200) -> str:
        """The words of a page, without its markup, on one line."""
        _, found, main = response.body.decode().partition("<main")
        words = " ".join(re.sub(r"<[^>]*>", " ", found + main).split())
        self.assertEqual(response.status, status, words or response.body)
        return words

    def page(self, path: str, status: int = 200) -> str:
        """The words of a page that is fetched."""
        return self.text(self.browser.get(path), status)

    def done(self, path: str, fields: Mapping[str, str | Sequence[str]]) -> str:
        """The words of the page that a form leads to."""
        return self.text(self.browser.follow(self.browser.post(path, fields)))
