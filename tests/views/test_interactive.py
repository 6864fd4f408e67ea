"""Widgets of the notebooks, run by a program instead of a browser."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
SETUP = """
import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import display
from workbench.runs import find_run, shipped
from workbench.views.interactive import InteractiveFigure
from workbench.views.lens.notebook_lens import show

def draw(size):
    figure, axis = plt.subplots(figsize=(4, 3))
    axis.plot(range(size))
    return figure
"""
LENS = "lens = show(find_run([shipped('runs')], 'vespcn_std'), methods=['bicubic', 'student']); lens"
FIGURE = "InteractiveFigure(draw, size=ipywidgets.IntSlider(value=3, min=2, max=9))"
MOVE = f"shown = {FIGURE}; shown.controls['size'].value = 5; lens.frame = 1; display(shown, lens)"
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.mark.slow
def test_a_notebook_with_widgets_ends_without_a_browser(tmp_path):
    cells = [nbformat.v4.new_code_cell(source) for source in (SETUP, LENS, *[FIGURE] * 5, MOVE)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}})
    seconds = []
    client.on_cell_executed = lambda cell, cell_index, execute_reply: seconds.append(cell_index)
    client.execute()
    assert seconds == list(range(len(cells)))
    for cell in notebook.cells[1:]:
        for output in cell.outputs:  # each widget has an image for programs that show no widgets
            assert {WIDGET, "image/png"} <= output["data"].keys()
    assert [len(cell.outputs) for cell in notebook.cells] == [0, 1, 1, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_capture_no_output(path):
    """Captured output is what makes nbclient miss the end of a cell; see workbench.views.interactive."""
    code = "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
    assert not re.search(r"widgets\.(Output|interact\w*)\b|\binteract(ive)?\(|%%capture", code)
