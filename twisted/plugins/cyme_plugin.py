"""Tells `twistd` about Cyme, in a few lines, since every `twistd` command reads this file."""

from twisted.application.service import ServiceMaker

cyme = ServiceMaker(
    "Cyme",
    "cyme.tap",
    "The control plane for Celery: one branch, which starts, scales, watches and heals workers.",
    "cyme",
)
