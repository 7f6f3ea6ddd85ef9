"""What Cyme has inside worker processes: the task that makes queued requests, and its Celery app.

`celery` is the app that workers run whose branch app names no `celery_app`; `webhook` is the task,
which the workers of users' own apps know too; `answering` sends results back to branches. The
task's parts are one module each: `requesting` makes one attempt (over `connecting`, by the rules
of `redirects`, `contents`), `backoff` says when the next one is due, `callbacks` tells others of
the end, and `publishing` is how messages leave a worker.

No Twisted here and nothing else of Cyme but `cyme.targets` and `cyme.holders`, which makes workers
small and quick to start. For the same reason the HTTP library is imported by the first request, not
by the worker. `holding` has workers on Redis write down what they hold.
"""
