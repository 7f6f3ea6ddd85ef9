"""The pages: what they show, and what their forms do, over a real controller in memory."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from cyme.admin.actions import ACTIONS
from cyme.admin.rendering import Renderer
from cyme.admin.static import Files
from cyme.declarations import Instance
from cyme.errors import BrokerAway
from cyme.queued import TaskError, TaskState
from tests.support import pages
from tests.support.httpmemory import Connection, request
from tests.support.memorybranch import memory_branch
from tests.support.pages import NOW, PagesCase


class PageCase(PagesCase):
    """A test with a branch that has an app, two queues and an instance."""

    def setUp(self) -> None:
        clock = Clock()
        clock.advance(NOW)
        self.branch = memory_branch(self, clock)
        self.open(clock, self.branch.controller)
        self.api("PUT", "/foo/", form="broker=amqp://me:s3cret@mq.example:5672/v")
        self.api("PUT", "/foo/queues/mail/")
        self.api("PUT", "/foo/queues/a%20b/")
        self.api("PUT", "/foo/instances/w1/", form="queues=mail")
        # There is a form, whose proof is for all.
        self.browser.get("/admin/add/app/")

    def api(self, method: str, path: str, **arguments: Any) -> Any:
        answer = request(self.site, method, path, **arguments)
        self.assertLess(answer.status, 300, answer.body)
        return answer.json

    def declare(self, count: int, **fields: Any) -> None:
        """Have many instances, called `many-000` and so on."""
        names = [f"many-{number:03}" for number in range(count)]
        many = [Instance(name=name, app="foo", branch="branch1", **fields) for name in names]
        self.successResultOf(self.branch.catalogue.change(lambda: many))

    def declared_app(self) -> Any:
        return self.branch.catalogue.app("foo")

    def declared_queue(self, name: str) -> Any:
        return self.branch.catalogue.queue("foo", name)

    def instance(self, name: str = "w1") -> Any:
        return self.branch.catalogue.instance(name)


class ShowTests(PageCase):
    """What pages show."""

    def test_overview(self) -> None:
        """The first page says in a sentence how all is, and what happened."""
        text = self.page("/admin/")
        self.assertIn("The one instance runs.", text)
        self.assertIn("of 1 app with 2 queues", text)
        self.assertIn("instance created", text)

    def test_first_look(self) -> None:
        """Nothing is compiled before somebody looks; who does waits for a thread and holds nobody up."""
        threads: list[tuple[Any, Deferred[Any]]] = []

        def in_thread(function: Any) -> Deferred[Any]:
            threads.append((function, Deferred()))
            return threads[-1][1]

        self.patch(pages, "RENDERER", Renderer(Files(), in_thread))
        self.open(self.clock, self.branch.controller)
        self.assertEqual((self.api("GET", "/ping/"), threads), ({"ok": "pong"}, []))
        first, second = Connection(self.site), Connection(self.site)
        for connection in (first, second):
            connection.request("GET", "/admin/")
        self.assertEqual((first.received(), len(threads)), (b"", 2))
        for function, fired in threads:
            fired.callback(function())
        for connection in (first, second):
            self.assertEqual(connection.response("GET").status, 200)
        self.assertIn("The one instance runs.", self.page("/admin/"))
        self.assertEqual(len(threads), 2)

    def test_every_page(self) -> None:
        """Every page is there, with and without its slash, and none shows a password or has inline code."""
        task = self.api("POST", "/foo/task/proj.add/")["uuid"]
        for path in (
            *("/admin", "/admin/instances", "/admin/instances/w1", "/admin/instances/w1/log"),
            *("/admin/instances/w1/edit", "/admin/apps", "/admin/apps/foo", "/admin/apps/foo/edit"),
            *("/admin/queues", "/admin/queue?app=foo&name=mail", "/admin/queue/edit?app=foo&name=mail"),
            *("/admin/branches", "/admin/branches/branch1", "/admin/tasks", f"/admin/tasks/{task}"),
            *("/admin/events", "/admin/add/app", "/admin/add/queue", "/admin/add/instance?app=foo"),
        ):
            plain, _, query = path.partition("?")
            for spelling in (path, f"{plain}/?{query}"):
                answer = self.browser.get(spelling)
                self.assertEqual(answer.status, 200, (spelling, answer.body))
                body = answer.body.decode()
                self.assertNotIn("s3cret", body, spelling)
                self.assertIsNone(re.search(r"<script(?! src=)|<style|\sstyle=|\son[a-z]+=", body), spelling)
                self.assertEqual(len(re.findall("<h1", body)), 1, spelling)
                self.assertIn('<html lang="en">', body)

    def test_headers(self) -> None:
        """A page may load nothing from elsewhere, be framed by nobody and be kept by nobody."""
        answer = self.browser.get("/admin/")
        policy = answer.header("Content-Security-Policy") or ""
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertEqual(answer.header("Cache-Control"), "no-store")
        self.assertEqual(answer.header("Referrer-Policy"), "same-origin")
        self.assertEqual(answer.header("X-Content-Type-Options"), "nosniff")

    def test_files(self) -> None:
        """Files are kept under the name that pages give them; another name is asked about again."""
        body = self.browser.get("/admin/").body.decode()
        for where in re.findall(r'(?:href|src)="(/admin/static/[^"]*)"', body):
            answer = self.browser.get(where)
            self.assertEqual(answer.status, 200)
            self.assertIn("immutable", answer.header("Cache-Control") or "")
            tag = answer.header("ETag") or ""
            bare = self.browser.get(where.partition("?")[0], ("If-None-Match", tag))
            self.assertEqual((bare.status, bare.body), (304, b""))
            self.assertIn("must-revalidate", bare.header("Cache-Control") or "")
        self.assertEqual(self.browser.get("/admin/static/nothing.css").status, 404)
        self.assertEqual(self.browser.get("/admin/static/..%2fsite.py").status, 400)

    def test_names_are_escaped(self) -> None:
        """What people call things is text, wherever it shows."""
        self.api("PUT", "/foo/queues/%3Cscript%3Ealert(1)%3C%2Fscript%3E".replace("%2F", "|"))
        for path in ("/admin/queues/", "/admin/apps/foo/", "/admin/add/instance/?app=foo"):
            body = self.browser.get(path).body.decode()
            self.assertNotIn("<script>alert", body)
            self.assertIn("&lt;script&gt;alert", body)
        body = self.browser.get("/admin/instances/?text=%22%3E%3Cb%3E").body.decode()
        self.assertIn("&#34;&gt;&lt;b&gt;", body)

    def test_no_templates_from_outside(self) -> None:
        """What looks like a template is text, wherever people may put it."""
        for text in ("{{ 7919 * 7907 }}", "{% set x = 7919 * 7907 %}{{ x }}", "${7919*7907}", "#{7919*7907}"):
            target = quote(text, safe="")
            self.api("PUT", f"/foo/queues/{target}")
            for path in ("/admin/apps/foo/", "/admin/queues/", f"/admin/instances/?text={target}"):
                body = self.browser.get(path).body.decode()
                self.assertIn(text, body, path)
                self.assertNotIn(str(7919 * 7907), body, path)

    def test_strange_queue(self) -> None:
        """A queue whose name would be eaten from a path has its page all the same."""
        self.api("PUT", "/foo/queues/%2e%2e/")
        body = self.browser.get("/admin/queues/").body.decode()
        self.assertIn("/admin/queue/?app=foo&amp;name=..", body)
        self.assertIn("Declaration", self.page("/admin/queue/?app=foo&name=.."))

    def test_instance(self) -> None:
        """The page of an instance says how it is declared and how it is."""
        text = self.page("/admin/instances/w1/")
        for words in ("w1 running", "Its worker answers", "It is to run", "w1@host.example", "4711", "mail"):
            self.assertIn(words, text)
        self.assertIn("amqp://me:", text)

    def test_ailing_instance(self) -> None:
        """The page says what ails an instance, how it differs, and what could not be asked, once each."""
        health = {
            "verdict": "unresponsive",
            "reason": "R",
            "drift": ["D"],
            "consumers": {"missing": ["mail"]},
        }
        self.patch(self.branch.controller.instances, "health", lambda app, name: succeed(health))
        text = self.page("/admin/instances/w1/")
        self.assertIn("Its worker answers: R.", text)
        self.assertIn("Differs from its declaration: D", text)
        self.assertIn("mail not consumed now", text)

        def away(*_: Any, **__: Any) -> Any:
            return fail(BrokerAway("amqp://mq//", "refused"))

        for verb in ("health", "log"):
            self.patch(self.branch.controller.instances, verb, away)
        text = self.page("/admin/instances/w1/")
        self.assertEqual(text.count("the broker amqp://mq//"), 1)

    def test_slow_worker(self) -> None:
        """A page does not wait for long for what a worker says."""
        self.patch(self.branch.controller.instances, "health", lambda app, name: Deferred())
        connection = Connection(self.site)
        connection.request("GET", "/admin/instances/w1/", headers=self.browser.headers())
        self.clock.pump([0.5] * 6)
        self.assertIn("w1 ", self.text(connection.response()))

    def test_lost_instance(self) -> None:
        """Of an instance whose branch is away is shown what is known, and nothing asked."""
        lost = Instance(name="x1", app="foo", branch="b2")
        self.successResultOf(self.branch.catalogue.change(lambda: [lost]))
        self.clock.advance(2)
        self.assertIn("x1 lost", self.page("/admin/instances/x1/"))
        self.assertIn("x1 lost", self.page("/admin/instances/?state=attention"))
        self.assertIn("b2", self.page("/admin/branches/b2/"))
        self.assertIn("1 is lost", self.page("/admin/"))

    def test_not_there(self) -> None:
        """What is not there is told on a page."""
        for path in (
            "instances/w9/",
            "apps/bar/",
            "queue/?app=foo&name=x",
            "branches/b9/",
            "nowhere/",
            "tasks/7/",
        ):
            self.page(f"/admin/{path}", 404)
        self.assertEqual(self.browser.post("/admin/instances/", {}).status, 405)

    def test_filters(self) -> None:
        """A list is narrowed by words, app and state, and paged; nonsense in its query is nothing."""
        self.declare(120, is_enabled=False)
        self.clock.advance(2)
        text = self.page("/admin/instances/?state=disabled")
        self.assertIn("1–50 of 120", text)
        self.assertNotIn("w1", text)
        self.assertIn("many-119", self.page("/admin/instances/?state=disabled&page=3"))
        self.assertIn("1–50 of 121", self.page("/admin/instances/?page=no"))
        self.assertIn("1 instance", self.page("/admin/instances/?text=W1"))
        self.assertIn("Nothing matches", self.page("/admin/instances/?text=zzz"))
        self.assertIn("Nothing matches", self.page("/admin/instances/?branch=zzz"))

    def test_empty(self) -> None:
        """Where there is nothing, the next step is told."""
        self.api("DELETE", "/foo/")
        self.clock.advance(2)
        for path, words in (
            ("", "Add an app"),
            ("instances/", "Add an app first"),
            ("apps/", "Add the first one"),
            ("queues/", "Add an app first"),
            ("tasks/", "Nothing was queued yet"),
            ("add/instance/", "Every instance belongs to an app"),
        ):
            self.assertIn(words, self.page(f"/admin/{path}"))

    def test_task(self) -> None:
        """A task is found by its id, with what came of it."""
        uuid = self.api("POST", "/foo/task/proj.add/")["uuid"]
        self.assertIn(
            "There is none yet",
            self.text(self.browser.follow(self.browser.get(f"/admin/tasks/?uuid={uuid}"))),
        )
        self.assertIn(uuid, self.page("/admin/tasks/"))
        error = TaskError(type="ValueError", message="<odd>")
        self.branch.gateway.answer(uuid, TaskState.FAILURE, None, error)
        text = self.page(f"/admin/tasks/{uuid}/")
        self.assertIn("failure", text)
        self.assertIn("ValueError", text)
        self.assertIn("&lt;odd&gt;", text)

    def test_result(self) -> None:
        """The answer to a queued request is shown with its status and its content."""
        uuid = self.api("POST", "/foo/task/proj.add/")["uuid"]
        answer = {
            "status_code": 418,
            "url": "http://t/",
            "headers": {"Server": "x"},
            "content": "short & stout",
        }
        self.branch.gateway.answer(uuid, TaskState.SUCCESS, answer)
        text = self.page(f"/admin/tasks/{uuid}/")
        for words in ("418", "http://t/", "short &amp; stout", "Server"):
            self.assertIn(words, text)

    def test_events(self) -> None:
        """Events are shown the newest first, and narrowed to an instance."""
        self.assertIn("queue created", self.page("/admin/events/"))
        text = self.page("/admin/events/?instance=w1")
        self.assertIn("instance created", text)
        self.assertNotIn("queue created", text)
        self.assertIn("From before 2001-09-09", self.page("/admin/events/?before=1000000000"))
        self.page("/admin/events/?before=nan")


class FormTests(PageCase):
    """What forms make and change."""

    def test_add_app(self) -> None:
        """An app is added, and its page says so, once."""
        self.assertIn("Added app bar.", self.done("/admin/add/app/", {"name": "bar", "pool": "solo"}))
        self.assertEqual(self.branch.controller.apps.get("bar")["pool"], "solo")
        self.assertNotIn("Added app", self.page("/admin/apps/bar/"))

    def test_refused_app(self) -> None:
        """What can't be is told beside its field, what was typed is kept, and nothing is changed."""
        before = self.branch.content()
        for fields, words in (
            ({"name": ""}, "Name is needed"),
            ({"name": "a/b"}, "Name"),
            ({"name": "foo"}, "There is an app foo already"),
            ({"name": "bar", "max_age": "soon"}, "Age at most takes a number of seconds"),
            ({"name": "bar", "celery_app": "1!"}, "Celery app takes"),
            ({"name": "bar", "broker": "nonsense"}, "Broker"),
        ):
            answer = self.browser.post("/admin/add/app/", {"arguments": "--keep me", **fields})
            self.assertIn(words, self.text(answer, 400), fields)
            self.assertIn('value="--keep me"', answer.body.decode())
        self.assertEqual(self.branch.content(), before)

    def test_secret_is_not_sent_back(self) -> None:
        """A broker's URL that was typed is not in the answer to a form that is refused."""
        answer = self.browser.post("/admin/add/app/", {"name": "", "broker": "amqp://me:hush@mq//"})
        self.assertEqual(answer.status, 400)
        self.assertNotIn(b"hush", answer.body)

    def test_edit_app(self) -> None:
        """Only what differs is changed; the broker stays where its field is empty."""
        version = self.declared_app().version
        same = {"celery_app": "", "pool": "", "arguments": "", "broker": ""}
        self.assertIn("Nothing was to be changed", self.done("/admin/apps/foo/edit/", same))
        self.assertEqual(self.declared_app().version, version)
        self.assertIn("Changed app foo.", self.done("/admin/apps/foo/edit/", {**same, "max_memory": "1G"}))
        app = self.declared_app()
        self.assertEqual((app.max_memory, app.broker), (1 << 30, "amqp://me:s3cret@mq.example:5672/v"))

    def test_queue(self) -> None:
        """A queue is declared and changed; options have to be JSON."""
        text = self.done("/admin/add/queue/?app=foo", {"name": "news", "options": '{"durable": true}'})
        self.assertIn("Declared queue news.", text)
        answer = self.browser.post("/admin/add/queue/?app=foo", {"name": "old", "options": "{"})
        self.assertIn("Options takes a JSON object", self.text(answer, 400))
        text = self.done("/admin/queue/edit/?app=foo&name=news", {"exchange": "wire", "options": ""})
        self.assertIn("Changed queue news.", text)
        self.assertEqual(self.declared_queue("news").exchange, "wire")

    def test_add_instance(self) -> None:
        """An instance is added with what was chosen."""
        fields = {"name": "w2", "min_concurrency": "2", "max_concurrency": "4", "queues": ["mail", "a b"]}
        self.assertIn("Added instance w2.", self.done("/admin/add/instance/?app=foo", fields))
        made = self.instance("w2")
        self.assertEqual((made.min_concurrency, made.max_concurrency), (2, 4))
        self.assertEqual(made.queues, ("mail", "a b"))

    def test_nameless_instance(self) -> None:
        """One that is given no name gets one."""
        answer = self.browser.post("/admin/add/instance/?app=foo", {"name": "", "max_concurrency": "1"})
        self.assertRegex(answer.header("Location") or "", r"/admin/instances/[0-9a-f-]{36}/")

    def test_refused_instance(self) -> None:
        """What only the controller finds wrong is told as well."""
        fields = {"name": "w2", "min_concurrency": "5", "max_concurrency": "4"}
        answer = self.browser.post("/admin/add/instance/?app=foo", fields)
        self.assertIn("Processes at least the range would be 5 to 4", self.text(answer, 400))
        answer = self.browser.post("/admin/add/instance/?app=foo", {"name": "w2", "queues": ["nope"]})
        self.assertIn("declares no queue", self.text(answer, 400))
        self.assertIsNone(self.instance("w2"))

    def test_edit_instance(self) -> None:
        """Concurrency and queues are changed; nothing else is, where nothing was typed."""
        fields = {"min_concurrency": "1", "max_concurrency": "3", "queues": ["a b"], "pool": ""}
        self.assertIn("Changed instance w1.", self.done("/admin/instances/w1/edit/", fields))
        changed = self.instance()
        self.assertEqual((changed.max_concurrency, changed.queues, changed.pool), (3, ("a b",), None))

    def test_all_queues_given_up(self) -> None:
        """An instance from which all queues were taken consumes from none."""
        self.done("/admin/instances/w1/edit/", {"min_concurrency": "1", "max_concurrency": "1"})
        self.assertEqual(self.instance().queues, ())


