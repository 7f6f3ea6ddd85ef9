"""The pages together: each request finds its page, its visitor, and its way back.

Every page is refused to who may not see it before its own code runs, and every form to who was not
given it; what a page raises becomes a page too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from klein import Klein
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from cyme.admin.answers import Answer, Page, Redirect, Stream
from cyme.admin.flashes import Flash, Flashes
from cyme.admin.live import Ticks
from cyme.admin.logtail import Logs
from cyme.admin.rendering import Renderer, path, safe
from cyme.admin.routes import ROUTES, PageRoute
from cyme.admin.visits import Visit, Visitor, Visitors, comes_from_elsewhere
from cyme.api.access import asker_of
from cyme.api.bodies import FORM, body_fields, query_fields
from cyme.api.guard import Guard
from cyme.api.problems import MalformedRequest, NoSuchRoute, status_of
from cyme.api.routing import shielded
from cyme.api.streams import Streams
from cyme.asking import asked_by
from cyme.errors import CymeError, MalformedBody

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from cyme.interfaces import IController

#: The cookie that says what is to be said on the next page.
FLASH = b"cyme_flash"
#: The field of a form that proves for whom it was made.
PROOF = "proof"


class Pages:
    """Everything under `/admin`.

    :param guard: refuses forms that other sites send.
    :param visitors: knows who looks.
    :param new_name: makes a name that nobody guesses.
    :ivar resource: answers the requests.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        controller: IController,
        guard: Guard,
        visitors: Visitors,
        renderer: Renderer,
        new_name: Callable[[], str],
    ) -> None:
        self._clock = clock
        self._controller = controller
        self._guard = guard
        self._visitors = visitors
        self._renderer = renderer
        self._flashes = Flashes(clock, new_name)
        self._ticks = Ticks(clock, controller)
        self._logs = Logs(clock, controller)
        self._known: WeakKeyDictionary[Request, Visitor | None] = WeakKeyDictionary()
        # Frames are kept by their ids, which mean different things in the two.
        self._pages_streams, self._log_streams = Streams(clock), Streams(clock)
        self.resource: IResource = self._make_app().resource()

    def close(self) -> None:
        """End all streams, and begin no more."""
        self._pages_streams.close()
        self._log_streams.close()
        self._ticks.close()

    # -- routes -------------------------------------------------------------------------

    def _make_app(self) -> Klein:
        app = Klein()
        app.url_map.merge_slashes = False
        app.url_map.strict_slashes = False
        app.url_map.redirect_defaults = False
        for route in ROUTES:
            methods = ("GET", "POST") if route.takes_form else ("GET",)
            where = f"/admin/{route.path}".rstrip("/")
            app.route(where, methods=methods, endpoint=route.path)(self._server(route))
        app.route("/admin/static/<name>", methods=("GET",), endpoint="static")(self._file)
        app.route("/admin/login", methods=("GET", "POST"), endpoint="login")(self._log_in)
        app.route("/admin/logout", methods=("POST",), endpoint="logout")(self._log_out)
        app.handle_errors(Exception)(self._failed)  # type: ignore[arg-type]
        return app

    def _file(self, request: Request, name: str) -> bytes:
        found = self._renderer.files.render(request, name)
        if found is None:
            raise NoSuchRoute(request.path.decode("ascii", "replace"))
        return found

    def _server(self, route: PageRoute) -> Any:
        def serve(request: Request, **names: str) -> Any:
            return self._serve(route, request, **names)

        return serve

    def _serve(self, route: PageRoute, request: Request, **names: str) -> Any:
        if request.method == b"POST":
            self._guard.check_change(request)
        visitor = self._visitor(request)
        if visitor is None:
            return self._ask_to_log_in(request)
        query = dict(query_fields(request))
        form: dict[str, list[str]] = {}
        if request.method == b"POST":
            form = self._form(request, visitor)
        visit = Visit(
            request=request,
            clock=self._clock,
            controller=self._controller,
            visitor=visitor,
            names=names,
            query=query,
            form=form,
        )
        visit.require(route.scope if not form else route.form_scope)
        if route.is_of_everything:
            visit.require_everything()
        with asked_by(asker_of(request)):
            answering: Deferred[Answer] = Deferred.fromCoroutine(route.page(visit))
        if form:
            answering = shielded(answering)
        return answering.addCallback(self._answer, request, visitor)

    def _visitor(self, request: Request) -> Visitor | None:
        """Who sends a request; found out once, since that may open a session."""
        if request not in self._known:
            visitor = self._known[request] = self._visitors.visitor(request)
            if visitor is not None:
                # The why-log names them.
                request.principal = visitor.principal  # type: ignore[attr-defined]
        return self._known[request]

    def _form(self, request: Request, visitor: Visitor | None) -> dict[str, list[str]]:
        """The fields that were posted.

        :raises CymeError: when they may not have been.
        """
        fields, is_json = body_fields(request)
        if is_json:
            raise MalformedBody(f"forms are sent as {FORM}")
        form: dict[str, list[str]] = {PROOF: []}
        for name, value in fields:
            form.setdefault(name, []).append(value)
        if visitor is not None:
            self._visitors.check_proof(request, visitor, "".join(form.pop(PROOF)))
            form[PROOF] = []
        return form

    # -- answers ------------------------------------------------------------------------

    def _answer(self, answer: Answer, request: Request, visitor: Visitor) -> Any:
        if isinstance(answer, Stream):
            streams = self._log_streams if answer.instance else self._pages_streams
            return streams.answer(request, self._follow(answer), {})
        if isinstance(answer, Redirect):
            return self._redirect(request, answer)
        return self._page(request, answer, visitor)

    def _follow(self, answer: Stream) -> Any:
        if answer.instance:
            return partial(self._logs.follow, answer.app, answer.instance)
        return self._ticks.follow

    def _redirect(self, request: Request, answer: Redirect) -> bytes:
        if answer.done or answer.problems:
            name = self._flashes.put(Flash(answer.done, answer.problems))
            request.addCookie(FLASH, name, path=b"/admin/", httpOnly=True, sameSite=b"strict", max_age=b"60")
        request.setResponseCode(303)
        request.responseHeaders.setRawHeaders("Location", [answer.to])
        request.responseHeaders.setRawHeaders("Content-Length", ["0"])
        return b""

    def _page(self, request: Request, page: Page, visitor: Visitor | None) -> bytes | Deferred[bytes]:
        if self._renderer.is_compiled:
            return self._render(request, page, visitor)
        return self._renderer.compile().addCallback(lambda _: self._render(request, page, visitor))

    def _render(self, request: Request, page: Page, visitor: Visitor | None) -> bytes:
        return self._renderer.render(
            request,
            page.template,
            page.values,
            status=page.status,
            now=self._clock.seconds(),
            branch=self._controller.overview.branch,
            visitor=visitor,
            flash=self._take_flash(request),
            is_open=not self._visitors.log_in_is_needed,
        )

    def _take_flash(self, request: Request) -> Flash | None:
        name = request.getCookie(FLASH)
        # A page that fetches itself anew would have said it before anybody could read it.
        if not name or request.requestHeaders.hasHeader("Cyme-Live"):
            return None
        request.addCookie(FLASH, b"", path=b"/admin/", max_age=b"0")
        return self._flashes.take(name.decode("ascii", "replace"))

    def _failed(self, request: Request, failure: Failure) -> Any:
        error = failure.value
        if isinstance(error, HTTPException):
            where = request.path.decode("ascii", "replace")
            error = NoSuchRoute(where)
            status: int | None = 405 if failure.check(MethodNotAllowed) else 404
        else:
            status = status_of(error)
        if status is None or not isinstance(error, CymeError):
            incident = uuid4().hex
            self._log.failure("incident {incident}: a page failed", failure, incident=incident)
            status, text = 500, f"this branch failed to answer; its log has incident {incident}"
        else:
            text = str(error)
        visitor = None
        if not isinstance(error, MalformedRequest):
            visitor = self._visitor(request)
        return self._page(request, Page("error.html", {"status": status, "text": text}, status), visitor)

    # -- logging in ---------------------------------------------------------------------

    def _ask_to_log_in(self, request: Request) -> bytes:
        wanted = request.uri.decode("ascii", "replace") if request.method == b"GET" else None
        return self._redirect(request, Redirect(path("login", next=wanted)))

    def _log_in(self, request: Request) -> Any:
        query = dict(query_fields(request))
        if not self._visitors.log_in_is_needed:
            return self._redirect(request, Redirect(path()))
        if request.method == b"GET":
            wanted = query.get("next", "")
            onward = safe(wanted) if comes_from_elsewhere(request) else None
            values = {"next": wanted, "problem": None, "onward": onward}
            return self._page(request, Page("login.html", values), None)
        self._guard.check_change(request)
        form = self._form(request, None)
        wanted = "".join(form.get("next", ()))

        def tried(is_let_in: bool) -> bytes | Deferred[bytes]:
            if is_let_in:
                return self._redirect(request, Redirect(safe(wanted)))
            return refused("There is no such token.")

        def refused(problem: str) -> bytes | Deferred[bytes]:
            values = {"next": wanted, "problem": problem, "onward": None}
            return self._page(request, Page("login.html", values, 403), None)

        def failed(failure: Failure) -> bytes | Deferred[bytes]:
            failure.trap(CymeError)
            return refused(str(failure.value))

        token = "".join(form.get("token", ())).strip()
        trying = maybeDeferred(self._visitors.log_in, request, token)
        return trying.addCallback(tried).addErrback(failed)

    def _log_out(self, request: Request) -> bytes:
        self._guard.check_change(request)
        visitor = self._visitor(request)
        if visitor is not None:
            self._form(request, visitor)
            self._visitors.log_out(request)
        return self._redirect(request, Redirect(path("login")))
