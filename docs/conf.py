"""How Sphinx makes the documentation: ``sphinx-build -W --keep-going docs build/docs``.

Pages are MyST (Markdown), API pages are made of docstrings, notebooks are shown as they were
committed: pytest runs them (``--nbmake``), and tests/docs runs the examples of all pages.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx

from fastmnist import __version__

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

project = "fastmnist"
author = "The fastmnist developers"
copyright = author
release = version = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4
nb_execution_mode = "off"

autodoc_typehints = "none"  # docstrings say types in words; signatures would repeat them
autodoc_member_order = "bysource"
autoclass_content = "class"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 80
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = "fastmnist"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_show_copyright = False


# Files of the repository that are pages, too: Sphinx reads one folder, so they are laid there.
# Links in the sources hold in the repository; Sphinx reads them turned to the copies.
COPIED = {
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "csrc/README.md": "project/csrc.md",
    **{
        f"notebooks/{p.name}": f"notebooks/{p.name}" for p in sorted(ROOT.glob("notebooks/*.ipynb"))
    },
}
LINK = re.compile(r"\]\(((?:\.\./)+)([^)#]+)")


def _copy() -> None:
    for folder in ("project", "notebooks"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        (HERE / folder).mkdir()
    for source, page in COPIED.items():
        shutil.copy(ROOT / source, HERE / page)


def _lead_to_copies(_: Sphinx, docname: str, source: list[str]) -> None:
    """Turn ``../notebooks/x`` and the like into where the copy lies."""
    here = (HERE / docname).parent

    def turned(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(here / match[1] / match[2]))
        inside = target.relative_to(ROOT).as_posix() if target.is_relative_to(ROOT) else ""
        if inside not in COPIED:
            return match[0]
        return f"]({os.path.relpath(HERE / COPIED[inside], here)}"

    source[0] = LINK.sub(turned, source[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    _copy()
    app.connect("source-read", _lead_to_copies)
