"""A process that is all gateway, to be killed: `python -m tests.support.gatewayprocess FOLDER BROKER RATE`.

It queues tasks, `RATE` at the same time and without end, writes the id of each that was issued as a line
to its standard output, and collects results. With a rate of 0 it only collects.
"""

from __future__ import annotations

import os
import sys

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.contracts.gateway import MESSAGE
from tests.functional.gatewayworld import make_gateway, open_store


async def run(folder: str, broker: str, rate: int) -> None:
    store = open_store(folder)
    gateway = make_gateway(store, broker)
    await gateway.startService()
    os.write(1, b"ready\n")

    async def queue() -> None:
        while True:
            task_id = await gateway.queue(broker, MESSAGE)
            os.write(1, f"{task_id}\n".encode())

    for _ in range(rate):
        Deferred.fromCoroutine(queue()).addErrback(failed)


def failed(failure: Failure) -> None:
    failure.printTraceback()
    os._exit(1)


if __name__ == "__main__":
    Deferred.fromCoroutine(run(sys.argv[1], sys.argv[2], int(sys.argv[3]))).addErrback(failed)
    reactor.run()  # type: ignore[attr-defined]
