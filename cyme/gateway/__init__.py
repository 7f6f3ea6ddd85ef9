"""Requests as tasks: published with confirmation, their results collected and kept.

Each broker has two lines, a `publishing` one and a `collecting` one; each is a thread that owns
one connection. The reactor's half of both is in `lines`.
"""
