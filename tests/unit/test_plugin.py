"""What `twistd` finds of Cyme."""

from __future__ import annotations

from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin, getPlugins
from twisted.python.usage import Options
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.support.sources import imports, trees


class PluginTests(SynchronousTestCase):
    """The plug-in, found the way `twistd` finds it."""

    def find(self) -> IServiceMaker:
        """The one plug-in called `cyme`."""
        found = [plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "cyme"]
        self.assertEqual(len(found), 1)
        return found[0]

    def test_interfaces(self) -> None:
        """The plug-in is a service maker with a name and a description."""
        plugin = self.find()
        self.assertTrue(verifyObject(IServiceMaker, plugin))
        self.assertTrue(verifyObject(IPlugin, plugin))
        self.assertIn("Celery", plugin.description)

    def test_leads_somewhere(self) -> None:
        """What the plug-in names exists: options to parse and a function that makes the service."""
        plugin = self.find()
        self.assertTrue(issubclass(plugin.options, Options))
        self.assertTrue(callable(plugin.makeService))

    def test_is_lazy(self) -> None:
        """The plug-in itself imports nothing of Cyme, since every `twistd` command reads it."""
        (tree,) = (tree for path, tree in trees("twisted") if path.endswith("cyme_plugin.py"))
        self.assertEqual([name for name, _ in imports(tree)], ["twisted.application.service.ServiceMaker"])
