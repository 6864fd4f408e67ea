"""Figures with controls, for notebooks.

The figure is sent as an image in the state of a widget. It is not captured from the output of a cell, as
``ipywidgets.interactive_output`` does: every captured output is sent back to the kernel, and a program that runs a
notebook (nbclient, and with it nbconvert and documentation builds) can then miss the end of the cell and wait forever.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure


class InteractiveFigure(ipywidgets.VBox):
    r"""Controls above a figure that is drawn again when one of them changes.

    Programs that cannot show widgets show the first figure as an image.

    Args:
        draw: function that returns the figure for values of the controls, given by name.
        controls: name of an argument of ``draw`` -> its control, a widget with a ``value``.

    Example:
        >>> def square(size):
        ...     figure, axis = plt.subplots(figsize=(size, size))
        ...     return figure
        >>> shown = InteractiveFigure(square, size=ipywidgets.IntSlider(value=1, min=1, max=4))
        >>> before = shown.image.value
        >>> shown.controls["size"].value = 2
        >>> bytes(before[:4]), shown.image.value == before
        (b'\x89PNG', False)
    """

    def __init__(self, draw: Callable[..., Figure], **controls: Any) -> None:
        self.draw, self.controls, self.image = draw, controls, ipywidgets.Image(format="png")
        super().__init__([ipywidgets.HBox(list(controls.values())), self.image])
        for control in controls.values():
            control.observe(self._redraw, names="value")
        self._redraw()

    def _redraw(self, _change: object = None) -> None:
        figure = self.draw(**{name: control.value for name, control in self.controls.items()})
        self.image.value = png(figure)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_(**options) or {}  # pyright: ignore[reportAttributeAccessIssue]
        return bundle | {"image/png": base64.b64encode(self.image.value).decode()}


def png(figure: Figure) -> bytes:
    """Return a figure as PNG file, and remove it from pyplot, which would show it again after the cell."""
    plt.close(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    return file.getvalue()
