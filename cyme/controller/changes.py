"""Changes of declarations as events of the why-log: what was created, changed or deleted, and who asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import fields

from cyme.asking import DATABASE, START, asker
from cyme.brokers import redacted
from cyme.declarations import App, Declaration, Instance, Queue

if TYPE_CHECKING:
    from cyme.interfaces import ICatalogue, IEvents

#: What says which declaration it is and when it was written, and changes without having been changed.
_NOT_CONTENT = frozenset({"name", "app", "version", "deleted", "created_at"})
#: Fields that are named when they change, but not told: users put passwords there.
UNTOLD = frozenset({"arguments", "extra_config"})


class Changes:
    """Makes every change of a declaration an event: `app-created`, `instance-changed`, `queue-deleted` …

    An event of something new tells what it is; one of a change names the fields in `changed` and
    tells `before` and `after`.

    :param branch_id: whose changes have their asker named; another branch's why-log names its own.
    """

    def __init__(self, catalogue: ICatalogue, events: IEvents, branch_id: str) -> None:
        self._events = events
        self._branch_id = branch_id
        # What was told last of each: the catalogue's own values, to compare with.
        self._told: dict[tuple[str, ...], Declaration] = {}
        catalogue.subscribe(self._changed)

    def _changed(self, declarations: tuple[Declaration, ...]) -> None:
        for one in declarations:
            # Other kinds of declarations tell their own story.
            if isinstance(one, (App, Queue, Instance)):
                self._take(one)

    def _take(self, one: App | Queue | Instance) -> None:
        key = (one.kind, *one.key)
        before = self._told.pop(key, None)
        if not one.deleted:
            self._told[key] = one
        someone, writer = asker(), one.version.branch
        if someone == START or (someone == DATABASE and writer != self._branch_id):
            # Nothing changed, or a branch that shares the database did it, and told it there.
            return
        details: dict[str, Any] = {}
        if one.deleted:
            if before is None:
                return
            what = "deleted"
        elif before is None:
            what = "created"
            details = _told(one, [name for name in _content(one) if getattr(one, name) is not None])
        else:
            changed = [name for name in _content(one) if getattr(one, name) != getattr(before, name)]
            if not changed:
                return
            what = "changed"
            details = {"changed": changed, "before": _told(before, changed), "after": _told(one, changed)}
        if isinstance(one, Queue):
            details["queue"] = one.name
        if someone.branch is not None:
            details["asked_at"] = someone.branch
        self._events.record(
            f"{one.kind}-{what}",
            app=one.name if isinstance(one, App) else one.app,
            instance=one.name if isinstance(one, Instance) else None,
            who=someone.who if writer == self._branch_id else f"branch {writer}",
            **details,
        )


def _content(one: Declaration) -> list[str]:
    """The fields of a declaration that say what is declared."""
    return [field.name for field in fields(type(one)) if field.name not in _NOT_CONTENT]


def _told(one: Declaration, names: list[str]) -> dict[str, Any]:
    """Fields of a declaration as an event may show them."""
    shown: dict[str, Any] = {}
    for name in names:
        value = getattr(one, name)
        if name == "broker" and value is not None:
            shown[name] = redacted(value)
        elif name not in UNTOLD:
            shown[name] = value
    return shown
