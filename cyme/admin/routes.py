"""Where each page is, and who may see it and post its form."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred

from cyme.access import Scope
from cyme.admin import actions, apps, branches, events, instances, overview, queues, tasks
from cyme.admin.answers import Answer, Stream
from cyme.admin.visits import Visit

View = Callable[[Visit], Coroutine[Deferred[Any], Any, Answer]]


@frozen(kw_only=True)
class PageRoute:
    """One page.

    :ivar path: below `/admin/`; `<name>` stands for one segment.
    :ivar scope: what a visitor needs to see it, and `form_scope` to post its form.
    :ivar takes_form: whether it has one.
    :ivar is_of_everything: whether it is for nobody who may see one app only.
    """

    path: str
    page: View
    scope: Scope = Scope.READ
    form_scope: Scope = Scope.ADMIN
    takes_form: bool = False
    is_of_everything: bool = False


async def live(visit: Visit) -> Answer:
    """The stream that says when pages may have changed."""
    return Stream()


def _form(path: str, page: View, **more: Any) -> PageRoute:
    """A page that is there for its form."""
    return PageRoute(path=path, page=page, scope=Scope.ADMIN, takes_form=True, **more)


ROUTES = (
    PageRoute(path="", page=overview.show),
    PageRoute(path="live/", page=live),
    PageRoute(path="instances/", page=instances.show_all),
    PageRoute(path="instances/<name>/", page=instances.show),
    PageRoute(path="instances/<name>/log/", page=instances.log),
    _form("instances/<name>/edit/", instances.edit),
    PageRoute(path="apps/", page=apps.show_all),
    PageRoute(path="apps/<app>/", page=apps.show),
    _form("apps/<app>/edit/", apps.edit),
    PageRoute(path="queues/", page=queues.show_all),
    PageRoute(path="queue/", page=queues.show),
    _form("queue/edit/", queues.edit),
    PageRoute(path="branches/", page=branches.show_all, is_of_everything=True),
    PageRoute(path="branches/<branch>/", page=branches.show, is_of_everything=True),
    PageRoute(path="tasks/", page=tasks.show_all),
    PageRoute(path="tasks/<uuid>/", page=tasks.show),
    PageRoute(path="events/", page=events.show_all),
    _form("add/app/", apps.add, is_of_everything=True),
    _form("add/queue/", queues.add),
    _form("add/instance/", instances.add),
    # Each action says itself what it needs.
    PageRoute(path="do/", page=actions.do, form_scope=Scope.OPERATE, takes_form=True),
)
