"""The verbs of apps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from attrs import evolve

from cyme.controller.deferring import returns_deferred
from cyme.controller.details import app_details, broker_of
from cyme.controller.names import app_name
from cyme.controller.parameters import START_PARAMETERS, known, start_changes
from cyme.declarations import App, Declaration
from cyme.errors import NoSuchApp

if TYPE_CHECKING:
    from cyme.interfaces import ICatalogue
    from cyme.narration import Narrator


class Apps:
    """Adds, changes, shows and removes apps.

    :param default_broker: gives the URL of the broker of apps that name none.
    """

    def __init__(self, catalogue: ICatalogue, narrator: Narrator, default_broker: Callable[[], str]) -> None:
        self._catalogue = catalogue
        self._narrator = narrator
        self._default_broker = default_broker

    def all(self) -> list[str]:
        """The names of all apps."""
        return [app.name for app in self._catalogue.apps()]

    def get(self, name: str) -> dict[str, Any]:
        """One app's configuration.

        :raises NoSuchApp: when there is none.
        """
        return app_details(self._app(name), self._default_broker())

    @returns_deferred
    async def add(self, name: str | None, **params: Any) -> tuple[bool, dict[str, Any]]:
        """Add an app, or change one by the parameters given.

        :param name: None for a generated name.
        :param params: `parameters.START_PARAMETERS`. Without `hostname` and `broker` the
            other parameters of a broker are ignored (requirements R30).
        :return: fires with (whether it is new, its configuration).
        :raises InvalidName, InvalidParameter: when something can't be; nothing is changed.
        """
        changes = start_changes(known(params, START_PARAMETERS))
        chosen = app_name(name) if name is not None else str(uuid4())
        created = False

        def decide() -> list[Declaration]:
            nonlocal created
            there = self._catalogue.app(chosen)
            created = there is None
            return [evolve(there or App(name=chosen), **changes)]

        async def work() -> dict[str, Any]:
            (app,) = await self._catalogue.change(decide)
            assert isinstance(app, App)
            return app_details(app, self._default_broker())

        details = await self._narrator.narrated("App", "add", {"name": name, **changes}, work)
        return created, details

    @returns_deferred
    async def delete(self, name: str) -> None:
        """Remove an app with its instances and its queue declarations, in one transaction.

        :raises NoSuchApp: when there is none.
        """

        def decide() -> Iterator[Declaration]:
            app = self._app(name)
            for instance in self._catalogue.instances(name):
                broker = broker_of(instance, app, self._default_broker())
                yield evolve(instance, deleted=True, broker=broker)
            for queue in self._catalogue.queues(name):
                yield evolve(queue, deleted=True)
            rollout = self._catalogue.rollout(name)
            if rollout is not None:
                yield evolve(rollout, deleted=True)
            yield evolve(app, deleted=True)

        async def work() -> None:
            await self._catalogue.change(decide)

        await self._narrator.narrated("App", "delete", {"name": name}, work)

    def _app(self, name: str) -> App:
        app = self._catalogue.app(name)
        if app is None:
            raise NoSuchApp(name)
        return app
