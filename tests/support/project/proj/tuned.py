"""A Celery app that tells its broker's transport what it wants."""

import os
import time

from celery import Celery

app = Celery("tuned")
app.conf.task_ignore_result = True
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_transport_options = {"visibility_timeout": 7200, "priority_steps": [0, 5]}


@app.task
def tell(path, until):
    """Write down the visibility timeout in force, wait until a file is there; add how often it began."""
    with app.connection_for_read() as connection, open(path, "a") as file:
        file.write(f"{connection.channel().visibility_timeout}\n")
    while not os.path.exists(until):
        time.sleep(0.05)
