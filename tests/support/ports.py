"""Free TCP ports on loopback."""

from __future__ import annotations

import random
import socket


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; whoever takes one must cope with losing the race."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def ports_for_later(count: int) -> list[int]:
    """Ports that were free a moment ago, and that the kernel gives to nobody who does not name them."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        least = int(file.read().split()[0])
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, max(least, 20_000))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
