"""The pages of branches."""

from __future__ import annotations

from cyme.admin.answers import Answer, Page
from cyme.admin.overview import shares
from cyme.admin.visits import Visit
from cyme.errors import NoSuchBranch


async def show_all(visit: Visit) -> Answer:
    """All branches, with how their instances are."""
    states = await visit.controller.overview.states()
    rows = [
        {**one, "shares": shares(states["branches"].get(one["id"], {}))}
        for one in visit.controller.overview.branches()
    ]
    return Page("branches.html", {"rows": rows, "silent": states["silent"]})


async def show(visit: Visit) -> Answer:
    """One branch."""
    id, controller = visit.names["branch"], visit.controller
    found = next((one for one in controller.overview.branches() if one["id"] == id), None)
    if found is None:
        raise NoSuchBranch(id)
    states = await controller.overview.states()
    of_branch = states["branches"].get(id, {})
    return Page("branch.html", {"it": found, "shares": shares(of_branch), "silent": states["silent"]})
