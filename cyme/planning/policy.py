"""The numbers that judgement uses."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Policy:
    """The numbers that judgement uses, all in seconds but `misses`.

    :ivar misses: unanswered questions in a row after which a worker is unresponsive;
        one lost pong never restarts anything (failure-modes F14).
    :ivar start_timeout: how long a worker may take until its first pong.
    :ivar warm_timeout: how long a worker that is to stop has for its tasks, unless somebody
        gave another deadline.
    :ivar wait_after_broker_revived: how long nothing is concluded from silence after
        the broker came back; kombu reconnects within 30 s (requirements R88).
    :ivar reconsume_after: counts in a row without its consumer, after which a worker is to consume
        anew (failure-modes F1).
    :ivar deaf_after: such counts after which it is restarted.
    :ivar stable_after: a life as long as this makes the failures before it forgotten.
    :ivar steady: the wait where it does not grow; jitter makes it up to twice as long.
    :ivar consumer_timeout_grace: how long the running tasks of a worker may take after its
        broker closed its channel (failure-modes F12); Celery takes no more and ends with them.
    """

    misses: int = 3
    start_timeout: float = 60.0
    warm_timeout: float = 60.0
    wait_after_broker_revived: float = 35.0
    reconsume_after: int = 2
    deaf_after: int = 4
    stable_after: float = 30.0
    backoff_first: float = 1.0
    backoff_most: float = 60.0
    steady: float = 5.0
    consumer_timeout_grace: float = 3600.0
