"""The controller itself: the verbs together, and their other side on this branch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zope.interface import implementer

from cyme.controller.apps import Apps
from cyme.controller.branches import Branches
from cyme.controller.changes import Changes
from cyme.controller.cordoning import CordonActor, follow_cordon
from cyme.controller.evacuating import Evacuating
from cyme.controller.history import History, HistoryActor
from cyme.controller.instances import Instances
from cyme.controller.issued import ACTOR, IssuedTasks, TaskActor, name_of
from cyme.controller.moving import Moving
from cyme.controller.overview import Overview, OverviewActor
from cyme.controller.owner import BranchActor, InstanceActor
from cyme.controller.placing import Places
from cyme.controller.queues import Queues
from cyme.controller.recency import LastEvents
from cyme.controller.rolling import Rolling
from cyme.controller.rollouts import RolloutActor, Rollouts
from cyme.controller.statuses import StatusActor, Statuses
from cyme.controller.tasks import NO_RULES, Rules, Tasks
from cyme.controller.trends import Trends
from cyme.declarations import Declaration, Instance
from cyme.interfaces import IController

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from cyme.actors import Actors
    from cyme.interfaces import ICatalogue, IEvents, IGateway, IRemoteControl, ISupervisor
    from cyme.membership import Membership


@implementer(IController)
class Controller:
    """Every verb of Cyme; see the package's docstring for how to use it.

    :param default_broker: gives the URL of the broker of apps that name none; asked at each use.
    :ivar rolling: carries rolling restarts out; to be started when all else is up, like `moving`,
        which moves what is here when this branch is drained, `evacuating`, and `trends`, which samples.
    """

    def __init__(
        self,
        clock: IReactorTime,
        catalogue: ICatalogue,
        supervisor: ISupervisor,
        actors: Actors,
        presence: Membership,
        places: Places,
        branch_id: str,
        default_broker: Callable[[], str],
        events: IEvents,
        remote: IRemoteControl,
        gateway: IGateway,
        rules: Rules,
        restart_timeout: float,
        evacuate_after: float | None,
        connected: Callable[[], bool],
    ) -> None:
        self.moving = Moving(
            clock, catalogue, supervisor, actors, places, events, branch_id, restart_timeout
        )
        self.evacuating = Evacuating(
            clock,
            catalogue,
            actors,
            presence,
            places,
            events,
            branch_id,
            connected,
            evacuate_after,
        )
        self.apps = Apps(catalogue, actors.narrator, default_broker)
        self.queues = Queues(clock, catalogue, remote, actors.narrator, default_broker)
        self.instances = Instances(
            catalogue, supervisor, actors, places, presence, branch_id, default_broker
        )
        issued = IssuedTasks(clock, catalogue, gateway, actors, presence, branch_id)
        self.tasks = Tasks(clock, catalogue, gateway, issued, default_broker, rules)
        self.branches = Branches(clock, catalogue, actors, presence, places, events, self.evacuating)
        self.events = History(clock, catalogue, events, actors, branch_id)
        self.rollouts = Rollouts(clock, catalogue, actors, events, branch_id, restart_timeout)
        self.rolling = Rolling(clock, catalogue, actors, events, branch_id)
        self.trends = Trends(
            clock,
            catalogue,
            supervisor,
            remote,
            branch_id,
            # The first of those that live, see Note [What a trend knows].
            lambda: min(presence.members(), default=branch_id) == branch_id,
            default_broker,
        )
        here = StatusActor(catalogue, supervisor, LastEvents(events), branch_id)
        newest = OverviewActor(self.trends, events, gateway)
        actors.register("Branch", here, lambda: [branch_id])
        actors.register("Branch", newest, lambda: [branch_id])
        statuses = Statuses(clock, actors, presence, here, branch_id)
        self.overview = Overview(
            clock, catalogue, actors, presence, statuses, newest, self.trends, issued, branch_id
        )


def make_controller(
    clock: IReactorTime,
    catalogue: ICatalogue,
    supervisor: ISupervisor,
    actors: Actors,
    presence: Membership,
    branch_id: str,
    default_broker: Callable[[], str],
    events: IEvents,
    remote: IRemoteControl,
    gateway: IGateway,
    *,
    rules: Rules = NO_RULES,
    restart_timeout: float = 180.0,
    evacuate_after: float | None = None,
    shut_down: Callable[[], None] = lambda: None,
) -> Controller:
    """The controller of a branch, and in `actors` the other side of its verbs.

    Start `actors` when the catalogue is loaded: then this branch answers for its instances.

    :param default_broker: gives the URL of the broker of apps that name none; asked at each use.
    :param rules: which targets requests may have.
    :param restart_timeout: seconds that an instance gets to come back in a rolling restart, or to
        start on another branch.
    :param evacuate_after: see `Evacuating`.
    :param shut_down: stops the branch as SIGTERM does.
    """

    def own_instances() -> list[str]:
        return [one.name for one in catalogue.instances() if one.branch == branch_id]

    def declarations_changed(declarations: tuple[Declaration, ...]) -> None:
        for one in declarations:
            if isinstance(one, Instance):
                mine = one.branch == branch_id and not one.deleted
                (actors.own if mine else actors.disown)("Instance", one.name)

    places = Places(catalogue, presence)

    def is_alone() -> bool:
        return places.alone() is not None

    owner = InstanceActor(clock, catalogue, supervisor, actors, is_alone, branch_id, default_broker)
    cordon = CordonActor(clock, catalogue, supervisor, events, branch_id, default_broker, shut_down)
    actors.register("Instance", owner, own_instances, accepts=True)
    actors.register("Instance", HistoryActor(events), own_instances)
    actors.register(ACTOR, TaskActor(gateway, branch_id), lambda: [name_of(branch_id)])
    actors.register("Branch", BranchActor(owner), lambda: [branch_id])
    actors.register("Branch", RolloutActor(clock, catalogue, events), lambda: [branch_id])
    actors.register("Branch", cordon, lambda: [branch_id])
    catalogue.subscribe(declarations_changed)
    follow_cordon(catalogue, actors, branch_id)
    Changes(catalogue, events, branch_id)
    return Controller(
        clock,
        catalogue,
        supervisor,
        actors,
        presence,
        places,
        branch_id,
        default_broker,
        events,
        remote,
        gateway,
        rules,
        restart_timeout,
        evacuate_after,
        lambda: actors.connected,
    )
