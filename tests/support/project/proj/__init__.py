"""A user's own Celery project, for tests."""
