"""A real browser: Chromium without a screen, driven from a thread so that the reactor runs on."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, TimeoutError, sync_playwright
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

PROGRAM = "/usr/bin/chromium"
#: It asks nobody for anything, and needs no privileges that a container lacks.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Milliseconds for which something that is to be seen is waited for.
PATIENCE = 30_000
#: How grave a violation is that counts.
GRAVE = ("serious", "critical")


class Visit:
    """One person at a browser.

    :ivar problems: what went wrong in its pages, as its console said.
    """

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(base_url=url, **options)
        self.context.set_default_timeout(PATIENCE)
        self.page: Page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "console",
            lambda said: self.problems.append(said.text) if "Content Security" in said.text else None,
        )

    def text(self) -> str:
        """What the page says."""
        return self.page.locator("body").inner_text()

    def wait_for(self, text: str, where: str = "main") -> None:
        """Wait until a text is seen somewhere, without doing anything."""
        try:
            self.page.locator(where).filter(has_text=text).first.wait_for()
        except TimeoutError:
            raise AssertionError(
                f"{text!r} was not seen in {where}; {self.page.url} says: {self.text()} {self.problems}"
            ) from None

    def reload_until(self, text: str, where: str = "main") -> None:
        """Load the page anew until a text is seen somewhere."""
        for _ in range(PATIENCE // 250):
            if self.page.locator(where).filter(has_text=text).count():
                return
            self.page.wait_for_timeout(250)
            self.page.reload()
        raise AssertionError(f"{text!r} never came; the page says: {self.text()}")

    def violations(self, rule: str | None = None) -> list[str]:
        """What is grave of what axe finds in the page.

        :param rule: the only one that is looked at; None for all.
        """
        options = {} if rule is None else {"runOnly": [rule]}
        found = Axe().run(self.page, options=options).response["violations"]
        return [
            f"{self.page.url}: {one['id']}: {one['help']}: {[node['html'] for node in one['nodes'][:3]]}"
            for one in found
            if one["impact"] in GRAVE
        ]


def browse(script: Callable[[Browser], None]) -> Deferred[None]:
    """Run a script with a browser of its own, in a thread; it is closed in any case.

    :raises RuntimeError: when Chromium is not installed.
    """
    if not os.access(PROGRAM, os.X_OK):
        raise RuntimeError(
            "the tests of the pages need Chromium: `make test` installs it from Debian's packages, "
            "or run `apt-get install chromium`"
        )

    def run() -> None:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=PROGRAM, args=list(FLAGS))
            try:
                script(browser)
            finally:
                browser.close()

    return deferToThread(run)
