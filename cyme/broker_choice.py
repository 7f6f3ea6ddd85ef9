"""Which broker is the default one: said, remembered, found, or the private Redis.

See `design`, "Brokers": an explicit one is never replaced, and a choice that was made
once for a root folder never changes silently.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from cyme.readers import EMBEDDED

#: Seconds that the broker that is looked for may take for each step of its handshake.
PROBE_TIMEOUT = 2.0


@frozen(kw_only=True)
class Choice:
    """The default broker, and why it is that one.

    :ivar broker: a URL, or `EMBEDDED`.
    :ivar reason: for the log.
    """

    broker: str
    reason: str


def choose(
    explicit: str | None, remembered: str | None, candidate: str, answers: Callable[[str], bool]
) -> Choice:
    """Choose the default broker.

    :param explicit: what `--broker` says.
    :param remembered: what the root folder remembers.
    :param candidate: URL of the AMQP broker that is looked for when there is neither.
    :param answers: says whether an AMQP broker answers; blocks.
    """
    if explicit is not None:
        return Choice(broker=explicit, reason="as --broker says")
    if remembered is not None:
        return Choice(broker=remembered, reason="as the root folder remembers; --broker changes it")
    if answers(candidate):
        return Choice(broker=candidate, reason="found at the first start in this root folder, and remembered")
    return Choice(
        broker=EMBEDDED,
        reason="no --broker, and no AMQP broker answered at the first start in this root folder; remembered",
    )


def amqp_answers(url: str) -> bool:
    """Whether an AMQP broker lets us in at `url`; blocks for a few seconds at most."""
    # Imported here because a branch that knows its broker need not load a client for AMQP.
    from kombu.connection import Connection

    limits = {"read_timeout": PROBE_TIMEOUT, "write_timeout": PROBE_TIMEOUT}
    connection = Connection(url, connect_timeout=PROBE_TIMEOUT, heartbeat=0, transport_options=limits)
    # The transport itself is asked, because `Connection.connect` tries twice, with a pause between.
    transport = connection.transport
    try:
        transport.close_connection(transport.establish_connection())
    except (*transport.connection_errors, *transport.channel_errors, OSError):
        return False
    return True
