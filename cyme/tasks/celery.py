"""The Celery app that Cyme's own workers run; only worker processes import this.

Workers of apps that name no `celery_app` are started with `celery -A cyme.tasks`.
"""

from __future__ import annotations

import os

from celery import Celery

#: The app that `celery -A cyme.tasks` takes. A branch hands the broker over by environment,
#: where `ps` does not show its password.
app = Celery("cyme", broker=os.environ.get("CELERY_BROKER_URL"), include=["cyme.tasks.webhook"])

app.conf.update(
    # A task that a dying worker had is another's (failure-modes F18), so acknowledge it late,
    # and hoard none (F20).
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    # Nothing is ever unpickled.
    accept_content=["json"],
    task_serializer="json",
    result_serializer="json",
    # An outage of the broker is waited out, however long (F13).
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
)
