"""Puts back on a Redis broker what dead processes held; blocks.

See Note [Who holds what on Redis] in `cyme.holders`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cyme.holders import UNACKED, UNACKED_INDEX, put_back
from cyme.remote.errands import connected

#: Entries that are looked at in one step, in which Redis serves nobody else.
AT_ONCE = 50

#: Of some entries of the hash, those in which one of the given texts stands. What stands there
#: as part of a body is sorted out later. So bodies that concern nobody stay in Redis.
_FIND = """
local part = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local found = {}
for i = 1, #part[2], 2 do
    for j = 3, #ARGV do
        if string.find(part[2][i + 1], ARGV[j], 1, true) then
            found[#found + 1] = part[2][i]
            found[#found + 1] = part[2][i + 1]
            break
        end
    end
end
return {part[1], found}
"""

#: One message back to its list, if its entry is as it was. The push comes first: a Redis that is
#: full refuses that, and the script ends there.
_RESTORE = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
    return 0
end
redis.call('RPUSH', KEYS[3], ARGV[3])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
"""


def restore(broker: str, holders: Sequence[str], timeout: float) -> int:
    """Put back what processes held; see `IRemoteControl.restore`."""
    with connected(broker, timeout) as connection:
        client = connection.channel().client
        return sum(_restore(client, tag, entry, holders) for tag, entry in _find(client, holders))


def _find(client: Any, holders: Sequence[str]) -> Iterator[tuple[bytes, bytes]]:
    """The entries in which a holder is named: delivery tag and value, some of them twice perhaps."""
    cursor: Any = 0
    while True:
        cursor, found = client.eval(_FIND, 1, UNACKED, cursor, AT_ONCE, *holders)
        yield from zip(found[::2], found[1::2], strict=True)
        if int(cursor) == 0:
            return


def _restore(client: Any, tag: bytes, entry: bytes, holders: Sequence[str]) -> int:
    """Put one message back: 1 if that was done, 0 if it is somebody else's."""
    found = put_back(entry, holders)
    if found is None:
        return 0
    source, message = found
    return int(client.eval(_RESTORE, 3, UNACKED, UNACKED_INDEX, source, tag, entry, message))
