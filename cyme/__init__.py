"""Cyme, the control plane for Celery: start, place, scale, watch and heal workers over HTTP."""

__version__ = "1.0.0.dev0"
