"""When a request is tried again, and after how long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from cyme.client.errors import MalformedAnswer, Unreachable
from cyme.client.wire import Answer, Call

#: Statuses that may be gone a moment later.
PASSING = frozenset({429, 502, 503, 504})


@frozen(kw_only=True)
class Retry:
    """How often safe requests are tried again, and when.

    :ivar attempts: the most of them, the first included.
    :ivar first: seconds before the second attempt, on average; each wait is twice the one before.
    :ivar most: the longest such wait.
    :ivar heeds: the longest `Retry-After` that is waited for; what asks for more is not tried again.
    """

    attempts: int = 4
    first: float = 0.1
    most: float = 5.0
    heeds: float = 10.0

    def delay(
        self,
        call: Call[Any],
        attempt: int,
        outcome: Answer | Unreachable,
        jitter: Callable[[], float],
    ) -> float | None:
        """Seconds until the next attempt; None when there is none.

        :param attempt: how many there were.
        :param jitter: a number from 0 to 1, so that many clients don't come back in step.
        """
        if not call.is_safe or attempt >= self.attempts or isinstance(outcome, MalformedAnswer):
            return None
        if isinstance(outcome, Answer):
            if outcome.status not in PASSING or call.is_answer(outcome):
                return None
            if outcome.retry_after is not None:
                return outcome.retry_after if outcome.retry_after <= self.heeds else None
        wait = min(self.most, self.first * float(2 ** (attempt - 1)))
        return wait * (0.5 + jitter())


#: Nothing is tried again.
NO_RETRY = Retry(attempts=1)
