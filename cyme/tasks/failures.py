"""Why a request has no response: one class for each kind, whose name its caller is told."""

from __future__ import annotations


class RequestFailed(Exception):
    """A request that got no response; the one argument says why, for people.

    One argument and no more: these are pickled from a worker's pool to its main process.

    :cvar is_retried: whether another attempt may end better.
    """

    is_retried = False


class InvalidRequest(RequestFailed):
    """What HTTP can't say, such as a header with a line break."""


class TargetRefused(RequestFailed):
    """The request would have gone where none may go; what `cyme.targets` says of that."""


class HostNotFound(RequestFailed):
    """The host's name has no address, or nobody could be asked for it."""

    is_retried = True


class ConnectionFailed(RequestFailed):
    """No connection came about, or it broke before the response was complete."""

    is_retried = True


class TlsFailed(RequestFailed):
    """The target could not prove who it is."""


class TimedOut(RequestFailed):
    """The response was not there in time."""

    is_retried = True


class TooManyRedirects(RequestFailed):
    """The target sent the request on once too often."""


class TooManyDeliveries(RequestFailed):
    """The workers that had the request died, as often as is allowed."""


class NotNow(RequestFailed):
    """The target answered, and the answer is to try again; only seen while there are attempts left."""

    is_retried = True
