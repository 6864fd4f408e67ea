"""Gradio components of the lens and of the progress of a run.

Gradio evaluates templates as code, so they are constant: data arrives through properties, and the scripts insert every
text through ``textContent``.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from workbench.views.lens import FOLDER, read
from workbench.views.lens.linker import link


class Lens(gr.HTML):
    """Viewer of a scene.

    Args:
        value: result of :func:`workbench.views.lens.payload.payload`, or ``{"message": ...}``.
        goto: frame to go to, or ``[frame, count]`` to go to the same frame again.
        steps: ``{"all": [0, 200, ...], "at": 200}``: training steps of the snapshots, for a second slider.
        budget_mib: maximum size of the cache of decoded images.
        **kwargs: arguments of ``gr.HTML``.

    The ``select`` event has the data ``{"frame": ...}``, the frame on which the viewer stays. The ``step`` event has
    ``{"step": ..., "follow": false}``, the requested snapshot. Listen with ``trigger_mode="multiple"``: Gradio's
    default drops an event while a handler runs, and ``"always_last"`` passes the data of the first.
    """

    def __init__(
        self,
        value: dict[str, Any] | None = None,
        *,
        goto: int | list[int] | None = None,
        steps: dict[str, Any] | None = None,
        budget_mib: int = 512,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            value=value,
            html_template=read("lens.html"),
            css_template=read("lens.css"),
            js_on_load=link(FOLDER / "lens.js") + "mountLens(element, { trigger, props, watch });",
            apply_default_css=False,
            goto=goto,
            steps=steps,
            budget_mib=budget_mib,
            **kwargs,
        )

    def api_info(self) -> dict[str, Any]:
        """Return the schema of the value, a JSON object."""
        return {"type": "object"}


class Progress(gr.HTML):
    """Progress of a run: state, loss terms over steps, and a slider for the snapshots.

    Args:
        value: result of :func:`workbench.views.progress.progress`, or ``{"message": ...}``.
        **kwargs: arguments of ``gr.HTML``.

    The ``select`` event has the data ``{"step": ..., "follow": ...}``: the chosen snapshot, and whether to show newer.
    """

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(
            value=value,
            html_template=read("progress.html"),
            css_template=read("lens.css", "progress.css"),
            js_on_load=link(FOLDER / "progress.js") + "mountProgress(element, { trigger, props, watch });",
            apply_default_css=False,
            **kwargs,
        )

    def api_info(self) -> dict[str, Any]:
        """Return the schema of the value, a JSON object."""
        return {"type": "object"}
