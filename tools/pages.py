"""Run the notebooks and write each as one page that needs no server and no network: ``python tools/pages.py``.

Equations become MathML, which browsers draw themselves. Knobs and the viewer need a kernel: in their place the page
says so; the static figures that stand before them are all there.
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
LIVE = '<p style="opacity: 0.7">(a knob or a viewer: it works when the notebook runs, <code>make lab</code>)</p>'
WRAPPED = "<style>.jp-InputArea-editor pre { white-space: pre-wrap; }</style>"
"""Long lines of code are broken: nobody would look for a scroll bar in print."""
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
MARK = "equation{}mark"
MERMAID = re.compile(r'<script type="module">(?:(?!</script>).)*mermaid.*?</script>', re.DOTALL)
"""nbconvert's code for diagrams, which would be fetched; there are none in the notebooks."""
EQUATION = re.compile(r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+?)\$", re.DOTALL)


def with_marks(markdown: str, drawn: list[str]) -> str:
    """Markdown with a mark in place of each equation, whose MathML is put into ``drawn``; code is left as it is."""

    def mark(found: re.Match[str]) -> str:
        block = found["block"]
        told = convert(block or found["inline"], display="block" if block else "inline")
        drawn.append(" ".join(told.split()))
        return MARK.format(len(drawn) - 1)

    return "".join(part if CODE.fullmatch(part) else EQUATION.sub(mark, part) for part in CODE.split(markdown))


def without_widgets(output: Any) -> None:
    """In place of a widget, a word about it."""
    data = output.get("data", {})
    if WIDGET in data:
        output["data"] = {"text/html": LIVE}


def page(path: Path, seconds: int) -> str:
    """A notebook, run, as HTML.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=seconds, resources={"metadata": {"path": str(path.parent)}}).execute()
    drawn: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = with_marks(cell.source, drawn)
        for output in cell.get("outputs", []):
            without_widgets(output)
    notebook.metadata.pop("widgets", None)
    exporter = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="", embed_images=True)
    html, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": path.stem}})
    html = MERMAID.sub("", html).replace("</head>", f"{WRAPPED}</head>", 1)
    for number, equation in enumerate(drawn):
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
        names: of notebooks, without their ending; all where left out.
        out: the folder.
        seconds: that a cell may take.
    """
    chosen = [HOME / "notebooks" / f"{name}.ipynb" for name in names] or sorted((HOME / "notebooks").glob("*.ipynb"))
    out.mkdir(parents=True, exist_ok=True)
    taken: dict[str, float] = {}
    for path in track(chosen, "running the notebooks"):
        began = time.perf_counter()
        (out / f"{path.stem}.html").write_text(page(path, seconds), encoding="utf-8")
        taken[path.stem] = time.perf_counter() - began
    for name, passed in taken.items():
        print(f"{out / name}.html  {passed:.0f} s")


if __name__ == "__main__":
    tyro.cli(main)
