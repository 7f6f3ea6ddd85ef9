"""The bus between branches over TLS."""

from __future__ import annotations

import os
from urllib.parse import urlencode

from tests.functional.buscase import BusCase
from tests.support.certificates import Authority
from tests.support.ports import free_ports
from tests.support.rabbitmq import RabbitMQ

CONF = """
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {root}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
"""


class TLSTests(BusCase):
    """A broker that is known by its certificate, and wants to see one itself."""

    async def test_certificates(self) -> None:
        """Both sides' certificates are held against their roots, and the broker's against its host's name."""
        authority = Authority(self.mktemp_folder())
        certificate, key = authority.issue("broker", "127.0.0.1")
        (port,) = free_ports(1)
        node = RabbitMQ(CONF.format(port=port, root=authority.path, certificate=certificate, key=key))
        self.addCleanup(node.close)
        own = dict(zip(("certfile", "keyfile"), authority.issue("branch"), strict=True))
        root = {"cacertfile": authority.path}

        def url(**arguments: str) -> str:
            return f"amqps://guest:guest@127.0.0.1:{port}//?{urlencode(arguments)}"

        peer = await self.connected_peer(url(**root, **own))
        await peer.echo()
        celerys = {f"ssl_{name}": path for name, path in own.items()}
        for good in (
            url(ssl_ca_certs=authority.path, **celerys),
            url(verify="verify_none", **own),
            url(**root, **own, server_name_indication="broker"),
        ):
            self.assertTrue((await self.connected_peer(good)).bus.connected, good)
        for bad in (
            url(**own),
            url(**root),
            url(**root, **own, server_name_indication="another"),
            url(**own, cacertfile=own["certfile"]),
            url(**own, cacertfile="nowhere.pem"),
        ):
            peer = await self.peer(bad, pause=1000.0)
            self.assertFalse(peer.bus.connected, bad)
        said = self.log_text()
        for problem in ("certificate verify failed", "VerificationError", "nowhere.pem"):
            self.assertIn(problem, said)

    def mktemp_folder(self) -> str:
        """A new folder, by its absolute path."""
        folder = os.path.abspath(self.mktemp())
        os.makedirs(folder)
        return folder
