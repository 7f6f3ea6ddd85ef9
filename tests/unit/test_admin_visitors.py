"""Who may see and do what on the pages, and logging in and out."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from cyme.admin.actions import ACTIONS
from cyme.admin.routes import ROUTES
from cyme.admin.visits import Scope, Visitor
from cyme.errors import CrossSite, NoReply
from tests.support.memorybranch import memory_branch
from tests.support.pages import NOW, PagesCase


@frozen
class Token:
    """What a token is for."""

    scope: Scope
    app: str | None = None


TOKENS = {
    "reader": Token(Scope.READ),
    "operator": Token(Scope.OPERATE),
    "admin": Token(Scope.ADMIN),
    "foo-admin": Token(Scope.ADMIN, "foo"),
}


class FakeVisitors:
    """Knows visitors by a cookie that holds their token."""

    log_in_is_needed = True

    def __init__(self) -> None:
        self.problem: Exception | None = None

    def visitor(self, request: Any) -> Visitor | None:
        name = (request.getCookie(b"who") or b"").decode()
        if name not in TOKENS:
            return None
        token = TOKENS[name]
        return Visitor(name=name, scope=token.scope, app=token.app, proof=f"proof-of-{name}")

    def check_proof(self, request: Any, visitor: Visitor, proof: str) -> None:
        if proof != visitor.proof:
            raise CrossSite("this form is another's")

    def log_in(self, request: Any, token: str) -> Deferred[bool]:
        if self.problem is not None:
            return fail(self.problem)
        if token in TOKENS:
            request.addCookie(b"who", token.encode(), path=b"/admin/")
        return succeed(token in TOKENS)

    def log_out(self, request: Any) -> None:
        request.addCookie(b"who", b"", path=b"/admin/")


class VisitorsTests(PagesCase):
    """Pages of a branch with tokens."""

    def setUp(self) -> None:
        clock = Clock()
        clock.advance(NOW)
        self.visitors = FakeVisitors()
        self.branch = memory_branch(self, clock)
        self.open(clock, self.branch.controller, self.visitors)
        for app in ("foo", "zoo"):
            self.controller.apps.add(app)
            self.controller.queues.add(app, f"queue-of-{app}")
            self.controller.instances.add(app, f"{app}1", queues=[f"queue-of-{app}"])
            clock.advance(0)

    def be(self, name: str) -> None:
        """Be somebody with a token."""
        self.browser.cookies["who"] = name
        self.browser.proof = f"proof-of-{name}"

    def test_log_in(self) -> None:
        """Who has no token sees nothing but the page that asks for one, and then what they wanted."""
        answer = self.browser.get("/admin/instances/?text=foo")
        self.assertEqual((answer.status, answer.body), (303, b""))
        self.assertIn("Log in", self.text(self.browser.follow(answer)))
        answer = self.browser.post("/admin/login/", {"token": "admin", "next": "/admin/instances/?text=foo"})
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
        self.visitors.problem = NoReply("token", "x", 1.0)
        self.assertIn(
            "did not answer", self.text(self.browser.post("/admin/login/", {"token": "admin"}), 403)
        )

    def test_log_in_from_another_site(self) -> None:
        """Another site can't log anybody in."""
        answer = self.browser.post("/admin/login/", {"token": "admin"}, ("Origin", "http://evil.example"))
        self.assertEqual(answer.status, 403)
        self.assertNotIn("who", self.browser.cookies)

    def test_where_to(self) -> None:
        """After logging in nobody is sent to another site."""
        answer = self.browser.post("/admin/login/", {"token": "admin", "next": "//evil.example/"})
        self.assertEqual(answer.header("Location"), "/admin/")

    def test_log_out(self) -> None:
        """Who logs out sees nothing any more; that takes a form of their own."""
        self.be("admin")
        self.assertEqual(self.browser.post("/admin/logout/", proof="wrong").status, 403)
        self.assertIn("who", self.browser.cookies)
        self.browser.post("/admin/logout/")
        self.assertNotIn("who", self.browser.cookies)

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
        for name, token in TOKENS.items():
            self.be(name)
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
        self.be("foo-admin")
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
        self.be("foo-admin")
        fields = {"action": "instance-disable", "everything": "yes", "confirmed": "yes"}
        self.assertIn("Disabled instance foo1", self.done("/admin/do/", fields))
        self.assertTrue(self.branch.controller.instances.get("zoo", "zoo1")["is_enabled"])
