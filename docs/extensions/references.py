"""The directives of the reference pages: tables that are made from the sources at every build."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import of_brokers
import of_commands
import of_http
import of_metrics
import of_options
import of_problems
import of_reasons
import of_samples
from docutils.nodes import Node
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def _directive(text: Callable[[], str]) -> type[SphinxDirective]:
    class Reference(SphinxDirective):
        """Stands for the reStructuredText that a function makes, headings included."""

        def run(self) -> list[Node]:
            return list(self.parse_text_to_nodes(text(), allow_section_headings=True))

    return Reference


def setup(app: Sphinx) -> dict[str, Any]:
    """Have Sphinx know the directives."""
    app.add_directive("cyme-routes", _directive(of_http.text))
    app.add_directive("cyme-problems", _directive(of_problems.text))
    app.add_directive("cyme-options", _directive(of_options.text))
    app.add_directive("cyme-process-options", _directive(of_options.of_processes))
    app.add_directive("cyme-transports", _directive(of_brokers.usable))
    app.add_directive("cyme-unusable-transports", _directive(of_brokers.unusable))
    app.add_directive("cyme-commands", _directive(of_commands.text))
    app.add_directive("cyme-common-options", _directive(of_commands.common))
    app.add_directive("cyme-not-run", _directive(of_samples.not_run))
    app.add_directive("cyme-metrics", _directive(of_metrics.text))
    app.add_directive("cyme-reasons", _directive(of_reasons.text))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
