"""Celery's remote control, spoken by kombu, off the reactor's thread.

Each broker has one line: a thread that owns one connection with one reply queue. Any
number of questions may be under way on it. See Note [Two threads] in `lines`.
"""

from cyme.remote.control import RemoteControl

__all__ = ["RemoteControl"]
