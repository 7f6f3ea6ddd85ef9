"""How Sphinx builds the documentation."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The references are made from the sources of this checkout.
sys.path[:0] = [str(HERE / "extensions"), str(HERE.parent)]

from cyme import __version__  # noqa: E402

project = "Cyme"
author = "The Cyme maintainers"
version = release = __version__

extensions = ["references"]
nitpicky = True
# Nothing says what language a block without one has; every block says its own.
highlight_language = "none"
smartquotes = False

html_theme = "furo"
html_title = f"Cyme {__version__}"
html_static_path = ["_static"]
html_css_files = ["cyme.css"]
html_show_sphinx = False
html_show_copyright = False
# Pages load nothing from elsewhere.
html_use_opensearch = ""
