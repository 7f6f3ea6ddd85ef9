"""The pages as a person has them: a real branch, real workers, and a real browser."""

from __future__ import annotations

import os
from typing import Any

from playwright.sync_api import Browser

from cyme.access.tokens import line_of
from tests.functional.branchcase import BranchTestCase
from tests.support.branch import BranchProcess
from tests.support.brokers import OnEmbedded
from tests.support.browser import Visit, browse

#: Who logs in.
TOKEN = "token-of-alice"
#: A page of somebody else that sends a form to the branch as soon as it is looked at.
EVIL = """<form method="post" action="{url}admin/do/"><input name="action" value="instance-enable">
<input name="target" value="w1"></form><script>document.forms[0].submit()</script>"""


class PagesTests(OnEmbedded, BranchTestCase):
    """What is done with pages, and what they show."""

    async def test_life(self) -> None:
        """An app, a queue and an instance are made, looked at, stopped and removed, without a reload."""
        url = self.branch.url

        def script(browser: Browser) -> None:
            visit = Visit(browser, url)
            page = visit.page
            page.goto("/admin/")
            page.get_by_role("link", name="Add an app").click()
            page.get_by_label("Name").fill("shop")
            page.get_by_role("button", name="Add app").click()
            visit.wait_for("Added app shop.")
            page.get_by_role("link", name="declare one").click()
            page.get_by_label("Name").fill("orders")
            page.get_by_role("button", name="Declare queue").click()
            visit.wait_for("Declared queue orders.")
            page.get_by_role("link", name="Add an instance").click()
            page.get_by_label("Name").fill("w1")
            self.assertTrue(page.get_by_label("orders").is_checked())
            page.get_by_role("button", name="Add instance").click()
            visit.wait_for("Added instance w1.")
            address = page.url
            # From here to the end of its life the page is not loaded again.
            page.evaluate("window.isTheSame = true")
            visit.wait_for("running", "h1 .state")
            visit.wait_for("consumer added", ".events")
            visit.wait_for("ready.", "pre.log")
            self.assertEqual((page.url, page.evaluate("window.isTheSame")), (address, True))

            page.get_by_role("link", name="follow it live").click()
            visit.wait_for("ready.", "#log")
            visit.wait_for("live", "#tail-state")
            page.go_back()

            page.get_by_role("button", name="Disable").click()
            visit.wait_for("stays stopped until it is enabled again")
            page.get_by_role("button", name="Disable").click()
            visit.wait_for("Disabled instance w1.")
            visit.wait_for("disabled", "h1 .state")
            page.get_by_role("button", name="Enable").click()
            visit.wait_for("running", "h1 .state")

            page.get_by_role("link", name="Instances", exact=True).first.click()
            before = page.locator("#i-w1 td").nth(8).inner_text()
            page.get_by_label("Choose w1").check()
            visit.wait_for("With 1 chosen:")
            page.get_by_role("button", name="Restart").click()
            page.get_by_role("button", name="Restart").click()
            visit.wait_for("Restarting instance w1.")
            page.wait_for_function(
                "before => ![before, '–'].includes(document.querySelectorAll('#i-w1 td')[8].innerText)",
                arg=before,
            )
            visit.wait_for("running", "#i-w1")

            page.get_by_role("link", name="w1").click()
            page.get_by_role("button", name="Delete").click()
            visit.wait_for("That can't be undone.")
            page.get_by_role("button", name="Delete").click()
            visit.wait_for("Deleted instance w1.")
            visit.wait_for("There are no instances")
            self.assertEqual(visit.problems, [])

        await browse(script)
        self.assertEqual(await self.ask("GET", "/instances/"), [])
        self.assertEqual(await self.ask("GET", "/shop/queues/"), ["orders"])

    async def test_without_javascript(self) -> None:
        """The same works by forms and reloads alone."""
        url = self.branch.url
        await self.http.put("/shop/")
        await self.http.put("/shop/queues/orders/")

        def script(browser: Browser) -> None:
            visit = Visit(browser, url, java_script_enabled=False)
            page = visit.page
            page.goto("/admin/add/instance/")
            page.get_by_label("Name").fill("w1")
            page.get_by_label("Processes at most").fill("many")
            page.get_by_label("orders").check()
            page.get_by_role("button", name="Add instance").click()
            visit.wait_for("Processes at most takes a whole number")
            self.assertEqual(page.get_by_label("Name").input_value(), "w1")
            self.assertTrue(page.get_by_label("orders").is_checked())
            page.get_by_label("Processes at most").fill("2")
            page.get_by_role("button", name="Add instance").click()
            visit.wait_for("Added instance w1.")
            visit.reload_until("running", "h1 .state")
            self.assertNotIn("Added instance", visit.text())
            page.goto("/admin/instances/")
            page.get_by_label("Choose w1").check()
            page.get_by_role("button", name="Drain").click()
            page.get_by_label("Deadline").fill("60")
            page.get_by_role("button", name="Drain").click()
            visit.wait_for("Draining instance w1.")
            visit.reload_until("disabled", "#i-w1")
            page.get_by_label("Choose w1").check()
            page.get_by_role("button", name="Delete").click()
            page.get_by_role("link", name="Cancel").click()
            visit.wait_for("w1", "#i-w1")
            page.get_by_label("Choose w1").check()
            page.get_by_role("button", name="Delete").click()
            page.get_by_role("button", name="Delete").click()
            visit.wait_for("There are no instances")
            page.goto("/admin/queue/?app=shop&name=orders")
            page.get_by_role("button", name="Pause").click()
            page.get_by_role("button", name="Pause").click()
            visit.wait_for("paused", "h1")
            page.get_by_role("button", name="Resume").click()
            visit.wait_for("Resumed")

        await browse(script)

    async def test_everybody(self) -> None:
        """Who can't see, or use a mouse, finds nothing seriously wrong with any page, in light and dark."""
        url = self.branch.url
        await self.create(app="shop")
        await self.http.put("/shop/queues/orders/")
        await self.http.put("/bar/")
        queued = await self.ask("POST", "/shop/task/proj.add/", 202, json={})
        pages = [
            *("", "instances/", "instances/w1/", "instances/w1/log/", "instances/w1/edit/"),
            *("instances/?text=nothing", "instances/w9/", "add/app/", "add/queue/", "add/queue/?app=shop"),
            *("add/instance/?app=shop", "apps/", "apps/shop/", "apps/shop/edit/", "queues/"),
            *("queue/?app=shop&name=orders", "queue/edit/?app=shop&name=orders", "branches/"),
            *("branches/branch1/", "tasks/", f"tasks/{queued['uuid']}/", "events/"),
        ]
        found: list[str] = []

        def script(browser: Browser) -> None:
            for scheme in ("light", "dark"):
                visit = Visit(browser, url, color_scheme=scheme)
                for where in pages:
                    visit.page.goto(f"/admin/{where}")
                    # What is dark differs in its colours alone.
                    found.extend(visit.violations("color-contrast" if scheme == "dark" else None))
                visit.page.goto("/admin/instances/w1/")
                visit.page.get_by_role("button", name="Delete").click()
                found.extend(visit.violations())
                found.extend(visit.problems)
            visit.page.goto("/admin/")
            visit.page.keyboard.press("Tab")
            visit.page.keyboard.press("Enter")
            visit.page.keyboard.press("Tab")
            self.assertTrue(visit.page.evaluate("document.activeElement.closest('main') !== null"))
            narrow = Visit(browser, url, viewport={"width": 360, "height": 700})
            for where in pages:
                narrow.page.goto(f"/admin/{where}")
                wider = narrow.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
                if wider > 0:
                    found.append(f"{where} is {wider} pixels wider than a phone")

        await browse(script)
        self.assertEqual(found, [])


