"""Run the notebooks and write each as one HTML page that needs no server and no network: ``python tools/pages.py``.

Equations become MathML, which browsers render themselves. Widgets and the viewer need a kernel, so the page has a
notice in their place. All static figures are kept.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Annotated, Any

import nbformat
import tyro
from latex2mathml.converter import convert
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from rich.progress import track

HOME = Path(__file__).resolve().parents[1]
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTICE = (
    '<p style="opacity: 0.7">(an interactive widget: run the notebook with <code>make lab</code> to use it)</p>'
)
WRAP_LINES = "<style>.jp-InputArea-editor pre { white-space: pre-wrap; }</style>"
"""Style that wraps long lines of code, because printed pages have no scroll bars."""
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
MARK = "equation{}mark"
MERMAID = re.compile(r'<script type="module">(?:(?!</script>).)*mermaid.*?</script>', re.DOTALL)
"""Script that nbconvert adds for diagrams and that would be downloaded; the notebooks have no diagrams."""
EQUATION = re.compile(r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+?)\$", re.DOTALL)


def mark_equations(markdown: str, equations: list[str]) -> str:
    """Replace each equation outside code by a mark, and append its MathML to ``equations``."""

    def mark(found: re.Match[str]) -> str:
        block = found["block"]
        mathml = convert(block or found["inline"], display="block" if block else "inline")
        equations.append(" ".join(mathml.split()))
        return MARK.format(len(equations) - 1)

    return "".join(part if CODE.fullmatch(part) else EQUATION.sub(mark, part) for part in CODE.split(markdown))


def replace_widget(output: Any) -> None:
    """Replace a widget among the outputs by a notice."""
    data = output.get("data", {})
    if WIDGET in data:
        output["data"] = {"text/html": WIDGET_NOTICE}


def page(path: Path, seconds: int) -> str:
    """Run a notebook and return it as HTML.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=seconds, resources={"metadata": {"path": str(path.parent)}}).execute()
    equations: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = mark_equations(cell.source, equations)
        for output in cell.get("outputs", []):
            replace_widget(output)
    notebook.metadata.pop("widgets", None)
    exporter = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="", embed_images=True)
    html, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": path.stem}})
    html = MERMAID.sub("", html).replace("</head>", f"{WRAP_LINES}</head>", 1)
    for number, equation in enumerate(equations):
        html = html.replace(MARK.format(number), equation)
    return html


def main(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    /,
    *,
    out: Path = HOME / "docs" / "html",
    seconds: int = 120,
) -> None:
    """Write the pages.

    Args:
        names: names of notebooks without ".ipynb"; all notebooks if empty.
        out: folder of the pages.
        seconds: time limit of a cell.
    """
    chosen = [HOME / "notebooks" / f"{name}.ipynb" for name in names] or sorted((HOME / "notebooks").glob("*.ipynb"))
    out.mkdir(parents=True, exist_ok=True)
    durations: dict[str, float] = {}
    for path in track(chosen, "running the notebooks"):
        began = time.perf_counter()
        (out / f"{path.stem}.html").write_text(page(path, seconds), encoding="utf-8")
        durations[path.stem] = time.perf_counter() - began
    for name, passed in durations.items():
        print(f"{out / name}.html  {passed:.0f} s")


if __name__ == "__main__":
    tyro.cli(main)
