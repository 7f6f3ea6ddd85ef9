"""When the next attempt of a request is due. Pure."""

from __future__ import annotations

from datetime import timezone
from email.utils import parsedate_to_datetime

#: Statuses of responses after which there is another attempt.
RETRIED = frozenset({429, 502, 503, 504})
#: Those whose `Retry-After` says when.
TELLING = frozenset({429, 503})

#: Seconds before the first repetition, when the target names no time; it doubles each time.
FIRST = 1.0
#: Seconds that no wait exceeds, whatever the target says. The message of a task that waits stays
#: with a worker, unacknowledged until the next attempt is over: after half an hour RabbitMQ closes the
#: worker's channel (failure-modes F12), after an hour Redis delivers it again (F19).
LONGEST = 900.0


def exponential(retries: int, random: float) -> float:
    """Seconds until the next attempt: doubling, less up to half of it, so that failures spread.

    :param retries: how many repetitions there were.
    :param random: at least 0 and less than 1.
    """
    return float(min(LONGEST, FIRST * 2.0 ** min(retries, 30)) * (1 - random / 2))


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3); None when it says nothing.

    :param now: seconds since the epoch.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        # No more digits than can matter: int() of thousands is an error.
        return float(text[:15])
    try:
        at = parsedate_to_datetime(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=timezone.utc)
        return max(0.0, at.timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def delay(retries: int, random: float, asked: float | None = None) -> float:
    """Seconds until the next attempt, `asked` being what the target wants."""
    own = exponential(retries, random)
    # Those who were told the same time don't come at the same moment.
    return own if asked is None else min(LONGEST, asked + FIRST * random)
