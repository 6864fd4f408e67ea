"""Settings of Sphinx for the documentation site, which `make docs` builds into build/site.

The pages need no network: equations are MathML, fonts are those of the system, and scripts come with the theme. The
notebooks are run in the build, and again only after a change of a notebook or of the package.
"""

from __future__ import annotations

import hashlib
import io
import re
from contextlib import redirect_stdout
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util import logging

from workbench import DISTRIBUTION, __version__
from workbench.cli.networks import networks
from workbench.pretrained import RUN
from workbench.runs import find_run, shipped
from workbench.scenes import read_scene
from workbench.views.report import write_report

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
PAGE_BYTES = 10_000_000
"""Maximum size of an embedded viewer."""


CODE = re.compile(r"(:[\w:]+:`[^`]+`|``.+?``|`[^`<]+<[^`]+>`_+)|`([^`]+)`")
"""Roles, code and links of reStructuredText (first group), or text between single backticks (second)."""


def networks_table() -> str:
    """Return the output of ``workbench networks --format md``."""
    with redirect_stdout(io.StringIO()) as printed:
        networks(["--format", "md"])
    return printed.getvalue()


def digest(*patterns: str) -> str:
    """Return a checksum of files of the repository."""
    found = hashlib.sha256()
    for path in sorted(path for pattern in patterns for path in ROOT.glob(pattern)):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


project, release = DISTRIBUTION, __version__
html_title = "Workbench"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx_copybutton"]
exclude_patterns = ["notebooks/.ipynb_checkpoints"]
templates_path = ["_templates"]

# Theme
html_theme = "furo"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_math_renderer = "mathml"
pygments_style = "friendly"

# Markdown and notebooks
myst_enable_extensions = ["dollarmath", "amsmath", "attrs_inline", "deflist", "substitution"]
myst_heading_anchors = 3
myst_substitutions = {"networks": networks_table()}
nb_execution_mode = "cache"
nb_execution_cache_path = str(
    ROOT / "build" / "notebooks" / digest("workbench/**/*.py", "workbench/pretrained/**/*.json")
)
nb_execution_raise_on_error = True
nb_execution_timeout = 900
nb_ipywidgets_js = {}  # the scripts of widgets would be downloaded; each widget has an image instead
nb_merge_streams = True
nb_mime_priority_overrides = [
    ("html", "application/vnd.jupyter.widget-view+json", None),
    ("html", "application/vnd.plotly.v1+json", None),
]

# Reference
autosummary_generate = True
autosummary_context = {"packages": ["workbench.models.layers", "workbench.models.key_maps"]}  # no sections of a page
autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "show-inheritance": True,
    "ignore-module-all": True,
}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
GOOGLE_STYLE = Config(napoleon_use_rtype=False, napoleon_use_ivar=True)
nitpick_ignore_regex = [
    (r"py:.*", r"(?!workbench\.).*"),  # other packages: their sites are not read in the build
    (r"py:.*", r"workbench\..*\.(_\w+|Clip|ReadOptions)"),  # private names, type variables, options
    (r"py:.*", r"workbench\.(measurements|models\.key_maps\..*)"),  # not part of the API
    (r"py:data", r"workbench\.aliases\..*"),  # names in files of earlier versions
]
suppress_warnings = ["misc.highlighting_failure"]


def format_docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Mark text between single backticks as code, and convert sections in Google's style to fields.

    Docstrings of attributes and constants are plain text, and some are also help texts of the command line.
    """
    lines[:] = [CODE.sub(lambda found: found[1] or f"``{found[2]}``", line) for line in lines]
    if what not in ("attribute", "data"):
        lines[:] = GoogleDocstring(lines, GOOGLE_STYLE, app, what, name, obj, options).lines()


def skip_fields(_app: Sphinx, _what: str, _name: str, obj: object, skip: bool, _options: object) -> bool:
    """Leave out fields of named tuples, which the docstring of the tuple describes."""
    return skip or (getattr(obj, "__doc__", None) or "").startswith("Alias for field number")


def mathml(self: object, node: nodes.Element) -> None:
    """Write an equation as MathML, which browsers render themselves."""
    block = isinstance(node, nodes.math_block)
    text = node.astext()
    if block and "\\\\" in text and "\\begin" not in text:
        text = rf"\begin{{gathered}}{text}\end{{gathered}}"
    equation = " ".join(convert(text, display="block" if block else "inline").split())
    self.body.append(f'<div class="equation">{equation}</div>' if block else equation)  # type: ignore[attr-defined]
    raise nodes.SkipNode


def write_viewers(app: Sphinx, error: Exception | None) -> None:
    """Write the viewers that the page "Try it here" embeds."""
    if error or app.builder.format != "html":
        return
    methods = ["high", "bicubic", "plain", "distilled", "teacher"]
    for name, source, chosen in (
        ("scene", read_scene(shipped("scenes") / "casa_mila"), methods),
        ("run", find_run([shipped("runs")], RUN), None),
    ):
        path = Path(app.outdir) / "viewers" / f"{name}.html"
        report = write_report(source, path, max_bytes=PAGE_BYTES, methods=chosen, replace_file=True)
        logger.info("%s: %.1f MB, %d of %d frames", path.name, report.bytes / 1e6, report.frames, report.of)


def setup(app: Sphinx) -> None:
    """Add the renderer of equations and the embedded viewers."""
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.connect("build-finished", write_viewers)
    app.connect("autodoc-process-docstring", format_docstring)
    app.connect("autodoc-skip-member", skip_fields)
