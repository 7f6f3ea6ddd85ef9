"""Slowing those who guess, and limiting how often an address may ask."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from attrs import define

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: Addresses that are remembered; of more, those that were heard of longest ago are forgotten.
ADDRESSES_MOST = 10_000
#: Failed tries of one address that are answered at once.
FREE_TRIES = 5
#: Seconds between the answers to further ones.
TRY_EVERY = 1.0
#: Seconds that an answer is put off at most; beyond it there is none but "too often".
PUT_OFF_MOST = 10.0


class Guesses:
    """Puts the answers to failed tries off, each address for itself.

    A token that is right is never put off: who shares an address with somebody who guesses is not
    kept out. `FREE_TRIES` at once, and then one in `TRY_EVERY` seconds, however many ask side by side.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        # Address -> the time up to which its tries are used up.
        self._used: OrderedDict[str, float] = OrderedDict()

    def failed(self, address: str) -> float | None:
        """Seconds by which the answer to a try that failed is to be put off; None for "too often"."""
        now = self._clock.seconds()
        used = max(self._used.pop(address, 0.0), now - FREE_TRIES * TRY_EVERY)
        wait = used + TRY_EVERY - now
        is_too_often = wait > PUT_OFF_MOST
        self._used[address] = used if is_too_often else used + TRY_EVERY
        _forget(self._used)
        return None if is_too_often else max(0.0, wait)


@define
class _Bucket:
    left: float
    at: float


class Rates:
    """Limits how often each address may ask.

    :param rate: requests a second, in the long run; 0 is no limit. Twice as many may come at once.
    """

    def __init__(self, clock: IReactorTime, rate: float) -> None:
        self._clock = clock
        self._rate = rate
        self._most = 2 * rate
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def allows(self, address: str) -> bool:
        """Whether one more request of an address is allowed now."""
        if not self._rate:
            return True
        now = self._clock.seconds()
        bucket = self._buckets.get(address)
        if bucket is None:
            self._buckets[address] = bucket = _Bucket(self._most, now)
            _forget(self._buckets)
        else:
            self._buckets.move_to_end(address)
        bucket.left = min(self._most, bucket.left + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.left < 1.0:
            return False
        bucket.left -= 1.0
        return True


def _forget(remembered: OrderedDict[str, Any]) -> None:
    if len(remembered) > ADDRESSES_MOST:
        remembered.popitem(last=False)