class ActionTests(PageCase):
    """What is done to things."""

    def do(self, action: str, target: Any, **fields: Any) -> str:
        return self.done("/admin/do/", {"action": action, "target": target, "confirmed": "yes", **fields})

    def test_confirmation(self) -> None:
        """What stops or removes something is done only when it was confirmed, and says what it will do."""
        before = self.branch.content()
        for name, action in ACTIONS.items():
            target = {"instance": "w1", "queue": "foo/mail", "app": "foo", "branch": "branch1"}
            one = target.get(action.noun[0], "foo/x")
            if action.warning is None:
                continue
            fields = {"action": name, "target": one, "queue": "mail"}
            text = self.text(self.browser.post("/admin/do/", fields))
            self.assertIn(" ".join(action.warning.split()[:5]), text)
            self.assertIn("Cancel", text)
        self.assertEqual(self.branch.content(), before)

    def test_instance(self) -> None:
        """Instances are disabled, enabled, restarted, drained and deleted."""
        self.assertIn("Disabled instance w1.", self.do("instance-disable", "w1"))
        self.assertFalse(self.instance().is_enabled)
        self.assertIn("Enabled instance w1.", self.do("instance-enable", "w1"))
        self.assertIn("Restarting instance w1.", self.do("instance-restart", "w1"))
        self.assertEqual((self.instance().is_enabled, self.instance().generation), (True, 1))
        self.do("instance-drain", "w1", deadline="60")
        self.assertEqual(self.instance().drain_until, NOW + 60)
        self.do("instance-delete", "w1")
        self.assertIsNone(self.instance())

    def test_bad_deadline(self) -> None:
        """A deadline that is none is refused on the page that asks for it, with all that was chosen."""
        fields = {"action": "instance-drain", "target": "w1", "confirmed": "yes", "deadline": "soon"}
        answer = self.browser.post("/admin/do/", fields)
        self.assertIn("Deadline takes a number of seconds", self.text(answer, 400))
        self.assertIn('name="target" value="w1"', answer.body.decode())
        self.assertTrue(self.instance().is_enabled)

    def test_several(self) -> None:
        """What was chosen is done to each, and what fails for one is told while the others go on."""
        self.api("PUT", "/foo/instances/w2/")
        text = self.do("instance-disable", ["w1", "gone", "w2"], back="/admin/instances/?text=w")
        self.assertIn("Disabled 2 instances.", text)
        self.assertIn("gone: there is no instance", text)
        self.assertFalse(self.instance("w2").is_enabled)

    def test_all_that_match(self) -> None:
        """All instances that a list was narrowed to are taken, also those of other pages."""
        self.declare(60)
        self.clock.advance(2)
        asked = {"action": "instance-disable", "everything": "yes", "all-text": "many"}
        answer = self.browser.post("/admin/do/", asked)
        self.assertIn("Disable 60 instances?", self.text(answer))
        self.assertIn('name="all-text" value="many"', answer.body.decode())
        self.assertIn("Disabled 60 instances.", self.done("/admin/do/", {**asked, "confirmed": "yes"}))
        self.assertTrue(self.instance("w1").is_enabled)
        self.assertFalse(self.instance("many-059").is_enabled)

    def test_nothing_chosen(self) -> None:
        """Who chose nothing is told so."""
        text = self.done("/admin/do/", {"action": "instance-enable", "back": "/admin/instances/"})
        self.assertIn("Nothing was chosen", text)

    def test_consumers(self) -> None:
        """An instance begins and ceases to consume from a queue."""
        self.do("consumer-add", "w1", queue="a b")
        self.assertEqual(self.instance().queues, ("mail", "a b"))
        self.do("consumer-cancel", "w1", queue="mail")
        self.assertEqual(self.instance().queues, ("a b",))
        self.assertIn("choose one", self.do("consumer-add", "w1"))

    def test_queue(self) -> None:
        """Queues are paused, resumed and deleted; purging needs the broker."""
        self.do("queue-pause", "foo/mail")
        self.assertTrue(self.declared_queue("mail").paused)
        self.assertIn("paused", self.page("/admin/queue/?app=foo&name=mail"))
        self.do("queue-resume", "foo/mail")
        self.assertFalse(self.declared_queue("mail").paused)
        self.assertIn("Purged queue", self.do("queue-purge", "foo/mail"))
        self.do("queue-delete", "foo/mail")
        self.assertIsNone(self.declared_queue("mail"))

    def test_app(self) -> None:
        """The instances of an app are restarted one after another; the app is deleted."""
        self.assertIn("Restarting the instances of", self.do("app-restart", "foo", back="/admin/apps/foo/"))
        self.assertIn("Rolling restart", self.page("/admin/apps/foo/"))
        self.do("app-call-off", "foo")
        self.do("app-delete", "foo")
        self.assertIsNone(self.declared_app())

    def test_branch(self) -> None:
        """A branch is cordoned, drained and uncordoned; one that lives is not evacuated."""
        self.do("branch-cordon", "branch1")
        self.assertIn("cordoned", self.page("/admin/branches/"))
        self.do("branch-drain", "branch1")
        self.assertIn("1 left", self.page("/admin/branches/branch1/"))
        self.do("branch-uncordon", "branch1")
        self.assertNotIn("cordoned", self.page("/admin/branches/branch1/"))
        self.assertIn("lives", self.do("branch-evacuate", "branch1"))

    def test_task(self) -> None:
        """A task that does not run yet is revoked."""
        uuid = self.api("POST", "/foo/task/proj.add/")["uuid"]
        self.do("task-revoke", f"foo/{uuid}")
        self.assertIn("revoked", self.page(f"/admin/tasks/{uuid}/"))

    def test_unknown(self) -> None:
        """What nobody knows how to do is refused."""
        self.text(self.browser.post("/admin/do/", {"action": "explode", "target": "w1"}), 400)

    def test_who_asked(self) -> None:
        """The why-log says that it was asked for by HTTP, and from where."""
        self.do("instance-disable", "w1")
        self.assertIn("http 192.0.2.1", self.page("/admin/events/?instance=w1"))

    def test_way_back(self) -> None:
        """Nobody is sent to another site, whatever the form says."""
        for back in (
            "https://evil.example/",
            "//evil.example/",
            "/admin//evil",
            "/admin/\\evil",
            "/foo/",
            "/admin/\r\nX: y",
        ):
            answer = self.browser.post(
                "/admin/do/", {"action": "instance-enable", "target": "w1", "back": back}
            )
            self.assertEqual((answer.status, answer.header("Location")), (303, "/admin/"), back)


