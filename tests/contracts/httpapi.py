"""What a client of the HTTP API may rely on, whichever controller stands behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from cyme.access.tokenfile import TokenFile
from cyme.api.site import Limits, make_site
from cyme.interfaces import IController
from tests.support.httpmemory import Response, request

SCHEDULED = {"ok": "operation scheduled"}


def make_http_api_tests(
    fixture: Callable[[SynchronousTestCase, Clock], Any],
) -> type[SynchronousTestCase]:
    """Tests of the API over a provider of `IController` that holds nothing.

    :param fixture: called with the test case and a clock, answers with the controller, whose
        Deferreds fire without time passing.
    """

    class HttpApiTests(SynchronousTestCase):
        """The HTTP contract, request by request."""

        def setUp(self) -> None:
            clock = Clock()
            self.controller = fixture(self, clock)
            self.site = make_site(
                clock,
                self.controller,
                limits=Limits(request_body=100_000), tokens=TokenFile(None),
                allowed_origins=(),
                check_host=True,
                readiness=dict,
            )

        def ask(self, method: str, target: str, **more: Any) -> Response:
            return request(self.site, method, target, **more)

        def assert_answer(self, response: Response, status: int, body: Any) -> None:
            self.assertEqual((response.status, response.json), (status, body))
            self.assertEqual(response.header("Content-Type"), "application/json")

        def assert_problem(self, response: Response, status: int, *words: str) -> None:
            self.assertEqual((response.status, response.json["status"]), (status, status), response.body)
            self.assertEqual(response.header("Content-Type"), "application/problem+json")
            self.assertEqual(response.json["nok"], [response.json["detail"]])
            for word in words:
                self.assertIn(word, response.json["detail"])

        def given(self, *targets: str) -> None:
            """Create what stands at these places."""
            for target in targets:
                self.assertIn(self.ask("PUT", target).status, (200, 201), target)

        def test_interface(self) -> None:
            """What is behind the API provides the controller's interface."""
            self.assertTrue(verifyObject(IController, self.controller))

        # -- apps ---------------------------------------------------------------------

        def test_apps(self) -> None:
            """An app is created, listed, shown and deleted."""
            self.assert_answer(self.ask("GET", "/"), 200, [])
            created = self.ask("PUT", "/foo/")
            self.assertEqual((created.status, created.json["name"]), (201, "foo"))
            self.assert_answer(self.ask("GET", "/"), 200, ["foo"])
            self.assertEqual(self.ask("GET", "/foo/").json["name"], "foo")
            self.assert_answer(self.ask("DELETE", "/foo/"), 200, {"ok": "ok"})
            self.assert_problem(self.ask("GET", "/foo/"), 404, "foo")

        def test_app_again(self) -> None:
            """Creating an app that exists answers 200, by `PUT` as by `POST`."""
            self.assertEqual(self.ask("POST", "/foo/").status, 201)
            self.assertEqual(self.ask("POST", "/foo/").status, 200)
            self.assertEqual(self.ask("PUT", "/foo/").status, 200)

        def test_anonymous_app(self) -> None:
            """An app that is created without a name gets one."""
            created = self.ask("POST", "/")
            self.assertEqual(created.status, 201)
            self.assert_answer(self.ask("GET", "/"), 200, [created.json["name"]])

        def test_app_broker(self) -> None:
            """The document's example edits a broker's details, with its spelling of virtual_host."""
            self.given("/bar/")
            edited = self.ask("POST", "/bar/", form="hostname=w1&userid=me&password=me&vhost=/")
            self.assertEqual(edited.status, 200)
            broker = self.ask("GET", "/bar/").json["broker"]
            self.assertEqual(broker["hostname"], "w1")
            self.assertEqual(broker["userid"], "me")
            self.assertEqual(broker["virtual_host"], "/")

        def test_app_asynchronously(self) -> None:
            """An app is created and deleted without waiting."""
            self.assert_answer(self.ask("PUT", "/!/foo/"), 202, {"name": "foo"})
            self.assert_answer(self.ask("DELETE", "/!/foo/"), 202, SCHEDULED)
            self.assert_answer(self.ask("GET", "/"), 200, [])
            name = self.ask("POST", "/!/").json["name"]
            self.assert_answer(self.ask("GET", "/"), 200, [name])

        def test_bad_app_names(self) -> None:
            """A name that can't be a folder is refused, and so are the names of routes."""
            for name in ("..", "-a", "a%20b", "a" * 129, "%C3%A4", "a%00"):
                self.assert_problem(self.ask("PUT", f"/{name}/"), 400, "name")
            for name in ("ping", "branches", "instances", "ready"):
                self.assert_problem(self.ask("PUT", f"/{name}/"), 405, "no app can have this name")
            for name in ("admin", "metrics"):
                self.assert_problem(self.ask("PUT", f"/{name}/"), 400, name)

        # -- instances ----------------------------------------------------------------

        def test_instances(self) -> None:
            """An instance is created, listed, shown and deleted."""
            self.given("/foo/")
            created = self.ask("PUT", "/foo/instances/w1/")
            self.assertEqual((created.status, created.json["name"]), (201, "w1"))
            self.assertEqual(self.ask("PUT", "/foo/instances/w1/").status, 200)
            self.assert_answer(self.ask("GET", "/foo/instances/"), 200, ["w1"])
            shown = self.ask("GET", "/foo/instances/w1/").json
            self.assertEqual((shown["max_concurrency"], shown["min_concurrency"]), (1, 1))
            self.assertIs(shown["is_enabled"], True)
            self.assertEqual(shown["queues"], [])
            self.assert_answer(self.ask("DELETE", "/foo/instances/w1/"), 200, {"ok": "ok"})
            self.assert_problem(self.ask("GET", "/foo/instances/w1/"), 404, "w1")

        def test_anonymous_instance(self) -> None:
            """An instance that is created without a name gets one."""
            self.given("/foo/")
            created = self.ask("PUT", "/foo/instances/")
            self.assertEqual(created.status, 201)
            self.assert_answer(self.ask("GET", "/foo/instances/"), 200, [created.json["name"]])

        def test_instance_parameters(self) -> None:
            """An instance takes its range, its queues and whether it is enabled at creation."""
            self.given("/foo/", "/foo/queues/a/", "/foo/queues/b/")
            self.ask("PUT", "/foo/instances/w1/?max_concurrency=8&is_enabled=no", form="queues=a,b")
            shown = self.ask("GET", "/foo/instances/w1/").json
            self.assertEqual((shown["max_concurrency"], shown["min_concurrency"]), (8, 1))
            self.assertEqual((shown["is_enabled"], shown["queues"]), (False, ["a", "b"]))

        def test_instance_spellings(self) -> None:
            """The singular and the place without an app show the same instance."""
            self.given("/foo/", "/foo/instances/w1/")
            shown = self.ask("GET", "/foo/instances/w1/")
            self.assertEqual(self.ask("GET", "/foo/instance/w1/").json, shown.json)
            self.assertEqual(self.ask("GET", "/instances/w1").json, shown.json)
            self.assert_answer(self.ask("GET", "/instances/"), 200, ["w1"])
            self.assert_answer(self.ask("DELETE", "/instances/w1/"), 200, {"ok": "ok"})

        def test_instance_of_another_app(self) -> None:
            """A name that another app's instance has is a conflict; through the wrong app it is not found."""
            self.given("/foo/", "/bar/", "/foo/instances/w1/")
            self.assert_problem(self.ask("PUT", "/bar/instances/w1/"), 409, "w1", "foo")
            self.assert_problem(self.ask("GET", "/bar/instances/w1/"), 404, "w1")
            self.assert_problem(self.ask("DELETE", "/bar/instances/w1/"), 404, "w1")

        def test_instance_asynchronously(self) -> None:
            """An instance is created, commanded and deleted without waiting."""
            self.given("/foo/")
            self.assert_answer(self.ask("POST", "/foo/instances/!/w1/"), 202, {"name": "w1"})
            self.assertIn("name", self.ask("POST", "/foo/instances/!/").json)
            for place in ("/foo/instances/!/w1", "/foo/instance/!/w1/", "/instances/!/w1/"):
                place = place.rstrip("/")
                self.assert_answer(self.ask("POST", f"{place}/restart/"), 202, SCHEDULED)
                self.assert_answer(self.ask("POST", f"{place}/autoscale/?max=3"), 202, SCHEDULED)
            self.assert_answer(self.ask("DELETE", "/foo/instances/!/w1/"), 202, SCHEDULED)

        def test_commands(self) -> None:
            """An instance is restarted, disabled and enabled."""
            self.given("/foo/", "/foo/instances/w1/")
            for place in ("/foo/instances/w1", "/foo/instance/w1", "/instances/w1"):
                self.assert_answer(self.ask("POST", f"{place}/disable/"), 200, {"ok": "ok"})
                self.assertIs(self.ask("GET", f"{place}/").json["is_enabled"], False)
                self.assert_answer(self.ask("PUT", f"{place}/enable"), 200, {"ok": "ok"})
                self.assertIs(self.ask("GET", f"{place}/").json["is_enabled"], True)
                self.assert_answer(self.ask("POST", f"{place}/restart/"), 200, {"ok": "ok"})

        def test_health(self) -> None:
            """Health is 200 for a worker that works."""
            self.given("/foo/", "/foo/instances/w1/")
            for place in ("/foo/instances/w1", "/foo/instance/w1", "/instances/w1"):
                answer = self.ask("GET", f"{place}/health/")
                self.assertEqual((answer.status, answer.json["verdict"]), (200, "ok"))
            self.assert_problem(self.ask("GET", "/foo/instances/w2/health/"), 404, "w2")

        def test_drain(self) -> None:
            """An instance is drained; a deadline that can't be is refused."""
            self.given("/foo/", "/foo/instances/w1/")
            for place in ("/foo/instances/w1", "/foo/instance/w1", "/instances/w1"):
                self.assertIs(self.ask("POST", f"{place}/drain/?deadline=5").json["is_enabled"], False)
                self.assert_problem(self.ask("POST", f"{place}/drain/?deadline=-1"), 400, "deadline")
            self.assert_answer(self.ask("POST", "/foo/instances/!/w1/drain/"), 202, SCHEDULED)

        def test_autoscale(self) -> None:
            """The range of a pool is changed, also one end alone, and never turned around."""
            self.given("/foo/", "/foo/instances/w1/")
            place = "/foo/instance/w1/autoscale/"
            self.assert_answer(self.ask("POST", place + "?max=10&min=5"), 200, {"max": 10, "min": 5})
            self.assert_answer(self.ask("PUT", place + "?min=7"), 200, {"max": 10, "min": 7})
            self.assert_answer(self.ask("POST", place, form="max=9"), 200, {"max": 9, "min": 7})
            self.assert_problem(self.ask("POST", place + "?max=6"), 400, "min")
            self.assert_problem(self.ask("POST", place + "?max=0"), 400, "max")
            self.assert_answer(self.ask("GET", place), 200, {"max": 9, "min": 7})

        def test_rolling_restart(self) -> None:
            """An app is restarted, which can be looked at and called off, also without waiting."""
            self.given("/foo/", "/foo/instances/w1/")
            self.assert_problem(self.ask("GET", "/foo/restart/"), 404, "POST /foo/restart/")
            begun = self.ask("POST", "/foo/restart/?parallel=2", form="timeout=30&wait=0")
            self.assertEqual((begun.status, begun.json["app"], begun.json["parallel"]), (200, "foo", 2))
            self.assertEqual(self.ask("GET", "/foo/restart").json["id"], begun.json["id"])
            self.assertEqual(self.ask("DELETE", "/foo/restart/").json["id"], begun.json["id"])
            for place in ("/!/foo/restart/", "/foo/restart/!/"):
                self.assert_answer(self.ask("PUT", place), 202, SCHEDULED)
                self.assert_answer(self.ask("DELETE", place), 202, SCHEDULED)
                self.assert_problem(self.ask("GET", place), 501, "asynchronous")
                self.assert_problem(self.ask("POST", f"{place}?wait=1"), 400, "wait")
            for wrong in ("parallel=0", "parallel=x", "timeout=0", "timeout=86401", "wait=601", "pace=2"):
                self.assert_problem(self.ask("POST", f"/foo/restart/?{wrong}"), 400, wrong.partition("=")[0])
            self.assert_problem(self.ask("POST", "/no/restart/"), 404, "no")

        # -- queues and consumers -----------------------------------------------------

        def test_queues(self) -> None:
            """A queue is declared, listed, shown and deleted."""
            self.given("/foo/")
            options = {"options": {"durable": True}}
            created = self.ask("PUT", "/foo/queues/tasks/?exchange_type=topic", json_body=options)
            self.assertEqual(created.status, 201)
            self.assertEqual((created.json["name"], created.json["exchange_type"]), ("tasks", "topic"))
            self.assertEqual(self.ask("PUT", "/foo/queues/tasks/").status, 200)
            self.assert_answer(self.ask("GET", "/foo/queues/"), 200, ["tasks"])
            shown = self.ask("GET", "/foo/queues/tasks/").json
            for key in ("exchange", "exchange_type", "routing_key", "options"):
                self.assertIn(key, shown)
            self.assert_answer(self.ask("DELETE", "/foo/queues/tasks/"), 200, {"ok": "ok"})
            self.assert_problem(self.ask("GET", "/foo/queues/tasks/"), 404, "tasks")

        def test_queue_paused(self) -> None:
            """A queue is paused, resumed and emptied, also without waiting."""
            self.given("/foo/", "/foo/queues/tasks/")
            for verb, paused in (("pause", True), ("resume", False)):
                self.assert_answer(self.ask("POST", f"/foo/queues/tasks/{verb}/"), 200, {"ok": "ok"})
                self.assertIs(self.ask("GET", "/foo/queues/tasks/").json["paused"], paused)
                self.assert_answer(self.ask("PUT", f"/foo/queues/!/tasks/{verb}"), 202, SCHEDULED)
                self.assert_problem(self.ask("POST", f"/foo/queues/other/{verb}/"), 404, "other")
            self.assert_answer(self.ask("POST", "/foo/queues/tasks/purge/"), 200, {"purged": 0})
            shown = self.ask("GET", "/foo/queues/tasks/").json
            self.assertLessEqual({"messages", "consumers"}, shown.keys())

        # -- tasks --------------------------------------------------------------------

        def test_queueing(self) -> None:
            """A request is queued with any method, and its task can be asked about and revoked."""
            self.given("/foo/", "/foo/queues/tasks/")
            methods = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT")
            for method in methods:
                queued = self.ask(method, "/foo/queue/tasks/http://m/x?b=1&a=2&b=3", form="c=d")
                self.assertEqual(queued.status, 202, queued.body)
                self.assertEqual(queued.json["url"], "http://m/x?b=1&a=2&b=3")
                self.assertEqual((queued.json["method"], queued.json["queue"]["name"]), (method, "tasks"))
                self.assertEqual(queued.json["params"], {"b": ["1", "3"], "a": "2"})
                self.assertEqual(queued.json["data"], {"c": "d"})
                place = f"/foo/query/{queued.json['uuid']}/"
                self.assertEqual(queued.header("Location"), place)
            head = self.ask("HEAD", "/foo/queue/http://m/")
            self.assertEqual((head.status, head.body), (202, b""))
            self.assertTrue((head.header("Location") or "").startswith("/foo/query/"))
            self.assert_answer(self.ask("GET", place + "state/"), 200, {"state": "PENDING"})
            for verb in ("result", "wait/?timeout=0"):
                status = 200 if verb == "result" else 202
                pending = self.ask("GET", place + verb)
                self.assertEqual((pending.status, pending.json["state"]), (status, "PENDING"))
                self.assertIsNone(pending.json["result"])
            self.assertEqual(self.ask("DELETE", place).json["state"], "REVOKED")
            self.assertEqual(self.ask("GET", place + "wait").status, 200)

        def test_queueing_refused(self) -> None:
            """What can't be queued is refused: unknown apps and queues, no URL, headers that can't be."""
            self.assert_problem(self.ask("GET", "/foo/queue/http://m/"), 404, "foo")
            self.given("/foo/", "/bar/", "/foo/queues/tasks/")
            self.assert_problem(self.ask("GET", "/foo/queue/other/http://m/"), 404, "other")
            self.assert_problem(self.ask("GET", "/foo/queue/tasks/"), 400, "URL")
            refused = self.ask("BREW", "/foo/queue/http://m/")
            self.assert_problem(refused, 405, "TRACE")
            for header, value in (
                ("Cyme-Timeout", "soon"),
                ("Cyme-Timeout", "1501"),
                ("Cyme-Retries", "-1"),
                ("Cyme-Delay", "1e9"),
                ("Cyme-Deduplication-Id", "a b"),
                ("Cyme-Callback", "ftp://m/"),
                ("Cyme-Failure-Callback", "m"),
                ("Cyme-Timeouts", "1"),
                ("Cyme-Forward-Host", "m"),
                ("Cyme-Forward-Transfer-Encoding", "chunked"),
                ("Cyme-Forward-Content-Length", "1"),
            ):
                answer = self.ask("POST", "/foo/queue/tasks/http://m/", headers=[(header, value)])
                self.assert_problem(answer, 400, header)
            twice = [("Cyme-Retries", "1"), ("Cyme-Retries", "2")]
            self.assert_problem(self.ask("POST", "/foo/queue/http://m/", headers=twice), 400, "Cyme-Retries")
            task = self.ask("POST", "/foo/queue/tasks/http://m/").json["uuid"]
            for place in (f"/bar/query/{task}", "/foo/query/00000000-0000-8000-8000-000000000000"):
                for verb in ("state", "result", "wait"):
                    self.assert_problem(self.ask("GET", f"{place}/{verb}/"), 404, "task")
                self.assert_problem(self.ask("DELETE", place), 404, "task")

        def test_named_tasks(self) -> None:
            """A Celery task is queued by its name, with the parameters that Celery knows."""
            self.given("/foo/", "/foo/queues/tasks/")
            given = {"args": [1, {"a": None}], "kwargs": {"b": 2}, "queue": "tasks", "countdown": 1.5}
            queued = self.ask(
                "POST", "/foo/task/proj.add/", json_body={**given, "priority": 3, "expires": 60}
            )
            self.assertEqual((queued.status, queued.json["task"]), (202, "proj.add"))
            self.assertEqual(queued.header("Location"), f"/foo/query/{queued.json['uuid']}/")
            self.assertEqual(self.ask("GET", f"{queued.header('Location')}state").json["state"], "PENDING")
            self.assertEqual(
                self.ask("PUT", "/foo/task/proj.add/?queue=tasks&expires=9", form="args=[1]").status, 202
            )
            bad: list[dict[str, Any]] = [
                {"args": {}},
                {"kwargs": []},
                {"countdown": -1},
                {"eta": "soon"},
                {"expires": "x"},
                {"priority": 256},
                {"retries": 1},
            ]
            for wrong in bad:
                answer = self.ask("POST", "/foo/task/proj.add/", json_body=wrong)
                self.assert_problem(answer, 400, *wrong)
            self.assert_problem(self.ask("POST", "/no/task/proj.add/"), 404, "no")
            self.assert_problem(self.ask("POST", "/foo/task/proj.add/?queue=other"), 404, "other")

        def test_no_queue_named(self) -> None:
            """The collection of queues can't be deleted, as the document's walk-through tries."""
            self.given("/foo/", "/foo/queues/tasks/")
            refused = self.ask("DELETE", "/foo/queues/")
            self.assert_problem(refused, 405, "DELETE")
            self.assertEqual(refused.header("Allow"), "GET, HEAD, OPTIONS")
            self.assert_problem(self.ask("PUT", "/foo/queues/!/"), 404)
            self.assert_answer(self.ask("GET", "/foo/queues/"), 200, ["tasks"])

        def test_queue_names(self) -> None:
            """A queue's name may hold what an app's may not."""
            self.given("/foo/", "/foo/queues/a%20%C3%A4!/")
            self.assert_answer(self.ask("GET", "/foo/queues/"), 200, ["a ä!"])
            self.assertEqual(self.ask("GET", "/foo/queues/a%20%C3%A4!").json["name"], "a ä!")
            self.assert_problem(self.ask("PUT", "/foo/queues/a%00/"), 400, "queue")

        def test_queue_asynchronously(self) -> None:
            """A queue is declared and deleted without waiting."""
            self.given("/foo/")
            self.assert_answer(self.ask("PUT", "/foo/queues/!/tasks/"), 202, {"name": "tasks"})
            self.assert_answer(self.ask("DELETE", "/foo/queues/!/tasks"), 202, SCHEDULED)

        def test_consumers(self) -> None:
            """An instance consumes from a declared queue and stops to."""
            self.given("/foo/", "/foo/instances/w1/", "/foo/queues/tasks/")
            place = "/foo/instances/w1/queues/tasks/"
            self.assert_answer(self.ask("PUT", place), 201, {"ok": "ok"})
            self.assertEqual(self.ask("GET", "/foo/instances/w1/").json["queues"], ["tasks"])
            self.assert_answer(self.ask("DELETE", place), 200, {"ok": "ok"})
            self.assertEqual(self.ask("GET", "/foo/instances/w1/").json["queues"], [])
            self.assert_problem(self.ask("DELETE", place), 404, "tasks")

        def test_undeclared_queue(self) -> None:
            """Consuming from a queue that has no declaration is refused at once."""
            self.given("/foo/", "/foo/instances/w1/")
            self.assert_problem(self.ask("PUT", "/foo/instances/w1/queues/tasks/"), 404, "tasks")
            self.assert_problem(self.ask("PUT", "/foo/instances/!/w1/queues/tasks/"), 404, "tasks")

        def test_consumers_asynchronously(self) -> None:
            """`!` stands before the instance or before the queue."""
            self.given("/foo/", "/foo/instances/w1/", "/foo/queues/tasks/")
            for place in ("/foo/instances/!/w1/queues/tasks/", "/foo/instances/w1/queues/!/tasks/"):
                self.assert_answer(self.ask("PUT", place), 202, SCHEDULED)
                self.assert_answer(self.ask("DELETE", place), 202, SCHEDULED)

        # -- everywhere ---------------------------------------------------------------

        def test_unknown_app(self) -> None:
            """Whatever is asked of an app that does not exist is not found."""
            for method, place in (
                ("GET", "/no/"),
                ("DELETE", "/no/"),
                ("GET", "/no/instances/"),
                ("POST", "/no/instances/"),
                ("PUT", "/no/instances/w1/"),
                ("GET", "/no/instances/w1/stats/"),
                ("GET", "/no/queues/"),
                ("PUT", "/no/queues/tasks/"),
            ):
                self.assert_problem(self.ask(method, place), 404, "no")

        def test_branches(self) -> None:
            """The branch that answers is among the branches."""
            (branch,) = self.ask("GET", "/branches/").json
            self.assertEqual(self.ask("GET", f"/branches/{branch}/").json["id"], branch)
            self.assert_problem(self.ask("GET", "/branches/nobody"), 404, "nobody")

        def test_branch_cordoned(self) -> None:
            """A branch is cordoned and uncordoned; meanwhile nothing new is placed on it."""
            self.given("/foo/")
            (branch,) = self.ask("GET", "/branches/").json
            asked = {"is_cordoned": True, "draining": None}
            self.assert_answer(self.ask("POST", f"/branches/{branch}/cordon/"), 200, asked)
            self.assertIs(self.ask("GET", f"/branches/{branch}/").json["is_cordoned"], True)
            self.assert_problem(self.ask("POST", "/foo/instances/"), 503, "no live branch")
            self.assert_problem(self.ask("PUT", f"/foo/instances/w1/?branch={branch}"), 409, "cordoned")
            answer = self.ask("PUT", f"/branches/{branch}/uncordon")
            self.assert_answer(answer, 200, {"is_cordoned": False, "draining": None})
            self.assertEqual(self.ask("PUT", f"/foo/instances/w1/?branch={branch}").status, 201)

        def test_branch_drained(self) -> None:
            """How far a branch is drained is shown; one that lives is not evacuated."""
            self.given("/foo/", "/foo/instances/w1/")
            (branch,) = self.ask("GET", "/branches/").json
            answer = self.ask("POST", f"/branches/{branch}/drain/")
            self.assertEqual((answer.status, answer.json["draining"]["left"]), (200, ["w1"]))
            self.assertEqual(
                self.ask("GET", f"/branches/{branch}/").json["draining"], answer.json["draining"]
            )
            self.assert_problem(self.ask("POST", f"/branches/{branch}/evacuate/"), 409, branch, "lives")
            self.assert_answer(self.ask("POST", f"/branches/{branch}/shutdown/"), 200, {"ok": "ok"})

        def test_branch_commands(self) -> None:
            """What is asked of a branch is asked with POST or PUT, without parameters."""
            (branch,) = self.ask("GET", "/branches/").json
            for action in ("cordon", "uncordon", "drain", "evacuate", "shutdown"):
                place = f"/branches/{branch}/{action}/"
                self.assert_problem(self.ask("GET", place), 405, "POST")
                self.assert_problem(self.ask("POST", f"{place}?now=1"), 400, "now")
                self.assert_problem(self.ask("POST", f"/branches/nobody/{action}/"), 404, "nobody")
                if action != "evacuate":
                    answer = self.ask("POST", f"/branches/!/{branch}/{action}/")
                    self.assert_answer(answer, 202, SCHEDULED)

        def test_placed(self) -> None:
            """Where an instance goes may be said at its creation; what can't be changes nothing."""
            self.given("/foo/")
            self.assertEqual(self.ask("POST", "/foo/instances/?placement=least-loaded").status, 201)
            self.assertEqual(self.ask("PUT", "/foo/instances/w1/?placement=round-robin&label=").status, 201)
            names = self.ask("GET", "/foo/instances/").json
            for status, said, query in (
                (400, "placement", "placement=best"),
                (400, "placement", "placement=least-loaded&branch=branch1"),
                (400, "label", "label=gpu"),
                (404, "nobody", "branch=nobody"),
                (503, "gpu=yes and zone=a", "label=zone=a&label=gpu=yes"),
                (503, "gpu=yes and zone=a", "label=gpu=yes,zone=a"),
            ):
                self.assert_problem(self.ask("PUT", f"/foo/instances/w2/?{query}"), status, said)
            body = {"label": ["gpu=yes"]}
            self.assert_problem(self.ask("PUT", "/foo/instances/w2/", json_body=body), 503, "gpu=yes")
            self.assertEqual(self.ask("GET", "/foo/instances/").json, names)

        def test_get_asynchronously(self) -> None:
            """`!` on a `GET` is not implemented, wherever the path without it is."""
            self.given("/foo/", "/foo/instances/w1/")
            for place in (
                "/!/",
                "/!/foo/",
                "/foo/instances/!/",
                "/foo/instances/!/w1/",
                "/foo/instances/!/w1/stats/",
                "/foo/queues/!/tasks",
                "/instances/!/w1/autoscale/",
            ):
                self.assert_problem(self.ask("GET", place), 501, "asynchronous")
                self.assertEqual(self.ask("HEAD", place).status, 501)

    return HttpApiTests
