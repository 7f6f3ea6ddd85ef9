"""Which process holds a message of a Redis broker: what workers write, and what a branch reads.

No Twisted here and nothing else of Cyme: it runs inside workers too.

Note [Who holds what on Redis]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
Redis knows no acknowledgement. kombu (5.7) moves what a worker fetched from the queue's list to
the hash `unacked`, delivery tag -> JSON of `[message, exchange, routing key]`, with the time in
the sorted set `unacked_index`, and whoever consumes from that database puts back what is there
for longer than his `visibility_timeout`, an hour. All consumers share the two, and nothing in
them tells whose a message is. Of a worker that was killed with -9 a branch knows at once that it
is gone, so the messages say who has them: each worker writes into what it fetches its
*incarnation*, which no other process ever has, and the list that it came from.

- The entries stay where kombu has them, and have its form: who knows nothing of the mark
  acknowledges, rejects and restores as ever, and what no branch puts back comes back after the
  visibility timeout, which is the app's own. Names of its own for each worker (`unacked_key`)
  would hide what a machine held that never comes back from all others.
- A message is put back only if its entry still is what was read, in one step in Redis. So any
  number of branches may do it, again and again; and what another process has fetched meanwhile
  has that one's mark.
- What goes back to a queue loses the mark when a worker of Cyme's puts it there. A plain worker
  that restores after the visibility timeout leaves it; if another plain worker has the message
  while the process dies that held it an hour ago, it runs once more than need be.
- It goes where the next consumer looks first, as kombu's own restoring has it, and is marked as
  delivered again: see Note [Counted deliveries] in `cyme.tasks.webhook`.

Not covered: a message that Redis has handed out and that is not in `unacked` yet when the worker is
killed (some tenths of a millisecond) is lost, in kombu as ever. An app that renames the two keys
(`unacked_key`, `unacked_index_key`, `global_keyprefix`) has the visibility timeout alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

#: kombu's names for the hash and the sorted set.
UNACKED, UNACKED_INDEX = "unacked", "unacked_index"

#: What is written into a message, beside its body, headers and properties.
HOLDER, LIST = "cyme-holder", "cyme-list"


def incarnation(boot_id: str, pid: int, start_ticks: int) -> str:
    """The name of a process that none had before, nor will have, on any machine.

    :param start_ticks: when it was started, in clock ticks after the boot.
    """
    return f"{boot_id}/{pid}/{start_ticks}"


def mark(message: dict[str, Any], holder: str, source: str) -> None:
    """Write into a message who has it.

    :param message: as kombu's virtual transports have it, raw.
    :param source: the Redis list that it goes back to.
    """
    message[HOLDER] = holder
    message[LIST] = source


def unmark(message: dict[str, Any]) -> None:
    """Remove what `mark` wrote."""
    message.pop(HOLDER, None)
    message.pop(LIST, None)


def put_back(entry: bytes | str, holders: Collection[str]) -> tuple[str, str] | None:
    """What a value of `unacked` is to become.

    :param holders: incarnations that live no more.
    :return: the Redis list and the text to push there; None when it is not held by one of them.
    """
    try:
        message = json.loads(entry)[0]
        source = message[LIST]
        if message[HOLDER] not in holders or not isinstance(source, str):
            return None
        unmark(message)
        # Both, as kombu's `Channel._do_restore_message` does; the second is what a task sees.
        message.setdefault("headers", {})["redelivered"] = True
        message["properties"]["delivery_info"]["redelivered"] = True
        return source, json.dumps(message)
    except (ValueError, LookupError, TypeError, AttributeError):
        # Nobody's message, or none.
        return None
