"""The Celery app of a user's own project."""

import os
import time

from celery import Celery

#: The broker that the project names itself; the one that Cyme gives its workers wins.
app = Celery("proj", broker="amqp://nobody@192.0.2.1//")
app.conf.task_ignore_result = True


@app.task
def leave(path, text):
    """Write a file, moved into place whole, with the text and the pid of who wrote it."""
    with open(path + ".part", "w") as file:
        file.write(f"{text} {os.getpid()}")
    os.rename(path + ".part", path)


@app.task(acks_late=True)
def wait_for(path, until):
    """Say that it runs by a file, wait until another one is there, then say that it has ended."""
    leave(path + ".begun", "begun")
    while not os.path.exists(until):
        time.sleep(0.05)
    leave(path + ".ended", "ended")


@app.task
def eat(path, until, mebibytes):
    """Take memory and keep it until a file is there, as `wait_for` does."""
    eaten = bytearray(os.urandom(1) * (mebibytes << 20))
    wait_for(path, until)
    return len(eaten)
