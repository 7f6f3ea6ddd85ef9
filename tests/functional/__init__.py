"""Tests on real parts: RabbitMQ, Redis, Celery, twistd, HTTP."""