class TokensTests(OnEmbedded, BranchTestCase):
    """Pages of a branch with tokens."""

    async def start(self) -> None:
        await super().start()
        self.headers = {"Authorization": f"Bearer {TOKEN}"}

    def make_branch(self, *options: str, **arguments: Any) -> BranchProcess:
        path = self.path("tokens")
        with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(line_of("alice", "admin", TOKEN) + "\n")
        return super().make_branch("--auth-token-file", path, *options, **arguments)

    async def test_another_site(self) -> None:
        """Who has logged in does everything, and a page of another site nothing in their browser."""
        url = self.branch.url
        await self.http.put("/shop/", headers=self.headers)
        await self.http.put("/shop/instances/w1/", json={"is_enabled": False}, headers=self.headers)

        def script(browser: Browser) -> None:
            visit = Visit(browser, url)
            page = visit.page
            page.goto("/admin/instances/w1/")
            page.get_by_label("Token").fill("guess")
            page.get_by_role("button", name="Log in").click()
            visit.wait_for("There is no such token")
            self.assertEqual(visit.violations(), [])
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button", name="Log in").click()
            visit.wait_for("disabled", "h1 .state")
            body = EVIL.format(url=url)
            for evil in ("http://evil.example/", url.replace("127.0.0.1", "localhost") + "evil"):
                visit.context.route(evil, lambda route: route.fulfill(body=body, content_type="text/html"))
                with page.expect_navigation(url="**/admin/do/"):
                    page.goto(evil, wait_until="commit")
                visit.wait_for("Not allowed")
                visit.wait_for("another site")
            page.goto("/admin/instances/w1/")
            visit.wait_for("disabled", "h1 .state")
            page.get_by_role("button", name="Log out").click()
            visit.wait_for("This branch asks for a token")
            page.goto("/admin/instances/w1/")
            visit.wait_for("This branch asks for a token")
            self.assertEqual(visit.problems, [])

        await browse(script)
        answer = await self.http.ask("GET", "/shop/instances/w1/", headers=self.headers)
        self.assertFalse(answer.json["is_enabled"])
