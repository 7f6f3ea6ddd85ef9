"""Who may see and do what on the pages, and logging in and out."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.task import Clock

from cyme.access import Principal
from cyme.access.throttle import FREE_TRIES, TRY_EVERY
from cyme.access.tokens import Tokens, line_of, read_tokens
from cyme.admin.actions import ACTIONS
from cyme.admin.routes import ROUTES
from tests.support.httpmemory import Connection
from tests.support.memorybranch import memory_branch
from tests.support.pages import NOW, PagesCase

#: Name -> scope, perhaps with an app. Their tokens are called after them.
NAMES = {"reader": "read", "operator": "operate", "boss": "admin", "foo-boss": "admin:foo"}


def token_of(name: str) -> str:
    """The token of somebody."""
    return f"token-of-{name}"


def tokens_of(names: Mapping[str, str]) -> Tokens:
    """The tokens of several."""
    return read_tokens(line_of(name, scope, token_of(name)) for name, scope in names.items())


class VisitorsTests(PagesCase):
    """Pages of a branch with tokens."""

    def setUp(self) -> None:
        clock = Clock()
        clock.advance(NOW)
        self.branch = memory_branch(self, clock)
        self.tokens = tokens_of(NAMES)
        self.open(clock, self.branch.controller, self.tokens)
        for app in ("foo", "zoo"):
            self.controller.apps.add(app)
            self.controller.queues.add(app, f"queue-of-{app}")
            self.controller.instances.add(app, f"{app}1", queues=[f"queue-of-{app}"])
            clock.advance(0)

    def be(self, name: str) -> Principal:
        """Log in as somebody; who that is."""
        answer = self.browser.post("/admin/login/", {"token": token_of(name)})
        self.assertEqual(answer.status, 303)
        self.browser.get("/admin/")
        found = self.tokens.find(token_of(name))
        assert found is not None
        return found

    def test_log_in(self) -> None:
        """Who has no token sees nothing but the page that asks for one, and then what they wanted."""
        answer = self.browser.get("/admin/instances/?text=foo")
        self.assertEqual((answer.status, answer.body), (303, b""))
        self.assertIn("Log in", self.text(self.browser.follow(answer)))
        answer = self.browser.post(
            "/admin/login/", {"token": token_of("boss"), "next": "/admin/instances/?text=foo"}
        )
        self.assertIn("foo1", self.text(self.browser.follow(answer)))

    def test_no_pages(self) -> None:
        """Without a token no page, no stream and no form does anything."""
        for route in ROUTES:
            where = "/admin/" + route.path.replace("<name>", "foo1").replace("<app>", "foo")
            self.assertEqual(self.browser.get(where, ("Accept", "text/event-stream")).status, 303, where)
        before = self.branch.content()
        fields = {"action": "instance-disable", "target": "foo1", "confirmed": "yes"}
        self.assertEqual(self.browser.post("/admin/do/", fields).status, 303)
        self.assertEqual(self.branch.content(), before)

    def test_wrong_token(self) -> None:
        """A token that there is not is refused, and so is one that can't be tried now."""
        answer = self.browser.post("/admin/login/", {"token": "guess"})
        self.assertIn("There is no such token", self.text(answer, 403))
        self.assertNotIn(b"guess", answer.body)

    def test_guessing(self) -> None:
        """Who guesses has to wait for the answer, and is then not answered any more; who knows is let in."""
        for _ in range(FREE_TRIES):
            self.browser.post("/admin/login/", {"token": "guess"})
        connection = Connection(self.site)
        connection.request(
            "POST", "/admin/login/", body=b"token=guess", content_type="application/x-www-form-urlencoded"
        )
        self.clock.advance(TRY_EVERY / 2)
        self.assertEqual(connection.received(), b"")
        self.clock.advance(TRY_EVERY)
        self.assertIn("no such token", self.text(connection.response(), 403))
        for _ in range(20):
            waiting = Connection(self.site)
            waiting.request(
                "POST", "/admin/login/", body=b"token=guess", content_type="application/x-www-form-urlencoded"
            )
            self.addCleanup(waiting.disconnect)
        self.assertIn("too many", self.text(waiting.response(), 403))
        self.be("boss")

    def test_log_in_from_another_site(self) -> None:
        """Another site can't log anybody in."""
        answer = self.browser.post(
            "/admin/login/", {"token": token_of("boss")}, ("Origin", "http://evil.example")
        )
        self.assertEqual(answer.status, 403)
        self.assertNotIn("cyme-session", self.browser.cookies)

    def test_where_to(self) -> None:
        """After logging in nobody is sent to another site."""
        answer = self.browser.post("/admin/login/", {"token": token_of("boss"), "next": "//evil.example/"})
        self.assertEqual(answer.header("Location"), "/admin/")

    def test_log_out(self) -> None:
        """Who logs out sees nothing any more; that takes a form of their own."""
        self.be("boss")
        self.assertEqual(self.browser.post("/admin/logout/", proof="wrong").status, 403)
        self.assertIn("cyme-session", self.browser.cookies)
        self.browser.post("/admin/logout/")
        self.assertNotIn("cyme-session", self.browser.cookies)

    def test_session_ends(self) -> None:
        """A session ends with its token, and a new login never goes on with an old session."""
        self.be("reader")
        first = self.browser.cookies["cyme-session"]
        self.be("boss")
        self.assertNotEqual(self.browser.cookies["cyme-session"], first)
        boss = dict(self.browser.cookies)
        self.browser.cookies["cyme-session"] = first
        self.assertEqual(self.browser.get("/admin/").status, 303)
        self.browser.cookies = boss
        self.assertEqual(self.browser.get("/admin/").status, 200)
        self.file.tokens = tokens_of({"reader": "read"})
        self.assertEqual(self.browser.get("/admin/").status, 303)

    def test_link_from_elsewhere(self) -> None:
        """Who followed a link of another site is told that a click goes on, if they have logged in."""
        where = "/admin/login/?next=/admin/instances/"
        answer = self.browser.get(where, ("Sec-Fetch-Site", "cross-site"))
        self.assertIn("go on", self.text(answer))
        self.assertIn(b'<a href="/admin/instances/">', answer.body)
        self.assertNotIn("go on", self.page(where))

    def test_authorization(self) -> None:
        """The pages go by sessions alone: what a browser sends by itself lets nobody in."""
        bearer = ("Authorization", f"Bearer {token_of('boss')}")
        self.assertEqual(self.browser.get("/admin/", bearer).status, 303)

    def test_who_asked(self) -> None:
        """The why-log names who asked."""
        self.be("operator")
        fields = {"action": "instance-disable", "target": "foo1", "confirmed": "yes"}
        self.browser.post("/admin/do/", fields)
        self.assertIn("operator, http 192.0.2.1", self.page("/admin/events/?instance=foo1"))

    def test_secrets(self) -> None:
        """Passwords in settings are shown only to who may set them."""
        self.controller.apps.add("foo", extra_config="result_backend=redis://:s3cret@r/0")
        self.clock.advance(0)
        self.be("boss")
        self.assertIn(b"s3cret", self.browser.get("/admin/apps/foo/").body)
        for name in ("reader", "operator"):
            self.be(name)
            for where in ("apps/foo/", "apps/", "instances/foo1/", "events/"):
                self.assertNotIn(b"s3cret", self.browser.get(f"/admin/{where}").body)

    def test_reader(self) -> None:
        """Who may only read sees everything, and no button that does something."""
        self.be("reader")
        for where in ("", "instances/", "instances/foo1/", "apps/foo/", "queues/", "branches/branch1/"):
            answer = self.browser.get(f"/admin/{where}")
            self.assertEqual(answer.status, 200)
            self.assertNotIn(b'name="action"', answer.body)
            self.assertNotIn(b"/admin/add/", answer.body)
            self.assertIn(b"Log out", answer.body)

    def test_operator(self) -> None:
        """Who may operate has things run and stop, and can't add or remove any."""
        self.be("operator")
        body = self.browser.get("/admin/instances/foo1/").body
        self.assertIn(b"instance-disable", body)
        self.assertNotIn(b"instance-delete", body)
        self.assertNotIn(b"/edit/", body)

    def test_matrix(self) -> None:
        """Each action and each form is refused to whose scope is too low, whatever they post."""
        before = self.branch.content()
        for name in NAMES:
            token = self.be(name)
            for action, what in ACTIONS.items():
                if token.scope < what.scope or (what.is_of_everything and token.app):
                    fields = {"action": action, "target": "foo1", "confirmed": "yes"}
                    self.assertEqual(self.browser.post("/admin/do/", fields).status, 403, (name, action))
            for route in ROUTES:
                if route.takes_form and route.path != "do/" and token.scope < route.form_scope:
                    where = "/admin/" + route.path.replace("<name>", "foo1").replace("<app>", "foo")
                    self.assertEqual(self.browser.get(where).status, 403, (name, where))
                    self.assertEqual(self.browser.post(where, {"name": "new"}).status, 403, (name, where))
        self.assertEqual(self.branch.content(), before)

    def test_one_app(self) -> None:
        """Who has a token of one app sees nothing of others, and does nothing to them."""
        self.be("foo-boss")
        for where in (
            "",
            "instances/",
            "apps/",
            "queues/",
            "events/",
            "tasks/",
            "add/instance/",
            "add/queue/",
        ):
            body = self.browser.get(f"/admin/{where}").body
            self.assertNotIn(b"zoo", body, where)
        self.assertIn(b"foo1", self.browser.get("/admin/instances/").body)
        for where in (
            *(
                "instances/zoo1/",
                "instances/zoo1/log/",
                "instances/zoo1/edit/",
                "apps/zoo/",
                "apps/zoo/edit/",
            ),
            *(
                "queue/?app=zoo&name=queue-of-zoo",
                "queue/edit/?app=zoo&name=queue-of-zoo",
                "instances/?app=zoo",
            ),
            *(
                "queues/?app=zoo",
                "events/?app=zoo",
                "tasks/?app=zoo",
                "add/instance/?app=zoo",
                "add/queue/?app=zoo",
            ),
        ):
            self.assertEqual(self.browser.get(f"/admin/{where}").status, 404, where)
        for where in ("branches/", "branches/branch1/", "add/app/"):
            self.assertEqual(self.browser.get(f"/admin/{where}").status, 403, where)
        before = self.branch.content()
        for action, target in (
            *(
                ("instance-disable", "zoo1"),
                ("instance-delete", "zoo1"),
                ("queue-delete", "zoo/queue-of-zoo"),
            ),
            *(("app-delete", "zoo"), ("app-restart", "zoo"), ("queue-pause", "zoo/queue-of-zoo")),
        ):
            fields = {"action": action, "target": target, "confirmed": "yes"}
            self.assertIn("there is no", self.done("/admin/do/", fields), action)
        self.assertEqual(self.branch.content(), before)

    def test_everything_of_one_app(self) -> None:
        """What such a token does to all that match, it does to its own app's."""
        self.be("foo-boss")
        fields = {"action": "instance-disable", "everything": "yes", "confirmed": "yes"}
        self.assertIn("Disabled instance foo1", self.done("/admin/do/", fields))
        self.assertTrue(self.branch.controller.instances.get("zoo", "zoo1")["is_enabled"])