class SafetyTests(PageCase):
    """Who may post forms."""

    def refused(self, *headers: tuple[str, str], status: int = 403, **arguments: Any) -> None:
        fields = {"action": "instance-disable", "target": "w1", "confirmed": "yes"}
        answer = self.browser.post("/admin/do/", fields, *headers, **arguments)
        self.assertEqual(answer.status, status, answer.body)
        self.assertTrue(self.instance().is_enabled)

    def test_another_site(self) -> None:
        """A form that a page of another site sends is refused, though its proof is right."""
        self.refused(("Origin", "http://evil.example"))
        self.refused(("Origin", "null"))
        self.refused(("Sec-Fetch-Site", "cross-site"))
        self.refused(("Sec-Fetch-Site", "same-site"))

    def test_no_reader_elsewhere(self) -> None:
        """Pages are for those of no other site to read, also where these may read the API."""
        origin = ("Origin", "https://panel.example")
        for where in ("/admin/", "/admin/add/app/", "/admin/static/cyme.js"):
            self.assertIsNone(self.browser.get(where, origin).header("Access-Control-Allow-Origin"))
        self.assertIsNotNone(self.browser.get("/foo/", origin).header("Access-Control-Allow-Origin"))

    def test_proof(self) -> None:
        """A form without the proof that was made for this browser is refused."""
        self.refused(proof="")
        self.refused(proof="é" * 64)
        stolen = self.browser.proof
        self.browser.cookies["cyme-session"] = "another"
        self.refused(proof=stolen)

    def test_no_cookie(self) -> None:
        """A browser that has no cookie yet can't post anything."""
        stolen = self.browser.proof
        self.browser.cookies.clear()
        self.refused(proof=stolen)

    def test_cookie(self) -> None:
        """The cookie is not for scripts, and never sent along by other sites."""
        self.browser.cookies.clear()
        (cookie,) = self.browser.get("/admin/").headers.getRawHeaders("Set-Cookie") or ()
        for word in ("HttpOnly", "SameSite=Strict"):
            self.assertIn(word.lower(), cookie.lower())

    def test_link_from_elsewhere(self) -> None:
        """Who follows a link on another site keeps their session: their other pages' forms still work."""
        cookies, proof = dict(self.browser.cookies), self.browser.proof
        self.browser.cookies.clear()
        answer = self.browser.get("/admin/instances/", ("Sec-Fetch-Site", "cross-site"))
        self.assertEqual((answer.status, answer.headers.getRawHeaders("Set-Cookie")), (200, None))
        self.refused(proof=self.browser.proof)
        self.browser.cookies, self.browser.proof = cookies, proof
        self.assertEqual(self.browser.post("/admin/add/app/", {"name": "bar"}).status, 303)

    def test_one_session(self) -> None:
        """A page that is not there opens one session, not several."""
        self.browser.cookies.clear()
        answer = self.browser.get("/admin/instances/w9/")
        self.assertEqual(len(answer.headers.getRawHeaders("Set-Cookie") or ()), 1)

    def test_json(self) -> None:
        """JSON is not taken in place of a form."""
        answer = request(
            self.site, "POST", "/admin/do/", json_body={"action": "x"}, headers=self.browser.headers()
        )
        self.assertEqual(answer.status, 400)

    def test_other_methods(self) -> None:
        """A page is fetched, or its form is posted; nothing else."""
        for method in ("PUT", "DELETE"):
            self.assertEqual(request(self.site, method, "/admin/do/").status, 405)

    def test_rebinding(self) -> None:
        """A page under another name than the loopback's is refused."""
        self.assertEqual(request(self.site, "GET", "/admin/", host="evil.example").status, 403)

    def test_flash_of_another(self) -> None:
        """What is said to one browser is not said to another, and a page that renews itself leaves it."""
        answer = self.browser.post("/admin/add/app/", {"name": "bar"})
        fresh = self.browser.get("/admin/apps/bar/", ("Cyme-Live", "1"))
        self.assertNotIn(b"Added app", fresh.body)
        said = dict(self.browser.cookies)
        self.browser.cookies["cyme_flash"] = "guess"
        self.assertNotIn("Added app", self.page("/admin/apps/bar/"))
        self.browser.cookies = said
        self.assertIn("Added app", self.text(self.browser.follow(answer)))

    def test_app_called_admin(self) -> None:
        """No app can be where the pages are, also not by way of queueing."""
        answer = self.browser.post("/admin/add/app/", {"name": "admin"})
        self.assertEqual(answer.status, 400)
        self.page("/admin/queue/http://evil.example/", 404)
